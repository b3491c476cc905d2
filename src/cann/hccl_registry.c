#include "cann/hccl_registry.h"

#include "cann/acl_state.h"
#include "cann/hccl_state.h"
#include "cann/moe_plan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_BASE  0x45500000u /* handles look like addresses of nothing: base + 64 * serial */
#define LISTED_NAMES 4           /* communicators named in a message */

struct epx_hccl_sub {
    uint64_t id;
    struct epx_hccl_sub *next;
};

struct epx_hccl_node {
    struct epx_hccl_entry entry;
    uint64_t serial;
    uint32_t holds;
    struct epx_hccl_sub *subs; /* numbers of sub-communicators made from it */
    struct epx_hccl_node *next;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static struct epx_hccl_node *registry_newest;
static uint64_t registry_serial;

/* The child of a fork has no communicators; what the parent's were is left alone. */
static void forget_in_child(void)
{
    pthread_mutex_init(&registry_lock, NULL);
    registry_newest = NULL;
    epx_cann_plans_reset_after_fork(); /* there is none without a communicator */
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

static HcclComm handle_of(uint64_t serial)
{
    return (HcclComm)(uintptr_t)(HANDLE_BASE + 64 * serial);
}

static struct epx_hccl_node *node_of_handle(HcclComm handle)
{
    struct epx_hccl_node *node = registry_newest;
    while (node && handle_of(node->serial) != handle) {
        node = node->next;
    }
    return node;
}

static struct epx_hccl_node *node_of_comm(const struct epx_comm *comm)
{
    struct epx_hccl_node *node = registry_newest;
    while (node && node->entry.comm != comm) {
        node = node->next;
    }
    return node;
}

static bool node_is(const struct epx_hccl_node *node, const char *name, int64_t rank)
{
    return (int64_t)epx_comm_rank(node->entry.comm) == rank && strcmp(epx_comm_name(node->entry.comm), name) == 0;
}

/* Ranks share names and devices: the exact device first, the newest first. A negative device means none is current. */
static struct epx_hccl_node *node_of_group(const char *name, int64_t rank, int32_t device)
{
    struct epx_hccl_node *elsewhere = NULL;
    for (struct epx_hccl_node *node = registry_newest; node; node = node->next) {
        if (!node_is(node, name, rank)) {
            continue;
        }
        if (node->entry.device == device) {
            return node;
        }
        elsewhere = elsewhere ? elsewhere : node;
    }
    return elsewhere;
}

static void node_free(struct epx_hccl_node *node)
{
    for (struct epx_hccl_sub *sub = node->subs; sub;) {
        struct epx_hccl_sub *next = sub->next;
        free(sub);
        sub = next;
    }
    free(node);
}

/* "'a' rank 0 on device 0, 'b' ..." for the message that one was not found. */
static void list_nodes(char *text, size_t text_bytes)
{
    size_t used = 0;
    uint32_t listed = 0;
    text[0] = '\0';
    for (const struct epx_hccl_node *node = registry_newest; node && used < text_bytes; node = node->next) {
        if (++listed > LISTED_NAMES) {
            snprintf(text + used, text_bytes - used, ", ...");
            return;
        }
        int bytes =
            snprintf(text + used, text_bytes - used, "%s'%.64s' rank %" PRIu32 " on device %" PRId32, used ? ", " : "",
                     epx_comm_name(node->entry.comm), epx_comm_rank(node->entry.comm), node->entry.device);
        used += bytes > 0 ? (size_t)bytes : 0;
    }
    if (listed == 0) {
        snprintf(text, text_bytes, "none");
    }
}

static enum epx_status not_a_handle(HcclComm handle)
{
    return epx_fail(EPX_ERR_NOT_FOUND, "%p is no communicator of this process, or has been destroyed", handle);
}

enum epx_status epx_hccl_registry_add(const struct epx_hccl_entry *entry, HcclComm *handle)
{
    pthread_once(&registry_once, watch_forks);
    struct epx_hccl_node *node = calloc(1, sizeof *node);
    if (!node) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator's handle");
    }
    node->entry = *entry;
    pthread_mutex_lock(&registry_lock);
    node->serial = ++registry_serial;
    node->next = registry_newest;
    registry_newest = node;
    *handle = handle_of(node->serial); /* from here on anybody may destroy it */
    pthread_mutex_unlock(&registry_lock);
    return EPX_OK;
}

enum epx_status epx_hccl_registry_acquire(HcclComm handle, struct epx_hccl_entry *entry)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_handle(handle);
    if (node) {
        node->holds++;
        *entry = node->entry;
    }
    pthread_mutex_unlock(&registry_lock);
    return node ? EPX_OK : not_a_handle(handle);
}

enum epx_status epx_hccl_registry_find(const char *name, int32_t device, HcclComm *handle)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = registry_newest;
    while (node && (node->entry.device != device || strcmp(epx_comm_name(node->entry.comm), name) != 0)) {
        node = node->next;
    }
    const HcclComm found = node ? handle_of(node->serial) : NULL;
    pthread_mutex_unlock(&registry_lock);
    if (!found) {
        return epx_fail(EPX_ERR_NOT_FOUND, "no communicator is named '%.127s' on device %" PRId32, name, device);
    }
    *handle = found;
    return EPX_OK;
}

bool epx_hccl_registry_has(const char *name, uint32_t rank, int32_t device)
{
    pthread_mutex_lock(&registry_lock);
    const struct epx_hccl_node *node = registry_newest;
    while (node && !(node->entry.device == device && node_is(node, name, rank))) {
        node = node->next;
    }
    pthread_mutex_unlock(&registry_lock);
    return node != NULL;
}

static enum epx_status destroy_locked(HcclComm handle, uint64_t *serial)
{
    struct epx_hccl_node **link = &registry_newest;
    while (*link && handle_of((*link)->serial) != handle) {
        link = &(*link)->next;
    }
    struct epx_hccl_node *node = *link;
    if (!node) {
        return not_a_handle(handle);
    }
    if (node->holds > 0) {
        return epx_fail(EPX_ERR_STATE,
                        "communicator '%s' rank %" PRIu32 " has %" PRIu32 " operations queued or running",
                        epx_comm_name(node->entry.comm), epx_comm_rank(node->entry.comm), node->holds);
    }
    EPX_TRY(epx_comm_close(node->entry.comm));
    *link = node->next;
    *serial = node->serial;
    node_free(node);
    return EPX_OK;
}

enum epx_status epx_hccl_registry_destroy(HcclComm handle)
{
    uint64_t serial = 0;
    pthread_mutex_lock(&registry_lock);
    enum epx_status status = destroy_locked(handle, &serial);
    pthread_mutex_unlock(&registry_lock);
    if (status == EPX_OK) {
        epx_cann_plans_forget(serial);
    }
    return status;
}

static enum epx_status claim_locked(HcclComm parent, uint64_t sub_id)
{
    struct epx_hccl_node *node = node_of_handle(parent);
    if (!node) {
        return not_a_handle(parent);
    }
    for (const struct epx_hccl_sub *sub = node->subs; sub; sub = sub->next) {
        if (sub->id == sub_id) {
            return epx_fail(EPX_ERR_INVALID, "subCommId %" PRIu64 " has been used with communicator '%s' before",
                            sub_id, epx_comm_name(node->entry.comm));
        }
    }
    struct epx_hccl_sub *sub = malloc(sizeof *sub);
    if (!sub) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a sub-communicator's number");
    }
    *sub = (struct epx_hccl_sub){.id = sub_id, .next = node->subs};
    node->subs = sub;
    return EPX_OK;
}

enum epx_status epx_hccl_registry_claim_sub(HcclComm parent, uint64_t sub_id)
{
    pthread_mutex_lock(&registry_lock);
    enum epx_status status = claim_locked(parent, sub_id);
    pthread_mutex_unlock(&registry_lock);
    return status;
}

void epx_hccl_registry_unclaim_sub(HcclComm parent, uint64_t sub_id)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_handle(parent);
    struct epx_hccl_sub **link = node ? &node->subs : NULL;
    while (link && *link && (*link)->id != sub_id) {
        link = &(*link)->next;
    }
    if (link && *link) {
        struct epx_hccl_sub *sub = *link;
        *link = sub->next;
        free(sub);
    }
    pthread_mutex_unlock(&registry_lock);
}

enum epx_status epx_cann_comm_acquire(const char *argument, const char *group, int64_t rank, struct epx_comm **comm)
{
    int32_t device;
    if (epx_cann_current_device(&device) != EPX_OK) {
        device = -1;
    }
    char listed[EPX_ERROR_TEXT_BYTES / 2];
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_group(group, rank, device);
    if (node) {
        node->holds++;
        *comm = node->entry.comm;
    } else {
        list_nodes(listed, sizeof listed);
    }
    pthread_mutex_unlock(&registry_lock);
    if (!node) {
        return epx_fail(EPX_ERR_NOT_FOUND,
                        "%s is '%.127s': no communicator of this name and rank %" PRId64
                        " is in this process; there are: %s",
                        argument, group, rank, listed);
    }
    return EPX_OK;
}

enum epx_status epx_cann_comm_acquire_serial(uint64_t serial, struct epx_comm **comm)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_handle(handle_of(serial));
    if (node) {
        node->holds++;
        *comm = node->entry.comm;
    }
    pthread_mutex_unlock(&registry_lock);
    if (!node) {
        return epx_fail(EPX_ERR_NOT_FOUND, "the operation's communicator has been destroyed since it was planned");
    }
    return EPX_OK;
}

void epx_cann_comm_release(struct epx_comm *comm)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_comm(comm);
    if (node) {
        node->holds--;
    }
    pthread_mutex_unlock(&registry_lock);
}

uint32_t epx_cann_comm_buffer_mib(const struct epx_comm *comm)
{
    pthread_mutex_lock(&registry_lock);
    const struct epx_hccl_node *node = node_of_comm(comm);
    const uint32_t buffer_mib = node ? node->entry.buffer_mib : 0;
    pthread_mutex_unlock(&registry_lock);
    return buffer_mib;
}

uint64_t epx_cann_comm_serial(const struct epx_comm *comm)
{
    pthread_mutex_lock(&registry_lock);
    const struct epx_hccl_node *node = node_of_comm(comm);
    const uint64_t serial = node ? node->serial : 0;
    pthread_mutex_unlock(&registry_lock);
    return serial;
}
