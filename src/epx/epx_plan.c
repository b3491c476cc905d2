#include "base/checked_math.h"
#include "epx/objects.h"
#include "moe/exchange_choice.h"

#include <stdlib.h>
#include <string.h>

void epx_plan_release(struct epx_plan *plan)
{
    if (atomic_fetch_sub(&plan->references, 1) != 1) {
        return;
    }
    plan->magic = 0;
    epx_dispatch_plan_destroy(plan->dispatch);
    epx_combine_plan_destroy(plan->combine);
    for (size_t i = 0; i < sizeof plan->spare_requests / sizeof plan->spare_requests[0]; i++) {
        free(atomic_load(&plan->spare_requests[i]));
    }
    epx_communicator_release(plan->communicator);
    free(plan);
}

enum epx_status epx_plan_check(const struct epx_plan *plan)
{
    if (plan == NULL) {
        return epx_fail(EPX_ERR_NULL, "plan is null");
    }
    if (plan->magic != EPX_PLAN_MAGIC) {
        return epx_fail(EPX_ERR_INVALID, "not a plan");
    }
    return epx_communicator_check(plan->communicator);
}

static struct epx_view vector(enum epx_dtype dtype, int64_t elems)
{
    return (struct epx_view){.dtype = dtype, .dim_count = 1, .shape = {elems}, .stride = {1}};
}

static struct epx_view matrix(enum epx_dtype dtype, int64_t rows, int64_t columns)
{
    return (struct epx_view){.dtype = dtype, .dim_count = 2, .shape = {rows, columns}, .stride = {columns, 1}};
}

static void shape_from(const struct epx_moe_config *config, const struct epx_comm *comm, struct epx_moe_shape *shape)
{
    memset(shape, 0, sizeof *shape);
    shape->expert_count = config->expert_count;
    shape->hidden_elems = config->hidden_elems;
    shape->topk = config->topk;
    shape->shared_rank_count = config->shared_rank_count;
    shape->shared_expert_count = config->shared_rank_count > 0 ? 1 : 0;
    shape->dtype = (enum epx_dtype)config->dtype;
    shape->quantization = (enum epx_quantization)config->quantization;
    shape->comm_quantization = (enum epx_comm_quantization)config->return_quantization;
    shape->algorithm = config->exchange == EPX_EXCHANGE_AUTO ? epx_moe_choose_algorithm(shape, comm)
                                                             : (enum epx_algorithm)config->exchange;
}

/* Sizes of one rank's tensors. */
struct sizes {
    int64_t tokens;
    int64_t rows;
    int64_t experts;
    int64_t blocks; /* ranks * local experts */
};

static void dispatch_tensors(const struct epx_moe_config *config, const struct epx_moe_shape *shape,
                             const struct sizes *sizes, struct epx_dispatch_tensors *tensors)
{
    bool int8 = shape->quantization == EPX_QUANTIZATION_DYNAMIC_INT8;
    bool two_level = shape->algorithm == EPX_ALGORITHM_TWO_LEVEL;
    int64_t hidden = shape->hidden_elems;
    tensors->x = matrix(shape->dtype, sizes->tokens, hidden);
    tensors->expert_ids = matrix(EPX_DTYPE_INT32, sizes->tokens, shape->topk);
    if (config->smooth_scales != 0) {
        int64_t rows = shape->expert_count + (shape->shared_rank_count > 0 ? 1 : 0);
        tensors->smooth_scales = matrix(EPX_DTYPE_FP32, rows, hidden);
    }
    tensors->expand_x = matrix(int8 ? EPX_DTYPE_INT8 : shape->dtype, sizes->rows, hidden);
    if (int8) {
        tensors->dynamic_scales = vector(EPX_DTYPE_FP32, sizes->rows);
    }
    if (two_level) {
        tensors->expert_scales = matrix(EPX_DTYPE_FP32, sizes->tokens, shape->topk);
        tensors->expand_scales = vector(EPX_DTYPE_FP32, sizes->rows);
    } else {
        tensors->expand_idx = vector(EPX_DTYPE_INT32, sizes->tokens * shape->topk);
    }
    tensors->expert_token_nums = vector(EPX_DTYPE_INT64, sizes->experts);
    tensors->ep_recv_counts = vector(EPX_DTYPE_INT32, sizes->blocks);
}

static void combine_tensors(const struct epx_moe_shape *shape, const struct sizes *sizes,
                            struct epx_combine_tensors *tensors)
{
    tensors->expand_x = matrix(shape->dtype, sizes->rows, shape->hidden_elems);
    tensors->expert_ids = matrix(EPX_DTYPE_INT32, sizes->tokens, shape->topk);
    if (shape->algorithm != EPX_ALGORITHM_TWO_LEVEL) {
        tensors->expand_idx = vector(EPX_DTYPE_INT32, sizes->tokens * shape->topk);
    }
    tensors->ep_send_counts = vector(EPX_DTYPE_INT32, sizes->blocks);
    tensors->expert_scales = matrix(EPX_DTYPE_FP32, sizes->tokens, shape->topk);
    tensors->x = matrix(shape->dtype, sizes->tokens, shape->hidden_elems);
}

/* The sizes that tensors are made of; what the operators check themselves may still be wrong, but nothing overflows. */
static enum epx_status sizes_resolve(const struct epx_moe_config *config, const struct epx_moe_shape *shape,
                                     const struct epx_comm *comm, struct sizes *sizes)
{
    int64_t rank_count = epx_comm_rank_count(comm);
    int64_t shared = config->shared_rank_count;
    int64_t copies;
    if (shared < 0 || shared >= rank_count) {
        return epx_fail(EPX_ERR_INVALID, "sharedExpertRankNum is %lld, must be in [0, %lld)", (long long)shared,
                        (long long)rank_count);
    }
    if (config->expert_count < 1 || config->expert_count > INT32_MAX || config->topk < 1 || config->token_max < 0 ||
        !epx_mul_i64(config->token_max, config->topk, &copies) || copies > INT32_MAX) {
        return epx_fail(EPX_ERR_INVALID,
                        "expert_count is %lld, topk %lld, token_max %lld: must be in [1, 2147483647], >= 1, >= 0, and "
                        "token_max * topk below 2147483648",
                        (long long)config->expert_count, (long long)config->topk, (long long)config->token_max);
    }
    sizes->tokens = config->token_max;
    sizes->experts = epx_moe_local_expert_count(shape, rank_count, epx_comm_rank(comm));
    sizes->rows = config->recv_row_max;
    if (config->recv_row_max < 0 || !epx_mul_i64(rank_count, sizes->experts, &sizes->blocks)) {
        return epx_fail(EPX_ERR_INVALID, "recv_row_max is %lld, must be >= 0", (long long)config->recv_row_max);
    }
    if (config->recv_row_max == 0 &&
        !epx_mul_i64(rank_count * epx_min_i64(sizes->experts, config->topk), config->token_max, &sizes->rows)) {
        return epx_fail(EPX_ERR_INVALID, "token_max is %lld, too many for recv_row_max 0",
                        (long long)config->token_max);
    }
    return EPX_OK;
}

static enum epx_status create_operators(struct epx_plan *plan, const struct epx_moe_config *config)
{
    struct epx_dispatch_request dispatch = {
        .comm = plan->communicator->comm, .token_count = config->token_max, .token_nums_kind = EPX_TOKEN_NUMS_COUNT};
    struct epx_combine_request combine = {.comm = plan->communicator->comm, .token_count = config->token_max};
    struct sizes sizes = {0};
    shape_from(config, dispatch.comm, &dispatch.shape);
    combine.shape = dispatch.shape;
    EPX_TRY(sizes_resolve(config, &dispatch.shape, plan->communicator->comm, &sizes));
    dispatch_tensors(config, &dispatch.shape, &sizes, &dispatch.tensors);
    combine_tensors(&combine.shape, &sizes, &combine.tensors);
    EPX_TRY(epx_dispatch_plan_create(&dispatch, &plan->dispatch));
    EPX_TRY(epx_combine_plan_create(&combine, &plan->combine));
    plan->recv_row_max = sizes.rows;
    plan->exchange = (enum epx_exchange)dispatch.shape.algorithm;
    plan->local_expert_count = sizes.experts;
    return EPX_OK;
}

enum epx_status epx_plan_create(struct epx_communicator *comm, const struct epx_moe_config *config,
                                struct epx_plan **out)
{
    struct epx_moe_config known;
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(epx_communicator_check(comm));
    EPX_TRY(epx_struct_read(&known, sizeof known, sizeof known, config, "config"));
    struct epx_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a plan");
    }
    plan->magic = EPX_PLAN_MAGIC;
    atomic_init(&plan->references, 1);
    plan->communicator = comm;
    (void)atomic_fetch_add(&comm->references, 1);
    enum epx_status status = create_operators(plan, &known);
    if (status != EPX_OK) {
        epx_plan_release(plan);
        return status;
    }
    *out = plan;
    return EPX_OK;
}

void epx_plan_destroy(struct epx_plan *plan)
{
    if (plan != NULL && plan->magic == EPX_PLAN_MAGIC) {
        epx_views_abandon(plan);
        epx_plan_release(plan);
    }
}

void epx_plan_print(const struct epx_plan *plan, FILE *out)
{
    if (plan == NULL || plan->magic != EPX_PLAN_MAGIC || out == NULL) {
        return;
    }
    epx_dispatch_plan_print(plan->dispatch, out);
    epx_combine_plan_print(plan->combine, out);
}

enum epx_exchange epx_plan_exchange(const struct epx_plan *plan)
{
    return plan != NULL && plan->magic == EPX_PLAN_MAGIC ? plan->exchange : EPX_EXCHANGE_AUTO;
}

int64_t epx_plan_recv_row_max(const struct epx_plan *plan)
{
    return plan != NULL && plan->magic == EPX_PLAN_MAGIC ? plan->recv_row_max : 0;
}

int64_t epx_plan_local_expert_count(const struct epx_plan *plan)
{
    return plan != NULL && plan->magic == EPX_PLAN_MAGIC ? plan->local_expert_count : 0;
}

enum epx_status epx_plan_stats(const struct epx_plan *plan, struct epx_stats *stats)
{
    if (plan == NULL || stats == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", plan == NULL ? "plan" : "stats");
    }
    if (plan->magic != EPX_PLAN_MAGIC) {
        return epx_fail(EPX_ERR_INVALID, "not a plan");
    }
    size_t bytes = stats->struct_bytes;
    if (bytes < sizeof *stats || bytes > sizeof *stats + 4096) {
        return epx_fail(EPX_ERR_INVALID, "stats: struct_bytes is %zu, must be %zu", bytes, sizeof *stats);
    }
    const struct epx_kept_stats *dispatch = &plan->dispatch_stats;
    const struct epx_kept_stats *combine = &plan->combine_stats;
    memset(stats, 0, bytes);
    stats->struct_bytes = bytes;
    stats->dispatch_rows_sent = atomic_load_explicit(&dispatch->rows_sent, memory_order_relaxed);
    stats->dispatch_rows_received = atomic_load_explicit(&dispatch->rows_received, memory_order_relaxed);
    stats->dispatch_bytes_read = atomic_load_explicit(&dispatch->bytes_read, memory_order_relaxed);
    stats->dispatch_bytes_written = atomic_load_explicit(&dispatch->bytes_written, memory_order_relaxed);
    stats->dispatch_ns = atomic_load_explicit(&dispatch->total_ns, memory_order_relaxed);
    stats->dispatch_enter_wait_ns = atomic_load_explicit(&dispatch->enter_wait_ns, memory_order_relaxed);
    stats->dispatch_move_ns = atomic_load_explicit(&dispatch->move_ns, memory_order_relaxed);
    stats->dispatch_done_wait_ns = atomic_load_explicit(&dispatch->done_wait_ns, memory_order_relaxed);
    stats->combine_rows_read = atomic_load_explicit(&combine->rows_received, memory_order_relaxed);
    stats->combine_bytes_read = atomic_load_explicit(&combine->bytes_read, memory_order_relaxed);
    stats->combine_bytes_written = atomic_load_explicit(&combine->bytes_written, memory_order_relaxed);
    stats->combine_ns = atomic_load_explicit(&combine->total_ns, memory_order_relaxed);
    stats->combine_enter_wait_ns = atomic_load_explicit(&combine->enter_wait_ns, memory_order_relaxed);
    stats->combine_move_ns = atomic_load_explicit(&combine->move_ns, memory_order_relaxed);
    stats->combine_done_wait_ns = atomic_load_explicit(&combine->done_wait_ns, memory_order_relaxed);
    return EPX_OK;
}
