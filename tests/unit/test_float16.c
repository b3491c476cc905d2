#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/float16.h"

#include <math.h>
#include <stdbool.h>

/* One 16-bit format, described by its widths; both have a sign bit and IEEE 754 encodings. */
struct format {
    int mantissa_bits;
    int exponent_min; /* of the smallest normal value */
    int exponent_max; /* of the largest finite value */
    uint16_t infinity;
    uint16_t nan;
};

static const struct format fp16 = {10, -14, 15, 0x7C00, EPX_FP16_NAN};
static const struct format bf16 = {7, -126, 127, 0x7F80, EPX_BF16_NAN};

/* The value of a finite encoding, by its definition. Exact in double. */
static double value_of(const struct format *format, uint16_t bits)
{
    int mantissa = bits & ((1 << format->mantissa_bits) - 1);
    int exponent = (bits & 0x7FFF) >> format->mantissa_bits;
    double magnitude = exponent == 0 ? ldexp(mantissa, format->exponent_min - format->mantissa_bits)
                                     : ldexp(mantissa + (1 << format->mantissa_bits),
                                             exponent - 1 + format->exponent_min - format->mantissa_bits);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

static bool is_nan(const struct format *format, uint16_t bits)
{
    return (bits & 0x7FFF) > format->infinity;
}

/* Nearest encoding, ties to even: the magnitude in steps of the format at that size, rounded as an integer is. */
static uint16_t slow_narrow(const struct format *format, float value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double magnitude = fabs((double)value);
    if (isnan(value)) {
        return format->nan;
    }
    if (isinf(value)) {
        return sign | format->infinity;
    }
    int exponent = magnitude > 0 ? ilogb(magnitude) : format->exponent_min;
    if (exponent < format->exponent_min) {
        exponent = format->exponent_min;
    }
    double step_count = ldexp(magnitude, format->mantissa_bits - exponent); /* exact: only the exponent changes */
    double whole = floor(step_count);
    double rest = step_count - whole;
    if (rest > 0.5 || (rest == 0.5 && fmod(whole, 2) == 1)) {
        whole += 1;
    }
    /* Steps of the lower binades count too: encodings in order are values in order. */
    double code = whole + ldexp(exponent - format->exponent_min, format->mantissa_bits);
    return sign | (code >= format->infinity ? format->infinity : (uint16_t)code);
}

static void widen__every_fp16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float widened = epx_fp32_from_fp16((uint16_t)bits);
        if (is_nan(&fp16, (uint16_t)bits)) {
            assert_true(isnan(widened));
        } else if ((bits & 0x7FFF) == 0x7C00) {
            assert_true(isinf(widened) && (signbit(widened) != 0) == (bits >> 15 != 0));
        } else {
            assert_true((double)widened == value_of(&fp16, (uint16_t)bits));
            assert_true((signbit(widened) != 0) == (bits >> 15 != 0));
        }
    }
}

static void widen__every_bf16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float widened = epx_fp32_from_bf16((uint16_t)bits);
        if (is_nan(&bf16, (uint16_t)bits)) {
            assert_true(isnan(widened));
        } else if ((bits & 0x7FFF) == 0x7F80) {
            assert_true(isinf(widened) && (signbit(widened) != 0) == (bits >> 15 != 0));
        } else {
            assert_true((double)widened == value_of(&bf16, (uint16_t)bits));
        }
    }
}

static void round_trip__every_value(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        uint16_t half = (uint16_t)bits;
        uint16_t expected = is_nan(&fp16, half) ? EPX_FP16_NAN : half;
        assert_int_equal(epx_fp16_from_fp32(epx_fp32_from_fp16(half)), expected);
        expected = is_nan(&bf16, half) ? EPX_BF16_NAN : half;
        assert_int_equal(epx_bf16_from_fp32(epx_fp32_from_bf16(half)), expected);
    }
}

static void expect_like_slow(uint32_t bits)
{
    float value = epx_fp32_from_bits(bits);
    uint16_t half = epx_fp16_from_fp32(value);
    uint16_t brain = epx_bf16_from_fp32(value);
    if (half != slow_narrow(&fp16, value) || brain != slow_narrow(&bf16, value)) {
        fail_msg("fp32 0x%08x: fp16 0x%04x expected 0x%04x, bf16 0x%04x expected 0x%04x", bits, half,
                 slow_narrow(&fp16, value), brain, slow_narrow(&bf16, value));
    }
}

/* Around every value of both formats and around every midpoint between two of them. */
static void narrow__around_values_and_ties(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7F80; bits++) {
        for (uint32_t delta = 0; delta < 5; delta++) {
            for (uint32_t sign = 0; sign <= 1; sign++) {
                expect_like_slow(((bits << 16) + 0x7FFEu + delta) | sign << 31);
                expect_like_slow(((bits << 16) - 2u + delta) | sign << 31);
            }
        }
    }
    for (uint32_t bits = 0; bits < 0x7C00; bits++) {
        float low = (float)value_of(&fp16, (uint16_t)bits);
        float high = bits == 0x7BFF ? 65536.0f : (float)value_of(&fp16, (uint16_t)(bits + 1));
        uint32_t middle = epx_bits_from_fp32(low + (high - low) / 2);
        for (uint32_t delta = 0; delta < 3; delta++) {
            expect_like_slow(middle - 1 + delta);
            expect_like_slow((middle - 1 + delta) | 0x80000000u);
        }
    }
}

/* A stride through all of fp32 that is coprime to its size. */
static void narrow__across_fp32(void **state)
{
    (void)state;
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 4000000; i++) {
        expect_like_slow(bits);
        bits += 0x9E3779B1u;
    }
}

static void narrow__known_values(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t half;
        uint16_t brain;
    } cases[] = {
        {0.0f, 0x0000, 0x0000},      {-0.0f, 0x8000, 0x8000},           {1.0f, 0x3C00, 0x3F80},
        {-2.0f, 0xC000, 0xC000},     {65504.0f, 0x7BFF, 0x4780},        {65519.99f, 0x7BFF, 0x4780},
        {65520.0f, 0x7C00, 0x4780},  {-65520.0f, 0xFC00, 0xC780},       {0x1p-24f, 0x0001, 0x3380},
        {0x1p-25f, 0x0000, 0x3300},  {0x1.000002p-25f, 0x0001, 0x3300}, {0x1.8p-24f, 0x0002, 0x33C0},
        {0x1p-14f, 0x0400, 0x3880},  {0x1.ff8p-15f, 0x03FF, 0x3880},    {0x1.ffcp-15f, 0x0400, 0x3880},
        {0x1.01p0f, 0x3C04, 0x3F80}, {0x1.03p0f, 0x3C0C, 0x3F82},       {0x1.fffffep127f, 0x7C00, 0x7F80},
        {0x1p-149f, 0x0000, 0x0000}, {INFINITY, 0x7C00, 0x7F80},        {-INFINITY, 0xFC00, 0xFF80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(epx_fp16_from_fp32(cases[i].value), cases[i].half);
        assert_int_equal(epx_bf16_from_fp32(cases[i].value), cases[i].brain);
    }
}

/* Quiet or signalling, of either sign and any payload. */
static void narrow__every_nan_is_the_positive_quiet_one(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7F800001, 0xFF800001, 0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F80FFFF};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        assert_int_equal(epx_fp16_from_fp32(epx_fp32_from_bits(nans[i])), 0x7E00);
        assert_int_equal(epx_bf16_from_fp32(epx_fp32_from_bits(nans[i])), 0x7FC0);
    }
}

/* The compiler's own half precision, where the target has it. */
static void narrow_and_widen__like_the_compiler(void **state)
{
    (void)state;
#ifdef __FLT16_MAX__
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        uint16_t half = (uint16_t)bits;
        _Float16 native;
        memcpy(&native, &half, sizeof native);
        if (!is_nan(&fp16, half)) {
            assert_true(epx_bits_from_fp32((float)native) == epx_bits_from_fp32(epx_fp32_from_fp16(half)));
        }
    }
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        float value = epx_fp32_from_bits(bits);
        _Float16 native = (_Float16)value;
        uint16_t expected;
        memcpy(&expected, &native, sizeof expected);
        if (!isnan(value)) {
            assert_int_equal(epx_fp16_from_fp32(value), expected);
        }
        bits += 0x9E3779B1u;
    }
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen__every_fp16),
        cmocka_unit_test(widen__every_bf16),
        cmocka_unit_test(round_trip__every_value),
        cmocka_unit_test(narrow__around_values_and_ties),
        cmocka_unit_test(narrow__across_fp32),
        cmocka_unit_test(narrow__known_values),
        cmocka_unit_test(narrow__every_nan_is_the_positive_quiet_one),
        cmocka_unit_test(narrow_and_widen__like_the_compiler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
