/*
 * The arenas that this process has mapped: what stands behind epx_arena_attach and its relatives in arena.h, as the
 * owner's half sees it.
 */
#ifndef EPX_MEMORY_ARENA_REGISTRY_H
#define EPX_MEMORY_ARENA_REGISTRY_H

#include "memory/arena.h"

/* A handle for the process's own arena, in two steps, so that the second cannot fail; null when memory is exhausted. */
struct epx_arena *epx_arena_registry_reserve(void);
void epx_arena_registry_unreserve(struct epx_arena *handle);

/* Enters the own arena. Its first reference is the process's and is never given back. */
void epx_arena_registry_add_own(struct epx_arena *handle, const struct epx_arena_header *header);

/*
 * Around fork: lock before; unlock after in the parent; in the child, forget every mapping and unlock. The handles that
 * the child still holds give null addresses and dead owners, and may be detached.
 */
void epx_arena_registry_lock(void);
void epx_arena_registry_unlock(void);
void epx_arena_registry_forget(void);

#endif
