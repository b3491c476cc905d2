#include "kernel/row_format.h"
#include "kernel/variants.h"

static inline float smoothed(enum epx_row_format format, const uint16_t *src, const float *smooth, size_t h)
{
    float value = epx_row_widen(format, src[h]);
    return smooth != NULL ? value * smooth[h] : value;
}

static inline float quantize_row(enum epx_row_format format, int8_t *dst, const uint16_t *src, const float *smooth,
                                 size_t elems)
{
    uint32_t max_bits = 0;
    for (size_t h = 0; h < elems; h++) {
        uint32_t bits = epx_fp32_magnitude_bits(smoothed(format, src, smooth, h));
        max_bits = bits > max_bits ? bits : max_bits;
    }
    float factor = 127.0f / epx_fp32_from_bits(max_bits);
    for (size_t h = 0; h < elems; h++) {
        dst[h] = epx_i8_from_fp32(smoothed(format, src, smooth, h) * factor);
    }
    return epx_fp32_canonical(1.0f / factor);
}

float epx_quantize_row_fp16_i8__ref(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    return quantize_row(EPX_ROW_FP16, dst, src, smooth, elems);
}

float epx_quantize_row_bf16_i8__ref(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems)
{
    return quantize_row(EPX_ROW_BF16, dst, src, smooth, elems);
}
