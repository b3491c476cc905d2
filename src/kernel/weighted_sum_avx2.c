#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>
#include <stdbool.h>

#define UNIT_ELEMS 16
#define INLINE     static inline __attribute__((always_inline))

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
INLINE struct unit unit_add_weighted(struct unit sum, struct unit value, float weight)
{
    __m256 factor = _mm256_set1_ps(weight);
    sum.a = _mm256_add_ps(sum.a, _mm256_mul_ps(value.a, factor));
    sum.b = _mm256_add_ps(sum.b, _mm256_mul_ps(value.b, factor));
    return sum;
}

INLINE struct unit unit_add(struct unit sum, struct unit value)
{
    sum.a = _mm256_add_ps(sum.a, value.a);
    sum.b = _mm256_add_ps(sum.b, value.b);
    return sum;
}

#include "kernel/weighted_sum_units.h"

WEIGHTED_SUM_FUNCTIONS(avx2, ref, fp16, EPX_ROW_FP16)
WEIGHTED_SUM_FUNCTIONS(avx2, ref, bf16, EPX_ROW_BF16)
