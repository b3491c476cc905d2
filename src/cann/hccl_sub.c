/*
 * HcclCreateSubCommConfig: a communicator of some ranks of another.
 */
#include "cann/exports_hccl.h"
#include "cann/hccl_create.h"
#include "cann/hccl_registry.h"
#include "cann/hccl_state.h"
#include "comm/census.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SUB_OF_NONE 0xFFFFFFFFu /* subCommId of ranks that are not in the sub-communicator */

struct sub_request {
    uint32_t rank_count;
    const uint32_t *ranks; /* of the parent */
    uint64_t id;
    uint32_t rank;
};

static enum epx_status sub_check(const struct epx_cann_comm *parent, const struct sub_request *sub)
{
    const uint32_t parent_count = epx_comm_rank_count(parent->comm);
    if (parent->is_sub) {
        return epx_fail(EPX_ERR_INVALID, "communicator '%s' is a sub-communicator itself", epx_comm_name(parent->comm));
    }
    if (sub->rank_count == 0 || sub->rank_count > parent_count) {
        return epx_fail(EPX_ERR_INVALID, "rankNum is %" PRIu32 ", must be in [1, %" PRIu32 "]", sub->rank_count,
                        parent_count);
    }
    if (sub->rank >= sub->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "subCommRankId is %" PRIu32 ", must be in [0, %" PRIu32 ")", sub->rank,
                        sub->rank_count);
    }
    for (uint32_t i = 0; i < sub->rank_count; i++) {
        if (sub->ranks[i] >= parent_count) {
            return epx_fail(EPX_ERR_INVALID, "rankIds[%" PRIu32 "] is %" PRIu32 ", must be in [0, %" PRIu32 ")", i,
                            sub->ranks[i], parent_count);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (sub->ranks[j] == sub->ranks[i]) {
                return epx_fail(EPX_ERR_INVALID, "rankIds[%" PRIu32 "] and rankIds[%" PRIu32 "] are both %" PRIu32, j,
                                i, sub->ranks[i]);
            }
        }
    }
    if (sub->ranks[sub->rank] != epx_comm_rank(parent->comm)) {
        return epx_fail(EPX_ERR_INVALID, "rankIds[%" PRIu32 "] is %" PRIu32 ", must be this rank, %" PRIu32, sub->rank,
                        sub->ranks[sub->rank], epx_comm_rank(parent->comm));
    }
    return EPX_OK;
}

/* Equal shares of consecutive ranks in each of the parent's servers have a size; others have 0. */
static uint32_t sub_server_rank_count(const struct sub_request *sub, uint32_t parent_size)
{
    uint32_t size = 1; /* rank 0 of the list is on its own server */
    if (parent_size == 0) {
        return 0;
    }
    while (size < sub->rank_count && sub->ranks[size] / parent_size == sub->ranks[0] / parent_size) {
        size++;
    }
    for (uint32_t i = 0; i < sub->rank_count; i++) {
        const bool is_first = i % size == 0;
        const uint32_t server = sub->ranks[i] / parent_size;
        if (i > 0 && (server == sub->ranks[i - 1] / parent_size) == is_first) {
            return 0;
        }
    }
    return sub->rank_count % size == 0 ? size : 0;
}

static void sub_key(const struct epx_cann_comm *parent, const struct sub_request *sub, uint8_t key[32])
{
    uint8_t members[32];
    struct {
        uint8_t parent[32];
        uint8_t members[32];
        uint64_t id;
    } identity;
    epx_hccl_key("members", sub->ranks, sub->rank_count * sizeof *sub->ranks, members);
    memset(&identity, 0, sizeof identity);
    memcpy(identity.parent, parent->key, sizeof identity.parent);
    memcpy(identity.members, members, sizeof identity.members);
    identity.id = sub->id;
    epx_hccl_key("sub", &identity, sizeof identity, key);
}

static enum epx_status sub_create(HcclComm handle, const struct epx_cann_comm *parent, const struct sub_request *sub,
                                  const HcclCommConfig *config, HcclComm *comm)
{
    struct epx_hccl_creation creation = {
        .rank = sub->rank, .rank_count = sub->rank_count, .device = parent->device, .is_sub = true};
    EPX_TRY(sub_check(parent, sub));
    EPX_TRY(epx_hccl_choice_read(config, &creation.choice));
    char name[COMM_NAME_MAX_LENGTH];
    const int length = snprintf(name, sizeof name, "%s_sub_%" PRIu64, epx_comm_name(parent->comm), sub->id);
    if (length >= (int)sizeof name && creation.choice.name[0] == '\0') {
        return epx_fail(EPX_ERR_INVALID,
                        "the name '%.64s..._sub_%" PRIu64 "' is too long, give one in config.hcclCommName",
                        epx_comm_name(parent->comm), sub->id);
    }
    creation.name = name;
    creation.what = name;
    creation.server_rank_count = sub_server_rank_count(sub, epx_comm_server_rank_count(parent->comm));
    sub_key(parent, sub, creation.key);
    struct epx_meeting meeting;
    bool meets;
    EPX_TRY(epx_comm_sub_meeting(parent->comm, sub->ranks, sub->rank_count, &meeting, &meets));
    creation.meeting = meets ? &meeting : NULL;
    EPX_TRY(epx_hccl_registry_claim_sub(handle, sub->id));
    enum epx_status status = epx_hccl_create(&creation, comm);
    if (status != EPX_OK) {
        epx_hccl_registry_unclaim_sub(handle, sub->id);
    }
    return status;
}

HcclResult epx_cann_HcclCreateSubCommConfig(HcclComm *comm, uint32_t rankNum, uint32_t *rankIds, uint64_t subCommId,
                                            uint32_t subCommRankId, HcclCommConfig *config, HcclComm *subComm)
{
    if (!comm || !*comm) {
        return epx_hccl_refuse_null("comm");
    }
    if (!config) {
        return epx_hccl_refuse_null("config");
    }
    if (!subComm) {
        return epx_hccl_refuse_null("subComm");
    }
    if (!rankIds && subCommId != SUB_OF_NONE) {
        return epx_hccl_refuse_null("rankIds");
    }
    const struct epx_cann_comm *parent;
    if (epx_hccl_registry_acquire(*comm, &parent) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_PARA);
    }
    enum epx_status status = EPX_OK;
    HcclComm created = NULL;
    if (rankIds) {
        const struct sub_request sub = {
            .rank_count = rankNum, .ranks = rankIds, .id = subCommId, .rank = subCommRankId};
        status = sub_create(*comm, parent, &sub, config, &created);
    }
    epx_cann_comm_release(parent);
    if (status == EPX_OK) {
        *subComm = created;
    }
    return epx_hccl_answer(status);
}
