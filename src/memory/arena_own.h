/*
 * The process's own arena, for the files that keep it and for fork handlers (arena_fork.h).
 */
#ifndef EPX_MEMORY_ARENA_OWN_H
#define EPX_MEMORY_ARENA_OWN_H

#include "base/sanitizer.h"
#include "memory/arena.h"
#include "memory/arena_extent.h"
#include "memory/arena_space.h"

#include <pthread.h>

struct epx_arena_own {
    pthread_mutex_t lock; /* all that follows is under it; `space` and `header` stay as they are once it is open */
    bool is_open;
    struct epx_arena_space space;
    struct epx_arena_header *header; /* = space.base */
    struct epx_extents extents;
#if EPX_THREAD_SANITIZER
    uint64_t readers; /* open communicators */
    bool stray;       /* one of them has failed */
#endif
};

struct epx_arena_own *epx_arena_own_lock(void);
void epx_arena_own_unlock(void);

/* With the lock held: creates the arena when there is none. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_arena_own_open_locked(void);

/* In the child, with the lock held: there is no own arena any more. Unlocks. */
void epx_arena_own_forget(void);

#endif
