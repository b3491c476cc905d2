#include "cann/moe_call.h"

#include <stddef.h>

static const struct epx_cann_operator dispatch_operator = {
    .name = "aclnnMoeDistributeDispatch",
    .tensor_names =
        {
            [EPX_CANN_ROLE_TOKENS] = "x",
            [EPX_CANN_ROLE_EXPERT_IDS] = "expertIds",
            [EPX_CANN_ROLE_SMOOTH_SCALES] = "scales",
            [EPX_CANN_ROLE_MASK] = "xActiveMask",
            [EPX_CANN_ROLE_EXPERT_SCALES] = "expertScales",
            [EPX_CANN_ROLE_EXPAND_X] = "expandX",
            [EPX_CANN_ROLE_DYNAMIC_SCALES] = "dynamicScales",
            [EPX_CANN_ROLE_EXPAND_IDX] = "expandIdx",
            [EPX_CANN_ROLE_TOKEN_NUMS] = "expertTokenNums",
            [EPX_CANN_ROLE_EP_COUNTS] = "epRecvCounts",
            [EPX_CANN_ROLE_TP_COUNTS] = "tpRecvCounts",
            [EPX_CANN_ROLE_EXPAND_SCALES] = "expandScales",
        },
    .inputs = {EPX_CANN_ROLE_TOKENS, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_SMOOTH_SCALES, EPX_CANN_ROLE_MASK,
               EPX_CANN_ROLE_EXPERT_SCALES},
    .input_count = 5,
    .outputs = {EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_DYNAMIC_SCALES, EPX_CANN_ROLE_EXPAND_IDX,
                EPX_CANN_ROLE_TOKEN_NUMS, EPX_CANN_ROLE_EP_COUNTS, EPX_CANN_ROLE_TP_COUNTS,
                EPX_CANN_ROLE_EXPAND_SCALES},
    .output_count = 7,
    .required = {EPX_CANN_ROLE_TOKENS, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_EXPAND_IDX,
                 EPX_CANN_ROLE_TOKEN_NUMS, EPX_CANN_ROLE_TP_COUNTS, EPX_CANN_ROLE_EP_COUNTS},
    .required_count = 7,
    .long_group_name = EPX_ERR_NULL,
};

static const struct epx_cann_operator combine_operator = {
    .name = "aclnnMoeDistributeCombine",
    .tensor_names =
        {
            [EPX_CANN_ROLE_EXPAND_X] = "expandX",
            [EPX_CANN_ROLE_EXPERT_IDS] = "expertIds",
            [EPX_CANN_ROLE_EXPAND_IDX] = "expandIdx",
            [EPX_CANN_ROLE_EP_COUNTS] = "epSendCounts",
            [EPX_CANN_ROLE_EXPERT_SCALES] = "expertScales",
            [EPX_CANN_ROLE_TP_COUNTS] = "tpSendCounts",
            [EPX_CANN_ROLE_MASK] = "xActiveMask",
            [EPX_CANN_ROLE_IGNORED_0] = "activationScale",
            [EPX_CANN_ROLE_IGNORED_1] = "weightScale",
            [EPX_CANN_ROLE_IGNORED_2] = "groupList",
            [EPX_CANN_ROLE_EXPAND_SCALES] = "expandScales",
            [EPX_CANN_ROLE_TOKENS] = "x",
        },
    .inputs = {EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_EXPAND_IDX, EPX_CANN_ROLE_EP_COUNTS,
               EPX_CANN_ROLE_EXPERT_SCALES, EPX_CANN_ROLE_TP_COUNTS, EPX_CANN_ROLE_MASK, EPX_CANN_ROLE_IGNORED_0,
               EPX_CANN_ROLE_IGNORED_1, EPX_CANN_ROLE_IGNORED_2, EPX_CANN_ROLE_EXPAND_SCALES},
    .input_count = 11,
    .outputs = {EPX_CANN_ROLE_TOKENS},
    .output_count = 1,
    .required = {EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_EXPAND_IDX, EPX_CANN_ROLE_EP_COUNTS,
                 EPX_CANN_ROLE_EXPERT_SCALES, EPX_CANN_ROLE_TOKENS},
    .required_count = 6,
    .long_group_name = EPX_ERR_DTYPE,
};

const struct epx_cann_operator *epx_cann_operator_describe(enum epx_operation operation)
{
    return operation == EPX_OPERATION_COMBINE ? &combine_operator : &dispatch_operator;
}
