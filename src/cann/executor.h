/*
 * Executors: what a first phase hands to the second. One holds the plan of an operator; a run takes the communicators
 * again, so that an executor that is never run keeps none busy. Handles are numbers, never addresses. Thread: any.
 */
#ifndef EPX_CANN_EXECUTOR_H
#define EPX_CANN_EXECUTOR_H

#include "acl/acl_rt.h"
#include "aclnn/acl_meta.h"
#include "base/status.h"
#include "cann/moe_call.h"
#include "moe/request.h"

#include <stddef.h>
#include <stdint.h>

/* What a plan is made of; the communicators are held by the caller. */
struct epx_cann_planned {
    enum epx_operation operation;
    union {
        struct epx_dispatch_request dispatch;
        struct epx_combine_request combine;
    } request;
    struct epx_comm *comm;
    struct epx_comm *tp_comm;
    uint64_t offset_bytes[EPX_CANN_ROLE_COUNT]; /* from a tensor's storage to its element 0 */
};

/* The view of a role in a request, null when the operator has none (or does not use it). */
struct epx_view *epx_cann_planned_view(struct epx_cann_planned *planned, enum epx_cann_role role);

/* Errors: those of the operator's plan; EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_cann_executor_create(const struct epx_cann_planned *planned, aclOpExecutor **out);

/* The second phase: queues one run on the stream, and reports. */
aclnnStatus epx_cann_executor_launch(aclOpExecutor *executor, enum epx_operation operation, aclrtStream stream);

#endif
