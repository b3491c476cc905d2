/*
 * The process's own arena, for the files that keep it and for fork handlers (arena_fork.h).
 */
#ifndef EPX_MEMORY_ARENA_OWN_H
#define EPX_MEMORY_ARENA_OWN_H

#include "base/sanitizer.h"
#include "memory/arena.h"
#include "memory/arena_extent.h"
#include "memory/arena_lack.h"
#include "memory/arena_space.h"

#include <pthread.h>

/* Reserved memory gets its pages in pieces of this size, or of a page where that is larger. */
#define EPX_ARENA_CHUNK_BYTES (UINT64_C(256) << 10)

struct epx_arena_own {
    /* All that follows is under it, but open_base, `ends` and the bits of `lack`, which are also read without. `space`
     * and `header` stay as they are once it is open. */
    pthread_mutex_t lock;
    bool is_open;
    struct epx_arena_space space;
    struct epx_arena_header *header; /* = space.base */
    struct epx_extents extents;
    struct epx_arena_lack lack;
    /* space.base once it is open, null before and in a forked child: for looks without the lock. */
    _Atomic(uint8_t *) open_base;
    /* From 1; raised before any allocation stops being live: what was live at a number is, as long as it stands. */
    _Atomic uint64_t ends;
#if EPX_THREAD_SANITIZER
    uint64_t readers; /* open communicators */
    bool stray;       /* one of them has failed */
#endif
};

struct epx_arena_own *epx_arena_own_lock(void);

/* Whether [pointer, pointer + bytes) meets reserved memory without pages. Without the lock. */
bool epx_arena_own_lacks(const void *pointer, uint64_t bytes);
void epx_arena_own_unlock(void);

/* With the lock held: creates the arena when there is none. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_arena_own_open_locked(void);

/* With the lock held: an allocation is about to stop being live. */
void epx_arena_own_note_end(void);

/* In the child, with the lock held: there is no own arena any more. Unlocks. */
void epx_arena_own_forget(void);

#endif
