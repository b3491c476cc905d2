/*
 * For ThreadSanitizer alone: memory that peers may still be reading although it was freed.
 *
 * A round that succeeds ends after every read of a peer. A round that fails does not: a rank that knows may free its
 * memory while a peer that does not know yet reads it. The peer writes nothing there and discards what it read once it
 * looks at the control word (rounds.c), so this harms nobody; but where ranks are threads of one process, the sanitizer
 * rightly sees a read that nothing orders with the writes of whoever is given the memory next. So in its builds, memory
 * that is freed after a failure is held back until no communicator of the process is open. Rounds that succeed stay
 * under its eyes: what is freed before any failure is given out again at once.
 */
#ifndef EPX_MEMORY_ARENA_STRAY_H
#define EPX_MEMORY_ARENA_STRAY_H

#include "base/sanitizer.h"

#if EPX_THREAD_SANITIZER
/* A communicator of this process is open, is closed, is known to have failed. Thread: any. */
void epx_arena_readers_add(void);
void epx_arena_readers_remove(void);
void epx_arena_readers_stray(void);
#else
static inline void epx_arena_readers_add(void)
{
}

static inline void epx_arena_readers_remove(void)
{
}

static inline void epx_arena_readers_stray(void)
{
}
#endif

#endif
