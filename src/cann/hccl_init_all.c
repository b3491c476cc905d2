/*
 * HcclCommInitAll: all ranks of a world in one process, each joined by a thread of its own.
 */
#include "base/thread.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/exports_hccl.h"
#include "cann/hccl_create.h"
#include "cann/hccl_registry.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE_STACK_BYTES (512u << 10)

struct all_ranks {
    struct epx_root_info info;
    struct epx_hccl_choice choice;
    uint32_t rank_count;
    pthread_mutex_t gate; /* held until it is known whether every thread could be started */
    bool cancelled;
};

struct one_rank {
    struct all_ranks *all;
    uint32_t rank;
    int32_t device;
    pthread_t thread;
    HcclComm comm;
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

static void *rank_thread(void *context)
{
    struct one_rank *one = context;
    pthread_mutex_lock(&one->all->gate);
    const bool cancelled = one->all->cancelled;
    pthread_mutex_unlock(&one->all->gate);
    if (cancelled) {
        return NULL;
    }
    struct epx_hccl_creation creation = {
        .rank = one->rank, .rank_count = one->all->rank_count, .device = one->device, .choice = one->all->choice};
    one->status = epx_hccl_join_root(&creation, &one->all->info, &one->comm);
    if (one->status != EPX_OK) {
        snprintf(one->text, sizeof one->text, "%s", epx_error_text());
    }
    return NULL;
}

/* Returns how many were started; *error says why not all. */
static uint32_t start_threads(struct one_rank *ranks, uint32_t rank_count, int *error)
{
    uint32_t started = 0;
    *error = 0;
    while (started < rank_count && *error == 0) {
        *error = epx_thread_start(&ranks[started].thread, CREATE_STACK_BYTES, rank_thread, &ranks[started]);
        started += *error == 0;
    }
    return started;
}

/* The first, unless another is the reason why it waited in vain. */
static enum epx_status first_failure(const struct one_rank *ranks, uint32_t rank_count)
{
    enum epx_status status = EPX_OK;
    for (uint32_t i = 0; i < rank_count && (status == EPX_OK || status == EPX_ERR_JOIN_TIMEOUT); i++) {
        if (ranks[i].status != EPX_OK && (status == EPX_OK || ranks[i].status != EPX_ERR_JOIN_TIMEOUT)) {
            epx_error_text_set(ranks[i].text);
            status = ranks[i].status;
        }
    }
    return status;
}

static enum epx_status join_all(struct all_ranks *all, struct one_rank *ranks)
{
    pthread_mutex_lock(&all->gate);
    int error;
    const uint32_t started = start_threads(ranks, all->rank_count, &error);
    all->cancelled = started < all->rank_count;
    pthread_mutex_unlock(&all->gate);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
    if (all->cancelled) {
        return epx_fail_errno(epx_status_of_thread_error(error), error,
                              "only %" PRIu32 " of %" PRIu32 " threads could be started", started, all->rank_count);
    }
    enum epx_status status = first_failure(ranks, all->rank_count);
    for (uint32_t i = 0; status != EPX_OK && i < all->rank_count; i++) {
        if (ranks[i].comm) {
            char text[EPX_ERROR_TEXT_BYTES];
            snprintf(text, sizeof text, "%s", epx_error_text());
            enum epx_status ignored = epx_hccl_registry_destroy(ranks[i].comm);
            (void)ignored;
            epx_error_text_set(text);
        }
    }
    return status;
}

static enum epx_status check_devices(uint32_t count, const int32_t *devices)
{
    uint32_t device_count;
    if (epx_cann_aclrtGetDeviceCount(&device_count) != ACL_SUCCESS) {
        return EPX_ERR_INVALID; /* with its text */
    }
    for (uint32_t i = 0; i < count; i++) {
        if (devices[i] < 0 || (uint32_t)devices[i] >= device_count) {
            return epx_fail(EPX_ERR_INVALID, "devices[%" PRIu32 "] is %" PRId32 ", must be in [0, %" PRIu32 ")", i,
                            devices[i], device_count);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (devices[j] == devices[i]) {
                return epx_fail(EPX_ERR_INVALID, "devices[%" PRIu32 "] and devices[%" PRIu32 "] are both %" PRId32, j,
                                i, devices[i]);
            }
        }
    }
    return EPX_OK;
}

static enum epx_status init_all(uint32_t count, const int32_t *devices, int32_t root_device, HcclComm *comms)
{
    struct all_ranks all = {.rank_count = count, .gate = PTHREAD_MUTEX_INITIALIZER};
    EPX_TRY(check_devices(count, devices));
    EPX_TRY(epx_hccl_choice_read(NULL, &all.choice));
    EPX_TRY(epx_root_info_create(root_device, true, &all.info));
    struct one_rank *ranks = calloc(count, sizeof *ranks);
    if (!ranks) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for %" PRIu32 " ranks", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        ranks[i].all = &all;
        ranks[i].rank = i;
        ranks[i].device = devices[i];
    }
    enum epx_status status = join_all(&all, ranks);
    for (uint32_t i = 0; status == EPX_OK && i < count; i++) {
        comms[i] = ranks[i].comm;
    }
    free(ranks);
    return status;
}

HcclResult epx_cann_HcclCommInitAll(uint32_t ndev, int32_t *devices, HcclComm *comms)
{
    int32_t device;
    if (!devices) {
        return epx_hccl_refuse_null("devices");
    }
    if (!comms) {
        return epx_hccl_refuse_null("comms");
    }
    enum epx_status status = epx_hccl_check_world(ndev, 0, "ndev");
    if (status != EPX_OK) {
        return epx_hccl_refuse(status);
    }
    memset(comms, 0, ndev * sizeof *comms);
    if (epx_cann_current_device(&device) != EPX_OK) {
        return epx_hccl_refuse_as(HCCL_E_RUNTIME);
    }
    return epx_hccl_answer(init_all(ndev, devices, device, comms));
}
