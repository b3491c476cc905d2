/*
 * Allocations of the own arena: which extent each of them gets, and when its pages are brought in.
 */
#include "base/checked_math.h"
#include "base/fault.h"
#include "base/topology.h"
#include "memory/arena.h"
#include "memory/arena_fork.h"
#include "memory/arena_own.h"

#include <string.h>
#include <unistd.h>

#define ALIGN_MIN UINT64_C(64)

/* Smaller allocations share pieces of this size, so that not each of them asks the system for pages. Allocations from
 * this size on begin and end at pages, so that their pages can be given back. */
#define PIECE_BYTES UINT64_C(65536)

/* A freed extent of at least this size is given back to the system when all that is kept exceeds this part of the
 * memory that is left. Otherwise pages are kept: to bring one in again costs more than to fill it. */
#define DISCARD_MIN_BYTES (UINT64_C(1) << 20)
#define KEPT_PART         4

/* Reserved memory below this size is populated at once. */
#define LAZY_MIN_BYTES (UINT64_C(1) << 20)

struct claim {      /* one allocation on its way */
    uint64_t bytes; /* a multiple of ALIGN_MIN */
    uint64_t align;
    bool lazy; /* its pages come in when they are needed */
    uint64_t offset;
    uint64_t stale_bytes;    /* from `offset` on: there, with old contents */
    uint64_t populate_bytes; /* from `offset` on: to be brought in */
    uint64_t there_bytes;    /* from `offset` on: there when all is done */
};

/* Makes a free extent a hole: whole pages go back to the system, the rest at its ends is filled with zeros. */
static bool discard_extent(struct epx_arena_own *own, const struct epx_extent *extent)
{
    uint64_t page_mask = own->space.page_bytes - 1;
    uint64_t end = extent->offset + extent->bytes;
    uint64_t first = (extent->offset + page_mask) & ~page_mask;
    uint64_t last = end & ~page_mask;
    if (first >= last) {
        first = end;
        last = end;
    } else if (epx_arena_space_discard(&own->space, first, last - first) != 0) {
        return false;
    }
    memset(own->space.base + extent->offset, 0, first - extent->offset);
    memset(own->space.base + last, 0, end - last);
    epx_extents_assign(&own->extents, extent->offset, extent->bytes, EPX_EXTENT_HOLE);
    return true;
}

/* Makes every free extent that begins in [start, end) a hole. Returns whether there was any. */
static bool discard_free(struct epx_arena_own *own, uint64_t start, uint64_t end)
{
    bool any = false;
    const struct epx_extent *extent;
    while (start < end && (extent = epx_extents_at(&own->extents, start)) != NULL) {
        start = extent->offset + extent->bytes;
        if (extent->state == EPX_EXTENT_FREE && discard_extent(own, extent)) {
            any = true;
        }
    }
    return any;
}

/* Makes the arena longer, so that `bytes` aligned bytes of hole lie at its end. */
static enum epx_status extend_locked(struct epx_arena_own *own, uint64_t bytes, uint64_t align)
{
    uint64_t end = own->extents.end;
    const struct epx_extent *last = epx_extents_at(&own->extents, end - 1);
    uint64_t start = last != NULL && last->state == EPX_EXTENT_HOLE ? last->offset : end;
    uint64_t new_end;
    if (!epx_round_up_u64(start, align, &new_end) || __builtin_add_overflow(new_end, bytes, &new_end) ||
        !epx_round_up_u64(new_end, own->space.page_bytes, &new_end)) {
        new_end = UINT64_MAX;
    }
    EPX_TRY(epx_arena_space_grow(&own->space, new_end));
    epx_extents_extend(&own->extents, new_end - end);
    return EPX_OK;
}

static bool take_hole(struct epx_arena_own *own, struct claim *claim, uint64_t bytes)
{
    if (!epx_extents_find(&own->extents, EPX_EXTENT_HOLE, bytes, claim->align, &claim->offset)) {
        return false;
    }
    epx_extents_assign(&own->extents, claim->offset, bytes, EPX_EXTENT_PENDING);
    claim->populate_bytes = claim->lazy ? 0 : bytes;
    claim->there_bytes = claim->lazy ? 0 : claim->bytes;
    return true;
}

static bool take_free(struct epx_arena_own *own, struct claim *claim)
{
    if (!epx_extents_find(&own->extents, EPX_EXTENT_FREE, claim->bytes, claim->align, &claim->offset)) {
        return false;
    }
    epx_extents_assign(&own->extents, claim->offset, claim->bytes, EPX_EXTENT_PENDING);
    claim->stale_bytes = claim->bytes;
    claim->there_bytes = claim->bytes;
    return true;
}

/* A place of free memory and holes in turn: free memory that it begins with is used, the rest of it becomes hole. */
static bool take_run(struct epx_arena_own *own, struct claim *claim)
{
    if (!claim->lazy || !epx_extents_find_run(&own->extents, claim->bytes, claim->align, &claim->offset)) {
        return false;
    }
    uint64_t end = claim->offset + claim->bytes;
    const struct epx_extent *first = epx_extents_at(&own->extents, claim->offset);
    if (first->state == EPX_EXTENT_FREE) {
        claim->stale_bytes = first->offset + first->bytes - claim->offset;
        claim->there_bytes = claim->stale_bytes & ~(own->lack.chunk_bytes - 1);
    }
    (void)discard_free(own, claim->offset + claim->stale_bytes, end);
    for (uint64_t next = claim->offset + claim->stale_bytes; next < end;) {
        const struct epx_extent *extent = epx_extents_at(&own->extents, next);
        if (extent->state == EPX_EXTENT_FREE) { /* could not be discarded */
            memset(own->space.base + extent->offset, 0, extent->bytes);
        }
        next = extent->offset + extent->bytes;
    }
    epx_extents_take_run(&own->extents, claim->offset, claim->bytes);
    return true;
}

/* Finds a place: memory that is there already, else a hole, else behind the end. */
static enum epx_status claim_locked(struct epx_arena_own *own, struct claim *claim)
{
    if (!epx_extents_reserve(&own->extents, 4)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the list of the arena's extents");
    }
    claim->stale_bytes = 0;
    claim->populate_bytes = 0;
    claim->there_bytes = 0;
    uint64_t wanted = claim->bytes < PIECE_BYTES ? PIECE_BYTES : claim->bytes;
    if (take_free(own, claim) || take_run(own, claim) || take_hole(own, claim, wanted) ||
        take_hole(own, claim, claim->bytes)) {
        return EPX_OK;
    }
    enum epx_status status = extend_locked(own, wanted, claim->align);
    if (status == EPX_ERR_NO_MEMORY && wanted > claim->bytes) {
        wanted = claim->bytes;
        status = extend_locked(own, wanted, claim->align);
    }
    if (status != EPX_OK) {
        return status;
    }
    return take_hole(own, claim, wanted) ? EPX_OK : epx_fail(EPX_ERR_INTERNAL, "the arena's new end is not free");
}

/* Undoes a claim whose pages could not be had. What it has that is not whole pages is new, and zero. */
static void abandon_locked(struct epx_arena_own *own, const struct claim *claim)
{
    uint64_t bytes = claim->populate_bytes > claim->bytes ? claim->populate_bytes : claim->bytes;
    uint64_t page_mask = own->space.page_bytes - 1;
    uint64_t first = (claim->offset + page_mask) & ~page_mask;
    uint64_t last = (claim->offset + bytes) & ~page_mask;
    if (first < last && epx_arena_space_discard(&own->space, first, last - first) != 0) {
        memset(own->space.base + claim->offset, 0, claim->stale_bytes);
    }
    epx_extents_assign(&own->extents, claim->offset, bytes, EPX_EXTENT_HOLE);
}

/* Makes a populated claim an allocation; what a piece has beyond it stays for the next ones. */
static void settle_locked(struct epx_arena_own *own, const struct claim *claim, uint64_t used_bytes)
{
    uint64_t rest = claim->populate_bytes > claim->bytes ? claim->populate_bytes - claim->bytes : 0;
    if (rest > 0 && epx_extents_reserve(&own->extents, 1)) {
        epx_extents_assign(&own->extents, claim->offset + claim->bytes, rest, EPX_EXTENT_FREE);
    }
    struct epx_extent *extent = epx_extents_at(&own->extents, claim->offset);
    extent->state = EPX_EXTENT_LIVE;
    extent->used_bytes = used_bytes;
    if (claim->lazy) {
        epx_arena_lack_set(&own->lack, claim->offset + claim->there_bytes, claim->bytes - claim->there_bytes, true);
    }
    uint64_t committed_bytes = atomic_load_explicit(&own->header->committed_bytes, memory_order_relaxed);
    uint64_t end = extent->offset + extent->bytes;
    if (end > committed_bytes) {
        atomic_store_explicit(&own->header->committed_bytes, end, memory_order_release);
    }
}

/* What reservations and allocations on their way may still bring in. */
static uint64_t promised_locked(const struct epx_arena_own *own)
{
    uint64_t bytes = own->space.page_bytes; /* the header's */
    for (size_t i = 0; i < own->extents.count; i++) {
        bytes += own->extents.items[i].state != EPX_EXTENT_HOLE ? own->extents.items[i].bytes : 0;
    }
    uint64_t there_bytes = epx_arena_space_there_bytes(&own->space);
    return there_bytes < bytes ? bytes - there_bytes : 0;
}

/* Claims, and fills with zeros what has to be there. The lock is not held meanwhile: pages take long, and a pending
 * extent is nobody else's. */
static enum epx_status claim_zeroed(struct claim *claim)
{
    struct epx_arena_own *own = epx_arena_own_lock();
    enum epx_status status = epx_arena_own_open_locked();
    if (status == EPX_OK) {
        status = claim_locked(own, claim);
    }
    uint64_t promised_bytes = status == EPX_OK && claim->lazy ? promised_locked(own) : 0;
    epx_arena_own_unlock();
    EPX_TRY(status);
    if (claim->there_bytes < claim->bytes) {
        uint64_t lacking_bytes = claim->bytes - claim->there_bytes;
        uint64_t others_bytes = promised_bytes < lacking_bytes ? 0 : promised_bytes - lacking_bytes;
        status = epx_arena_space_check_room(lacking_bytes, others_bytes);
    } else if (claim->populate_bytes > 0) {
        status = epx_arena_space_populate(&own->space, claim->offset, claim->populate_bytes);
    }
    if (status != EPX_OK) {
        (void)epx_arena_own_lock();
        abandon_locked(own, claim);
        epx_arena_own_unlock();
        return status;
    }
    memset(own->space.base + claim->offset, 0, claim->stale_bytes);
    return EPX_OK;
}

static bool discard_all(void)
{
    struct epx_arena_own *own = epx_arena_own_lock();
    bool any = own->is_open && discard_free(own, own->space.page_bytes, own->extents.end);
    epx_arena_own_unlock();
    return any;
}

/* Reserved memory has chunks of its own. */
static enum epx_status round_sizes(size_t bytes, size_t align, struct claim *claim)
{
    if (align == 0 || (align & (align - 1)) != 0 || align > EPX_ARENA_ALIGN_MAX) {
        return epx_fail(EPX_ERR_INVALID, "alignment is %zu, must be a power of two, at most %u", align,
                        EPX_ARENA_ALIGN_MAX);
    }
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t chunk_bytes = page_bytes > EPX_ARENA_CHUNK_BYTES ? page_bytes : EPX_ARENA_CHUNK_BYTES;
    uint64_t unit = claim->lazy ? chunk_bytes : bytes >= PIECE_BYTES ? page_bytes : ALIGN_MIN;
    claim->align = align > unit ? align : unit;
    if (!epx_round_up_u64(bytes > 0 ? bytes : 1, unit, &claim->bytes)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%zu bytes cannot be allocated", bytes);
    }
    return EPX_OK;
}

static bool pages_are_scarce(struct epx_arena_own *own, uint64_t freed_bytes)
{
    if (freed_bytes < DISCARD_MIN_BYTES) {
        return false;
    }
    uint64_t kept_bytes = 0;
    for (size_t i = 0; i < own->extents.count; i++) {
        if (own->extents.items[i].state == EPX_EXTENT_FREE) {
            kept_bytes += own->extents.items[i].bytes;
        }
    }
    return kept_bytes > epx_topology_memory_headroom_bytes() / KEPT_PART;
}

#if EPX_THREAD_SANITIZER
static bool hold_locked(struct epx_arena_own *own, uint64_t offset, uint64_t bytes)
{
    if (own->stray) {
        if (epx_arena_lack_any(&own->lack, offset, offset + bytes)) {
            epx_arena_lack_set(&own->lack, offset, bytes, false);
        }
        epx_extents_assign(&own->extents, offset, bytes, EPX_EXTENT_HELD);
    }
    return own->stray;
}
#else
static bool hold_locked(struct epx_arena_own *own, uint64_t offset, uint64_t bytes)
{
    (void)own;
    (void)offset;
    (void)bytes;
    return false;
}
#endif

/* Of reserved memory that never got all its pages: what is there from its beginning on stays, the rest becomes hole. It
 * is given back as a whole, as the program may have touched pages itself. Returns the bytes that stay. */
static uint64_t free_lacking_locked(struct epx_arena_own *own, uint64_t offset, uint64_t bytes)
{
    uint64_t rest = epx_arena_lack_next(&own->lack, offset, offset + bytes, true);
    epx_arena_lack_set(&own->lack, offset, bytes, false);
    bool discarded = epx_arena_space_discard(&own->space, rest, offset + bytes - rest) == 0;
    if (!epx_extents_reserve(&own->extents, 1)) {
        rest = offset;
        discarded = discarded && epx_arena_space_discard(&own->space, offset, bytes) == 0;
    }
    epx_extents_assign(&own->extents, rest, offset + bytes - rest, discarded ? EPX_EXTENT_HOLE : EPX_EXTENT_HELD);
    return rest - offset;
}

static enum epx_status free_locked(struct epx_arena_own *own, const void *pointer)
{
    uint64_t offset = (uint64_t)((uintptr_t)pointer - (uintptr_t)own->space.base);
    const struct epx_extent *extent = own->is_open ? epx_extents_at(&own->extents, offset) : NULL;
    if (extent == NULL || extent->state != EPX_EXTENT_LIVE) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%p is in no live allocation", pointer);
    }
    if (extent->offset != offset) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%p is %llu bytes inside an allocation, must be its start", pointer,
                        (unsigned long long)(offset - extent->offset));
    }
    uint64_t freed_bytes = extent->bytes;
    epx_arena_own_note_end();
    if (hold_locked(own, offset, freed_bytes)) {
        return EPX_OK;
    }
    if (epx_arena_lack_any(&own->lack, offset, offset + freed_bytes)) {
        freed_bytes = free_lacking_locked(own, offset, freed_bytes);
    }
    if (freed_bytes == 0) {
        return EPX_OK;
    }
    epx_extents_assign(&own->extents, offset, freed_bytes, EPX_EXTENT_FREE);
    if (pages_are_scarce(own, freed_bytes)) {
        (void)discard_extent(own, epx_extents_at(&own->extents, offset));
    }
    return EPX_OK;
}

static enum epx_status allocate(size_t bytes, size_t align, bool lazy, void **out)
{
    struct claim claim = {.lazy = lazy};
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
    struct epx_arena_own *own = epx_arena_own_lock();
    settle_locked(own, &claim, bytes);
    *out = own->space.base + claim.offset;
    epx_arena_own_unlock();
    return EPX_OK;
}

enum epx_status epx_arena_alloc(size_t bytes, size_t align, void **out)
{
    return allocate(bytes, align, false, out);
}

enum epx_status epx_arena_reserve(size_t bytes, size_t align, void **out)
{
    return allocate(bytes, align, bytes >= LAZY_MIN_BYTES, out);
}

enum epx_status epx_arena_free(void *pointer)
{
    struct epx_arena_own *own = epx_arena_own_lock();
    enum epx_status status = free_locked(own, pointer);
    epx_arena_own_unlock();
    return status;
}

/* Chunks of one allocation that lack pages and touch each other. */
struct gap {
    uint64_t first;
    uint64_t end;
};

/* The first gap that meets [place, end), within the live allocation at `place`; false when there is none. */
static bool find_gap_locked(struct epx_arena_own *own, uint64_t place, uint64_t end, struct gap *gap)
{
    const struct epx_extent *extent = own->is_open ? epx_extents_at(&own->extents, place) : NULL;
    if (extent == NULL || extent->state != EPX_EXTENT_LIVE) {
        return false;
    }
    uint64_t extent_end = extent->offset + extent->bytes;
    uint64_t chunk_mask = own->lack.chunk_bytes - 1;
    end = end < extent_end ? (end + chunk_mask) & ~chunk_mask : extent_end;
    gap->first = epx_arena_lack_next(&own->lack, place, end, true);
    gap->end = epx_arena_lack_next(&own->lack, gap->first, end, false);
    return gap->first < end;
}

/* Kept free memory may be what is missing. */
static enum epx_status bring_in(const struct epx_arena_space *space, const struct gap *gap)
{
    if (epx_arena_space_populate(space, gap->first, gap->end - gap->first) == EPX_OK) {
        return EPX_OK;
    }
    (void)discard_all();
    return epx_arena_space_populate(space, gap->first, gap->end - gap->first);
}

enum epx_status epx_arena_need(const void *pointer, uint64_t bytes)
{
    while (epx_arena_own_lacks(pointer, bytes)) {
        struct gap gap;
        struct epx_arena_own *own = epx_arena_own_lock();
        uint64_t place = (uint64_t)((uintptr_t)pointer - (uintptr_t)own->space.base);
        bool lacks = find_gap_locked(own, place, place + bytes, &gap);
        epx_arena_own_unlock();
        if (!lacks) {
            break; /* of another allocation: not what the caller has */
        }
        if (epx_fault("arena_need", -1)) {
            return epx_fail(EPX_ERR_NO_MEMORY, "%llu bytes: fault on purpose",
                            (unsigned long long)(gap.end - gap.first));
        }
        EPX_TRY(bring_in(&own->space, &gap));
        (void)epx_arena_own_lock();
        struct gap now;
        if (find_gap_locked(own, place, place + bytes, &now) && now.first == gap.first) {
            epx_arena_lack_set(&own->lack, gap.first, (now.end < gap.end ? now.end : gap.end) - gap.first, false);
        }
        epx_arena_own_unlock();
    }
    return EPX_OK;
}

uint64_t epx_arena_promised_bytes(void)
{
    const struct epx_arena_own *own = epx_arena_own_lock();
    uint64_t bytes = own->is_open ? promised_locked(own) : 0;
    epx_arena_own_unlock();
    return bytes;
}
