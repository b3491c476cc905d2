/*
 * Before ENTER: the small tensors of this rank, copied out and checked.
 */
#include "moe/combine_plan.h"
#include "moe/view.h"

#include <string.h>

static enum epx_status gather_ids(struct epx_combine_run *run)
{
    struct epx_combine_plan *plan = run->plan;
    int64_t topk = plan->world.topk;
    epx_view_gather(&run->tensors->expert_ids, run->token_count, plan->ids);
    for (int64_t copy = 0; copy < run->token_count * topk; copy++) {
        if (plan->ids[copy] < 0 || plan->ids[copy] >= plan->world.expert_count) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_EXPERT_ID,
                                   "rank %lld: expertIds[%lld][%lld] is %d, must be in [0, %lld)",
                                   (long long)plan->world.rank, (long long)(copy / topk), (long long)(copy % topk),
                                   plan->ids[copy], (long long)plan->world.expert_count);
        }
    }
    return EPX_OK;
}

static void gather_slots(struct epx_combine_run *run)
{
    struct epx_combine_plan *plan = run->plan;
    int64_t copies = run->token_count * plan->world.topk;
    if (plan->world.two_level) {
        int64_t bad = epx_routing_compute(plan->ids, copies, plan->world.expert_count, &plan->routing);
        (void)bad; /* the ids have been checked */
    } else {
        epx_view_gather(&run->tensors->expand_idx, copies, plan->slots);
    }
}

/* Running totals that rise from 0: entries [first, first + count) of epSendCounts. */
static enum epx_status check_rising(struct epx_combine_run *run, int64_t first, int64_t count)
{
    const struct epx_combine_plan *plan = run->plan;
    for (int64_t i = first; i < first + count; i++) {
        if (plan->counts[i] < 0) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS, "rank %lld: epSendCounts[%lld] is %d, must be >= 0",
                                   (long long)plan->world.rank, (long long)i, plan->counts[i]);
        }
        if (i > first && plan->counts[i] < plan->counts[i - 1]) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS,
                                   "rank %lld: epSendCounts[%lld] is %d, must be at least epSendCounts[%lld], %d",
                                   (long long)plan->world.rank, (long long)i, plan->counts[i], (long long)(i - 1),
                                   plan->counts[i - 1]);
        }
    }
    return EPX_OK;
}

/* tpSendCounts says the same as the ends of the two halves of epSendCounts. */
static enum epx_status check_tp_counts(struct epx_combine_run *run, int64_t blocks)
{
    const struct epx_combine_plan *plan = run->plan;
    int32_t given[2];
    epx_view_gather(&run->tensors->tp_send_counts, 2, given);
    for (int64_t part = 0; part < 2; part++) {
        int64_t slot = part == 0 ? plan->world.tp_rank : 1 - plan->world.tp_rank;
        int64_t last = (part + 1) * blocks - 1;
        if (given[slot] != plan->counts[last]) {
            return epx_rounds_fail(
                &run->rounds, EPX_ERR_COUNTS, "rank %lld: tpSendCounts[%lld] is %d, must be epSendCounts[%lld], %d",
                (long long)plan->world.rank, (long long)slot, given[slot], (long long)last, plan->counts[last]);
        }
    }
    return EPX_OK;
}

static enum epx_status check_capacity(struct epx_combine_run *run, int64_t blocks)
{
    const struct epx_combine_plan *plan = run->plan;
    int64_t last = (plan->world.tp ? 2 : 1) * blocks - 1;
    int64_t rows = run->row_count + (plan->world.tp ? plan->counts[last] : 0);
    int64_t room = epx_view_row_count(&run->tensors->expand_x);
    if (rows <= room) {
        return EPX_OK;
    }
    return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS, "rank %lld: epSendCounts[%lld] is %d%s, expandX has %lld rows",
                           (long long)plan->world.rank, (long long)last, plan->counts[last],
                           plan->world.tp ? " after the own rows" : "", (long long)room);
}

static enum epx_status gather_counts(struct epx_combine_run *run)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t blocks = world->rank_count * world->local_experts;
    epx_view_gather(&run->tensors->ep_send_counts, world->tp ? 2 * blocks : blocks, plan->counts);
    EPX_TRY(check_rising(run, 0, blocks));
    run->row_count = plan->counts[blocks - 1];
    if (world->tp) {
        EPX_TRY(check_rising(run, blocks, blocks));
        EPX_TRY(check_tp_counts(run, blocks));
    }
    EPX_TRY(check_capacity(run, blocks));
    int64_t last_own = world->shared_count - 1;
    if (world->holds_shared && plan->counts[last_own] != run->token_count) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_COUNTS,
                               "rank %lld: epSendCounts[%lld] is %d, must be %lld (BS of this rank, which holds the "
                               "shared expert)",
                               (long long)world->rank, (long long)last_own, plan->counts[last_own],
                               (long long)run->token_count);
    }
    return EPX_OK;
}

/* To read memory brings its pages in, too. Rows of expand_x follow when their number is known. */
static enum epx_status need_tensors(struct epx_combine_run *run)
{
    const struct epx_combine_tensors *tensors = run->tensors;
    const struct epx_moe_world *world = &run->plan->world;
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "expertIds", &tensors->expert_ids, run->token_count));
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "expertScales", &tensors->expert_scales, run->token_count));
    EPX_TRY(epx_rounds_need_rows(&run->rounds, "epSendCounts", &tensors->ep_send_counts,
                                 world->rank_count * world->local_experts * (world->tp ? 2 : 1)));
    if (world->tp) {
        EPX_TRY(epx_rounds_need_rows(&run->rounds, "tpSendCounts", &tensors->tp_send_counts, 2));
    }
    if (!world->two_level) {
        EPX_TRY(epx_rounds_need_rows(&run->rounds, "expandIdx", &tensors->expand_idx, run->token_count * world->topk));
    }
    return epx_rounds_need_rows(&run->rounds, "x", &tensors->x, run->token_count);
}

enum epx_status epx_combine_gather(struct epx_combine_run *run)
{
    EPX_TRY(need_tensors(run));
    EPX_TRY(gather_ids(run));
    gather_slots(run);
    epx_view_gather(&run->tensors->expert_scales, run->token_count, run->plan->weights);
    return gather_counts(run);
}
