/*
 * Pairs of dispatch and combine through epx/epx.h, as one rank runs them, compared bit for bit with what must come out.
 */
#ifndef EPX_TESTS_PAIR_RUN_H
#define EPX_TESTS_PAIR_RUN_H

#include "epx/epx.h"
#include "ranks/pair_world.h"

#define PAIR_TEXT_BYTES 768
#define PAIR_TAKEN_MAX  16u

enum pair_way { /* equal on all ranks */
                PAIR_WAY_COPIES,
                PAIR_WAY_VIEWS,    /* row views, which the combine ends */
                PAIR_WAY_RELEASED, /* row views, released before the combine */
                PAIR_WAY_COUNT,
};

struct pair_choice {
    uint32_t world; /* of the set; equal on all ranks */
    enum pair_way way;
    bool started; /* in the background, and waited for */
};

enum pair_memory { PAIR_MEMORY_PRIVATE, PAIR_MEMORY_ALLOCATED, PAIR_MEMORY_RESERVED, PAIR_MEMORY_COUNT };

struct pair_taken {
    void *address;
    enum pair_memory memory;
};

/* Written anew for each operation, and written over as soon as the library has said that they are free. */
struct pair_inputs {
    uint16_t *x;
    int32_t *ids;
    float *scales;
    float *smooth;
    uint16_t *returns; /* expand_x of the combine */
    int32_t *slots;    /* its expand_idx */
    float *weights;    /* its expert_scales */
};

struct pair_run {
    const struct pair_set *set;
    int64_t rank;
    struct epx_plan *plan;
    struct random_source random; /* of the kinds of memory */
    int64_t row_max;
    int64_t local_experts;
    struct pair_inputs inputs;
    uint8_t *rows;
    const void **views;
    float *dynamic_scales;
    int32_t *expand_idx;
    int64_t *token_nums;
    int32_t *counts;
    float *expand_scales;
    uint16_t *x;
    struct pair_taken taken[PAIR_TAKEN_MAX];
    uint32_t taken_count;
    uint64_t hash;              /* of all outputs since the beginning */
    char text[PAIR_TEXT_BYTES]; /* what is wrong */
};

/* Plan and tensors. False, also below: run->text says what is wrong. After either, pair_run_fini. */
bool pair_run_init(struct pair_run *run, const struct pair_set *set, struct epx_communicator *comm, int64_t rank,
                   uint64_t seed);
void pair_run_fini(struct pair_run *run);

/* One dispatch and one combine, every output compared. */
bool pair_run_pair(struct pair_run *run, const struct pair_choice *choice);

/* Which pair comes next, by draws that all ranks make alike; own_random is the rank's alone. */
struct pair_choice pair_choice_draw(struct random_source *random, struct random_source *own_random,
                                    const struct pair_set *set);

#endif
