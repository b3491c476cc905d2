/* 16-bit row formats, for finite numbers that fit; rounding is to nearest even. */
#ifndef EPX_BENCH_NUMBERS_H
#define EPX_BENCH_NUMBERS_H

#include "case.h"

#include <math.h>
#include <string.h>

static inline uint32_t bench_float_bits(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bench_float_of_bits(uint32_t bits)
{
    float value = 0.0f;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t bench_round_bf16(float value)
{
    uint32_t bits = bench_float_bits(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t bench_round_fp16(float value)
{
    uint32_t bits = bench_float_bits(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) { /* below 2^-14: a multiple of 2^-24 */
        return (uint16_t)(sign | (uint32_t)rintf(fabsf(value) * 0x1p24f));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static inline float bench_float_bf16(uint16_t half)
{
    return bench_float_of_bits((uint32_t)half << 16);
}

static inline float bench_float_fp16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = half & 0x7fff;
    if (magnitude < 0x400) {
        float value = (float)magnitude * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    return bench_float_of_bits(sign | ((magnitude << 13) + 0x38000000));
}

static inline float bench_float(const struct bench_case *bench, uint16_t half)
{
    return bench->dtype == BENCH_BF16 ? bench_float_bf16(half) : bench_float_fp16(half);
}

static inline uint16_t bench_round(const struct bench_case *bench, float value)
{
    return bench->dtype == BENCH_BF16 ? bench_round_bf16(value) : bench_round_fp16(value);
}

#endif
