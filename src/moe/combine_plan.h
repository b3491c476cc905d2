/*
 * The inside of a combine plan, shared by the stages of the operator:
 *   gather (own small tensors, checked) -> [sums with the tensor-parallel peer] -> publish -> enter -> collect (blocks
 * of rows that come back) -> sum by token -> done.
 */
#ifndef EPX_MOE_COMBINE_PLAN_H
#define EPX_MOE_COMBINE_PLAN_H

#include "kernel/kernel.h"
#include "moe/exchange.h"
#include "moe/layout.h"
#include "moe/mirrors.h"
#include "moe/request.h"
#include "moe/rounds.h"
#include "moe/routing.h"
#include "moe/shape.h"
#include "moe/team.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Rows that one expert returns to this rank. */
struct epx_combine_block {
    const uint8_t *rows;
    uint64_t pitch_bytes;
    int64_t row_count;
};

/* What a thread that sums tokens has for itself. */
struct epx_combine_lane {
    const struct epx_combine_run *run;
    const uint16_t **row_pointers; /* [topk] */
    float *row_weights;            /* [topk], two-level */
    int32_t *order;                /* [topk], two-level */
    uint16_t *transported;         /* [topk + 1][hidden_elems], int8 transport */
    uint16_t *row;                 /* [hidden_elems] */
    float *partial;                /* [hidden_elems], two-level */
    float *sum;                    /* [hidden_elems], two-level */
    int64_t holder;                /* where the search for the holder of a shared row goes on */
};

/* The run that has its turn. */
struct epx_combine_run {
    struct epx_combine_plan *plan;
    const struct epx_combine_tensors *tensors;
    int64_t token_count;
    const struct epx_kernel_table *kernels;
    struct epx_rounds rounds;
    uint64_t views_round; /* as in the binding */
    uint64_t start_ns;
    bool streaming;
    int64_t row_count; /* valid own rows of expand_x */
    struct epx_operation_stats stats;
};

struct epx_combine_plan {
    struct epx_combine_request request;
    struct epx_moe_world world;
    struct epx_combine_layout layout;
    bool transport_int8;
    uint64_t row_bytes;
    uint64_t stream_bytes; /* rows read by all ranks together beyond which sums bypass the cache */

    /* In the own arena; null when the layout has no bytes for it. */
    uint8_t *exchange;
    uint8_t *tp_exchange;
    _Atomic(uint8_t *) staged; /* made when an expand_x outside the arena is first bound, by any thread */
    uint8_t *summed;

    /* Private scratch. */
    int32_t *counts;                         /* [rank_count * local_experts * max(tp, 1)] */
    int32_t *ids;                            /* [copies] */
    int32_t *slots;                          /* [copies]: row inside the expert's block */
    float *weights;                          /* [copies] */
    struct epx_routing routing;              /* two-level: slots come from the ids; its occurrence is `slots` */
    struct epx_combine_block *blocks;        /* [expert_count] */
    struct epx_combine_block *shared_blocks; /* [shared_count] */
    struct epx_team team;
    struct epx_combine_lane *lanes; /* [team.thread_count] */

    struct epx_combine_remote *remote; /* null in a world on one host */
    struct epx_combine_relay *relay;   /* null unless sums cross in place of rows: combine_relay.h */

    struct epx_combine_binding binding; /* of the plan's own bind, reserve and run */
    struct epx_combine_run run;
};

/* Copies ids, slots, weights and counts out of their tensors and checks what can be checked alone. combine_gather.c */
EPX_NODISCARD enum epx_status epx_combine_gather(struct epx_combine_run *run);

/* Makes the sums of own rows and the peer's. combine_tp.c */
EPX_NODISCARD enum epx_status epx_combine_sum_tp(struct epx_combine_run *run);

/* Makes `row_count` rows of expand_x from `first_row` readable: in place or staged. combine_publish.c */
EPX_NODISCARD enum epx_status epx_combine_publish_rows(struct epx_combine_run *run, int64_t first_row,
                                                       int64_t row_count, struct epx_published_rows *rows);

/* Fills the exchange region. combine_publish.c */
EPX_NODISCARD enum epx_status epx_combine_publish(struct epx_combine_run *run, struct epx_publication *publication);

/* What a plan needs where the world has several hosts; begins to send and receive. combine_remote.c */
EPX_NODISCARD enum epx_status epx_combine_remote_create(struct epx_combine_plan *plan);
void epx_combine_remote_destroy(struct epx_combine_plan *plan);
EPX_NODISCARD enum epx_status epx_combine_begin_remote(struct epx_combine_run *run);

/* Reads every rank's publication into the blocks. combine_collect.c */
EPX_NODISCARD enum epx_status epx_combine_collect(struct epx_combine_run *run);

/* Sums of all own tokens into x; fails the round. combine_local.c */
EPX_NODISCARD enum epx_status epx_combine_sum_tokens(struct epx_combine_run *run);

/* The two-level sum of one token in a lane. A failure does not fail the round yet. two_level_sum.c */
EPX_NODISCARD enum epx_status epx_combine_sum_token_two_level(struct epx_combine_lane *lane, int64_t token);

/* The returned row of a copy of an own token. EPX_ERR_COUNTS when its slot lies outside the block; the round is not
 * failed yet. combine_local.c */
EPX_NODISCARD enum epx_status epx_combine_find_row(const struct epx_combine_run *run, int64_t copy,
                                                   const uint16_t **row);

/* The row of the shared expert for an own token; null without a shared expert. Tokens of a lane rise.
 * combine_local.c */
const uint16_t *epx_combine_shared_row(struct epx_combine_lane *lane, int64_t token);

/* Where the sum of a token goes: its row of x, or scratch that epx_combine_put_row then moves there. combine_local.c */
uint16_t *epx_combine_output_row(const struct epx_combine_lane *lane, int64_t token);
void epx_combine_put_row(const struct epx_combine_lane *lane, int64_t token);

#endif
