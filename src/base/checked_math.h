/*
 * Arithmetic on sizes that cannot wrap: each returns false and leaves *out alone when the result does not fit or an
 * operand is negative.
 */
#ifndef EPX_BASE_CHECKED_MATH_H
#define EPX_BASE_CHECKED_MATH_H

#include <stdbool.h>
#include <stdint.h>

static inline bool epx_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t result;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result)) {
        return false;
    }
    *out = result;
    return true;
}

static inline bool epx_add_i64(int64_t a, int64_t b, int64_t *out)
{
    int64_t result;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &result)) {
        return false;
    }
    *out = result;
    return true;
}

/* a * b + c */
static inline bool epx_mul_add_i64(int64_t a, int64_t b, int64_t c, int64_t *out)
{
    int64_t product;
    return epx_mul_i64(a, b, &product) && epx_add_i64(product, c, out);
}

/* `value` rounded up to a multiple of `multiple` (a power of two). */
static inline bool epx_round_up_u64(uint64_t value, uint64_t multiple, uint64_t *out)
{
    uint64_t result;
    if (__builtin_add_overflow(value, multiple - 1, &result)) {
        return false;
    }
    *out = result & ~(multiple - 1);
    return true;
}

static inline int64_t epx_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t epx_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
