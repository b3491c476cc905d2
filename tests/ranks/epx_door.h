/*
 * Ranks of door 1 as threads of a test, and the smallest world of the specification.
 */
#ifndef EPX_TESTS_EPX_DOOR_H
#define EPX_TESTS_EPX_DOOR_H

#include "epx/epx.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RANK_MAX 8

/* One rank of a scenario: cmocka's asserts belong to the main thread, so ranks note the line. */
struct rank {
    pthread_t thread;
    uint32_t index;
    uint32_t count;
    struct epx_communicator *comm;
    void (*main)(struct rank *rank);
    int wrong_line;
    enum epx_status status;
    char text[512];
};

#define RANK_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            rank->wrong_line = __LINE__;                                                                               \
            fprintf(stderr, "rank %u line %d: %s (%s)\n", rank->index, __LINE__, #condition, epx_last_error());        \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static inline void *rank_thread(void *context)
{
    struct rank *rank = context;
    rank->main(rank);
    return NULL;
}

static inline void run_ranks(uint32_t count, struct epx_communicator *const *comms, struct rank *ranks,
                             void (*scenario)(struct rank *))
{
    for (uint32_t i = 0; i < count; i++) {
        ranks[i] = (struct rank){.index = i, .count = count, .comm = comms[i], .main = scenario};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_thread, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(ranks[i].thread, NULL);
        assert_int_equal(ranks[i].wrong_line, 0);
    }
}

static inline void run_local(uint32_t count, struct rank *ranks, void (*scenario)(struct rank *))
{
    struct epx_communicator *comms[RANK_MAX];
    assert_int_equal(epx_comm_create_local(count, NULL, comms), EPX_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(epx_comm_rank_of(comms[i]), i);
        assert_int_equal(epx_comm_size_of(comms[i]), count);
    }
    run_ranks(count, comms, ranks, scenario);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
    }
}

/* ---- The smallest world of the specification (docs/operators.md 1.6) ---- */

#define GOLDEN_TOKENS 2
#define GOLDEN_HIDDEN 5
#define GOLDEN_ROWS   8
#define GUARD         0x7B

struct golden {
    uint16_t x[GOLDEN_TOKENS][GOLDEN_HIDDEN];
    uint16_t expand_x[GOLDEN_ROWS][GOLDEN_HIDDEN];
    uint16_t sum[GOLDEN_TOKENS][GOLDEN_HIDDEN];
    int32_t ids[4];
    int32_t expand_idx[4];
    int64_t nums[4]; /* of two local experts, four when there is one rank */
    int32_t counts[4];
    float weights[4];
};

static const int32_t golden_ids[2][4] = {{0, 2, 2, 3}, {3, 0, 1, 2}};
static const int32_t golden_counts[2][4] = {{1, 2, 2, 3}, {2, 3, 4, 5}};
static const int64_t golden_nums[2][2] = {{2, 1}, {3, 2}};
static const int32_t golden_expand_idx[2][4] = {{0, 0, 1, 0}, {0, 0, 0, 0}};
/* (rank, token) of each row. */
static const int golden_rows[2][5][2] = {{{0, 0}, {1, 0}, {1, 1}}, {{0, 0}, {0, 1}, {1, 1}, {0, 1}, {1, 0}}};

static inline uint16_t golden_value(uint32_t rank, int token, int h)
{
    /* bf16 of small integers: exact. */
    float value = (float)(1 + rank * 20 + (uint32_t)token * 8 + (uint32_t)h);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static inline void golden_fill(struct golden *golden, uint32_t rank)
{
    memset(golden, GUARD, sizeof *golden);
    memcpy(golden->ids, golden_ids[rank], sizeof golden->ids);
    for (int token = 0; token < GOLDEN_TOKENS; token++) {
        for (int h = 0; h < GOLDEN_HIDDEN; h++) {
            golden->x[token][h] = golden_value(rank, token, h);
        }
    }
    for (int i = 0; i < 4; i++) {
        golden->weights[i] = 0.5f;
    }
}

static inline struct epx_moe_config golden_config(void)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = 4;
    config.hidden_elems = GOLDEN_HIDDEN;
    config.topk = 2;
    config.token_max = GOLDEN_TOKENS;
    return config;
}

static inline struct epx_dispatch_args golden_dispatch_args(struct golden *golden)
{
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    args.token_count = GOLDEN_TOKENS;
    args.x = golden->x;
    args.expert_ids = golden->ids;
    args.expand_x = golden->expand_x;
    args.expand_idx = golden->expand_idx;
    args.expert_token_nums = golden->nums;
    args.ep_recv_counts = golden->counts;
    return args;
}

static inline struct epx_combine_args golden_combine_args(struct golden *golden)
{
    struct epx_combine_args args = EPX_COMBINE_ARGS_INIT;
    args.token_count = GOLDEN_TOKENS;
    args.expand_x = golden->expand_x;
    args.expert_ids = golden->ids;
    args.expand_idx = golden->expand_idx;
    args.ep_send_counts = golden->counts;
    args.expert_scales = golden->weights;
    args.x = golden->sum;
    return args;
}

static inline void golden_check_dispatch(struct rank *rank, const struct golden *golden)
{
    int rows = rank->index == 0 ? 3 : 5;
    RANK_CHECK(memcmp(golden->counts, golden_counts[rank->index], sizeof golden->counts) == 0);
    RANK_CHECK(memcmp(golden->nums, golden_nums[rank->index], sizeof golden_nums[0]) == 0);
    RANK_CHECK(memcmp(golden->expand_idx, golden_expand_idx[rank->index], sizeof golden->expand_idx) == 0);
    for (int row = 0; row < GOLDEN_ROWS; row++) {
        for (int h = 0; h < GOLDEN_HIDDEN; h++) {
            const int *from = golden_rows[rank->index][row < rows ? row : 0];
            uint16_t expected = row < rows ? golden_value((uint32_t)from[0], from[1], h) : GUARD * 0x101;
            RANK_CHECK(golden->expand_x[row][h] == expected);
        }
    }
}

/* Experts that change nothing and weights that add up to 1 give the tokens back. */
static inline void golden_check_combine(struct rank *rank, const struct golden *golden)
{
    RANK_CHECK(memcmp(golden->sum, golden->x, sizeof golden->x) == 0);
}

static inline void golden_scenario(struct rank *rank, bool in_arena)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    void *memory = NULL;
    RANK_CHECK((in_arena ? epx_memory_alloc(sizeof(struct golden), &memory) : EPX_OK) == EPX_OK);
    memory = in_arena ? memory : malloc(sizeof(struct golden));
    struct golden *golden = memory;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_recv_row_max(plan) == GOLDEN_ROWS && epx_plan_local_expert_count(plan) == 2);
    for (int repeat = 0; repeat < 3; repeat++) {
        golden_fill(golden, rank->index);
        struct epx_dispatch_args dispatch = golden_dispatch_args(golden);
        struct epx_combine_args combine = golden_combine_args(golden);
        RANK_CHECK(epx_dispatch(plan, &dispatch) == EPX_OK);
        golden_check_dispatch(rank, golden);
        RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
        golden_check_combine(rank, golden);
    }
    RANK_CHECK(epx_plan_stats(plan, &stats) == EPX_OK);
    RANK_CHECK(stats.dispatch_rows_sent == 4 && stats.dispatch_rows_received == (rank->index == 0 ? 3 : 5));
    RANK_CHECK(stats.combine_rows_read == 4 && stats.dispatch_ns > 0 && stats.combine_ns > 0);
    epx_plan_destroy(plan);
    if (in_arena) {
        RANK_CHECK(epx_memory_free(memory) == EPX_OK);
    } else {
        free(memory);
    }
}

#endif
