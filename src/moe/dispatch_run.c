#include "base/clock.h"
#include "moe/dispatch_plan.h"
#include "moe/stages.h"
#include "moe/view.h"

struct operation {
    struct epx_dispatch_plan *plan;
    struct epx_dispatch_binding *binding;
};

static enum epx_status publish(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    struct epx_publication publication = {0};
    struct epx_agreement agreement;
    EPX_TRY(epx_dispatch_publish(run, &publication));
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, plan->smooth, EPX_MOE_GROUP_EP);
    epx_moe_agreement_set_views(&agreement, epx_view_present(&run->tensors->row_views), 0);
    EPX_TRY(epx_rounds_publish(&run->rounds, &agreement, &publication));
    return epx_dispatch_begin_remote(run);
}

static enum epx_status move(void *context)
{
    const struct operation *operation = context;
    struct epx_dispatch_run *run = &operation->plan->run;
    const struct epx_moe_world *world = &run->plan->world;
    EPX_TRY(epx_dispatch_collect(run));
    EPX_TRY(epx_dispatch_count(run));
    bool views = epx_view_present(&run->tensors->row_views);
    if (run->part_count > 1 && (views || world->holds_shared)) {
        epx_round_skip(&run->rounds.ep, (uint64_t)run->part_count); /* reads in another order, or nothing */
    }
    EPX_TRY(views ? epx_dispatch_view_rows(run) : epx_dispatch_move_rows(run));
    if (world->tp) {
        EPX_TRY(epx_dispatch_exchange_tp(run));
    }
    epx_dispatch_write_counts(run);
    if (world->two_level) {
        epx_dispatch_write_tail(run);
    }
    return EPX_OK;
}

static void count_rows(void *context)
{
    const struct operation *operation = context;
    struct epx_dispatch_run *run = &operation->plan->run;
    run->stats.rows_received = run->row_count + run->peer_count;
    run->stats.payload_bytes = run->stats.rows_received * (int64_t)run->plan->row_bytes;
}

static enum epx_status take_turn(void *context, uint64_t until_ns, bool *pending)
{
    const struct operation *operation = context;
    struct epx_dispatch_plan *plan = operation->plan;
    const struct epx_dispatch_binding *binding = operation->binding;
    const struct epx_rounds_place place = {
        .comm = plan->request.comm,
        .tp_comm = plan->world.tp ? plan->request.tp_comm : NULL,
        .round = binding->round,
        .tp_round = binding->tp_round,
        .operation = EPX_OPERATION_DISPATCH,
    };
    struct epx_rounds rounds;
    EPX_TRY(epx_rounds_begin(&rounds, &place, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    /* Only the run that has its turn may use the plan's memory. */
    struct epx_dispatch_run *run = &plan->run;
    *run = (struct epx_dispatch_run){
        .plan = plan,
        .tensors = &binding->tensors,
        .token_count = binding->token_count,
        .kernels = epx_kernels(),
        .rounds = rounds,
        .start_ns = epx_clock_ns(),
        .weights = plan->world.two_level && epx_view_given(&binding->tensors.expert_scales),
    };
    if (!binding->bound) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_NULL, "rank %lld: a tensor of dispatch has no address",
                               (long long)plan->world.rank);
    }
    return publish(run);
}

bool epx_dispatch_binding_advance(struct epx_dispatch_plan *plan, struct epx_dispatch_binding *binding,
                                  uint64_t until_ns, struct epx_operation_stats *stats, enum epx_status *status)
{
    struct operation operation = {plan, binding};
    const struct epx_moe_stages stages = {
        .operation = &operation,
        .take_turn = take_turn,
        .move = move,
        .count_rows = count_rows,
        .rounds = &plan->run.rounds,
        .stats = &plan->run.stats,
        .start_ns = &plan->run.start_ns,
    };
    return epx_moe_stages_advance(&stages, &binding->stage, until_ns, stats, status);
}

enum epx_status epx_dispatch_binding_run(struct epx_dispatch_plan *plan, struct epx_dispatch_binding *binding,
                                         struct epx_operation_stats *stats)
{
    enum epx_status status;
    while (!epx_dispatch_binding_advance(plan, binding, EPX_NEVER, stats, &status)) {
    }
    return status;
}
