#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>
#include <stdbool.h>

#define UNIT_ELEMS 32
#define INLINE     static inline __attribute__((always_inline))

/* 32 elements. bf16: those with even, those with odd index; fp16: the first, the second half. */
struct unit {
    __m512 a;
    __m512 b;
};

INLINE struct unit unit_load(enum epx_row_format format, const uint16_t *src)
{
    struct unit unit;
    if (format == EPX_ROW_FP16) {
        unit.a = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)src));
        unit.b = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(src + 16)));
    } else {
        __m512i bits = _mm512_loadu_si512(src);
        unit.a = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
        unit.b = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xFFFF0000u)));
    }
    return unit;
}

INLINE __m512 canonical(__m512 value)
{
    __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(value, is_nan, _mm512_castsi512_ps(_mm512_set1_epi32((int)EPX_FP32_NAN)));
}

/* To nearest even, in the upper 16 bits of each element; those below are not cleared. */
INLINE __m512i bf16_round(__m512 value)
{
    __m512i bits = _mm512_castps_si512(value);
    __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), is_odd);
    __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32((int)EPX_FP32_NAN));
}

/* The masked form, since the plain one does not pass -Wconversion in gcc without optimisation. */
INLINE __m256i narrow_fp16(__m512 value)
{
    return _mm512_maskz_cvtps_ph(0xFFFF, canonical(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m512i unit_pack(enum epx_row_format format, struct unit unit)
{
    if (format == EPX_ROW_FP16) {
        return _mm512_inserti64x4(_mm512_castsi256_si512(narrow_fp16(unit.a)), narrow_fp16(unit.b), 1);
    }
    return _mm512_mask_mov_epi16(_mm512_srli_epi32(bf16_round(unit.a), 16), 0xAAAAAAAAu, bf16_round(unit.b));
}

/* streaming: dst begins a line. */
INLINE void unit_store(enum epx_row_format format, bool streaming, uint16_t *dst, struct unit unit)
{
    if (streaming) {
        _mm512_stream_si512((void *)dst, unit_pack(format, unit));
    } else {
        _mm512_storeu_si512(dst, unit_pack(format, unit));
    }
}

INLINE struct unit unit_zero(void)
{
    struct unit unit = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    return unit;
}

/* Product and sum are rounded each. */
INLINE struct unit unit_add_weighted(struct unit sum, struct unit value, float weight)
{
    __m512 factor = _mm512_set1_ps(weight);
    sum.a = _mm512_add_ps(sum.a, _mm512_mul_ps(value.a, factor));
    sum.b = _mm512_add_ps(sum.b, _mm512_mul_ps(value.b, factor));
    return sum;
}

INLINE struct unit unit_add(struct unit sum, struct unit value)
{
    sum.a = _mm512_add_ps(sum.a, value.a);
    sum.b = _mm512_add_ps(sum.b, value.b);
    return sum;
}

#include "kernel/weighted_sum_units.h"

WEIGHTED_SUM_FUNCTIONS(avx512, avx2, fp16, EPX_ROW_FP16)
WEIGHTED_SUM_FUNCTIONS(avx512, avx2, bf16, EPX_ROW_BF16)
