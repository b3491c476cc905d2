/*
 * The process's own arena around a fork; see arena_fork.h.
 */
#ifndef EPX_MEMORY_ARENA_OWN_H
#define EPX_MEMORY_ARENA_OWN_H

void epx_arena_own_lock(void);
void epx_arena_own_unlock(void);

/* In the child, with the lock held: there is no own arena any more. Unlocks. */
void epx_arena_own_forget(void);

#endif
