/* Bytes a second of the kernels of one table, on rows of 7168 elements: in the cache and far beyond it. For people. */
#ifndef EPX_TESTS_KERNEL_TIMING_H
#define EPX_TESTS_KERNEL_TIMING_H

#include "kernels/kernel_test.h"

#include <stdio.h>
#include <time.h>

#define TIMING_ROWS 12288 /* 168 MiB of 16-bit rows */
#define TIMING_TOPK 8

struct timing {
    const struct epx_kernel_table *table;
    uint16_t *src; /* row_count rows, drawn in random order */
    uint16_t *dst; /* row_count rows */
    float *smooth;
    uint32_t *order;
    size_t row_count;
};

static inline double timing_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline uint16_t *timing_src(const struct timing *t, size_t i)
{
    return t->src + (size_t)t->order[i % t->row_count] * HIDDEN_ELEMS;
}

static inline uint16_t *timing_dst(const struct timing *t, size_t i)
{
    return t->dst + i % t->row_count * HIDDEN_ELEMS;
}

enum timed_kernel {
    TIMED_MEMCPY,
    TIMED_COPY,
    TIMED_STREAM,
    TIMED_QUANTIZE,
    TIMED_SMOOTH,
    TIMED_SUM,
    TIMED_DEQUANTIZE,
};

/* Runs call `i`; returns the bytes read and written. */
static inline size_t timing_call(const struct timing *t, enum timed_kernel kernel, enum epx_row_format format, size_t i)
{
    static const float weights[TIMING_TOPK] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};
    const uint16_t *rows[TIMING_TOPK];
    switch (kernel) {
    case TIMED_MEMCPY: memcpy(timing_dst(t, i), timing_src(t, i), 2 * HIDDEN_ELEMS); return 4 * HIDDEN_ELEMS;
    case TIMED_COPY: t->table->copy_row(timing_dst(t, i), timing_src(t, i), 2 * HIDDEN_ELEMS); return 4 * HIDDEN_ELEMS;
    case TIMED_STREAM:
        t->table->copy_row_streaming(timing_dst(t, i), timing_src(t, i), 2 * HIDDEN_ELEMS);
        return 4 * HIDDEN_ELEMS;
    case TIMED_QUANTIZE:
        t->table->quantize_row[format]((int8_t *)timing_dst(t, i), timing_src(t, i), NULL, HIDDEN_ELEMS);
        return 3 * HIDDEN_ELEMS;
    case TIMED_SMOOTH:
        t->table->quantize_row[format]((int8_t *)timing_dst(t, i), timing_src(t, i), t->smooth, HIDDEN_ELEMS);
        return 3 * HIDDEN_ELEMS;
    case TIMED_SUM:
        for (size_t k = 0; k < TIMING_TOPK; k++) {
            rows[k] = timing_src(t, i * TIMING_TOPK + k);
        }
        t->table->weighted_sum_row[format](timing_dst(t, i), rows, weights, TIMING_TOPK, NULL, HIDDEN_ELEMS);
        return 2 * HIDDEN_ELEMS * (TIMING_TOPK + 1);
    case TIMED_DEQUANTIZE:
        t->table->dequantize_row((float *)(void *)timing_dst(t, i & ~(size_t)1), (int8_t *)timing_src(t, i), 0.01f,
                                 HIDDEN_ELEMS);
        return 5 * HIDDEN_ELEMS;
    }
    return 0;
}

/* GB/s, the best of a few runs of about 30 ms. */
static inline double timing_rate(const struct timing *t, enum timed_kernel kernel, enum epx_row_format format)
{
    double best = 0;
    size_t i = 0;
    for (int run = 0; run < 7; run++) {
        double start = timing_now();
        double seconds = 0;
        size_t bytes = 0;
        while (seconds < 0.03) {
            for (size_t n = 0; n < 16; n++) {
                bytes += timing_call(t, kernel, format, i++);
            }
            epx_kernel_store_fence();
            seconds = timing_now() - start;
        }
        best = fmax(best, 1e-9 * (double)bytes / seconds);
    }
    return best;
}

static inline void timing_shuffle(struct timing *t, size_t row_count, uint64_t *seed)
{
    t->row_count = row_count;
    for (size_t i = 0; i < row_count; i++) {
        t->order[i] = (uint32_t)i;
    }
    for (size_t i = row_count; i > 1; i--) {
        size_t j = random_next(seed) % i;
        uint32_t other = t->order[j];
        t->order[j] = t->order[i - 1];
        t->order[i - 1] = other;
    }
}

static inline void timing_print_kernel(struct timing *t, enum timed_kernel kernel, enum epx_row_format format,
                                       uint64_t *seed)
{
    static const char *const names[] = {"memcpy",          "copy",     "stream", "quantize",
                                        "quantize+smooth", "sum of 8", "dequant"};
    static const char *const formats[] = {"fp16", "bf16"};
    bool has_format = kernel == TIMED_QUANTIZE || kernel == TIMED_SMOOTH || kernel == TIMED_SUM;
    if (!has_format && format != EPX_ROW_FP16) {
        return;
    }
    timing_shuffle(t, 16, seed);
    double near = timing_rate(t, kernel, format);
    timing_shuffle(t, TIMING_ROWS, seed);
    double far = timing_rate(t, kernel, format);
    printf("%-7s %-16s %4s %12.1f %12.1f\n", t->table->isa, names[kernel], has_format ? formats[format] : "", near,
           far);
}

static inline void print_times(const struct epx_kernel_table *table)
{
    if (table == NULL) {
        return;
    }
    size_t bytes = (size_t)TIMING_ROWS * HIDDEN_ELEMS * 2;
    struct timing t = {table, aligned_alloc(4096, bytes), aligned_alloc(4096, bytes), NULL, NULL, TIMING_ROWS};
    t.smooth = calloc(HIDDEN_ELEMS, sizeof *t.smooth);
    t.order = calloc(TIMING_ROWS, sizeof *t.order);
    if (t.src == NULL || t.dst == NULL || t.smooth == NULL || t.order == NULL) {
        fprintf(stderr, "no memory for the timing rows\n");
        exit(1);
    }
    uint64_t seed = 1;
    for (size_t h = 0; h < HIDDEN_ELEMS; h++) {
        t.smooth[h] = 1.0f + (float)h * 0x1p-14f;
    }
    for (size_t i = 0; i < (size_t)TIMING_ROWS * HIDDEN_ELEMS; i++) {
        t.src[i] = (uint16_t)(0x3C00 + random_next(&seed) % 1024);
    }
    memset(t.dst, 0, bytes);
    printf("%-7s %-16s %4s %12s %12s   GB/s read + written\n", "", "kernel", "", "16 rows", "all rows");
    for (enum timed_kernel kernel = TIMED_MEMCPY; kernel <= TIMED_DEQUANTIZE; kernel++) {
        for (enum epx_row_format format = 0; format < EPX_ROW_FORMAT_COUNT; format++) {
            timing_print_kernel(&t, kernel, format, &seed);
        }
    }
    free(t.src);
    free(t.dst);
    free(t.smooth);
    free(t.order);
}

#endif
