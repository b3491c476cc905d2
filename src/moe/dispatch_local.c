/*
 * Rows of the sources of this host: pulled one by one from where they are to where they belong in expand_x.
 */
#include "base/fault.h"
#include "moe/dispatch_plan.h"
#include "moe/shared_rows.h"
#include "moe/view.h"

#include <string.h>

static void put_f32(const struct epx_view *view, int64_t index, float value)
{
    memcpy(epx_view_row(view, index), &value, sizeof value);
}

static void put_i32(const struct epx_view *view, int64_t index, int64_t value)
{
    int32_t narrow = (int32_t)value;
    memcpy(epx_view_row(view, index), &narrow, sizeof narrow);
}

static void put_i64(const struct epx_view *view, int64_t index, int64_t value)
{
    memcpy(epx_view_row(view, index), &value, sizeof value);
}

/* Where the rows of this run go. */
struct row_mover {
    struct epx_dispatch_run *run;
    void (*copy)(void *dst, const void *src, size_t bytes);
    const struct epx_view *expand_x;
    const struct epx_view *dynamic_scales; /* null: none */
    const struct epx_view *expand_scales;  /* null: none */
    float *tp_scales;                      /* the peer's copy of dynamic_scales; null: none */
    float *tp_weights;                     /* the peer's copy of expand_scales; null: none */
    size_t row_bytes;
    bool dense;
};

static void move_row(const struct row_mover *mover, int64_t dst_row, const struct epx_rows *rows, int64_t src_row)
{
    const uint8_t *src = epx_rows_at(rows, src_row);
    if (mover->dense) {
        mover->copy(epx_view_row(mover->expand_x, dst_row), src, mover->row_bytes);
    } else {
        epx_view_scatter_row(mover->expand_x, dst_row, src);
    }
    if (mover->dynamic_scales != NULL) {
        float scale = rows->scales[src_row];
        put_f32(mover->dynamic_scales, dst_row, scale);
        if (mover->tp_scales != NULL) {
            mover->tp_scales[dst_row] = scale;
        }
    }
}

static void put_weight(const struct row_mover *mover, int64_t dst_row, const float *weight)
{
    /* Copied as bytes: a NaN keeps its payload. */
    if (mover->expand_scales != NULL) {
        memcpy(epx_view_row(mover->expand_scales, dst_row), weight, sizeof *weight);
    }
    if (mover->tp_weights != NULL) {
        memcpy(&mover->tp_weights[dst_row], weight, sizeof *weight);
    }
}

static enum epx_status row_fault(struct epx_dispatch_run *run)
{
    int rank = (int)run->plan->world.rank;
    if (epx_fault("dispatch.rows", rank)) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_INTERNAL, "rank %d: fault dispatch.rows", rank);
    }
    return EPX_OK;
}

/* The copies of one (local expert, source rank) pair. */
static enum epx_status move_block(const struct row_mover *mover, int64_t block, int64_t first_row)
{
    static const float no_weight = 0.0f; /* of a rank that gives none */
    struct epx_dispatch_plan *plan = mover->run->plan;
    int64_t rank = block % plan->world.rank_count;
    const struct epx_dispatch_source *source = &plan->sources[rank];
    int64_t copies = source->token_count * plan->world.topk;
    int64_t row_count = plan->block_ends[block] - first_row;
    for (int64_t i = 0; i < row_count; i++) {
        int64_t place = plan->block_starts[block] + i;
        int64_t copy = epx_peek_i32(&source->sorted[place]);
        if (copy < 0 || copy >= copies) {
            return epx_dispatch_protocol_fail(mover->run, rank, "the order of copies");
        }
        move_row(mover, first_row + i, &source->rows, plan->smooth ? place : copy / plan->world.topk);
        put_weight(mover, first_row + i, source->weights != NULL ? &source->weights[place] : &no_weight);
        EPX_TRY(row_fault(mover->run));
    }
    return EPX_OK;
}

static enum epx_status move_moe(const struct row_mover *mover)
{
    const struct epx_dispatch_plan *plan = mover->run->plan;
    int64_t row = 0;
    for (int64_t block = 0; block < plan->world.rank_count * plan->world.local_experts; block++) {
        EPX_TRY(move_block(mover, block, row));
        row = plan->block_ends[block];
    }
    return EPX_OK;
}

static enum epx_status move_tokens(const struct row_mover *mover, int64_t dst_row,
                                   const struct epx_dispatch_source *source, struct epx_token_interval tokens)
{
    static const float shared_weight = 1.0f;
    for (int64_t token = tokens.first; token < tokens.end; token++, dst_row++) {
        move_row(mover, dst_row, &source->shared_rows, token);
        put_weight(mover, dst_row, &shared_weight);
        EPX_TRY(row_fault(mover->run));
    }
    return EPX_OK;
}

static enum epx_status move_shared(const struct row_mover *mover)
{
    const struct epx_dispatch_plan *plan = mover->run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t row = mover->run->token_count;
    struct epx_token_interval own = {0, row};
    EPX_TRY(move_tokens(mover, 0, &plan->sources[world->rank], own));
    for (int64_t rank = world->shared_count; rank < world->rank_count; rank++) {
        struct epx_token_interval tokens = {plan->block_starts[rank],
                                            plan->block_starts[rank] + (plan->block_ends[rank] - row)};
        EPX_TRY(move_tokens(mover, row, &plan->sources[rank], tokens));
        row = plan->block_ends[rank];
    }
    return EPX_OK;
}

enum epx_status epx_dispatch_move_rows(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    struct row_mover mover = {
        .run = run,
        .copy = run->streaming ? run->kernels->copy_row_streaming : run->kernels->copy_row,
        .expand_x = &run->tensors->expand_x,
        .dynamic_scales = plan->quantized ? &run->tensors->dynamic_scales : NULL,
        .expand_scales =
            run->weights && epx_view_given(&run->tensors->expand_scales) ? &run->tensors->expand_scales : NULL,
        .row_bytes = plan->row_bytes,
        .dense = epx_view_rows_dense(&run->tensors->expand_x),
    };
    if (plan->tp_exchange != NULL && plan->quantized) {
        mover.tp_scales = (float *)(void *)(plan->tp_exchange + plan->layout.tp_scales_at);
    }
    if (plan->tp_exchange != NULL && run->weights) {
        mover.tp_weights = (float *)(void *)(plan->tp_exchange + plan->layout.tp_weights_at);
    }
    EPX_TRY(plan->world.holds_shared ? move_shared(&mover) : move_moe(&mover));
    if (run->streaming) {
        epx_kernel_store_fence();
    }
    int64_t scale_bytes = plan->quantized ? (int64_t)sizeof(float) : 0;
    run->stats.bytes_read += run->row_count * ((int64_t)plan->row_bytes + scale_bytes);
    run->stats.bytes_written += run->row_count * ((int64_t)plan->row_bytes + scale_bytes);
    return EPX_OK;
}

static int64_t rows_of_local(const int64_t *block_ends, int64_t local, int64_t rank_count)
{
    int64_t before = local == 0 ? 0 : block_ends[local * rank_count - 1];
    return block_ends[(local + 1) * rank_count - 1] - before;
}

void epx_dispatch_write_counts(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    const struct epx_dispatch_tensors *tensors = run->tensors;
    int64_t blocks = world->rank_count * world->local_experts;
    int64_t total = 0;
    for (int64_t block = 0; block < blocks; block++) {
        put_i32(&tensors->ep_recv_counts, block, plan->block_ends[block]);
        if (world->tp) {
            put_i32(&tensors->ep_recv_counts, blocks + block, plan->tp_block_ends[block]);
        }
    }
    for (int64_t local = 0; local < world->local_experts; local++) {
        int64_t rows = rows_of_local(plan->block_ends, local, world->rank_count);
        if (world->tp) {
            rows += rows_of_local(plan->tp_block_ends, local, world->rank_count);
        }
        total += rows;
        put_i64(&tensors->expert_token_nums, local,
                plan->request.token_nums_kind == EPX_TOKEN_NUMS_PREFIX ? total : rows);
    }
    if (world->tp) {
        put_i32(&tensors->tp_recv_counts, world->tp_rank, run->row_count);
        put_i32(&tensors->tp_recv_counts, 1 - world->tp_rank, run->peer_count);
    }
    if (!world->two_level) {
        const int32_t *occurrence = (const int32_t *)(const void *)(plan->exchange + plan->layout.occurrence_at);
        epx_view_scatter(&tensors->expand_idx, run->token_count * world->topk, occurrence);
    }
}
