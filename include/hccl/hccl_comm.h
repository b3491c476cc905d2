/*
 * Communicators: groups of ranks that exchange tokens. A rank is a process or a thread.
 *
 * Functions that make a communicator are collective: they return when all ranks have come, or fail on all of them.
 * Errors that they share: 2 a pointer is null; 15 the calling thread has no current device; 1 a HCCL_ or EPX_ variable
 * of the environment has a bad value; 3 no memory; 8 a system call failed; 9 not all ranks came within
 * HCCL_CONNECT_TIMEOUT; 4 two ranks claim the same place or disagree on the world. aclGetRecentErrMsg has the text.
 * Outputs are set on success only.
 * Owner of a communicator: the program, until HcclCommDestroy.
 * Thread: any; one call at a time per communicator.
 * Source: public headers and interface pages of CANN 8.
 * Differs: none, unless stated.
 */
#ifndef HCCL_HCCL_COMM_H
#define HCCL_HCCL_COMM_H

#include "acl/acl.h"
#include "hccl/hccl_types.h"

#include <stdbool.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HCCL_API_ __attribute__((visibility("default")))

/*
 * Joins the world that a rank table describes, as rank `rank` of it. clusterInfo: path of the JSON file.
 * Errors: 4 the table cannot be read, is not JSON, or breaks a rule; 1 rank is not in the table; 7 the current device
 * is not the one that the table gives this rank (by its number in ASCEND_RT_VISIBLE_DEVICES, where that is set).
 * Differs: the table's addresses are checked for form and not dialled: all ranks are expected here.
 */
HCCL_API_ HcclResult HcclCommInitClusterInfo(const char *clusterInfo, uint32_t rank, HcclComm *comm);

/* The same with choices. Errors: also 1 for a bad value in config, or its name is taken in this process and device. */
HCCL_API_ HcclResult HcclCommInitClusterInfoConfig(const char *clusterInfo, uint32_t rank, HcclCommConfig *config,
                                                   HcclComm *comm);

/*
 * Makes all ranks in this process: comms[i] is rank i on devices[i]. Not collective.
 * Errors: 1 ndev is 0, a device is named twice or does not exist. On failure no communicator is left and every comms[i]
 * is null.
 */
HCCL_API_ HcclResult HcclCommInitAll(uint32_t ndev, int32_t *devices, HcclComm *comms);

/* Opens a meeting point for one communicator on this process; one rank calls, and hands the bytes to the others. */
HCCL_API_ HcclResult HcclGetRootInfo(HcclRootInfo *rootInfo);

/*
 * Joins the world of nRanks that meets at rootInfo, as rank `rank`.
 * Errors: 1 nRanks is 0, rank is not in [0, nRanks), or rootInfo is not what HcclGetRootInfo gave.
 */
HCCL_API_ HcclResult HcclCommInitRootInfo(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank, HcclComm *comm);

/* The same with choices. Errors: also 1 for a bad value in config, or its name is taken in this process and device. */
HCCL_API_ HcclResult HcclCommInitRootInfoConfig(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank,
                                                const HcclCommConfig *config, HcclComm *comm);

/*
 * Makes a communicator of some ranks of another; all ranks of *comm call. Rank subCommRankId of the new one is rank
 * rankIds[subCommRankId] of *comm. Ranks that are not in it pass rankIds null and subCommId 0xFFFFFFFF and get null.
 * Errors: 1 rankNum is 0 or larger than the world, an entry of rankIds is out of range or repeated, subCommRankId is
 * not in [0, rankNum), subCommId is in use, *comm is itself such a communicator, or a bad value in config.
 */
HCCL_API_ HcclResult HcclCreateSubCommConfig(HcclComm *comm, uint32_t rankNum, uint32_t *rankIds, uint64_t subCommId,
                                             uint32_t subCommRankId, HcclCommConfig *config, HcclComm *subComm);

/*
 * Leaves. Local, not collective: peers that still wait for this rank are told.
 * comm: null succeeds with a warning.
 * Errors: 1 it is no communicator or has been destroyed; 20 operations of it are queued.
 */
HCCL_API_ HcclResult HcclCommDestroy(HcclComm comm);

/* Writes the name, at most COMM_NAME_MAX_LENGTH bytes with the terminating NUL. Errors: 2 a pointer is null; 1 comm is
 * none. */
HCCL_API_ HcclResult HcclGetCommName(HcclComm comm, char *commName);

/* This rank, and the number of ranks. Errors: 2 a pointer is null; 1 comm is none. */
HCCL_API_ HcclResult HcclGetRankId(HcclComm comm, uint32_t *rank);
HCCL_API_ HcclResult HcclGetRankSize(HcclComm comm, uint32_t *rankSize);

/* The communicator of this name on the current device. Errors: 2 a pointer is null; 6 there is none; 15 the
 * calling thread has no current device. */
HCCL_API_ HcclResult HcclCommGetHandleWithName(const char *commName, HcclComm *comm);

/* What the communicator's first failed operation failed with, 0 for none. Errors: 2 a pointer is null; 1 comm is none.
 */
HCCL_API_ HcclResult HcclGetCommAsyncError(HcclComm comm, HcclResult *asyncError);

/* READY, or INVALID after a failed operation. Errors: 2 a pointer is null; 1 comm is none. */
HCCL_API_ HcclResult HcclCommGetStatus(HcclComm comm, HcclCommStatus *status);

/* A phrase for a code, "unknown error" for any other number. Owner: the library, for ever. */
HCCL_API_ const char *HcclGetErrorString(HcclResult code);

/* How many of HcclCommConfigCapability are known: HCCL_COMM_CONFIG_RESERVED. */
HCCL_API_ uint32_t HcclGetCommConfigCapability(void);

/* Process-wide choices. HCCL_DETERMINISTIC takes 0, 1 or 2; results here never vary. Errors: 1 config or its value is
 * unknown; 2 configValue is null. */
HCCL_API_ HcclResult HcclSetConfig(HcclConfig config, HcclConfigValue configValue);
HCCL_API_ HcclResult HcclGetConfig(HcclConfig config, HcclConfigValue *configValue);

/* Fills a configuration with "as the environment says". Null is allowed. */
static inline void HcclCommConfigInit(HcclCommConfig *config)
{
    HcclCommConfigHead head;

    if (config == NULL) {
        return;
    }
    memset(config, 0, sizeof(*config));
    head.configSize = sizeof(*config);
    head.magicWord = HCCL_COMM_CONFIG_MAGIC_WORD;
    head.version = HCCL_COMM_CONFIG_VERSION;
    head.pad = 0;
    memcpy(config->reserved, &head, sizeof(head));
    config->hcclBufferSize = HCCL_COMM_BUFFSIZE_CONFIG_NOT_SET;
    config->hcclDeterministic = HCCL_COMM_DETERMINISTIC_CONFIG_NOT_SET;
    config->hcclOpExpansionMode = HCCL_COMM_DEFAULT_OP_EXPANSION_MODE;
    config->hcclRdmaTrafficClass = HCCL_COMM_TRAFFIC_CLASS_CONFIG_NOT_SET;
    config->hcclRdmaServiceLevel = HCCL_COMM_SERVICE_LEVEL_CONFIG_NOT_SET;
    config->hcclExecTimeOut = HCCL_COMM_EXECTIMEOUT_CONFIG_NOT_SET;
    config->hcclQos = HCCL_COMM_QOS_CONFIG_NOT_SET;
}

#ifdef __cplusplus
}
#endif

#endif
