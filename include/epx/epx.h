/*
 * epx: Mixture-of-Experts token exchange between the ranks of an expert-parallel world on ordinary Linux hosts.
 *
 *   dispatch: every token goes to the ranks that own its experts, quantised on the way if asked.
 *   combine:  the experts' rows come back and are summed with the token's weights.
 *
 * Symbols: W ranks, r this rank, E experts, S ranks that hold the shared expert (0 .. W-1), L = E / (W - S) local
 * experts of the others, T tokens of this rank, H elements of a token, K experts of a token, A rows that a receive
 * buffer holds.
 *
 * A program creates a communicator, makes a plan for its sizes, and runs the plan as often as it likes:
 *
 *   struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
 *   struct epx_communicator *comm;
 *   epx_comm_create_from_env(&config, &comm);
 *   struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
 *   moe.expert_count = 16; moe.hidden_elems = 7168; moe.topk = 8; moe.token_max = 8; moe.dtype = EPX_BF16;
 *   struct epx_plan *plan;
 *   epx_plan_create(comm, &moe, &plan);
 *   epx_dispatch(plan, &dispatch); ... experts ... epx_combine(plan, &combine);
 *
 * Status: every call returns enum epx_status; epx_last_error() has the text. After a status of the 40s the communicator
 * has failed on all ranks with the same status and text, the outputs of that operation are invalid everywhere, and only
 * epx_comm_destroy is useful.
 *
 * Threads: objects may be used from any thread, one call at a time per communicator and its plans. Ranks may be
 * processes, threads of one process, or both. After fork the child has no communicators.
 *
 * Tensors are dense, row major, without padding. Buffers from epx_memory_alloc are read by peers in place; any other
 * memory works and costs one copy more.
 */
#ifndef EPX_EPX_H
#define EPX_EPX_H

#include "epx/epx_status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EPX_VERSION_MAJOR 0
#define EPX_VERSION_MINOR 1
#define EPX_VERSION_PATCH 0

/* "0.1.0". Static text. */
const char *epx_version(void);

/* Text of the calling thread's last failure, "" when there was none. Owner: epx; valid until the thread's next failure.
 */
const char *epx_last_error(void);

/* Short phrase for a status. Static text. */
const char *epx_status_text(enum epx_status status);

/* Every environment variable that epx reads: value, source, allowed values, meaning. Errors: none. Thread: any. */
void epx_options_print(FILE *out);

struct epx_communicator;
struct epx_plan;
struct epx_request;

/* ---- Communicators ------------------------------------------------------------------------------------------- */

struct epx_comm_config {
    size_t struct_bytes;        /* sizeof, set by EPX_COMM_CONFIG_INIT */
    int64_t join_timeout_ms;    /* how long to wait for the other ranks; 0: from the environment; -1: for ever */
    int64_t op_timeout_ms;      /* how long an operation waits for a late rank; 0: from the environment; -1: for ever */
    uint32_t server_rank_count; /* ranks of one server for the two-level algorithm; 0: as the rank table says, or all */
    const char *name;           /* null: chosen */
};
#define EPX_COMM_CONFIG_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(struct epx_comm_config), 0, 0, 0, NULL                                                                  \
    }

/* A token that all ranks of one communicator share; copy the bytes by any means. */
struct epx_token {
    uint8_t bytes[64];
};

/*
 * Creation is collective: each call returns when all ranks have called. Errors: EPX_ERR_JOIN_TIMEOUT (names the missing
 * ranks), EPX_ERR_RENDEZVOUS (rank taken, world size differs), EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_INVALID (rank
 * or config out of range), EPX_ERR_CONFIG (environment). `config` may be null. Owner of *out: the caller.
 */

/* Ranks given by a rank table file (JSON). Also: EPX_ERR_FILE, EPX_ERR_SYNTAX, EPX_ERR_RANK_TABLE. */
enum epx_status epx_comm_create_from_table(const char *path, uint32_t rank, const struct epx_comm_config *config,
                                           struct epx_communicator **out);

/* rank_count ranks in this process, comms[i] is rank i; to be driven by a thread each. On failure none is left. */
enum epx_status epx_comm_create_local(uint32_t rank_count, const struct epx_comm_config *config,
                                      struct epx_communicator **comms);

/* Rank and world from a launcher's environment: EPX_RANK and EPX_WORLD_SIZE (with EPX_RANK_TABLE, or EPX_JOB as the
 * meeting point), else those of mpirun (OpenMPI, MPICH), srun or torchrun. EPX_ERR_CONFIG when there is none. */
enum epx_status epx_comm_create_from_env(const struct epx_comm_config *config, struct epx_communicator **out);

/* A fresh token (one rank calls), and the communicator of all that hold it. */
enum epx_status epx_token_create(struct epx_token *token);
enum epx_status epx_comm_create_from_token(const struct epx_token *token, uint32_t rank_count, uint32_t rank,
                                           const struct epx_comm_config *config, struct epx_communicator **out);

/* Local, not collective. EPX_ERR_STATE while an operation is running; null is allowed. Plans become unusable and are to
 * be destroyed before or after. */
enum epx_status epx_comm_destroy(struct epx_communicator *comm);

uint32_t epx_comm_rank_of(const struct epx_communicator *comm);
uint32_t epx_comm_size_of(const struct epx_communicator *comm);

/* ---- Memory -------------------------------------------------------------------------------------------------- */

/* Peer-visible memory of this process, zeroed, 64-byte aligned. EPX_ERR_NO_MEMORY. Owner: the caller. */
enum epx_status epx_memory_alloc(size_t bytes, void **out);
/* Null is allowed. EPX_ERR_NOT_FOUND for any other pointer that epx_memory_alloc did not give. */
enum epx_status epx_memory_free(void *pointer);

/* ---- Plans --------------------------------------------------------------------------------------------------- */

enum epx_data_type { EPX_FP16 = 0, EPX_BF16 = 1 };
enum epx_row_quantization { EPX_ROWS_PLAIN = 0, EPX_ROWS_INT8 = 2 };
enum epx_return_quantization { EPX_RETURN_PLAIN = 0, EPX_RETURN_INT8 = 2 };
enum epx_exchange { EPX_EXCHANGE_FULL_MESH = 0, EPX_EXCHANGE_TWO_LEVEL = 1 };

struct epx_moe_config {
    size_t struct_bytes;
    /* Equal on all ranks. */
    int64_t expert_count;      /* E >= 1, divisible by W - S */
    int64_t hidden_elems;      /* H >= 1 */
    int64_t topk;              /* 1 <= K <= E */
    int64_t shared_rank_count; /* S, 0 <= S < W: ranks [0, S) hold the shared expert */
    enum epx_data_type dtype;
    enum epx_row_quantization quantization;
    enum epx_return_quantization return_quantization;
    enum epx_exchange exchange;
    /* This rank's. */
    int64_t token_max;    /* largest T of any run, >= 0 */
    int64_t recv_row_max; /* A: rows of expand_x; 0: W * token_max * min(L, K), enough when all token_max are equal */
    int smooth_scales;    /* 1: dispatch is given smooth scales */
};
#define EPX_MOE_CONFIG_INIT                                                                                            \
    {                                                                                                                  \
        sizeof(struct epx_moe_config), 0, 0, 0, 0, EPX_BF16, EPX_ROWS_PLAIN, EPX_RETURN_PLAIN, EPX_EXCHANGE_FULL_MESH, \
            0, 0, 0                                                                                                    \
    }

/* Checks sizes and allocates what the runs need; local. EPX_ERR_INVALID, EPX_ERR_NO_MEMORY. Owner of *out: the caller.
 */
enum epx_status epx_plan_create(struct epx_communicator *comm, const struct epx_moe_config *config,
                                struct epx_plan **out);
void epx_plan_destroy(struct epx_plan *plan);
/* Sizes, regions and choices, for people. */
void epx_plan_print(const struct epx_plan *plan, FILE *out);

/* Rows that expand_x must hold (A), local experts of this rank. */
int64_t epx_plan_recv_row_max(const struct epx_plan *plan);
int64_t epx_plan_local_expert_count(const struct epx_plan *plan);

/* ---- Operations ---------------------------------------------------------------------------------------------- */

struct epx_dispatch_args {
    size_t struct_bytes;
    int64_t token_count;        /* T, 0 .. token_max; may differ between ranks */
    const void *x;              /* (T, H) dtype */
    const int32_t *expert_ids;  /* (T, K), each in [0, E); repetitions are allowed */
    const float *expert_scales; /* (T, K) or null: only copied to expand_scales by the two-level exchange */
    const float
        *smooth_scales;    /* (E, H), with S > 0 (E + 1, H) and row 0 for the shared expert; with smooth_scales = 1 */
    void *expand_x;        /* out (A, H) dtype or int8: rows by (local expert, source rank, token, k) */
    float *dynamic_scales; /* out (A,) with EPX_ROWS_INT8 */
    int32_t *expand_idx;   /* out (T * K,): for combine */
    int64_t *expert_token_nums; /* out (L,): rows of each local expert */
    int32_t *ep_recv_counts;    /* out (W * L,): running totals by (local expert, source rank); the last is all rows */
    float *expand_scales;       /* out (A,) or null: two-level exchange only */
};
#define EPX_DISPATCH_ARGS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(struct epx_dispatch_args), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL                \
    }

struct epx_combine_args {
    size_t struct_bytes;
    int64_t token_count;           /* as in the dispatch */
    const void *expand_x;          /* (A, H) dtype: the experts' outputs, in the rows of the dispatch */
    const int32_t *expert_ids;     /* (T, K) */
    const int32_t *expand_idx;     /* (T * K,) from dispatch; not used by the two-level exchange */
    const int32_t *ep_send_counts; /* (W * L,): ep_recv_counts of dispatch */
    const float *expert_scales;    /* (T, K): weights */
    void *x;                       /* out (T, H) dtype */
};
#define EPX_COMBINE_ARGS_INIT                                                                                          \
    {                                                                                                                  \
        sizeof(struct epx_combine_args), 0, NULL, NULL, NULL, NULL, NULL, NULL                                         \
    }

/*
 * Collective; return when complete on this rank: outputs final, and no peer reads this rank's buffers any more.
 * Rows of expand_x beyond the last total are not written. Errors: EPX_ERR_NULL, EPX_ERR_INVALID for the arguments
 * (local, nothing was started); the 40s for a failed round.
 */
enum epx_status epx_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *args);
enum epx_status epx_combine(struct epx_plan *plan, const struct epx_combine_args *args);

/* The same, in the background: buffers stay the operation's until epx_wait returned. Operations of one communicator run
 * in the order of their starts. Owner of *out: epx_wait frees it. */
enum epx_status epx_dispatch_start(struct epx_plan *plan, const struct epx_dispatch_args *args,
                                   struct epx_request **out);
enum epx_status epx_combine_start(struct epx_plan *plan, const struct epx_combine_args *args, struct epx_request **out);

/* Waits for a started operation and returns its status. timeout_ms -1: for ever; when it passes: EPX_ERR_TIMEOUT with
 * the line of blame, and the request stays valid to be waited for again. */
enum epx_status epx_wait(struct epx_request *request, int64_t timeout_ms);

struct epx_stats { /* of a plan's last finished run of each operation, this rank */
    size_t struct_bytes;
    int64_t dispatch_rows_sent, dispatch_rows_received, dispatch_bytes_read, dispatch_bytes_written;
    int64_t combine_rows_read, combine_bytes_read, combine_bytes_written;
    uint64_t dispatch_ns, dispatch_enter_wait_ns, dispatch_move_ns, dispatch_done_wait_ns;
    uint64_t combine_ns, combine_enter_wait_ns, combine_move_ns, combine_done_wait_ns;
};
enum epx_status epx_plan_stats(const struct epx_plan *plan, struct epx_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
