#include "kernels/kernel_test.h"

#define PATTERN_COUNT 65536
#define ROW_MAX       33

static uint16_t expect_weighted_sum(enum epx_row_format format, const uint16_t *const *rows, const float *weights,
                                    size_t row_count, const uint16_t *plain_row, size_t h)
{
    float sum = 0;
    for (size_t i = 0; i < row_count; i++) {
        sum = expect_sum(sum, expect_product(expect_widen(format, rows[i][h]), weights[i]));
    }
    if (plain_row != NULL) {
        sum = expect_sum(sum, expect_widen(format, plain_row[h]));
    }
    return expect_narrow(format, sum);
}

static void check_result(const char *kernel, enum epx_row_format format, const uint16_t *actual,
                         const uint16_t *expected, size_t row_count, size_t elems)
{
    for (size_t h = 0; h < elems; h++) {
        if (actual[h] != expected[h]) {
            fail_msg("%s, format %d, %zu rows of %zu: [%zu] is %04x, not %04x", kernel, format, row_count, elems, h,
                     actual[h], expected[h]);
        }
    }
}

/* Both ways of storing. */
static void check_rows(const struct epx_kernel_table *table, enum epx_row_format format, uint16_t *dst,
                       const uint16_t *const *rows, const float *weights, size_t row_count, const uint16_t *plain_row,
                       size_t elems)
{
    static uint16_t expected[PATTERN_COUNT];
    for (size_t h = 0; h < elems; h++) {
        expected[h] = expect_weighted_sum(format, rows, weights, row_count, plain_row, h);
    }
    table->weighted_sum_row[format](dst, rows, weights, row_count, plain_row, elems);
    check_result(table->isa, format, dst, expected, row_count, elems);
    for (size_t h = 0; h < elems; h++) {
        dst[h] = (uint16_t)~expected[h];
    }
    table->weighted_sum_row_streaming[format](dst, rows, weights, row_count, plain_row, elems);
    epx_kernel_store_fence();
    check_result("streaming", format, dst, expected, row_count, elems);
}

struct buffers {
    struct fence dst;
    struct fence rows[ROW_MAX + 1]; /* the last one for the plain row */
};

static void buffers_create(struct buffers *buffers, size_t elems)
{
    buffers->dst = fence_create(2 * elems + 128);
    for (size_t i = 0; i <= ROW_MAX; i++) {
        buffers->rows[i] = fence_create(2 * elems + 128);
    }
}

static void buffers_destroy(struct buffers *buffers)
{
    fence_destroy(&buffers->dst);
    for (size_t i = 0; i <= ROW_MAX; i++) {
        fence_destroy(&buffers->rows[i]);
    }
}

static void check_placed(const struct epx_kernel_table *table, struct buffers *buffers, size_t row_count, size_t elems,
                         bool from_end)
{
    uint64_t seed = elems * 64 + row_count;
    const uint16_t *rows[ROW_MAX];
    float weights[ROW_MAX];
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        for (size_t i = 0; i < row_count; i++) {
            uint16_t *row = fence_place(&buffers->rows[i], 2 * elems, from_end, 2 * (i * 3 % 64));
            random_row(format, row, elems, &seed, 0, 6);
            rows[i] = row;
            weights[i] = random_float(&seed, -3, 3);
        }
        uint16_t *plain = fence_place(&buffers->rows[ROW_MAX], 2 * elems, from_end, 2 * (elems % 3));
        random_row(format, plain, elems, &seed, 0, 6);
        uint16_t *dst = fence_place(&buffers->dst, 2 * elems, from_end, 2 * ((elems + row_count) % 32));
        check_rows(table, format, dst, rows, weights, row_count, NULL, elems);
        fence_check(&buffers->dst, dst, 2 * elems);
        check_rows(table, format, dst, rows, weights, row_count, plain, elems);
        fence_check(&buffers->dst, dst, 2 * elems);
    }
}

static void weighted_sum_row__lengths(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    static const size_t row_counts[] = {0, 1, 2, 3, 7, 8, 9, 16, 33};
    struct buffers small;
    struct buffers large;
    buffers_create(&small, SHORT_MAX);
    buffers_create(&large, HIDDEN_ELEMS);
    for (size_t i = 0; i < LENGTH_COUNT; i++) {
        struct buffers *buffers = length_at(i) <= SHORT_MAX ? &small : &large;
        for (size_t k = 0; k < sizeof row_counts / sizeof row_counts[0]; k++) {
            check_placed(table, buffers, row_counts[k], length_at(i), false);
            check_placed(table, buffers, row_counts[k], length_at(i), true);
        }
    }
    buffers_destroy(&small);
    buffers_destroy(&large);
}

static uint16_t pattern_row[PATTERN_COUNT];
static uint16_t second_row[PATTERN_COUNT];
static uint16_t result_row[PATTERN_COUNT];

static void fill_patterns(void)
{
    for (uint32_t i = 0; i < PATTERN_COUNT; i++) {
        pattern_row[i] = (uint16_t)i;
    }
}

static void weighted_sum_row__all_patterns(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    static const uint32_t weights[] = {0x3F800000, 0xBF800000, 0x3F000000, 0x3F7FFFFF, 0x3F808000,
                                       0x33000000, 0x43FF8000, 0x00000000, 0x80000000, 0x00000001,
                                       0x7F800000, 0xFF800000, 0x7F800001, 0xFFC12345, 0x7F7FFFFF};
    const uint16_t *rows[] = {pattern_row};
    fill_patterns();
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        float weight = float_of(weights[i]);
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            check_rows(table, format, result_row, rows, &weight, 1, NULL, PATTERN_COUNT);
            check_rows(table, format, result_row, rows, &weight, 1, pattern_row, PATTERN_COUNT);
        }
    }
}

/* Every pattern plus half of its last digit: half way between two numbers of the format. And that a little more or
 * less. */
static void weighted_sum_row__ties_go_to_even(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    static const float second_weights[] = {1.0f, -1.0f, 0x1.000002p0f, 0x1.FFFFFEp-1f};
    const uint16_t *rows[] = {pattern_row, second_row};
    fill_patterns();
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        uint32_t digits = format == EPX_ROW_FP16 ? 11 : 8;
        size_t ties = 0;
        for (uint32_t i = 0; i < PATTERN_COUNT; i++) {
            uint32_t exponent = (i & 0x7FFF) >> (digits - 1);
            bool fits = exponent > digits;
            second_row[i] = (uint16_t)((i & 0x8000) | (fits ? (exponent - digits) << (digits - 1) : 0));
            ties += fits;
        }
        assert_true(ties > 30000);
        for (size_t w = 0; w < sizeof second_weights / sizeof second_weights[0]; w++) {
            float weights[] = {1.0f, second_weights[w]};
            check_rows(table, format, result_row, rows, weights, 2, NULL, PATTERN_COUNT);
        }
    }
}

/* Any bits at all in rows and weights: NaNs and infinities meet everywhere. */
static void weighted_sum_row__any_bits(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ROWS = 9 };
    static uint16_t values[ROWS][HIDDEN_ELEMS];
    const uint16_t *rows[ROWS];
    float weights[ROWS];
    uint64_t seed = 11;
    for (int round = 0; round < 24; round++) {
        for (size_t i = 0; i < ROWS; i++) {
            rows[i] = values[i];
            weights[i] = round % 8 == 7 ? float_of((uint32_t)random_next(&seed)) : random_float(&seed, 0, round % 8);
            for (size_t h = 0; h < HIDDEN_ELEMS; h++) {
                values[i][h] = (uint16_t)random_next(&seed);
            }
        }
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            check_rows(table, format, result_row, rows, weights, 2 + (size_t)round % 7, values[ROWS - 1], HIDDEN_ELEMS);
        }
    }
}

/* Rows whose products need all digits: one rounding less (a fused multiply-add) or another order would show. */
static void weighted_sum_row__magnitudes(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ROWS = 8 };
    static uint16_t values[ROWS][HIDDEN_ELEMS];
    const uint16_t *rows[ROWS];
    float weights[ROWS];
    uint64_t seed = 13;
    for (int spread = 0; spread < 12; spread++) {
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            for (size_t i = 0; i < ROWS; i++) {
                rows[i] = values[i];
                weights[i] = random_float(&seed, -spread / 2, 2 + spread);
                random_row(format, values[i], HIDDEN_ELEMS, &seed, (int)i - spread, spread);
            }
            check_rows(table, format, result_row, rows, weights, ROWS, NULL, HIDDEN_ELEMS);
        }
    }
}

/* Opposite large terms leave what a fused multiply-add would keep and two roundings drop. */
static void weighted_sum_row__rounds_each_product(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ELEMS = 160 };
    uint16_t a[ELEMS];
    uint16_t b[ELEMS];
    uint16_t dst[ELEMS];
    const uint16_t *rows[] = {a, b};
    const float weight = 0x1.234567p0f;
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        for (size_t h = 0; h < ELEMS; h++) {
            a[h] = expect_narrow(format, 1.0f + 0x1p-7f);
            b[h] = expect_narrow(format, -(1.0f + 0x1p-7f));
        }
        const float weights[] = {weight, weight};
        assert_true(fmaf(expect_widen(format, b[0]), weight, expect_product(expect_widen(format, a[0]), weight)) != 0);
        check_rows(table, format, dst, rows, weights, 2, NULL, ELEMS);
        assert_int_equal(dst[0], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH_VARIANT(weighted_sum_row__lengths),         EACH_VARIANT(weighted_sum_row__all_patterns),
        EACH_VARIANT(weighted_sum_row__ties_go_to_even), EACH_VARIANT(weighted_sum_row__any_bits),
        EACH_VARIANT(weighted_sum_row__magnitudes),      EACH_VARIANT(weighted_sum_row__rounds_each_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
