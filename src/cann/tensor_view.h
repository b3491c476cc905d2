/*
 * From a program's aclTensor to a view of the engine. The tensor must be alive.
 */
#ifndef EPX_CANN_TENSOR_VIEW_H
#define EPX_CANN_TENSOR_VIEW_H

#include "base/status.h"
#include "cann/acl_state.h"
#include "moe/request.h"

#include <stdint.h>

/* Fills *view; *offset_bytes is from the storage's start to element 0. EPX_ERR_SHAPE (dimensions, strides, bounds),
 * EPX_ERR_DTYPE. `name` is for messages. Never reads data. */
EPX_NODISCARD enum epx_status epx_cann_tensor_view(const struct aclTensor *tensor, const char *name,
                                                   struct epx_view *view, uint64_t *offset_bytes);

#endif
