/*
 * Combine with tensor parallelism: each peer gives the rows that belong to the other's group; what goes back to the
 * tokens' ranks is own row + peer's row.
 */
#include "moe/combine_plan.h"
#include "moe/view.h"

#include <string.h>

static enum epx_status enter(struct epx_combine_run *run, int64_t peer_rows)
{
    struct epx_combine_plan *plan = run->plan;
    struct epx_exchange_header header;
    struct epx_agreement agreement;
    struct epx_publication publication = {.offset = epx_arena_place_of(plan->tp_exchange),
                                          .bytes = plan->layout.tp_exchange_bytes};
    epx_exchange_header_init(&header, run->token_count);
    header.own_row_count = run->row_count;
    EPX_TRY(epx_combine_publish_rows(run, run->row_count, peer_rows, &header.rows));
    memcpy(plan->tp_exchange, &header, sizeof header);
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, false, EPX_MOE_GROUP_TP);
    return epx_rounds_enter(&run->rounds, EPX_MOE_GROUP_TP, &agreement, &publication);
}

/* What the peer gives must fit what this rank expects, and the other way round. */
static enum epx_status check_peer(struct epx_combine_run *run, const struct epx_exchange_header *header,
                                  int64_t peer_rows)
{
    int64_t rank = run->plan->world.rank;
    if (header->own_row_count != peer_rows) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS,
                               "rank %lld: epSendCounts has %lld rows for the TP peer, which has %lld", (long long)rank,
                               (long long)peer_rows, (long long)header->own_row_count);
    }
    if (header->rows.row_count != run->row_count) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS,
                               "rank %lld: epSendCounts of the TP peer has %lld rows for this rank, which has %lld",
                               (long long)rank, (long long)header->rows.row_count, (long long)run->row_count);
    }
    return EPX_OK;
}

static void sum_rows(struct epx_combine_run *run, const struct epx_rows *peer)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_view *expand_x = &run->tensors->expand_x;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    bool direct = epx_view_rows_direct(expand_x);
    for (int64_t row = 0; row < run->row_count; row++) {
        const uint16_t *own = plan->lanes[0].row;
        if (direct) {
            own = epx_view_row(expand_x, row);
        } else {
            epx_view_gather_row(expand_x, row, plan->lanes[0].row);
        }
        uint16_t *dst = (uint16_t *)(void *)(plan->summed + (uint64_t)row * plan->layout.row_pitch_bytes);
        epx_tp_sum_row(format, dst, own, (const uint16_t *)(const void *)epx_rows_at(peer, row),
                       (size_t)plan->world.hidden_elems);
    }
    run->stats.bytes_read += 2 * run->row_count * (int64_t)plan->row_bytes;
    run->stats.bytes_written += run->row_count * (int64_t)plan->row_bytes;
}

enum epx_status epx_combine_sum_tp(struct epx_combine_run *run)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t peer_rows = plan->counts[2 * world->rank_count * world->local_experts - 1];
    int64_t peer_rank = 1 - world->tp_rank;
    struct epx_exchange_header header;
    struct epx_rows rows;
    const void *exchange;
    uint64_t bytes;
    EPX_TRY(enter(run, peer_rows));
    EPX_TRY(epx_rounds_peer(&run->rounds, EPX_MOE_GROUP_TP, (uint32_t)peer_rank, &exchange, &bytes));
    if (!epx_exchange_read(exchange, bytes, &header)) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_PROTOCOL, "rank %lld: what the TP peer published cannot be right",
                               (long long)world->rank);
    }
    EPX_TRY(check_peer(run, &header, peer_rows));
    if (!epx_rows_resolve(plan->request.tp_comm, peer_rank, &header.rows, plan->row_bytes, &rows) ||
        !epx_rows_halves_aligned(&rows)) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_PROTOCOL,
                               "rank %lld: the rows that the TP peer published cannot be right",
                               (long long)world->rank);
    }
    EPX_TRY(epx_rounds_need(&run->rounds, "the sums for TP", plan->summed,
                            (uint64_t)run->row_count * plan->layout.row_pitch_bytes));
    sum_rows(run, &rows);
    return EPX_OK;
}
