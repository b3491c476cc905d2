#include "cann/acl_error.h"
#include "cann/acl_objects.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"

#define KNOWN_FLAGS (ACL_EVENT_SYNC | ACL_EVENT_CAPTURE_STREAM_PROGRESS | ACL_EVENT_TIME_LINE)

static struct epx_handle_registry events = EPX_HANDLE_REGISTRY_INIT(3);

void epx_cann_events_reset_after_fork(void)
{
    epx_handle_reset_after_fork(&events);
}

/* 0, or the code that was reported. The event is held after success. */
static aclError find_event(aclrtEvent handle, const char *name, struct epx_event **event)
{
    if (!handle) {
        (void)epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null", name);
        return ACL_ERROR_INVALID_PARAM;
    }
    *event = epx_handle_acquire(&events, handle);
    if (!*event) {
        (void)epx_cann_refuse(ACL_ERROR_RT_INVALID_HANDLE, "%s: %p is no event, or has been destroyed", name, handle);
        return ACL_ERROR_RT_INVALID_HANDLE;
    }
    return ACL_SUCCESS;
}

static enum epx_status event_make(void **handle)
{
    int32_t device;
    struct epx_event *event;
    EPX_TRY(epx_cann_current_device(&device));
    EPX_TRY(epx_event_create(&event));
    if (!epx_handle_add(&events, event, handle)) {
        epx_event_destroy(event);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an event");
    }
    return EPX_OK;
}

aclError epx_cann_aclrtCreateEvent(aclrtEvent *event)
{
    if (!event) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "event is null");
    }
    return epx_cann_acl_result(event_make(event));
}

aclError epx_cann_aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag)
{
    if (!event) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "event is null");
    }
    if (flag == 0 || (flag & ~KNOWN_FLAGS) != 0) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "flag is 0x%x, must be a set of bits of 0x%x", flag,
                               KNOWN_FLAGS);
    }
    return epx_cann_acl_result(event_make(event));
}

aclError epx_cann_aclrtDestroyEvent(aclrtEvent event)
{
    if (!event) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "event is null");
    }
    struct epx_event *removed = epx_handle_remove(&events, event);
    if (!removed) {
        return epx_cann_refuse(ACL_ERROR_RT_INVALID_HANDLE, "%p is no event, or has been destroyed", event);
    }
    epx_event_destroy(removed);
    return ACL_SUCCESS;
}

static aclError queue(aclrtEvent event, aclrtStream stream,
                      enum epx_status (*operation)(struct epx_event *, struct epx_stream *))
{
    struct epx_event *found_event;
    struct epx_cann_stream *found_stream;
    aclError code = find_event(event, "event", &found_event);
    if (code != ACL_SUCCESS) {
        return code;
    }
    enum epx_status status = epx_cann_stream_find(stream, &found_stream);
    if (status == EPX_OK) {
        status = operation(found_event, found_stream->engine);
        epx_cann_stream_release(found_stream->engine);
    }
    epx_handle_release(&events, event);
    return epx_cann_acl_result(status);
}

static enum epx_status wait_on_stream(struct epx_event *event, struct epx_stream *stream)
{
    return epx_stream_wait_event(stream, event);
}

aclError epx_cann_aclrtRecordEvent(aclrtEvent event, aclrtStream stream)
{
    return queue(event, stream, epx_event_record);
}

aclError epx_cann_aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event)
{
    return queue(event, stream, wait_on_stream);
}

aclError epx_cann_aclrtSynchronizeEvent(aclrtEvent event)
{
    struct epx_event *found;
    aclError code = find_event(event, "event", &found);
    if (code != ACL_SUCCESS) {
        return code;
    }
    enum epx_status status = epx_event_synchronize(found, -1);
    epx_handle_release(&events, event);
    return epx_cann_acl_result(status);
}

aclError epx_cann_aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status)
{
    struct epx_event *found;
    if (!status) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "status is null");
    }
    aclError code = find_event(event, "event", &found);
    if (code == ACL_SUCCESS) {
        *status = epx_event_happened(found) ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
        epx_handle_release(&events, event);
    }
    return code;
}

/* When an event happened; 0, or the code that was reported. */
static aclError time_of(aclrtEvent event, const char *name, uint64_t *time_ns)
{
    struct epx_event *found;
    aclError code = find_event(event, name, &found);
    if (code != ACL_SUCCESS) {
        return code;
    }
    *time_ns = epx_event_happened(found) ? epx_event_time_ns(found) : 0;
    epx_handle_release(&events, event);
    if (*time_ns == 0) {
        return epx_cann_refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, "%s has not happened", name);
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclrtEventElapsedTime(float *ms, aclrtEvent startEvent, aclrtEvent endEvent)
{
    uint64_t start_ns = 0;
    uint64_t end_ns = 0;
    if (!ms) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "ms is null");
    }
    aclError code = time_of(startEvent, "startEvent", &start_ns);
    if (code == ACL_SUCCESS) {
        code = time_of(endEvent, "endEvent", &end_ns);
    }
    if (code != ACL_SUCCESS) {
        return code;
    }
    if (end_ns < start_ns) {
        return epx_cann_refuse(ACL_ERROR_RT_EVENT_TIMESTAMP_REVERSAL, "endEvent happened %llu ns before startEvent",
                               (unsigned long long)(start_ns - end_ns));
    }
    *ms = (float)((double)(end_ns - start_ns) / 1e6);
    return ACL_SUCCESS;
}
