#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>

/* Elements of one step; the last step of a row overlaps the one before. */
#define STEP_ELEMS 32

static inline void dequantize_16(float *dst, const int8_t *src, __m512 scales)
{
    __m512i values = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)src));
    __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(values), scales);
    __mmask16 is_nan = _mm512_cmp_ps_mask(product, product, _CMP_UNORD_Q);
    __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32((int)EPX_FP32_NAN));
    _mm512_storeu_ps(dst, _mm512_mask_mov_ps(product, is_nan, nan));
}

void epx_dequantize_row__avx512(float *dst, const int8_t *src, float scale, size_t elems)
{
    if (elems < STEP_ELEMS) {
        epx_dequantize_row__avx2(dst, src, scale, elems);
        return;
    }
    const __m512 scales = _mm512_set1_ps(scale);
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        dequantize_16(dst + at, src + at, scales);
        dequantize_16(dst + at + 16, src + at + 16, scales);
    }
}
