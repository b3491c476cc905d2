/*
 * Operators and executors as the door implements them: the program's name with epx_cann_ before it. The small libraries
 * forward to these; tests call them. What each does is said in the public header of its name.
 */
#ifndef EPX_CANN_EXPORTS_ACLNN_H
#define EPX_CANN_EXPORTS_ACLNN_H

#include "aclnn/acl_meta.h"
#include "aclnnop/aclnn_moe_distribute_combine.h"
#include "aclnnop/aclnn_moe_distribute_dispatch.h"

extern __typeof__(aclnnMoeDistributeDispatchGetWorkspaceSize) epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize;
extern __typeof__(aclnnMoeDistributeDispatch) epx_cann_aclnnMoeDistributeDispatch;
extern __typeof__(aclnnMoeDistributeCombineGetWorkspaceSize) epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize;
extern __typeof__(aclnnMoeDistributeCombine) epx_cann_aclnnMoeDistributeCombine;

extern __typeof__(aclSetAclOpExecutorRepeatable) epx_cann_aclSetAclOpExecutorRepeatable;
extern __typeof__(aclDestroyAclOpExecutor) epx_cann_aclDestroyAclOpExecutor;
extern __typeof__(aclSetInputTensorAddr) epx_cann_aclSetInputTensorAddr;
extern __typeof__(aclSetOutputTensorAddr) epx_cann_aclSetOutputTensorAddr;
extern __typeof__(aclSetTensorAddr) epx_cann_aclSetTensorAddr;
extern __typeof__(aclSetDynamicInputTensorAddr) epx_cann_aclSetDynamicInputTensorAddr;
extern __typeof__(aclSetDynamicOutputTensorAddr) epx_cann_aclSetDynamicOutputTensorAddr;
extern __typeof__(aclSetDynamicTensorAddr) epx_cann_aclSetDynamicTensorAddr;
extern __typeof__(AclSetInputTensorAddr) epx_cann_AclSetInputTensorAddr;
extern __typeof__(AclSetOutputTensorAddr) epx_cann_AclSetOutputTensorAddr;
extern __typeof__(AclSetTensorAddr) epx_cann_AclSetTensorAddr;
extern __typeof__(AclSetDynamicInputTensorAddr) epx_cann_AclSetDynamicInputTensorAddr;
extern __typeof__(AclSetDynamicOutputTensorAddr) epx_cann_AclSetDynamicOutputTensorAddr;
extern __typeof__(AclSetDynamicTensorAddr) epx_cann_AclSetDynamicTensorAddr;

#endif
