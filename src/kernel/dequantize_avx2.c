#include "base/float16.h"
#include "kernel/variants.h"

#include <immintrin.h>

/* Elements of one step; the last step of a row overlaps the one before. */
#define STEP_ELEMS 16

static inline void dequantize_8(float *dst, const int8_t *src, __m256 scales)
{
    __m256i values = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)src));
    __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(values), scales);
    __m256 is_nan = _mm256_cmp_ps(product, product, _CMP_UNORD_Q);
    __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32((int)EPX_FP32_NAN));
    _mm256_storeu_ps(dst, _mm256_blendv_ps(product, nan, is_nan));
}

void epx_dequantize_row__avx2(float *dst, const int8_t *src, float scale, size_t elems)
{
    if (elems < STEP_ELEMS) {
        epx_dequantize_row__ref(dst, src, scale, elems);
        return;
    }
    const __m256 scales = _mm256_set1_ps(scale);
    for (size_t i = 0; i < elems; i += STEP_ELEMS) {
        size_t at = i + STEP_ELEMS <= elems ? i : elems - STEP_ELEMS;
        dequantize_8(dst + at, src + at, scales);
        dequantize_8(dst + at + 8, src + at + 8, scales);
    }
}
