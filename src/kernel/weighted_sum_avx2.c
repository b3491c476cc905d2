#include "base/float16.h"
#include "kernel/fetch_distance.h"
#include "kernel/variants.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

/* A strip of columns keeps its sums in registers while the rows are added to it. */
#define UNIT_ELEMS  16
#define STRIP_ELEMS (4 * UNIT_ELEMS)
#define LINE_ELEMS  (2 * UNIT_ELEMS)
#define INLINE      static inline __attribute__((always_inline))

/* Elements from p to the next line, 0 when it begins one. */
INLINE size_t elems_to_line(const uint16_t *p)
{
    return (size_t)(-(uintptr_t)p & 63) / sizeof *p;
}

/* 16 elements. bf16: those with even, those with odd index; fp16: the first, the second half. */
struct unit {
    __m256 a;
    __m256 b;
};

INLINE struct unit unit_load(enum epx_row_format format, const uint16_t *src)
{
    struct unit unit;
    if (format == EPX_ROW_FP16) {
        unit.a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)src));
        unit.b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(src + 8)));
    } else {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)src);
        unit.a = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
        unit.b = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xFFFF0000u)));
    }
    return unit;
}

INLINE __m256 canonical(__m256 value)
{
    __m256 is_nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_ps(value, _mm256_castsi256_ps(_mm256_set1_epi32((int)EPX_FP32_NAN)), is_nan);
}

/* To nearest even, in the upper 16 bits of each element; those below are not cleared. */
INLINE __m256i bf16_round(__m256 value)
{
    __m256i bits = _mm256_castps_si256(value);
    __m256i is_odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), is_odd);
    __m256 is_nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32((int)EPX_FP32_NAN), _mm256_castps_si256(is_nan));
}

INLINE __m128i narrow_fp16(__m256 value)
{
    return _mm256_cvtps_ph(canonical(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m256i unit_pack(enum epx_row_format format, struct unit unit)
{
    if (format == EPX_ROW_FP16) {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(narrow_fp16(unit.a)), narrow_fp16(unit.b), 1);
    }
    return _mm256_blend_epi16(_mm256_srli_epi32(bf16_round(unit.a), 16), bf16_round(unit.b), 0xAA);
}

/* streaming: dst begins a line or its second half. */
INLINE void unit_store(enum epx_row_format format, bool streaming, uint16_t *dst, struct unit unit)
{
    if (streaming) {
        _mm256_stream_si256((__m256i *)(void *)dst, unit_pack(format, unit));
    } else {
        _mm256_storeu_si256((__m256i *)(void *)dst, unit_pack(format, unit));
    }
}

INLINE struct unit unit_zero(void)
{
    struct unit unit = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    return unit;
}

/* Product and sum are rounded each. */
INLINE struct unit unit_add_weighted(struct unit sum, struct unit value, __m256 weight)
{
    sum.a = _mm256_add_ps(sum.a, _mm256_mul_ps(value.a, weight));
    sum.b = _mm256_add_ps(sum.b, _mm256_mul_ps(value.b, weight));
    return sum;
}

INLINE struct unit unit_add(struct unit sum, struct unit value)
{
    sum.a = _mm256_add_ps(sum.a, value.a);
    sum.b = _mm256_add_ps(sum.b, value.b);
    return sum;
}

/* Columns at .. at + UNIT_ELEMS, written to dst. */
INLINE void sum_unit(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                     const float *weights, size_t row_count, const uint16_t *plain_row, size_t at)
{
    struct unit sum = unit_zero();
    for (size_t i = 0; i < row_count; i++) {
        sum = unit_add_weighted(sum, unit_load(format, rows[i] + at), _mm256_set1_ps(weights[i]));
    }
    if (plain_row != NULL) {
        sum = unit_add(sum, unit_load(format, plain_row + at));
    }
    unit_store(format, streaming, dst, sum);
}

INLINE void fetch_strip(const uint16_t *row)
{
    _mm_prefetch((const char *)row, _MM_HINT_T0);
    _mm_prefetch((const char *)(row + 32), _MM_HINT_T0);
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
        __m256 weight = _mm256_set1_ps(weights[i]);
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

INLINE void sum_line(enum epx_row_format format, bool streaming, uint16_t *dst, const uint16_t *const *rows,
                     const float *weights, size_t row_count, const uint16_t *plain_row, size_t at)
{
    sum_unit(format, streaming, dst, rows, weights, row_count, plain_row, at);
    sum_unit(format, streaming, dst + UNIT_ELEMS, rows, weights, row_count, plain_row, at + UNIT_ELEMS);
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

void epx_weighted_sum_row_fp16__avx2(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                     const uint16_t *plain_row, size_t elems)
{
    if (elems < UNIT_ELEMS) {
        epx_weighted_sum_row_fp16__ref(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row(EPX_ROW_FP16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_bf16__avx2(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                     const uint16_t *plain_row, size_t elems)
{
    if (elems < UNIT_ELEMS) {
        epx_weighted_sum_row_bf16__ref(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row(EPX_ROW_BF16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_fp16__avx2(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                               size_t row_count, const uint16_t *plain_row, size_t elems)
{
    if (elems < LINE_ELEMS) {
        epx_weighted_sum_row_fp16__avx2(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row_streaming(EPX_ROW_FP16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_bf16__avx2(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                               size_t row_count, const uint16_t *plain_row, size_t elems)
{
    if (elems < LINE_ELEMS) {
        epx_weighted_sum_row_bf16__avx2(dst, rows, weights, row_count, plain_row, elems);
        return;
    }
    weighted_sum_row_streaming(EPX_ROW_BF16, dst, rows, weights, row_count, plain_row, elems);
}
