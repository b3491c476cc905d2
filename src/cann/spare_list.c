#include "cann/spare_list.h"

#include "base/sanitizer.h"

#include <string.h>

#if EPX_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

#define LINK_BYTES sizeof(void *)

/* The first bytes of an object in the list are the address of the next one. The leak sanitizer follows it, and so it is
 * not poisoned. */

static void *body_of(void *object)
{
    return (char *)object + LINK_BYTES;
}

void *epx_spare_take(struct epx_spare_list *list)
{
    void *object = list->first;
    if (object) {
        ASAN_UNPOISON_MEMORY_REGION(body_of(object), list->object_bytes - LINK_BYTES);
        memcpy(&list->first, object, LINK_BYTES);
        list->count--;
    }
    return object;
}

bool epx_spare_give(struct epx_spare_list *list, void *object)
{
    if (list->count >= list->limit) {
        return false;
    }
    memcpy(object, &list->first, LINK_BYTES);
    ASAN_POISON_MEMORY_REGION(body_of(object), list->object_bytes - LINK_BYTES);
    list->first = object;
    list->count++;
    return true;
}

void epx_spare_list_reset_after_fork(struct epx_spare_list *list)
{
    list->first = NULL;
    list->count = 0;
}
