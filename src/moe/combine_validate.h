/* Checks of a combine request. Pure. */
#ifndef EPX_MOE_COMBINE_VALIDATE_H
#define EPX_MOE_COMBINE_VALIDATE_H

#include "moe/shape.h"
#include "moe/tensor_check.h"

/* The rules for the tensors that the operation uses; others are not looked at. `tensors` is referenced. */
void epx_combine_rules_init(struct epx_tensor_rules *rules, const struct epx_moe_shape *shape,
                            const struct epx_moe_world *world, int64_t token_count,
                            struct epx_combine_tensors *tensors);

/* Everything about a request; on success fills `world`. Errors: see epx_combine_plan_create. */
EPX_NODISCARD enum epx_status epx_combine_validate(const struct epx_combine_request *request,
                                                   struct epx_moe_world *world);

#endif
