/*
 * The host-side objects that programs hold by address: which addresses are alive, and as what. An address is looked up
 * before anything is read through it. Thread: any.
 */
#ifndef EPX_CANN_OBJECT_SET_H
#define EPX_CANN_OBJECT_SET_H

#include <stdbool.h>

enum epx_object_kind {
    EPX_OBJECT_TENSOR = 1,
    EPX_OBJECT_SCALAR,
    EPX_OBJECT_INT_ARRAY,
    EPX_OBJECT_FLOAT_ARRAY,
    EPX_OBJECT_BOOL_ARRAY,
    EPX_OBJECT_TENSOR_LIST,
    EPX_OBJECT_SCALAR_LIST,
    EPX_OBJECT_MEMORY, /* what aclrtMalloc and aclrtMallocHost gave; nothing is read through it */
};

/* False when there is no memory. */
bool epx_object_add(const void *object, enum epx_object_kind kind);

/* False when the address is not alive as this kind. */
bool epx_object_remove(const void *object, enum epx_object_kind kind);
bool epx_object_alive(const void *object, enum epx_object_kind kind);

/* In a forked child: forgets everything. */
void epx_object_set_reset_after_fork(void);

#endif
