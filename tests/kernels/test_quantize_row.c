#include "kernels/kernel_test.h"

static float expect_quantized(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                              size_t elems)
{
    float max = 0;
    for (size_t h = 0; h < elems; h++) {
        float value = expect_widen(format, src[h]);
        value = smooth != NULL ? expect_product(value, smooth[h]) : value;
        if (isnan(value) || isnan(max)) {
            max = NAN;
        } else if (fabsf(value) > max) {
            max = fabsf(value);
        }
    }
    float factor = expect_quotient(127, max);
    for (size_t h = 0; h < elems; h++) {
        float value = expect_widen(format, src[h]);
        value = smooth != NULL ? expect_product(value, smooth[h]) : value;
        dst[h] = expect_int8(expect_product(value, factor));
    }
    return expect_canonical(expect_quotient(1, factor));
}

static void check_row(const struct epx_kernel_table *table, enum epx_row_format format, int8_t *dst,
                      const uint16_t *src, const float *smooth, size_t elems)
{
    static int8_t expected[HIDDEN_ELEMS];
    float expected_scale = expect_quantized(format, expected, src, smooth, elems);
    float scale = table->quantize_row[format](dst, src, smooth, elems);
    if (bits_of(scale) != bits_of(expected_scale)) {
        fail_msg("%s, %zu elements: scale is %08x, not %08x", table->isa, elems, bits_of(scale),
                 bits_of(expected_scale));
    }
    for (size_t h = 0; h < elems; h++) {
        if (dst[h] != expected[h]) {
            fail_msg("%s, %zu elements: [%zu] is %d, not %d", table->isa, elems, h, dst[h], expected[h]);
        }
    }
}

struct buffers {
    struct fence dst;
    struct fence src;
    struct fence smooth;
};

static struct buffers buffers_create(size_t elems)
{
    struct buffers buffers = {fence_create(elems + 64), fence_create(2 * elems + 128), fence_create(4 * elems + 256)};
    return buffers;
}

static void buffers_destroy(struct buffers *buffers)
{
    fence_destroy(&buffers->dst);
    fence_destroy(&buffers->src);
    fence_destroy(&buffers->smooth);
}

static void check_placed(const struct epx_kernel_table *table, struct buffers *buffers, size_t elems, bool from_end,
                         size_t offset)
{
    uint64_t seed = elems * 64 + offset;
    int8_t *dst = fence_place(&buffers->dst, elems, from_end, offset);
    uint16_t *src = fence_place(&buffers->src, 2 * elems, from_end, 2 * ((offset * 7) % 32));
    float *smooth = fence_place(&buffers->smooth, 4 * elems, from_end, 4 * ((offset * 5) % 32));
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        random_row(format, src, elems, &seed, 0, 9);
        for (size_t h = 0; h < elems; h++) {
            smooth[h] = random_float(&seed, 0, 3);
        }
        check_row(table, format, dst, src, NULL, elems);
        fence_check(&buffers->dst, dst, elems);
        check_row(table, format, dst, src, smooth, elems);
        fence_check(&buffers->dst, dst, elems);
    }
}

static void quantize_row__lengths(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    struct buffers small = buffers_create(SHORT_MAX);
    struct buffers large = buffers_create(HIDDEN_ELEMS);
    for (size_t i = 0; i < LENGTH_COUNT; i++) {
        struct buffers *buffers = length_at(i) <= SHORT_MAX ? &small : &large;
        for (size_t offset = 0; offset < 64; offset += length_at(i) <= SHORT_MAX ? 1 + length_at(i) / 100 * 2 : 13) {
            check_placed(table, buffers, length_at(i), false, offset);
            check_placed(table, buffers, length_at(i), true, offset);
        }
    }
    buffers_destroy(&small);
    buffers_destroy(&large);
}

/* Every pattern is the largest magnitude of a row once; the others walk down from it. */
static void quantize_row__all_patterns(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ELEMS = 70 };
    int8_t dst[ELEMS];
    uint16_t src[ELEMS];
    float smooth[ELEMS];
    uint64_t seed = 1;
    for (uint32_t pattern = 0; pattern <= 0xFFFF; pattern++) {
        uint32_t magnitude = pattern & 0x7FFF;
        for (uint32_t h = 0; h < ELEMS; h++) {
            uint32_t sign = h == 0 ? pattern & 0x8000 : (uint32_t)random_next(&seed) & 0x8000;
            uint32_t step = h * (1 + pattern % 23);
            src[(h + pattern) % ELEMS] = (uint16_t)(sign | (step < magnitude ? magnitude - step : 0));
            smooth[h] = random_float(&seed, 0, pattern % 8 == 0 ? 100 : 1);
        }
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            check_row(table, format, dst, src, NULL, ELEMS);
            if (pattern % 4 == 0) {
                check_row(table, format, dst, src, smooth, ELEMS);
            }
        }
    }
}

/* Each special value at each place of a row of otherwise small, zero or tiny values. */
static void quantize_row__special_values(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ELEMS = 150 };
    int8_t dst[ELEMS];
    uint16_t src[ELEMS];
    static const uint16_t magnitudes[][2] = {/* fp16, bf16 */
                                             {0x0000, 0x0000}, {0x0001, 0x0001}, {0x03FF, 0x007F}, {0x0400, 0x0080},
                                             {0x3C00, 0x3F80}, {0x7BFF, 0x7F7F}, {0x7C00, 0x7F80}, {0x7C01, 0x7F81},
                                             {0x7DFF, 0x7FBF}, {0x7E00, 0x7FC0}, {0x7FFF, 0x7FFF}};
    size_t count = sizeof magnitudes / sizeof magnitudes[0];
    for (size_t i = 0; i < 2 * count * count * ELEMS; i++) {
        enum epx_row_format format = i % 2 == 0 ? EPX_ROW_FP16 : EPX_ROW_BF16;
        uint16_t special = magnitudes[i / 2 % count][format];
        uint16_t other = magnitudes[i / 2 / count % count][format];
        size_t place = i / 2 / count / count;
        for (size_t h = 0; h < ELEMS; h++) {
            src[h] = (uint16_t)(other | ((h + i) % 3 == 0 ? 0x8000 : 0));
        }
        src[place] = (uint16_t)(special | (i % 5 == 0 ? 0x8000 : 0));
        check_row(table, format, dst, src, NULL, ELEMS);
    }
}

static void quantize_row__special_smooth_scales(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ELEMS = 150 };
    int8_t dst[ELEMS];
    uint16_t src[ELEMS];
    float smooth[ELEMS];
    uint64_t seed = 3;
    static const uint32_t scales[] = {0x00000000, 0x80000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF,
                                      0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0x3F800001};
    size_t count = sizeof scales / sizeof scales[0];
    for (size_t i = 0; i < 2 * count * ELEMS; i++) {
        enum epx_row_format format = i % 2 == 0 ? EPX_ROW_FP16 : EPX_ROW_BF16;
        random_row(format, src, ELEMS, &seed, 0, 4);
        for (size_t h = 0; h < ELEMS; h++) {
            smooth[h] = random_float(&seed, 0, 3);
        }
        smooth[i / 2 / count] = float_of(scales[i / 2 % count]);
        check_row(table, format, dst, src, smooth, ELEMS);
        for (size_t h = 0; h < ELEMS; h++) {
            smooth[h] = float_of(scales[i / 2 % count]);
        }
        check_row(table, format, dst, src, smooth, ELEMS);
    }
}

/* The largest magnitude is 127, so the factor is 1: halves lie between two int8. */
static void quantize_row__ties_go_to_even(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    enum { ELEMS = 510 };
    int8_t dst[ELEMS];
    uint16_t src[ELEMS];
    for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
        for (int h = 0; h < ELEMS; h++) {
            float value = (float)(h / 2) * 0.5f;
            src[h] = expect_narrow(format, h % 2 == 0 ? value : -value);
        }
        check_row(table, format, dst, src, NULL, ELEMS);
        assert_int_equal(dst[2], 0);     /* 0.5 */
        assert_int_equal(dst[6], 2);     /* 1.5 */
        assert_int_equal(dst[7], -2);    /* -1.5 */
        assert_int_equal(dst[506], 126); /* 126.5 */
        assert_int_equal(dst[508], 127);
        assert_int_equal(dst[509], -127);
    }
}

static void quantize_row__magnitudes(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    static uint16_t src[HIDDEN_ELEMS];
    static int8_t dst[HIDDEN_ELEMS];
    uint64_t seed = 5;
    for (int centre = -140; centre <= 120; centre += 4) {
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            random_row(format, src, HIDDEN_ELEMS, &seed, format == EPX_ROW_FP16 ? centre / 10 : centre, 3);
            check_row(table, format, dst, src, NULL, HIDDEN_ELEMS);
        }
    }
}

static void dequantize_row__lengths_and_scales(void **state)
{
    const struct epx_kernel_table *table = table_or_skip(state);
    struct fence to = fence_create(4 * HIDDEN_ELEMS + 64);
    struct fence from = fence_create(HIDDEN_ELEMS + 64);
    static const uint32_t scales[] = {0x3F800000, 0x3C010204, 0x00000000, 0x80000000, 0x00000001, 0x7F7FFFFF,
                                      0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 0xC0490FDB};
    size_t scale_count = sizeof scales / sizeof scales[0];
    for (size_t i = 0; i < 2 * LENGTH_COUNT * scale_count; i++) {
        size_t elems = length_at(i / 2 / scale_count);
        float scale = float_of(scales[i / 2 % scale_count]);
        int8_t *src = fence_place(&from, elems, i % 2 != 0, i % 7);
        float *dst = fence_place(&to, 4 * elems, i % 2 != 0, 4 * (i % 5));
        for (size_t h = 0; h < elems; h++) {
            src[h] = (int8_t)(h * 5 + i);
        }
        table->dequantize_row(dst, src, scale, elems);
        for (size_t h = 0; h < elems; h++) {
            float expected = expect_canonical(expect_product((float)src[h], scale));
            assert_int_equal(bits_of(dst[h]), bits_of(expected));
        }
        fence_check(&to, dst, 4 * elems);
    }
    fence_destroy(&to);
    fence_destroy(&from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH_VARIANT(quantize_row__lengths),
        EACH_VARIANT(quantize_row__all_patterns),
        EACH_VARIANT(quantize_row__special_values),
        EACH_VARIANT(quantize_row__special_smooth_scales),
        EACH_VARIANT(quantize_row__ties_go_to_even),
        EACH_VARIANT(quantize_row__magnitudes),
        EACH_VARIANT(dequantize_row__lengths_and_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
