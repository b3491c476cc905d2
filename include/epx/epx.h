/*
 * epx: Mixture-of-Experts token exchange between the ranks of an expert-parallel world on ordinary Linux hosts.
 *
 *   dispatch: every token goes to the ranks that own its experts, quantised on the way if asked.
 *   combine:  the experts' rows come back and are summed with the token's weights.
 *
 * Symbols: W ranks, r this rank, E experts, S ranks that hold the shared expert (0 .. W-1), L = E / (W - S) local
 * experts of a rank r >= S, and 1 (the shared one) of a rank r < S; T tokens of this rank, H elements of a token, K
 * experts of a token, A rows that a receive buffer holds. Expert g is local expert g % (E / (W - S)) of rank
 * S + g / (E / (W - S)).
 *
 * A program creates a communicator, makes a plan for its sizes, and runs the plan as often as it likes
 * (examples/hello.c is this sketch as a program):
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
 * Status: a call that can fail returns enum epx_status; epx_last_error() has the text, which spells arguments as the
 * interface page of the operators does (expandX for expand_x, BS for token_count). Any call that takes an object also
 * returns EPX_ERR_NULL for a null pointer, and EPX_ERR_INVALID for what is no such object or a struct whose
 * struct_bytes cannot be right. *out is set on success only.
 *
 * Failure of a round: after a status of 40 or more the communicator has failed on all ranks with the same status and
 * text. The outputs of that operation are invalid everywhere, operations queued behind it end with the same status,
 * and only epx_comm_shrink and epx_comm_destroy are useful. A status below 40 is about this rank's call: nothing was
 * started, and the ranks that did start wait for this one until their deadline. (One exception: EPX_ERR_STATE of an
 * operation on all ranks says that a rank freed the memory of a tensor under an operation that it had started.)
 *
 * Threads: objects may be used from any thread, one call at a time per communicator and its plans; epx_wait may run
 * beside them, one call at a time per request. Ranks may be processes, threads of one process, or both. No library
 * call is allowed in a signal handler. After fork the child has no communicators: operations, plans and waits on its
 * parent's return EPX_ERR_STATE there, destroying them is allowed and changes nothing for the parent.
 *
 * A rank may end without destroying anything: nothing stays behind, and the others learn of it when they next wait for
 * that rank.
 *
 * Tensors are dense, row major, without padding; the memory of an output must not overlap that of any other tensor of
 * the call. Buffers from epx_memory_alloc are read by peers in place; any other memory works and costs one copy more.
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

/* "0.1.0". Errors: none. Owner: epx, static text. Thread: any. */
const char *epx_version(void);

/* Text of the calling thread's last failure, "" when there was none. Errors: none. Owner: epx; valid until the thread's
 * next failure. Thread: any. */
const char *epx_last_error(void);

/* Short phrase for a status, "unknown status" for any other number. Errors: none. Owner: epx, static text. Thread: any.
 */
const char *epx_status_text(enum epx_status status);

/* Every environment variable that epx reads: value, source, allowed values, meaning. Errors: none; a null `out` prints
 * nothing. Owner: none. Thread: any. */
void epx_options_print(FILE *out);

/* What the calling thread may use of this host, a line each: processors, cores, NUMA nodes, what they were read with,
 * threads that move a rank's rows unless EPX_THREADS says otherwise. Errors: none; a null `out` prints nothing. Owner:
 * none. Thread: any. */
void epx_host_print(FILE *out);

/* ---- Jobs of this host, from outside -------------------------------------------------------------------------- */

struct epx_jobs_config {
    size_t struct_bytes; /* sizeof, set by EPX_JOBS_CONFIG_INIT */
    int64_t pid;         /* the communicators of this process; 0: of every process of this user */
    const char *job;     /* of these, those of this EPX_JOB; null: all */
    int json;            /* 1: one line of JSON for programs, else text for people */
};
#define EPX_JOBS_CONFIG_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(struct epx_jobs_config), 0, NULL, 0                                                                     \
    }

enum epx_jobs_found {
    EPX_JOBS_HEALTHY = 0, /* found, and nothing is wrong with them */
    EPX_JOBS_FAILED = 1,  /* one has failed, has waited past its deadline, has lost a rank, or is damaged */
    EPX_JOBS_NONE = 2,
    EPX_JOBS_DENIED = 3, /* none could be read; what was printed says by what */
};

/*
 * Prints the state of communicators, running or hung, of any processes of this host: identity, ranks, where each is,
 * for how long, and who is waited for. Each communicator once, whatever the number of its processes. Looks at /proc and
 * at copies of what the ranks share; the processes are not touched, and do not notice.
 * Errors: EPX_ERR_NULL, EPX_ERR_INVALID, EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM (no /proc). Owner: none. Thread: any.
 */
enum epx_status epx_jobs_print(FILE *out, const struct epx_jobs_config *config, enum epx_jobs_found *found);

struct epx_communicator;
struct epx_plan;
struct epx_request;

/* ---- Communicators ------------------------------------------------------------------------------------------- */

struct epx_comm_config {
    size_t struct_bytes;        /* sizeof, set by EPX_COMM_CONFIG_INIT */
    int64_t join_timeout_ms;    /* how long to wait for the other ranks; 0: EPX_JOIN_TIMEOUT; -1: for ever */
    int64_t op_timeout_ms;      /* how long an operation waits for a late rank; 0: EPX_OP_TIMEOUT; -1: for ever */
    uint32_t server_rank_count; /* ranks of one server for the two-level exchange, a divisor of W, equal on all ranks;
                                   0: as the rank table says, else W */
    const char *name;           /* for messages, at most 127 bytes, copied; null: "epx" */
};
#define EPX_COMM_CONFIG_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(struct epx_comm_config), 0, 0, 0, NULL                                                                  \
    }

/* What all ranks of one communicator share; copy the bytes by any means. */
struct epx_token {
    uint8_t bytes[64];
};

/*
 * Creation is collective: each call returns when all ranks have called, in any order of ranks. Ranks that create
 * several communicators from the same origin (environment, table or token) create them in the same order.
 *
 * `config` may be null: EPX_COMM_CONFIG_INIT.
 * Errors of all kinds of creation:
 *   EPX_ERR_NULL          another pointer is null
 *   EPX_ERR_INVALID       rank, rank_count (1 .. 4096) or a member of config is out of range
 *   EPX_ERR_CONFIG        an environment variable has a bad value
 *   EPX_ERR_JOIN_TIMEOUT  not all ranks came in time; the text names the missing ones
 *   EPX_ERR_RENDEZVOUS    refused: a rank came twice, world sizes differ, a process of another user
 *   EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM
 * Owner of *out: the caller, until epx_comm_destroy.
 * Thread: any; the ranks of one process each call from a thread of their own.
 */

/* Rank `rank` of the world that a rank table file (JSON) describes. Errors also: EPX_ERR_FILE (cannot be read),
 * EPX_ERR_SYNTAX (no JSON), EPX_ERR_RANK_TABLE (breaks a rule of rank tables). Owner, Thread: as above. */
enum epx_status epx_comm_create_from_table(const char *path, uint32_t rank, const struct epx_comm_config *config,
                                           struct epx_communicator **out);

/* All rank_count ranks of a world in this process: comms[i] is rank i, to be driven by a thread each. Errors: as above;
 * on failure none is left. Owner of each: the caller. Thread: any, one call makes all ranks. */
enum epx_status epx_comm_create_local(uint32_t rank_count, const struct epx_comm_config *config,
                                      struct epx_communicator **comms);

/* Rank and world from a launcher's environment: EPX_RANK and EPX_WORLD_SIZE (with EPX_RANK_TABLE, or EPX_JOB as the
 * meeting point), else those of mpirun (OpenMPI), mpiexec (PMI: MPICH), srun or torchrun, in this order. Errors: as
 * above, those of epx_comm_create_from_table when EPX_RANK_TABLE is set; EPX_ERR_CONFIG also when there is no launcher,
 * or nothing says where its ranks meet. Owner, Thread: as above. */
enum epx_status epx_comm_create_from_env(const struct epx_comm_config *config, struct epx_communicator **out);

/* A fresh token; one rank calls and gives the bytes to the others. Errors: EPX_ERR_NULL, EPX_ERR_SYSTEM (no random
 * numbers). Owner: the caller. Thread: any. */
enum epx_status epx_token_create(struct epx_token *token);

/* The communicator of all that hold the token. Errors, Owner, Thread: as above. */
enum epx_status epx_comm_create_from_token(const struct epx_token *token, uint32_t rank_count, uint32_t rank,
                                           const struct epx_comm_config *config, struct epx_communicator **out);

/*
 * Leaves the world; local, waits for nobody. Peers that wait for this rank, or will, fail with EPX_ERR_PEER_LEFT;
 * others are not disturbed. Plans of the communicator become unusable (EPX_ERR_STATE) and are to be destroyed before or
 * after; requests that are done can still be waited for. Null is allowed.
 *
 * Errors: EPX_ERR_INVALID (no communicator); EPX_ERR_STATE while an operation is running or queued, or while row views
 * of a plan are out and the communicator has not failed: nothing happened.
 *
 * Owner: `comm` is gone after EPX_OK. Thread: any, while no other call uses it.
 */
enum epx_status epx_comm_destroy(struct epx_communicator *comm);

/* This rank and W. Errors: UINT32_MAX and 0 for null, for no communicator, and in a child of fork. Owner: none. Thread:
 * any. */
uint32_t epx_comm_rank_of(const struct epx_communicator *comm);
uint32_t epx_comm_size_of(const struct epx_communicator *comm);

/* ---- Going on after a loss -------------------------------------------------------------------------------------- */

enum epx_rank_fate {
    EPX_FATE_MEMBER = 0,   /* goes on */
    EPX_FATE_DEAD = 1,     /* its process has ended */
    EPX_FATE_LEFT = 2,     /* has destroyed its communicator */
    EPX_FATE_SILENT = 3,   /* has not called in time: stopped, or busy; it may live */
    EPX_FATE_EXCLUDED = 4, /* was left out on purpose; it may live */
};

struct epx_shrink_config {
    size_t struct_bytes;     /* sizeof, set by EPX_SHRINK_CONFIG_INIT */
    int64_t timeout_ms;      /* how long a rank that neither calls nor ends is waited for; 0: 1000; -1: for ever */
    const uint32_t *exclude; /* (exclude_count,): old ranks to go on without, whatever they do; not this one */
    uint32_t exclude_count;
};
#define EPX_SHRINK_CONFIG_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(struct epx_shrink_config), 0, NULL, 0                                                                   \
    }

struct epx_shrink_report {     /* the same on all ranks of the new communicator */
    size_t struct_bytes;       /* sizeof, set by EPX_SHRINK_REPORT_INIT */
    enum epx_rank_fate *fates; /* out (old W,) or null: what became of each old rank */
    uint32_t *old_ranks;       /* out (new W,), with room for the old W, or null: the old rank of each new one */
    uint32_t rank_count;       /* out: the new W */
    uint32_t lost_count;       /* out: old ranks that are no members */
};
#define EPX_SHRINK_REPORT_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(struct epx_shrink_report), NULL, NULL, 0, 0                                                             \
    }

/*
 * A new communicator of the ranks that are left of one that has failed. Collective among those: returns when every
 * other rank has called it, too, or is dead, or has left, or timeout_ms has passed, and those that called have met
 * anew; losses meanwhile are taken in. New ranks follow the order of the old ones; name, operation timeout and servers
 * (those of equal size) are the old ones. With `exclude` also of one that has not failed: it fails with
 * EPX_ERR_ABORTED. A rank that anyone excludes is out.
 *
 * `old` stays failed and is the caller's to destroy; its plans cannot be used. Ranks left out that live
 * (EPX_FATE_SILENT, EPX_FATE_EXCLUDED) can harm nobody when they wake, since a rank writes to its own memory alone;
 * when they call, they get EPX_ERR_PEER_LEFT.
 *
 * `config` may be null: EPX_SHRINK_CONFIG_INIT. `report` may be null.
 * Errors:
 *   EPX_ERR_NULL          old, out, or exclude with exclude_count > 0 is null
 *   EPX_ERR_INVALID       no communicator; timeout_ms; a rank in exclude is this one, or none of old
 *   EPX_ERR_STATE         old has not failed and exclude is empty; it has been shrunk before; it was destroyed, or
 *                         belongs to the process before a fork
 *   EPX_ERR_UNSUPPORTED   the ranks of old are on several hosts
 *   EPX_ERR_PEER_LEFT     the others go on without this rank
 *   EPX_ERR_JOIN_TIMEOUT  the members, all alive, could not meet; to be called again
 *   EPX_ERR_PROTOCOL      a peer published a value that cannot be right
 *   EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_RENDEZVOUS, EPX_ERR_CONFIG as of creation; to be called again by all
 * Owner of *out: the caller, until epx_comm_destroy. Thread: any; one call at a time per communicator.
 */
enum epx_status epx_comm_shrink(struct epx_communicator *old, const struct epx_shrink_config *config,
                                struct epx_communicator **out, struct epx_shrink_report *report);

struct epx_experts_lost_args {
    size_t struct_bytes;
    /* The world that was lost. */
    uint32_t rank_count;             /* W */
    int64_t shared_rank_count;       /* S, 0 <= S < W */
    int64_t expert_count;            /* E, divisible by W - S */
    const enum epx_rank_fate *fates; /* (W,) of the report */
    /* This rank's tokens; token_count may be 0. */
    int64_t token_count;       /* T, T * K below 2^31 */
    int64_t topk;              /* K */
    const int32_t *expert_ids; /* (T, K) */
    uint8_t *experts;          /* out (E,) or null: 1 for an expert whose rank is lost, else 0 */
    uint8_t *copies;           /* out (T, K) or null: 1 for a (token, k) that names such an expert, else 0 */
    int64_t expert_lost_count; /* out */
    int64_t copy_lost_count;   /* out */
    int64_t token_lost_count;  /* out: tokens with such a copy */
};
#define EPX_EXPERTS_LOST_ARGS_INIT                                                                                     \
    {                                                                                                                  \
        sizeof(struct epx_experts_lost_args), 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, 0, 0, 0                           \
    }

/*
 * What a loss means for experts and tokens: the experts of the lost ranks, and this rank's copies that were for them.
 * Local, pure. Whoever calls decides: fail, route those tokens anew, or load the experts elsewhere; nothing is dropped
 * or moved here. The shared expert of a rank below S is in the fates alone.
 *
 * Errors: EPX_ERR_NULL (args; fates; expert_ids with tokens), EPX_ERR_INVALID (a size, a fate, or an expert id is out
 * of range; the text names it): nothing was written then. Owner: all arrays stay the caller's. Thread: any.
 */
enum epx_status epx_experts_lost(struct epx_experts_lost_args *args);

/* ---- Memory -------------------------------------------------------------------------------------------------- */

/* Peer-visible memory of this process, zeroed, 64-byte aligned; for any communicator, existing or not. Errors:
 * EPX_ERR_NO_MEMORY. Owner of *out: the caller, until epx_memory_free. Thread: any. */
enum epx_status epx_memory_alloc(size_t bytes, void **out);
/* The same for buffers of the most rows that could arrive: pages come as an operation uses them, so that the buffer
 * costs what has arrived at most. Where the program itself is going to write, it calls
 * epx_memory_need first; without, a lack of memory ends it as it does with memory of malloc. Limits are checked here
 * too, with what earlier reservations of the process have not taken yet. Errors: EPX_ERR_NULL, EPX_ERR_NO_MEMORY,
 * EPX_ERR_SYSTEM. Owner of *out: the caller, until epx_memory_free. Thread: any. */
enum epx_status epx_memory_reserve(size_t bytes, void **out);
/* Brings in the pages of [pointer, pointer + bytes) of one allocation. Errors: EPX_ERR_NULL,
 * EPX_ERR_NOT_FOUND, EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM. Owner: unchanged. Thread: any. */
enum epx_status epx_memory_need(const void *pointer, size_t bytes);
/* Frees it; not while an operation uses it. Null is allowed. Errors: EPX_ERR_NOT_FOUND for any other pointer that
 * neither epx_memory_alloc nor epx_memory_reserve gave in this process; EPX_ERR_STATE while it holds the x of row views
 * that are out, until they end, or their communicator fails or is destroyed. Thread: any. */
enum epx_status epx_memory_free(void *pointer);

/* ---- Plans --------------------------------------------------------------------------------------------------- */

enum epx_data_type { EPX_FP16 = 0, EPX_BF16 = 1 };
enum epx_row_quantization { EPX_ROWS_PLAIN = 0, EPX_ROWS_INT8 = 2 };
enum epx_return_quantization { EPX_RETURN_PLAIN = 0, EPX_RETURN_INT8 = 2 };
/* AUTO: the two-level exchange where ranks are on several hosts, those of each server (server_rank_count) on one, and
 * each of its sums is expected to stand for two rows or more on their way between hosts; else the full mesh.
 * epx_plan_exchange tells. Results of the two-level exchange are rounded once more, so differ in the last bits. */
enum epx_exchange { EPX_EXCHANGE_FULL_MESH = 0, EPX_EXCHANGE_TWO_LEVEL = 1, EPX_EXCHANGE_AUTO = 2 };

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
    int64_t token_max;    /* largest T of any run, >= 0; token_max * K below 2^31 */
    int64_t recv_row_max; /* A: rows of expand_x; 0: W * token_max * min(L, K), enough when all ranks have the same
                             token_max and no token names an expert twice. The rows that arrive must not be more */
    int smooth_scales;    /* 1: dispatch is given smooth scales, with EPX_ROWS_INT8; equal on all ranks */
};
#define EPX_MOE_CONFIG_INIT                                                                                            \
    {                                                                                                                  \
        sizeof(struct epx_moe_config), 0, 0, 0, 0, EPX_BF16, EPX_ROWS_PLAIN, EPX_RETURN_PLAIN, EPX_EXCHANGE_FULL_MESH, \
            0, 0, 0                                                                                                    \
    }

/*
 * Checks sizes and allocates what the runs need; local, no tensor is known yet. A communicator may have many plans.
 * Errors: EPX_ERR_INVALID or EPX_ERR_SHAPE (a size or option out of range), EPX_ERR_STATE (the communicator was
 * destroyed), EPX_ERR_NO_MEMORY. Whether the ranks agree is found out by the operations. Owner of *out: the caller,
 * until epx_plan_destroy. Thread: as the communicator.
 */
enum epx_status epx_plan_create(struct epx_communicator *comm, const struct epx_moe_config *config,
                                struct epx_plan **out);

/* Frees a plan, before or after its communicator; requests started with it go on undisturbed. While its row views are
 * out, what peers look at is kept until epx_comm_destroy; they cannot be ended any more, so end them first. Null is
 * allowed. Errors: none. Owner: `plan` is gone. Thread: any, while no other call uses it. */
void epx_plan_destroy(struct epx_plan *plan);

/* Sizes, regions and choices, for people. Errors: prints nothing for null or no plan. Owner: none. Thread: as the
 * communicator. */
void epx_plan_print(const struct epx_plan *plan, FILE *out);

/* Rows that expand_x must hold (A), local experts of this rank (L). Errors: 0 for null or no plan. Owner: none. Thread:
 * any. */
int64_t epx_plan_recv_row_max(const struct epx_plan *plan);
int64_t epx_plan_local_expert_count(const struct epx_plan *plan);

/* The exchange that runs: as in the config, or what was chosen. Errors: EPX_EXCHANGE_AUTO for null or no plan. Owner:
 * none. Thread: any. */
enum epx_exchange epx_plan_exchange(const struct epx_plan *plan);

/* ---- Operations ---------------------------------------------------------------------------------------------- */

struct epx_dispatch_args {
    size_t struct_bytes;
    int64_t token_count;        /* T, 0 .. token_max; may differ between ranks and runs. With 0 inputs may be null */
    const void *x;              /* (T, H) dtype */
    const int32_t *expert_ids;  /* (T, K), each in [0, E); repetitions are allowed, each is a row of its own */
    const float *expert_scales; /* (T, K) or null: only copied to expand_scales, by the two-level exchange */
    const float *smooth_scales; /* (E, H), with S > 0 (E + 1, H) and row 0 for the shared expert; with smooth_scales = 1
                                   and the full mesh, else not used */
    void *expand_x;             /* out (A, H) dtype, int8 with EPX_ROWS_INT8 */
    float *dynamic_scales;      /* out (A,) with EPX_ROWS_INT8, else not used */
    int32_t *expand_idx;        /* out (T * K,): for combine; not used by the two-level exchange */
    int64_t *expert_token_nums; /* out (L,) */
    int32_t *ep_recv_counts;    /* out (W * L,): for combine */
    float *expand_scales;       /* out (A,) or null: two-level exchange only */
};
#define EPX_DISPATCH_ARGS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(struct epx_dispatch_args), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL                \
    }

struct epx_dispatch_views_args { /* as struct epx_dispatch_args, but for rows */
    size_t struct_bytes;
    int64_t token_count;        /* T */
    const void *x;              /* (T, H) dtype */
    const int32_t *expert_ids;  /* (T, K) */
    const float *expert_scales; /* (T, K) or null */
    const float *smooth_scales; /* (E, H) or (E + 1, H) */
    const void **rows;          /* out (A,): the address of each row, (H,) dtype, int8 with EPX_ROWS_INT8 */
    float *dynamic_scales;      /* out (A,) with EPX_ROWS_INT8, else not used */
    int32_t *expand_idx;        /* out (T * K,) */
    int64_t *expert_token_nums; /* out (L,) */
    int32_t *ep_recv_counts;    /* out (W * L,) */
    float *expand_scales;       /* out (A,) or null */
};
#define EPX_DISPATCH_VIEWS_ARGS_INIT                                                                                   \
    {                                                                                                                  \
        sizeof(struct epx_dispatch_views_args), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL          \
    }

struct epx_combine_args {
    size_t struct_bytes;
    int64_t token_count;           /* T, as in the dispatch */
    const void *expand_x;          /* (A, H) dtype: the experts' outputs, in the rows of the dispatch */
    const int32_t *expert_ids;     /* (T, K), as in the dispatch */
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
 * Sends each token to the ranks that own its experts. Collective; returns when complete on this rank: outputs final,
 * and no peer reads this rank's buffers any more. Shapes and dtypes: struct epx_dispatch_args.
 *
 * Valid on return, n being ep_recv_counts[W * L - 1], the number of rows that arrived:
 *   expand_x           rows [0, n), ordered by local expert, then source rank, then the token's place, then k; on a
 *                      rank r < S its own T tokens, then its share of those of ranks S .. W-1, by rank. Bit copies of
 *                      x, or int8
 *   dynamic_scales     [0, n): what an int8 row is multiplied by to get the token back
 *   expand_idx         all: how many earlier (token, k) of this rank name the same expert
 *   expert_token_nums  all: rows of each local expert
 *   ep_recv_counts     all: running totals over (local expert, source rank)
 *   expand_scales      [0, n) when this rank also gives expert_scales, or has no tokens: the weight with which the
 *                      row's token first names the expert; 1 for the shared expert; 0 where the token's rank gave none
 * What lies beyond keeps what it held. docs/operators.md defines every bit.
 *
 * Errors, local, nothing was started:
 *   EPX_ERR_NULL       a tensor that is used is null
 *   EPX_ERR_INVALID    token_count is out of range, an output overlaps another tensor, or a tensor meets memory of
 *                      epx_memory_alloc and does not lie inside one allocation
 *   EPX_ERR_STATE      the communicator was destroyed, or belongs to the process before a fork; row views of the plan
 *                      are out
 *   EPX_ERR_NO_MEMORY  for the copy of tensors that peers cannot read in place, at the first such call
 * Errors, of the round, on every rank:
 *   EPX_ERR_MISMATCH   ranks disagree on a size, an option or the order of calls
 *   EPX_ERR_EXPERT_ID  an expert id is not in [0, E)
 *   EPX_ERR_CAPACITY   more rows arrive on a rank than its expand_x has
 *   EPX_ERR_RANK_MEMORY a rank had no memory for what it was to write (see epx_memory_reserve)
 *   EPX_ERR_PEER_DEAD, EPX_ERR_PEER_LEFT, EPX_ERR_TIMEOUT  a rank does not take part; the text names it
 *   EPX_ERR_PROTOCOL, EPX_ERR_INTERNAL                     a defect, or a peer that is not epx
 * Owner: all tensors stay the caller's. Thread: as the communicator.
 * Source: aclnnMoeDistributeDispatch (first version of the operator). Differs: no limits on sizes; bad ids and too many
 * rows are errors; expert_token_nums are counts, and globalBs is not asked for.
 */
enum epx_status epx_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *args);

/*
 * The same without copying rows: *rows[i] is row i of epx_dispatch's expand_x, where its sender has it. That is the
 * token in the sender's x, when rows are plain and x is memory of epx_memory_alloc; else what its library wrote once,
 * the int8 row or a copy of x. Collective; on all ranks or on none in a round. Shapes and dtypes: struct
 * epx_dispatch_views_args. Good for experts that read each row once, to pack it as their arithmetic wants it.
 *
 * Valid on return: rows [0, n); all others as of epx_dispatch. Rows are read only, aligned to their elements, in no
 * particular distance from each other, and the same address as often as a token comes more than once.
 *
 * Life-time. On return, and from epx_dispatch_views_start on, the views of this plan are out. They end with the next
 * epx_combine, epx_combine_start or epx_views_release of the plan, on all ranks with the same round of the communicator
 * (else EPX_ERR_MISMATCH there), and when the communicator fails:
 *   receiving  the rows may be read until this rank makes that call. Not during it: its peers may be back earlier.
 *   sending    the caller keeps x as it is, and does not free it, until that call has returned, or epx_wait for it.
 * That holds for plain rows in memory of epx_memory_alloc; of all else the library keeps a copy. (So x may be the
 * output of that epx_combine.) While views are out, the library refuses with EPX_ERR_STATE another dispatch of the
 * plan, epx_memory_free of x, and epx_comm_destroy (not what the caller does to x between epx_combine_start and
 * epx_wait); epx_plan_destroy keeps what peers look at. Other plans may be used.
 * A rank that fails, exits or leaves in spite of that takes nothing away: rows stay readable until epx_comm_destroy on
 * the rank that reads them. But what they hold then is good only if the round that ends the views succeeds.
 *
 * Errors: as of epx_dispatch, local and of the round; x is not copied where it can be looked at. EPX_ERR_MISMATCH also
 * when some ranks call epx_dispatch; EPX_ERR_CAPACITY when more rows arrive than A.
 * Owner: all tensors stay the caller's, rows their senders'. Thread: as the communicator; rows may be read by any.
 * Source: aclnnMoeDistributeDispatch (first version of the operator). Differs: as epx_dispatch; addresses in the place
 * of expand_x.
 */
enum epx_status epx_dispatch_views(struct epx_plan *plan, const struct epx_dispatch_views_args *args);

/*
 * Ends the row views of the plan where no epx_combine of it follows. Collective; returns when every rank has called,
 * and so looks at no row any more: x is the caller's again.
 * Errors, local: EPX_ERR_NULL, EPX_ERR_INVALID; EPX_ERR_STATE when no views of the plan are out, the communicator was
 * destroyed, or belongs to the process before a fork.
 * Errors, of the round, on every rank: EPX_ERR_MISMATCH (order of calls, or views of another dispatch),
 * EPX_ERR_PEER_DEAD, EPX_ERR_PEER_LEFT, EPX_ERR_TIMEOUT, EPX_ERR_PROTOCOL. The views have ended with any of them, too.
 * Owner: none. Thread: as the communicator.
 */
enum epx_status epx_views_release(struct epx_plan *plan);

/*
 * Brings the experts' rows back and sums them: x[t] = the sum over k of row (t, k) times expert_scales[t, k], plus the
 * row of the shared expert with S > 0, in fp32, rounded once. Collective; returns when complete on this rank, as above.
 * Depends on its arguments alone, and not on which dispatch was run before; row views of the plan end. Shapes and
 * dtypes: struct epx_combine_args.
 *
 * Valid on return: all of x. Read of expand_x: the rows that ep_send_counts counts.
 * Errors: as of epx_dispatch, without EPX_ERR_CAPACITY and without EPX_ERR_STATE for row views that are out, and
 *   EPX_ERR_COUNTS     ep_send_counts falls or exceeds A; expand_idx names a row that the expert's block has not; the
 *                      rows for the shared expert are not those of the dispatch
 * Owner: all tensors stay the caller's. Thread: as the communicator.
 * Source: aclnnMoeDistributeCombine (first version of the operator). Differs: no limits on sizes; contradictory counts
 * are errors; expandScales is not asked for.
 */
enum epx_status epx_combine(struct epx_plan *plan, const struct epx_combine_args *args);

/*
 * The same in the background: returns once the operation is queued. `args` is copied; tensors are the operation's until
 * epx_wait has returned its status. Operations of one communicator, started or not, run in the order of the calls.
 * Errors: the local ones of the operation; those of the round come from epx_wait.
 * Owner of *out: the caller, until epx_wait sets it to null. Thread: as the communicator.
 */
enum epx_status epx_dispatch_start(struct epx_plan *plan, const struct epx_dispatch_args *args,
                                   struct epx_request **out);
enum epx_status epx_dispatch_views_start(struct epx_plan *plan, const struct epx_dispatch_views_args *args,
                                         struct epx_request **out);
enum epx_status epx_combine_start(struct epx_plan *plan, const struct epx_combine_args *args, struct epx_request **out);

/*
 * Waits for a started operation and returns its status. timeout_ms -1: for ever; 0: looks only.
 * Errors: those of the operation's round, *request being null then; and, *request being left as it was,
 *   EPX_ERR_TIMEOUT  timeout_ms passed; the text says who is late. To be waited for again
 *   EPX_ERR_NULL     request or *request is null
 *   EPX_ERR_INVALID  no request, or timeout_ms below -1
 *   EPX_ERR_STATE    the request is of the process before a fork
 * Owner: *request is freed and set to null once the operation has ended, with success or not.
 * Thread: any, one call at a time per request.
 */
enum epx_status epx_wait(struct epx_request **request, int64_t timeout_ms);

struct epx_stats {       /* of a plan's last successful run of each operation, this rank; 0 before there was one */
    size_t struct_bytes; /* sizeof, set by the caller */
    int64_t dispatch_rows_sent, dispatch_rows_received, dispatch_bytes_read, dispatch_bytes_written;
    int64_t combine_rows_read, combine_bytes_read, combine_bytes_written;
    /* Operation from its turn on; of it waiting for the others to enter, moving rows, waiting for them to be done. */
    uint64_t dispatch_ns, dispatch_enter_wait_ns, dispatch_move_ns, dispatch_done_wait_ns;
    uint64_t combine_ns, combine_enter_wait_ns, combine_move_ns, combine_done_wait_ns;
};

/* Fills `stats`, whose struct_bytes says how long it is. Errors: EPX_ERR_NULL, EPX_ERR_INVALID (no plan, struct_bytes).
 * Owner: the caller. Thread: any. */
enum epx_status epx_plan_stats(const struct epx_plan *plan, struct epx_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
