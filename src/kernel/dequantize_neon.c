#include "base/float16.h"
#include "kernel/variants.h"

#include <arm_neon.h>

/* Elements of one step; the last step of a row overlaps the one before. */
#define STEP_ELEMS 8

static inline float32x4_t scaled(int16x4_t values, float32x4_t scales)
{
    float32x4_t product = vmulq_f32(vcvtq_f32_s32(vmovl_s16(values)), scales);
    float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(EPX_FP32_NAN));
    return vbslq_f32(vceqq_f32(product, product), product, nan);
}

void epx_dequantize_row__neon(float *dst, const int8_t *src, float scale, size_t elems)
{
    if (elems < STEP_ELEMS) {
        epx_dequantize_row__ref(dst, src, scale, elems);
        return;
    }
    const float32x4_t scales = vdupq_n_f32(scale);
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        int16x8_t values = vmovl_s8(vld1_s8(src + at));
        vst1q_f32(dst + at, scaled(vget_low_s16(values), scales));
        vst1q_f32(dst + at + 4, scaled(vget_high_s16(values), scales));
    }
}
