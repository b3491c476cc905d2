/*
 * libhccl: communicators. Forwards into libepx.
 */
#include "cann/exports_hccl.h"

HcclResult HcclCommInitClusterInfo(const char *clusterInfo, uint32_t rank, HcclComm *comm)
{
    return epx_cann_HcclCommInitClusterInfo(clusterInfo, rank, comm);
}

HcclResult HcclCommInitClusterInfoConfig(const char *clusterInfo, uint32_t rank, HcclCommConfig *config, HcclComm *comm)
{
    return epx_cann_HcclCommInitClusterInfoConfig(clusterInfo, rank, config, comm);
}

HcclResult HcclCommInitAll(uint32_t ndev, int32_t *devices, HcclComm *comms)
{
    return epx_cann_HcclCommInitAll(ndev, devices, comms);
}

HcclResult HcclGetRootInfo(HcclRootInfo *rootInfo)
{
    return epx_cann_HcclGetRootInfo(rootInfo);
}

HcclResult HcclCommInitRootInfo(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank, HcclComm *comm)
{
    return epx_cann_HcclCommInitRootInfo(nRanks, rootInfo, rank, comm);
}

HcclResult HcclCommInitRootInfoConfig(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank,
                                      const HcclCommConfig *config, HcclComm *comm)
{
    return epx_cann_HcclCommInitRootInfoConfig(nRanks, rootInfo, rank, config, comm);
}

HcclResult HcclCreateSubCommConfig(HcclComm *comm, uint32_t rankNum, uint32_t *rankIds, uint64_t subCommId,
                                   uint32_t subCommRankId, HcclCommConfig *config, HcclComm *subComm)
{
    return epx_cann_HcclCreateSubCommConfig(comm, rankNum, rankIds, subCommId, subCommRankId, config, subComm);
}

HcclResult HcclCommDestroy(HcclComm comm)
{
    return epx_cann_HcclCommDestroy(comm);
}

HcclResult HcclGetCommName(HcclComm comm, char *commName)
{
    return epx_cann_HcclGetCommName(comm, commName);
}

HcclResult HcclGetRankId(HcclComm comm, uint32_t *rank)
{
    return epx_cann_HcclGetRankId(comm, rank);
}

HcclResult HcclGetRankSize(HcclComm comm, uint32_t *rankSize)
{
    return epx_cann_HcclGetRankSize(comm, rankSize);
}

HcclResult HcclCommGetHandleWithName(const char *commName, HcclComm *comm)
{
    return epx_cann_HcclCommGetHandleWithName(commName, comm);
}

HcclResult HcclGetCommAsyncError(HcclComm comm, HcclResult *asyncError)
{
    return epx_cann_HcclGetCommAsyncError(comm, asyncError);
}

HcclResult HcclCommGetStatus(HcclComm comm, HcclCommStatus *status)
{
    return epx_cann_HcclCommGetStatus(comm, status);
}

const char *HcclGetErrorString(HcclResult code)
{
    return epx_cann_HcclGetErrorString(code);
}

uint32_t HcclGetCommConfigCapability(void)
{
    return epx_cann_HcclGetCommConfigCapability();
}

HcclResult HcclSetConfig(HcclConfig config, HcclConfigValue configValue)
{
    return epx_cann_HcclSetConfig(config, configValue);
}

HcclResult HcclGetConfig(HcclConfig config, HcclConfigValue *configValue)
{
    return epx_cann_HcclGetConfig(config, configValue);
}

HcclResult HcclBarrier(HcclComm comm, aclrtStream stream)
{
    return epx_cann_HcclBarrier(comm, stream);
}
