#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/float16.h"
#include "memory_use.h"
#include "product.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- A matrix product that is plainly right ------------------------------------------------------------------ */

static int64_t most_rows;
static int64_t most_depth;

bool bench_product_prepare(void)
{
    return true;
}

void bench_block_multiply(const struct bench_block *block)
{
    most_rows = block->rows > most_rows ? block->rows : most_rows;
    most_depth = block->depth > most_depth ? block->depth : most_depth;
    for (int64_t row = 0; row < block->rows; row++) {
        for (int64_t column = 0; column < block->columns; column++) {
            float *c = &block->c[row * block->c_pitch + column];
            float sum = block->add ? *c : 0.0f;
            for (int64_t k = 0; k < block->depth; k++) {
                sum += block->a[row * block->depth + k] * block->b[k * block->b_pitch + column];
            }
            *c = sum;
        }
    }
}

/* ---- Rows of three experts, one of them without any ---------------------------------------------------------- */

enum { ROWS = 301, HIDDEN = 1100, COLUMNS = 3 };

struct rows {
    struct bench_case bench;
    int64_t expert_rows[3];
    uint16_t halves[ROWS][HIDDEN];
    int8_t bytes[ROWS][HIDDEN];
    float scales[ROWS];
    int64_t places[ROWS]; /* row i of the dispatch lies at places[i] */
    float weights[HIDDEN * COLUMNS];
};

static const void *row_at(const void *context, int64_t row)
{
    const struct rows *rows = context;
    int64_t place = rows->places[row];
    return rows->bench.quantize ? (const void *)rows->bytes[place] : (const void *)rows->halves[place];
}

static struct rows *make_rows(enum bench_dtype dtype, bool quantize)
{
    struct rows *rows = calloc(1, sizeof *rows);
    assert_non_null(rows);
    rows->bench = (struct bench_case)BENCH_CASE_INIT;
    rows->bench.token_count = ROWS;
    rows->bench.hidden_elems = HIDDEN;
    rows->bench.product_columns = COLUMNS;
    rows->bench.dtype = dtype;
    rows->bench.quantize = quantize;
    rows->expert_rows[0] = 290;
    rows->expert_rows[2] = ROWS - 290;
    bench_inputs_tokens(&rows->bench, 0, rows->halves[0]);
    bench_inputs_weights(&rows->bench, rows->weights);
    for (int row = 0; row < ROWS; row++) {
        rows->places[row] = row;
        rows->scales[row] = 0.001f * (float)(row + 1);
        for (int h = 0; h < HIDDEN; h++) {
            rows->bytes[row][h] = (int8_t)(row * 31 + h * 17);
        }
    }
    return rows;
}

static struct bench_product_rows view_of(const struct rows *rows)
{
    return (struct bench_product_rows){
        .row = row_at, .context = rows, .scales = rows->scales, .expert_rows = rows->expert_rows, .expert_count = 3};
}

static double expected(const struct rows *rows, int64_t row, int64_t column, double *magnitude)
{
    double sum = 0.0;
    *magnitude = 0.0;
    for (int64_t h = 0; h < HIDDEN; h++) {
        double value = rows->bench.quantize
                           ? (double)((float)rows->bytes[row][h] * rows->scales[row])
                           : (double)(rows->bench.dtype == BENCH_BF16 ? epx_fp32_from_bf16(rows->halves[row][h])
                                                                      : epx_fp32_from_fp16(rows->halves[row][h]));
        sum += value * (double)rows->weights[h * COLUMNS + column];
        *magnitude += fabs(value * (double)rows->weights[h * COLUMNS + column]);
    }
    return sum;
}

/* ---- Tests --------------------------------------------------------------------------------------------------- */

static void product__is_that_of_rows_and_weights(void **state)
{
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        struct rows *rows = make_rows(mode == 1 ? BENCH_FP16 : BENCH_BF16, mode == 2);
        struct bench_product_rows view = view_of(rows);
        struct bench_product product;
        assert_true(bench_product_init(&product, &rows->bench, rows->weights, ROWS));
        memset(product.out, 0xa5, sizeof(float) * ROWS * COLUMNS);
        bench_product_run(&product, &view);
        for (int64_t row = 0; row < ROWS; row++) {
            for (int64_t column = 0; column < COLUMNS; column++) {
                double magnitude = 0.0;
                double want = expected(rows, row, column, &magnitude);
                assert_true(fabs((double)product.out[row * COLUMNS + column] - want) <= 1e-5 * magnitude);
            }
        }
        assert_int_equal(bench_product_check(&product, &view), 0);
        bench_product_fini(&product);
        free(rows);
    }
    /* Panels are not the whole: 290 rows of 1100 elements are more than one in both directions. */
    assert_true(most_rows > 1 && most_rows < 290);
    assert_true(most_depth > 1 && most_depth < HIDDEN);
}

static void product__takes_every_half_as_it_is(void **state)
{
    (void)state;
    struct rows *rows = make_rows(BENCH_FP16, false);
    struct bench_product product;
    const float one = 1.0f;
    rows->bench.hidden_elems = 1;
    rows->bench.product_columns = 1;
    rows->expert_rows[0] = 1;
    rows->expert_rows[2] = 0;
    struct bench_product_rows view = view_of(rows);
    assert_true(bench_product_init(&product, &rows->bench, &one, 1));
    for (uint32_t half = 0; half < 0x10000; half++) {
        if ((half & 0x7c00) != 0x7c00) {
            rows->halves[0][0] = (uint16_t)half;
            bench_product_run(&product, &view);
            assert_true(product.out[0] == epx_fp32_from_fp16((uint16_t)half));
        }
    }
    bench_product_fini(&product);
    free(rows);
}

static void digest__depends_on_rows_and_not_on_their_places(void **state)
{
    (void)state;
    struct rows *rows = make_rows(BENCH_BF16, false);
    struct bench_product_rows view = view_of(rows);
    struct bench_product product;
    assert_true(bench_product_init(&product, &rows->bench, rows->weights, ROWS));
    bench_product_run(&product, &view);
    uint64_t digest = bench_product_digest(&product, &view);
    uint16_t kept[HIDDEN];
    memcpy(kept, rows->halves[0], sizeof kept);
    memcpy(rows->halves[0], rows->halves[ROWS - 1], sizeof kept);
    memcpy(rows->halves[ROWS - 1], kept, sizeof kept);
    bench_product_run(&product, &view);
    assert_true(bench_product_digest(&product, &view) != digest);
    rows->places[0] = ROWS - 1;
    rows->places[ROWS - 1] = 0;
    bench_product_run(&product, &view);
    assert_true(bench_product_digest(&product, &view) == digest);
    bench_product_fini(&product);
    free(rows);
}

static void check__counts_rows_that_are_wrong(void **state)
{
    (void)state;
    struct rows *rows = make_rows(BENCH_BF16, true);
    struct bench_product_rows view = view_of(rows);
    struct bench_product product;
    assert_true(bench_product_init(&product, &rows->bench, rows->weights, ROWS));
    bench_product_run(&product, &view);
    product.out[0] *= 1.5f;
    product.out[5 * COLUMNS + 5 % COLUMNS] = NAN;
    rows->places[7] = 8; /* as if its product were another row's */
    assert_int_equal(bench_product_check(&product, &view), 3);
    bench_product_fini(&product);
    free(rows);
}

static void present__counts_pages_that_were_touched(void **state)
{
    (void)state;
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 8 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    (void)madvise(memory, 8 * page_bytes, MADV_NOHUGEPAGE);
    assert_int_equal(bench_memory_present(memory, 8 * page_bytes), 0);
    memory[0] = 1;
    memory[3 * page_bytes] = 1;
    assert_int_equal(bench_memory_present(memory, 8 * page_bytes), 2 * page_bytes);
    assert_int_equal(bench_memory_present(memory + 100, 3 * page_bytes), page_bytes);
    assert_int_equal(bench_memory_present(memory + 10, 20), 20);
    assert_int_equal(bench_memory_present(memory, 0), 0);
    struct bench_memory_use use;
    assert_true(bench_memory_use_read(&use));
    assert_true(use.resident_bytes > 0 && use.page_table_bytes > 0);
    (void)munmap(memory, 8 * page_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product__is_that_of_rows_and_weights),
        cmocka_unit_test(product__takes_every_half_as_it_is),
        cmocka_unit_test(digest__depends_on_rows_and_not_on_their_places),
        cmocka_unit_test(check__counts_rows_that_are_wrong),
        cmocka_unit_test(present__counts_pages_that_were_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
