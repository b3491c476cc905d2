#include "kernel/row_format.h"
#include "kernel/variants.h"

void epx_dequantize_row__ref(float *dst, const int8_t *src, float scale, size_t elems)
{
    for (size_t h = 0; h < elems; h++) {
        dst[h] = epx_fp32_canonical((float)src[h] * scale);
    }
}
