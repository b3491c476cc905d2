/*
 * Rows of the sources of this host, left where they are: in the order of expand_x, the address of each in its sender's
 * memory. What the receiver gets of its own are scales and weights.
 */
#include "base/fault.h"
#include "moe/dispatch_plan.h"
#include "moe/shared_rows.h"
#include "moe/view.h"

#include <string.h>

_Static_assert(sizeof(const void *) == sizeof(int64_t), "addresses are handed out as int64");

/* Where the addresses of this run go, and what goes with them. */
struct row_viewer {
    struct epx_dispatch_run *run;
    const struct epx_view *row_views;
    const struct epx_view *dynamic_scales; /* null: none */
    const struct epx_view *expand_scales;  /* null: none */
};

/* The row lies among those that `rows` was resolved for, so inside its owner's arena. */
static enum epx_status view_row(const struct row_viewer *viewer, int64_t dst_row, const struct epx_rows *rows,
                                int64_t src_row, const float *weight)
{
    int rank = (int)viewer->run->plan->world.rank;
    const uint8_t *address = epx_rows_at(rows, src_row);
    memcpy(epx_view_row(viewer->row_views, dst_row), &address, sizeof address);
    /* Floats are copied as bytes: a NaN keeps its payload. */
    if (viewer->dynamic_scales != NULL) {
        memcpy(epx_view_row(viewer->dynamic_scales, dst_row), &rows->scales[src_row], sizeof(float));
    }
    if (viewer->expand_scales != NULL) {
        memcpy(epx_view_row(viewer->expand_scales, dst_row), weight, sizeof *weight);
    }
    if (epx_fault("dispatch.rows", rank)) {
        return epx_rounds_fail(&viewer->run->rounds, EPX_ERR_INTERNAL, "rank %d: fault dispatch.rows", rank);
    }
    return EPX_OK;
}

/* The copies of one (local expert, source rank) pair. */
static enum epx_status view_block(const struct row_viewer *viewer, int64_t block, int64_t first_row)
{
    static const float no_weight = 0.0f; /* of a rank that gives none */
    struct epx_dispatch_plan *plan = viewer->run->plan;
    int64_t rank = block % plan->world.rank_count;
    const struct epx_dispatch_source *source = &plan->sources[rank];
    int64_t copies = source->token_count * plan->world.topk;
    int64_t row_count = plan->block_ends[block] - first_row;
    for (int64_t i = 0; i < row_count; i++) {
        int64_t place = plan->block_starts[block] + i;
        int64_t copy = epx_peek_i32(&source->sorted[place]);
        if (copy < 0 || copy >= copies) {
            return epx_dispatch_protocol_fail(viewer->run, rank, "the order of copies");
        }
        EPX_TRY(view_row(viewer, first_row + i, &source->rows, plan->smooth ? place : copy / plan->world.topk,
                         source->weights != NULL ? &source->weights[place] : &no_weight));
    }
    return EPX_OK;
}

static enum epx_status view_moe(const struct row_viewer *viewer)
{
    const struct epx_dispatch_plan *plan = viewer->run->plan;
    int64_t row = 0;
    for (int64_t block = 0; block < plan->world.rank_count * plan->world.local_experts; block++) {
        EPX_TRY(view_block(viewer, block, row));
        row = plan->block_ends[block];
    }
    return EPX_OK;
}

static enum epx_status view_tokens(const struct row_viewer *viewer, int64_t dst_row,
                                   const struct epx_dispatch_source *source, struct epx_token_interval tokens)
{
    static const float shared_weight = 1.0f;
    for (int64_t token = tokens.first; token < tokens.end; token++, dst_row++) {
        EPX_TRY(view_row(viewer, dst_row, &source->shared_rows, token, &shared_weight));
    }
    return EPX_OK;
}

static enum epx_status view_shared(const struct row_viewer *viewer)
{
    const struct epx_dispatch_plan *plan = viewer->run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t row = viewer->run->token_count;
    struct epx_token_interval own = {0, row};
    EPX_TRY(view_tokens(viewer, 0, &plan->sources[world->rank], own));
    for (int64_t rank = world->shared_count; rank < world->rank_count; rank++) {
        struct epx_token_interval tokens = {plan->block_starts[rank],
                                            plan->block_starts[rank] + (plan->block_ends[rank] - row)};
        EPX_TRY(view_tokens(viewer, row, &plan->sources[rank], tokens));
        row = plan->block_ends[rank];
    }
    return EPX_OK;
}

/* Who gets an address reads elements there. An owner shows aligned rows only. */
static enum epx_status check_alignment(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    for (int64_t rank = 0; !plan->quantized && rank < plan->world.rank_count; rank++) {
        const struct epx_dispatch_source *source = &plan->sources[rank];
        if (!epx_rows_halves_aligned(&source->rows) || !epx_rows_halves_aligned(&source->shared_rows)) {
            return epx_dispatch_protocol_fail(run, rank, "the place of the rows");
        }
    }
    return EPX_OK;
}

enum epx_status epx_dispatch_view_rows(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_dispatch_tensors *tensors = run->tensors;
    const struct row_viewer viewer = {
        .run = run,
        .row_views = &tensors->row_views,
        .dynamic_scales = plan->quantized ? &tensors->dynamic_scales : NULL,
        .expand_scales = run->weights && epx_view_given(&tensors->expand_scales) ? &tensors->expand_scales : NULL,
    };
    EPX_TRY(check_alignment(run));
    EPX_TRY(plan->world.holds_shared ? view_shared(&viewer) : view_moe(&viewer));
    int64_t scale_bytes = plan->quantized ? (int64_t)sizeof(float) : 0;
    run->stats.bytes_read += run->row_count * scale_bytes;
    run->stats.bytes_written += run->row_count * ((int64_t)sizeof(const void *) + scale_bytes);
    return EPX_OK;
}
