#include "base/clock.h"
#include "base/float_environment.h"
#include "moe/combine_plan.h"

static enum epx_status arrive(struct epx_combine_run *run)
{
    const struct epx_combine_plan *plan = run->plan;
    struct epx_publication publication = {0};
    struct epx_agreement agreement;
    EPX_TRY(epx_combine_gather(run));
    if (plan->world.tp) {
        EPX_TRY(epx_combine_sum_tp(run));
    }
    EPX_TRY(epx_combine_publish(run, &publication));
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, false, EPX_MOE_GROUP_EP);
    epx_moe_agreement_set_views(&agreement, false, run->views_round);
    return epx_rounds_arrive(&run->rounds, &agreement, &publication);
}

static void count_rows(struct epx_combine_run *run)
{
    const struct epx_combine_plan *plan = run->plan;
    int64_t rows = run->token_count * (plan->world.topk + (plan->world.shared_count > 0 ? 1 : 0));
    run->stats.rows_received = rows;
    run->stats.payload_bytes = rows * (int64_t)plan->row_bytes;
    run->stats.bytes_read += rows * (int64_t)plan->row_bytes;
    run->stats.bytes_written += run->token_count * (int64_t)plan->row_bytes;
}

static enum epx_status move(struct epx_combine_run *run)
{
    EPX_TRY(epx_combine_collect(run));
    return epx_combine_sum_tokens(run);
}

static enum epx_status take_turn(struct epx_combine_plan *plan, struct epx_combine_binding *binding, uint64_t until_ns,
                                 bool *pending)
{
    const struct epx_rounds_place place = {
        .comm = plan->request.comm,
        .tp_comm = plan->world.tp ? plan->request.tp_comm : NULL,
        .round = binding->round,
        .tp_round = binding->tp_round,
        .operation = EPX_OPERATION_COMBINE,
    };
    uint64_t start_ns = epx_clock_ns();
    struct epx_rounds rounds;
    EPX_TRY(epx_rounds_begin(&rounds, &place, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    /* Only the run that has its turn may use the plan's memory. */
    struct epx_combine_run *run = &plan->run;
    *run = (struct epx_combine_run){
        .plan = plan,
        .tensors = &binding->tensors,
        .token_count = binding->token_count,
        .views_round = binding->views_round,
        .kernels = epx_kernels(),
        .rounds = rounds,
        .start_ns = start_ns,
    };
    if (!binding->bound) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_NULL, "rank %lld: a tensor of combine has no address",
                               (long long)plan->world.rank);
    }
    binding->stage = EPX_MOE_STAGE_ENTER;
    return arrive(run);
}

static enum epx_status pass_enter(struct epx_combine_plan *plan, struct epx_combine_binding *binding, uint64_t until_ns,
                                  bool *pending)
{
    struct epx_combine_run *run = &plan->run;
    EPX_TRY(epx_rounds_await_enter(&run->rounds, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(move(run));
    run->stats.move_ns = epx_clock_ns() - start_ns;
    binding->stage = EPX_MOE_STAGE_DONE;
    return epx_rounds_arrive_done(&run->rounds);
}

static enum epx_status pass_done(struct epx_combine_plan *plan, struct epx_combine_binding *binding, uint64_t until_ns,
                                 struct epx_operation_stats *stats, bool *pending)
{
    struct epx_combine_run *run = &plan->run;
    EPX_TRY(epx_rounds_await_done(&run->rounds, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    count_rows(run);
    run->stats.enter_wait_ns = run->rounds.ep.waited_ns[EPX_PHASE_ENTER];
    run->stats.done_wait_ns = run->rounds.ep.waited_ns[EPX_PHASE_DONE];
    run->stats.total_ns = epx_clock_ns() - run->start_ns;
    if (stats != NULL) {
        *stats = run->stats;
    }
    binding->stage = EPX_MOE_STAGE_OVER;
    struct epx_rounds rounds = run->rounds;
    epx_rounds_end(&rounds); /* from here on the plan's memory may be the next run's */
    return EPX_OK;
}

bool epx_combine_binding_advance(struct epx_combine_plan *plan, struct epx_combine_binding *binding, uint64_t until_ns,
                                 struct epx_operation_stats *stats, enum epx_status *status)
{
    bool pending = false;
    uint64_t environment = epx_float_environment_default();
    *status = EPX_OK;
    if (binding->stage == EPX_MOE_STAGE_TURN) {
        *status = take_turn(plan, binding, until_ns, &pending);
    }
    if (*status == EPX_OK && binding->stage == EPX_MOE_STAGE_ENTER && !pending) {
        *status = pass_enter(plan, binding, until_ns, &pending);
    }
    if (*status == EPX_OK && binding->stage == EPX_MOE_STAGE_DONE && !pending) {
        *status = pass_done(plan, binding, until_ns, stats, &pending);
    }
    epx_float_environment_restore(environment);
    return !pending;
}

enum epx_status epx_combine_binding_run(struct epx_combine_plan *plan, struct epx_combine_binding *binding,
                                        struct epx_operation_stats *stats)
{
    enum epx_status status;
    while (!epx_combine_binding_advance(plan, binding, EPX_NEVER, stats, &status)) {
    }
    return status;
}
