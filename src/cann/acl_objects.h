/*
 * Contexts, streams and events of the acl runtime, as its own files see them. Each is found by its handle and held
 * while it is used. Thread: any.
 */
#ifndef EPX_CANN_ACL_OBJECTS_H
#define EPX_CANN_ACL_OBJECTS_H

#include "base/status.h"
#include "cann/handle_registry.h"
#include "runtime/stream.h"

#include <stdbool.h>
#include <stdint.h>

/* At least the largest EPX_DEVICE_COUNT. */
#define EPX_CANN_DEVICES_MAX 1024

/* Streams that a program may make on one device. Source: interface page of aclrtCreateStream, A2 and A3. */
#define EPX_CANN_STREAMS_MAX 1984

struct epx_cann_context { /* constant while it lives */
    int32_t device;
    bool is_default; /* of its device: made and ended by aclrtSetDevice and aclrtResetDevice */
    void *default_stream;
};

struct epx_cann_stream { /* constant while it lives */
    struct epx_stream *engine;
    void *handle;
    void *context; /* handle of the context that it ends with */
    int32_t device;
    bool is_default; /* of its context: never given to a program by its handle */
};

/* The calling thread's current context, held; EPX_ERR_STATE when there is none. */
EPX_NODISCARD enum epx_status epx_cann_context_acquire(void **handle, struct epx_cann_context **context);
void epx_cann_context_release(const void *handle);

/* The stream of a handle that may be null for the default one, held until epx_cann_stream_release of its engine. As
 * epx_cann_stream_acquire. */
EPX_NODISCARD enum epx_status epx_cann_stream_find(void *handle, struct epx_cann_stream **stream);

/* EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_cann_stream_make(void *context, int32_t device, bool is_default, void **handle);

/* Ends all streams of a context after their work. No stream of it may be being made. */
void epx_cann_streams_end(const void *context);

/* In a forked child. */
void epx_cann_devices_reset_after_fork(void);
void epx_cann_streams_reset_after_fork(void);
void epx_cann_events_reset_after_fork(void);

#endif
