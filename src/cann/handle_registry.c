#include "cann/handle_registry.h"

#include <stdlib.h>

/*
 * Bits of a handle: 0..19 place, 20..51 generation, 52..55 kind. A kind is at least 1, so that no handle is the address
 * of anything on a machine with addresses of up to 52 bits.
 */
#define PLACE_BITS       20u
#define PLACE_MAX        (1u << PLACE_BITS)
#define GENERATION_SHIFT PLACE_BITS
#define KIND_SHIFT       52u
#define CAPACITY_MIN     32u

_Static_assert(sizeof(void *) == 8, "a handle fills a pointer of 64 bits");

struct epx_handle_entry {
    void *object; /* null: free */
    uint32_t generation;
    uint32_t holders;
    bool closing; /* being removed: unknown to new holders */
};

static void *handle_of(const struct epx_handle_registry *registry, uint32_t place)
{
    uint64_t bits = registry->kind << KIND_SHIFT | (uint64_t)registry->entries[place].generation << GENERATION_SHIFT;
    return (void *)(uintptr_t)(bits | place);
}

/* With the lock held; null when the handle is unknown. */
static struct epx_handle_entry *find(const struct epx_handle_registry *registry, const void *handle)
{
    uint32_t place = (uint32_t)((uintptr_t)handle & (PLACE_MAX - 1));
    if (place >= registry->capacity || !registry->entries[place].object || handle_of(registry, place) != handle) {
        return NULL;
    }
    return &registry->entries[place];
}

/* With the lock held. */
static bool find_free(struct epx_handle_registry *registry, uint32_t *place)
{
    for (uint32_t i = 0; i < registry->capacity; i++) {
        if (!registry->entries[i].object) {
            *place = i;
            return true;
        }
    }
    uint32_t capacity = registry->capacity ? registry->capacity * 2 : CAPACITY_MIN;
    if (capacity > PLACE_MAX) {
        return false;
    }
    struct epx_handle_entry *entries = realloc(registry->entries, capacity * sizeof *entries);
    if (!entries) {
        return false;
    }
    for (uint32_t i = registry->capacity; i < capacity; i++) {
        entries[i] = (struct epx_handle_entry){0};
    }
    *place = registry->capacity;
    registry->entries = entries;
    registry->capacity = capacity;
    return true;
}

bool epx_handle_add(struct epx_handle_registry *registry, void *object, void **handle)
{
    uint32_t place;
    pthread_mutex_lock(&registry->lock);
    bool has_room = find_free(registry, &place);
    if (has_room) {
        registry->entries[place] = (struct epx_handle_entry){.object = object, .generation = registry->generation++};
        *handle = handle_of(registry, place);
    }
    pthread_mutex_unlock(&registry->lock);
    return has_room;
}

void *epx_handle_acquire(struct epx_handle_registry *registry, const void *handle)
{
    void *object = NULL;
    pthread_mutex_lock(&registry->lock);
    struct epx_handle_entry *entry = find(registry, handle);
    if (entry && !entry->closing) {
        entry->holders++;
        object = entry->object;
    }
    pthread_mutex_unlock(&registry->lock);
    return object;
}

void epx_handle_release(struct epx_handle_registry *registry, const void *handle)
{
    pthread_mutex_lock(&registry->lock);
    struct epx_handle_entry *entry = find(registry, handle);
    if (entry && --entry->holders == 0 && entry->closing) {
        pthread_cond_broadcast(&registry->released);
    }
    pthread_mutex_unlock(&registry->lock);
}

void *epx_handle_remove(struct epx_handle_registry *registry, const void *handle)
{
    void *object = NULL;
    pthread_mutex_lock(&registry->lock);
    struct epx_handle_entry *entry = find(registry, handle);
    if (entry && !entry->closing) {
        const size_t place = (size_t)(entry - registry->entries);
        object = entry->object;
        entry->closing = true;
        while (registry->entries[place].holders > 0) { /* the table may move meanwhile */
            pthread_cond_wait(&registry->released, &registry->lock);
        }
        registry->entries[place] = (struct epx_handle_entry){0};
    }
    pthread_mutex_unlock(&registry->lock);
    return object;
}

void *epx_handle_next(struct epx_handle_registry *registry, uint32_t *place, void **object)
{
    void *handle = NULL;
    pthread_mutex_lock(&registry->lock);
    while (!handle && *place < registry->capacity) {
        struct epx_handle_entry *entry = &registry->entries[*place];
        if (entry->object && !entry->closing) {
            entry->holders++;
            *object = entry->object;
            handle = handle_of(registry, *place);
        }
        ++*place;
    }
    pthread_mutex_unlock(&registry->lock);
    return handle;
}

void epx_handle_reset_after_fork(struct epx_handle_registry *registry)
{
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->released, NULL);
    registry->entries = NULL;
    registry->capacity = 0;
}
