/*
 * Plans of the operators, shared: first phases that differ in addresses only use one plan, in whose memory their runs
 * take turns. A plan that nobody uses is kept for the next such first phase, a few for each communicator, until the
 * communicator is destroyed. Thread: any.
 */
#ifndef EPX_CANN_MOE_PLAN_H
#define EPX_CANN_MOE_PLAN_H

#include "base/status.h"
#include "cann/hccl_state.h"
#include "cann/moe_call.h"
#include "moe/request.h"

#include <stdbool.h>
#include <stdint.h>

/* What a first phase asks for; the communicators are held by the caller. */
struct epx_cann_planned {
    enum epx_operation operation;
    union {
        struct epx_dispatch_request dispatch;
        struct epx_combine_request combine;
    } request;
    const struct epx_cann_comm *comm;
    const struct epx_cann_comm *tp_comm;        /* null: none */
    uint64_t offset_bytes[EPX_CANN_ROLE_COUNT]; /* from a tensor's storage to its element 0 */
};

/* The view of a role in a request, null when the operator has none (or does not use it). */
struct epx_view *epx_cann_planned_view(struct epx_cann_planned *planned, enum epx_cann_role role);

/* What one run works on. */
union epx_cann_binding {
    struct epx_dispatch_binding dispatch;
    struct epx_combine_binding combine;
};

struct epx_cann_plan;

/* Checks the request and finds or makes its plan, the caller's until it is released. Errors: those of the operator's
 * plan. Allocates nothing where there is a plan, and takes no lock where this thread has found it lately. */
EPX_NODISCARD enum epx_status epx_cann_plan_acquire(const struct epx_cann_planned *planned, struct epx_cann_plan **out);
void epx_cann_plan_release(struct epx_cann_plan *plan);

/* The communicators that it was made for; the second has serial 0 when there is none. */
void epx_cann_plan_comms(const struct epx_cann_plan *plan, struct epx_cann_comm_place *comm,
                         struct epx_cann_comm_place *tp_comm);

/* As the operator's binding_init, with the addresses of `planned`, which the plan was acquired for. */
EPX_NODISCARD enum epx_status epx_cann_plan_bind(struct epx_cann_plan *plan, const struct epx_cann_planned *planned,
                                                 union epx_cann_binding *binding);

/* As the operator's binding_reserve and binding_advance. */
void epx_cann_plan_reserve(struct epx_cann_plan *plan, union epx_cann_binding *binding);
EPX_NODISCARD bool epx_cann_plan_advance(struct epx_cann_plan *plan, union epx_cann_binding *binding, uint64_t until_ns,
                                         enum epx_status *status);

/* A communicator has been destroyed: its plans end, those in use with their last user. */
void epx_cann_plans_forget(uint64_t comm_serial);

/* Frees the plans that nobody uses, for memory that is needed now. Whether there were any. */
bool epx_cann_plans_give_up(void);

/* In a forked child. */
void epx_cann_plans_reset_after_fork(void);

#endif
