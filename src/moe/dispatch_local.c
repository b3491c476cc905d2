/*
 * Rows of the sources of this host: pulled one by one from where they are to where they belong in expand_x.
 */
#include "base/checked_math.h"
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

/* The rows of expand_x that one thread moves. */
struct lane_rows {
    int64_t first;
    int64_t end;
    int64_t *next; /* [blocks] */
};

static enum epx_status row_fault(const struct epx_dispatch_run *run)
{
    int rank = (int)run->plan->world.rank;
    if (epx_fault("dispatch.rows", rank)) {
        return epx_fail(EPX_ERR_INTERNAL, "rank %d: fault dispatch.rows", rank);
    }
    return EPX_OK;
}

/* The lane's next copies of one (local expert, source rank) pair, as far as they are of tokens before `token_end`. */
static enum epx_status move_block(const struct row_mover *mover, const struct lane_rows *lane, int64_t block,
                                  int64_t token_end)
{
    static const float no_weight = 0.0f; /* of a rank that gives none */
    const struct epx_dispatch_plan *plan = mover->run->plan;
    int64_t rank = block % plan->world.rank_count;
    const struct epx_dispatch_source *source = &plan->sources[rank];
    int64_t copies = source->token_count * plan->world.topk;
    int64_t first_row = block == 0 ? 0 : plan->block_ends[block - 1];
    int64_t end = epx_min_i64(plan->block_ends[block], lane->end);
    int64_t row = lane->next[block];
    for (; row < end; row++) {
        int64_t place = plan->block_starts[block] + (row - first_row);
        int64_t copy = epx_peek_i32(&source->sorted[place]);
        if (copy < 0 || copy >= copies) {
            return epx_fail(EPX_ERR_PROTOCOL, "rank %lld: the order of copies of rank %lld cannot be right",
                            (long long)plan->world.rank, (long long)rank);
        }
        int64_t token = copy / plan->world.topk;
        if (token >= token_end) {
            break;
        }
        move_row(mover, row, &source->rows, plan->smooth ? place : token);
        put_weight(mover, row, source->weights != NULL ? &source->weights[place] : &no_weight);
        EPX_TRY(row_fault(mover->run));
    }
    lane->next[block] = row;
    return EPX_OK;
}

/* The lane's rows of the tokens [first, end) of all ranks' tokens one after the other. */
static enum epx_status move_part(const struct row_mover *mover, const struct lane_rows *lane, int64_t first,
                                 int64_t end)
{
    const struct epx_dispatch_plan *plan = mover->run->plan;
    int64_t rank_count = plan->world.rank_count;
    int64_t before = 0;
    for (int64_t rank = 0; rank < rank_count && before < end; rank++) {
        int64_t after = before + plan->sources[rank].token_count;
        for (int64_t local = 0; after > first && local < plan->world.local_experts; local++) {
            EPX_TRY(move_block(mover, lane, local * rank_count + rank, end - before));
        }
        before = after;
    }
    return EPX_OK;
}

static enum epx_status move_moe(const struct row_mover *mover, const struct lane_rows *lane, bool paces)
{
    struct epx_dispatch_run *run = mover->run;
    const struct epx_dispatch_plan *plan = run->plan;
    int64_t blocks = plan->world.rank_count * plan->world.local_experts;
    int64_t per_part = (run->all_token_count + run->part_count - 1) / run->part_count;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t first_row = block == 0 ? 0 : plan->block_ends[block - 1];
        lane->next[block] = first_row > lane->first ? first_row : lane->first;
    }
    for (int64_t part = 0; part < run->part_count; part++) {
        if (paces) {
            epx_round_pace(&run->rounds.ep);
        }
        int64_t end = epx_min_i64((part + 1) * per_part, run->all_token_count);
        EPX_TRY(move_part(mover, lane, epx_min_i64(part * per_part, end), end));
    }
    return EPX_OK;
}

/* Rows from dst_row on of a source's tokens, as far as they are the lane's. */
static enum epx_status move_tokens(const struct row_mover *mover, const struct lane_rows *lane, int64_t dst_row,
                                   const struct epx_dispatch_source *source, struct epx_token_interval tokens)
{
    static const float shared_weight = 1.0f;
    for (int64_t token = tokens.first; token < tokens.end; token++, dst_row++) {
        if (dst_row >= lane->first && dst_row < lane->end) {
            move_row(mover, dst_row, &source->shared_rows, token);
            put_weight(mover, dst_row, &shared_weight);
            EPX_TRY(row_fault(mover->run));
        }
    }
    return EPX_OK;
}

static enum epx_status move_shared(const struct row_mover *mover, const struct lane_rows *lane)
{
    const struct epx_dispatch_plan *plan = mover->run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t row = mover->run->token_count;
    struct epx_token_interval own = {0, row};
    EPX_TRY(move_tokens(mover, lane, 0, &plan->sources[world->rank], own));
    for (int64_t rank = world->shared_count; rank < world->rank_count; rank++) {
        struct epx_token_interval tokens = {plan->block_starts[rank],
                                            plan->block_starts[rank] + (plan->block_ends[rank] - row)};
        EPX_TRY(move_tokens(mover, lane, row, &plan->sources[rank], tokens));
        row = plan->block_ends[rank];
    }
    return EPX_OK;
}

static enum epx_status move_lane(void *context, uint32_t lane, uint32_t lane_count)
{
    const struct row_mover *mover = context;
    const struct epx_dispatch_run *run = mover->run;
    const struct lane_rows rows = {
        .first = epx_team_share(run->row_count, lane, lane_count),
        .end = epx_team_share(run->row_count, lane + 1, lane_count),
        .next = run->plan->lanes[lane].next_rows,
    };
    EPX_TRY(run->plan->world.holds_shared ? move_shared(mover, &rows)
                                          : move_moe(mover, &rows, lane == 0 && run->part_count > 1));
    if (run->streaming) {
        epx_kernel_store_fence();
    }
    return EPX_OK;
}

enum epx_status epx_dispatch_move_rows(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
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
    const struct epx_team_task task = {.run = move_lane, .context = &mover};
    uint32_t lane_count = epx_team_lanes(&plan->team, (uint64_t)run->row_count * plan->row_bytes);
    enum epx_status status = epx_team_run(&plan->team, lane_count, &task);
    if (status != EPX_OK) {
        return epx_rounds_fail(&run->rounds, status, "%s", epx_error_text());
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
