#include "base/float16.h"
#include "kernel/variants.h"

#include <arm_neon.h>

/* A strip of columns keeps its sums in registers while the rows are added to it. */
#define UNIT_ELEMS  8
#define STRIP_ELEMS (4 * UNIT_ELEMS)
#define INLINE      static inline __attribute__((always_inline))

/* 8 elements: the first, the second half. */
struct unit {
    float32x4_t a;
    float32x4_t b;
};

INLINE struct unit unit_load(enum epx_row_format format, const uint16_t *src)
{
    uint16x8_t bits = vld1q_u16(src);
    struct unit unit;
    if (format == EPX_ROW_FP16) {
        unit.a = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits)));
        unit.b = vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits)));
    } else {
        unit.a = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16));
        unit.b = vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(bits), 16));
    }
    return unit;
}

/* To nearest even; any NaN becomes the quiet one. */
INLINE uint16x4_t narrow(enum epx_row_format format, float32x4_t value)
{
    uint32x4_t is_number = vceqq_f32(value, value);
    uint32x4_t bits = vbslq_u32(is_number, vreinterpretq_u32_f32(value), vdupq_n_u32(EPX_FP32_NAN));
    if (format == EPX_ROW_FP16) {
        return vreinterpret_u16_f16(vcvt_f16_f32(vreinterpretq_f32_u32(bits)));
    }
    /* The quiet NaN has no bits below the upper 16: nothing carries into them. */
    uint32x4_t is_odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    return vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), is_odd), 16);
}

INLINE void unit_store(enum epx_row_format format, uint16_t *dst, struct unit unit)
{
    vst1q_u16(dst, vcombine_u16(narrow(format, unit.a), narrow(format, unit.b)));
}

INLINE struct unit unit_zero(void)
{
    struct unit unit = {vdupq_n_f32(0), vdupq_n_f32(0)};
    return unit;
}

/* Product and sum are rounded each. */
INLINE struct unit unit_add_weighted(struct unit sum, struct unit value, float weight)
{
    sum.a = vaddq_f32(sum.a, vmulq_n_f32(value.a, weight));
    sum.b = vaddq_f32(sum.b, vmulq_n_f32(value.b, weight));
    return sum;
}

INLINE struct unit unit_add(struct unit sum, struct unit value)
{
    sum.a = vaddq_f32(sum.a, value.a);
    sum.b = vaddq_f32(sum.b, value.b);
    return sum;
}

INLINE void sum_unit(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows, const float *weights,
                     size_t row_count, const uint16_t *plain_row, size_t at)
{
    struct unit sum = unit_zero();
    for (size_t i = 0; i < row_count; i++) {
        sum = unit_add_weighted(sum, unit_load(format, rows[i] + at), weights[i]);
    }
    if (plain_row != NULL) {
        sum = unit_add(sum, unit_load(format, plain_row + at));
    }
    unit_store(format, dst + at, sum);
}

/* Four units at once: named variables, since compilers keep an array of them in memory. */
INLINE void sum_strip(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows, const float *weights,
                      size_t row_count, const uint16_t *plain_row, size_t at)
{
    struct unit sum0 = unit_zero();
    struct unit sum1 = unit_zero();
    struct unit sum2 = unit_zero();
    struct unit sum3 = unit_zero();
    for (size_t i = 0; i < row_count; i++) {
        const uint16_t *row = rows[i] + at;
        sum0 = unit_add_weighted(sum0, unit_load(format, row), weights[i]);
        sum1 = unit_add_weighted(sum1, unit_load(format, row + UNIT_ELEMS), weights[i]);
        sum2 = unit_add_weighted(sum2, unit_load(format, row + 2 * UNIT_ELEMS), weights[i]);
        sum3 = unit_add_weighted(sum3, unit_load(format, row + 3 * UNIT_ELEMS), weights[i]);
    }
    if (plain_row != NULL) {
        sum0 = unit_add(sum0, unit_load(format, plain_row + at));
        sum1 = unit_add(sum1, unit_load(format, plain_row + at + UNIT_ELEMS));
        sum2 = unit_add(sum2, unit_load(format, plain_row + at + 2 * UNIT_ELEMS));
        sum3 = unit_add(sum3, unit_load(format, plain_row + at + 3 * UNIT_ELEMS));
    }
    unit_store(format, dst + at, sum0);
    unit_store(format, dst + at + UNIT_ELEMS, sum1);
    unit_store(format, dst + at + 2 * UNIT_ELEMS, sum2);
    unit_store(format, dst + at + 3 * UNIT_ELEMS, sum3);
}

/* elems >= UNIT_ELEMS. The last unit overlaps the one before. */
INLINE void weighted_sum_row(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows,
                             const float *weights, size_t row_count, const uint16_t *plain_row, size_t elems)
{
    size_t i = 0;
    for (; i + STRIP_ELEMS <= elems; i += STRIP_ELEMS) {
        sum_strip(format, dst, rows, weights, row_count, plain_row, i);
    }
    for (; i < elems; i += UNIT_ELEMS) {
        size_t at = i + UNIT_ELEMS <= elems ? i : elems - UNIT_ELEMS;
        sum_unit(format, dst, rows, weights, row_count, plain_row, at);
    }
}

void epx_weighted_sum_row_fp16__neon(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                     const uint16_t *plain_row, size_t elems)
{
    if (elems < UNIT_ELEMS) {
        epx_weighted_sum_row_fp16__ref(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row(EPX_ROW_FP16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_bf16__neon(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                     const uint16_t *plain_row, size_t elems)
{
    if (elems < UNIT_ELEMS) {
        epx_weighted_sum_row_bf16__ref(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row(EPX_ROW_BF16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_fp16__neon(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                               size_t row_count, const uint16_t *plain_row, size_t elems)
{
    epx_weighted_sum_row_fp16__neon(dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_bf16__neon(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                               size_t row_count, const uint16_t *plain_row, size_t elems)
{
    epx_weighted_sum_row_bf16__neon(dst, rows, weights, row_count, plain_row, elems);
}
