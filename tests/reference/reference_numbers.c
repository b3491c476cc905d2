/*
 * Formats and arithmetic on rows, from the definitions of the formats: a value is an integer number of units of
 * 2^(exponent - fraction bits).
 */
#include "reference/reference_internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "float expressions must round to float");

#define FP16_NAN 0x7E00u
#define BF16_NAN 0x7FC0u

struct layout {
    int fraction_bits;
    int exponent_max; /* of finite values; also the bias */
};

static const struct layout layouts[2] = {[REF_FP16] = {10, 15}, [REF_BF16] = {7, 127}};

float ref_widen(enum ref_format format, uint16_t bits)
{
    const struct layout *layout = &layouts[format];
    int fraction = bits & ((1 << layout->fraction_bits) - 1);
    int biased = (bits & 0x7FFF) >> layout->fraction_bits;
    double magnitude;
    if (biased == 2 * layout->exponent_max + 1) {
        magnitude = fraction != 0 ? (double)NAN : (double)INFINITY;
    } else if (biased == 0) {
        magnitude = ldexp(fraction, 1 - layout->exponent_max - layout->fraction_bits);
    } else {
        magnitude =
            ldexp(fraction + (1 << layout->fraction_bits), biased - layout->exponent_max - layout->fraction_bits);
    }
    return (float)((bits & 0x8000) != 0 ? -magnitude : magnitude);
}

double ref_round_even(double value)
{
    double below = floor(value);
    double rest = value - below;
    if (rest > 0.5 || (rest == 0.5 && fmod(below, 2.0) != 0.0)) {
        return below + 1.0;
    }
    return below;
}

static double round_half_up(double value)
{
    double below = floor(value);
    return value - below >= 0.5 ? below + 1.0 : below;
}

static uint16_t narrow(const struct layout *layout, double value, double (*round_units)(double))
{
    uint16_t sign = signbit(value) ? 0x8000u : 0;
    unsigned infinity = (2u * (unsigned)layout->exponent_max + 1u) << layout->fraction_bits;
    double magnitude = fabs(value);
    if (isinf(value)) {
        return (uint16_t)(sign | infinity);
    }
    if (magnitude == 0.0) {
        return sign;
    }
    int exponent;
    frexp(magnitude, &exponent);
    exponent -= 1; /* magnitude = 1.xxx * 2^exponent */
    if (exponent < 1 - layout->exponent_max) {
        exponent = 1 - layout->exponent_max;
    }
    double units = round_units(ldexp(magnitude, layout->fraction_bits - exponent));
    double one = ldexp(1.0, layout->fraction_bits);
    if (units >= 2.0 * one) {
        units /= 2.0;
        exponent += 1;
    }
    if (exponent > layout->exponent_max) {
        return (uint16_t)(sign | infinity);
    }
    if (units < one) { /* subnormal */
        return (uint16_t)(sign | (unsigned)units);
    }
    return (uint16_t)(sign | ((unsigned)(exponent + layout->exponent_max) << layout->fraction_bits) |
                      (unsigned)(units - one));
}

uint16_t ref_narrow(enum ref_format format, double value)
{
    if (isnan(value)) {
        return format == REF_FP16 ? FP16_NAN : BF16_NAN;
    }
    return narrow(&layouts[format], value, ref_round_even);
}

uint16_t ref_bf16_half_away(double value)
{
    return isnan(value) ? BF16_NAN : narrow(&layouts[REF_BF16], value, round_half_up);
}

int8_t ref_saturate_int8(double value)
{
    if (isnan(value)) {
        return 0;
    }
    if (value >= 127.0) {
        return 127;
    }
    if (value <= -128.0) {
        return -128;
    }
    return (int8_t)ref_round_even(value);
}

static float canonical(float value)
{
    uint32_t bits = 0x7FC00000u;
    if (isnan(value)) {
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

/* The larger magnitude; a NaN is larger than everything. */
static float larger(float magnitude, float value)
{
    if (isnan(magnitude) || isnan(value)) {
        return (float)NAN;
    }
    return fabsf(value) > magnitude ? fabsf(value) : magnitude;
}

float ref_quantize_row(enum ref_format format, int8_t *dst, const uint16_t *src, const float *smooth, int64_t elems)
{
    float *values = ref_alloc(elems, sizeof *values);
    float maximum = 0.0f;
    for (int64_t h = 0; h < elems; h++) {
        values[h] = ref_widen(format, src[h]);
        if (smooth != NULL) {
            values[h] = values[h] * smooth[h];
        }
        maximum = larger(maximum, values[h]);
    }
    float factor = 127.0f / maximum;
    for (int64_t h = 0; h < elems; h++) {
        float scaled = values[h] * factor;
        dst[h] = ref_saturate_int8((double)scaled);
    }
    float scale = 1.0f / factor;
    free(values);
    return canonical(scale);
}

/* int8 of value / scale by way of half precision. */
static int8_t group_code(float value, float scale)
{
    float quotient = value / scale;
    return ref_saturate_int8((double)ref_widen(REF_FP16, ref_narrow(REF_FP16, (double)quotient)));
}

static float group_scale(const float *values, int64_t elems)
{
    const float inverse = 1.0f / 127.0f;
    float maximum = 0.0f;
    for (int64_t h = 0; h < elems; h++) {
        maximum = larger(maximum, values[h]);
    }
    return maximum * inverse;
}

void ref_group8_row(enum ref_format format, uint16_t *dst, const uint16_t *src, int64_t elems)
{
    for (int64_t start = 0; start < elems; start += 8) {
        int64_t count = elems - start < 8 ? elems - start : 8;
        float values[8];
        for (int64_t h = 0; h < count; h++) {
            values[h] = ref_widen(format, src[start + h]);
        }
        float scale = group_scale(values, count);
        float stored = ref_widen(format, ref_narrow(format, (double)scale));
        for (int64_t h = 0; h < count; h++) {
            float product = (float)group_code(values[h], scale) * stored;
            dst[start + h] = ref_narrow(format, (double)product);
        }
    }
}

void ref_tp_sum_row(enum ref_format format, uint16_t *dst, const uint16_t *a, const uint16_t *b, int64_t elems)
{
    for (int64_t h = 0; h < elems; h++) {
        float left = ref_widen(format, a[h]);
        float right = ref_widen(format, b[h]);
        if (format == REF_FP16) {
            dst[h] = ref_narrow(REF_FP16, (double)left + (double)right); /* exact in double: one rounding */
        } else {
            float sum = left + right;
            dst[h] = ref_bf16_half_away((double)sum);
        }
    }
}

void ref_add_weighted_row(enum ref_format format, float *acc, const uint16_t *row, float weight, int64_t elems)
{
    for (int64_t h = 0; h < elems; h++) {
        float product = ref_widen(format, row[h]) * weight;
        acc[h] = acc[h] + product;
    }
}

static void add_transported_bf16(float *sum, const float *acc, int64_t elems)
{
    for (int64_t start = 0; start < elems; start += 8) {
        int64_t count = elems - start < 8 ? elems - start : 8;
        float scale = group_scale(acc + start, count);
        float stored = ref_widen(REF_BF16, ref_narrow(REF_BF16, (double)scale));
        for (int64_t h = start; h < start + count; h++) {
            float product = (float)group_code(acc[h], scale) * stored;
            sum[h] = sum[h] + product;
        }
    }
}

/* Rounds to fp16 and back: products, quotients and sums of fp16 values are exact enough in double for one rounding. */
static double half(double value)
{
    return (double)ref_widen(REF_FP16, ref_narrow(REF_FP16, value));
}

static void add_transported_fp16(float *sum, const float *acc, int64_t elems)
{
    const double inverse = half(1.0 / 127.0);
    for (int64_t start = 0; start < elems; start += 16) {
        int64_t end = elems - start < 16 ? elems : start + 16;
        float maximum = 0.0f;
        for (int64_t h = start; h < end; h++) {
            maximum = larger(maximum, (float)half((double)acc[h]));
        }
        double scale = half((double)maximum * inverse);
        for (int64_t h = start; h < end; h++) {
            int8_t code = ref_saturate_int8(half(half((double)acc[h]) / scale));
            double product = half((double)code * scale);
            sum[h] = (float)half(half((double)sum[h]) + product);
        }
    }
}

void ref_add_partial_row(enum ref_format format, bool comm_quantize, float *sum, const float *acc, int64_t elems)
{
    if (comm_quantize && format == REF_FP16) {
        add_transported_fp16(sum, acc, elems);
        return;
    }
    if (comm_quantize) {
        add_transported_bf16(sum, acc, elems);
        return;
    }
    for (int64_t h = 0; h < elems; h++) {
        float partial = ref_widen(format, ref_narrow(format, (double)acc[h]));
        sum[h] = sum[h] + partial;
    }
}
