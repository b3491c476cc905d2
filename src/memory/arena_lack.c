#include "memory/arena_lack.h"

#include <stdlib.h>

#define WORD_BITS 64u

bool epx_arena_lack_init(struct epx_arena_lack *lack, uint64_t arena_bytes, uint64_t chunk_bytes)
{
    lack->chunk_bytes = chunk_bytes;
    lack->word_count = arena_bytes / chunk_bytes / WORD_BITS + 1;
    lack->words = calloc(lack->word_count, sizeof *lack->words);
    return lack->words != NULL;
}

void epx_arena_lack_fini(struct epx_arena_lack *lack)
{
    free(lack->words);
    *lack = (struct epx_arena_lack){0};
}

static bool chunk_lacks(const struct epx_arena_lack *lack, uint64_t chunk)
{
    uint64_t word = atomic_load_explicit(&lack->words[chunk / WORD_BITS], memory_order_relaxed);
    return (word >> (chunk % WORD_BITS) & 1) != 0;
}

void epx_arena_lack_set(struct epx_arena_lack *lack, uint64_t offset, uint64_t bytes, bool lacks)
{
    uint64_t end = (offset + bytes) / lack->chunk_bytes;
    for (uint64_t chunk = offset / lack->chunk_bytes; chunk < end; chunk++) {
        uint64_t bit = UINT64_C(1) << (chunk % WORD_BITS);
        if (lacks) {
            (void)atomic_fetch_or_explicit(&lack->words[chunk / WORD_BITS], bit, memory_order_relaxed);
        } else {
            (void)atomic_fetch_and_explicit(&lack->words[chunk / WORD_BITS], ~bit, memory_order_relaxed);
        }
    }
}

bool epx_arena_lack_any(const struct epx_arena_lack *lack, uint64_t offset, uint64_t end)
{
    if (offset >= end) {
        return false;
    }
    uint64_t chunk = offset / lack->chunk_bytes;
    uint64_t last = (end - 1) / lack->chunk_bytes;
    uint64_t most = lack->word_count * WORD_BITS - 1;
    last = last < most ? last : most;
    while (chunk <= last) {
        if (chunk % WORD_BITS == 0 && last - chunk >= WORD_BITS - 1) {
            if (atomic_load_explicit(&lack->words[chunk / WORD_BITS], memory_order_relaxed) != 0) {
                return true;
            }
            chunk += WORD_BITS;
        } else if (chunk_lacks(lack, chunk)) {
            return true;
        } else {
            chunk++;
        }
    }
    return false;
}

uint64_t epx_arena_lack_next(const struct epx_arena_lack *lack, uint64_t offset, uint64_t end, bool lacks)
{
    uint64_t last = end / lack->chunk_bytes;
    for (uint64_t chunk = offset / lack->chunk_bytes; chunk < last; chunk++) {
        if (chunk_lacks(lack, chunk) == lacks) {
            return chunk * lack->chunk_bytes;
        }
    }
    return end;
}
