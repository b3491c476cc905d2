#include "product.h"

#include "numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A panel of 256 rows by 512 elements in fp32 is 512 KiB: it stays in the second-level cache, and the part of the
 * weights that belongs to it is read once for 256 rows. */
#define PANEL_ROWS  256
#define PANEL_DEPTH 512

/* Of a sum in fp32 against one in double, as a part of the sum of magnitudes. */
#define TOLERANCE 1e-4

bool bench_product_init(struct bench_product *product, const struct bench_case *bench, const float *weights,
                        int64_t row_max)
{
    size_t panel_bytes = (size_t)PANEL_ROWS * PANEL_DEPTH * sizeof(float);
    size_t out_bytes = (size_t)(row_max * bench->product_columns) * sizeof(float);
    *product = (struct bench_product){.bench = bench, .weights = weights};
    product->panel = aligned_alloc(64, panel_bytes);
    product->out = malloc(out_bytes + 1);
    if (product->panel == NULL || product->out == NULL) {
        (void)fprintf(stderr, "no memory for products (%zu bytes)\n", panel_bytes + out_bytes);
        bench_product_fini(product);
        return false;
    }
    memset(product->panel, 0, panel_bytes); /* no page faults while timing */
    return true;
}

void bench_product_fini(struct bench_product *product)
{
    free(product->panel);
    free(product->out);
    *product = (struct bench_product){.bench = NULL};
}

/* ---- Packing ------------------------------------------------------------------------------------------------- */

static void pack_bf16(float *out, const uint16_t *row, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = bench_float_bf16(row[i]);
    }
}

/* Without branches, for all finite values: exponent and mantissa are put where fp32 has them, and a product with
 * 2^112 sets the exponent right, exactly, of subnormal numbers too. */
static void pack_fp16(float *out, const uint16_t *row, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float magnitude = bench_float_of_bits((uint32_t)(row[i] & 0x7fff) << 13) * 0x1p112f;
        out[i] = bench_float_of_bits(bench_float_bits(magnitude) | (uint32_t)(row[i] & 0x8000) << 16);
    }
}

static void pack_int8(float *out, const int8_t *row, float scale, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        out[i] = (float)row[i] * scale;
    }
}

/* Elements [from, from + count) of a row. */
static void pack_row(const struct bench_case *bench, float *out, const void *row, float scale, int64_t from,
                     int64_t count)
{
    if (bench->quantize) {
        pack_int8(out, (const int8_t *)row + from, scale, count);
    } else if (bench->dtype == BENCH_BF16) {
        pack_bf16(out, (const uint16_t *)row + from, count);
    } else {
        pack_fp16(out, (const uint16_t *)row + from, count);
    }
}

static float scale_of(const struct bench_case *bench, const struct bench_product_rows *rows, int64_t row)
{
    return bench->quantize ? rows->scales[row] : 1.0f;
}

/* ---- Product ------------------------------------------------------------------------------------------------- */

/* Rows [first, first + count) of one expert. */
static void multiply_rows(struct bench_product *product, const struct bench_product_rows *rows, int64_t first,
                          int64_t count)
{
    const struct bench_case *bench = product->bench;
    int64_t columns = bench->product_columns;
    for (int64_t from = 0; from < bench->hidden_elems; from += PANEL_DEPTH) {
        int64_t left = bench->hidden_elems - from;
        int64_t depth = left < PANEL_DEPTH ? left : PANEL_DEPTH;
        for (int64_t i = 0; i < count; i++) {
            pack_row(bench, product->panel + i * depth, rows->row(rows->context, first + i),
                     scale_of(bench, rows, first + i), from, depth);
        }
        const struct bench_block block = {.rows = count,
                                          .columns = columns,
                                          .depth = depth,
                                          .a = product->panel,
                                          .b = product->weights + from * columns,
                                          .b_pitch = columns,
                                          .c = product->out + first * columns,
                                          .c_pitch = columns,
                                          .add = from > 0};
        bench_block_multiply(&block);
    }
}

void bench_product_run(struct bench_product *product, const struct bench_product_rows *rows)
{
    int64_t first = 0;
    for (int64_t expert = 0; expert < rows->expert_count; expert++) {
        int64_t end = first + rows->expert_rows[expert];
        while (first < end) {
            int64_t count = end - first < PANEL_ROWS ? end - first : PANEL_ROWS;
            multiply_rows(product, rows, first, count);
            first += count;
        }
    }
}

/* ---- Results ------------------------------------------------------------------------------------------------- */

static int64_t row_count_of(const struct bench_product_rows *rows)
{
    int64_t count = 0;
    for (int64_t expert = 0; expert < rows->expert_count; expert++) {
        count += rows->expert_rows[expert];
    }
    return count;
}

uint64_t bench_product_digest(const struct bench_product *product, const struct bench_product_rows *rows)
{
    size_t bytes = (size_t)(row_count_of(rows) * product->bench->product_columns) * sizeof *product->out;
    return bench_digest(BENCH_DIGEST_INIT, product->out, bytes);
}

static double element(const struct bench_case *bench, const void *row, float scale, int64_t at)
{
    if (bench->quantize) {
        return (double)(((const int8_t *)row)[at]) * (double)scale;
    }
    return (double)bench_float(bench, ((const uint16_t *)row)[at]);
}

static bool is_right(const struct bench_product *product, const struct bench_product_rows *rows, int64_t row,
                     int64_t column)
{
    const struct bench_case *bench = product->bench;
    const void *data = rows->row(rows->context, row);
    double sum = 0.0;
    double magnitude = 0.0;
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        double term = element(bench, data, scale_of(bench, rows, row), h) *
                      (double)product->weights[h * bench->product_columns + column];
        sum += term;
        magnitude += fabs(term);
    }
    double got = (double)product->out[row * bench->product_columns + column];
    return fabs(got - sum) <= TOLERANCE * magnitude; /* not so for NaN */
}

int64_t bench_product_check(const struct bench_product *product, const struct bench_product_rows *rows)
{
    int64_t wrong = 0;
    for (int64_t row = 0; row < row_count_of(rows); row++) {
        wrong += !is_right(product, rows, row, row % product->bench->product_columns);
    }
    return wrong;
}
