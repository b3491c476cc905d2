#include "base/clock.h"
#include "moe/combine_plan.h"
#include "moe/combine_relay.h"
#include "moe/stages.h"

struct operation {
    struct epx_combine_plan *plan;
    struct epx_combine_binding *binding;
};

static enum epx_status publish(struct epx_combine_run *run)
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
    EPX_TRY(epx_rounds_publish(&run->rounds, &agreement, &publication));
    return epx_combine_begin_remote(run);
}

static void count_rows(void *context)
{
    const struct operation *operation = context;
    struct epx_combine_run *run = &operation->plan->run;
    const struct epx_combine_plan *plan = run->plan;
    int64_t rows = run->token_count * (plan->world.topk + (plan->world.shared_count > 0 ? 1 : 0));
    run->stats.rows_received = rows;
    run->stats.payload_bytes = rows * (int64_t)plan->row_bytes;
    run->stats.bytes_read += rows * (int64_t)plan->row_bytes;
    run->stats.bytes_written += run->token_count * (int64_t)plan->row_bytes;
}

static enum epx_status move(void *context)
{
    const struct operation *operation = context;
    struct epx_combine_run *run = &operation->plan->run;
    EPX_TRY(epx_combine_collect(run));
    EPX_TRY(epx_combine_relay_run(run));
    return epx_combine_sum_tokens(run);
}

static enum epx_status take_turn(void *context, uint64_t until_ns, bool *pending)
{
    const struct operation *operation = context;
    struct epx_combine_plan *plan = operation->plan;
    const struct epx_combine_binding *binding = operation->binding;
    const struct epx_rounds_place place = {
        .comm = plan->request.comm,
        .tp_comm = plan->world.tp ? plan->request.tp_comm : NULL,
        .round = binding->round,
        .tp_round = binding->tp_round,
        .operation = EPX_OPERATION_COMBINE,
    };
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
        .start_ns = epx_clock_ns(),
    };
    if (!binding->bound) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_NULL, "rank %lld: a tensor of combine has no address",
                               (long long)plan->world.rank);
    }
    return publish(run);
}

bool epx_combine_binding_advance(struct epx_combine_plan *plan, struct epx_combine_binding *binding, uint64_t until_ns,
                                 struct epx_operation_stats *stats, enum epx_status *status)
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

enum epx_status epx_combine_binding_run(struct epx_combine_plan *plan, struct epx_combine_binding *binding,
                                        struct epx_operation_stats *stats)
{
    enum epx_status status;
    while (!epx_combine_binding_advance(plan, binding, EPX_NEVER, stats, &status)) {
    }
    return status;
}
