/*
 * The first matrix product of the experts: of each local expert, its rows (n, H) times a weight matrix (H, N), in fp32.
 * Rows are converted as they are packed, in panels that stay in a core's cache, from wherever they lie; so the same
 * code runs on rows that a dispatch has copied and on rows in their senders' memory. One core.
 */
#ifndef EPX_BENCH_PRODUCT_H
#define EPX_BENCH_PRODUCT_H

#include "case.h"

/* Once, before all else. False: there is no matrix product, as this was built without OpenBLAS. */
bool bench_product_prepare(void);

/* C (rows, columns) = [C +] A (rows, depth) times B (depth, columns), all row by row; distances in elements. */
struct bench_block {
    int64_t rows;
    int64_t columns;
    int64_t depth;
    const float *a; /* without gaps */
    const float *b;
    int64_t b_pitch;
    float *c;
    int64_t c_pitch;
    bool add;
};
void bench_block_multiply(const struct bench_block *block);

struct bench_product_rows { /* what a dispatch brought, ordered by local expert */
    const void *(*row)(const void *context, int64_t row);
    const void *context;
    const float *scales; /* of each row, with quantisation */
    const int64_t *expert_rows;
    int64_t expert_count;
};

struct bench_product { /* of one rank; N is the case's product_columns */
    const struct bench_case *bench;
    const float *weights; /* (H, N), of every expert */
    float *panel;
    float *out; /* (rows, N) */
};

/* False: no memory, said on standard error. */
bool bench_product_init(struct bench_product *product, const struct bench_case *bench, const float *weights,
                        int64_t row_max);
void bench_product_fini(struct bench_product *product);

/* Panels depend on the number of rows of each expert alone, so that equal rows give equal bits. */
void bench_product_run(struct bench_product *product, const struct bench_product_rows *rows);

/* Of the products of the last run. */
uint64_t bench_product_digest(const struct bench_product *product, const struct bench_product_rows *rows);

/* Rows of `out` that are wrong: one element of each is compared with a plain sum in double. */
int64_t bench_product_check(const struct bench_product *product, const struct bench_product_rows *rows);

#endif
