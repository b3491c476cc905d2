/*
 * Dispatch with tensor parallelism: the rows of the rank with the same place in the other expert-parallel group follow
 * the own ones.
 */
#include "moe/dispatch_plan.h"
#include "moe/view.h"

#include <string.h>

/* Where the own rows can be read by the peer. */
static enum epx_status publish_rows(struct epx_dispatch_run *run, struct epx_published_rows *rows)
{
    struct epx_dispatch_plan *plan = run->plan;
    const struct epx_view *expand_x = &run->tensors->expand_x;
    uint64_t bytes;
    rows->row_count = run->row_count;
    if (run->row_count == 0) {
        return EPX_OK;
    }
    if (epx_view_rows_dense(expand_x) && epx_view_rows_extent_bytes(expand_x, run->row_count, &bytes) &&
        epx_arena_offset_of(expand_x->data, bytes, &rows->offset)) {
        rows->pitch_bytes = (uint64_t)expand_x->stride[0] * epx_dtype_bytes(expand_x->dtype);
        return EPX_OK;
    }
    uint8_t *copies = atomic_load_explicit(&plan->tp_rows, memory_order_acquire);
    if (copies == NULL) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_STATE, "rank %lld: the memory of expandX was freed",
                               (long long)plan->world.rank);
    }
    rows->offset = epx_arena_place_of(copies);
    rows->pitch_bytes = plan->tp_rows_pitch;
    EPX_TRY(epx_rounds_need(&run->rounds, "the rows for the TP peer", copies,
                            (uint64_t)run->row_count * plan->tp_rows_pitch));
    for (int64_t row = 0; row < run->row_count; row++) {
        epx_view_gather_row(expand_x, row, copies + (uint64_t)row * plan->tp_rows_pitch);
    }
    return EPX_OK;
}

static enum epx_status enter(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
    struct epx_exchange_header header;
    struct epx_agreement agreement;
    struct epx_publication publication = {.offset = epx_arena_place_of(plan->tp_exchange),
                                          .bytes = plan->layout.tp_exchange_bytes};
    int32_t *counts = (int32_t *)(void *)(plan->tp_exchange + plan->layout.tp_counts_at);
    epx_exchange_header_init(&header, run->token_count);
    header.counts_at = plan->layout.tp_counts_at;
    header.count_elems = plan->world.rank_count * plan->world.local_experts;
    header.weights_at = run->weights ? plan->layout.tp_weights_at : 0;
    for (int64_t block = 0; block < header.count_elems; block++) {
        counts[block] = (int32_t)plan->block_ends[block];
    }
    EPX_TRY(publish_rows(run, &header.rows));
    if (plan->quantized) {
        header.rows.scales_offset = publication.offset + plan->layout.tp_scales_at;
    }
    memcpy(plan->tp_exchange, &header, sizeof header);
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, plan->smooth, EPX_MOE_GROUP_TP);
    return epx_rounds_enter(&run->rounds, EPX_MOE_GROUP_TP, &agreement, &publication);
}

/* What the peer published. */
struct tp_peer {
    struct epx_rows rows;
    const float *weights; /* null: none */
};

static bool read_counts(struct epx_dispatch_plan *plan, const int32_t *counts, int64_t count_elems, int64_t row_count)
{
    int64_t before = 0;
    for (int64_t block = 0; block < count_elems; block++) {
        int64_t end = epx_peek_i32(&counts[block]);
        if (end < before) {
            return false;
        }
        plan->tp_block_ends[block] = end;
        before = end;
    }
    return before == row_count;
}

static bool read_peer(struct epx_dispatch_run *run, const void *exchange, uint64_t bytes, struct tp_peer *peer)
{
    struct epx_dispatch_plan *plan = run->plan;
    struct epx_exchange_header header;
    int64_t peer_rank = 1 - plan->world.tp_rank;
    if (!epx_exchange_read(exchange, bytes, &header) ||
        header.count_elems != plan->world.rank_count * plan->world.local_experts) {
        return false;
    }
    const int32_t *counts = epx_exchange_piece(exchange, bytes, header.counts_at, header.count_elems);
    if (counts == NULL ||
        !epx_rows_resolve(plan->request.tp_comm, peer_rank, &header.rows, plan->row_bytes, &peer->rows)) {
        return false;
    }
    if (run->weights && header.weights_at != 0) {
        peer->weights = epx_exchange_piece(exchange, bytes, header.weights_at, header.rows.row_count);
        if (peer->weights == NULL) {
            return false;
        }
    }
    run->peer_count = header.rows.row_count;
    return (!plan->quantized || run->peer_count == 0 || peer->rows.scales != NULL) &&
           read_counts(plan, counts, header.count_elems, run->peer_count);
}

static void copy_row(struct epx_dispatch_run *run, const struct tp_peer *peer, int64_t row)
{
    const struct epx_dispatch_tensors *tensors = run->tensors;
    int64_t dst_row = run->row_count + row;
    const uint8_t *src = epx_rows_at(&peer->rows, row);
    if (epx_view_rows_dense(&tensors->expand_x)) {
        run->kernels->copy_row(epx_view_row(&tensors->expand_x, dst_row), src, run->plan->row_bytes);
    } else {
        epx_view_scatter_row(&tensors->expand_x, dst_row, src);
    }
    if (run->plan->quantized) {
        memcpy(epx_view_row(&tensors->dynamic_scales, dst_row), &peer->rows.scales[row], sizeof(float));
    }
    if (peer->weights != NULL && epx_view_given(&tensors->expand_scales)) {
        memcpy(epx_view_row(&tensors->expand_scales, dst_row), &peer->weights[row], sizeof(float));
    }
}

enum epx_status epx_dispatch_exchange_tp(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    struct tp_peer peer = {0};
    const void *exchange;
    uint64_t bytes;
    int64_t capacity = epx_dispatch_row_capacity(run);
    EPX_TRY(enter(run));
    EPX_TRY(epx_rounds_peer(&run->rounds, EPX_MOE_GROUP_TP, (uint32_t)(1 - plan->world.tp_rank), &exchange, &bytes));
    if (!read_peer(run, exchange, bytes, &peer)) {
        return epx_dispatch_protocol_fail(run, plan->world.rank, "what the TP peer published for the place");
    }
    if (run->row_count + run->peer_count > capacity) {
        return epx_rounds_fail(
            &run->rounds, EPX_ERR_CAPACITY, "rank %lld receives %lld rows and %lld of its TP peer, expandX holds %lld",
            (long long)plan->world.rank, (long long)run->row_count, (long long)run->peer_count, (long long)capacity);
    }
    EPX_TRY(epx_dispatch_need_outputs(run, run->row_count + run->peer_count));
    for (int64_t row = 0; row < run->peer_count; row++) {
        copy_row(run, &peer, row);
    }
    run->stats.bytes_read += run->peer_count * (int64_t)plan->row_bytes;
    run->stats.bytes_written += run->peer_count * (int64_t)plan->row_bytes;
    return EPX_OK;
}
