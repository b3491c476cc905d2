#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* Elements of one step of each pass; the last step of a row overlaps the one before. */
#define SCAN_ELEMS  32
#define STORE_ELEMS 64
/* The scan fetches this far ahead: a new page stops the processor's own fetching. */
#define AHEAD_ELEMS 1536
#define INLINE      static inline __attribute__((always_inline))

INLINE __m512 widen(enum epx_row_format format, const uint16_t *src)
{
    __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)src);
    if (format == EPX_ROW_FP16) {
        return _mm512_cvtph_ps(bits);
    }
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* smooth must be a constant null at the call where there is none. */
INLINE __m512 smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t at)
{
    __m512 value = widen(format, src + at);
    return smooth != NULL ? _mm512_mul_ps(value, _mm512_loadu_ps(smooth + at)) : value;
}

INLINE uint32_t reduce_max_u16(__m512i values)
{
    __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(values), _mm512_extracti64x4_epi64(values, 1));
    __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    __m128i inverted = _mm_xor_si128(quarter, _mm_set1_epi16(-1));
    return ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(inverted)) & 0xFFFFu;
}

/* Fetches 32 elements further on in the row, if there are any. */
INLINE void fetch_ahead(const uint16_t *src, size_t i, size_t distance, size_t elems)
{
    _mm_prefetch((const char *)(src + (i + distance < elems ? i + distance : i)), _MM_HINT_T0);
}

/* The magnitude bits of both 16-bit formats order the magnitudes, NaNs last: no conversion is needed. elems >= 32. */
static uint16_t max_magnitude_bits(const uint16_t *src, size_t elems)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7FFF);
    __m512i max_a = _mm512_setzero_si512();
    __m512i max_b = max_a;
    size_t i = 0;
    for (; i + 4 * SCAN_ELEMS <= elems; i += 4 * SCAN_ELEMS) {
        fetch_ahead(src, i, AHEAD_ELEMS, elems);
        fetch_ahead(src, i + 32, AHEAD_ELEMS, elems);
        fetch_ahead(src, i + 64, AHEAD_ELEMS, elems);
        fetch_ahead(src, i + 96, AHEAD_ELEMS, elems);
        __m512i a = _mm512_and_si512(_mm512_loadu_si512(src + i), magnitude);
        __m512i b = _mm512_and_si512(_mm512_loadu_si512(src + i + SCAN_ELEMS), magnitude);
        __m512i c = _mm512_and_si512(_mm512_loadu_si512(src + i + 2 * SCAN_ELEMS), magnitude);
        __m512i d = _mm512_and_si512(_mm512_loadu_si512(src + i + 3 * SCAN_ELEMS), magnitude);
        max_a = _mm512_max_epu16(max_a, _mm512_max_epu16(a, b));
        max_b = _mm512_max_epu16(max_b, _mm512_max_epu16(c, d));
    }
    for (; i < elems; i += SCAN_ELEMS) {
        size_t at = i + SCAN_ELEMS <= elems ? i : elems - SCAN_ELEMS;
        max_a = _mm512_max_epu16(max_a, _mm512_and_si512(_mm512_loadu_si512(src + at), magnitude));
    }
    return (uint16_t)reduce_max_u16(_mm512_max_epu16(max_a, max_b));
}

INLINE float max_magnitude_smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t elems)
{
    /* Slower than the scan without scales: a short row is worth fetching sooner. */
    const size_t distance = elems / 2 < AHEAD_ELEMS ? elems / 2 : AHEAD_ELEMS;
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i max_a = _mm512_setzero_si512();
    __m512i max_b = max_a;
    for (size_t i = 0; i < elems; i += SCAN_ELEMS) {
        size_t at = i + SCAN_ELEMS <= elems ? i : elems - SCAN_ELEMS;
        fetch_ahead(src, i, distance, elems);
        __m512i a = _mm512_castps_si512(smoothed(format, src, smooth, at));
        __m512i b = _mm512_castps_si512(smoothed(format, src, smooth, at + SCAN_ELEMS / 2));
        max_a = _mm512_max_epi32(max_a, _mm512_and_si512(a, magnitude));
        max_b = _mm512_max_epi32(max_b, _mm512_and_si512(b, magnitude));
    }
    return epx_fp32_from_bits((uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(max_a, max_b)));
}

/* elems >= STORE_ELEMS; factor finite and positive, so that every product is finite and below 128. */
INLINE void store_quotients(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                            size_t elems, float factor)
{
    const __m512 factors = _mm512_set1_ps(factor);
    /* The packs work inside lanes of 16 bytes; this puts groups of 4 int8 back in order. */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (size_t i = 0; i < elems; i += STORE_ELEMS) {
        size_t at = i + STORE_ELEMS <= elems ? i : elems - STORE_ELEMS;
        __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(smoothed(format, src, smooth, at), factors));
        __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(smoothed(format, src, smooth, at + 16), factors));
        __m512i c = _mm512_cvtps_epi32(_mm512_mul_ps(smoothed(format, src, smooth, at + 32), factors));
        __m512i d = _mm512_cvtps_epi32(_mm512_mul_ps(smoothed(format, src, smooth, at + 48), factors));
        __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        _mm512_storeu_si512(dst + at, _mm512_permutexvar_epi32(order, bytes));
    }
}

INLINE float quantize_row(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                          size_t elems)
{
    float max;
    if (smooth != NULL) {
        max = max_magnitude_smoothed(format, src, smooth, elems);
    } else {
        uint16_t bits = max_magnitude_bits(src, elems);
        max = format == EPX_ROW_FP16 ? _cvtsh_ss(bits) : epx_fp32_from_bf16(bits);
    }
    float factor = 127.0f / max;
    if (factor > 0.0f && factor < INFINITY) {
        store_quotients(format, dst, src, smooth, elems, factor);
        return 1.0f / factor;
    }
    if (factor > 0.0f && max > 0.0f) { /* tiny values: the factor overflows, the quotients saturate */
        return format == EPX_ROW_FP16 ? epx_quantize_row_fp16_i8__ref(dst, src, smooth, elems)
                                      : epx_quantize_row_bf16_i8__ref(dst, src, smooth, elems);
    }
    /* A row of zeros, or one with an infinity or a NaN: every quotient is 0 or NaN. */
    memset(dst, 0, elems);
    return max != max ? epx_fp32_from_bits(EPX_FP32_NAN) : 1.0f / factor;
}

float epx_quantize_row_fp16_i8__avx512(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STORE_ELEMS) {
        return epx_quantize_row_fp16_i8__avx2(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_FP16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_FP16, dst, src, NULL, elems);
}

float epx_quantize_row_bf16_i8__avx512(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STORE_ELEMS) {
        return epx_quantize_row_bf16_i8__avx2(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_BF16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_BF16, dst, src, NULL, elems);
}
