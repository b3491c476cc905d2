/*
 * After ENTER: what every rank published, and how many rows arrive here from whom.
 */
#include "base/checked_math.h"
#include "moe/dispatch_plan.h"
#include "moe/shared_rows.h"
#include "moe/view.h"

#include <string.h>

enum epx_status epx_dispatch_protocol_fail(struct epx_dispatch_run *run, int64_t rank, const char *what)
{
    return epx_rounds_fail(&run->rounds, EPX_ERR_PROTOCOL, "rank %lld: %s of rank %lld cannot be right",
                           (long long)run->plan->world.rank, what, (long long)rank);
}

static bool read_pieces(const struct epx_dispatch_plan *plan, const void *exchange, uint64_t bytes,
                        const struct epx_exchange_header *header, struct epx_dispatch_source *source)
{
    int64_t copies;
    if (!epx_mul_i64(header->token_count, plan->world.topk, &copies) || copies > INT32_MAX) {
        return false;
    }
    source->token_count = header->token_count;
    source->offsets = epx_exchange_piece(exchange, bytes, header->offsets_at, plan->world.expert_count + 1);
    source->sorted = epx_exchange_piece(exchange, bytes, header->sorted_at, copies);
    source->occurrence = epx_exchange_piece(exchange, bytes, header->occurrence_at, copies);
    source->ids = epx_exchange_piece(exchange, bytes, header->ids_at, copies);
    source->weights = NULL;
    if (header->weights_at != 0) {
        source->weights = epx_exchange_piece(exchange, bytes, header->weights_at, copies);
        if (source->weights == NULL) {
            return false;
        }
    }
    return source->offsets != NULL && source->sorted != NULL && source->occurrence != NULL && source->ids != NULL;
}

static bool read_rows(const struct epx_dispatch_plan *plan, int64_t rank, const struct epx_exchange_header *header,
                      struct epx_dispatch_source *source)
{
    const struct epx_comm *comm = plan->request.comm;
    int64_t needed = plan->smooth ? header->token_count * plan->world.topk : header->token_count;
    bool with_shared = plan->world.shared_count > 0;
    if (header->rows.row_count != needed || (with_shared && header->shared_rows.row_count != header->token_count) ||
        !epx_rows_resolve(comm, rank, &header->rows, plan->row_bytes, &source->rows) ||
        (with_shared && !epx_rows_resolve(comm, rank, &header->shared_rows, plan->row_bytes, &source->shared_rows))) {
        return false;
    }
    return !plan->quantized || ((source->rows.row_count == 0 || source->rows.scales != NULL) &&
                                (!with_shared || source->token_count == 0 || source->shared_rows.scales != NULL));
}

static enum epx_status check_token_count(struct epx_dispatch_run *run, int64_t rank, int64_t token_count)
{
    const struct epx_moe_shape *shape = &run->plan->request.shape;
    int64_t rank_count = run->plan->world.rank_count;
    int64_t limit;
    if (epx_moe_token_count_fits(shape, rank_count, token_count, &limit)) {
        return EPX_OK;
    }
    return epx_rounds_fail(&run->rounds, EPX_ERR_MISMATCH, "rank %lld: BS is %lld, globalBs %lld allows %lld a rank",
                           (long long)rank, (long long)token_count, (long long)shape->global_token_count,
                           (long long)limit);
}

/* Equal on all ranks, since all that it depends on is. */
static int64_t part_count(const struct epx_dispatch_run *run, uint64_t part_bytes)
{
    const struct epx_dispatch_plan *plan = run->plan;
    /* A smooth row has one reader. */
    if (plan->smooth || part_bytes == 0) {
        return 1;
    }
    uint64_t parts = 1 + (uint64_t)run->all_token_count * plan->row_bytes / part_bytes;
    int64_t limit = epx_min_i64(run->all_token_count, EPX_DISPATCH_PARTS_MAX);
    return parts < (uint64_t)limit ? (int64_t)parts : limit < 1 ? 1 : limit;
}

enum epx_status epx_dispatch_collect(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
    uint64_t total_bytes = 0;
    uint64_t part_bytes = 0;
    for (int64_t rank = 0; rank < plan->world.rank_count; rank++) {
        struct epx_dispatch_source *source = &plan->sources[rank];
        struct epx_exchange_header header;
        const void *exchange;
        uint64_t bytes;
        memset(source, 0, sizeof *source);
        EPX_TRY(epx_rounds_peer(&run->rounds, EPX_MOE_GROUP_EP, (uint32_t)rank, &exchange, &bytes));
        if (!epx_exchange_read(exchange, bytes, &header) || !read_pieces(plan, exchange, bytes, &header, source) ||
            !read_rows(plan, rank, &header, source)) {
            return epx_dispatch_protocol_fail(run, rank, "the exchange region");
        }
        EPX_TRY(check_token_count(run, rank, source->token_count));
        run->all_token_count += source->token_count;
        part_bytes = rank == 0 ? header.part_bytes : part_bytes;
        total_bytes += (uint64_t)(source->token_count * plan->world.topk) * plan->row_bytes;
    }
    run->streaming = total_bytes > plan->stream_bytes;
    run->part_count = part_count(run, part_bytes);
    return EPX_OK;
}

static enum epx_status count_moe(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t total = 0;
    for (int64_t local = 0; local < world->local_experts; local++) {
        int64_t expert = world->first_expert + local;
        for (int64_t rank = 0; rank < world->rank_count; rank++) {
            const struct epx_dispatch_source *source = &plan->sources[rank];
            int64_t block = local * world->rank_count + rank;
            int32_t start = epx_peek_i32(&source->offsets[expert]);
            int32_t end = epx_peek_i32(&source->offsets[expert + 1]);
            if (start < 0 || end < start || end > source->token_count * world->topk) {
                return epx_dispatch_protocol_fail(run, rank, "the routing");
            }
            total += end - start;
            plan->block_starts[block] = start;
            plan->block_ends[block] = total;
        }
    }
    run->row_count = total;
    return EPX_OK;
}

/* Rows of a rank with the shared expert: its own, then intervals of the others. */
static void count_shared(struct epx_dispatch_run *run)
{
    struct epx_dispatch_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t total = 0;
    for (int64_t rank = 0; rank < world->rank_count; rank++) {
        if (rank < world->shared_count) {
            total += epx_shared_rows_pseudo_count(rank, world->rank, run->token_count, world->shared_count);
        } else {
            struct epx_token_interval tokens =
                epx_shared_rows_interval(world->rank, rank, plan->sources[rank].token_count, world->shared_count);
            plan->block_starts[rank] = (int32_t)tokens.first;
            total += tokens.end - tokens.first;
        }
        plan->block_ends[rank] = total;
    }
    run->row_count = total;
}

int64_t epx_dispatch_row_capacity(const struct epx_dispatch_run *run)
{
    int64_t rows = epx_min_i64(epx_view_row_count(&run->tensors->expand_x), INT32_MAX);
    if (epx_view_present(&run->tensors->row_views)) {
        rows = epx_min_i64(rows, epx_view_row_count(&run->tensors->row_views));
    }
    if (run->plan->quantized) {
        rows = epx_min_i64(rows, epx_view_row_count(&run->tensors->dynamic_scales));
    }
    if (run->plan->world.two_level && epx_view_given(&run->tensors->expand_scales)) {
        rows = epx_min_i64(rows, epx_view_row_count(&run->tensors->expand_scales));
    }
    return rows;
}

/* The output that sets the capacity. */
static const char *smallest_output(const struct epx_dispatch_run *run, int64_t capacity)
{
    if (epx_view_present(&run->tensors->row_views) && epx_view_row_count(&run->tensors->row_views) <= capacity) {
        return "rows";
    }
    if (epx_view_row_count(&run->tensors->expand_x) <= capacity) {
        return "expandX";
    }
    if (run->plan->quantized && epx_view_row_count(&run->tensors->dynamic_scales) <= capacity) {
        return "dynamicScales";
    }
    return capacity == INT32_MAX ? "epRecvCounts" : "expandScales";
}

enum epx_status epx_dispatch_need_outputs(struct epx_dispatch_run *run, int64_t row_count)
{
    const struct epx_dispatch_tensors *tensors = run->tensors;
    const struct epx_moe_world *world = &run->plan->world;
    struct epx_rounds *rounds = &run->rounds;
    if (epx_view_present(&tensors->row_views)) {
        EPX_TRY(epx_rounds_need_rows(rounds, "rows", &tensors->row_views, row_count));
    } else {
        EPX_TRY(epx_rounds_need_rows(rounds, "expandX", &tensors->expand_x, row_count));
    }
    if (run->plan->quantized) {
        EPX_TRY(epx_rounds_need_rows(rounds, "dynamicScales", &tensors->dynamic_scales, row_count));
    }
    if (world->two_level && epx_view_given(&tensors->expand_scales)) {
        EPX_TRY(epx_rounds_need_rows(rounds, "expandScales", &tensors->expand_scales, row_count));
    }
    if (!world->two_level) {
        EPX_TRY(epx_rounds_need_rows(rounds, "expandIdx", &tensors->expand_idx, run->token_count * world->topk));
    }
    EPX_TRY(epx_rounds_need_rows(rounds, "expertTokenNums", &tensors->expert_token_nums, world->local_experts));
    if (world->tp) {
        EPX_TRY(epx_rounds_need_rows(rounds, "tpRecvCounts", &tensors->tp_recv_counts, 2));
    }
    /* With two levels a tail of all that there is room for follows the counts. */
    int64_t counts = world->rank_count * world->local_experts * (world->tp ? 2 : 1);
    return epx_rounds_need_rows(rounds, "epRecvCounts", &tensors->ep_recv_counts,
                                world->two_level ? epx_view_row_count(&tensors->ep_recv_counts) : counts);
}

enum epx_status epx_dispatch_count(struct epx_dispatch_run *run)
{
    if (run->plan->world.holds_shared) {
        count_shared(run);
    } else {
        EPX_TRY(count_moe(run));
    }
    int64_t capacity = epx_dispatch_row_capacity(run);
    if (run->row_count > capacity) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_CAPACITY, "rank %lld receives %lld rows, %s holds %lld",
                               (long long)run->plan->world.rank, (long long)run->row_count,
                               smallest_output(run, capacity), (long long)capacity);
    }
    return epx_dispatch_need_outputs(run, run->row_count);
}
