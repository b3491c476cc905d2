#include "expect.h"

#include "numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct expectation {
    const struct bench_case *bench;
    int64_t local_experts;
    uint16_t *x; /* of one source rank at a time */
    int32_t *ids;
    float *weights;
    int8_t *quantized;    /* (BS, H) and */
    float *scales;        /* (BS): the source's rows, as they travel with quantisation */
    int64_t *next_row;    /* (L): where the next row of a local expert goes */
    uint16_t *expert_out; /* (H) */
    float *sum;           /* (H) */
};

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        (void)fprintf(stderr, "no memory to check results with (%zu bytes)\n", bytes);
        exit(1);
    }
    return memory;
}

static void expectation_init(struct expectation *expect, const struct bench_case *bench)
{
    size_t elems = (size_t)(bench->token_count * bench->hidden_elems);
    size_t copies = (size_t)(bench->token_count * bench->topk);
    size_t hidden = (size_t)bench->hidden_elems;
    expect->bench = bench;
    expect->local_experts = bench->expert_count / bench->rank_count;
    expect->x = allocate(elems * sizeof *expect->x);
    expect->ids = allocate(copies * sizeof *expect->ids);
    expect->weights = allocate(copies * sizeof *expect->weights);
    expect->quantized = allocate(elems);
    expect->scales = allocate((size_t)bench->token_count * sizeof *expect->scales);
    expect->next_row = allocate((size_t)expect->local_experts * sizeof *expect->next_row);
    expect->expert_out = allocate(hidden * sizeof *expect->expert_out);
    expect->sum = allocate(hidden * sizeof *expect->sum);
}

static void expectation_fini(struct expectation *expect)
{
    free(expect->x);
    free(expect->ids);
    free(expect->weights);
    free(expect->quantized);
    free(expect->scales);
    free(expect->next_row);
    free(expect->expert_out);
    free(expect->sum);
}

/* One row's int8 form: scaled so that its largest magnitude is 127. */
static float quantize(const struct bench_case *bench, const uint16_t *row, int8_t *out)
{
    float largest = 0.0f;
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        largest = fmaxf(largest, fabsf(bench_float(bench, row[h])));
    }
    float factor = 127.0f / largest;
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        float scaled = rintf(bench_float(bench, row[h]) * factor);
        out[h] = (int8_t)(scaled > 127.0f ? 127.0f : scaled < -128.0f ? -128.0f : scaled);
    }
    return 1.0f / factor;
}

static void load_source(struct expectation *expect, int64_t source)
{
    const struct bench_case *bench = expect->bench;
    bench_inputs_tokens(bench, source, expect->x);
    bench_inputs_routing(bench, source, expect->ids, expect->weights);
    for (int64_t token = 0; bench->quantize && token < bench->token_count; token++) {
        int64_t at = token * bench->hidden_elems;
        expect->scales[token] = quantize(bench, expect->x + at, expect->quantized + at);
    }
}

/* The row that travels for a token, and its bytes. */
static const void *travelling_row(const struct expectation *expect, int64_t token, size_t *bytes)
{
    int64_t at = token * expect->bench->hidden_elems;
    *bytes = (size_t)expect->bench->hidden_elems * (expect->bench->quantize ? 1 : sizeof(uint16_t));
    return expect->bench->quantize ? (const void *)(expect->quantized + at) : (const void *)(expect->x + at);
}

/* next_row: first row of each local expert of `rank`. Number of counts that are wrong. */
static int64_t place_experts(struct expectation *expect, int64_t rank, const int64_t *expert_token_nums)
{
    const struct bench_case *bench = expect->bench;
    int64_t *counts = allocate((size_t)bench->expert_count * sizeof *counts);
    for (int64_t source = 0; source < bench->rank_count; source++) {
        bench_inputs_routing(bench, source, expect->ids, expect->weights);
        for (int64_t i = 0; i < bench->token_count * bench->topk; i++) {
            counts[expect->ids[i]]++;
        }
    }
    const int64_t *mine = counts + rank * expect->local_experts;
    int64_t wrong = 0;
    int64_t row = 0;
    for (int64_t local = 0; local < expect->local_experts; local++) {
        expect->next_row[local] = row;
        row += mine[local];
        wrong += expert_token_nums[local] != mine[local];
    }
    free(counts);
    return wrong;
}

int64_t bench_expect_dispatch(const struct bench_case *bench, int64_t rank, const void *expand_x, const float *scales,
                              const int64_t *expert_token_nums)
{
    struct expectation expect;
    expectation_init(&expect, bench);
    int64_t wrong = place_experts(&expect, rank, expert_token_nums);
    for (int64_t source = 0; source < bench->rank_count; source++) {
        load_source(&expect, source);
        for (int64_t i = 0; i < bench->token_count * bench->topk; i++) {
            int64_t local = expect.ids[i] - rank * expect.local_experts;
            if (local < 0 || local >= expect.local_experts) {
                continue;
            }
            size_t bytes = 0;
            const void *row = travelling_row(&expect, i / bench->topk, &bytes);
            int64_t at = expect.next_row[local]++;
            bool same = memcmp((const char *)expand_x + (size_t)at * bytes, row, bytes) == 0;
            same = same && (!bench->quantize ||
                            bench_float_bits(scales[at]) == bench_float_bits(expect.scales[i / bench->topk]));
            wrong += !same;
        }
    }
    expectation_fini(&expect);
    return wrong;
}

/* Products and sums are rounded to fp32 one by one, in the order of k. */
static void add_expert(struct expectation *expect, int64_t token, int64_t k)
{
    const struct bench_case *bench = expect->bench;
    size_t bytes = 0;
    const void *row = travelling_row(expect, token, &bytes);
    float weight = expect->weights[token * bench->topk + k];
    bench_expert_row(bench, expect->ids[token * bench->topk + k], row, expect->scales[token], expect->expert_out);
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        float product = bench_float(bench, expect->expert_out[h]) * weight;
        expect->sum[h] = expect->sum[h] + product;
    }
}

static int64_t count_wrong(const struct bench_case *bench, const uint16_t *row, const float *sum)
{
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        if (row[h] != bench_round(bench, sum[h])) {
            return 1;
        }
    }
    return 0;
}

int64_t bench_expect_combine(const struct bench_case *bench, int64_t rank, const uint16_t *x)
{
    struct expectation expect;
    expectation_init(&expect, bench);
    load_source(&expect, rank);
    int64_t wrong = 0;
    for (int64_t token = 0; token < bench->token_count; token++) {
        memset(expect.sum, 0, (size_t)bench->hidden_elems * sizeof *expect.sum);
        for (int64_t k = 0; k < bench->topk; k++) {
            add_expert(&expect, token, k);
        }
        wrong += count_wrong(bench, x + token * bench->hidden_elems, expect.sum);
    }
    expectation_fini(&expect);
    return wrong;
}

/* The place of the token's copy for the next expert of the host after `expert`; -1: none. A token names an expert once.
 */
static int64_t next_copy(const struct expectation *expect, int64_t token, int64_t host, int64_t expert)
{
    const struct bench_case *bench = expect->bench;
    const int32_t *ids = expect->ids + token * bench->topk;
    int64_t found = -1;
    for (int64_t k = 0; k < bench->topk; k++) {
        bool here = bench_case_host(bench, ids[k] / expect->local_experts) == host;
        if (here && ids[k] > expert && (found < 0 || ids[k] < ids[found])) {
            found = k;
        }
    }
    return found;
}

/* Adds the partial of a host, rounded as a row is, to `total`. */
static void add_host(struct expectation *expect, int64_t token, int64_t host, float *total)
{
    const struct bench_case *bench = expect->bench;
    int64_t k = next_copy(expect, token, host, -1);
    if (k < 0) {
        return;
    }
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        expect->sum[h] = -0.0f; /* so that the first term is the product itself */
    }
    while (k >= 0) {
        add_expert(expect, token, k);
        k = next_copy(expect, token, host, expect->ids[token * bench->topk + k]);
    }
    for (int64_t h = 0; h < bench->hidden_elems; h++) {
        total[h] = total[h] + bench_float(bench, bench_round(bench, expect->sum[h]));
    }
}

int64_t bench_expect_two_level(const struct bench_case *bench, int64_t rank, const uint16_t *x)
{
    struct expectation expect;
    expectation_init(&expect, bench);
    float *total = allocate((size_t)bench->hidden_elems * sizeof *total);
    load_source(&expect, rank);
    int64_t wrong = 0;
    for (int64_t token = 0; token < bench->token_count; token++) {
        memset(total, 0, (size_t)bench->hidden_elems * sizeof *total);
        for (int64_t host = 0; host < bench->host_count; host++) {
            add_host(&expect, token, host, total);
        }
        wrong += count_wrong(bench, x + token * bench->hidden_elems, total);
    }
    free(total);
    expectation_fini(&expect);
    return wrong;
}
