#include "base/clock.h"
#include "moe/dispatch_plan.h"
#include "moe/view.h"

static enum epx_status enter(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    struct epx_publication publication = {0};
    struct epx_agreement agreement;
    EPX_TRY(epx_dispatch_publish(run, &publication));
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, plan->smooth, EPX_MOE_GROUP_EP);
    return epx_rounds_enter(&run->rounds, EPX_MOE_GROUP_EP, &agreement, &publication);
}

static enum epx_status move(struct epx_dispatch_run *run)
{
    const struct epx_moe_world *world = &run->plan->world;
    EPX_TRY(epx_dispatch_collect(run));
    EPX_TRY(epx_dispatch_count(run));
    EPX_TRY(epx_dispatch_move_rows(run));
    if (world->tp) {
        EPX_TRY(epx_dispatch_exchange_tp(run));
    }
    epx_dispatch_write_counts(run);
    if (world->two_level) {
        epx_dispatch_write_tail(run);
    }
    return EPX_OK;
}

static enum epx_status run_rounds(struct epx_dispatch_run *run, const struct epx_dispatch_binding *binding)
{
    const struct epx_dispatch_request *request = &run->plan->request;
    const struct epx_rounds_place place = {
        .comm = request->comm,
        .tp_comm = run->plan->world.tp ? request->tp_comm : NULL,
        .round = binding->round,
        .tp_round = binding->tp_round,
        .operation = EPX_OPERATION_DISPATCH,
    };
    EPX_TRY(epx_rounds_begin(&run->rounds, &place));
    if (!binding->bound) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_NULL, "rank %lld: a tensor of dispatch has no address",
                               (long long)run->plan->world.rank);
    }
    EPX_TRY(enter(run));
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(move(run));
    run->stats.move_ns = epx_clock_ns() - start_ns;
    return epx_rounds_finish(&run->rounds);
}

enum epx_status epx_dispatch_binding_run(struct epx_dispatch_plan *plan, const struct epx_dispatch_binding *binding,
                                         struct epx_operation_stats *stats)
{
    struct epx_dispatch_run run = {
        .plan = plan,
        .tensors = &binding->tensors,
        .token_count = binding->token_count,
        .kernels = epx_kernels(),
        .weights = plan->world.two_level && epx_view_given(&binding->tensors.expert_scales),
    };
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(run_rounds(&run, binding));
    run.stats.rows_received = run.row_count + run.peer_count;
    run.stats.payload_bytes = run.stats.rows_received * (int64_t)plan->row_bytes;
    run.stats.enter_wait_ns = run.rounds.ep.waited_ns[EPX_PHASE_ENTER];
    run.stats.done_wait_ns = run.rounds.ep.waited_ns[EPX_PHASE_DONE];
    run.stats.total_ns = epx_clock_ns() - start_ns;
    if (stats != NULL) {
        *stats = run.stats;
    }
    return EPX_OK;
}
