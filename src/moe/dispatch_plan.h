/*
 * The inside of a dispatch plan, shared by the stages of the operator:
 *   publish (own routing, own rows made readable) -> rows to and from other hosts -> enter -> collect (what the peers
 * published) -> count -> rows -> tensor-parallel exchange -> done.
 */
#ifndef EPX_MOE_DISPATCH_PLAN_H
#define EPX_MOE_DISPATCH_PLAN_H

#include "kernel/kernel.h"
#include "moe/exchange.h"
#include "moe/layout.h"
#include "moe/mirrors.h"
#include "moe/request.h"
#include "moe/rounds.h"
#include "moe/shape.h"
#include "moe/team.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Parts of a dispatch at most: what pacing can cost is bounded. */
#define EPX_DISPATCH_PARTS_MAX 4096

/* What a rank published, checked. Lives from ENTER to DONE. */
struct epx_dispatch_source {
    int64_t token_count;
    const int32_t *offsets;
    const int32_t *sorted;
    const int32_t *occurrence; /* two-level */
    const int32_t *ids;        /* two-level */
    const float *weights;      /* two-level, null when the rank has none */
    struct epx_rows rows;
    struct epx_rows shared_rows;
};

/* What a thread that moves rows has for itself. */
struct epx_dispatch_lane {
    int64_t *next_rows;  /* [rank_count * local_experts]: of each block, the row of expand_x that the lane moves next */
    uint16_t *token_row; /* [hidden_elems] */
    float *smooth_row;   /* [hidden_elems] */
};

/* The run that has its turn. */
struct epx_dispatch_run {
    struct epx_dispatch_plan *plan;
    const struct epx_dispatch_tensors *tensors;
    int64_t token_count;
    const struct epx_kernel_table *kernels;
    struct epx_rounds rounds;
    uint64_t start_ns;
    bool streaming;
    int64_t all_token_count; /* of all ranks */
    int64_t part_count;      /* parts in which the sources are read, equal on all ranks */
    bool weights;            /* two-level with expertScales: expand_scales is written where it is given */
    int64_t row_count;       /* own valid rows, without the tensor-parallel peer's */
    int64_t peer_count;      /* the peer's */
    struct epx_operation_stats stats;
};

struct epx_dispatch_plan {
    struct epx_dispatch_request request;
    struct epx_moe_world world;
    struct epx_dispatch_layout layout;
    bool quantized;
    bool smooth;
    uint64_t row_bytes; /* of a dispatched row */
    uint64_t
        stream_bytes; /* results of all ranks together beyond which rows bypass the cache: what does not stay in it */
    uint64_t part_bytes; /* token rows that all receivers read before they go on: what stays in a shared cache */

    /* In the own arena; null when the layout has no bytes for it. */
    uint8_t *exchange;
    uint8_t *tp_exchange;
    uint8_t *quantized_rows;
    /* Made when an x, or with tensor parallelism an expand_x, outside the arena is first bound, by any thread. */
    _Atomic(uint8_t *) plain_rows;
    _Atomic(uint8_t *) tp_rows;
    uint64_t tp_rows_pitch;

    /* Private scratch. */
    struct epx_dispatch_source *sources; /* [rank_count] */
    int64_t *block_ends;                 /* [rank_count * local_experts]: running totals */
    int32_t *block_starts;               /* same: where the block starts in the source's `sorted` */
    int64_t *tp_block_ends;              /* same, of the tensor-parallel peer */
    int64_t *entries;                    /* [topk], two-level */
    int32_t *server_tokens;              /* [servers], two-level */
    struct epx_team team;
    struct epx_dispatch_lane *lanes; /* [team.thread_count] */

    struct epx_dispatch_remote *remote; /* null in a world on one host */

    struct epx_dispatch_binding binding; /* of the plan's own bind, reserve and run */
    struct epx_dispatch_run run;
};

/* Routes, makes rows readable, fills the exchange region; fails the round. dispatch_publish.c */
EPX_NODISCARD enum epx_status epx_dispatch_publish(struct epx_dispatch_run *run, struct epx_publication *publication);

/* What a plan needs where the world has several hosts; begins to send and receive. dispatch_remote.c */
EPX_NODISCARD enum epx_status epx_dispatch_remote_create(struct epx_dispatch_plan *plan);
void epx_dispatch_remote_destroy(struct epx_dispatch_plan *plan);
EPX_NODISCARD enum epx_status epx_dispatch_begin_remote(struct epx_dispatch_run *run);

/* Reads every rank's publication into plan->sources. dispatch_collect.c */
EPX_NODISCARD enum epx_status epx_dispatch_collect(struct epx_dispatch_run *run);

/* Counts arriving rows and compares them with the tensors. dispatch_collect.c */
EPX_NODISCARD enum epx_status epx_dispatch_count(struct epx_dispatch_run *run);
/* Memory for all that is written for `row_count` rows. */
EPX_NODISCARD enum epx_status epx_dispatch_need_outputs(struct epx_dispatch_run *run, int64_t row_count);

/* Moves rows and scales. dispatch_local.c */
EPX_NODISCARD enum epx_status epx_dispatch_move_rows(struct epx_dispatch_run *run);

/* The same for row views: writes addresses and scales. dispatch_views.c */
EPX_NODISCARD enum epx_status epx_dispatch_view_rows(struct epx_dispatch_run *run);

/* Exchange with the tensor-parallel peer. dispatch_tp.c */
EPX_NODISCARD enum epx_status epx_dispatch_exchange_tp(struct epx_dispatch_run *run);

/* Counts, expand_idx. dispatch_local.c */
void epx_dispatch_write_counts(struct epx_dispatch_run *run);

/* The private tail of ep_recv_counts. two_level_tail.c */
void epx_dispatch_write_tail(struct epx_dispatch_run *run);

/* Rows that the tensors hold. */
int64_t epx_dispatch_row_capacity(const struct epx_dispatch_run *run);

/* "the value that rank r published cannot be right". */
EPX_NODISCARD enum epx_status epx_dispatch_protocol_fail(struct epx_dispatch_run *run, int64_t rank, const char *what);

#endif
