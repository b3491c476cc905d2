#include "epx_rank.h"

#include "memory_use.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000

int epx_rank_failed(const struct epx_rank *rank, const char *what)
{
    (void)fprintf(stderr, "epx-bench-epx: rank %lld: %s: %s\n", (long long)rank->rank, what, epx_last_error());
    return 1;
}

/* ---- Start --------------------------------------------------------------------------------------------------- */

int epx_rank_join(struct epx_rank *rank, const struct epx_token *token)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.join_timeout_ms = TIMEOUT_MS;
    config.op_timeout_ms = TIMEOUT_MS;
    config.name = "bench";
    if (rank->two_level) {
        config.server_rank_count = (uint32_t)(rank->bench->rank_count / rank->bench->host_count);
    }
    if (epx_comm_create_from_token(token, (uint32_t)rank->bench->rank_count, (uint32_t)rank->rank, &config,
                                   &rank->comm) != EPX_OK) {
        return epx_rank_failed(rank, "communicator");
    }
    return 0;
}

int epx_rank_plan(struct epx_rank *rank)
{
    const struct bench_case *bench = rank->bench;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = bench->expert_count;
    config.hidden_elems = bench->hidden_elems;
    config.topk = bench->topk;
    config.dtype = bench->dtype == BENCH_BF16 ? EPX_BF16 : EPX_FP16;
    config.quantization = bench->quantize ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    config.token_max = bench->token_count;
    config.exchange = rank->two_level ? EPX_EXCHANGE_TWO_LEVEL : EPX_EXCHANGE_FULL_MESH;
    if (epx_plan_create(rank->comm, &config, &rank->plan) != EPX_OK) {
        return epx_rank_failed(rank, "plan");
    }
    rank->local_experts = epx_plan_local_expert_count(rank->plan);
    rank->row_max = epx_plan_recv_row_max(rank->plan);
    return 0;
}

/* ---- Tensors ------------------------------------------------------------------------------------------------- */

/* A tensor of the program and its size. */
struct tensor {
    const void *data;
    size_t bytes;
};

enum { TENSOR_COUNT = 10 };

static void list_tensors(const struct epx_rank *rank, struct tensor *tensors)
{
    const struct bench_case *bench = rank->bench;
    size_t token_bytes = (size_t)(bench->token_count * bench->hidden_elems) * sizeof(uint16_t);
    size_t copies = (size_t)(bench->token_count * bench->topk);
    size_t rows = (size_t)rank->row_max;
    size_t experts = (size_t)rank->local_experts;
    const struct epx_dispatch_args *dispatch = &rank->dispatch;
    const struct tensor list[TENSOR_COUNT] = {
        {rank->x, token_bytes},
        {dispatch->expert_ids, copies * sizeof(int32_t)},
        {rank->combine.expert_scales, copies * sizeof(float)},
        {dispatch->expand_x, rows * epx_rank_row_bytes(rank)},
        {dispatch->dynamic_scales, rows * sizeof(float)},
        {dispatch->expand_idx, copies * sizeof(int32_t)},
        {dispatch->expert_token_nums, experts * sizeof(int64_t)},
        {dispatch->ep_recv_counts, (size_t)bench->rank_count * experts * sizeof(int32_t)},
        {rank->expert_out, rows * (size_t)bench->hidden_elems * sizeof(uint16_t)},
        {rank->combine.x, token_bytes},
    };
    memcpy(tensors, list, sizeof list);
}

/* `received`: holds rows that arrive, so that most of it is never used. */
static void *allocate(const struct epx_rank *rank, int64_t count, size_t elem_bytes, bool received)
{
    size_t bytes = (size_t)count * elem_bytes;
    void *memory = NULL;
    if (rank->private_memory) {
        memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
        if (memory != NULL) {
            memset(memory, 0, bytes);
        }
        return memory;
    }
    enum epx_status status = received ? epx_memory_reserve(bytes, &memory) : epx_memory_alloc(bytes, &memory);
    return status == EPX_OK ? memory : NULL;
}

static int check_tensors(const struct epx_rank *rank)
{
    struct tensor tensors[TENSOR_COUNT];
    list_tensors(rank, tensors);
    bool all = rank->row_views != NULL;
    for (int i = 0; i < TENSOR_COUNT; i++) {
        all = all && tensors[i].data != NULL;
    }
    return all ? 0 : epx_rank_failed(rank, "no memory for tensors");
}

int epx_rank_allocate(struct epx_rank *rank)
{
    const struct bench_case *bench = rank->bench;
    int64_t elems = bench->token_count * bench->hidden_elems;
    int64_t copies = bench->token_count * bench->topk;
    int32_t *ids = allocate(rank, copies, sizeof *ids, false);
    float *weights = allocate(rank, copies, sizeof *weights, false);
    rank->x = allocate(rank, elems, sizeof *rank->x, false);
    rank->expert_out = allocate(rank, rank->row_max * bench->hidden_elems, sizeof *rank->expert_out, true);
    rank->dispatch = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    rank->dispatch.token_count = bench->token_count;
    rank->dispatch.x = rank->x;
    rank->dispatch.expert_ids = ids;
    rank->dispatch.expand_x = allocate(rank, rank->row_max, epx_rank_row_bytes(rank), true);
    rank->dispatch.dynamic_scales = allocate(rank, rank->row_max, sizeof(float), true);
    rank->dispatch.expand_idx = allocate(rank, copies, sizeof(int32_t), false);
    rank->dispatch.expert_token_nums = allocate(rank, rank->local_experts, sizeof(int64_t), false);
    rank->dispatch.ep_recv_counts = allocate(rank, bench->rank_count * rank->local_experts, sizeof(int32_t), false);
    rank->combine = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    rank->combine.token_count = bench->token_count;
    rank->combine.expand_x = rank->expert_out;
    rank->combine.expert_ids = ids;
    rank->combine.expand_idx = rank->dispatch.expand_idx;
    rank->combine.ep_send_counts = rank->dispatch.ep_recv_counts;
    rank->combine.expert_scales = weights;
    rank->combine.x = allocate(rank, elems, sizeof(uint16_t), false);
    rank->row_views = calloc((size_t)rank->row_max + 1, sizeof *rank->row_views);
    if (check_tensors(rank) != 0) {
        return 1;
    }
    bench_inputs_tokens(bench, rank->rank, rank->x);
    bench_inputs_routing(bench, rank->rank, ids, weights);
    return 0;
}

int64_t epx_rank_tensor_bytes(const struct epx_rank *rank)
{
    struct tensor tensors[TENSOR_COUNT];
    size_t bytes = 0;
    list_tensors(rank, tensors);
    for (int i = 0; i < TENSOR_COUNT; i++) {
        bytes += bench_memory_present(tensors[i].data, tensors[i].bytes);
    }
    return (int64_t)bytes;
}

/* ---- Operators ----------------------------------------------------------------------------------------------- */

static int dispatch_views(struct epx_rank *rank)
{
    const struct epx_dispatch_args *like = &rank->dispatch;
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    args.token_count = like->token_count;
    args.x = like->x;
    args.expert_ids = like->expert_ids;
    args.rows = rank->row_views;
    args.dynamic_scales = like->dynamic_scales;
    args.expand_idx = like->expand_idx;
    args.expert_token_nums = like->expert_token_nums;
    args.ep_recv_counts = like->ep_recv_counts;
    return epx_dispatch_views(rank->plan, &args) == EPX_OK ? 0 : epx_rank_failed(rank, "dispatch of views");
}

int epx_rank_dispatch(struct epx_rank *rank)
{
    if (rank->views) {
        return dispatch_views(rank);
    }
    return epx_dispatch(rank->plan, &rank->dispatch) == EPX_OK ? 0 : epx_rank_failed(rank, "dispatch");
}

int epx_rank_combine(struct epx_rank *rank)
{
    return epx_combine(rank->plan, &rank->combine) == EPX_OK ? 0 : epx_rank_failed(rank, "combine");
}

int epx_rank_release(struct epx_rank *rank)
{
    bool done = !rank->views || epx_views_release(rank->plan) == EPX_OK;
    return done ? 0 : epx_rank_failed(rank, "release of views");
}

int epx_rank_end(struct epx_rank *rank)
{
    epx_plan_destroy(rank->plan);
    return epx_comm_destroy(rank->comm) == EPX_OK ? 0 : epx_rank_failed(rank, "destroy");
}

/* ---- Rows that arrived --------------------------------------------------------------------------------------- */

int64_t epx_rank_row_count(const struct epx_rank *rank)
{
    return rank->dispatch.ep_recv_counts[rank->bench->rank_count * rank->local_experts - 1];
}

size_t epx_rank_row_bytes(const struct epx_rank *rank)
{
    return (size_t)rank->bench->hidden_elems * (rank->bench->quantize ? 1 : sizeof(uint16_t));
}

const void *epx_rank_row(const struct epx_rank *rank, int64_t row)
{
    if (rank->views) {
        return rank->row_views[row];
    }
    return (const char *)rank->dispatch.expand_x + (size_t)row * epx_rank_row_bytes(rank);
}

static const void *product_row(const void *context, int64_t row)
{
    return epx_rank_row(context, row);
}

struct bench_product_rows epx_rank_product_rows(const struct epx_rank *rank)
{
    return (struct bench_product_rows){.row = product_row,
                                       .context = rank,
                                       .scales = rank->dispatch.dynamic_scales,
                                       .expert_rows = rank->dispatch.expert_token_nums,
                                       .expert_count = rank->local_experts};
}

int epx_rank_need(struct epx_rank *rank, const void *tensor, size_t bytes)
{
    bool there = rank->private_memory || epx_memory_need(tensor, bytes) == EPX_OK;
    return there ? 0 : epx_rank_failed(rank, "memory for rows");
}

int epx_rank_experts(struct epx_rank *rank)
{
    int64_t row = 0;
    int64_t elems = epx_rank_row_count(rank) * rank->bench->hidden_elems;
    if (epx_rank_need(rank, rank->expert_out, (size_t)elems * sizeof *rank->expert_out) != 0) {
        return 1;
    }
    for (int64_t local = 0; local < rank->local_experts; local++) {
        int64_t expert = rank->rank * rank->local_experts + local;
        for (int64_t i = 0; i < rank->dispatch.expert_token_nums[local]; i++, row++) {
            bench_expert_row(rank->bench, expert, epx_rank_row(rank, row), rank->dispatch.dynamic_scales[row],
                             rank->expert_out + row * rank->bench->hidden_elems);
        }
    }
    return 0;
}
