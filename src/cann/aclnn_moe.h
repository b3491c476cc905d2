/*
 * The first phase of both operators: checks, finds the communicators, plans.
 */
#ifndef EPX_CANN_ACLNN_MOE_H
#define EPX_CANN_ACLNN_MOE_H

#include "cann/executor.h"
#include "cann/moe_call.h"

/* Checks the call, makes an executor, sets the outputs; reports. Never reads tensor data. */
aclnnStatus epx_cann_moe_prepare(const struct epx_cann_call *call);

#endif
