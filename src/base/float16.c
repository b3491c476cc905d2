#include "base/float16.h"

float epx_fp32_from_fp16(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    uint32_t exponent = (value >> 10) & 0x1Fu;
    uint32_t mantissa = value & 0x3FFu;
    if (exponent == 0x1F) {
        return epx_fp32_from_bits(sign | 0x7F800000u | (mantissa << 13));
    }
    if (exponent == 0) {
        /* mantissa * 2^-24, exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return epx_fp32_from_bits(sign | epx_bits_from_fp32(magnitude));
    }
    return epx_fp32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t epx_fp16_from_fp32(float value)
{
    uint32_t bits = epx_bits_from_fp32(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return EPX_FP16_NAN;
    }
    /* 65520, half way between the largest fp16 and the next step, rounds to infinity. */
    if (magnitude >= 0x477FF000u) {
        return (uint16_t)(sign | 0x7C00u);
    }
    if (magnitude >= 0x38800000u) { /* 2^-14: the result is normal */
        uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
        return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
    }
    if (magnitude <= 0x33000000u) { /* at most 2^-25, half of the smallest subnormal: ties to even give zero */
        return sign;
    }
    uint32_t shift = 126u - (magnitude >> 23); /* 14 .. 24: how far the 24-bit significand moves right */
    uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t kept = significand >> shift;
    uint32_t rest = significand & ((1u << shift) - 1u);
    uint32_t half = 1u << (shift - 1u);
    if (rest > half || (rest == half && (kept & 1u) != 0)) {
        kept++;
    }
    return (uint16_t)(sign | kept);
}
