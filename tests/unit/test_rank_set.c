#include "comm/rank_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect_text(const uint32_t *ranks, size_t count, const char *expected)
{
    struct epx_rank_set set = {0};
    char text[128];
    for (size_t i = 0; i < count; i++) {
        epx_rank_set_add(&set, ranks[i]);
    }
    assert_int_equal(epx_rank_set_count(&set), count);
    epx_rank_set_print(&set, text, sizeof text);
    assert_string_equal(text, expected);
}

static void print__ranges(void **state)
{
    (void)state;
    expect_text(NULL, 0, "no rank");
    expect_text((uint32_t[]){5}, 1, "rank 5");
    expect_text((uint32_t[]){5, 6}, 2, "ranks 5-6");
    expect_text((uint32_t[]){7, 3, 5, 6}, 4, "ranks 3,5-7");
    expect_text((uint32_t[]){0, 1, 2, 3, 4, 6, 7, 8}, 8, "ranks 0-4,6-8");
    expect_text((uint32_t[]){0, 63, 64, 65, 4095}, 5, "ranks 0,63-65,4095");
}

static void print__all_ranks(void **state)
{
    (void)state;
    struct epx_rank_set set = {0};
    char text[64];
    for (uint32_t rank = 0; rank < EPX_COMM_RANK_MAX; rank++) {
        epx_rank_set_add(&set, rank);
    }
    epx_rank_set_print(&set, text, sizeof text);
    assert_string_equal(text, "ranks 0-4095");
}

/* Whatever the room, the text ends inside it and says that it was cut. */
static void print__cut(void **state)
{
    (void)state;
    struct epx_rank_set set = {0};
    char whole[65536];
    for (uint32_t rank = 0; rank < EPX_COMM_RANK_MAX; rank += 2) {
        epx_rank_set_add(&set, rank);
    }
    epx_rank_set_print(&set, whole, sizeof whole);
    assert_string_equal(whole + strlen(whole) - 10, ",4092,4094");
    for (size_t room = 12; room < 200; room++) {
        char text[256];
        memset(text, 'x', sizeof text);
        epx_rank_set_print(&set, text, room);
        size_t length = strnlen(text, sizeof text);
        assert_true(length < room);
        assert_true(length + 6 > room - 6);
        assert_string_equal(text + length - 3, "...");
        assert_memory_equal(text, whole, length - 3);
        assert_int_equal(text[length - 4] == ',' || text[length - 4] == ' ', 1);
    }
}

static void has__bounds(void **state)
{
    (void)state;
    struct epx_rank_set set = {0};
    epx_rank_set_add(&set, EPX_COMM_RANK_MAX);
    assert_int_equal(epx_rank_set_count(&set), 0);
    assert_false(epx_rank_set_has(&set, EPX_COMM_RANK_MAX));
    assert_int_equal(epx_rank_set_first(&set), EPX_COMM_RANK_MAX);
    epx_rank_set_add(&set, 4095);
    assert_true(epx_rank_set_has(&set, 4095));
    assert_int_equal(epx_rank_set_first(&set), 4095);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(print__ranges),
        cmocka_unit_test(print__all_ranks),
        cmocka_unit_test(print__cut),
        cmocka_unit_test(has__bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
