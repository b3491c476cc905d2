#include "cann/moe_plan.h"

static struct epx_view *dispatch_view(struct epx_dispatch_tensors *tensors, enum epx_cann_role role)
{
    switch (role) {
    case EPX_CANN_ROLE_TOKENS: return &tensors->x;
    case EPX_CANN_ROLE_EXPERT_IDS: return &tensors->expert_ids;
    case EPX_CANN_ROLE_SMOOTH_SCALES: return &tensors->smooth_scales;
    case EPX_CANN_ROLE_EXPERT_SCALES: return &tensors->expert_scales;
    case EPX_CANN_ROLE_EXPAND_X: return &tensors->expand_x;
    case EPX_CANN_ROLE_DYNAMIC_SCALES: return &tensors->dynamic_scales;
    case EPX_CANN_ROLE_EXPAND_IDX: return &tensors->expand_idx;
    case EPX_CANN_ROLE_TOKEN_NUMS: return &tensors->expert_token_nums;
    case EPX_CANN_ROLE_EP_COUNTS: return &tensors->ep_recv_counts;
    case EPX_CANN_ROLE_TP_COUNTS: return &tensors->tp_recv_counts;
    case EPX_CANN_ROLE_EXPAND_SCALES: return &tensors->expand_scales;
    default: return NULL;
    }
}

static struct epx_view *combine_view(struct epx_combine_tensors *tensors, enum epx_cann_role role)
{
    switch (role) {
    case EPX_CANN_ROLE_EXPAND_X: return &tensors->expand_x;
    case EPX_CANN_ROLE_EXPERT_IDS: return &tensors->expert_ids;
    case EPX_CANN_ROLE_EXPAND_IDX: return &tensors->expand_idx;
    case EPX_CANN_ROLE_EP_COUNTS: return &tensors->ep_send_counts;
    case EPX_CANN_ROLE_EXPERT_SCALES: return &tensors->expert_scales;
    case EPX_CANN_ROLE_TP_COUNTS: return &tensors->tp_send_counts;
    case EPX_CANN_ROLE_EXPAND_SCALES: return &tensors->expand_scales;
    case EPX_CANN_ROLE_TOKENS: return &tensors->x;
    default: return NULL;
    }
}

struct epx_view *epx_cann_planned_view(struct epx_cann_planned *planned, enum epx_cann_role role)
{
    return planned->operation == EPX_OPERATION_DISPATCH ? dispatch_view(&planned->request.dispatch.tensors, role)
                                                        : combine_view(&planned->request.combine.tensors, role);
}
