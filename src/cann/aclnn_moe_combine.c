#include "cann/aclnn_moe.h"
#include "cann/exports_aclnn.h"

aclnnStatus epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize(
    const aclTensor *expandX, const aclTensor *expertIds, const aclTensor *expandIdx, const aclTensor *epSendCounts,
    const aclTensor *expertScales, const aclTensor *tpSendCounts, const aclTensor *xActiveMask,
    const aclTensor *activationScale, const aclTensor *weightScale, const aclTensor *groupList,
    const aclTensor *expandScales, const char *groupEp, int64_t epWorldSize, int64_t epRankId, int64_t moeExpertNum,
    const char *groupTp, int64_t tpWorldSize, int64_t tpRankId, int64_t expertShardType, int64_t sharedExpertNum,
    int64_t sharedExpertRankNum, int64_t globalBs, int64_t outDtype, int64_t commQuantMode, int64_t groupListType,
    aclTensor *x, uint64_t *workspaceSize, aclOpExecutor **executor)
{
    (void)outDtype; /* reserved: neither means anything to this version of the operator */
    (void)groupListType;
    const struct epx_cann_call call = {
        .operation = EPX_OPERATION_COMBINE,
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
                       .comm_quant_mode = commQuantMode},
        .tensors = {[EPX_CANN_ROLE_EXPAND_X] = expandX,
                    [EPX_CANN_ROLE_EXPERT_IDS] = expertIds,
                    [EPX_CANN_ROLE_EXPAND_IDX] = expandIdx,
                    [EPX_CANN_ROLE_EP_COUNTS] = epSendCounts,
                    [EPX_CANN_ROLE_EXPERT_SCALES] = expertScales,
                    [EPX_CANN_ROLE_TP_COUNTS] = tpSendCounts,
                    [EPX_CANN_ROLE_MASK] = xActiveMask,
                    [EPX_CANN_ROLE_IGNORED_0] = activationScale,
                    [EPX_CANN_ROLE_IGNORED_1] = weightScale,
                    [EPX_CANN_ROLE_IGNORED_2] = groupList,
                    [EPX_CANN_ROLE_EXPAND_SCALES] = expandScales,
                    [EPX_CANN_ROLE_TOKENS] = x},
        .workspace_bytes = workspaceSize,
        .executor = executor,
    };
    return epx_cann_moe_prepare(&call);
}

aclnnStatus epx_cann_aclnnMoeDistributeCombine(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor,
                                               aclrtStream stream)
{
    (void)workspace; /* none was asked for */
    (void)workspaceSize;
    return epx_cann_executor_launch(executor, EPX_OPERATION_COMBINE, stream);
}
