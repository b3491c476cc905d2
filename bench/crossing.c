#include "crossing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(int64_t count, size_t elem_bytes)
{
    void *memory = calloc((size_t)count, elem_bytes);
    if (memory == NULL) {
        (void)fprintf(stderr, "no memory for the routing of a case\n");
        abort();
    }
    return memory;
}

/* `seen`: hosts that a token goes to already, by token + 1. */
static void add_rank(const struct bench_case *bench, enum bench_crossing crossing, int64_t rank, const int32_t *ids,
                     int64_t *seen, int64_t *rows)
{
    int64_t experts = bench->expert_count / bench->rank_count;
    int64_t home = bench_case_host(bench, rank);
    memset(seen, 0, (size_t)bench->host_count * sizeof *seen);
    for (int64_t i = 0; i < bench->token_count * bench->topk; i++) {
        int64_t other = ids[i] / experts;
        int64_t host = bench_case_host(bench, other);
        int64_t token = i / bench->topk + 1;
        if (host == home) {
            continue;
        }
        if (crossing == BENCH_CROSSING_COMBINE) {
            rows[other * bench->host_count + home]++;
        } else if (seen[host] != token) {
            seen[host] = token;
            rows[rank * bench->host_count + host]++;
        }
    }
}

void bench_crossing_rows(const struct bench_case *bench, enum bench_crossing crossing, int64_t *rows)
{
    int64_t copies = bench->token_count * bench->topk;
    int32_t *ids = allocate(copies, sizeof *ids);
    float *weights = allocate(copies, sizeof *weights);
    int64_t *seen = allocate(bench->host_count, sizeof *seen);
    for (int64_t rank = 0; rank < bench->rank_count; rank++) {
        bench_inputs_routing(bench, rank, ids, weights);
        add_rank(bench, crossing, rank, ids, seen, rows);
    }
    free(seen);
    free(weights);
    free(ids);
}

int64_t bench_crossing_row_bytes(const struct bench_case *bench, enum bench_crossing crossing)
{
    return bench->quantize && crossing == BENCH_CROSSING_DISPATCH ? bench->hidden_elems + (int64_t)sizeof(float)
                                                                  : bench->hidden_elems * (int64_t)sizeof(uint16_t);
}

int64_t bench_crossing_bytes(const struct bench_case *bench, enum bench_crossing crossing)
{
    int64_t count = bench->rank_count * bench->host_count;
    int64_t sum = 0;
    if (bench->host_count == 1) {
        return 0;
    }
    int64_t *rows = allocate(count, sizeof *rows);
    /* One row comes back from wherever one was sent. */
    bench_crossing_rows(bench, crossing == BENCH_CROSSING_TWO_LEVEL ? BENCH_CROSSING_DISPATCH : crossing, rows);
    for (int64_t i = 0; i < count; i++) {
        sum += rows[i];
    }
    free(rows);
    return sum * bench_crossing_row_bytes(bench, crossing);
}
