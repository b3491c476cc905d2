#include "memory/arena_own.h"

#include "base/checked_math.h"
#include "base/fault.h"
#include "base/topology.h"
#include "memory/arena.h"
#include "memory/arena_extent.h"
#include "memory/arena_fork.h"
#include "memory/arena_registry.h"
#include "memory/arena_space.h"
#include "memory/arena_stray.h"
#include "memory/arena_watch.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define ALIGN_MIN UINT64_C(64)

/* Smaller allocations share pieces of this size, so that not each of them asks the system for pages. Allocations from
 * this size on begin and end at pages, so that their pages can be given back. */
#define PIECE_BYTES UINT64_C(65536)

/* A freed extent of at least this size is given back to the system when all that is kept exceeds this part of the
 * memory that is left. Otherwise pages are kept: to bring one in again costs more than to fill it. */
#define DISCARD_MIN_BYTES (UINT64_C(1) << 20)
#define KEPT_PART         4

_Static_assert(sizeof(struct epx_arena_header) == 48, "shared layout");
_Static_assert(offsetof(struct epx_arena_header, committed_bytes) == 32, "shared layout");
_Static_assert(offsetof(struct epx_arena_header, life) == 40, "shared layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words need lock-free atomics");

static struct {
    pthread_mutex_t lock;
    bool is_open;
    struct epx_arena_space space;
    struct epx_arena_header *header; /* = space.base */
    struct epx_extents extents;
#if EPX_THREAD_SANITIZER
    uint64_t readers; /* open communicators */
    bool stray;       /* one of them has failed */
#endif
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct claim {      /* one allocation on its way */
    uint64_t bytes; /* a multiple of ALIGN_MIN */
    uint64_t align;
    uint64_t offset;
    uint64_t pending_bytes; /* > 0: the extent at `offset` is pending and has to be populated */
};

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

static enum epx_status open_locked(void)
{
    if (own.is_open) {
        return EPX_OK;
    }
    struct epx_arena_space *space = &own.space;
    EPX_TRY(epx_arena_space_open(space));
    epx_extents_init(&own.extents, space->page_bytes);
    enum epx_status status = EPX_OK;
    struct epx_arena *handle = epx_arena_registry_reserve();
    if (handle == NULL) {
        status = epx_fail(EPX_ERR_NO_MEMORY, "no memory for the handle of an arena");
        goto close_space;
    }
    status = prepare_header();
    if (status != EPX_OK) {
        goto free_handle;
    }
    /* Nothing may fail from here on: the watch thread uses the mapping for good. */
    epx_arena_registry_add_own(handle, own.header);
    own.is_open = true;
    return EPX_OK;

free_handle:
    epx_arena_registry_unreserve(handle);
close_space:
    epx_arena_space_close(space);
    return status;
}

/* Makes a free extent a hole: whole pages go back to the system, the rest at its ends is filled with zeros. */
static bool discard_extent(const struct epx_extent *extent)
{
    uint64_t page_mask = own.space.page_bytes - 1;
    uint64_t end = extent->offset + extent->bytes;
    uint64_t first = (extent->offset + page_mask) & ~page_mask;
    uint64_t last = end & ~page_mask;
    if (first >= last) {
        first = end;
        last = end;
    } else if (epx_arena_space_discard(&own.space, first, last - first) != 0) {
        return false;
    }
    memset(own.space.base + extent->offset, 0, first - extent->offset);
    memset(own.space.base + last, 0, end - last);
    epx_extents_assign(&own.extents, extent->offset, extent->bytes, EPX_EXTENT_HOLE);
    return true;
}

/* Makes every free extent that begins in [start, end) a hole. Returns whether there was any. */
static bool discard_free(uint64_t start, uint64_t end)
{
    bool any = false;
    const struct epx_extent *extent;
    while (start < end && (extent = epx_extents_at(&own.extents, start)) != NULL) {
        start = extent->offset + extent->bytes;
        if (extent->state == EPX_EXTENT_FREE && discard_extent(extent)) {
            any = true;
        }
    }
    return any;
}

/* Makes the arena longer, so that `bytes` aligned bytes of hole lie at its end. */
static enum epx_status extend_locked(uint64_t bytes, uint64_t align)
{
    uint64_t end = own.extents.end;
    const struct epx_extent *last = epx_extents_at(&own.extents, end - 1);
    uint64_t start = last != NULL && last->state == EPX_EXTENT_HOLE ? last->offset : end;
    uint64_t new_end;
    if (!epx_round_up_u64(start, align, &new_end) || __builtin_add_overflow(new_end, bytes, &new_end) ||
        !epx_round_up_u64(new_end, own.space.page_bytes, &new_end)) {
        new_end = UINT64_MAX;
    }
    EPX_TRY(epx_arena_space_grow(&own.space, new_end));
    epx_extents_extend(&own.extents, new_end - end);
    return EPX_OK;
}

static void take_pending(struct claim *claim, uint64_t offset, uint64_t bytes)
{
    epx_extents_assign(&own.extents, offset, bytes, EPX_EXTENT_PENDING);
    claim->offset = offset;
    claim->pending_bytes = bytes;
}

static bool take_hole(struct claim *claim, uint64_t bytes)
{
    uint64_t offset;
    if (!epx_extents_find(&own.extents, EPX_EXTENT_HOLE, bytes, claim->align, &offset)) {
        return false;
    }
    take_pending(claim, offset, bytes);
    return true;
}

/* Finds a place: memory that is there already, else a hole, else behind the end. */
static enum epx_status claim_locked(struct claim *claim)
{
    EPX_TRY(open_locked());
    if (!epx_extents_reserve(&own.extents, 4)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the list of the arena's extents");
    }
    claim->pending_bytes = 0;
    if (epx_extents_find(&own.extents, EPX_EXTENT_FREE, claim->bytes, claim->align, &claim->offset)) {
        epx_extents_assign(&own.extents, claim->offset, claim->bytes, EPX_EXTENT_PENDING);
        return EPX_OK;
    }
    uint64_t wanted = claim->bytes < PIECE_BYTES ? PIECE_BYTES : claim->bytes;
    if (take_hole(claim, wanted) || take_hole(claim, claim->bytes)) {
        return EPX_OK;
    }
    enum epx_status status = extend_locked(wanted, claim->align);
    if (status == EPX_ERR_NO_MEMORY && wanted > claim->bytes) {
        wanted = claim->bytes;
        status = extend_locked(wanted, claim->align);
    }
    if (status != EPX_OK) {
        return status;
    }
    return take_hole(claim, wanted) ? EPX_OK : epx_fail(EPX_ERR_INTERNAL, "the arena's new end is not free");
}

/* Undoes a claim whose pages could not be had. */
static void abandon_locked(const struct claim *claim)
{
    uint64_t page_mask = own.space.page_bytes - 1;
    uint64_t first = (claim->offset + page_mask) & ~page_mask;
    uint64_t last = (claim->offset + claim->pending_bytes) & ~page_mask;
    if (first < last) {
        (void)epx_arena_space_discard(&own.space, first, last - first);
    }
    epx_extents_assign(&own.extents, claim->offset, claim->pending_bytes, EPX_EXTENT_HOLE);
}

/* Makes a populated claim an allocation; what a piece has beyond it stays for the next ones. */
static void settle_locked(const struct claim *claim, uint64_t used_bytes)
{
    uint64_t rest = claim->pending_bytes > claim->bytes ? claim->pending_bytes - claim->bytes : 0;
    if (rest > 0 && epx_extents_reserve(&own.extents, 1)) {
        epx_extents_assign(&own.extents, claim->offset + claim->bytes, rest, EPX_EXTENT_FREE);
    }
    struct epx_extent *extent = epx_extents_at(&own.extents, claim->offset);
    extent->state = EPX_EXTENT_LIVE;
    extent->used_bytes = used_bytes;
    uint64_t committed_bytes = atomic_load_explicit(&own.header->committed_bytes, memory_order_relaxed);
    uint64_t end = extent->offset + extent->bytes;
    if (end > committed_bytes) {
        atomic_store_explicit(&own.header->committed_bytes, end, memory_order_release);
    }
}

/* Claims and fills with zeros. The lock is not held meanwhile: pages take long, and a pending extent is nobody else's.
 */
static enum epx_status claim_zeroed(struct claim *claim)
{
    epx_arena_own_lock();
    enum epx_status status = claim_locked(claim);
    epx_arena_own_unlock();
    EPX_TRY(status);
    if (claim->pending_bytes == 0) {
        memset(own.space.base + claim->offset, 0, claim->bytes);
        return EPX_OK;
    }
    status = epx_arena_space_populate(&own.space, claim->offset, claim->pending_bytes);
    if (status != EPX_OK) {
        epx_arena_own_lock();
        abandon_locked(claim);
        epx_arena_own_unlock();
    }
    return status;
}

static bool discard_all(void)
{
    epx_arena_own_lock();
    bool any = own.is_open && discard_free(own.space.page_bytes, own.extents.end);
    epx_arena_own_unlock();
    return any;
}

static enum epx_status round_sizes(size_t bytes, size_t align, struct claim *claim)
{
    if (align == 0 || (align & (align - 1)) != 0 || align > EPX_ARENA_ALIGN_MAX) {
        return epx_fail(EPX_ERR_INVALID, "alignment is %zu, must be a power of two, at most %u", align,
                        EPX_ARENA_ALIGN_MAX);
    }
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t unit = bytes >= PIECE_BYTES ? page_bytes : ALIGN_MIN;
    claim->align = align > unit ? align : unit;
    if (!epx_round_up_u64(bytes > 0 ? bytes : 1, unit, &claim->bytes)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%zu bytes cannot be allocated", bytes);
    }
    return EPX_OK;
}

static bool pages_are_scarce(uint64_t freed_bytes)
{
    if (freed_bytes < DISCARD_MIN_BYTES) {
        return false;
    }
    uint64_t kept_bytes = 0;
    for (size_t i = 0; i < own.extents.count; i++) {
        if (own.extents.items[i].state == EPX_EXTENT_FREE) {
            kept_bytes += own.extents.items[i].bytes;
        }
    }
    return kept_bytes > epx_topology_memory_headroom_bytes() / KEPT_PART;
}

#if EPX_THREAD_SANITIZER
static bool hold_locked(uint64_t offset, uint64_t bytes)
{
    if (own.stray) {
        epx_extents_assign(&own.extents, offset, bytes, EPX_EXTENT_HELD);
    }
    return own.stray;
}

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
#else
static bool hold_locked(uint64_t offset, uint64_t bytes)
{
    (void)offset;
    (void)bytes;
    return false;
}
#endif

static enum epx_status free_locked(const void *pointer)
{
    uint64_t offset = (uint64_t)((uintptr_t)pointer - (uintptr_t)own.space.base);
    const struct epx_extent *extent = own.is_open ? epx_extents_at(&own.extents, offset) : NULL;
    if (extent == NULL || extent->state != EPX_EXTENT_LIVE) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%p is in no live allocation", pointer);
    }
    if (extent->offset != offset) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%p is %llu bytes inside an allocation, must be its start", pointer,
                        (unsigned long long)(offset - extent->offset));
    }
    uint64_t freed_bytes = extent->bytes;
    if (hold_locked(offset, freed_bytes)) {
        return EPX_OK;
    }
    epx_extents_assign(&own.extents, offset, freed_bytes, EPX_EXTENT_FREE);
    if (pages_are_scarce(freed_bytes)) {
        (void)discard_extent(epx_extents_at(&own.extents, offset));
    }
    return EPX_OK;
}

void epx_arena_own_lock(void)
{
    (void)pthread_mutex_lock(&own.lock);
}

void epx_arena_own_unlock(void)
{
    (void)pthread_mutex_unlock(&own.lock);
}

void epx_arena_own_forget(void)
{
    if (own.is_open) {
        epx_arena_space_forget(&own.space);
        epx_extents_fini(&own.extents);
        own.is_open = false;
    }
#if EPX_THREAD_SANITIZER
    own.readers = 0;
    own.stray = false;
#endif
    epx_arena_own_unlock();
}

#if EPX_THREAD_SANITIZER
void epx_arena_readers_add(void)
{
    epx_arena_own_lock();
    own.readers++;
    epx_arena_own_unlock();
}

void epx_arena_readers_remove(void)
{
    epx_arena_own_lock();
    if (--own.readers == 0 && own.stray) {
        own.stray = false;
        release_held();
    }
    epx_arena_own_unlock();
}

void epx_arena_readers_stray(void)
{
    epx_arena_own_lock();
    own.stray = own.readers > 0;
    epx_arena_own_unlock();
}
#endif

enum epx_status epx_arena_open_own(void)
{
    EPX_TRY(epx_arena_prepare_forks());
    epx_arena_own_lock();
    enum epx_status status = open_locked();
    epx_arena_own_unlock();
    return status;
}

void epx_arena_own_info(struct epx_arena_id *id, int *fd, uint64_t *reserve_bytes)
{
    epx_arena_own_lock();
    *id = own.header->id;
    *fd = own.space.fd;
    *reserve_bytes = own.space.reserve_bytes;
    epx_arena_own_unlock();
}

enum epx_status epx_arena_alloc(size_t bytes, size_t align, void **out)
{
    struct claim claim = {0};
    EPX_TRY(epx_arena_prepare_forks());
    EPX_TRY(round_sizes(bytes, align, &claim));
    if (epx_fault("arena_alloc", -1)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%zu bytes cannot be allocated: fault on purpose", bytes);
    }
    enum epx_status status = claim_zeroed(&claim);
    /* Free memory in other places may be what is missing, as pages or as room in one piece. */
    if (status == EPX_ERR_NO_MEMORY && discard_all()) {
        status = claim_zeroed(&claim);
    }
    if (status != EPX_OK) {
        return status;
    }
    epx_arena_own_lock();
    settle_locked(&claim, bytes);
    *out = own.space.base + claim.offset;
    epx_arena_own_unlock();
    return EPX_OK;
}

enum epx_status epx_arena_free(void *pointer)
{
    epx_arena_own_lock();
    enum epx_status status = free_locked(pointer);
    epx_arena_own_unlock();
    return status;
}

bool epx_arena_offset_of(const void *pointer, size_t bytes, uint64_t *offset)
{
    epx_arena_own_lock();
    uint64_t place = (uint64_t)((uintptr_t)pointer - (uintptr_t)own.space.base);
    const struct epx_extent *extent = own.is_open ? epx_extents_at(&own.extents, place) : NULL;
    bool inside = extent != NULL && extent->state == EPX_EXTENT_LIVE && place - extent->offset <= extent->used_bytes &&
                  bytes <= extent->used_bytes - (place - extent->offset);
    epx_arena_own_unlock();
    if (inside) {
        *offset = place;
    }
    return inside;
}

bool epx_arena_strays(const void *pointer, size_t bytes)
{
    uint64_t offset;
    epx_arena_own_lock();
    uintptr_t base = (uintptr_t)own.space.base;
    uintptr_t start = (uintptr_t)pointer;
    bool meets = own.is_open && (start >= base ? start - base < own.space.reserve_bytes : base - start < bytes);
    epx_arena_own_unlock();
    return meets && !epx_arena_offset_of(pointer, bytes, &offset);
}

void epx_arena_usage(uint64_t *live_bytes, uint64_t *live_count)
{
    uint64_t bytes = 0;
    uint64_t count = 0;
    epx_arena_own_lock();
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
