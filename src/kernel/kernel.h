/*
 * Arithmetic on rows. No allocation, no status, no threads: arguments are trusted, the floors above have checked them.
 * Every variant gives the same bits as the `ref` one on every input: products and sums are rounded separately to fp32,
 * in the order given, and every NaN that is written is the positive quiet NaN of its format (see base/float16.h).
 * Rows are contiguous, of any length, also zero, and need no more alignment than one of their elements; copies need
 * none.
 */
#ifndef EPX_KERNEL_KERNEL_H
#define EPX_KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Index of the 16-bit row formats in the tables below. */
enum epx_row_format {
    EPX_ROW_FP16 = 0,
    EPX_ROW_BF16 = 1,
    EPX_ROW_FORMAT_COUNT = 2,
};

struct epx_kernel_table {
    const char *isa; /* "ref", "avx2", "avx512", "neon" */

    /* dst[0..bytes) = src[0..bytes); the ranges do not overlap. */
    void (*copy_row)(void *dst, const void *src, size_t bytes);

    /* Same with stores that bypass the cache where the instruction set has them. The caller issues
     * epx_kernel_store_fence in the same thread before it publishes the row. */
    void (*copy_row_streaming)(void *dst, const void *src, size_t bytes);

    /*
     * Dynamic int8 quantisation of one row; returns the dynamic scale.
     *   f[h] = fp32(src[h]) (* smooth[h] when smooth is not null, rounded); m = max |f[h]|; d = 127 / m;
     *   dst[h] = saturating int8 of rint(f[h] * d), NaN -> 0; returns 1 / d.
     * m counts a NaN as larger than everything: then every dst is 0 and the scale is the quiet NaN. m = 0 gives d =
     * inf, zeros and scale +0; m = inf gives d = 0, zeros and scale +inf.
     */
    float (*quantize_row[EPX_ROW_FORMAT_COUNT])(int8_t *dst, const uint16_t *src, const float *smooth, size_t elems);

    /*
     * dst[h] = round(((+0 + fp32(rows[0][h]) * weights[0]) + fp32(rows[1][h]) * weights[1]) + ...), row_count >= 0.
     * plain_row, when not null, is added last with weight 1. dst overlaps no row.
     */
    void (*weighted_sum_row[EPX_ROW_FORMAT_COUNT])(uint16_t *dst, const uint16_t *const *rows, const float *weights,
                                                   size_t row_count, const uint16_t *plain_row, size_t elems);

    /* Same bits, with stores of dst as copy_row_streaming's; the same fence is due. */
    void (*weighted_sum_row_streaming[EPX_ROW_FORMAT_COUNT])(uint16_t *dst, const uint16_t *const *rows,
                                                             const float *weights, size_t row_count,
                                                             const uint16_t *plain_row, size_t elems);

    /* dst[h] = fp32(src[h]) * scale: int8 back to fp32 (used by consumers of quantised rows). */
    void (*dequantize_row)(float *dst, const int8_t *src, float scale, size_t elems);
};

/* The table chosen at the first call from the processor and EPX_CPU (a variant that the processor lacks, or an unknown
 * name, falls back to auto with a warning in the log). Thread: any. */
const struct epx_kernel_table *epx_kernels(void);

/* The table of one instruction set, null when it is not built in or the processor lacks it. */
const struct epx_kernel_table *epx_kernels_by_name(const char *isa);

/* Orders the calling thread's streaming stores before its later stores. */
void epx_kernel_store_fence(void);

/*
 * Rare forms, one variant each (plain C). fp32 accumulators are the caller's.
 */

/* Two-level combine, first level: acc[h] = fp32(rows[0][h]) * weights[0], then acc + fp32(rows[i][h]) * weights[i];
 * row_count >= 1. */
void epx_partial_sum_row(enum epx_row_format format, float *acc, const uint16_t *const *rows, const float *weights,
                         size_t row_count, size_t elems);

/* row[h] = round(acc[h]) */
void epx_round_row(enum epx_row_format format, uint16_t *row, const float *acc, size_t elems);

/* acc[h] = acc[h] + fp32(row[h]) */
void epx_add_row(enum epx_row_format format, float *acc, const uint16_t *row, size_t elems);

/*
 * What int8 transport in groups of 8 (communication quantisation 2 of the full-mesh combine) makes of a row:
 * s = max|x| * fp32(1/127); stored = round(s) to the row format; q = int8(rint(fp16(fp32(x) / s))), saturating, NaN ->
 * 0; dst = round(fp32(q) * fp32(stored)). The last group may be shorter. dst may be src.
 */
void epx_group8_transport_row(enum epx_row_format format, uint16_t *dst, const uint16_t *src, size_t elems);

/*
 * int8 transport of the two-level combine, accumulated: what the home adds for one partial.
 * bf16: per 8, s = max|acc| * fp32(1/127), q as above from acc / s, stored = bf16(s); sum[h] = sum[h] + fp32(q) *
 * fp32(stored), product and sum rounded to fp32.
 * fp16: p = fp16(acc); per 16, in fp16 arithmetic: s = max|p| * fp16(1/127), q = int8(rint(fp16(p / s)));
 * sum[h] = fp32 of fp16(fp16(sum[h]) + fp16(fp16(q) * s)): product and sum each rounded to fp16.
 */
void epx_group_transport_add_row(enum epx_row_format format, float *sum, const float *acc, size_t elems);

/* The same in two halves: what a relay sends, scales of the groups and then the int8 quotients, and what the home adds.
 * No alignment is asked of `packed`. */
size_t epx_group_packed_bytes(enum epx_row_format format, size_t elems);
void epx_group_pack_row(enum epx_row_format format, void *packed, const float *acc, size_t elems);
void epx_group_add_packed_row(enum epx_row_format format, float *sum, const void *packed, size_t elems);

/* Tensor-parallel sum: bf16: fp32 sum, rounded half away from zero (bits + 0x8000, truncated; NaN kept as the quiet
 * NaN); fp16: fp16 sum to nearest even, overflow to infinity. dst may be a or b. */
void epx_tp_sum_row(enum epx_row_format format, uint16_t *dst, const uint16_t *a, const uint16_t *b, size_t elems);

#endif
