/*
 * A stack of the numbers of entries that are never freed, without a lock. Each entry has a link, which is the stack's
 * while its number lies in it; where the link of a number is, the caller's function says. Thread: any.
 */
#ifndef EPX_CANN_INDEX_STACK_H
#define EPX_CANN_INDEX_STACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct epx_index_stack {
    /* Changes << 32 | number on top + 1, or 0. The changes tell a top that has come back from one that stayed. */
    _Atomic uint64_t top;
};

typedef _Atomic uint32_t *(*epx_index_link)(void *context, uint32_t number);

static inline uint64_t epx_index_stack_next(uint64_t top, uint32_t number_plus_1)
{
    return ((top >> 32) + 1) << 32 | number_plus_1;
}

static inline void epx_index_push(struct epx_index_stack *stack, epx_index_link link_of, void *context, uint32_t number)
{
    _Atomic uint32_t *link = link_of(context, number);
    uint64_t top = atomic_load_explicit(&stack->top, memory_order_relaxed);
    do {
        atomic_store_explicit(link, (uint32_t)top, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&stack->top, &top, epx_index_stack_next(top, number + 1),
                                                    memory_order_release, memory_order_relaxed));
}

/* False when it is empty. What was done before the number was pushed is seen. */
static inline bool epx_index_pop(struct epx_index_stack *stack, epx_index_link link_of, void *context, uint32_t *number)
{
    uint64_t top = atomic_load_explicit(&stack->top, memory_order_acquire);
    uint32_t below;
    do {
        if ((uint32_t)top == 0) {
            return false;
        }
        *number = (uint32_t)top - 1;
        below = atomic_load_explicit(link_of(context, *number), memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&stack->top, &top, epx_index_stack_next(top, below),
                                                    memory_order_acquire, memory_order_acquire));
    return true;
}

#endif
