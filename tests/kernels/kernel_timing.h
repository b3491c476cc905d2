/*
 * For people: bytes a second of each kernel of each table, beside memcpy and `ref`, for rows of three lengths that lie
 * in the caches or in memory. The tables take turns, so that a busy moment of the machine hits all of them; medians.
 */
#ifndef EPX_TESTS_KERNEL_TIMING_H
#define EPX_TESTS_KERNEL_TIMING_H

#include "kernels/kernel_test.h"

#include <stdio.h>
#include <time.h>

#define TIMING_TOPK    8
#define TIMING_ROUNDS  5
#define TIMING_SECONDS 0.004 /* of one turn */
#define TIMING_TABLES  5     /* memcpy and at most four tables */

static const struct timing_place {
    const char *name;
    size_t bytes; /* of the source rows; those written are as many */
} timing_places[] = {{"L2", 256 << 10}, {"L3", 8 << 20}, {"memory", 168 << 20}};

static const size_t timing_lengths[] = {HIDDEN_ELEMS, 2048, 512};

enum timed_kernel {
    TIMED_COPY,
    TIMED_STREAM,
    TIMED_QUANTIZE,
    TIMED_SMOOTH,
    TIMED_SUM,
    TIMED_SUM_STREAM,
    TIMED_DEQUANTIZE,
};

struct timing {
    enum timed_kernel kernel;
    enum epx_row_format format;
    size_t elems;
    size_t row_count; /* even */
    uint32_t *order;  /* in which the source rows are read: random */
    uint16_t *src;
    uint16_t *dst;
    float *smooth;
};

static inline double timing_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline uint16_t *timing_src(const struct timing *t, size_t i)
{
    return t->src + (size_t)t->order[i % t->row_count] * t->elems;
}

static inline uint16_t *timing_dst(const struct timing *t, size_t i)
{
    return t->dst + i % t->row_count * t->elems;
}

/* Call i of a table, of memcpy for none; returns the bytes read and written. */
static inline size_t timing_call(const struct timing *t, const struct epx_kernel_table *table, size_t i)
{
    static const float weights[TIMING_TOPK] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};
    const uint16_t *rows[TIMING_TOPK];
    uint16_t *dst = timing_dst(t, i);
    if (table == NULL) {
        memcpy(dst, timing_src(t, i), 2 * t->elems);
        return 4 * t->elems;
    }
    switch (t->kernel) {
    case TIMED_COPY: table->copy_row(dst, timing_src(t, i), 2 * t->elems); return 4 * t->elems;
    case TIMED_STREAM: table->copy_row_streaming(dst, timing_src(t, i), 2 * t->elems); return 4 * t->elems;
    case TIMED_QUANTIZE:
        table->quantize_row[t->format]((int8_t *)dst, timing_src(t, i), NULL, t->elems);
        return 3 * t->elems;
    case TIMED_SMOOTH:
        table->quantize_row[t->format]((int8_t *)dst, timing_src(t, i), t->smooth, t->elems);
        return 3 * t->elems;
    case TIMED_DEQUANTIZE: /* writes two rows */
        table->dequantize_row((float *)(void *)timing_dst(t, i & ~(size_t)1), (int8_t *)timing_src(t, i), 0.01f,
                              t->elems);
        return 5 * t->elems;
    case TIMED_SUM:
    case TIMED_SUM_STREAM: break;
    }
    for (size_t k = 0; k < TIMING_TOPK; k++) {
        rows[k] = timing_src(t, i * TIMING_TOPK + k);
    }
    (t->kernel == TIMED_SUM ? table->weighted_sum_row : table->weighted_sum_row_streaming)[t->format](
        dst, rows, weights, TIMING_TOPK, NULL, t->elems);
    return 2 * t->elems * (TIMING_TOPK + 1);
}

/* GB/s of one turn; *i is the call to begin with, then the one after the turn's. */
static inline double timing_turn(const struct timing *t, const struct epx_kernel_table *table, size_t *i,
                                 double least_seconds)
{
    double start = timing_now();
    double seconds = 0;
    size_t bytes = 0;
    while (seconds < least_seconds) {
        for (size_t n = 0; n < 16; n++) {
            bytes += timing_call(t, table, (*i)++);
        }
        epx_kernel_store_fence();
        seconds = timing_now() - start;
    }
    return 1e-9 * (double)bytes / seconds;
}

static inline int timing_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void timing_shuffle(struct timing *t, uint64_t *seed)
{
    for (size_t i = 0; i < t->row_count; i++) {
        t->order[i] = (uint32_t)i;
    }
    for (size_t i = t->row_count; i > 1; i--) {
        size_t j = random_next(seed) % i;
        uint32_t other = t->order[j];
        t->order[j] = t->order[i - 1];
        t->order[i - 1] = other;
    }
}

/* One line; tables[0] is memcpy, tables[1] `ref`. */
static inline void timing_print_line(struct timing *t, const struct timing_place *place,
                                     const struct epx_kernel_table *const *tables, size_t table_count)
{
    static const char *const names[] = {"copy",     "copy streaming",     "quantize",  "quantize smooth",
                                        "sum of 8", "sum of 8 streaming", "dequantize"};
    bool has_format = t->kernel >= TIMED_QUANTIZE && t->kernel != TIMED_DEQUANTIZE;
    double rates[TIMING_TABLES][TIMING_ROUNDS];
    uint64_t seed = 1;
    size_t call = 0;
    t->row_count = place->bytes / (2 * t->elems) & ~(size_t)1;
    timing_shuffle(t, &seed);
    for (size_t round = 0; round < TIMING_ROUNDS; round++) {
        for (size_t v = 0; v < table_count; v++) {
            timing_turn(t, tables[v], &call, TIMING_SECONDS / 2);
            rates[v][round] = timing_turn(t, tables[v], &call, TIMING_SECONDS);
        }
    }
    printf("%-18s %4s %5zu %-6s", names[t->kernel], has_format ? (t->format == EPX_ROW_FP16 ? "fp16" : "bf16") : "",
           t->elems, place->name);
    for (size_t v = 0; v < table_count; v++) {
        qsort(rates[v], TIMING_ROUNDS, sizeof(double), timing_compare);
        double rate = rates[v][TIMING_ROUNDS / 2];
        printf("  %8.2f", rate);
        if (v > 1) {
            printf(" %6.2f", rate / rates[1][TIMING_ROUNDS / 2]);
        }
        if (v > 0) {
            printf(" %6.2f", rate / rates[0][TIMING_ROUNDS / 2]);
        }
    }
    printf("\n");
    fflush(stdout);
}

static inline void timing_print_kernel(struct timing *t, const struct epx_kernel_table *const *tables,
                                       size_t table_count)
{
    for (size_t l = 0; l < sizeof timing_lengths / sizeof timing_lengths[0]; l++) {
        for (size_t p = 0; p < sizeof timing_places / sizeof timing_places[0]; p++) {
            t->elems = timing_lengths[l];
            timing_print_line(t, &timing_places[p], tables, table_count);
        }
    }
}

static inline void timing_fill(struct timing *t, size_t bytes)
{
    t->src = aligned_alloc(4096, bytes);
    t->dst = aligned_alloc(4096, bytes);
    t->order = calloc(bytes / 2 / 512, sizeof *t->order);
    t->smooth = calloc(HIDDEN_ELEMS, sizeof *t->smooth);
    if (t->src == NULL || t->dst == NULL || t->smooth == NULL || t->order == NULL) {
        fprintf(stderr, "no memory for the timing rows\n");
        exit(1);
    }
    uint64_t seed = 1;
    for (size_t h = 0; h < HIDDEN_ELEMS; h++) {
        t->smooth[h] = 1.0f + (float)h * 0x1p-14f;
    }
    for (size_t i = 0; i < bytes / 2; i++) {
        t->src[i] = (uint16_t)(0x3C00 + random_next(&seed) % 1024);
    }
    memset(t->dst, 0, bytes);
}

/* isas: those to time beside `ref`. */
static inline void print_times(const char *const *isas, size_t isa_count)
{
    const struct epx_kernel_table *tables[TIMING_TABLES] = {NULL, epx_kernels_by_name("ref")};
    size_t table_count = 2;
    struct timing t = {0};
    timing_fill(&t, timing_places[2].bytes);
    printf("GB/s read + written, one thread; behind each rate: of ref's, of memcpy's\n");
    printf("%-18s %4s %5s %-6s  %8s  %8s %6s", "kernel", "", "elems", "rows", "memcpy", "ref", "/cpy");
    for (size_t i = 0; i < isa_count && table_count < TIMING_TABLES; i++) {
        const struct epx_kernel_table *table = epx_kernels_by_name(isas[i]);
        if (table != NULL && table != tables[1]) {
            tables[table_count++] = table;
            printf("  %8s %6s %6s", table->isa, "/ref", "/cpy");
        }
    }
    printf("\n");
    for (t.kernel = TIMED_COPY; t.kernel <= TIMED_DEQUANTIZE; t.kernel++) {
        bool has_format = t.kernel >= TIMED_QUANTIZE && t.kernel != TIMED_DEQUANTIZE;
        for (t.format = 0; t.format < (has_format ? EPX_ROW_FORMAT_COUNT : 1); t.format++) {
            timing_print_kernel(&t, tables, table_count);
        }
    }
    free(t.src);
    free(t.dst);
    free(t.smooth);
    free(t.order);
}

#endif
