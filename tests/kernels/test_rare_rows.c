/* The kernels with one variant: two-level sums, int8 transport in groups, tensor-parallel sum. */
#include "kernels/kernel_test.h"

#define PATTERN_COUNT 65536

static uint16_t patterns[PATTERN_COUNT];
static uint16_t narrow_row[PATTERN_COUNT];
static uint16_t narrow_result[PATTERN_COUNT];
static float wide_row[PATTERN_COUNT];
static float wide_sum[PATTERN_COUNT];
static float wide_result[PATTERN_COUNT];

static void assert_same_bits(float actual, float expected, size_t h)
{
    if (bits_of(actual) != bits_of(expected)) {
        fail_msg("[%zu] is %08x, not %08x", h, bits_of(actual), bits_of(expected));
    }
}

static float half(float value)
{
    return expect_widen(EPX_ROW_FP16, expect_narrow(EPX_ROW_FP16, value));
}

/* Any fp32 at all, most of them near 1. */
static float any_float(uint64_t *seed)
{
    uint64_t r = random_next(seed);
    return r % 16 == 0 ? float_of((uint32_t)(r >> 32)) : random_float(seed, 0, 1 + (int)(r % 16));
}

static int fill(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < PATTERN_COUNT; i++) {
        patterns[i] = (uint16_t)i;
    }
    return 0;
}

static void partial_sum_row__each_step_rounded(void **state)
{
    (void)state;
    uint64_t seed = 21;
    struct fence to = fence_create(4 * 200);
    const uint16_t *rows[9];
    float weights[9];
    for (size_t i = 0; i < 2 * 9 * 131; i++) {
        enum epx_row_format format = i % 2 == 0 ? EPX_ROW_FP16 : EPX_ROW_BF16;
        size_t row_count = 1 + i / 2 % 9;
        size_t elems = i / 18;
        float *acc = fence_place(&to, 4 * elems, true, 4 * (i % 3));
        for (size_t k = 0; k < row_count; k++) {
            rows[k] = patterns + random_next(&seed) % (PATTERN_COUNT - elems);
            weights[k] = any_float(&seed);
        }
        epx_partial_sum_row(format, acc, rows, weights, row_count, elems);
        for (size_t h = 0; h < elems; h++) {
            float sum = expect_product(expect_widen(format, rows[0][h]), weights[0]);
            for (size_t k = 1; k < row_count; k++) {
                sum = expect_sum(sum, expect_product(expect_widen(format, rows[k][h]), weights[k]));
            }
            assert_same_bits(acc[h], expect_canonical(sum), h);
        }
        fence_check(&to, acc, 4 * elems);
    }
    fence_destroy(&to);
}

/* The first product is not added to zero. */
static void partial_sum_row__keeps_minus_zero(void **state)
{
    (void)state;
    const uint16_t row[] = {0x8000};
    const uint16_t *rows[] = {row};
    const float weight = 1;
    float acc = 5;
    epx_partial_sum_row(EPX_ROW_BF16, &acc, rows, &weight, 1, 1);
    assert_int_equal(bits_of(acc), 0x80000000);
}

static void round_row__any_value(void **state)
{
    (void)state;
    uint64_t seed = 22;
    for (int round = 0; round < 12; round++) {
        for (size_t h = 0; h < PATTERN_COUNT; h++) {
            wide_row[h] = round < 4 ? any_float(&seed) : float_of((uint32_t)random_next(&seed));
            if (round % 2 == 0) { /* near half way between two bf16, or two fp16 */
                uint32_t cut = round % 4 == 0 ? 16 : 13;
                uint32_t low = (1u << (cut - 1)) + (uint32_t)(h % 3) - 1;
                wide_row[h] = float_of((bits_of(wide_row[h]) >> cut << cut) | low);
            }
        }
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            epx_round_row(format, narrow_result, wide_row, PATTERN_COUNT);
            for (size_t h = 0; h < PATTERN_COUNT; h++) {
                assert_int_equal(narrow_result[h], expect_narrow(format, wide_row[h]));
            }
        }
    }
}

static void add_row__all_patterns(void **state)
{
    (void)state;
    uint64_t seed = 23;
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        for (int round = 0; round < 4; round++) {
            for (size_t h = 0; h < PATTERN_COUNT; h++) {
                wide_row[h] = round == 0 ? 0 : any_float(&seed);
            }
            memcpy(wide_result, wide_row, sizeof wide_row);
            epx_add_row(format, wide_result, patterns, PATTERN_COUNT);
            for (size_t h = 0; h < PATTERN_COUNT; h++) {
                float expected = expect_sum(wide_row[h], expect_widen(format, patterns[h]));
                assert_same_bits(wide_result[h], expect_canonical(expected), h);
            }
        }
    }
}

static float magnitude_max(const float *group, size_t count)
{
    float max = 0;
    for (size_t h = 0; h < count; h++) {
        max = isnan(group[h]) || isnan(max) ? NAN : fmaxf(max, fabsf(group[h]));
    }
    return max;
}

static void expect_group8(enum epx_row_format format, uint16_t *dst, const uint16_t *src, size_t count)
{
    float group[8];
    for (size_t h = 0; h < count; h++) {
        group[h] = expect_widen(format, src[h]);
    }
    float scale = expect_product(magnitude_max(group, count), expect_quotient(1, 127));
    float stored = expect_widen(format, expect_narrow(format, scale));
    for (size_t h = 0; h < count; h++) {
        int8_t q = expect_int8(half(expect_quotient(group[h], scale)));
        dst[h] = expect_narrow(format, expect_product(q, stored));
    }
}

static void check_group8(enum epx_row_format format, const uint16_t *src, size_t elems)
{
    uint16_t expected[8];
    memcpy(narrow_result, src, elems * sizeof *src);
    epx_group8_transport_row(format, narrow_row, src, elems);
    epx_group8_transport_row(format, narrow_result, narrow_result, elems); /* in place */
    assert_memory_equal(narrow_result, narrow_row, elems * sizeof *src);
    for (size_t start = 0; start < elems; start += 8) {
        size_t count = elems - start < 8 ? elems - start : 8;
        expect_group8(format, expected, src + start, count);
        for (size_t h = 0; h < count; h++) {
            if (narrow_row[start + h] != expected[h]) {
                fail_msg("[%zu] is %04x, not %04x", start + h, narrow_row[start + h], expected[h]);
            }
        }
    }
}

static void group8_transport_row__patterns_and_lengths(void **state)
{
    (void)state;
    static uint16_t src[PATTERN_COUNT];
    uint64_t seed = 24;
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        check_group8(format, patterns, PATTERN_COUNT);
        for (int spread = 0; spread < 12; spread++) {
            random_row(format, src, PATTERN_COUNT, &seed, 0, spread);
            check_group8(format, src, PATTERN_COUNT);
        }
        for (size_t h = 0; h < PATTERN_COUNT; h++) { /* mixed specials: about one infinity or NaN in every 12 groups */
            src[h] = h % 97 == 5 ? (uint16_t)random_next(&seed) : src[h];
        }
        for (size_t elems = 0; elems <= 130; elems++) {
            check_group8(format, src + elems, elems);
        }
        check_group8(format, src, PATTERN_COUNT);
    }
}

static void group8_transport_row__zero_and_infinity(void **state)
{
    (void)state;
    const uint16_t src[] = {0, 0x8000, 0, 0, 0, 0, 0, 0, 0x7F80, 0x3F80, 0, 0, 0, 0, 0, 0, 0x3F80};
    uint16_t dst[17];
    epx_group8_transport_row(EPX_ROW_BF16, dst, src, 17);
    for (size_t h = 0; h < 8; h++) {
        assert_int_equal(dst[h], 0);
        assert_int_equal(dst[8 + h], 0x7FC0);
    }
    assert_int_equal(dst[16], expect_narrow(EPX_ROW_BF16, 127 * expect_widen(EPX_ROW_BF16, 0x3C01)));
}

static float expect_transported_bf16(const float *group, size_t count, size_t h)
{
    float scale = expect_product(magnitude_max(group, count), expect_quotient(1, 127));
    int8_t q = expect_int8(half(expect_quotient(group[h], scale)));
    return expect_product(q, expect_widen(EPX_ROW_BF16, expect_narrow(EPX_ROW_BF16, scale)));
}

static float expect_transported_fp16(const float *group, size_t count, size_t h)
{
    float partial[16];
    for (size_t i = 0; i < count; i++) {
        partial[i] = half(group[i]);
    }
    /* The product of two halves is exact in fp32. */
    float scale = half(magnitude_max(partial, count) * half(expect_quotient(1, 127)));
    int8_t q = expect_int8(half(expect_quotient(partial[h], scale)));
    return half(expect_product(q, scale));
}

static void check_group_add(enum epx_row_format format, size_t elems)
{
    size_t group_elems = format == EPX_ROW_FP16 ? 16 : 8;
    memcpy(wide_result, wide_sum, elems * sizeof *wide_sum);
    wide_result[elems] = 12345.0f;
    epx_group_transport_add_row(format, wide_result, wide_row, elems);
    for (size_t h = 0; h < elems; h++) {
        size_t start = h / group_elems * group_elems;
        size_t count = elems - start < group_elems ? elems - start : group_elems;
        float expected = 0;
        if (format == EPX_ROW_FP16) {
            expected = half(half(wide_sum[h]) + expect_transported_fp16(wide_row + start, count, h - start));
        } else {
            expected = expect_sum(wide_sum[h], expect_transported_bf16(wide_row + start, count, h - start));
        }
        assert_same_bits(wide_result[h], expect_canonical(expected), h);
    }
    assert_true(wide_result[elems] == 12345.0f);
}

static void group_transport_add_row__magnitudes_and_lengths(void **state)
{
    (void)state;
    uint64_t seed = 25;
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        for (int spread = 0; spread < 16; spread++) {
            for (size_t h = 0; h < 4096; h++) {
                wide_row[h] = spread == 15 && h % 61 == 7 ? any_float(&seed) : random_float(&seed, -spread, spread);
                wide_sum[h] = spread == 0 ? 0 : random_float(&seed, 0, spread);
            }
            check_group_add(format, 4096);
        }
        for (size_t elems = 0; elems <= 130; elems++) {
            check_group_add(format, elems);
        }
        memset(wide_row, 0, sizeof wide_row);
        check_group_add(format, 64);
    }
}

static double round_half_away(double value)
{
    return floor(value + 0.5);
}

static void tp_sum_row__all_patterns(void **state)
{
    (void)state;
    static uint16_t other[PATTERN_COUNT];
    uint64_t seed = 26;
    for (int round = 0; round < 40; round++) {
        for (size_t h = 0; h < PATTERN_COUNT; h++) {
            uint32_t below = ((uint32_t)(h & 0x7FFF) >> 7) > 8 ? (((uint32_t)(h & 0x7FFF) >> 7) - 8) << 7 : 0;
            uint16_t tie = (uint16_t)((h & 0x8000) | below); /* half of the last digit of a bf16 */
            other[h] = round == 0 ? tie : round == 1 ? (uint16_t)h : (uint16_t)random_next(&seed);
        }
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            epx_tp_sum_row(format, narrow_row, patterns, other, PATTERN_COUNT);
            memcpy(narrow_result, other, sizeof other);
            epx_tp_sum_row(format, narrow_result, patterns, narrow_result, PATTERN_COUNT);
            assert_memory_equal(narrow_result, narrow_row, sizeof narrow_row);
            for (size_t h = 0; h < PATTERN_COUNT; h++) {
                float sum = expect_sum(expect_widen(format, patterns[h]), expect_widen(format, other[h]));
                uint16_t expected =
                    format == EPX_ROW_FP16 ? expect_narrow(format, sum) : narrow_with(format, sum, round_half_away);
                assert_int_equal(narrow_row[h], expected);
            }
        }
    }
}

/* 1 + 2^-8 lies half way between two bf16: away from zero, not to even. */
static void tp_sum_row__bf16_half_goes_away_from_zero(void **state)
{
    (void)state;
    const uint16_t a[] = {0x3F80, 0xBF80, 0x7F7F, 0x7F80};
    const uint16_t b[] = {0x3B80, 0xBB80, 0x7B00, 0xFF80};
    uint16_t dst[4];
    epx_tp_sum_row(EPX_ROW_BF16, dst, a, b, 4);
    assert_int_equal(dst[0], 0x3F81);
    assert_int_equal(dst[1], 0xBF81);
    assert_int_equal(dst[2], 0x7F80);
    assert_int_equal(dst[3], 0x7FC0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_sum_row__each_step_rounded),
        cmocka_unit_test(partial_sum_row__keeps_minus_zero),
        cmocka_unit_test(round_row__any_value),
        cmocka_unit_test(add_row__all_patterns),
        cmocka_unit_test(group8_transport_row__patterns_and_lengths),
        cmocka_unit_test(group8_transport_row__zero_and_infinity),
        cmocka_unit_test(group_transport_add_row__magnitudes_and_lengths),
        cmocka_unit_test(tp_sum_row__all_patterns),
        cmocka_unit_test(tp_sum_row__bf16_half_goes_away_from_zero),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
