#include "moe/shape.h"

#include "base/checked_math.h"

#include <string.h>

int64_t epx_moe_local_expert_count(const struct epx_moe_shape *shape, int64_t rank_count, int64_t rank)
{
    return rank < shape->shared_rank_count ? 1 : shape->expert_count / (rank_count - shape->shared_rank_count);
}

bool epx_moe_token_count_fits(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count,
                              int64_t *limit)
{
    *limit = shape->global_token_count / rank_count;
    return shape->global_token_count == 0 || token_count <= *limit;
}

int64_t epx_moe_token_limit(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count)
{
    return shape->global_token_count != 0 ? shape->global_token_count / rank_count : token_count;
}

int64_t epx_moe_global_token_count(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count)
{
    return shape->global_token_count != 0 ? shape->global_token_count : rank_count * token_count;
}

static enum epx_status range_check(const char *name, int64_t value, int64_t minimum, int64_t maximum)
{
    if (value < minimum || value > maximum) {
        return epx_fail(EPX_ERR_INVALID, "%s is %lld, must be in [%lld, %lld]", name, (long long)value,
                        (long long)minimum, (long long)maximum);
    }
    return EPX_OK;
}

static enum epx_status options_check(const struct epx_moe_shape *shape)
{
    if (shape->dtype != EPX_DTYPE_FP16 && shape->dtype != EPX_DTYPE_BF16) {
        return epx_fail(EPX_ERR_DTYPE, "dtype of tokens is %d, must be float16 or bfloat16", (int)shape->dtype);
    }
    if (shape->quantization != EPX_QUANTIZATION_NONE && shape->quantization != EPX_QUANTIZATION_DYNAMIC_INT8) {
        return epx_fail(EPX_ERR_INVALID, "quantMode is %d, must be 0 or 2", (int)shape->quantization);
    }
    if (shape->comm_quantization != EPX_COMM_QUANTIZATION_NONE &&
        shape->comm_quantization != EPX_COMM_QUANTIZATION_INT8) {
        return epx_fail(EPX_ERR_INVALID, "commQuantMode is %d, must be 0 or 2", (int)shape->comm_quantization);
    }
    if (shape->algorithm != EPX_ALGORITHM_FULL_MESH && shape->algorithm != EPX_ALGORITHM_TWO_LEVEL) {
        return epx_fail(EPX_ERR_INVALID, "algorithm is %d, must be 0 (full mesh) or 1 (two-level)",
                        (int)shape->algorithm);
    }
    return EPX_OK;
}

static enum epx_status experts_check(const struct epx_moe_shape *shape, int64_t rank_count)
{
    int64_t shared = shape->shared_rank_count;
    EPX_TRY(range_check("sharedExpertRankNum", shared, 0, rank_count - 1));
    EPX_TRY(range_check("sharedExpertNum", shape->shared_expert_count, 0, 1));
    if (shared > 0 && shape->shared_expert_count == 0) {
        return epx_fail(EPX_ERR_INVALID, "sharedExpertNum is 0, must be 1 with sharedExpertRankNum %lld",
                        (long long)shared);
    }
    EPX_TRY(range_check("moeExpertNum", shape->expert_count, 1, INT32_MAX));
    if (shape->expert_count % (rank_count - shared) != 0) {
        return epx_fail(EPX_ERR_INVALID,
                        "moeExpertNum is %lld, must be divisible by %lld (epWorldSize %lld - sharedExpertRankNum %lld)",
                        (long long)shape->expert_count, (long long)(rank_count - shared), (long long)rank_count,
                        (long long)shared);
    }
    if (shape->expert_count / (rank_count - shared) > INT32_MAX / rank_count) {
        return epx_fail(EPX_ERR_INVALID, "moeExpertNum is %lld, too many for %lld ranks",
                        (long long)shape->expert_count, (long long)rank_count);
    }
    return EPX_OK;
}

static enum epx_status tokens_check(const struct epx_moe_shape *shape, int64_t rank_count, int64_t token_count)
{
    int64_t limit;
    EPX_TRY(range_check("H", shape->hidden_elems, 1, INT32_MAX));
    if (shape->topk < 1 || shape->topk > shape->expert_count) {
        return epx_fail(EPX_ERR_INVALID, "K is %lld, must be in [1, %lld] (moeExpertNum)", (long long)shape->topk,
                        (long long)shape->expert_count);
    }
    if (token_count < 0 || token_count > INT32_MAX / shape->topk) {
        return epx_fail(EPX_ERR_INVALID, "BS is %lld, must be in [0, %lld] with K %lld", (long long)token_count,
                        (long long)(INT32_MAX / shape->topk), (long long)shape->topk);
    }
    EPX_TRY(range_check("globalBs", shape->global_token_count, 0, INT64_MAX));
    if (!epx_moe_token_count_fits(shape, rank_count, token_count, &limit)) {
        return epx_fail(EPX_ERR_INVALID, "globalBs is %lld, must be 0 or at least %lld (BS %lld * epWorldSize %lld)",
                        (long long)shape->global_token_count, (long long)(token_count * rank_count),
                        (long long)token_count, (long long)rank_count);
    }
    return EPX_OK;
}

static enum epx_status tp_check(const struct epx_moe_shape *shape, const struct epx_comm *tp_comm)
{
    EPX_TRY(range_check("tpWorldSize", shape->tp_rank_count, 0, 2));
    if (shape->tp_rank_count < 2) {
        return EPX_OK;
    }
    if (tp_comm == NULL) {
        return epx_fail(EPX_ERR_NULL, "tpWorldSize is 2 and the communicator of groupTp is null");
    }
    if (epx_comm_rank_count(tp_comm) != 2) {
        return epx_fail(EPX_ERR_INVALID, "the communicator of groupTp has %u ranks, must have 2 (tpWorldSize)",
                        epx_comm_rank_count(tp_comm));
    }
    if (epx_comm_host_count(tp_comm) != 1) {
        return epx_fail(EPX_ERR_UNSUPPORTED, "the ranks of groupTp are on %u hosts, must be on one",
                        epx_comm_host_count(tp_comm));
    }
    return EPX_OK;
}

static enum epx_status servers_check(const struct epx_moe_shape *shape, const struct epx_comm *comm)
{
    uint32_t server_ranks = epx_comm_server_rank_count(comm);
    uint32_t rank_count = epx_comm_rank_count(comm);
    if (shape->algorithm == EPX_ALGORITHM_TWO_LEVEL && (server_ranks == 0 || rank_count % server_ranks != 0)) {
        return epx_fail(EPX_ERR_INVALID,
                        "the two-level algorithm needs servers of equal size: %u ranks, server size %u (0: differing)",
                        rank_count, server_ranks);
    }
    return EPX_OK;
}

static void world_init(const struct epx_moe_shape *shape, const struct epx_comm *comm, const struct epx_comm *tp_comm,
                       struct epx_moe_world *world)
{
    memset(world, 0, sizeof *world);
    world->rank_count = epx_comm_rank_count(comm);
    world->rank = epx_comm_rank(comm);
    world->shared_count = shape->shared_rank_count;
    world->expert_count = shape->expert_count;
    world->rank_experts = shape->expert_count / (world->rank_count - world->shared_count);
    world->holds_shared = world->rank < world->shared_count;
    world->local_experts = epx_moe_local_expert_count(shape, world->rank_count, world->rank);
    world->first_expert = world->holds_shared ? 0 : (world->rank - world->shared_count) * world->rank_experts;
    world->hidden_elems = shape->hidden_elems;
    world->topk = shape->topk;
    world->server_ranks = epx_comm_server_rank_count(comm);
    world->tp = shape->tp_rank_count == 2;
    world->tp_rank = world->tp ? epx_comm_rank(tp_comm) : 0;
    world->two_level = shape->algorithm == EPX_ALGORITHM_TWO_LEVEL;
}

enum epx_status epx_moe_shape_check(const struct epx_moe_shape *shape, int64_t token_count, const struct epx_comm *comm,
                                    const struct epx_comm *tp_comm, struct epx_moe_world *world)
{
    if (comm == NULL) {
        return epx_fail(EPX_ERR_NULL, "the communicator of groupEp is null");
    }
    int64_t rank_count = epx_comm_rank_count(comm);
    EPX_TRY(options_check(shape));
    EPX_TRY(experts_check(shape, rank_count));
    EPX_TRY(tokens_check(shape, rank_count, token_count));
    EPX_TRY(tp_check(shape, tp_comm));
    EPX_TRY(servers_check(shape, comm));
    world_init(shape, comm, tp_comm, world);
    return EPX_OK;
}
