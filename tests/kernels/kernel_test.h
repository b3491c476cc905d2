/*
 * What the kernel tests share: numbers made from the definition of the formats through double arithmetic (nothing of
 * src/ is used for expected values), rows between unmapped pages, and one test for each instruction set.
 */
#ifndef EPX_TESTS_KERNEL_TEST_H
#define EPX_TESTS_KERNEL_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/kernel.h"

#define HIDDEN_ELEMS 7168
#define GUARD_BYTE   0xA5

/* Row lengths that every kernel is tested with: 0 .. SHORT_MAX and HIDDEN_ELEMS. */
#define SHORT_MAX    300
#define LENGTH_COUNT (SHORT_MAX + 2)

static inline size_t length_at(size_t index)
{
    return index < LENGTH_COUNT - 1 ? index : HIDDEN_ELEMS;
}

/* ---- numbers ---- */

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct number_format {
    int digits;       /* of the significand, hidden one included */
    int min_exponent; /* of the smallest normal number 2^min_exponent */
    int max_exponent;
};

static inline struct number_format number_format_of(enum epx_row_format format)
{
    const struct number_format fp16 = {11, -14, 15};
    const struct number_format bf16 = {8, -126, 127};
    return format == EPX_ROW_FP16 ? fp16 : bf16;
}

static inline uint16_t infinity_bits(enum epx_row_format format)
{
    return format == EPX_ROW_FP16 ? 0x7C00 : 0x7F80;
}

static inline uint16_t nan_bits(enum epx_row_format format)
{
    return format == EPX_ROW_FP16 ? 0x7E00 : 0x7FC0;
}

static inline float expect_widen(enum epx_row_format format, uint16_t bits)
{
    struct number_format f = number_format_of(format);
    int magnitude = bits & 0x7FFF;
    int fraction = magnitude & ((1 << (f.digits - 1)) - 1);
    int exponent = magnitude >> (f.digits - 1);
    double value;
    if (magnitude > infinity_bits(format)) {
        value = (double)NAN;
    } else if (magnitude == infinity_bits(format)) {
        value = (double)INFINITY;
    } else if (exponent == 0) {
        value = ldexp(fraction, f.min_exponent - f.digits + 1);
    } else {
        value = ldexp(fraction + (1 << (f.digits - 1)), f.min_exponent + exponent - 1 - f.digits + 1);
    }
    return (float)((bits & 0x8000) != 0 ? -value : value);
}

/* Multiples of the last digit's value in `value`, rounded by `round_whole`; then the number as bits. */
static inline uint16_t narrow_with(enum epx_row_format format, float value, double (*round_whole)(double))
{
    struct number_format f = number_format_of(format);
    if (isnan(value)) {
        return nan_bits(format);
    }
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double magnitude = fabs((double)value);
    if (magnitude == 0) {
        return sign;
    }
    if (isinf(magnitude)) {
        return (uint16_t)(sign | infinity_bits(format));
    }
    int exponent = ilogb(magnitude);
    exponent = exponent < f.min_exponent ? f.min_exponent : exponent;
    double steps = round_whole(ldexp(magnitude, f.digits - 1 - exponent));
    if (steps == ldexp(1, f.digits)) {
        steps = ldexp(1, f.digits - 1);
        exponent++;
    }
    if (exponent > f.max_exponent) {
        return (uint16_t)(sign | infinity_bits(format));
    }
    int hidden = 1 << (f.digits - 1);
    int field = (int)steps < hidden ? 0 : exponent - f.min_exponent + 1;
    int fraction = (int)steps < hidden ? (int)steps : (int)steps - hidden;
    return (uint16_t)(sign | (field << (f.digits - 1)) | fraction);
}

/* To nearest even. */
static inline uint16_t expect_narrow(enum epx_row_format format, float value)
{
    return narrow_with(format, value, nearbyint);
}

/* A double has more than twice the digits of a float: rounding its result again gives the correctly rounded one. */
static inline float expect_product(float a, float b)
{
    return (float)((double)a * (double)b);
}

static inline float expect_sum(float a, float b)
{
    return (float)((double)a + (double)b);
}

static inline float expect_quotient(float a, float b)
{
    return (float)((double)a / (double)b);
}

static inline float expect_canonical(float value)
{
    return isnan(value) ? float_of(0x7FC00000) : value;
}

static inline int8_t expect_int8(float value)
{
    if (isnan(value)) {
        return 0;
    }
    double whole = nearbyint((double)value);
    return (int8_t)fmax(-128, fmin(127, whole));
}

/* ---- random rows ---- */

static inline uint64_t random_next(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Finite, magnitude about 2^centre times 2^(+-spread), any sign. */
static inline float random_float(uint64_t *state, int centre, int spread)
{
    uint64_t r = random_next(state);
    double fraction = 1.0 + (double)(r & 0x7FFFFF) / 0x800000;
    int exponent = centre + (int)((r >> 32) % (uint64_t)(2 * spread + 1)) - spread;
    double value = ldexp(fraction, exponent);
    return (float)((r >> 63) != 0 ? -value : value);
}

static inline void random_row(enum epx_row_format format, uint16_t *row, size_t elems, uint64_t *state, int centre,
                              int spread)
{
    for (size_t h = 0; h < elems; h++) {
        row[h] = expect_narrow(format, random_float(state, centre, spread));
    }
}

/* ---- rows between unmapped pages ---- */

struct fence {
    uint8_t *start; /* first usable byte: the page before it is unmapped */
    size_t bytes;   /* usable, a multiple of the page size: the page after it is unmapped */
};

static inline struct fence fence_create(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct fence fence = {NULL, (bytes + page - 1) / page * page};
    uint8_t *map = mmap(NULL, fence.bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    fence.start = map + page;
    assert_int_equal(mprotect(fence.start, fence.bytes, PROT_READ | PROT_WRITE), 0);
    memset(fence.start, GUARD_BYTE, fence.bytes);
    return fence;
}

static inline void fence_destroy(struct fence *fence)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(munmap(fence->start - page, fence->bytes + 2 * page), 0);
}

/* Where a row of `bytes` lies: `offset` from the first byte, or (from_end) so that `offset` bytes follow it. */
static inline void *fence_place(const struct fence *fence, size_t bytes, bool from_end, size_t offset)
{
    assert_true(bytes + offset <= fence->bytes);
    return from_end ? fence->start + fence->bytes - bytes - offset : fence->start + offset;
}

/* Every byte outside the row is still a guard byte; they all are again afterwards. */
static inline void fence_check(struct fence *fence, const void *row, size_t bytes)
{
    size_t before = (size_t)((const uint8_t *)row - fence->start);
    for (size_t i = 0; i < fence->bytes; i++) {
        if (i == before) {
            i += bytes;
        }
        if (i < fence->bytes && fence->start[i] != GUARD_BYTE) {
            fail_msg("byte %td of a row of %zu was written", (ptrdiff_t)i - (ptrdiff_t)before, bytes);
        }
    }
    memset(fence->start, GUARD_BYTE, fence->bytes);
}

/* ---- a test for each instruction set ---- */

static inline const struct epx_kernel_table *table_or_skip(void **state)
{
    const struct epx_kernel_table *table = epx_kernels_by_name(*state);
    if (table == NULL) {
        skip();
    }
    assert_string_equal(table->isa, *state);
    return table;
}

#define ONE_VARIANT(test, isa)                                                                                         \
    {                                                                                                                  \
#test "__" isa, test, NULL, NULL, (void *)isa                                                                  \
    }
#define EACH_VARIANT(test)                                                                                             \
    ONE_VARIANT(test, "ref"), ONE_VARIANT(test, "avx2"), ONE_VARIANT(test, "avx512"), ONE_VARIANT(test, "neon")

#endif
