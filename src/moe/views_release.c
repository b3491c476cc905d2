#include "moe/dispatch_plan.h"

/*
 * A rank enters when it has used its views; after ENTER nobody looks at them. DONE makes a comparison of arguments that
 * fails on one rank fail on all.
 */
enum epx_status epx_dispatch_views_release(const struct epx_dispatch_plan *plan, uint64_t views_round, uint64_t round)
{
    uint32_t field_count;
    const struct epx_agreement_field *fields = epx_moe_agreement_fields(&field_count);
    struct epx_agreement agreement;
    struct epx_round running;
    epx_moe_agreement_init(&agreement, &plan->request.shape, &plan->world, plan->smooth, EPX_MOE_GROUP_EP);
    epx_moe_agreement_set_views(&agreement, false, views_round);
    EPX_TRY(epx_round_begin(&running, plan->request.comm, round, EPX_OPERATION_RELEASE));
    EPX_TRY(epx_round_enter(&running, &agreement, fields, field_count, NULL));
    EPX_TRY(epx_round_step(&running, EPX_PHASE_DONE));
    epx_round_end(&running);
    return EPX_OK;
}
