#include "memory/arena_extent.h"

#include "base/checked_math.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64

/* Index of the extent that holds the byte at `offset`, which must be covered. */
static size_t index_at(const struct epx_extents *extents, uint64_t offset)
{
    size_t low = 0;
    size_t high = extents->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (extents->items[middle].offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static void insert_at(struct epx_extents *extents, size_t index, const struct epx_extent *item)
{
    struct epx_extent *place = extents->items + index;
    memmove(place + 1, place, (extents->count - index) * sizeof *place);
    *place = *item;
    extents->count++;
}

/* Makes one of the extents `index` and `index + 1` when they are in the same mergeable state. */
static void merge_with_next(struct epx_extents *extents, size_t index)
{
    if (index + 1 >= extents->count) {
        return;
    }
    struct epx_extent *first = extents->items + index;
    bool mergeable = first->state == EPX_EXTENT_FREE || first->state == EPX_EXTENT_HOLE;
    if (!mergeable || first->state != first[1].state) {
        return;
    }
    first->bytes += first[1].bytes;
    extents->count--;
    memmove(first + 1, first + 2, (extents->count - index - 1) * sizeof *first);
}

/* Cuts the extent at `index` so that one begins at `offset`; returns the index of that one. */
static size_t split_at(struct epx_extents *extents, size_t index, uint64_t offset)
{
    struct epx_extent *item = extents->items + index;
    if (item->offset == offset) {
        return index;
    }
    struct epx_extent rest = *item;
    rest.offset = offset;
    rest.bytes = item->offset + item->bytes - offset;
    item->bytes = offset - item->offset;
    insert_at(extents, index + 1, &rest);
    return index + 1;
}

void epx_extents_init(struct epx_extents *extents, uint64_t start)
{
    *extents = (struct epx_extents){.end = start};
}

void epx_extents_fini(struct epx_extents *extents)
{
    free(extents->items);
    *extents = (struct epx_extents){0};
}

bool epx_extents_reserve(struct epx_extents *extents, size_t extra)
{
    size_t needed = extents->count + extra;
    if (needed <= extents->capacity) {
        return true;
    }
    size_t capacity = extents->capacity < CAPACITY_MIN ? CAPACITY_MIN : extents->capacity * 2;
    if (capacity < needed) {
        capacity = needed;
    }
    struct epx_extent *items = reallocarray(extents->items, capacity, sizeof *items);
    if (items == NULL) {
        return false;
    }
    extents->items = items;
    extents->capacity = capacity;
    return true;
}

bool epx_extents_find(const struct epx_extents *extents, enum epx_extent_state state, uint64_t bytes, uint64_t align,
                      uint64_t *offset)
{
    for (size_t i = 0; i < extents->count; i++) {
        const struct epx_extent *item = extents->items + i;
        uint64_t place;
        if (item->state == state && item->bytes >= bytes && epx_round_up_u64(item->offset, align, &place) &&
            place - item->offset <= item->bytes - bytes) {
            *offset = place;
            return true;
        }
    }
    return false;
}

bool epx_extents_find_run(const struct epx_extents *extents, uint64_t bytes, uint64_t align, uint64_t *offset)
{
    uint64_t start = 0;
    bool in_run = false;
    for (size_t i = 0; i < extents->count; i++) {
        const struct epx_extent *item = extents->items + i;
        bool usable = item->state == EPX_EXTENT_FREE || item->state == EPX_EXTENT_HOLE;
        start = usable && !in_run ? item->offset : start;
        in_run = usable;
        uint64_t place;
        uint64_t end = item->offset + item->bytes;
        if (usable && epx_round_up_u64(start, align, &place) && place <= end && end - place >= bytes) {
            *offset = place;
            return true;
        }
    }
    return false;
}

void epx_extents_take_run(struct epx_extents *extents, uint64_t offset, uint64_t bytes)
{
    size_t first = split_at(extents, index_at(extents, offset), offset);
    size_t last = index_at(extents, offset + bytes - 1);
    if (extents->items[last].offset + extents->items[last].bytes > offset + bytes) {
        (void)split_at(extents, last, offset + bytes);
    }
    struct epx_extent *item = extents->items + first;
    *item = (struct epx_extent){.offset = offset, .bytes = bytes, .state = EPX_EXTENT_PENDING};
    memmove(item + 1, extents->items + last + 1, (extents->count - last - 1) * sizeof *item);
    extents->count -= last - first;
}

struct epx_extent *epx_extents_at(const struct epx_extents *extents, uint64_t offset)
{
    if (extents->count == 0 || offset < extents->items[0].offset || offset >= extents->end) {
        return NULL;
    }
    return extents->items + index_at(extents, offset);
}

void epx_extents_assign(struct epx_extents *extents, uint64_t offset, uint64_t bytes, enum epx_extent_state state)
{
    size_t index = split_at(extents, index_at(extents, offset), offset);
    struct epx_extent *item = extents->items + index;
    if (item->bytes > bytes) {
        (void)split_at(extents, index, offset + bytes);
        item = extents->items + index;
    }
    item->state = state;
    item->used_bytes = 0;
    merge_with_next(extents, index);
    if (index > 0) {
        merge_with_next(extents, index - 1);
    }
}

void epx_extents_extend(struct epx_extents *extents, uint64_t bytes)
{
    const struct epx_extent item = {.offset = extents->end, .bytes = bytes, .state = EPX_EXTENT_HOLE};
    insert_at(extents, extents->count, &item);
    extents->end += bytes;
    if (extents->count > 1) {
        merge_with_next(extents, extents->count - 2);
    }
}
