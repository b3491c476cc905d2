/*
 * Handles of contexts, streams, events and executors: numbers, never addresses, made of a kind, a generation and a
 * place. A value that was not given out, or whose object is gone, is found to be so whatever it is. Nothing locks but
 * making room for more handles than there ever were, and waiting for holders. Thread: any.
 */
#ifndef EPX_CANN_HANDLE_REGISTRY_H
#define EPX_CANN_HANDLE_REGISTRY_H

#include "cann/index_stack.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Segment s has twice as many entries as segment s - 1, and never moves. */
#define EPX_HANDLE_SEGMENTS 15u

struct epx_handle_entry;

struct epx_handle_registry {
    pthread_mutex_t lock;    /* of growing, and of waiting */
    pthread_cond_t released; /* somebody dropped the last hold of an object that is being removed */
    uint64_t kind;           /* 1 to 15, differs between registries */
    _Atomic(struct epx_handle_entry *) segments[EPX_HANDLE_SEGMENTS];
    struct epx_index_stack free;
    _Atomic uint32_t generation; /* of the latest handle; never reset, also not in a forked child */
};

#define EPX_HANDLE_REGISTRY_INIT(kind_)                                                                                \
    {                                                                                                                  \
        .lock = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER, .kind = (kind_)                       \
    }

/* Writes a handle for `object` to *handle before anybody can find the object by it; *handle may be a field of the
 * object. False when there is no memory. */
bool epx_handle_add(struct epx_handle_registry *registry, void *object, void **handle);

/* The object, which stays until it is released; null when the handle is unknown. */
void *epx_handle_acquire(struct epx_handle_registry *registry, const void *handle);
void epx_handle_release(struct epx_handle_registry *registry, const void *handle);

/* Makes the handle unknown, then waits until nobody holds the object and returns it; null when the handle is unknown.
 */
void *epx_handle_remove(struct epx_handle_registry *registry, const void *handle);

/* Walks over all objects: the handle of the next one at or after *place, with its object held; null at the end. */
void *epx_handle_next(struct epx_handle_registry *registry, uint32_t *place, void **object);

/* In a forked child: forgets everything. The objects are not freed: their threads do not exist here. */
void epx_handle_reset_after_fork(struct epx_handle_registry *registry);

#endif
