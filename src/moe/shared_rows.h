/*
 * How tokens are split over the S ranks that hold the shared expert. Pure. Thread: any.
 *
 * A rank that holds the shared expert keeps its own tokens. Rank e of the others sends tokens [first, end) of its own
 * to shared rank s: first = floor((s + e) * BS / S) - floor(e * BS / S), end the same with s + 1. The intervals of
 * s = 0 .. S - 1 follow each other and cover [0, BS).
 *
 * Domain: 0 <= token_count < 2^49, ranks below 2^13, 1 <= shared_count < 2^13: nothing wraps.
 */
#ifndef EPX_MOE_SHARED_ROWS_H
#define EPX_MOE_SHARED_ROWS_H

#include <stdint.h>

struct epx_token_interval {
    int64_t first;
    int64_t end; /* exclusive */
};

/* What shared rank `shared_rank` receives of the `token_count` tokens of rank `source`, source >= shared_count. */
struct epx_token_interval epx_shared_rows_interval(int64_t shared_rank, int64_t source, int64_t token_count,
                                                   int64_t shared_count);

/* What shared rank `shared_rank` writes as the count of source i < shared_count: shares of its own `token_count` tokens
 * that add up to token_count over i. */
int64_t epx_shared_rows_pseudo_count(int64_t i, int64_t shared_rank, int64_t token_count, int64_t shared_count);

#endif
