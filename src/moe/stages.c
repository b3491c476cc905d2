#include "moe/stages.h"

#include "base/clock.h"
#include "base/float_environment.h"

static enum epx_status pass_turn(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                                 bool *pending)
{
    EPX_TRY(stages->take_turn(stages->operation, until_ns, pending));
    if (!*pending) {
        *stage = EPX_MOE_STAGE_WIRE;
    }
    return EPX_OK;
}

static enum epx_status pass_wire(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                                 bool *pending)
{
    EPX_TRY(epx_rounds_await_remote(stages->rounds, until_ns, pending));
    if (!*pending) {
        *stage = EPX_MOE_STAGE_ENTER;
    }
    return EPX_OK;
}

static enum epx_status pass_enter(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                                  bool *pending)
{
    EPX_TRY(epx_rounds_await_enter(stages->rounds, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    uint64_t start_ns = epx_clock_ns();
    EPX_TRY(stages->move(stages->operation));
    stages->stats->move_ns = epx_clock_ns() - start_ns;
    *stage = EPX_MOE_STAGE_DONE;
    return epx_rounds_arrive_done(stages->rounds);
}

static enum epx_status pass_done(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                                 struct epx_operation_stats *out, bool *pending)
{
    EPX_TRY(epx_rounds_await_done(stages->rounds, until_ns, pending));
    if (*pending) {
        return EPX_OK;
    }
    struct epx_operation_stats *stats = stages->stats;
    stages->count_rows(stages->operation);
    stats->enter_wait_ns = stages->rounds->ep.waited_ns[EPX_PHASE_ENTER];
    stats->done_wait_ns = stages->rounds->ep.waited_ns[EPX_PHASE_DONE];
    stats->total_ns = epx_clock_ns() - *stages->start_ns;
    if (out != NULL) {
        *out = *stats;
    }
    *stage = EPX_MOE_STAGE_OVER;
    struct epx_rounds rounds = *stages->rounds;
    epx_rounds_end(&rounds); /* from here on the plan's memory may be the next run's */
    return EPX_OK;
}

bool epx_moe_stages_advance(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                            struct epx_operation_stats *out, enum epx_status *status)
{
    bool pending = false;
    uint64_t environment = epx_float_environment_default();
    *status = EPX_OK;
    if (*stage == EPX_MOE_STAGE_TURN) {
        *status = pass_turn(stages, stage, until_ns, &pending);
    }
    if (*status == EPX_OK && *stage == EPX_MOE_STAGE_WIRE && !pending) {
        *status = pass_wire(stages, stage, until_ns, &pending);
    }
    if (*status == EPX_OK && *stage == EPX_MOE_STAGE_ENTER && !pending) {
        *status = pass_enter(stages, stage, until_ns, &pending);
    }
    if (*status == EPX_OK && *stage == EPX_MOE_STAGE_DONE && !pending) {
        *status = pass_done(stages, stage, until_ns, out, &pending);
    }
    epx_float_environment_restore(environment);
    return !pending;
}
