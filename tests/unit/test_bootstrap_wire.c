#include "comm/bootstrap_socket.h"
#include "comm/bootstrap_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t bytes_of_kind[EPX_BOOT_KIND_END] = {0, 48, 16, 76, 8, 8, 8, 1040, 76, 8, 528, 524};

static void make_valid(struct epx_boot_message *message, enum epx_boot_kind kind)
{
    epx_boot_message_init(message, kind);
    if (kind == EPX_BOOT_HELLO) {
        message->body.hello = (struct epx_boot_hello){.rank = 3, .rank_count = 4, .shared_bytes = 1};
    } else if (kind == EPX_BOOT_WANT || kind == EPX_BOOT_GIVE) {
        message->body.items = (struct epx_boot_items){.count = 2, .items = {EPX_BOOT_ITEM_SHARED, 4095}};
    } else if (kind == EPX_BOOT_ROSTER) {
        message->body.roster.first = 4032;
        message->body.roster.count = 64;
    } else if (kind == EPX_BOOT_FAILURE) {
        message->body.failure.status = EPX_ERR_NO_MEMORY;
        strcpy(message->body.failure.text, "cause");
    }
}

static bool decodes(const struct epx_boot_message *message)
{
    struct epx_boot_message out;
    return epx_boot_message_decode(message, epx_boot_message_bytes(message->kind), &out);
}

static void decode__every_kind_in_its_length_only(void **state)
{
    (void)state;
    for (int kind = 1; kind < EPX_BOOT_KIND_END; kind++) {
        struct epx_boot_message message;
        struct epx_boot_message out;
        make_valid(&message, (enum epx_boot_kind)kind);
        assert_int_equal(epx_boot_message_bytes((uint32_t)kind), bytes_of_kind[kind]);
        assert_true(decodes(&message));
        assert_true(epx_boot_message_decode(&message, bytes_of_kind[kind], &out));
        assert_memory_equal(&message, &out, bytes_of_kind[kind]);
        for (size_t bytes = 0; bytes <= sizeof message + 1; bytes++) {
            uint8_t *packet = calloc(1, bytes + 1);
            assert_non_null(packet);
            memcpy(packet, &message, bytes < sizeof message ? bytes : sizeof message);
            assert_int_equal(epx_boot_message_decode(packet, bytes, &out), bytes == bytes_of_kind[kind]);
            free(packet);
        }
    }
}

static void decode__header(void **state)
{
    (void)state;
    struct epx_boot_message message;
    make_valid(&message, EPX_BOOT_MAPPED);
    message.magic ^= 1;
    assert_false(decodes(&message));
    make_valid(&message, EPX_BOOT_MAPPED);
    message.version++;
    assert_false(decodes(&message));
    make_valid(&message, EPX_BOOT_MAPPED);
    struct epx_boot_message out;
    message.kind = 0;
    assert_false(epx_boot_message_decode(&message, 8, &out));
    message.kind = EPX_BOOT_KIND_END;
    assert_false(epx_boot_message_decode(&message, 8, &out));
    message.kind = 0xffff;
    assert_false(epx_boot_message_decode(&message, 8, &out));
}

static void decode__bodies(void **state)
{
    (void)state;
    struct epx_boot_message m;
#define REFUSED(kind, change)                                                                                          \
    make_valid(&m, kind);                                                                                              \
    m.body.change;                                                                                                     \
    assert_false(decodes(&m))
    REFUSED(EPX_BOOT_HELLO, hello.rank = 4);
    REFUSED(EPX_BOOT_HELLO, hello.rank_count = 0);
    REFUSED(EPX_BOOT_HELLO, hello.rank_count = 4097);
    REFUSED(EPX_BOOT_HELLO, hello.zero = 1);
    REFUSED(EPX_BOOT_GET_ROSTER, get_roster.first = 4096);
    REFUSED(EPX_BOOT_ROSTER, roster.count = 0);
    REFUSED(EPX_BOOT_ROSTER, roster.count = 65);
    REFUSED(EPX_BOOT_ROSTER, roster.first = 4033);
    REFUSED(EPX_BOOT_ROSTER, roster.first = UINT32_MAX);
    REFUSED(EPX_BOOT_WANT, items.count = 0);
    REFUSED(EPX_BOOT_WANT, items.count = 17);
    REFUSED(EPX_BOOT_GIVE, items.items[1] = 4096);
    REFUSED(EPX_BOOT_MISSING, missing.phase = 2);
    REFUSED(EPX_BOOT_MISSING, missing.centre_leaves = 2);
    REFUSED(EPX_BOOT_FAILURE, failure.status = 0);
    REFUSED(EPX_BOOT_FAILURE, failure.status = 9);
    REFUSED(EPX_BOOT_FAILURE, failure.status = UINT32_MAX);
#undef REFUSED
    make_valid(&m, EPX_BOOT_FAILURE);
    memset(m.body.failure.text, 'x', sizeof m.body.failure.text);
    assert_false(decodes(&m));
}

static void format_set__ranges_and_cut(void **state)
{
    (void)state;
    uint64_t set[EPX_BOOT_SET_WORDS] = {0};
    char text[64];
    epx_boot_format_set(set, 4096, text, sizeof text);
    assert_string_equal(text, "");
    const uint32_t ranks[] = {3, 7, 8, 62, 63, 64, 65, 4095};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        epx_boot_set_add(set, ranks[i]);
    }
    epx_boot_format_set(set, 4096, text, sizeof text);
    assert_string_equal(text, "3, 7-8, 62-65, 4095");
    epx_boot_format_set(set, 65, text, sizeof text);
    assert_string_equal(text, "3, 7-8, 62-64");
    epx_boot_format_set(set, 4096, text, 14);
    assert_string_equal(text, "3, 7-8, …");
}

static void name__depends_on_key_and_job(void **state)
{
    (void)state;
    uint8_t key[32] = {1};
    struct epx_boot_name first;
    struct epx_boot_name second;
    assert_int_equal(unsetenv("EPX_JOB"), 0);
    epx_boot_name_make(key, &first);
    epx_boot_name_make(key, &second);
    assert_string_equal(first.text, second.text);
    assert_int_equal(strlen(first.text), 4 + 64);
    key[31] = 1;
    epx_boot_name_make(key, &second);
    assert_string_not_equal(first.text, second.text);
    key[31] = 0;
    assert_int_equal(setenv("EPX_JOB", "a", 1), 0);
    epx_boot_name_make(key, &second);
    assert_string_not_equal(first.text, second.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode__every_kind_in_its_length_only),
        cmocka_unit_test(decode__header),
        cmocka_unit_test(decode__bodies),
        cmocka_unit_test(format_set__ranges_and_cut),
        cmocka_unit_test(name__depends_on_key_and_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
