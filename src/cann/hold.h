/*
 * Who holds an object that may end meanwhile, without a lock: one word, the object's generation and the number of its
 * holders. The word's memory is never freed, and objects that follow each other at one place have different
 * generations; so whoever comes late finds another generation, or none. Thread: any.
 */
#ifndef EPX_CANN_HOLD_H
#define EPX_CANN_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct epx_hold {
    _Atomic uint64_t word; /* generation << 32 | holders; generation 0: there is no object, or it is ending */
};

/* The object, whole, is there for others: with so many holders already. */
static inline void epx_hold_begin(struct epx_hold *hold, uint32_t generation, uint32_t holders)
{
    atomic_store_explicit(&hold->word, (uint64_t)generation << 32 | holders, memory_order_release);
}

/* True: it is this generation, held, and as it was when it began. */
static inline bool epx_hold_take(struct epx_hold *hold, uint32_t generation)
{
    uint64_t word = atomic_load_explicit(&hold->word, memory_order_relaxed);
    do {
        if (generation == 0 || word >> 32 != generation) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&hold->word, &word, word + 1, memory_order_acquire,
                                                    memory_order_relaxed));
    return true;
}

enum epx_hold_left {
    EPX_HOLD_OTHERS, /* others hold it */
    EPX_HOLD_IDLE,   /* nobody does */
    EPX_HOLD_ENDED,  /* nobody does, and it has been closed: it is the caller's to end */
};

static inline enum epx_hold_left epx_hold_drop(struct epx_hold *hold)
{
    uint64_t word = atomic_fetch_sub_explicit(&hold->word, 1, memory_order_acq_rel) - 1;
    return (uint32_t)word != 0 ? EPX_HOLD_OTHERS : word != 0 ? EPX_HOLD_IDLE : EPX_HOLD_ENDED;
}

static inline uint32_t epx_hold_generation(const struct epx_hold *hold)
{
    return (uint32_t)(atomic_load_explicit(&hold->word, memory_order_relaxed) >> 32);
}

static inline uint32_t epx_hold_count(const struct epx_hold *hold)
{
    return (uint32_t)atomic_load_explicit(&hold->word, memory_order_acquire);
}

/* Nobody takes it any more; false when it is not this generation. *holders are left: without any it is the caller's to
 * end, else the last one's. */
static inline bool epx_hold_close(struct epx_hold *hold, uint32_t generation, uint32_t *holders)
{
    uint64_t word = atomic_load_explicit(&hold->word, memory_order_relaxed);
    do {
        if (generation == 0 || word >> 32 != generation) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&hold->word, &word, (uint32_t)word, memory_order_acq_rel,
                                                    memory_order_relaxed));
    *holders = (uint32_t)word;
    return true;
}

/* The same, but only when nobody holds it. */
static inline bool epx_hold_close_idle(struct epx_hold *hold, uint32_t generation)
{
    uint64_t word = (uint64_t)generation << 32;
    return generation != 0 &&
           atomic_compare_exchange_strong_explicit(&hold->word, &word, 0, memory_order_acq_rel, memory_order_relaxed);
}

#endif
