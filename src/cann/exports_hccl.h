/*
 * The hccl functions as the door implements them: the program's name with epx_cann_ before it. The small library
 * forwards to these; tests call them. What each does is said in the public header of its name.
 */
#ifndef EPX_CANN_EXPORTS_HCCL_H
#define EPX_CANN_EXPORTS_HCCL_H

#include "hccl/hccl.h"

extern __typeof__(HcclCommInitClusterInfo) epx_cann_HcclCommInitClusterInfo;
extern __typeof__(HcclCommInitClusterInfoConfig) epx_cann_HcclCommInitClusterInfoConfig;
extern __typeof__(HcclCommInitAll) epx_cann_HcclCommInitAll;
extern __typeof__(HcclGetRootInfo) epx_cann_HcclGetRootInfo;
extern __typeof__(HcclCommInitRootInfo) epx_cann_HcclCommInitRootInfo;
extern __typeof__(HcclCommInitRootInfoConfig) epx_cann_HcclCommInitRootInfoConfig;
extern __typeof__(HcclCreateSubCommConfig) epx_cann_HcclCreateSubCommConfig;
extern __typeof__(HcclCommDestroy) epx_cann_HcclCommDestroy;
extern __typeof__(HcclGetCommName) epx_cann_HcclGetCommName;
extern __typeof__(HcclGetRankId) epx_cann_HcclGetRankId;
extern __typeof__(HcclGetRankSize) epx_cann_HcclGetRankSize;
extern __typeof__(HcclCommGetHandleWithName) epx_cann_HcclCommGetHandleWithName;
extern __typeof__(HcclGetCommAsyncError) epx_cann_HcclGetCommAsyncError;
extern __typeof__(HcclCommGetStatus) epx_cann_HcclCommGetStatus;
extern __typeof__(HcclGetErrorString) epx_cann_HcclGetErrorString;
extern __typeof__(HcclGetCommConfigCapability) epx_cann_HcclGetCommConfigCapability;
extern __typeof__(HcclSetConfig) epx_cann_HcclSetConfig;
extern __typeof__(HcclGetConfig) epx_cann_HcclGetConfig;
extern __typeof__(HcclBarrier) epx_cann_HcclBarrier;

#endif
