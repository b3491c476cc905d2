#include "kernel/row_format.h"

static inline void partial_sum_row(enum epx_row_format format, float *acc, const uint16_t *const *rows,
                                   const float *weights, size_t row_count, size_t elems)
{
    for (size_t h = 0; h < elems; h++) {
        acc[h] = epx_fp32_canonical(epx_row_widen(format, rows[0][h]) * weights[0]);
    }
    for (size_t i = 1; i < row_count; i++) {
        for (size_t h = 0; h < elems; h++) {
            acc[h] = epx_fp32_canonical(acc[h] + epx_row_widen(format, rows[i][h]) * weights[i]);
        }
    }
}

static inline void round_row(enum epx_row_format format, uint16_t *row, const float *acc, size_t elems)
{
    for (size_t h = 0; h < elems; h++) {
        row[h] = epx_row_narrow(format, acc[h]);
    }
}

static inline void add_row(enum epx_row_format format, float *acc, const uint16_t *row, size_t elems)
{
    for (size_t h = 0; h < elems; h++) {
        acc[h] = epx_fp32_canonical(acc[h] + epx_row_widen(format, row[h]));
    }
}

/* One copy of each loop for each format, so that the compiler can vectorise the bf16 ones. */

void epx_partial_sum_row(enum epx_row_format format, float *acc, const uint16_t *const *rows, const float *weights,
                         size_t row_count, size_t elems)
{
    if (format == EPX_ROW_FP16) {
        partial_sum_row(EPX_ROW_FP16, acc, rows, weights, row_count, elems);
    } else {
        partial_sum_row(EPX_ROW_BF16, acc, rows, weights, row_count, elems);
    }
}

void epx_round_row(enum epx_row_format format, uint16_t *row, const float *acc, size_t elems)
{
    if (format == EPX_ROW_FP16) {
        round_row(EPX_ROW_FP16, row, acc, elems);
    } else {
        round_row(EPX_ROW_BF16, row, acc, elems);
    }
}

void epx_add_row(enum epx_row_format format, float *acc, const uint16_t *row, size_t elems)
{
    if (format == EPX_ROW_FP16) {
        add_row(EPX_ROW_FP16, acc, row, elems);
    } else {
        add_row(EPX_ROW_BF16, acc, row, elems);
    }
}
