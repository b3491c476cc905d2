/* Rounds of all kinds, and what they need. */
#include "faults/campaign_rounds.h"

#include <string.h>

static enum epx_status tensor(size_t bytes, void *out)
{
    void *memory = NULL;
    enum epx_status status = epx_memory_alloc(bytes, &memory);
    memcpy(out, &memory, sizeof memory);
    return status;
}

static enum epx_status tensors_make(struct tensors *tensors, uint32_t rank, uint32_t rank_count)
{
    const size_t experts = (size_t)EXPERTS_OF * rank_count;
    enum epx_status status = EPX_OK;
    const struct {
        size_t bytes;
        void *out;
    } all[] = {
        {TOKEN_COUNT * HIDDEN * 2, &tensors->x},         {TOKEN_COUNT * TOPK * 4, &tensors->ids},
        {TOKEN_COUNT * TOPK * 4, &tensors->weights},     {ROW_MAX * HIDDEN * 2, &tensors->expand_x},
        {TOKEN_COUNT * TOPK * 4, &tensors->expand_idx},  {EXPERTS_OF * 8, &tensors->token_nums},
        {rank_count * EXPERTS_OF * 4, &tensors->counts}, {TOKEN_COUNT * HIDDEN * 2, &tensors->out},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == EPX_OK; i++) {
        status = tensor(all[i].bytes, all[i].out);
    }
    for (size_t i = 0; i < TOKEN_COUNT * HIDDEN && status == EPX_OK; i++) {
        tensors->x[i] = (uint16_t)(0x3F80 + (i * 7 + rank) % 64);
    }
    for (size_t i = 0; i < TOKEN_COUNT * TOPK && status == EPX_OK; i++) {
        tensors->ids[i] = (int32_t)((i * 3 + rank) % experts);
        tensors->weights[i] = 1.0f / TOPK;
    }
    return status;
}

static void tensors_free(struct tensors *tensors)
{
    void *all[] = {tensors->x,          tensors->ids,        tensors->weights, tensors->expand_x,
                   tensors->expand_idx, tensors->token_nums, tensors->counts,  tensors->out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)epx_memory_free(all[i]);
    }
}

enum epx_status world_open(struct world *world, const struct epx_token *token, uint32_t rank_count, uint32_t rank,
                           const struct campaign_trial *trial)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.join_timeout_ms = trial->join_timeout_ms;
    config.op_timeout_ms = trial->op_timeout_ms;
    return epx_comm_create_from_token(token, rank_count, rank, &config, &world->comm);
}

enum epx_status world_prepare(struct world *world, uint32_t rank_count, uint32_t rank)
{
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    moe.expert_count = EXPERTS_OF * (int64_t)rank_count;
    moe.hidden_elems = HIDDEN;
    moe.topk = TOPK;
    moe.token_max = TOKEN_COUNT;
    moe.recv_row_max = ROW_MAX;
    enum epx_status status = epx_plan_create(world->comm, &moe, &world->plan);
    return status == EPX_OK ? tensors_make(&world->tensors, rank, rank_count) : status;
}

enum epx_status world_close(struct world *world)
{
    epx_plan_destroy(world->plan);
    world->plan = NULL;
    enum epx_status status = epx_comm_destroy(world->comm);
    world->comm = NULL;
    tensors_free(&world->tensors);
    memset(&world->tensors, 0, sizeof world->tensors);
    return status;
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------ */

static enum epx_status do_dispatch(struct world *world, bool waits)
{
    struct tensors *tensors = &world->tensors;
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    struct epx_request *request = NULL;
    args.token_count = TOKEN_COUNT;
    args.x = tensors->x;
    args.expert_ids = tensors->ids;
    args.expand_x = tensors->expand_x;
    args.expand_idx = tensors->expand_idx;
    args.expert_token_nums = tensors->token_nums;
    args.ep_recv_counts = tensors->counts;
    if (!waits) {
        return epx_dispatch(world->plan, &args);
    }
    enum epx_status status = epx_dispatch_start(world->plan, &args, &request);
    return status == EPX_OK ? epx_wait(&request, -1) : status;
}

static enum epx_status do_views(struct world *world)
{
    struct tensors *tensors = &world->tensors;
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    args.token_count = TOKEN_COUNT;
    args.x = tensors->x;
    args.expert_ids = tensors->ids;
    args.rows = tensors->rows;
    args.expand_idx = tensors->expand_idx;
    args.expert_token_nums = tensors->token_nums;
    args.ep_recv_counts = tensors->counts;
    enum epx_status status = epx_dispatch_views(world->plan, &args);
    size_t row_count = status == EPX_OK ? (size_t)tensors->counts[EXPERTS_OF * epx_comm_size_of(world->comm) - 1] : 0;
    for (size_t row = 0; row < row_count; row++) {
        memcpy(tensors->expand_x + row * HIDDEN, tensors->rows[row], HIDDEN * 2);
    }
    return status;
}

static enum epx_status do_combine(struct world *world, bool waits)
{
    struct tensors *tensors = &world->tensors;
    struct epx_combine_args args = EPX_COMBINE_ARGS_INIT;
    struct epx_request *request = NULL;
    args.token_count = TOKEN_COUNT;
    args.expand_x = tensors->expand_x;
    args.expert_ids = tensors->ids;
    args.expand_idx = tensors->expand_idx;
    args.ep_send_counts = tensors->counts;
    args.expert_scales = tensors->weights;
    args.x = tensors->out;
    if (!waits) {
        return epx_combine(world->plan, &args);
    }
    enum epx_status status = epx_combine_start(world->plan, &args, &request);
    return status == EPX_OK ? epx_wait(&request, -1) : status;
}

enum epx_status world_round(struct world *world, const struct campaign_trial *trial, struct random_source *random,
                            uint64_t round, const char **call)
{
    uint64_t kind = random_mix(trial->seed, round) % 4;
    uint32_t skew_us = trial->skew_us;
    campaign_sleep_us(skew_us != 0 ? (uint64_t)random_between(random, 0, skew_us) : 0);
    *call = kind == 1 || kind == 2 ? "dispatch_views" : "dispatch";
    memset(world->tensors.out, 0, TOKEN_COUNT * HIDDEN * 2);
    enum epx_status status = kind == 1 || kind == 2 ? do_views(world) : do_dispatch(world, kind == 3);
    if (status != EPX_OK) {
        return status;
    }
    campaign_sleep_us(skew_us != 0 ? (uint64_t)random_between(random, 0, skew_us) : 0);
    if (kind == 2) {
        *call = "views_release";
        return epx_views_release(world->plan);
    }
    *call = "combine";
    status = do_combine(world, kind == 3);
    if (status == EPX_OK && memcmp(world->tensors.out, world->tensors.x, TOKEN_COUNT * HIDDEN * 2) != 0) {
        *call = "wrong result";
        return EPX_ERR_INTERNAL;
    }
    return status;
}
