/*
 * Who owns which bytes of an arena: extents that cover [start, end) without gaps, in order of offset. Kept in private
 * memory, so that no peer can damage it. No locking.
 */
#ifndef EPX_MEMORY_ARENA_EXTENT_H
#define EPX_MEMORY_ARENA_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum epx_extent_state {
    EPX_EXTENT_LIVE,    /* an allocation; of a reserved one some pages may not be there: see arena_lack.h */
    EPX_EXTENT_PENDING, /* taken by an allocation that is being populated */
    EPX_EXTENT_FREE,    /* its pages are there and hold old bytes */
    EPX_EXTENT_HELD,    /* freed, not to be given out: see arena_stray.h, or its pages cannot be given back */
    EPX_EXTENT_HOLE,    /* reads as zeros; some or all of its pages are not there */
};

struct epx_extent {
    uint64_t offset;
    uint64_t bytes;
    uint64_t used_bytes; /* what the caller asked for, <= bytes; 0 unless live */
    enum epx_extent_state state;
};

struct epx_extents {
    struct epx_extent *items;
    size_t count;
    size_t capacity;
    uint64_t end;
};

void epx_extents_init(struct epx_extents *extents, uint64_t start);
void epx_extents_fini(struct epx_extents *extents);

/* Makes room for `extra` more extents; false when memory is exhausted. */
bool epx_extents_reserve(struct epx_extents *extents, size_t extra);

/* The lowest aligned place of `bytes` bytes in an extent of this state. `align` is a power of two. */
bool epx_extents_find(const struct epx_extents *extents, enum epx_extent_state state, uint64_t bytes, uint64_t align,
                      uint64_t *offset);

/* The lowest aligned place of `bytes` bytes in adjacent free extents and holes. */
bool epx_extents_find_run(const struct epx_extents *extents, uint64_t bytes, uint64_t align, uint64_t *offset);

/* Makes [offset, offset + bytes), a place that epx_extents_find_run gave, one pending extent. Needs room for two more.
 */
void epx_extents_take_run(struct epx_extents *extents, uint64_t offset, uint64_t bytes);

/* The extent that holds the byte at `offset`, null outside. Valid until the next change. */
struct epx_extent *epx_extents_at(const struct epx_extents *extents, uint64_t offset);

/*
 * Gives [offset, offset + bytes), a part of one extent, another state. Free extents that touch become one, and holes
 * too. Needs room for one more extent for each end that lies inside the old extent.
 */
void epx_extents_assign(struct epx_extents *extents, uint64_t offset, uint64_t bytes, enum epx_extent_state state);

/* Adds `bytes` bytes of hole at the end. Needs room for one more extent. */
void epx_extents_extend(struct epx_extents *extents, uint64_t bytes);

#endif
