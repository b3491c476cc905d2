/*
 * Scalar conversions between fp32 and the two 16-bit formats. Rounding is to nearest even, subnormals are kept,
 * overflow gives infinity, and every NaN becomes the positive quiet NaN of the target, so that results do not depend on
 * which operand's payload an instruction set happens to keep. Widening keeps the value; a NaN stays a NaN.
 */
#ifndef EPX_BASE_FLOAT16_H
#define EPX_BASE_FLOAT16_H

#include <stdint.h>
#include <string.h>

#define EPX_BF16_NAN 0x7FC0u
#define EPX_FP16_NAN 0x7E00u
#define EPX_FP32_NAN 0x7FC00000u

static inline uint32_t epx_bits_from_fp32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float epx_fp32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float epx_fp32_from_bf16(uint16_t value)
{
    return epx_fp32_from_bits((uint32_t)value << 16);
}

static inline uint16_t epx_bf16_from_fp32(float value)
{
    uint32_t bits = epx_bits_from_fp32(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return EPX_BF16_NAN;
    }
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

float epx_fp32_from_fp16(uint16_t value);
uint16_t epx_fp16_from_fp32(float value);

#endif
