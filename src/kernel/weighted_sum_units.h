/*
 * The weighted sum in units of vectors, for the files of the x86 instruction sets: what differs between them stands in
 * each before it includes this file:
 *   UNIT_ELEMS         elements of a unit: a line of the cache or a part of it
 *   INLINE             of a function that is always inlined
 *   struct unit        the fp32 values of a unit
 *   unit_load, unit_store, unit_zero, unit_add
 *   unit_add_weighted  sum + value * weight, product and sum rounded each
 */
#ifndef EPX_KERNEL_WEIGHTED_SUM_UNITS_H
#define EPX_KERNEL_WEIGHTED_SUM_UNITS_H

#include "kernel/fetch_distance.h"
#include "kernel/variants.h"

#include <stdbool.h>
#include <string.h>

/* A strip of columns keeps its sums in registers while the rows are added to it. */
#define STRIP_ELEMS (4 * UNIT_ELEMS)
#define LINE_ELEMS  32

_Static_assert(LINE_ELEMS % UNIT_ELEMS == 0, "a line is made of whole units");

/* Elements from p to the next line, 0 when it begins one. */
INLINE size_t elems_to_line(const uint16_t *p)
{
    return (size_t)(-(uintptr_t)p & 63) / sizeof *p;
}

/* Columns at .. at + UNIT_ELEMS, written to dst. */
INLINE void sum_unit(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                     const float *weights, size_t row_count, const uint16_t *plain_row, size_t at)
{
    struct unit sum = unit_zero();
    for (size_t i = 0; i < row_count; i++) {
        sum = unit_add_weighted(sum, unit_load(format, rows[i] + at), weights[i]);
    }
    if (plain_row != NULL) {
        sum = unit_add(sum, unit_load(format, plain_row + at));
    }
    unit_store(format, streaming, dst, sum);
}

INLINE void fetch_strip(const uint16_t *row)
{
    for (size_t i = 0; i < STRIP_ELEMS; i += LINE_ELEMS) {
        __builtin_prefetch(row + i);
    }
}

/* Four units at once: named variables, since compilers keep an array of them in memory. */
INLINE void sum_strip(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                      const float *weights, size_t row_count, const uint16_t *plain_row, size_t at, size_t fetch_at)
{
    struct unit sum0 = unit_zero();
    struct unit sum1 = unit_zero();
    struct unit sum2 = unit_zero();
    struct unit sum3 = unit_zero();
    for (size_t i = 0; i < row_count; i++) {
        const uint16_t *row = rows[i] + at;
        fetch_strip(rows[i] + fetch_at);
        float weight = weights[i];
        sum0 = unit_add_weighted(sum0, unit_load(format, row), weight);
        sum1 = unit_add_weighted(sum1, unit_load(format, row + UNIT_ELEMS), weight);
        sum2 = unit_add_weighted(sum2, unit_load(format, row + 2 * UNIT_ELEMS), weight);
        sum3 = unit_add_weighted(sum3, unit_load(format, row + 3 * UNIT_ELEMS), weight);
    }
    if (plain_row != NULL) {
        fetch_strip(plain_row + fetch_at);
        sum0 = unit_add(sum0, unit_load(format, plain_row + at));
        sum1 = unit_add(sum1, unit_load(format, plain_row + at + UNIT_ELEMS));
        sum2 = unit_add(sum2, unit_load(format, plain_row + at + 2 * UNIT_ELEMS));
        sum3 = unit_add(sum3, unit_load(format, plain_row + at + 3 * UNIT_ELEMS));
    }
    unit_store(format, streaming, dst, sum0);
    unit_store(format, streaming, dst + UNIT_ELEMS, sum1);
    unit_store(format, streaming, dst + 2 * UNIT_ELEMS, sum2);
    unit_store(format, streaming, dst + 3 * UNIT_ELEMS, sum3);
}

/* The strips from column i on; returns the column after them. */
INLINE size_t sum_strips(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                         const float *weights, size_t row_count, const uint16_t *plain_row, size_t elems, size_t i)
{
    size_t distance = epx_fetch_distance(row_count, elems);
    for (size_t at = i + STRIP_ELEMS; at < i + distance && at + STRIP_ELEMS <= elems; at += STRIP_ELEMS) {
        for (size_t k = 0; k < row_count; k++) {
            fetch_strip(rows[k] + at);
        }
    }
    for (; i + STRIP_ELEMS <= elems; i += STRIP_ELEMS) {
        size_t fetch_at = i + distance + STRIP_ELEMS <= elems ? i + distance : i;
        sum_strip(format, streaming, dst + i, rows, weights, row_count, plain_row, i, fetch_at);
    }
    return i;
}

/* elems >= UNIT_ELEMS. The last unit overlaps the one before. */
INLINE void weighted_sum_row(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows,
                             const float *weights, size_t row_count, const uint16_t *plain_row, size_t elems)
{
    for (size_t i = sum_strips(format, false, dst, rows, weights, row_count, plain_row, elems, 0); i < elems;
         i += UNIT_ELEMS) {
        size_t at = i + UNIT_ELEMS <= elems ? i : elems - UNIT_ELEMS;
        sum_unit(format, false, dst + at, rows, weights, row_count, plain_row, at);
    }
}

INLINE void sum_line(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                     const float *weights, size_t row_count, const uint16_t *plain_row, size_t at)
{
    for (size_t i = 0; i < LINE_ELEMS; i += UNIT_ELEMS) {
        sum_unit(format, streaming, dst + i, rows, weights, row_count, plain_row, at + i);
    }
}

/* elems >= LINE_ELEMS. Only whole lines are streamed, the elements before and after them are stored plainly. */
INLINE void weighted_sum_row_streaming(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows,
                                       const float *weights, size_t row_count, const uint16_t *plain_row, size_t elems)
{
    uint16_t edge[LINE_ELEMS];
    size_t i = elems_to_line(dst);
    if (i != 0) {
        sum_line(format, false, edge, rows, weights, row_count, plain_row, 0);
        memcpy(dst, edge, i * sizeof *dst);
    }
    i = sum_strips(format, true, dst, rows, weights, row_count, plain_row, elems, i);
    for (; i + LINE_ELEMS <= elems; i += LINE_ELEMS) {
        sum_line(format, true, dst + i, rows, weights, row_count, plain_row, i);
    }
    if (i < elems) {
        sum_line(format, false, edge, rows, weights, row_count, plain_row, elems - LINE_ELEMS);
        memcpy(dst + i, edge + LINE_ELEMS - (elems - i), (elems - i) * sizeof *dst);
    }
}

/* The functions of an instruction set; rows too short for it go to the `narrower` one. */
#define WEIGHTED_SUM_FUNCTIONS(isa, narrower, name, format)                                                            \
    void epx_weighted_sum_row_##name##__##isa(uint16_t *dst, const uint16_t *const *rows, const float *weights,        \
                                              size_t row_count, const uint16_t *plain_row, size_t elems)               \
    {                                                                                                                  \
        if (elems < UNIT_ELEMS) {                                                                                      \
            epx_weighted_sum_row_##name##__##narrower(dst, rows, weights, row_count, plain_row, elems);                \
            return;                                                                                                    \
        }                                                                                                              \
        weighted_sum_row(format, dst, rows, weights, row_count, plain_row, elems);                                     \
    }                                                                                                                  \
                                                                                                                       \
    void epx_weighted_sum_row_streaming_##name##__##isa(uint16_t *dst, const uint16_t *const *rows,                    \
                                                        const float *weights, size_t row_count,                        \
                                                        const uint16_t *plain_row, size_t elems)                       \
    {                                                                                                                  \
        if (elems < LINE_ELEMS) {                                                                                      \
            epx_weighted_sum_row_##name##__##isa(dst, rows, weights, row_count, plain_row, elems);                     \
            return;                                                                                                    \
        }                                                                                                              \
        weighted_sum_row_streaming(format, dst, rows, weights, row_count, plain_row, elems);                           \
    }

#endif
