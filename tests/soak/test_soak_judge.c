/* What the soak calls flat, on made-up samples. */
#include "soak/soak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SAMPLES   90u
#define PROCESSES 4u

static struct soak_board board;

/* Noise of some KiB and mappings, as shapes that are drawn make it. */
static int setup(void **state)
{
    (void)state;
    memset(&board, 0, sizeof board);
    board.options = (struct soak_options){.rank_count = PROCESSES, .judges_memory = true, .judges_entries = true};
    board.sample_count = SAMPLES;
    for (uint32_t process = 0; process < PROCESSES; process++) {
        for (uint32_t i = 0; i < SAMPLES; i++) {
            const int64_t values[SOAK_QUANTITY_COUNT] = {
                3000 + i * 37 % 60, 24000 + i * 7 % 500, 65536, 11, 2, 90 + i % 5, 0};
            memcpy(board.samples[process][i].values, values, sizeof values);
        }
    }
    return 0;
}

static bool judge(char text[2048])
{
    return soak_judge(&board, PROCESSES, text, 2048);
}

/* From the middle of the run on, one process has `more`. */
static void grow(enum soak_quantity quantity, int64_t more)
{
    for (uint32_t i = SAMPLES / 2; i < SAMPLES; i++) {
        board.samples[2][i].values[quantity] += more * (i - SAMPLES / 2) / (SAMPLES / 2);
    }
}

static void judge__flat(void **state)
{
    (void)state;
    char text[2048];
    assert_true(judge(text));
    assert_string_equal(text, "");
}

static void judge__first_third_is_free(void **state)
{
    (void)state;
    char text[2048];
    for (uint32_t i = 0; i < SAMPLES / 3; i++) {
        board.samples[1][i].values[SOAK_MEMORY] -= 2500;
        board.samples[1][i].values[SOAK_THREADS] -= 1;
    }
    assert_true(judge(text));
}

static void judge__one_high_sample_is_no_growth(void **state)
{
    (void)state;
    char text[2048];
    board.samples[0][SAMPLES - 1].values[SOAK_MEMORY] += 50000;
    assert_true(judge(text));
}

static void judge__growth(void **state)
{
    (void)state;
    static const struct {
        enum soak_quantity quantity;
        int64_t more;
        const char *name;
    } cases[] = {{SOAK_MEMORY, 2000, "KiB of memory"},
                 {SOAK_HEAP, 8000, "bytes of heap"},
                 {SOAK_ARENA, 192, "bytes of arena"},
                 {SOAK_DESCRIPTORS, 3, "descriptors"},
                 {SOAK_THREADS, 3, "threads"},
                 {SOAK_MAPPINGS, 30, "mappings"},
                 {SOAK_ENTRIES, 3, "files"}};
    char text[2048];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(setup(state), 0);
        grow(cases[i].quantity, cases[i].more);
        assert_false(judge(text));
        assert_non_null(strstr(text, "process 2: "));
        assert_non_null(strstr(text, cases[i].name));
    }
}

static void judge__what_is_not_known(void **state)
{
    (void)state;
    char text[2048];
    for (uint32_t i = 0; i < SAMPLES; i++) {
        board.samples[3][i].values[SOAK_MEMORY] = -1;
    }
    assert_false(judge(text));
    board.options.judges_memory = false;
    assert_true(judge(text));
}

static void judge__too_few(void **state)
{
    (void)state;
    char text[2048];
    board.sample_count = SOAK_SAMPLE_MIN - 1;
    assert_false(judge(text));
    board.sample_count = SOAK_SAMPLE_MIN;
    assert_true(judge(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(judge__flat, setup),
        cmocka_unit_test_setup(judge__first_third_is_free, setup),
        cmocka_unit_test_setup(judge__one_high_sample_is_no_growth, setup),
        cmocka_unit_test_setup(judge__growth, setup),
        cmocka_unit_test_setup(judge__what_is_not_known, setup),
        cmocka_unit_test_setup(judge__too_few, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
