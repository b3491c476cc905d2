#include "cann/spare_list.h"

#include "base/sanitizer.h"

#if EPX_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

static _Atomic uint32_t *link_of(void *list, uint32_t number)
{
    return &((struct epx_spare_list *)list)->nodes[number].link;
}

void *epx_spare_take(struct epx_spare_list *list)
{
    uint32_t number;
    if (!epx_index_pop(&list->full, link_of, list, &number)) {
        return NULL;
    }
    void *object = list->nodes[number].object;
    list->nodes[number].object = NULL;
    epx_index_push(&list->empty, link_of, list, number);
    ASAN_UNPOISON_MEMORY_REGION(object, list->object_bytes);
    return object;
}

/* A node without an object. */
static bool take_node(struct epx_spare_list *list, uint32_t *number)
{
    if (epx_index_pop(&list->empty, link_of, list, number)) {
        return true;
    }
    *number = atomic_load_explicit(&list->used, memory_order_relaxed);
    do {
        if (*number >= list->limit) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&list->used, number, *number + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool epx_spare_give(struct epx_spare_list *list, void *object)
{
    uint32_t number;
    if (!take_node(list, &number)) {
        return false;
    }
    ASAN_POISON_MEMORY_REGION(object, list->object_bytes);
    list->nodes[number].object = object;
    epx_index_push(&list->full, link_of, list, number);
    return true;
}

void epx_spare_list_reset_after_fork(struct epx_spare_list *list)
{
    atomic_store(&list->full.top, 0);
    atomic_store(&list->empty.top, 0);
    atomic_store(&list->used, 0);
}
