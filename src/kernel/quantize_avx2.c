#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* Elements of one step of each pass; the last step of a row overlaps the one before. */
#define SCAN_ELEMS  16
#define STORE_ELEMS 32
/* The scan fetches this far ahead: a new page stops the processor's own fetching. */
#define AHEAD_ELEMS 1024
#define INLINE      static inline __attribute__((always_inline))

INLINE __m256i load(const void *src)
{
    return _mm256_loadu_si256((const __m256i *)src);
}

INLINE __m256 widen(enum epx_row_format format, const uint16_t *src)
{
    __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)src);
    if (format == EPX_ROW_FP16) {
        return _mm256_cvtph_ps(bits);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/* smooth must be a constant null at the call where there is none. */
INLINE __m256 smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t at)
{
    __m256 value = widen(format, src + at);
    return smooth != NULL ? _mm256_mul_ps(value, _mm256_loadu_ps(smooth + at)) : value;
}

INLINE uint32_t reduce_max_u16(__m256i values)
{
    __m128i half = _mm_max_epu16(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    __m128i inverted = _mm_xor_si128(half, _mm_set1_epi16(-1));
    return ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(inverted)) & 0xFFFFu;
}

INLINE uint32_t reduce_max_i32(__m256i values)
{
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(half);
}

/* Fetches 32 elements further on in the row, if there are any. */
INLINE void fetch_ahead(const uint16_t *src, size_t i, size_t elems)
{
    _mm_prefetch((const char *)(src + (i + AHEAD_ELEMS < elems ? i + AHEAD_ELEMS : i)), _MM_HINT_T0);
}

/* The magnitude bits of both 16-bit formats order the magnitudes, NaNs last: no conversion is needed. elems >= 16. */
static uint16_t max_magnitude_bits(const uint16_t *src, size_t elems)
{
    const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
    __m256i max_a = _mm256_setzero_si256();
    __m256i max_b = max_a;
    size_t i = 0;
    for (; i + 4 * SCAN_ELEMS <= elems; i += 4 * SCAN_ELEMS) {
        fetch_ahead(src, i, elems);
        fetch_ahead(src, i + 32, elems);
        __m256i a = _mm256_and_si256(load(src + i), magnitude);
        __m256i b = _mm256_and_si256(load(src + i + SCAN_ELEMS), magnitude);
        __m256i c = _mm256_and_si256(load(src + i + 2 * SCAN_ELEMS), magnitude);
        __m256i d = _mm256_and_si256(load(src + i + 3 * SCAN_ELEMS), magnitude);
        max_a = _mm256_max_epu16(max_a, _mm256_max_epu16(a, b));
        max_b = _mm256_max_epu16(max_b, _mm256_max_epu16(c, d));
    }
    for (; i < elems; i += SCAN_ELEMS) {
        size_t at = i + SCAN_ELEMS <= elems ? i : elems - SCAN_ELEMS;
        max_a = _mm256_max_epu16(max_a, _mm256_and_si256(load(src + at), magnitude));
    }
    return (uint16_t)reduce_max_u16(_mm256_max_epu16(max_a, max_b));
}

INLINE float max_magnitude_smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t elems)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i max_a = _mm256_setzero_si256();
    __m256i max_b = max_a;
    for (size_t i = 0; i < elems; i += SCAN_ELEMS) {
        size_t at = i + SCAN_ELEMS <= elems ? i : elems - SCAN_ELEMS;
        fetch_ahead(src, i, elems);
        __m256i a = _mm256_castps_si256(smoothed(format, src, smooth, at));
        __m256i b = _mm256_castps_si256(smoothed(format, src, smooth, at + SCAN_ELEMS / 2));
        max_a = _mm256_max_epi32(max_a, _mm256_and_si256(a, magnitude));
        max_b = _mm256_max_epi32(max_b, _mm256_and_si256(b, magnitude));
    }
    return epx_fp32_from_bits(reduce_max_i32(_mm256_max_epi32(max_a, max_b)));
}

/* elems >= STORE_ELEMS; factor finite and positive, so that every product is finite and below 128. */
INLINE void store_quotients(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                            size_t elems, float factor)
{
    const __m256 factors = _mm256_set1_ps(factor);
    /* The packs work inside lanes of 16 bytes; this puts groups of 4 int8 back in order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t i = 0; i < elems; i += STORE_ELEMS) {
        size_t at = i + STORE_ELEMS <= elems ? i : elems - STORE_ELEMS;
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(smoothed(format, src, smooth, at), factors));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(smoothed(format, src, smooth, at + 8), factors));
        __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(smoothed(format, src, smooth, at + 16), factors));
        __m256i d = _mm256_cvtps_epi32(_mm256_mul_ps(smoothed(format, src, smooth, at + 24), factors));
        __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        _mm256_storeu_si256((__m256i *)(void *)(dst + at), _mm256_permutevar8x32_epi32(bytes, order));
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

float epx_quantize_row_fp16_i8__avx2(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STORE_ELEMS) {
        return epx_quantize_row_fp16_i8__ref(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_FP16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_FP16, dst, src, NULL, elems);
}

float epx_quantize_row_bf16_i8__avx2(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    if (elems < STORE_ELEMS) {
        return epx_quantize_row_bf16_i8__ref(dst, src, smooth, elems);
    }
    return smooth != NULL ? quantize_row(EPX_ROW_BF16, dst, src, smooth, elems)
                          : quantize_row(EPX_ROW_BF16, dst, src, NULL, elems);
}
