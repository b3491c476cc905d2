#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked_math.h"

static void mul__fits_or_leaves_out_alone(void **state)
{
    (void)state;
    int64_t out = -5;
    assert_true(epx_mul_i64(INT64_C(3037000499), INT64_C(3037000499), &out));
    assert_true(out == INT64_C(9223372030926249001));
    out = -5;
    assert_false(epx_mul_i64(INT64_C(3037000500), INT64_C(3037000500), &out));
    assert_false(epx_mul_i64(INT64_MAX, 2, &out));
    assert_false(epx_mul_i64(-1, 2, &out));
    assert_false(epx_mul_i64(2, -1, &out));
    assert_false(epx_mul_i64(-2, -3, &out));
    assert_false(epx_mul_i64(0, -1, &out));
    assert_false(epx_mul_i64(INT64_MIN, -1, &out));
    assert_true(out == -5);
    assert_true(epx_mul_i64(0, INT64_MAX, &out));
    assert_true(out == 0);
    assert_true(epx_mul_i64(1, INT64_MAX, &out));
    assert_true(out == INT64_MAX);
}

static void add__fits_or_leaves_out_alone(void **state)
{
    (void)state;
    int64_t out = -5;
    assert_false(epx_add_i64(INT64_MAX, 1, &out));
    assert_false(epx_add_i64(-1, 5, &out));
    assert_false(epx_add_i64(5, -1, &out));
    assert_false(epx_add_i64(INT64_MIN, INT64_MIN, &out));
    assert_true(out == -5);
    assert_true(epx_add_i64(INT64_MAX - 1, 1, &out));
    assert_true(out == INT64_MAX);
    assert_true(epx_add_i64(0, 0, &out));
    assert_true(out == 0);
}

static void mul_add__checks_both_steps(void **state)
{
    (void)state;
    int64_t out = -5;
    assert_false(epx_mul_add_i64(INT64_MAX, 2, 0, &out));
    assert_false(epx_mul_add_i64(INT64_MAX, 1, 1, &out));
    assert_false(epx_mul_add_i64(2, 3, -1, &out));
    assert_true(out == -5);
    assert_true(epx_mul_add_i64(7168, 2, 64, &out));
    assert_true(out == 14400);
}

static void round_up__multiples_and_overflow(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        uint64_t multiple;
        uint64_t expected;
    } cases[] = {{0, 64, 0},        {1, 64, 64}, {64, 64, 64},
                 {65, 64, 128},     {5, 1, 5},   {UINT64_MAX - 63, 64, UINT64_MAX - 63},
                 {4095, 4096, 4096}};
    uint64_t out = 7;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(epx_round_up_u64(cases[i].value, cases[i].multiple, &out));
        assert_true(out == cases[i].expected);
    }
    out = 7;
    assert_false(epx_round_up_u64(UINT64_MAX - 62, 64, &out));
    assert_false(epx_round_up_u64(UINT64_MAX, 2, &out));
    assert_true(out == 7);
    assert_true(epx_round_up_u64(UINT64_MAX, 1, &out));
    assert_true(out == UINT64_MAX);
}

static void min_max__signed(void **state)
{
    (void)state;
    assert_true(epx_min_i64(-1, 1) == -1 && epx_min_i64(1, -1) == -1);
    assert_true(epx_max_i64(-1, 1) == 1 && epx_max_i64(1, -1) == 1);
    assert_true(epx_min_i64(INT64_MIN, INT64_MAX) == INT64_MIN && epx_max_i64(INT64_MIN, INT64_MAX) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mul__fits_or_leaves_out_alone),
        cmocka_unit_test(add__fits_or_leaves_out_alone),
        cmocka_unit_test(mul_add__checks_both_steps),
        cmocka_unit_test(round_up__multiples_and_overflow),
        cmocka_unit_test(min_max__signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
