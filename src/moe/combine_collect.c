/*
 * After ENTER: where the rows of every expert for this rank lie.
 */
#include "moe/combine_plan.h"
#include "moe/combine_relay.h"
#include "moe/shared_rows.h"

static enum epx_status protocol_fail(struct epx_combine_run *run, int64_t rank)
{
    return epx_rounds_fail(&run->rounds, EPX_ERR_PROTOCOL,
                           "rank %lld: the exchange region of rank %lld cannot be right",
                           (long long)run->plan->world.rank, (long long)rank);
}

/* Rows [counts[block - 1], counts[block]) of a rank. */
static bool read_block(const struct epx_rows *rows, const int32_t *counts, int64_t block, struct epx_combine_block *out)
{
    int64_t start = block == 0 ? 0 : epx_peek_i32(&counts[block - 1]);
    int64_t end = epx_peek_i32(&counts[block]);
    if (start < 0 || end < start || end > rows->row_count) {
        return false;
    }
    out->row_count = end - start;
    out->pitch_bytes = rows->pitch_bytes;
    out->rows = end > start ? epx_rows_at(rows, start) : NULL;
    return true;
}

/* The blocks of a rank's experts for the tokens of rank `home`. */
static bool read_blocks(const struct epx_moe_world *world, int64_t rank, const struct epx_rows *rows,
                        const int32_t *counts, int64_t home, struct epx_combine_block *blocks)
{
    int64_t first = (rank - world->shared_count) * world->rank_experts;
    for (int64_t expert = first; expert < first + world->rank_experts; expert++) {
        if (!read_block(rows, counts, epx_moe_block(world, expert, home), &blocks[expert])) {
            return false;
        }
    }
    return true;
}

static enum epx_status read_experts(struct epx_combine_run *run, int64_t rank, const struct epx_rows *rows,
                                    const int32_t *counts)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    bool right = read_blocks(world, rank, rows, counts, world->rank, plan->blocks);
    bool relays = plan->relay != NULL && epx_comm_is_here(plan->request.comm, (uint32_t)rank);
    for (uint32_t i = 0; relays && right && i < plan->relay->task_count; i++) {
        right = read_blocks(world, rank, rows, counts, plan->relay->tasks[i].rank, plan->relay->tasks[i].blocks);
    }
    return right ? EPX_OK : protocol_fail(run, rank);
}

/* Rows of the shared expert: a rank that holds it keeps its own, the others get an interval of their tokens each. */
static enum epx_status read_shared(struct epx_combine_run *run, int64_t rank, const struct epx_rows *rows,
                                   const int32_t *counts)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    struct epx_combine_block *block = &plan->shared_blocks[rank];
    if (world->holds_shared) {
        if (rank == world->rank) {
            block->rows = rows->first;
            block->pitch_bytes = rows->pitch_bytes;
            block->row_count = run->token_count;
        }
        return EPX_OK;
    }
    if (!read_block(rows, counts, world->rank, block)) {
        return protocol_fail(run, rank);
    }
    struct epx_token_interval tokens =
        epx_shared_rows_interval(rank, world->rank, run->token_count, world->shared_count);
    if (block->row_count != tokens.end - tokens.first) {
        return epx_rounds_fail(
            &run->rounds, EPX_ERR_COUNTS,
            "rank %lld: epSendCounts[%lld] of rank %lld leaves %lld rows of the shared expert for this "
            "rank, must be %lld",
            (long long)world->rank, (long long)world->rank, (long long)rank, (long long)block->row_count,
            (long long)(tokens.end - tokens.first));
    }
    return EPX_OK;
}

static enum epx_status check_token_count(struct epx_combine_run *run, int64_t rank, int64_t token_count)
{
    const struct epx_moe_shape *shape = &run->plan->request.shape;
    int64_t limit;
    if (epx_moe_token_count_fits(shape, run->plan->world.rank_count, token_count, &limit)) {
        return EPX_OK;
    }
    return epx_rounds_fail(&run->rounds, EPX_ERR_MISMATCH, "rank %lld: BS is %lld, globalBs %lld allows %lld a rank",
                           (long long)rank, (long long)token_count, (long long)shape->global_token_count,
                           (long long)limit);
}

enum epx_status epx_combine_collect(struct epx_combine_run *run)
{
    const struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    uint64_t total_bytes = 0;
    for (int64_t rank = 0; rank < world->rank_count; rank++) {
        bool shared = rank < world->shared_count;
        int64_t blocks = world->rank_count * (shared ? 1 : world->rank_experts);
        struct epx_exchange_header header;
        struct epx_rows rows;
        const void *exchange;
        uint64_t bytes;
        EPX_TRY(epx_rounds_peer(&run->rounds, EPX_MOE_GROUP_EP, (uint32_t)rank, &exchange, &bytes));
        if (!epx_exchange_read(exchange, bytes, &header) || header.count_elems != blocks ||
            !epx_rows_resolve(plan->request.comm, rank, &header.rows, plan->row_bytes, &rows) ||
            !epx_rows_halves_aligned(&rows)) {
            return protocol_fail(run, rank);
        }
        const int32_t *counts = epx_exchange_piece(exchange, bytes, header.counts_at, blocks);
        if (counts == NULL) {
            return protocol_fail(run, rank);
        }
        EPX_TRY(check_token_count(run, rank, header.token_count));
        total_bytes += (uint64_t)(header.token_count * world->topk) * plan->row_bytes;
        EPX_TRY(shared ? read_shared(run, rank, &rows, counts) : read_experts(run, rank, &rows, counts));
    }
    run->streaming = total_bytes > plan->stream_bytes;
    return EPX_OK;
}
