#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/float16.h"
#include "crossing.h"
#include "expect.h"
#include "floor_layout.h"
#include "kernel/kernel.h"
#include "numbers.h"

#include <math.h>

static struct bench_case small_case(void)
{
    struct bench_case bench = BENCH_CASE_INIT;
    bench.rank_count = 3;
    bench.token_count = 5;
    bench.hidden_elems = 37;
    bench.topk = 4;
    bench.expert_count = 6;
    return bench;
}

static size_t elems_of(const struct bench_case *bench)
{
    return (size_t)(bench->token_count * bench->hidden_elems);
}

/* ---- Inputs -------------------------------------------------------------------------------------------------- */

static void tokens__depend_on_seed_and_rank_alone(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    uint16_t first[5 * 37];
    uint16_t second[5 * 37];
    bench_inputs_tokens(&bench, 1, first);
    bench_inputs_tokens(&bench, 1, second);
    assert_memory_equal(first, second, sizeof first);
    bench_inputs_tokens(&bench, 2, second);
    assert_memory_not_equal(first, second, sizeof first);
    bench.seed = 2;
    bench_inputs_tokens(&bench, 1, second);
    assert_memory_not_equal(first, second, sizeof first);
}

static void tokens__are_finite_with_magnitudes_of_their_own(void **state)
{
    (void)state;
    for (int dtype = BENCH_FP16; dtype <= BENCH_BF16; dtype++) {
        struct bench_case bench = small_case();
        bench.dtype = (enum bench_dtype)dtype;
        bench.token_count = 200;
        uint16_t *x = malloc(elems_of(&bench) * sizeof *x);
        double least = INFINITY;
        double most = 0.0;
        bench_inputs_tokens(&bench, 0, x);
        for (int64_t token = 0; token < bench.token_count; token++) {
            double largest = 0.0;
            for (int64_t h = 0; h < bench.hidden_elems; h++) {
                float value = bench_float(&bench, x[token * bench.hidden_elems + h]);
                assert_true(isfinite(value) && value != 0.0f);
                largest = fmax(largest, fabs((double)value));
            }
            least = fmin(least, largest);
            most = fmax(most, largest);
        }
        assert_true(most > 32.0 * least);
        free(x);
    }
}

static void weights__depend_on_the_seed_alone(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    float first[37 * 5];
    float second[37 * 5];
    bench.product_columns = 5;
    bench_inputs_weights(&bench, first);
    bench_inputs_weights(&bench, second);
    assert_memory_equal(first, second, sizeof first);
    int negative = 0;
    for (int i = 0; i < 37 * 5; i++) {
        assert_true(first[i] >= -1.0f && first[i] < 1.0f);
        negative += first[i] < 0.0f;
    }
    assert_in_range(negative, 60, 125);
    bench.seed = 2;
    bench_inputs_weights(&bench, second);
    assert_memory_not_equal(first, second, sizeof first);
}

static void routing__is_distinct_and_weighted(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    bench.token_count = 300;
    int32_t ids[300 * 4];
    float weights[300 * 4];
    int seen[6] = {0};
    bench_inputs_routing(&bench, 1, ids, weights);
    for (int token = 0; token < 300; token++) {
        unsigned named = 0;
        float sum = 0.0f;
        for (int k = 0; k < 4; k++) {
            int32_t expert = ids[token * 4 + k];
            assert_in_range(expert, 0, 5);
            assert_int_equal(named >> expert & 1, 0);
            named |= 1u << expert;
            seen[expert]++;
            assert_true(weights[token * 4 + k] > 0.0f);
            sum += weights[token * 4 + k];
        }
        assert_true(fabsf(sum - 1.0f) < 1e-5f);
    }
    for (int expert = 0; expert < 6; expert++) {
        assert_in_range(seen[expert], 160, 240); /* 200 each, uniformly */
    }
}

static void hosts__have_ranks_in_order_and_evenly(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    for (bench.rank_count = 1; bench.rank_count <= 9; bench.rank_count++) {
        for (bench.host_count = 1; bench.host_count <= bench.rank_count; bench.host_count++) {
            int64_t counts[9] = {0};
            for (int64_t rank = 0; rank < bench.rank_count; rank++) {
                int64_t host = bench_case_host(&bench, rank);
                assert_in_range(host, rank == 0 ? 0 : bench_case_host(&bench, rank - 1), bench.host_count - 1);
                counts[host]++;
            }
            for (int64_t host = 0; host < bench.host_count; host++) {
                assert_in_range(counts[host], bench.rank_count / bench.host_count,
                                (bench.rank_count + bench.host_count - 1) / bench.host_count);
            }
        }
    }
}

/* Rank 2 of 3 is on host 1 of 2, with experts 4 and 5. */
static void crossing__is_a_row_to_each_host_and_a_row_of_each_expert_back(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    int64_t dispatch[3 * 2] = {0};
    int64_t combine[3 * 2] = {0};
    int64_t wanted_dispatch[3 * 2] = {0};
    int64_t wanted_combine[3 * 2] = {0};
    bench.host_count = 2;
    assert_int_equal(bench_case_host(&bench, 1), 0);
    assert_int_equal(bench_case_host(&bench, 2), 1);
    for (int rank = 0; rank < 3; rank++) {
        int32_t ids[5 * 4];
        float weights[5 * 4];
        bench_inputs_routing(&bench, rank, ids, weights);
        for (int token = 0; token < 5; token++) {
            int away = 0;
            for (int k = 0; k < 4; k++) {
                int owner = ids[token * 4 + k] / 2;
                bool crosses = (owner == 2) != (rank == 2);
                away += crosses;
                wanted_combine[owner * 2 + (rank == 2)] += crosses;
            }
            wanted_dispatch[rank * 2 + (rank != 2)] += away > 0;
        }
    }
    bench_crossing_rows(&bench, false, dispatch);
    bench_crossing_rows(&bench, true, combine);
    assert_memory_equal(dispatch, wanted_dispatch, sizeof dispatch);
    assert_memory_equal(combine, wanted_combine, sizeof combine);
    int64_t rows = dispatch[1] + dispatch[3] + dispatch[4];
    assert_in_range(rows, 10, 15); /* of 15 tokens; K is 4, so every one of host 1 has an expert on host 0 */
    assert_int_equal(bench_crossing_bytes(&bench, false), rows * 37 * 2);
    assert_int_equal(bench_crossing_bytes(&bench, true), (combine[1] + combine[3] + combine[4]) * 37 * 2);
    bench.quantize = true;
    assert_int_equal(bench_crossing_bytes(&bench, false), rows * (37 + 4));
    bench.host_count = 1;
    assert_int_equal(bench_crossing_bytes(&bench, false), 0);
}

static void check__wants_a_rank_on_every_host(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    bench.host_count = 3;
    assert_true(bench_case_check(&bench));
    bench.processes = false;
    assert_false(bench_case_check(&bench));
    bench.processes = true;
    bench.host_count = 4;
    assert_false(bench_case_check(&bench));
}

static void routing__with_zipf_has_a_favourite(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    bench.token_count = 300;
    bench.topk = 1;
    bench.zipf = 2.0;
    int32_t ids[300];
    float weights[300];
    int seen[6] = {0};
    bench_inputs_routing(&bench, 0, ids, weights);
    int most = 0;
    for (int token = 0; token < 300; token++) {
        seen[ids[token]]++;
        most = seen[ids[token]] > most ? seen[ids[token]] : most;
    }
    assert_in_range(most, 175, 225); /* 1 / (1 + 1/4 + … + 1/36) = 67 % of 300 */
}

static void option__is_taken_refused_or_left(void **state)
{
    (void)state;
    struct bench_case bench = BENCH_CASE_INIT;
    char *words[] = {"program", "--bs", "12", "--dtype", "fp16", "--other", "1", "--ranks", "0", "--quant"};
    int at = 1;
    assert_int_equal(bench_case_option(&bench, 10, words, &at), 1);
    assert_int_equal(at, 3);
    assert_int_equal(bench.token_count, 12);
    assert_int_equal(bench_case_option(&bench, 10, words, &at), 1);
    assert_int_equal(bench.dtype, BENCH_FP16);
    assert_int_equal(bench_case_option(&bench, 10, words, &at), 0);
    assert_int_equal(at, 5);
    at = 7;
    assert_int_equal(bench_case_option(&bench, 10, words, &at), -1);
    assert_int_equal(bench.rank_count, 16);
    at = 9;
    assert_int_equal(bench_case_option(&bench, 10, words, &at), -1);
}

static void check__wants_experts_for_every_rank(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    assert_true(bench_case_check(&bench));
    bench.expert_count = 7;
    assert_false(bench_case_check(&bench));
    bench.expert_count = 3;
    assert_false(bench_case_check(&bench)); /* fewer than K */
}

static void check__counts_rows_in_32_bits(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    bench.rank_count = 4096;
    bench.expert_count = 4096;
    bench.token_count = 1 << 18;
    bench.topk = 1;
    assert_true(bench_case_check(&bench));
    bench.topk = 2; /* 2^31 rows */
    assert_false(bench_case_check(&bench));
    bench.token_count--;
    assert_true(bench_case_check(&bench));
    bench.token_count = 1 << 20;
    bench.topk = 4096;
    assert_false(bench_case_check(&bench));
}

static void check__wants_processes_for_products(void **state)
{
    (void)state;
    struct bench_case bench = small_case();
    bench.product_columns = 8;
    assert_true(bench_case_check(&bench));
    bench.processes = false;
    assert_false(bench_case_check(&bench));
    bench.product_columns = 0;
    assert_true(bench_case_check(&bench));
}

/* ---- Numbers ------------------------------------------------------------------------------------------------- */

static void numbers__are_those_of_the_library(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits;
        if ((half & 0x7c00) != 0x7c00) {
            float value = bench_float_fp16(half);
            assert_true(bench_float_bits(value) == bench_float_bits(epx_fp32_from_fp16(half)));
            assert_int_equal(bench_round_fp16(value), half);
            assert_int_equal(bench_round_fp16(value * 1.0004f), epx_fp16_from_fp32(value * 1.0004f));
        }
        if ((half & 0x7f00) != 0x7f00) { /* finite, also when a little larger */
            float value = bench_float_bf16(half);
            assert_true(bench_float_bits(value) == bench_float_bits(epx_fp32_from_bf16(half)));
            assert_int_equal(bench_round_bf16(value), half);
            assert_int_equal(bench_round_bf16(value * 1.004f), epx_bf16_from_fp32(value * 1.004f));
        }
    }
}

static void digest__tells_bytes_and_order(void **state)
{
    (void)state;
    unsigned char data[19];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(i * 7);
    }
    uint64_t whole = bench_digest(BENCH_DIGEST_INIT, data, sizeof data);
    assert_true(whole == bench_digest(bench_digest(BENCH_DIGEST_INIT, data, 16), data + 16, 3));
    for (size_t i = 0; i < sizeof data; i++) {
        for (int bit = 0; bit < 8; bit++) {
            data[i] ^= (unsigned char)(1u << bit);
            assert_true(bench_digest(BENCH_DIGEST_INIT, data, sizeof data) != whole);
            data[i] ^= (unsigned char)(1u << bit);
        }
    }
}

/* ---- What results must be ------------------------------------------------------------------------------------ */

/* A rank's results, made with the library's plainest kernels from the floor's row lists. */
struct made {
    struct floor_layout layout;
    unsigned char *expand_x;
    float *scales;
    uint16_t *y;
};

static float make_row(const struct bench_case *bench, const uint16_t *token, unsigned char *row)
{
    const struct epx_kernel_table *kernels = epx_kernels_by_name("ref");
    size_t hidden = (size_t)bench->hidden_elems;
    if (bench->quantize) {
        return kernels->quantize_row[bench->dtype == BENCH_BF16 ? EPX_ROW_BF16 : EPX_ROW_FP16]((int8_t *)row, token,
                                                                                               NULL, hidden);
    }
    memcpy(row, token, hidden * sizeof *token);
    return 1.0f;
}

static void make_combined(struct made *made, const struct bench_case *bench, int64_t rank, const uint16_t *x)
{
    const struct epx_kernel_table *kernels = epx_kernels_by_name("ref");
    const struct floor_rank *mine = &made->layout.ranks[rank];
    size_t hidden = (size_t)bench->hidden_elems;
    uint16_t outs[4][37];
    unsigned char row[2 * 37];
    for (int64_t token = 0; token < bench->token_count; token++) {
        const uint16_t *rows[4] = {outs[0], outs[1], outs[2], outs[3]};
        float scale = make_row(bench, x + (size_t)token * hidden, row);
        for (int64_t k = 0; k < bench->topk; k++) {
            bench_expert_row(bench, mine->expert_ids[token * bench->topk + k], row, scale, outs[k]);
        }
        kernels->weighted_sum_row[bench->dtype == BENCH_BF16 ? EPX_ROW_BF16 : EPX_ROW_FP16](
            made->y + (size_t)token * hidden, rows, mine->weights + token * bench->topk, (size_t)bench->topk, NULL,
            hidden);
    }
}

static void make(struct made *made, const struct bench_case *bench, int64_t rank)
{
    assert_true(floor_layout_create(&made->layout, bench));
    const struct floor_rank *mine = &made->layout.ranks[rank];
    uint16_t *x = malloc(elems_of(bench) * sizeof *x);
    made->expand_x = malloc((size_t)mine->row_count * made->layout.row_bytes + 1);
    made->scales = malloc((size_t)(mine->row_count + 1) * sizeof *made->scales);
    made->y = malloc(elems_of(bench) * sizeof *made->y);
    for (int64_t row = 0; row < mine->row_count; row++) {
        bench_inputs_tokens(bench, mine->rows[row].source, x);
        made->scales[row] = make_row(bench, x + mine->rows[row].token * bench->hidden_elems,
                                     made->expand_x + (size_t)row * made->layout.row_bytes);
    }
    bench_inputs_tokens(bench, rank, x);
    make_combined(made, bench, rank, x);
    free(x);
}

static void unmake(struct made *made)
{
    free(made->expand_x);
    free(made->scales);
    free(made->y);
    floor_layout_destroy(&made->layout);
}

static void expect_after_harm(const struct bench_case *bench, struct made *made, int64_t rank)
{
    struct floor_rank *mine = &made->layout.ranks[rank];
    size_t last = (size_t)mine->row_count * made->layout.row_bytes - 1;
    made->expand_x[last] ^= 1;
    assert_int_equal(bench_expect_dispatch(bench, rank, made->expand_x, made->scales, mine->expert_rows), 1);
    made->expand_x[last] ^= 1;
    mine->expert_rows[1]++;
    assert_int_equal(bench_expect_dispatch(bench, rank, made->expand_x, made->scales, mine->expert_rows), 1);
    mine->expert_rows[1]--;
    if (bench->quantize) {
        made->scales[0] = nextafterf(made->scales[0], 100.0f);
        assert_int_equal(bench_expect_dispatch(bench, rank, made->expand_x, made->scales, mine->expert_rows), 1);
    }
    made->y[elems_of(bench) - 1] ^= 1;
    made->y[0] ^= 1;
    assert_int_equal(bench_expect_combine(bench, rank, made->y), 2);
}

static void expect__accepts_what_is_right_and_counts_what_is_wrong(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        struct bench_case bench = small_case();
        bench.dtype = mode % 2 == 0 ? BENCH_BF16 : BENCH_FP16;
        bench.quantize = mode / 2 != 0;
        for (int64_t rank = 0; rank < bench.rank_count; rank++) {
            struct made made;
            make(&made, &bench, rank);
            const struct floor_rank *mine = &made.layout.ranks[rank];
            assert_true(mine->row_count > 0);
            assert_int_equal(bench_expect_dispatch(&bench, rank, made.expand_x, made.scales, mine->expert_rows), 0);
            assert_int_equal(bench_expect_combine(&bench, rank, made.y), 0);
            expect_after_harm(&bench, &made, rank);
            unmake(&made);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens__depend_on_seed_and_rank_alone),
        cmocka_unit_test(tokens__are_finite_with_magnitudes_of_their_own),
        cmocka_unit_test(weights__depend_on_the_seed_alone),
        cmocka_unit_test(routing__is_distinct_and_weighted),
        cmocka_unit_test(routing__with_zipf_has_a_favourite),
        cmocka_unit_test(hosts__have_ranks_in_order_and_evenly),
        cmocka_unit_test(crossing__is_a_row_to_each_host_and_a_row_of_each_expert_back),
        cmocka_unit_test(check__wants_a_rank_on_every_host),
        cmocka_unit_test(option__is_taken_refused_or_left),
        cmocka_unit_test(check__wants_experts_for_every_rank),
        cmocka_unit_test(check__counts_rows_in_32_bits),
        cmocka_unit_test(check__wants_processes_for_products),
        cmocka_unit_test(numbers__are_those_of_the_library),
        cmocka_unit_test(digest__tells_bytes_and_order),
        cmocka_unit_test(expect__accepts_what_is_right_and_counts_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
