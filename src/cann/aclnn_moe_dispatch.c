#include "cann/aclnn_moe.h"
#include "cann/exports_aclnn.h"

aclnnStatus epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize(
    const aclTensor *x, const aclTensor *expertIds, const aclTensor *scales, const aclTensor *xActiveMask,
    const aclTensor *expertScales, const char *groupEp, int64_t epWorldSize, int64_t epRankId, int64_t moeExpertNum,
    const char *groupTp, int64_t tpWorldSize, int64_t tpRankId, int64_t expertShardType, int64_t sharedExpertNum,
    int64_t sharedExpertRankNum, int64_t quantMode, int64_t globalBs, int64_t expertTokenNumsType, aclTensor *expandX,
    aclTensor *dynamicScales, aclTensor *expandIdx, aclTensor *expertTokenNums, aclTensor *epRecvCounts,
    aclTensor *tpRecvCounts, aclTensor *expandScales, uint64_t *workspaceSize, aclOpExecutor **executor)
{
    const struct epx_cann_call call = {
        .operation = EPX_OPERATION_DISPATCH,
        .attributes = {.group_ep = groupEp,
                       .ep_world_size = epWorldSize,
                       .ep_rank_id = epRankId,
                       .moe_expert_num = moeExpertNum,
                       .group_tp = groupTp,
                       .tp_world_size = tpWorldSize,
                       .tp_rank_id = tpRankId,
                       .expert_shard_type = expertShardType,
                       .shared_expert_num = sharedExpertNum,
                       .shared_expert_rank_num = sharedExpertRankNum,
                       .global_bs = globalBs,
                       .quant_mode = quantMode,
                       .expert_token_nums_type = expertTokenNumsType},
        .tensors = {[EPX_CANN_ROLE_TOKENS] = x,
                    [EPX_CANN_ROLE_EXPERT_IDS] = expertIds,
                    [EPX_CANN_ROLE_SMOOTH_SCALES] = scales,
                    [EPX_CANN_ROLE_MASK] = xActiveMask,
                    [EPX_CANN_ROLE_EXPERT_SCALES] = expertScales,
                    [EPX_CANN_ROLE_EXPAND_X] = expandX,
                    [EPX_CANN_ROLE_DYNAMIC_SCALES] = dynamicScales,
                    [EPX_CANN_ROLE_EXPAND_IDX] = expandIdx,
                    [EPX_CANN_ROLE_TOKEN_NUMS] = expertTokenNums,
                    [EPX_CANN_ROLE_EP_COUNTS] = epRecvCounts,
                    [EPX_CANN_ROLE_TP_COUNTS] = tpRecvCounts,
                    [EPX_CANN_ROLE_EXPAND_SCALES] = expandScales},
        .workspace_bytes = workspaceSize,
        .executor = executor,
    };
    return epx_cann_moe_prepare(&call);
}

aclnnStatus epx_cann_aclnnMoeDistributeDispatch(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor,
                                                aclrtStream stream)
{
    (void)workspace; /* none was asked for */
    (void)workspaceSize;
    return epx_cann_executor_launch(executor, EPX_OPERATION_DISPATCH, stream);
}
