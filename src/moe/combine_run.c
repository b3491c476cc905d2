#include "base/clock.h"
#include "moe/combine_plan.h"

static enum epx_status enter(struct epx_combine_run *run)
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
    return epx_rounds_enter(&run->rounds, EPX_MOE_GROUP_EP, &agreement, &publication);
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

static enum epx_status run_rounds(struct epx_combine_run *run, const struct epx_combine_binding *binding)
{
    const struct epx_combine_request *request = &run->plan->request;
    const struct epx_rounds_place place = {
        .comm = request->comm,
        .tp_comm = run->plan->world.tp ? request->tp_comm : NULL,
        .round = binding->round,
        .tp_round = binding->tp_round,
        .operation = EPX_OPERATION_COMBINE,
    };
    EPX_TRY(epx_rounds_begin(&run->rounds, &place));
    if (!binding->bound) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_NULL, "rank %lld: a tensor of combine has no address",
                               (long long)run->plan->world.rank);
    }
    EPX_TRY(enter(run));
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(epx_combine_collect(run));
    EPX_TRY(run->plan->world.two_level ? epx_combine_sum_tokens_two_level(run) : epx_combine_sum_tokens(run));
    run->stats.move_ns = epx_clock_ns() - start_ns;
    return epx_rounds_finish(&run->rounds);
}

enum epx_status epx_combine_binding_run(struct epx_combine_plan *plan, const struct epx_combine_binding *binding,
                                        struct epx_operation_stats *stats)
{
    struct epx_combine_run run = {
        .plan = plan,
        .tensors = &binding->tensors,
        .token_count = binding->token_count,
        .kernels = epx_kernels(),
    };
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(run_rounds(&run, binding));
    count_rows(&run);
    run.stats.enter_wait_ns = run.rounds.ep.waited_ns[EPX_PHASE_ENTER];
    run.stats.done_wait_ns = run.rounds.ep.waited_ns[EPX_PHASE_DONE];
    run.stats.total_ns = epx_clock_ns() - start_ns;
    if (stats != NULL) {
        *stats = run.stats;
    }
    return EPX_OK;
}
