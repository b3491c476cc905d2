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

enum epx_status epx_combine_find_row(struct epx_combine_run *run, int64_t copy, const uint16_t **row)
{
    const struct epx_combine_plan *plan = run->plan;
    int32_t expert = plan->ids[copy];
    int32_t slot = plan->slots[copy];
    const struct epx_combine_block *block = &plan->blocks[expert];
    if (slot < 0 || slot >= block->row_count) {
        if (plan->world.two_level) {
            return epx_rounds_fail(
                &run->rounds, EPX_ERR_COUNTS,
                "rank %lld: expertIds names expert %d more than %d times, it returns %lld rows to this "
                "rank",
                (long long)plan->world.rank, expert, slot, (long long)block->row_count);
        }
        return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS,
                               "rank %lld: expandIdx[%lld] is %d, expert %d returns %lld rows to this rank",
                               (long long)plan->world.rank, (long long)copy, slot, expert, (long long)block->row_count);
    }
    *row = row_of(block, slot);
    return EPX_OK;
}

const uint16_t *epx_combine_shared_row(const struct epx_combine_run *run, int64_t token, int64_t *holder)
{
    const struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    if (world->shared_count == 0) {
        return NULL;
    }
    if (world->holds_shared) {
        return row_of(&plan->shared_blocks[world->rank], token);
    }
    struct epx_token_interval tokens =
        epx_shared_rows_interval(*holder, world->rank, run->token_count, world->shared_count);
    while (token >= tokens.end) {
        ++*holder;
        tokens = epx_shared_rows_interval(*holder, world->rank, run->token_count, world->shared_count);
    }
    return row_of(&plan->shared_blocks[*holder], token - tokens.first);
}

uint16_t *epx_combine_output_row(const struct epx_combine_run *run, int64_t token)
{
    return epx_view_rows_direct(&run->tensors->x) ? epx_view_row(&run->tensors->x, token) : run->plan->row;
}

void epx_combine_put_row(const struct epx_combine_run *run, int64_t token, const uint16_t *row)
{
    if (row == run->plan->row) {
        epx_view_scatter_row(&run->tensors->x, token, row);
    }
}

/* The row as it is after int8 transport, in scratch place `place`. */
static const uint16_t *transport(const struct epx_combine_plan *plan, int64_t place, const uint16_t *row)
{
    uint16_t *dst = plan->transported + place * plan->world.hidden_elems;
    epx_group8_transport_row((enum epx_row_format)plan->request.shape.dtype, dst, row,
                             (size_t)plan->world.hidden_elems);
    return dst;
}

static enum epx_status sum_token(struct epx_combine_run *run, int64_t token, int64_t *holder)
{
    const struct epx_combine_plan *plan = run->plan;
    int64_t topk = plan->world.topk;
    const uint16_t *shared_row = epx_combine_shared_row(run, token, holder);
    for (int64_t k = 0; k < topk; k++) {
        EPX_TRY(epx_combine_find_row(run, token * topk + k, &plan->row_pointers[k]));
    }
    for (int64_t k = 0; plan->transport_int8 && k < topk; k++) {
        plan->row_pointers[k] = transport(plan, k, plan->row_pointers[k]);
    }
    if (plan->transport_int8 && shared_row != NULL) {
        shared_row = transport(plan, topk, shared_row);
    }
    uint16_t *dst = epx_combine_output_row(run, token);
    run->kernels->weighted_sum_row[plan->request.shape.dtype](dst, plan->row_pointers, plan->weights + token * topk,
                                                              (size_t)topk, shared_row,
                                                              (size_t)plan->world.hidden_elems);
    epx_combine_put_row(run, token, dst);
    return EPX_OK;
}

enum epx_status epx_combine_sum_tokens(struct epx_combine_run *run)
{
    int64_t holder = 0;
    int rank = (int)run->plan->world.rank;
    for (int64_t token = 0; token < run->token_count; token++) {
        EPX_TRY(sum_token(run, token, &holder));
        if (epx_fault("combine.rows", rank)) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_INTERNAL, "rank %d: fault combine.rows", rank);
        }
    }
    return EPX_OK;
}
