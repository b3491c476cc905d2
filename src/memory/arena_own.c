#include "memory/arena_own.h"

#include "memory/arena_fork.h"
#include "memory/arena_registry.h"
#include "memory/arena_stray.h"
#include "memory/arena_watch.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(sizeof(struct epx_arena_header) == 48, "shared layout");
_Static_assert(offsetof(struct epx_arena_header, committed_bytes) == 32, "shared layout");
_Static_assert(offsetof(struct epx_arena_header, life) == 40, "shared layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words need lock-free atomics");

static struct epx_arena_own own = {.lock = PTHREAD_MUTEX_INITIALIZER, .ends = 1};

static enum epx_status fill_header(void)
{
    struct epx_arena_id id;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "no random bytes for the arena's id");
    }
    own.header->magic = EPX_ARENA_MAGIC;
    own.header->version = EPX_ARENA_VERSION;
    own.header->id = id;
    own.header->reserve_bytes = own.space.reserve_bytes;
    own.header->pid = (uint32_t)getpid();
    atomic_store_explicit(&own.header->committed_bytes, own.space.page_bytes, memory_order_release);
    return EPX_OK;
}

static enum epx_status prepare_header(void)
{
    EPX_TRY(epx_arena_space_grow(&own.space, own.space.page_bytes));
    EPX_TRY(epx_arena_space_populate(&own.space, 0, own.space.page_bytes));
    own.header = (struct epx_arena_header *)own.space.base;
    EPX_TRY(fill_header());
    return epx_arena_watch_start(&own.header->life);
}

enum epx_status epx_arena_own_open_locked(void)
{
    if (own.is_open) {
        return EPX_OK;
    }
    struct epx_arena_space *space = &own.space;
    EPX_TRY(epx_arena_space_open(space));
    epx_extents_init(&own.extents, space->page_bytes);
    enum epx_status status = EPX_OK;
    uint64_t chunk_bytes = space->page_bytes > EPX_ARENA_CHUNK_BYTES ? space->page_bytes : EPX_ARENA_CHUNK_BYTES;
    struct epx_arena *handle = epx_arena_registry_reserve();
    if (handle == NULL) {
        status = epx_fail(EPX_ERR_NO_MEMORY, "no memory for the handle of an arena");
        goto close_space;
    }
    if (!epx_arena_lack_init(&own.lack, space->reserve_bytes, chunk_bytes)) {
        status = epx_fail(EPX_ERR_NO_MEMORY, "no memory for the list of the arena's pages");
        goto free_handle;
    }
    status = prepare_header();
    if (status != EPX_OK) {
        goto free_lack;
    }
    /* Nothing may fail from here on: the watch thread uses the mapping for good. */
    epx_arena_registry_add_own(handle, own.header);
    own.is_open = true;
    atomic_store_explicit(&own.open_base, space->base, memory_order_release);
    return EPX_OK;

free_lack:
    epx_arena_lack_fini(&own.lack);
free_handle:
    epx_arena_registry_unreserve(handle);
close_space:
    epx_arena_space_close(space);
    return status;
}

struct epx_arena_own *epx_arena_own_lock(void)
{
    (void)pthread_mutex_lock(&own.lock);
    return &own;
}

/* Distance from the own arena's base. False when the address lies outside, or there is no arena. Without the lock. */
static bool place_in_reserve(const void *pointer, uint64_t *place)
{
    const uint8_t *base = atomic_load_explicit(&own.open_base, memory_order_acquire);
    *place = (uint64_t)((uintptr_t)pointer - (uintptr_t)base);
    return base != NULL && *place < own.space.reserve_bytes;
}

bool epx_arena_own_lacks(const void *pointer, uint64_t bytes)
{
    uint64_t place;
    uint64_t end;
    return place_in_reserve(pointer, &place) && !__builtin_add_overflow(place, bytes, &end) &&
           epx_arena_lack_any(&own.lack, place, end);
}

void epx_arena_own_unlock(void)
{
    (void)pthread_mutex_unlock(&own.lock);
}

void epx_arena_own_note_end(void)
{
    (void)atomic_fetch_add_explicit(&own.ends, 1, memory_order_relaxed);
}

void epx_arena_own_forget(void)
{
    if (own.is_open) {
        epx_arena_own_note_end();
        epx_arena_space_forget(&own.space);
        atomic_store_explicit(&own.open_base, NULL, memory_order_relaxed);
        epx_extents_fini(&own.extents);
        epx_arena_lack_fini(&own.lack);
        own.is_open = false;
    }
#if EPX_THREAD_SANITIZER
    own.readers = 0;
    own.stray = false;
#endif
    epx_arena_own_unlock();
}

#if EPX_THREAD_SANITIZER
static void release_held(void)
{
    uint64_t start = own.space.page_bytes;
    const struct epx_extent *extent;
    while (own.is_open && (extent = epx_extents_at(&own.extents, start)) != NULL) {
        start = extent->offset + extent->bytes;
        if (extent->state == EPX_EXTENT_HELD) {
            epx_extents_assign(&own.extents, extent->offset, extent->bytes, EPX_EXTENT_FREE);
        }
    }
}
void epx_arena_readers_add(void)
{
    (void)epx_arena_own_lock();
    own.readers++;
    epx_arena_own_unlock();
}

void epx_arena_readers_remove(void)
{
    (void)epx_arena_own_lock();
    if (--own.readers == 0 && own.stray) {
        own.stray = false;
        release_held();
    }
    epx_arena_own_unlock();
}

void epx_arena_readers_stray(void)
{
    (void)epx_arena_own_lock();
    own.stray = own.readers > 0;
    epx_arena_own_unlock();
}
#endif

enum epx_status epx_arena_open_own(void)
{
    EPX_TRY(epx_arena_prepare_forks());
    (void)epx_arena_own_lock();
    enum epx_status status = epx_arena_own_open_locked();
    epx_arena_own_unlock();
    return status;
}

void epx_arena_own_info(struct epx_arena_id *id, int *fd, uint64_t *reserve_bytes)
{
    (void)epx_arena_own_lock();
    *id = own.header->id;
    *fd = own.space.fd;
    *reserve_bytes = own.space.reserve_bytes;
    epx_arena_own_unlock();
}

/* With the lock held: bytes from `place` to the end of its live allocation. False when it is in none. */
static bool live_bytes_at(uint64_t place, uint64_t *bytes)
{
    const struct epx_extent *extent = own.is_open ? epx_extents_at(&own.extents, place) : NULL;
    if (extent == NULL || extent->state != EPX_EXTENT_LIVE || place - extent->offset > extent->used_bytes) {
        return false;
    }
    *bytes = extent->used_bytes - (place - extent->offset);
    return true;
}

/*
 * What a thread has been told lately, so that asking for the same tensors again needs no lock. An answer holds as long
 * as no allocation has ended since.
 */
#define TOLD_SETS 16u
#define TOLD_WAYS 8u

struct told {
    uint64_t ends; /* 0: nothing */
    uint64_t place;
    uint64_t bytes; /* live from there on */
};

static _Thread_local struct {
    struct told ways[TOLD_WAYS];
    uint32_t next;
} told_sets[TOLD_SETS];

static uint32_t told_set_of(uint64_t place)
{
    return (uint32_t)((place >> 6) * UINT64_C(0x9E3779B97F4A7C15) >> 60) % TOLD_SETS;
}

static bool recall(uint64_t place, uint64_t bytes)
{
    /* A thread that has been told of an end sees its number. */
    uint64_t ends = atomic_load_explicit(&own.ends, memory_order_relaxed);
    const struct told *ways = told_sets[told_set_of(place)].ways;
    for (uint32_t i = 0; i < TOLD_WAYS; i++) {
        if (ways[i].place == place && ways[i].ends == ends) {
            return bytes <= ways[i].bytes;
        }
    }
    return false;
}

static void keep(const struct told *told)
{
    uint32_t set = told_set_of(told->place);
    told_sets[set].ways[told_sets[set].next++ % TOLD_WAYS] = *told;
}

static bool look_up(uint64_t place, uint64_t bytes)
{
    struct told told = {.place = place};
    (void)epx_arena_own_lock();
    bool live = live_bytes_at(place, &told.bytes);
    told.ends = atomic_load_explicit(&own.ends, memory_order_relaxed);
    epx_arena_own_unlock();
    if (live) {
        keep(&told);
    }
    return live && bytes <= told.bytes;
}

bool epx_arena_offset_of(const void *pointer, size_t bytes, uint64_t *offset)
{
    uint64_t place;
    if (!place_in_reserve(pointer, &place) || (!recall(place, bytes) && !look_up(place, bytes))) {
        return false;
    }
    *offset = place;
    return true;
}

uint64_t epx_arena_place_of(const void *pointer)
{
    const uint8_t *base = atomic_load_explicit(&own.open_base, memory_order_relaxed);
    return (uint64_t)((uintptr_t)pointer - (uintptr_t)base);
}

bool epx_arena_strays(const void *pointer, size_t bytes)
{
    uint64_t place;
    uintptr_t base = (uintptr_t)atomic_load_explicit(&own.open_base, memory_order_acquire);
    uintptr_t start = (uintptr_t)pointer;
    bool reaches_in = base != 0 && start < base && base - start < bytes;
    return reaches_in || (place_in_reserve(pointer, &place) && !epx_arena_offset_of(pointer, bytes, &place));
}

void epx_arena_usage(uint64_t *live_bytes, uint64_t *live_count)
{
    uint64_t bytes = 0;
    uint64_t count = 0;
    (void)epx_arena_own_lock();
    for (size_t i = 0; i < own.extents.count; i++) {
        if (own.extents.items[i].state == EPX_EXTENT_LIVE) {
            bytes += own.extents.items[i].used_bytes;
            count++;
        }
    }
    epx_arena_own_unlock();
    *live_bytes = bytes;
    *live_count = count;
}
