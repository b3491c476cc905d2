#include "cann/hccl_create.h"

#include "base/digest.h"
#include "cann/hccl_registry.h"
#include "cann/status_map.h"
#include "comm/census.h"
#include "comm/comm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DEVICES_OF_A_SERVER 8u

void epx_hccl_key(const char *kind, const void *bytes, size_t byte_count, uint8_t key[32])
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    epx_digest_update(&state, kind, strlen(kind) + 1);
    epx_digest_update(&state, bytes, byte_count);
    epx_digest_final(&state, key);
}

uint32_t epx_hccl_default_server_rank_count(uint32_t rank_count)
{
    return rank_count % DEVICES_OF_A_SERVER == 0 ? DEVICES_OF_A_SERVER : rank_count;
}

enum epx_status epx_hccl_create(const struct epx_hccl_creation *creation, HcclComm *comm)
{
    const struct epx_hccl_choice *choice = &creation->choice;
    if (choice->name[0] && epx_hccl_registry_has(choice->name, creation->rank, creation->device)) {
        return epx_fail(EPX_ERR_INVALID, "config.hcclCommName '%s' is the name of a communicator of device %" PRId32,
                        choice->name, creation->device);
    }
    struct epx_comm_spec spec = {
        .rank = creation->rank,
        .rank_count = creation->rank_count,
        .server_rank_count = creation->server_rank_count,
        .join_timeout_ms = choice->join_timeout_ms,
        .op_timeout_ms = choice->op_timeout_ms,
        .what = creation->what,
        .meeting = creation->meeting,
    };
    memcpy(spec.key, creation->key, sizeof spec.key);
    snprintf(spec.name, sizeof spec.name, "%s", choice->name[0] ? choice->name : creation->name);
    struct epx_cann_comm made = {
        .device = creation->device, .buffer_mib = choice->buffer_mib, .is_sub = creation->is_sub};
    memcpy(made.key, creation->key, sizeof made.key);
    EPX_TRY(epx_comm_open(&spec, &made.comm));
    enum epx_status status = epx_hccl_registry_add(&made, comm);
    if (status != EPX_OK) {
        enum epx_status ignored = epx_comm_close(made.comm); /* nothing has been queued on it */
        (void)ignored;
    }
    return status;
}

enum epx_status epx_hccl_join_root(struct epx_hccl_creation *creation, const struct epx_root_info *info, HcclComm *comm)
{
    char what[COMM_NAME_MAX_LENGTH + 16];
    snprintf(what, sizeof what, "root %s", info->name);
    epx_hccl_key("root", info->key, sizeof info->key, creation->key);
    creation->name = info->name;
    creation->what = what;
    creation->server_rank_count = epx_hccl_default_server_rank_count(creation->rank_count);
    struct epx_meeting meeting;
    creation->meeting = epx_root_info_meeting(info, &meeting) ? &meeting : NULL;
    enum epx_status status = epx_hccl_create(creation, comm);
    creation->meeting = NULL;
    return status;
}

enum epx_status epx_hccl_check_world(uint32_t rank_count, uint32_t rank, const char *count_name)
{
    if (rank_count == 0 || rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s is %" PRIu32 ", must be in [1, %u]", count_name, rank_count,
                        EPX_COMM_RANK_MAX);
    }
    if (rank >= rank_count) {
        return epx_fail(EPX_ERR_INVALID, "rank is %" PRIu32 ", must be in [0, %" PRIu32 ")", rank, rank_count);
    }
    return EPX_OK;
}

HcclResult epx_hccl_refuse(enum epx_status status)
{
    return (HcclResult)epx_cann_report((int)epx_cann_hccl_result(status), NULL);
}

HcclResult epx_hccl_refuse_as(HcclResult result)
{
    return (HcclResult)epx_cann_report((int)result, NULL);
}

HcclResult epx_hccl_refuse_null(const char *name)
{
    return epx_hccl_refuse(epx_fail(EPX_ERR_NULL, "%s is null", name));
}

HcclResult epx_hccl_answer(enum epx_status status)
{
    return status == EPX_OK ? HCCL_SUCCESS : epx_hccl_refuse(status);
}
