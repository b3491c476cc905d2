/*
 * Sums of own tokens from rows that lie on this host.
 */
#include "base/fault.h"
#include "moe/combine_plan.h"
#include "moe/shared_rows.h"
#include "moe/view.h"

static const uint16_t *row_of(const struct epx_combine_block *block, int64_t row)
{
    return (const uint16_t *)(const void *)(block->rows + (uint64_t)row * block->pitch_bytes);
}

enum epx_status epx_combine_find_row(const struct epx_combine_run *run, int64_t copy, const uint16_t **row)
{
    const struct epx_combine_plan *plan = run->plan;
    int32_t expert = plan->ids[copy];
    int32_t slot = plan->slots[copy];
    const struct epx_combine_block *block = &plan->blocks[expert];
    if (slot < 0 || slot >= block->row_count) {
        return epx_fail(EPX_ERR_COUNTS, "rank %lld: expandIdx[%lld] is %d, expert %d returns %lld rows to this rank",
                        (long long)plan->world.rank, (long long)copy, slot, expert, (long long)block->row_count);
    }
    *row = row_of(block, slot);
    return EPX_OK;
}

const uint16_t *epx_combine_shared_row(struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    const struct epx_moe_world *world = &plan->world;
    if (world->shared_count == 0) {
        return NULL;
    }
    if (world->holds_shared) {
        return row_of(&plan->shared_blocks[world->rank], token);
    }
    struct epx_token_interval tokens =
        epx_shared_rows_interval(lane->holder, world->rank, lane->run->token_count, world->shared_count);
    while (token >= tokens.end) {
        lane->holder++;
        tokens = epx_shared_rows_interval(lane->holder, world->rank, lane->run->token_count, world->shared_count);
    }
    return row_of(&plan->shared_blocks[lane->holder], token - tokens.first);
}

uint16_t *epx_combine_output_row(const struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_view *x = &lane->run->tensors->x;
    return epx_view_rows_direct(x) ? epx_view_row(x, token) : lane->row;
}

void epx_combine_put_row(const struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_view *x = &lane->run->tensors->x;
    if (!epx_view_rows_direct(x)) {
        epx_view_scatter_row(x, token, lane->row);
    }
}

/* The row as it is after int8 transport, in scratch place `place`. */
static const uint16_t *transport(const struct epx_combine_lane *lane, int64_t place, const uint16_t *row)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    uint16_t *dst = lane->transported + place * plan->world.hidden_elems;
    epx_group8_transport_row((enum epx_row_format)plan->request.shape.dtype, dst, row,
                             (size_t)plan->world.hidden_elems);
    return dst;
}

static enum epx_status sum_token(struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_combine_run *run = lane->run;
    const struct epx_combine_plan *plan = run->plan;
    int64_t topk = plan->world.topk;
    const uint16_t *shared_row = epx_combine_shared_row(lane, token);
    for (int64_t k = 0; k < topk; k++) {
        EPX_TRY(epx_combine_find_row(run, token * topk + k, &lane->row_pointers[k]));
    }
    for (int64_t k = 0; plan->transport_int8 && k < topk; k++) {
        lane->row_pointers[k] = transport(lane, k, lane->row_pointers[k]);
    }
    if (plan->transport_int8 && shared_row != NULL) {
        shared_row = transport(lane, topk, shared_row);
    }
    uint16_t *dst = epx_combine_output_row(lane, token);
    bool streaming = run->streaming && dst != lane->row;
    (streaming ? run->kernels->weighted_sum_row_streaming : run->kernels->weighted_sum_row)[plan->request.shape.dtype](
        dst, lane->row_pointers, plan->weights + token * topk, (size_t)topk, shared_row,
        (size_t)plan->world.hidden_elems);
    epx_combine_put_row(lane, token);
    return EPX_OK;
}

static enum epx_status sum_tokens(void *context, uint32_t lane_index, uint32_t lane_count)
{
    const struct epx_combine_run *run = context;
    struct epx_combine_lane *lane = &run->plan->lanes[lane_index];
    int rank = (int)run->plan->world.rank;
    int64_t end = epx_team_share(run->token_count, lane_index + 1, lane_count);
    lane->holder = 0;
    for (int64_t token = epx_team_share(run->token_count, lane_index, lane_count); token < end; token++) {
        EPX_TRY(run->plan->world.two_level ? epx_combine_sum_token_two_level(lane, token) : sum_token(lane, token));
        if (epx_fault("combine.rows", rank)) {
            return epx_fail(EPX_ERR_INTERNAL, "rank %d: fault combine.rows", rank);
        }
    }
    if (run->streaming) {
        epx_kernel_store_fence();
    }
    return EPX_OK;
}

enum epx_status epx_combine_sum_tokens(struct epx_combine_run *run)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_team_task task = {.run = sum_tokens, .context = run};
    uint64_t bytes = (uint64_t)(run->token_count * plan->world.topk) * plan->row_bytes;
    enum epx_status status = epx_team_run(&plan->team, epx_team_lanes(&plan->team, bytes), &task);
    return status == EPX_OK ? EPX_OK : epx_rounds_fail(&run->rounds, status, "%s", epx_error_text());
}
