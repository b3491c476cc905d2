#include "cann/hccl_registry.h"

#include "cann/acl_state.h"
#include "cann/hold.h"
#include "cann/moe_plan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_BASE  0x45500000u /* handles look like addresses of nothing: base + 64 * serial */
#define LISTED_NAMES 4           /* communicators named in a message */

struct epx_hccl_sub {
    uint64_t id;
    struct epx_hccl_sub *next;
};

/* Used again for another communicator, never freed. */
struct epx_hccl_node {
    struct epx_cann_comm entry; /* first: what is held by others */
    struct epx_hold hold;       /* its generation is the low half of the serial */
    struct epx_hccl_sub *subs;  /* numbers of sub-communicators made from it; under the lock */
    struct epx_hccl_node *next; /* under the lock */
};

_Static_assert(offsetof(struct epx_hccl_node, entry) == 0, "a communicator is its node");

/* What a thread has found by name lately. */
#define FOUND_MAX 4u

struct found {
    uint64_t changes; /* when it was found; 0: nothing */
    char group[EPX_COMM_NAME_BYTES];
    int64_t rank;
    int32_t device;
    struct epx_hccl_node *node;
    uint32_t generation;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static struct epx_hccl_node *registry_newest;
static struct epx_hccl_node *registry_unused;
static uint64_t registry_serial;
static _Atomic uint64_t registry_changes = 1; /* raised under the lock when a communicator comes or goes */
static _Thread_local struct found found_lately[FOUND_MAX];
static _Thread_local uint32_t found_next;

/* The child of a fork has no communicators; what the parent's were is left alone. */
static void forget_in_child(void)
{
    pthread_mutex_init(&registry_lock, NULL);
    registry_newest = NULL;
    registry_unused = NULL; /* another thread may have been at it */
    (void)atomic_fetch_add(&registry_changes, 1);
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
    while (node && handle_of(node->entry.serial) != handle) {
        node = node->next;
    }
    return node;
}

static uint32_t generation_of(uint64_t serial)
{
    return (uint32_t)serial;
}

/* With the lock held, under which alone communicators come and go: the node is live. */
static void hold_locked(struct epx_hccl_node *node)
{
    (void)epx_hold_take(&node->hold, generation_of(node->entry.serial));
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

/* A node to be filled, null when there is no memory. With the lock held. */
static struct epx_hccl_node *node_new(void)
{
    struct epx_hccl_node *node = registry_unused;
    if (node) {
        registry_unused = node->next;
        return node;
    }
    return calloc(1, sizeof *node);
}

/* With the lock held. */
static void node_put(struct epx_hccl_node *node)
{
    for (struct epx_hccl_sub *sub = node->subs; sub;) {
        struct epx_hccl_sub *next = sub->next;
        free(sub);
        sub = next;
    }
    node->subs = NULL;
    node->next = registry_unused;
    registry_unused = node;
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

static bool add_locked(const struct epx_cann_comm *given, HcclComm *handle)
{
    struct epx_hccl_node *node = node_new();
    if (!node) {
        return false;
    }
    do {
        registry_serial++;
    } while (generation_of(registry_serial) == 0);
    node->entry = *given;
    node->entry.serial = registry_serial;
    node->next = registry_newest;
    registry_newest = node;
    epx_hold_begin(&node->hold, generation_of(registry_serial), 0);
    (void)atomic_fetch_add(&registry_changes, 1);
    *handle = handle_of(registry_serial); /* from here on anybody may destroy it */
    return true;
}

enum epx_status epx_hccl_registry_add(const struct epx_cann_comm *given, HcclComm *handle)
{
    pthread_once(&registry_once, watch_forks);
    pthread_mutex_lock(&registry_lock);
    const bool added = add_locked(given, handle);
    pthread_mutex_unlock(&registry_lock);
    return added ? EPX_OK : epx_fail(EPX_ERR_NO_MEMORY, "no memory for a communicator's handle");
}

enum epx_status epx_hccl_registry_acquire(HcclComm handle, const struct epx_cann_comm **comm)
{
    pthread_mutex_lock(&registry_lock);
    struct epx_hccl_node *node = node_of_handle(handle);
    if (node) {
        hold_locked(node);
        *comm = &node->entry;
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
    const HcclComm found = node ? handle_of(node->entry.serial) : NULL;
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
    while (*link && handle_of((*link)->entry.serial) != handle) {
        link = &(*link)->next;
    }
    struct epx_hccl_node *node = *link;
    if (!node) {
        return not_a_handle(handle);
    }
    /* Nobody holds it from here on; who tries meanwhile waits for the lock. */
    const uint32_t generation = generation_of(node->entry.serial);
    if (!epx_hold_close_idle(&node->hold, generation)) {
        return epx_fail(EPX_ERR_STATE,
                        "communicator '%s' rank %" PRIu32 " has %" PRIu32 " operations queued or running",
                        epx_comm_name(node->entry.comm), epx_comm_rank(node->entry.comm), epx_hold_count(&node->hold));
    }
    const enum epx_status status = epx_comm_close(node->entry.comm);
    if (status != EPX_OK) {
        epx_hold_begin(&node->hold, generation, 0);
        return status;
    }
    (void)atomic_fetch_add(&registry_changes, 1);
    *link = node->next;
    *serial = node->entry.serial;
    node_put(node);
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

/* What this thread has found before, held; null when it must look. */
static struct epx_hccl_node *recall(const char *group, int64_t rank, int32_t device)
{
    const uint64_t changes = atomic_load_explicit(&registry_changes, memory_order_acquire);
    for (uint32_t i = 0; i < FOUND_MAX; i++) {
        const struct found *found = &found_lately[i];
        if (found->changes == changes && found->rank == rank && found->device == device &&
            strcmp(found->group, group) == 0) {
            return epx_hold_take(&found->node->hold, found->generation) ? found->node : NULL;
        }
    }
    return NULL;
}

static void remember(const struct found *found, const char *group)
{
    struct found *place = &found_lately[found_next++ % FOUND_MAX];
    *place = *found;
    snprintf(place->group, sizeof place->group, "%s", group);
}

enum epx_status epx_cann_comm_acquire(const char *argument, const char *group, int64_t rank,
                                      const struct epx_cann_comm **comm)
{
    struct found found = {.rank = rank};
    if (epx_cann_current_device(&found.device) != EPX_OK) {
        found.device = -1;
    }
    struct epx_hccl_node *node = recall(group, rank, found.device);
    if (node) {
        *comm = &node->entry;
        return EPX_OK;
    }
    char listed[EPX_ERROR_TEXT_BYTES / 2];
    pthread_mutex_lock(&registry_lock);
    node = node_of_group(group, rank, found.device);
    if (node) {
        hold_locked(node);
        found.node = node;
        found.generation = generation_of(node->entry.serial);
        found.changes = atomic_load_explicit(&registry_changes, memory_order_relaxed);
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
    remember(&found, group);
    *comm = &node->entry;
    return EPX_OK;
}

enum epx_status epx_cann_comm_acquire_again(const struct epx_cann_comm_place *place, const struct epx_cann_comm **comm)
{
    struct epx_hccl_node *node = (struct epx_hccl_node *)(uintptr_t)place->comm;
    bool held = epx_hold_take(&node->hold, generation_of(place->serial));
    if (!held) {
        /* A destruction that is refused closes it for a moment. */
        pthread_mutex_lock(&registry_lock);
        held = epx_hold_take(&node->hold, generation_of(place->serial));
        pthread_mutex_unlock(&registry_lock);
    }
    if (!held) {
        return epx_fail(EPX_ERR_NOT_FOUND, "the operation's communicator has been destroyed since it was planned");
    }
    *comm = &node->entry;
    return EPX_OK;
}

void epx_cann_comm_release(const struct epx_cann_comm *comm)
{
    struct epx_hccl_node *node = (struct epx_hccl_node *)(uintptr_t)comm;
    (void)epx_hold_drop(&node->hold); /* never the last of a closed one: a held one is not closed */
}
