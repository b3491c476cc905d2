/*
 * Everything that can be asked of dispatch and combine: what the doors hand to the floors below. Letters in brackets
 * are the interface page's.
 */
#ifndef EPX_MOE_REQUEST_H
#define EPX_MOE_REQUEST_H

#include "comm/comm.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_dtype {
    EPX_DTYPE_FP16 = 0, /* equal to enum epx_row_format */
    EPX_DTYPE_BF16 = 1,
    EPX_DTYPE_FP32 = 2,
    EPX_DTYPE_INT8 = 3,
    EPX_DTYPE_INT32 = 4,
    EPX_DTYPE_INT64 = 5,
    EPX_DTYPE_COUNT = 6,
};

enum epx_algorithm {
    EPX_ALGORITHM_FULL_MESH = 0,
    EPX_ALGORITHM_TWO_LEVEL = 1,
};

enum epx_quantization { /* of dispatched rows */
                        EPX_QUANTIZATION_NONE = 0,
                        EPX_QUANTIZATION_DYNAMIC_INT8 = 2,
};

enum epx_comm_quantization { /* of rows on their way back */
                             EPX_COMM_QUANTIZATION_NONE = 0,
                             EPX_COMM_QUANTIZATION_INT8 = 2,
};

enum epx_token_nums_kind {
    EPX_TOKEN_NUMS_PREFIX = 0, /* inclusive prefix sums over local experts */
    EPX_TOKEN_NUMS_COUNT = 1,
};

/*
 * A tensor view of one or two dimensions. `data` is the address of element 0 (offset applied); strides are in elements,
 * >= 0. A view that is absent has dim_count 0. While a plan is made `data` is kept but never read through.
 */
struct epx_view {
    void *data;
    enum epx_dtype dtype;
    uint32_t dim_count;
    int64_t shape[2];
    int64_t stride[2];
};

/* What must be equal on all ranks. */
struct epx_moe_shape {
    int64_t expert_count;                         /* E */
    int64_t hidden_elems;                         /* H */
    int64_t topk;                                 /* K */
    int64_t shared_rank_count;                    /* S: ranks [0, S) hold the shared expert */
    int64_t shared_expert_count;                  /* 0 or 1; 1 is also allowed with S = 0 and means nothing there */
    int64_t tp_rank_count;                        /* 0 or 1: none; 2 */
    int64_t global_token_count;                   /* gBs as given: 0, or at least W * the largest BS */
    enum epx_dtype dtype;                         /* of tokens: FP16 or BF16 */
    enum epx_quantization quantization;           /* dispatch */
    enum epx_comm_quantization comm_quantization; /* combine */
    enum epx_algorithm algorithm;
};

struct epx_dispatch_tensors {
    struct epx_view x;          /* (>= BS, H) dtype */
    struct epx_view expert_ids; /* (BS, K) int32 */
    struct epx_view
        smooth_scales; /* optional; (E, H) with S = 0 (more rows are allowed), (E + 1, H) with S > 0; fp32 */
    struct epx_view expert_scales;     /* optional; (BS, K) fp32: read by the two-level algorithm only */
    struct epx_view expand_x;          /* out (A, H) dtype, or int8 when quantised */
    struct epx_view dynamic_scales;    /* out (>= A,) fp32 when quantised */
    struct epx_view expand_idx;        /* out (>= BS * K,) int32; not written by the two-level algorithm */
    struct epx_view expert_token_nums; /* out (>= local experts,) int64 */
    struct epx_view
        ep_recv_counts; /* out (>= W * local experts * max(tp, 1),) int32; two-level: tail where there is room */
    struct epx_view tp_recv_counts; /* out (>= 2,) int32 with tp_rank_count 2 */
    struct epx_view expand_scales;  /* optional out (>= A,) fp32: written by the two-level algorithm */
    /* Row views: out (>= A,) addresses of the received rows, as int64, in the place of expand_x, whose shape still
     * counts. Present in what a binding is given, and only there; not with tensor parallelism. */
    struct epx_view row_views;
};

struct epx_dispatch_request {
    struct epx_comm *comm;
    struct epx_comm *tp_comm; /* null without TP */
    struct epx_moe_shape shape;
    int64_t token_count; /* BS, >= 0 */
    enum epx_token_nums_kind token_nums_kind;
    struct epx_dispatch_tensors tensors;
};

struct epx_combine_tensors {
    struct epx_view expand_x;       /* (>= rows, H) dtype */
    struct epx_view expert_ids;     /* (BS, K) int32 */
    struct epx_view expand_idx;     /* (>= BS * K,) int32; not read by the two-level algorithm, then optional */
    struct epx_view ep_send_counts; /* (>= W * local experts * max(tp, 1),) int32 */
    struct epx_view expert_scales;  /* (BS, K) fp32 */
    struct epx_view tp_send_counts; /* (>= 2,) int32 with tp_rank_count 2 */
    struct epx_view expand_scales;  /* optional; never read */
    struct epx_view x;              /* out (>= BS, H) dtype */
};

struct epx_combine_request {
    struct epx_comm *comm;
    struct epx_comm *tp_comm;
    struct epx_moe_shape shape;
    int64_t token_count;
    struct epx_combine_tensors tensors;
};

/* What one run did on this rank. */
struct epx_operation_stats {
    int64_t rows_sent;     /* copies of own tokens for any rank, own included */
    int64_t rows_received; /* valid rows of expand_x; combine: rows read */
    int64_t payload_bytes; /* of rows received (dispatch) or read (combine) */
    int64_t bytes_read;    /* by the row movers of this rank, all sources */
    int64_t bytes_written;
    uint64_t enter_wait_ns; /* waiting for the others to enter */
    uint64_t move_ns;       /* moving rows */
    uint64_t done_wait_ns;  /* waiting for the others to be done */
    uint64_t total_ns;      /* from its turn on */
};

struct epx_dispatch_plan;
struct epx_combine_plan;

/*
 * Checks a request and computes everything that follows from sizes: never reads tensor data. Allocates what the run
 * will need, so that the run allocates nothing. EPX_ERR_NULL, EPX_ERR_DTYPE, EPX_ERR_SHAPE, EPX_ERR_INVALID with a text
 * that names argument, value and limit; EPX_ERR_UNSUPPORTED; EPX_ERR_NO_MEMORY. Local. The request is copied.
 */
EPX_NODISCARD enum epx_status epx_dispatch_plan_create(const struct epx_dispatch_request *request,
                                                       struct epx_dispatch_plan **out);
EPX_NODISCARD enum epx_status epx_combine_plan_create(const struct epx_combine_request *request,
                                                      struct epx_combine_plan **out);

/* Never while a run of the plan is queued or running. Null is allowed. */
void epx_dispatch_plan_destroy(struct epx_dispatch_plan *plan);
void epx_combine_plan_destroy(struct epx_combine_plan *plan);

/* Replaces the data addresses of all present views: shapes and strides stay. A null `data` keeps the planned one; an
 * absent view stays absent. EPX_ERR_NULL when a required one is null in both; EPX_ERR_INVALID when an output overlaps
 * another tensor. Not while a run is queued or running. */
EPX_NODISCARD enum epx_status epx_dispatch_plan_bind(struct epx_dispatch_plan *plan,
                                                     const struct epx_dispatch_tensors *tensors);
EPX_NODISCARD enum epx_status epx_combine_plan_bind(struct epx_combine_plan *plan,
                                                    const struct epx_combine_tensors *tensors);

/* Takes the plan's place in the order of the communicator's rounds; exactly one run must follow. In program order. */
void epx_dispatch_plan_reserve(struct epx_dispatch_plan *plan);
void epx_combine_plan_reserve(struct epx_combine_plan *plan);

/* Runs the reserved round: collective, blocks until the operation is complete on this rank (see docs/protocol.md) or
 * has failed on all. `stats` may be null. Thread: any one. */
EPX_NODISCARD enum epx_status epx_dispatch_run(struct epx_dispatch_plan *plan, struct epx_operation_stats *stats);
EPX_NODISCARD enum epx_status epx_combine_run(struct epx_combine_plan *plan, struct epx_operation_stats *stats);

/* Which wait a run has before it. */
enum epx_moe_stage {
    EPX_MOE_STAGE_TURN,  /* waits for its turn among the rounds of the communicator */
    EPX_MOE_STAGE_WIRE,  /* waits for what goes to and comes from other hosts */
    EPX_MOE_STAGE_ENTER, /* waits for the others to enter */
    EPX_MOE_STAGE_DONE,  /* waits for the others to be done */
    EPX_MOE_STAGE_OVER,
};

/*
 * What one run works on, for callers that keep several runs of a plan in flight: each has a binding of its own.
 * Caller's memory. Runs of one plan take turns, in the order of their reserved rounds.
 */
struct epx_dispatch_binding {
    int64_t token_count;                 /* 0 .. the planned one; the rows of (BS, ...) tensors that count */
    struct epx_dispatch_tensors tensors; /* shapes and strides of the plan */
    bool bound;                          /* every required tensor has an address */
    uint64_t round;
    uint64_t tp_round;
    enum epx_moe_stage stage; /* where its run is */
};
struct epx_combine_binding {
    int64_t token_count;
    struct epx_combine_tensors tensors;
    bool bound;
    uint64_t round;
    uint64_t tp_round;
    uint64_t views_round;     /* of the dispatch whose row views end with this run, equal on all ranks; 0: none */
    enum epx_moe_stage stage; /* where its run is */
};

/* As bind, but fills `binding` instead of the plan; may allocate staging memory: EPX_ERR_NO_MEMORY. Thread: any, also
 * while runs of other bindings are queued or running. An optional tensor that ends without an address counts as absent.
 * Not reserved yet. */
EPX_NODISCARD enum epx_status epx_dispatch_binding_init(struct epx_dispatch_plan *plan, int64_t token_count,
                                                        const struct epx_dispatch_tensors *tensors,
                                                        struct epx_dispatch_binding *binding);
EPX_NODISCARD enum epx_status epx_combine_binding_init(struct epx_combine_plan *plan, int64_t token_count,
                                                       const struct epx_combine_tensors *tensors,
                                                       struct epx_combine_binding *binding);

/* Reserve and run of a binding, as of a plan. */
void epx_dispatch_binding_reserve(struct epx_dispatch_plan *plan, struct epx_dispatch_binding *binding);
void epx_combine_binding_reserve(struct epx_combine_plan *plan, struct epx_combine_binding *binding);
EPX_NODISCARD enum epx_status epx_dispatch_binding_run(struct epx_dispatch_plan *plan,
                                                       struct epx_dispatch_binding *binding,
                                                       struct epx_operation_stats *stats);
EPX_NODISCARD enum epx_status epx_combine_binding_run(struct epx_combine_plan *plan,
                                                      struct epx_combine_binding *binding,
                                                      struct epx_operation_stats *stats);

/*
 * The same for callers that must be back in time: true: the run has ended with *status, and its text is the calling
 * thread's. False: until_ns (epx_clock_ns; EPX_NEVER: never) has passed first; to be called again with the same binding
 * at the same address, by any thread, one at a time, until it has ended. With tensor parallelism, and while rows move,
 * until_ns does not count.
 */
EPX_NODISCARD bool epx_dispatch_binding_advance(struct epx_dispatch_plan *plan, struct epx_dispatch_binding *binding,
                                                uint64_t until_ns, struct epx_operation_stats *stats,
                                                enum epx_status *status);
EPX_NODISCARD bool epx_combine_binding_advance(struct epx_combine_plan *plan, struct epx_combine_binding *binding,
                                               uint64_t until_ns, struct epx_operation_stats *stats,
                                               enum epx_status *status);

/*
 * Ends the row views of the dispatch `views_round` in the reserved round `round` of its communicator. Collective:
 * returns when every rank has come, and so looks at no row any more. Thread: any one.
 */
EPX_NODISCARD enum epx_status epx_dispatch_views_release(const struct epx_dispatch_plan *plan, uint64_t views_round,
                                                         uint64_t round);

/* The plan for people: sizes, regions, algorithm, on a FILE. */
void epx_dispatch_plan_print(const struct epx_dispatch_plan *plan, void *out_file);
void epx_combine_plan_print(const struct epx_combine_plan *plan, void *out_file);

/* Local experts of a rank: 1 for r < S, else E / (W - S). Arguments must be valid. */
int64_t epx_moe_local_expert_count(const struct epx_moe_shape *shape, int64_t rank_count, int64_t rank);

#endif
