/*
 * Executors: what a first phase hands to the second. One holds a plan that it may share; a run takes the communicators
 * again, so that an executor that is never run keeps none busy. Executors and runs are used again, so that in steady
 * state neither phase allocates. Handles are numbers, never addresses. Thread: any.
 */
#ifndef EPX_CANN_EXECUTOR_H
#define EPX_CANN_EXECUTOR_H

#include "acl/acl_rt.h"
#include "aclnn/acl_meta.h"
#include "base/status.h"
#include "cann/moe_plan.h"

/* Errors: those of the operator's plan; EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_cann_executor_create(const struct epx_cann_planned *planned, aclOpExecutor **out);

/* The second phase: queues one run on the stream, and reports. */
aclnnStatus epx_cann_executor_launch(aclOpExecutor *executor, enum epx_operation operation, aclrtStream stream);

#endif
