#include "kernel/row_format.h"
#include "kernel/variants.h"

/* Columns that are summed together, so that their accumulators stay in the first cache. */
#define STRIP_ELEMS 128

static inline void weighted_sum_row(enum epx_row_format format, uint16_t *dst, const uint16_t *const *rows,
                                    const float *weights, size_t row_count, const uint16_t *plain_row, size_t elems)
{
    for (size_t start = 0; start < elems; start += STRIP_ELEMS) {
        size_t count = elems - start < STRIP_ELEMS ? elems - start : STRIP_ELEMS;
        float acc[STRIP_ELEMS] = {0};
        for (size_t i = 0; i < row_count; i++) {
            for (size_t h = 0; h < count; h++) {
                acc[h] += epx_row_widen(format, rows[i][start + h]) * weights[i];
            }
        }
        for (size_t h = 0; plain_row != NULL && h < count; h++) {
            acc[h] += epx_row_widen(format, plain_row[start + h]);
        }
        for (size_t h = 0; h < count; h++) {
            dst[start + h] = epx_row_narrow(format, acc[h]);
        }
    }
}

void epx_weighted_sum_row_fp16__ref(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                    const uint16_t *plain_row, size_t elems)
{
    weighted_sum_row(EPX_ROW_FP16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_bf16__ref(uint16_t *dst, const uint16_t *const *rows, const float *weights, size_t row_count,
                                    const uint16_t *plain_row, size_t elems)
{
    weighted_sum_row(EPX_ROW_BF16, dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_fp16__ref(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                              size_t row_count, const uint16_t *plain_row, size_t elems)
{
    epx_weighted_sum_row_fp16__ref(dst, rows, weights, row_count, plain_row, elems);
}

void epx_weighted_sum_row_streaming_bf16__ref(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                              size_t row_count, const uint16_t *plain_row, size_t elems)
{
    epx_weighted_sum_row_bf16__ref(dst, rows, weights, row_count, plain_row, elems);
}
