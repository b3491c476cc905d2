/* What the floor moves: one worker's share of each operation. */
#ifndef EPX_BENCH_FLOOR_MOVES_H
#define EPX_BENCH_FLOOR_MOVES_H

#include "floor_layout.h"
#include "kernel/kernel.h"
#include "world.h"

enum floor_variant { FLOOR_PULL, FLOOR_PULL_NT, FLOOR_PUSH_NT, FLOOR_VARIANT_COUNT };

struct floor_member {
    const struct floor_layout *layout;
    int64_t worker_count; /* of each rank */
    struct bench_member *member;
    int64_t index;  /* of the rank */
    int64_t worker; /* of its workers */
    const struct epx_kernel_table *kernels;
    const struct floor_rank *mine;
    char *tensors;             /* shared */
    const uint16_t **summands; /* (K) */
};

/* Whole operations: barriers at both ends. Streaming: with stores that bypass the cache. */
void floor_dispatch(const struct floor_member *rank, enum floor_variant variant);
void floor_combine(const struct floor_member *rank, bool streaming);

/* What the layers around an exchange do; the first worker does it. */
void floor_experts(const struct floor_member *rank);
void floor_touch(const struct floor_member *rank);

#endif
