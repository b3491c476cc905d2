/* Scalar conversions by row format, for kernels in plain C. */
#ifndef EPX_KERNEL_ROW_FORMAT_H
#define EPX_KERNEL_ROW_FORMAT_H

#include "base/float16.h"
#include "kernel/kernel.h"

static inline float epx_row_widen(enum epx_row_format format, uint16_t value)
{
    return format == EPX_ROW_FP16 ? epx_fp32_from_fp16(value) : epx_fp32_from_bf16(value);
}

static inline uint16_t epx_row_narrow(enum epx_row_format format, float value)
{
    return format == EPX_ROW_FP16 ? epx_fp16_from_fp32(value) : epx_bf16_from_fp32(value);
}

/* `value`, any NaN replaced by the positive quiet one. */
static inline float epx_fp32_canonical(float value)
{
    return value == value ? value : epx_fp32_from_bits(EPX_FP32_NAN);
}

/* Bits of |value|: as integers they order all magnitudes, with the NaNs above infinity. */
static inline uint32_t epx_fp32_magnitude_bits(float value)
{
    return epx_bits_from_fp32(value) & 0x7FFFFFFFu;
}

/* rint(value) to nearest even, saturated to [-128, 127]; NaN gives 0. */
static inline int8_t epx_i8_from_fp32(float value)
{
    float inside = value == value ? value : 0.0f;
    inside = inside < 127.0f ? inside : 127.0f;
    inside = inside > -128.0f ? inside : -128.0f;
    /* Near 1.5 * 2^23 the step of fp32 is 1: the sum rounds to an integer, which the low bits hold. */
    uint32_t shifted = epx_bits_from_fp32(inside + 0x1.8p23f);
    return (int8_t)(int32_t)(shifted - 0x4B400000u);
}

#endif
