#include "base/float16.h"
#include "kernel/variants.h"

#include <arm_neon.h>

/* Elements of one step of each pass; the last step of a row overlaps the one before. */
#define STEP_ELEMS 16
#define INLINE     static inline __attribute__((always_inline))

/* 8 elements as fp32. */
struct octet {
    float32x4_t low;
    float32x4_t high;
};

/* smooth must be a constant null at the call where there is none. */
INLINE struct octet smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t at)
{
    uint16x8_t bits = vld1q_u16(src + at);
    struct octet value;
    if (format == EPX_ROW_FP16) {
        value.low = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits)));
        value.high = vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits)));
    } else {
        value.low = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16));
        value.high = vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(bits), 16));
    }
    if (smooth != NULL) {
        value.low = vmulq_f32(value.low, vld1q_f32(smooth + at));
        value.high = vmulq_f32(value.high, vld1q_f32(smooth + at + 4));
    }
    return value;
}

/* The magnitude bits of both 16-bit formats order the magnitudes, NaNs last: no conversion is needed. */
static uint16_t max_magnitude_bits(const uint16_t *src, size_t elems)
{
    const uint16x8_t magnitude = vdupq_n_u16(0x7FFF);
    uint16x8_t max_a = vdupq_n_u16(0);
    uint16x8_t max_b = max_a;
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        max_a = vmaxq_u16(max_a, vandq_u16(vld1q_u16(src + at), magnitude));
        max_b = vmaxq_u16(max_b, vandq_u16(vld1q_u16(src + at + 8), magnitude));
    }
    return vmaxvq_u16(vmaxq_u16(max_a, max_b));
}

INLINE uint32x4_t magnitude_bits(float32x4_t value)
{
    return vandq_u32(vreinterpretq_u32_f32(value), vdupq_n_u32(0x7FFFFFFF));
}

INLINE float max_magnitude_smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t elems)
{
    uint32x4_t max_a = vdupq_n_u32(0);
    uint32x4_t max_b = max_a;
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        struct octet a = smoothed(format, src, smooth, at);
        struct octet b = smoothed(format, src, smooth, at + 8);
        max_a = vmaxq_u32(max_a, vmaxq_u32(magnitude_bits(a.low), magnitude_bits(a.high)));
        max_b = vmaxq_u32(max_b, vmaxq_u32(magnitude_bits(b.low), magnitude_bits(b.high)));
    }
    return epx_fp32_from_bits(vmaxvq_u32(vmaxq_u32(max_a, max_b)));
}

/* The conversion saturates and turns NaN into 0 by itself. */
INLINE int16x8_t quotients(struct octet value, float32x4_t factors)
{
    int32x4_t low = vcvtnq_s32_f32(vmulq_f32(value.low, factors));
    int32x4_t high = vcvtnq_s32_f32(vmulq_f32(value.high, factors));
    return vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
}

/* elems >= STEP_ELEMS */
INLINE float quantize_row(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                          size_t elems)
{
    float max;
    if (smooth != NULL) {
        max = max_magnitude_smoothed(format, src, smooth, elems);
    } else {
        uint16_t bits = max_magnitude_bits(src, elems);
        max = format == EPX_ROW_FP16 ? epx_fp32_from_fp16(bits) : epx_fp32_from_bf16(bits);
    }
    float factor = 127.0f / max;
    const float32x4_t factors = vdupq_n_f32(factor);
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        int16x8_t a = quotients(smoothed(format, src, smooth, at), factors);
        int16x8_t b = quotients(smoothed(format, src, smooth, at + 8), factors);
        vst1q_s8(dst + at, vcombine_s8(vqmovn_s16(a), vqmovn_s16(b)));
    }
    return max != max ? epx_fp32_from_bits(EPX_FP32_NAN) : 1.0f / factor;
}

float epx_quantize_row_fp16_i8__neon(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STEP_ELEMS) {
        return epx_quantize_row_fp16_i8__ref(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_FP16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_FP16, dst, src, NULL, elems);
}

float epx_quantize_row_bf16_i8__neon(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STEP_ELEMS) {
        return epx_quantize_row_bf16_i8__ref(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_BF16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_BF16, dst, src, NULL, elems);
}
