#include "cann/handle_registry.h"

#include "cann/hold.h"

#include <stdlib.h>

/*
 * Bits of a handle: 0..19 place, 20..51 generation, 52..55 kind. A kind is at least 1, so that no handle is the address
 * of anything on a machine with addresses of up to 52 bits.
 */
#define PLACE_BITS       20u
#define PLACE_MASK       ((1u << PLACE_BITS) - 1)
#define GENERATION_SHIFT PLACE_BITS
#define KIND_SHIFT       52u
#define SEGMENT_MIN      32u /* entries of segment 0 */

_Static_assert(sizeof(void *) == 8, "a handle fills a pointer of 64 bits");
_Static_assert(SEGMENT_MIN *((1u << EPX_HANDLE_SEGMENTS) - 1) <= PLACE_MASK, "all places fit into a handle");

struct epx_handle_entry {
    struct epx_hold hold;
    void *object; /* constant while the entry has a generation or holders */
    _Atomic uint32_t link;
};

static uint32_t first_of(uint32_t segment)
{
    return SEGMENT_MIN * ((1u << segment) - 1);
}

/* Null when there is none. */
static struct epx_handle_entry *entry_at(struct epx_handle_registry *registry, uint32_t place)
{
    uint32_t segment = 31u - (uint32_t)__builtin_clz(place / SEGMENT_MIN + 1);
    if (segment >= EPX_HANDLE_SEGMENTS) {
        return NULL;
    }
    struct epx_handle_entry *entries = atomic_load_explicit(&registry->segments[segment], memory_order_acquire);
    return entries ? &entries[place - first_of(segment)] : NULL;
}

static _Atomic uint32_t *link_of(void *registry, uint32_t place)
{
    return &entry_at(registry, place)->link;
}

static void *handle_of(const struct epx_handle_registry *registry, uint32_t place, uint32_t generation)
{
    return (void *)(uintptr_t)(registry->kind << KIND_SHIFT | (uint64_t)generation << GENERATION_SHIFT | place);
}

static uint32_t place_of(const void *handle)
{
    return (uint32_t)(uintptr_t)handle & PLACE_MASK;
}

static uint32_t generation_of(const void *handle)
{
    return (uint32_t)((uintptr_t)handle >> GENERATION_SHIFT);
}

/* The entry where a handle's object is, if it is any; null for what cannot be a handle. */
static struct epx_handle_entry *entry_of(struct epx_handle_registry *registry, const void *handle)
{
    bool is_ours = handle_of(registry, place_of(handle), generation_of(handle)) == handle;
    return is_ours ? entry_at(registry, place_of(handle)) : NULL;
}

/* One segment more, all of whose places are free, the lowest on top. With the lock held. */
static bool grow(struct epx_handle_registry *registry)
{
    uint32_t segment = 0;
    while (segment < EPX_HANDLE_SEGMENTS && atomic_load(&registry->segments[segment])) {
        segment++;
    }
    const uint32_t count = SEGMENT_MIN << segment;
    struct epx_handle_entry *entries = segment < EPX_HANDLE_SEGMENTS ? calloc(count, sizeof *entries) : NULL;
    if (!entries) {
        return false;
    }
    atomic_store_explicit(&registry->segments[segment], entries, memory_order_release);
    for (uint32_t i = count; i-- > 0;) {
        epx_index_push(&registry->free, link_of, registry, first_of(segment) + i);
    }
    return true;
}

static bool take_free(struct epx_handle_registry *registry, uint32_t *place)
{
    if (epx_index_pop(&registry->free, link_of, registry, place)) {
        return true;
    }
    pthread_mutex_lock(&registry->lock);
    bool has_room;
    do {
        has_room = epx_index_pop(&registry->free, link_of, registry, place); /* another thread may have grown it */
    } while (!has_room && grow(registry));
    pthread_mutex_unlock(&registry->lock);
    return has_room;
}

bool epx_handle_add(struct epx_handle_registry *registry, void *object, void **handle)
{
    uint32_t place;
    uint32_t generation;
    if (!take_free(registry, &place)) {
        return false;
    }
    do {
        generation = atomic_fetch_add_explicit(&registry->generation, 1, memory_order_relaxed) + 1;
    } while (generation == 0);
    struct epx_handle_entry *entry = entry_at(registry, place);
    entry->object = object;
    *handle = handle_of(registry, place, generation);
    epx_hold_begin(&entry->hold, generation, 0);
    return true;
}

void *epx_handle_acquire(struct epx_handle_registry *registry, const void *handle)
{
    struct epx_handle_entry *entry = entry_of(registry, handle);
    return entry && epx_hold_take(&entry->hold, generation_of(handle)) ? entry->object : NULL;
}

void epx_handle_release(struct epx_handle_registry *registry, const void *handle)
{
    struct epx_handle_entry *entry = entry_of(registry, handle);
    const uint32_t generation = entry ? epx_hold_generation(&entry->hold) : 0;
    /* A hold from before a fork is none in the child, where the place may be another object's. */
    if (!entry || epx_hold_count(&entry->hold) == 0 || (generation != 0 && generation != generation_of(handle))) {
        return;
    }
    if (epx_hold_drop(&entry->hold) == EPX_HOLD_ENDED) {
        pthread_mutex_lock(&registry->lock);
        pthread_cond_broadcast(&registry->released);
        pthread_mutex_unlock(&registry->lock);
    }
}

void *epx_handle_remove(struct epx_handle_registry *registry, const void *handle)
{
    uint32_t holders;
    struct epx_handle_entry *entry = entry_of(registry, handle);
    if (!entry || !epx_hold_close(&entry->hold, generation_of(handle), &holders)) {
        return NULL;
    }
    if (holders > 0) {
        pthread_mutex_lock(&registry->lock);
        while (epx_hold_count(&entry->hold) > 0) {
            pthread_cond_wait(&registry->released, &registry->lock);
        }
        pthread_mutex_unlock(&registry->lock);
    }
    void *object = entry->object;
    epx_index_push(&registry->free, link_of, registry, place_of(handle));
    return object;
}

void *epx_handle_next(struct epx_handle_registry *registry, uint32_t *place, void **object)
{
    struct epx_handle_entry *entry;
    while ((entry = entry_at(registry, *place)) != NULL) {
        uint32_t generation = epx_hold_generation(&entry->hold);
        uint32_t at = (*place)++;
        if (epx_hold_take(&entry->hold, generation)) {
            *object = entry->object;
            return handle_of(registry, at, generation);
        }
    }
    return NULL;
}

void epx_handle_reset_after_fork(struct epx_handle_registry *registry)
{
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->released, NULL);
    for (uint32_t i = 0; i < EPX_HANDLE_SEGMENTS; i++) {
        atomic_store(&registry->segments[i], NULL);
    }
    atomic_store(&registry->free.top, 0);
}
