/*
 * Which chunks of an arena belong to reserved memory and have no pages yet: a bit each. Changed under the arena's lock,
 * read without: a thread sees at least what was there when it was given the memory, and a bit that it finds set too
 * late costs a look under the lock.
 */
#ifndef EPX_MEMORY_ARENA_LACK_H
#define EPX_MEMORY_ARENA_LACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct epx_arena_lack {
    uint64_t chunk_bytes; /* a power of two */
    uint64_t word_count;
    _Atomic uint64_t *words;
};

/* No chunk lacks pages. False when memory is exhausted. */
bool epx_arena_lack_init(struct epx_arena_lack *lack, uint64_t arena_bytes, uint64_t chunk_bytes);
void epx_arena_lack_fini(struct epx_arena_lack *lack);

/* [offset, offset + bytes), whole chunks. */
void epx_arena_lack_set(struct epx_arena_lack *lack, uint64_t offset, uint64_t bytes, bool lacks);

/* Whether a chunk that meets [offset, end) lacks pages; what lies beyond the arena lacks none. */
bool epx_arena_lack_any(const struct epx_arena_lack *lack, uint64_t offset, uint64_t end);

/* Offset of the first chunk from the one of `offset` on that lacks pages, or does not; `end`, a chunk's, when none does
 * before. */
uint64_t epx_arena_lack_next(const struct epx_arena_lack *lack, uint64_t offset, uint64_t end, bool lacks);

#endif
