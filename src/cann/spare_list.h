/*
 * Objects of one size that are used again instead of being freed, a limited number of them, the latest first. What lies
 * in a list belongs to nobody: the address sanitizer reports who touches it. No lock. Thread: any.
 */
#ifndef EPX_CANN_SPARE_LIST_H
#define EPX_CANN_SPARE_LIST_H

#include "cann/index_stack.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPX_SPARES_MAX 512u

struct epx_spare_list {
    size_t object_bytes;
    uint32_t limit;              /* up to EPX_SPARES_MAX */
    _Atomic uint32_t used;       /* nodes that have ever been */
    struct epx_index_stack full; /* nodes with an object */
    struct epx_index_stack empty;
    struct epx_spare_node {
        void *object;
        _Atomic uint32_t link;
    } nodes[EPX_SPARES_MAX];
};

/* An object with any content, null when there is none. */
void *epx_spare_take(struct epx_spare_list *list);

/* False: the list is full, and the object is still the caller's. */
bool epx_spare_give(struct epx_spare_list *list, void *object);

/* In a forked child. What it holds is lost. */
void epx_spare_list_reset_after_fork(struct epx_spare_list *list);

#endif
