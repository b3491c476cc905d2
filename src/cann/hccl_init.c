/*
 * The hccl functions that make communicators.
 */
#include "cann/acl_state.h"
#include "cann/exports_hccl.h"
#include "cann/hccl_config.h"
#include "cann/hccl_create.h"
#include "cann/product.h"
#include "cann/root_info.h"
#include "comm/meeting.h"
#include "comm/rank_table.h"

#include <inttypes.h>
#include <stdio.h>

#define TABLE_GROUP_NAME "hccl_world_group"
#define TABLE_WAIT_MS    (30 * 60 * 1000) /* for a table whose status is "initializing" */

/* ---- Rank table -------------------------------------------------------------------------------------------------- */

/* Equal servers whose ranks are consecutive have a size; others have 0. */
static uint32_t table_server_rank_count(const struct epx_rank_table *table)
{
    const uint32_t size = table->servers[0].rank_count;
    for (uint32_t s = 0; s < table->server_count; s++) {
        if (table->servers[s].rank_count != size || table->servers[s].first_rank != s * size) {
            return 0;
        }
    }
    return size;
}

static enum epx_status table_check_devices(const struct epx_rank_table *table, const char *path)
{
    uint32_t device_max;
    EPX_TRY(epx_product_device_id_max(&device_max));
    for (uint32_t rank = 0; rank < table->rank_count; rank++) {
        if (table->ranks[rank].device_id > device_max) {
            return epx_fail(EPX_ERR_RANK_TABLE,
                            "%s: device_id of rank %" PRIu32 " is %" PRIu32 ", must be in [0, %" PRIu32 "]", path, rank,
                            table->ranks[rank].device_id, device_max);
        }
    }
    return EPX_OK;
}

static enum epx_status table_load(const char *path, struct epx_rank_table *table)
{
    EPX_TRY(epx_rank_table_load(path, TABLE_WAIT_MS, table));
    enum epx_status status = table_check_devices(table, path);
    if (status != EPX_OK) {
        epx_rank_table_fini(table);
    }
    return status;
}

/* Whatever is wrong with a table is one code to the caller; the text says what. */
static HcclResult refuse_table(enum epx_status status)
{
    const bool is_table = status == EPX_ERR_FILE || status == EPX_ERR_SYNTAX || status == EPX_ERR_RANK_TABLE ||
                          status == EPX_ERR_UNSUPPORTED;
    return is_table ? epx_hccl_refuse_as(HCCL_E_INTERNAL) : epx_hccl_refuse(status);
}

static HcclResult refuse_device(const char *path, const struct epx_hccl_creation *creation, uint32_t device,
                                int32_t number)
{
    char shown[64] = "";
    if (number != creation->device) {
        snprintf(shown, sizeof shown, ", number %" PRId32 " of ASCEND_RT_VISIBLE_DEVICES", number);
    }
    (void)epx_fail(EPX_ERR_STATE, "%s gives rank %" PRIu32 " device %" PRIu32 ", the current device is %" PRId32 "%s",
                   path, creation->rank, device, creation->device, shown);
    return epx_hccl_refuse_as(HCCL_E_UNAVAIL);
}

static HcclResult join_table(const struct epx_rank_table *table, const char *path, struct epx_hccl_creation *creation,
                             HcclComm *comm)
{
    if (creation->rank >= table->rank_count) {
        return epx_hccl_refuse(epx_fail(EPX_ERR_INVALID,
                                        "rank is %" PRIu32 ", must be in [0, %" PRIu32 "), the ranks of %s",
                                        creation->rank, table->rank_count, path));
    }
    const uint32_t device = table->ranks[creation->rank].device_id;
    int32_t number;
    enum epx_status status = epx_cann_device_number(creation->device, &number);
    if (status != EPX_OK) {
        return epx_hccl_refuse(status);
    }
    if ((int64_t)device != number) {
        return refuse_device(path, creation, device, number);
    }
    epx_hccl_key("table", table->digest, sizeof table->digest, creation->key);
    creation->rank_count = table->rank_count;
    creation->server_rank_count = table_server_rank_count(table);
    struct epx_meeting meeting;
    bool meets;
    status = epx_meeting_choose(table, &meeting, &meets);
    if (status == EPX_OK) {
        creation->meeting = meets ? &meeting : NULL;
        status = epx_hccl_create(creation, comm);
        creation->meeting = NULL;
    }
    return epx_hccl_answer(status);
}

static HcclResult init_cluster(const char *path, uint32_t rank, const HcclCommConfig *config, HcclComm *comm)
{
    if (!path) {
        return epx_hccl_refuse_null("clusterInfo");
    }
    if (!comm) {
        return epx_hccl_refuse_null("comm");
    }
    char what[EPX_ERROR_TEXT_BYTES / 2];
    snprintf(what, sizeof what, "rank table %s", path);
    struct epx_hccl_creation creation = {.name = TABLE_GROUP_NAME, .rank = rank, .what = what};
    if (epx_cann_current_device(&creation.device) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_RUNTIME);
    }
    enum epx_status status = epx_hccl_choice_read(config, &creation.choice);
    if (status != EPX_OK) {
        return epx_hccl_refuse(status);
    }
    struct epx_rank_table table;
    status = table_load(path, &table);
    if (status != EPX_OK) {
        return refuse_table(status);
    }
    HcclResult result = join_table(&table, path, &creation, comm);
    epx_rank_table_fini(&table);
    return result;
}

HcclResult epx_cann_HcclCommInitClusterInfo(const char *clusterInfo, uint32_t rank, HcclComm *comm)
{
    return init_cluster(clusterInfo, rank, NULL, comm);
}

HcclResult epx_cann_HcclCommInitClusterInfoConfig(const char *clusterInfo, uint32_t rank, HcclCommConfig *config,
                                                  HcclComm *comm)
{
    return config ? init_cluster(clusterInfo, rank, config, comm) : epx_hccl_refuse_null("config");
}

/* ---- Root information -------------------------------------------------------------------------------------------- */

HcclResult epx_cann_HcclGetRootInfo(HcclRootInfo *rootInfo)
{
    int32_t device;
    struct epx_root_info info;
    if (!rootInfo) {
        return epx_hccl_refuse_null("rootInfo");
    }
    if (epx_cann_current_device(&device) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_RUNTIME);
    }
    enum epx_status status = epx_root_info_create(device, false, &info);
    if (status != EPX_OK) {
        return epx_hccl_refuse(status);
    }
    epx_root_info_pack(&info, rootInfo);
    return HCCL_SUCCESS;
}

static HcclResult init_root(uint32_t rank_count, const HcclRootInfo *bytes, uint32_t rank, const HcclCommConfig *config,
                            HcclComm *comm)
{
    if (!bytes) {
        return epx_hccl_refuse_null("rootInfo");
    }
    if (!comm) {
        return epx_hccl_refuse_null("comm");
    }
    struct epx_root_info info;
    struct epx_hccl_creation creation = {.rank = rank, .rank_count = rank_count};
    enum epx_status status = epx_hccl_check_world(rank_count, rank, "nRanks");
    if (status == EPX_OK) {
        status = epx_root_info_unpack(bytes, &info);
    }
    if (status != EPX_OK) {
        return epx_hccl_refuse(status);
    }
    if (epx_cann_current_device(&creation.device) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_RUNTIME);
    }
    status = epx_hccl_choice_read(config, &creation.choice);
    if (status == EPX_OK) {
        status = epx_hccl_join_root(&creation, &info, comm);
    }
    return epx_hccl_answer(status);
}

HcclResult epx_cann_HcclCommInitRootInfo(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank, HcclComm *comm)
{
    return init_root(nRanks, rootInfo, rank, NULL, comm);
}

HcclResult epx_cann_HcclCommInitRootInfoConfig(uint32_t nRanks, const HcclRootInfo *rootInfo, uint32_t rank,
                                               const HcclCommConfig *config, HcclComm *comm)
{
    return config ? init_root(nRanks, rootInfo, rank, config, comm) : epx_hccl_refuse_null("config");
}
