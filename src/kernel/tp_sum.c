#include "kernel/row_format.h"

/* Half away from zero: half a step is added to the magnitude, the rest is cut off. */
static inline uint16_t bf16_from_fp32_half_away(float value)
{
    if (value != value) {
        return EPX_BF16_NAN;
    }
    return (uint16_t)((epx_bits_from_fp32(value) + 0x8000u) >> 16);
}

void epx_tp_sum_row(enum epx_row_format format, uint16_t *dst, const uint16_t *a, const uint16_t *b, size_t elems)
{
    if (format == EPX_ROW_FP16) {
        for (size_t h = 0; h < elems; h++) {
            dst[h] = epx_fp16_from_fp32(epx_fp32_from_fp16(a[h]) + epx_fp32_from_fp16(b[h]));
        }
        return;
    }
    for (size_t h = 0; h < elems; h++) {
        dst[h] = bf16_from_fp32_half_away(epx_fp32_from_bf16(a[h]) + epx_fp32_from_bf16(b[h]));
    }
}
