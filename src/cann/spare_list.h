/*
 * Objects of one size that are used again instead of being freed, a limited number of them. What lies in a list belongs
 * to nobody: the address sanitizer reports who touches it. The caller's lock.
 */
#ifndef EPX_CANN_SPARE_LIST_H
#define EPX_CANN_SPARE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct epx_spare_list {
    size_t object_bytes; /* at least a pointer's */
    uint32_t limit;
    uint32_t count;
    void *first;
};

/* An object with any content, null when there is none. */
void *epx_spare_take(struct epx_spare_list *list);

/* False: the list is full, and the object is still the caller's. */
bool epx_spare_give(struct epx_spare_list *list, void *object);

/* In a forked child: forgets them all. */
void epx_spare_list_reset_after_fork(struct epx_spare_list *list);

#endif
