/*
 * The sizes of an operation as one rank sees them: which experts are whose, and what sizes are allowed at all. Pure.
 * Thread: any.
 */
#ifndef EPX_MOE_SHAPE_H
#define EPX_MOE_SHAPE_H

#include "base/status.h"
#include "moe/request.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_moe_world {
    int64_t rank_count;   /* W */
    int64_t rank;         /* r */
    int64_t shared_count; /* S */
    int64_t expert_count; /* E */
    int64_t rank_experts; /* L: experts of a rank that does not hold the shared one */
    int64_t local_experts;
    int64_t first_expert; /* this rank's first one; meaningless when it holds the shared one */
    int64_t hidden_elems; /* H */
    int64_t topk;         /* K */
    int64_t server_ranks; /* ranks of a server; 0 when servers differ */
    int64_t tp_rank;      /* 0 without tensor parallelism */
    bool tp;
    bool two_level;
    bool holds_shared; /* r < S */
};

/*
 * Checks everything about a request that is not a tensor: EPX_ERR_NULL (no communicator), EPX_ERR_DTYPE,
 * EPX_ERR_INVALID naming argument, value and limit. On success fills `world`.
 */
EPX_NODISCARD enum epx_status epx_moe_shape_check(const struct epx_moe_shape *shape, int64_t token_count,
                                                  const struct epx_comm *comm, const struct epx_comm *tp_comm,
                                                  struct epx_moe_world *world);

/* Whether globalBs, when given, leaves room for `token_count` tokens on a rank; *limit is what it leaves room for. */
bool epx_moe_token_count_fits(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count,
                              int64_t *limit);

/* Most tokens of any rank, as a rank with token_count tokens knows it: without globalBs all have as many. */
int64_t epx_moe_token_limit(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count);

/* globalBs, or what 0 stands for on a rank with token_count tokens. */
int64_t epx_moe_global_token_count(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count);

/* Rank that owns an expert. */
static inline int64_t epx_moe_expert_owner(const struct epx_moe_world *world, int64_t expert)
{
    return world->shared_count + expert / world->rank_experts;
}

/* Block of (expert, source rank) among the owner's blocks. */
static inline int64_t epx_moe_block(const struct epx_moe_world *world, int64_t expert, int64_t source)
{
    return expert % world->rank_experts * world->rank_count + source;
}

#endif
