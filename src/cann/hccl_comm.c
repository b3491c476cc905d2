/*
 * The hccl functions on a communicator that exists, and those that need none.
 */
#include "cann/acl_state.h"
#include "cann/collective.h"
#include "cann/exports_hccl.h"
#include "cann/hccl_create.h"
#include "cann/hccl_registry.h"
#include "cann/hccl_state.h"
#include "cann/status_map.h"

#include "base/log.h"
#include "comm/completion.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int32_t deterministic_choice;

/* Holds the communicator of a call whose other pointer is `out`; else *held stays null. Not null and unknown are
 * different codes. */
static HcclResult begin(HcclComm comm, const void *out, const char *out_name, const struct epx_cann_comm **held)
{
    if (!comm) {
        return epx_hccl_refuse_null("comm");
    }
    if (!out) {
        return epx_hccl_refuse_null(out_name);
    }
    return epx_hccl_registry_acquire(comm, held) == EPX_OK ? HCCL_SUCCESS : epx_hccl_refuse_as(HCCL_E_PARA);
}

HcclResult epx_cann_HcclGetCommName(HcclComm comm, char *commName)
{
    const struct epx_cann_comm *held = NULL;
    HcclResult result = begin(comm, commName, "commName", &held);
    if (held) {
        const char *name = epx_comm_name(held->comm);
        memcpy(commName, name, strlen(name) + 1);
        epx_cann_comm_release(held);
    }
    return result;
}

HcclResult epx_cann_HcclGetRankId(HcclComm comm, uint32_t *rank)
{
    const struct epx_cann_comm *held = NULL;
    HcclResult result = begin(comm, rank, "rank", &held);
    if (held) {
        *rank = epx_comm_rank(held->comm);
        epx_cann_comm_release(held);
    }
    return result;
}

HcclResult epx_cann_HcclGetRankSize(HcclComm comm, uint32_t *rankSize)
{
    const struct epx_cann_comm *held = NULL;
    HcclResult result = begin(comm, rankSize, "rankSize", &held);
    if (held) {
        *rankSize = epx_comm_rank_count(held->comm);
        epx_cann_comm_release(held);
    }
    return result;
}

HcclResult epx_cann_HcclGetCommAsyncError(HcclComm comm, HcclResult *asyncError)
{
    const struct epx_cann_comm *held = NULL;
    HcclResult result = begin(comm, asyncError, "asyncError", &held);
    if (held) {
        *asyncError = epx_cann_hccl_result(epx_comm_failure(held->comm));
        epx_cann_comm_release(held);
    }
    return result;
}

HcclResult epx_cann_HcclCommGetStatus(HcclComm comm, HcclCommStatus *status)
{
    const struct epx_cann_comm *held = NULL;
    HcclResult result = begin(comm, status, "status", &held);
    if (held) {
        *status = epx_comm_failure(held->comm) == EPX_OK ? HCCL_COMM_STATUS_READY : HCCL_COMM_STATUS_INVALID;
        epx_cann_comm_release(held);
    }
    return result;
}

HcclResult epx_cann_HcclCommGetHandleWithName(const char *commName, HcclComm *comm)
{
    int32_t device;
    if (!commName) {
        return epx_hccl_refuse_null("commName");
    }
    if (!comm) {
        return epx_hccl_refuse_null("comm");
    }
    if (epx_cann_current_device(&device) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_RUNTIME);
    }
    return epx_hccl_registry_find(commName, device, comm) == EPX_OK ? HCCL_SUCCESS
                                                                    : epx_hccl_refuse_as(HCCL_E_NOT_FOUND);
}

HcclResult epx_cann_HcclCommDestroy(HcclComm comm)
{
    if (!comm) {
        epx_log(EPX_LOG_WARN, "HcclCommDestroy: comm is null");
        return HCCL_SUCCESS;
    }
    enum epx_status status = epx_hccl_registry_destroy(comm);
    if (status == EPX_OK) {
        return HCCL_SUCCESS;
    }
    return status == EPX_ERR_STATE ? epx_hccl_refuse_as(HCCL_E_AGAIN) : epx_hccl_refuse_as(HCCL_E_PARA);
}

/* ---- Barrier ----------------------------------------------------------------------------------------------------- */

struct barrier {
    struct epx_cann_collective collective;
    uint64_t round;
};

static void barrier_reserve(void *context)
{
    struct barrier *barrier = context;
    barrier->round = epx_round_reserve(barrier->collective.comm->comm);
}

/* One step that all must come to: entering. No rank offers anything. */
static enum epx_status barrier_pass(const struct barrier *barrier)
{
    static const struct epx_agreement nothing_to_agree;
    static const struct epx_publication nothing_to_read;
    struct epx_round round;
    EPX_TRY(epx_round_begin(&round, barrier->collective.comm->comm, barrier->round, EPX_OPERATION_BARRIER));
    EPX_TRY(epx_round_enter(&round, &nothing_to_agree, NULL, 0, &nothing_to_read));
    epx_round_end(&round);
    return EPX_OK;
}

static bool barrier_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    *status = barrier_pass(context);
    return true;
}

static enum epx_status check_stream_device(aclrtStream handle, int32_t device)
{
    struct epx_stream *stream;
    int32_t stream_device;
    EPX_TRY(epx_cann_stream_acquire(handle, &stream, &stream_device));
    epx_cann_stream_release(stream);
    if (stream_device != device) {
        return epx_fail(EPX_ERR_INVALID, "stream is on device %" PRId32 ", the communicator on device %" PRId32,
                        stream_device, device);
    }
    return EPX_OK;
}

/* The hold on the communicator is the operation's once it is taken. */
static enum epx_status barrier_queue(const struct epx_cann_comm *held, aclrtStream stream, bool *taken)
{
    EPX_TRY(check_stream_device(stream, held->device));
    struct barrier *barrier = malloc(sizeof *barrier);
    if (!barrier) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to queue a barrier");
    }
    barrier->collective = (struct epx_cann_collective){
        .comm = held,
        .context = barrier,
        .reserve = barrier_reserve,
        .run = barrier_run,
        .until_ignored = true,
        .finish = free,
    };
    enum epx_status status = epx_cann_collective_submit(stream, &barrier->collective, taken);
    if (!*taken) {
        free(barrier);
    }
    return status;
}

HcclResult epx_cann_HcclBarrier(HcclComm comm, aclrtStream stream)
{
    const struct epx_cann_comm *held = NULL;
    bool taken = false;
    HcclResult result = begin(comm, stream, "stream", &held);
    if (!held) {
        return result;
    }
    enum epx_status status = barrier_queue(held, stream, &taken);
    if (!taken) {
        epx_cann_comm_release(held);
    }
    return status == EPX_ERR_NOT_FOUND ? epx_hccl_refuse_as(HCCL_E_PARA) : epx_hccl_answer(status);
}

/* ---- Without a communicator -------------------------------------------------------------------------------------- */

HcclResult epx_cann_HcclSetConfig(HcclConfig config, HcclConfigValue configValue)
{
    if (config != HCCL_DETERMINISTIC) {
        return epx_hccl_refuse(epx_fail(EPX_ERR_INVALID, "config is %d, must be HCCL_DETERMINISTIC", (int)config));
    }
    if (configValue.value < 0 || configValue.value > 2) {
        return epx_hccl_refuse(
            epx_fail(EPX_ERR_INVALID, "HCCL_DETERMINISTIC is %" PRId32 ", must be in [0, 2]", configValue.value));
    }
    atomic_store(&deterministic_choice, configValue.value);
    return HCCL_SUCCESS;
}

HcclResult epx_cann_HcclGetConfig(HcclConfig config, HcclConfigValue *configValue)
{
    if (!configValue) {
        return epx_hccl_refuse_null("configValue");
    }
    if (config != HCCL_DETERMINISTIC) {
        return epx_hccl_refuse(epx_fail(EPX_ERR_INVALID, "config is %d, must be HCCL_DETERMINISTIC", (int)config));
    }
    configValue->value = atomic_load(&deterministic_choice);
    return HCCL_SUCCESS;
}

uint32_t epx_cann_HcclGetCommConfigCapability(void)
{
    return HCCL_COMM_CONFIG_RESERVED;
}

const char *epx_cann_HcclGetErrorString(HcclResult code)
{
    static const char *const phrases[] = {
        [HCCL_SUCCESS] = "no error",
        [HCCL_E_PARA] = "parameter error",
        [HCCL_E_PTR] = "empty pointer",
        [HCCL_E_MEMORY] = "memory error",
        [HCCL_E_INTERNAL] = "internal error",
        [HCCL_E_NOT_SUPPORT] = "not support feature",
        [HCCL_E_NOT_FOUND] = "not found specific resource",
        [HCCL_E_UNAVAIL] = "resource unavailable",
        [HCCL_E_SYSCALL] = "call system interface error",
        [HCCL_E_TIMEOUT] = "timeout",
        [HCCL_E_OPEN_FILE_FAILURE] = "open file error",
        [HCCL_E_TCP_CONNECT] = "tcp connect error",
        [HCCL_E_ROCE_CONNECT] = "roce connect error",
        [HCCL_E_TCP_TRANSFER] = "tcp transfer error",
        [HCCL_E_ROCE_TRANSFER] = "roce transfer error",
        [HCCL_E_RUNTIME] = "runtime error",
        [HCCL_E_DRV] = "driver error",
        [HCCL_E_PROFILING] = "profiling error",
        [HCCL_E_CCE] = "cce error",
        [HCCL_E_NETWORK] = "network error",
        [HCCL_E_AGAIN] = "operation must be repeated",
        [HCCL_E_REMOTE] = "remote error",
        [HCCL_E_SUSPENDING] = "communicator suspending",
        [HCCL_E_OPRETRY_FAIL] = "operation retry failed",
        [HCCL_E_OOM] = "out of memory",
    };
    if ((int)code < 0 || (size_t)code >= sizeof phrases / sizeof phrases[0]) {
        return "unknown error";
    }
    return phrases[code];
}
