/*
 * Before ENTER: the rows that go back, where peers can read them.
 */
#include "moe/combine_plan.h"
#include "moe/view.h"

#include <string.h>

/* A view of `row_count` rows from `first_row`. */
static struct epx_view slice(const struct epx_view *view, int64_t first_row, int64_t row_count)
{
    struct epx_view part = *view;
    part.data = row_count > 0 ? epx_view_row(view, first_row) : view->data;
    part.shape[0] = row_count;
    return part;
}

enum epx_status epx_combine_publish_rows(struct epx_combine_run *run, int64_t first_row, int64_t row_count,
                                         struct epx_published_rows *rows)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_view part = slice(&run->tensors->expand_x, first_row, row_count);
    uint64_t bytes;
    memset(rows, 0, sizeof *rows);
    rows->row_count = row_count;
    if (row_count == 0) {
        return EPX_OK;
    }
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "expandX", &part, row_count));
    if (epx_view_rows_direct(&part) && epx_view_extent_bytes(&part, &bytes) &&
        epx_arena_offset_of(part.data, bytes, &rows->offset)) {
        rows->pitch_bytes = (uint64_t)part.stride[0] * sizeof(uint16_t);
        return EPX_OK;
    }
    /* Without staging memory expand_x was in the arena when it was bound. */
    uint8_t *copies = atomic_load_explicit(&plan->staged, memory_order_acquire);
    if (copies == NULL) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_STATE, "rank %lld: the memory of expandX was freed",
                               (long long)plan->world.rank);
    }
    rows->offset = epx_arena_place_of(copies);
    rows->pitch_bytes = plan->layout.row_pitch_bytes;
    EPX_TRY(epx_rounds_need(&run->rounds, "the copy of expandX", copies, (uint64_t)row_count * rows->pitch_bytes));
    for (int64_t row = 0; row < row_count; row++) {
        epx_view_gather_row(&part, row, copies + (uint64_t)row * rows->pitch_bytes);
    }
    run->stats.bytes_read += row_count * (int64_t)plan->row_bytes;
    run->stats.bytes_written += row_count * (int64_t)plan->row_bytes;
    return EPX_OK;
}

static void publish_summed(const struct epx_combine_run *run, struct epx_published_rows *rows)
{
    rows->row_count = run->row_count;
    rows->offset = run->row_count > 0 ? epx_arena_place_of(run->plan->summed) : 0;
    rows->pitch_bytes = run->plan->layout.row_pitch_bytes;
}

enum epx_status epx_combine_publish(struct epx_combine_run *run, struct epx_publication *publication)
{
    struct epx_combine_plan *plan = run->plan;
    struct epx_exchange_header header;
    epx_exchange_header_init(&header, run->token_count);
    header.counts_at = plan->layout.counts_at;
    header.count_elems = plan->world.rank_count * plan->world.local_experts;
    memcpy(plan->exchange + plan->layout.counts_at, plan->counts, (size_t)header.count_elems * sizeof *plan->counts);
    if (plan->world.tp) {
        publish_summed(run, &header.rows);
    } else {
        EPX_TRY(epx_combine_publish_rows(run, 0, run->row_count, &header.rows));
    }
    memcpy(plan->exchange, &header, sizeof header);
    publication->bytes = plan->layout.exchange_bytes;
    publication->offset = epx_arena_place_of(plan->exchange);
    run->stats.rows_sent = run->row_count;
    return EPX_OK;
}
