/*
 * One rank's part in a case through epx/epx.h: the rounds, and what it reports of them. Thread: each rank its own.
 */
#ifndef EPX_BENCH_EPX_CASE_H
#define EPX_BENCH_EPX_CASE_H

#include "epx_rank.h"
#include "memory_use.h"
#include "world.h"

/* In the order of a round. */
enum epx_case_operation {
    EPX_CASE_DISPATCH,
    EPX_CASE_COMBINE,
    EPX_CASE_ROUND_TRIP,
    EPX_CASE_DISPATCH_PRODUCT,
    EPX_CASE_PRODUCT,
    EPX_CASE_OPERATION_COUNT
};

struct epx_case {
    struct bench_case bench;
    bool round_trip;
    bool private_memory;
    bool views;
    bool two_level;
    bool memory;
};

struct epx_case_report { /* of one rank */
    uint64_t dispatch_digest;
    uint64_t combine_digest;
    uint64_t product_digest;
    int64_t wrong;
    int64_t create_ns;
    int64_t plan_ns;
    int64_t dispatch_bytes_read;
    int64_t dispatch_bytes_written;
    int64_t combine_bytes_read;
    int64_t combine_bytes_written;
    int64_t before_bytes; /* resident, before the library was called */
    int64_t tensor_bytes;
    struct bench_memory_use memory; /* after the rounds */
};

struct epx_case_shared { /* then, aligned to a line, the weights of the product */
    struct epx_token token;
    struct epx_case_report reports[];
};

/* Bytes that the ranks share, and where the weights (H, N) lie in them. */
size_t epx_case_shared_bytes(const struct bench_case *bench);
float *epx_case_weights(const struct bench_case *bench, void *shared);

bool epx_case_times(const struct epx_case *options, enum epx_case_operation operation);

/* Timed operations of all rounds, and the place of one of them among all. Round 0 is the first call, then come the
 * warm-up and the rounds that count. */
int64_t epx_case_operation_count(const struct epx_case *options);
int64_t epx_case_operation_index(const struct epx_case *options, int64_t round, enum epx_case_operation operation);
int64_t epx_case_rounds_before(const struct bench_case *bench);

/* A bench_member_main; the context is a struct epx_case. */
int epx_case_run(struct bench_member *member, void *context);

#endif
