/*
 * What becomes of arenas in a forked child: none of the mappings exists there, the child has no own arena until it
 * opens one, and handles from before the fork give null addresses.
 */
#ifndef EPX_MEMORY_ARENA_FORK_H
#define EPX_MEMORY_ARENA_FORK_H

#include "base/status.h"

/*
 * Registers the fork handlers, once a process. Before a fork they take the arenas' locks; a module whose own handlers
 * take a lock under which it calls the arenas registers them after its first call of arena.h, so that its lock is taken
 * first. EPX_ERR_NO_MEMORY.
 */
EPX_NODISCARD enum epx_status epx_arena_prepare_forks(void);

#endif
