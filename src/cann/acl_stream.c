#include "cann/acl_error.h"
#include "cann/acl_objects.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct epx_handle_registry streams = EPX_HANDLE_REGISTRY_INIT(2);
static _Atomic uint32_t made_on[EPX_CANN_DEVICES_MAX]; /* streams of programs by device */

enum epx_status epx_cann_stream_make(void *context, int32_t device, bool is_default, void **handle)
{
    struct epx_cann_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a stream");
    }
    enum epx_status status = epx_stream_create(&stream->engine);
    if (status != EPX_OK) {
        free(stream);
        return status;
    }
    stream->context = context;
    stream->device = device;
    stream->is_default = is_default;
    epx_stream_set_owner(stream->engine, stream);
    if (!epx_handle_add(&streams, stream, &stream->handle)) {
        epx_stream_destroy(stream->engine);
        free(stream);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a stream");
    }
    *handle = stream->handle;
    return EPX_OK;
}

static bool stream_end(const void *handle)
{
    struct epx_cann_stream *stream = epx_handle_remove(&streams, handle);
    if (!stream) {
        return false;
    }
    epx_stream_destroy(stream->engine);
    if (!stream->is_default) {
        atomic_fetch_sub(&made_on[stream->device], 1);
    }
    free(stream);
    return true;
}

void epx_cann_streams_end(const void *context)
{
    uint32_t place = 0;
    void *object;
    void *handle;
    while ((handle = epx_handle_next(&streams, &place, &object)) != NULL) {
        const struct epx_cann_stream *stream = object;
        bool is_member = stream->context == context;
        epx_handle_release(&streams, handle);
        if (is_member) {
            (void)stream_end(handle);
        }
    }
}

void epx_cann_streams_reset_after_fork(void)
{
    epx_handle_reset_after_fork(&streams);
    for (size_t i = 0; i < EPX_CANN_DEVICES_MAX; i++) {
        atomic_store(&made_on[i], 0);
    }
}

static enum epx_status default_stream(void **handle)
{
    void *context_handle;
    struct epx_cann_context *context;
    EPX_TRY(epx_cann_context_acquire(&context_handle, &context));
    *handle = context->default_stream;
    epx_cann_context_release(context_handle);
    return EPX_OK;
}

enum epx_status epx_cann_stream_find(void *handle, struct epx_cann_stream **stream)
{
    if (!handle) {
        EPX_TRY(default_stream(&handle));
    }
    *stream = epx_handle_acquire(&streams, handle);
    if (!*stream) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%p is no stream, or has been destroyed", handle);
    }
    return EPX_OK;
}

enum epx_status epx_cann_stream_acquire(aclrtStream handle, struct epx_stream **stream, int32_t *device)
{
    struct epx_cann_stream *found;
    EPX_TRY(epx_cann_stream_find(handle, &found));
    *stream = found->engine;
    *device = found->device;
    return EPX_OK;
}

void epx_cann_stream_release(struct epx_stream *stream)
{
    const struct epx_cann_stream *found = epx_stream_owner(stream);
    epx_handle_release(&streams, found->handle);
}

/* Takes one of the device's streams. */
static bool take_place(int32_t device)
{
    uint32_t made = atomic_load(&made_on[device]);
    do {
        if (made >= EPX_CANN_STREAMS_MAX) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&made_on[device], &made, made + 1));
    return true;
}

aclError epx_cann_aclrtCreateStream(aclrtStream *stream)
{
    void *handle;
    struct epx_cann_context *context;
    if (!stream) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "stream is null");
    }
    enum epx_status status = epx_cann_context_acquire(&handle, &context);
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    int32_t device = context->device;
    aclError code;
    if (!take_place(device)) {
        code = epx_cann_refuse(ACL_ERROR_RT_NO_STREAM_RESOURCE, "device %d has %d streams, the most it can have",
                               device, EPX_CANN_STREAMS_MAX);
    } else {
        status = epx_cann_stream_make(handle, device, false, stream);
        code = epx_cann_acl_result(status);
        if (status != EPX_OK) {
            atomic_fetch_sub(&made_on[device], 1);
        }
    }
    epx_cann_context_release(handle);
    return code;
}

aclError epx_cann_aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flag)
{
    (void)priority;
    (void)flag;
    return epx_cann_aclrtCreateStream(stream);
}

aclError epx_cann_aclrtDestroyStream(aclrtStream stream)
{
    struct epx_cann_stream *found;
    if (!stream) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "stream is null");
    }
    enum epx_status status = epx_cann_stream_find(stream, &found);
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    bool is_default = found->is_default;
    epx_cann_stream_release(found->engine);
    if (is_default) {
        return epx_cann_refuse(ACL_ERROR_RT_INVALID_HANDLE, "%p is a default stream, which ends with its context",
                               stream);
    }
    if (!stream_end(stream)) {
        return epx_cann_refuse(ACL_ERROR_RT_INVALID_HANDLE, "stream %p has been destroyed by another thread", stream);
    }
    return ACL_SUCCESS;
}

static aclError synchronize(aclrtStream stream, int64_t timeout_ms)
{
    struct epx_cann_stream *found;
    bool expired = false;
    enum epx_status status = epx_cann_stream_find(stream, &found);
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    status = epx_stream_wait(found->engine, timeout_ms, &expired);
    epx_cann_stream_release(found->engine);
    return expired ? epx_cann_report(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, NULL) : epx_cann_acl_result(status);
}

aclError epx_cann_aclrtSynchronizeStream(aclrtStream stream)
{
    return synchronize(stream, -1);
}

aclError epx_cann_aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout)
{
    if (timeout < -1) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "timeout is %d ms, must be at least -1", timeout);
    }
    return synchronize(stream, timeout);
}

aclError epx_cann_aclrtSynchronizeDevice(void)
{
    int32_t device;
    enum epx_status status = epx_cann_current_device(&device);
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    aclError first = ACL_SUCCESS;
    uint32_t place = 0;
    void *object;
    while (epx_handle_next(&streams, &place, &object)) {
        const struct epx_cann_stream *stream = object;
        status = stream->device == device ? epx_stream_synchronize(stream->engine, -1) : EPX_OK;
        if (status != EPX_OK && first == ACL_SUCCESS) {
            first = epx_cann_acl_result(status);
        }
        epx_cann_stream_release(stream->engine);
    }
    return first;
}

aclError epx_cann_aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus *status)
{
    struct epx_cann_stream *found;
    if (!status) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "status is null");
    }
    enum epx_status result = epx_cann_stream_find(stream, &found);
    if (result == EPX_OK) {
        *status = epx_stream_idle(found->engine) ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
        epx_cann_stream_release(found->engine);
    }
    return epx_cann_acl_result(result);
}

aclError epx_cann_aclrtStreamAbort(aclrtStream stream)
{
    struct epx_cann_stream *found;
    if (!stream) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "stream is null");
    }
    enum epx_status status = epx_cann_stream_find(stream, &found);
    if (status == EPX_OK) {
        epx_stream_abort(found->engine);
        epx_cann_stream_release(found->engine);
    }
    return epx_cann_acl_result(status);
}
