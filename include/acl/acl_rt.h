/*
 * Devices, contexts, streams, events and memory of the host runtime.
 *
 * A device is a number: its memory is memory of this process and its streams are threads. A stream runs what is queued
 * on it in order. A context holds streams; each thread has a current one.
 *
 * Errors that functions below can give beside their own: 207001 no memory; 207005 a system call failed, such as
 * starting a stream's thread; 107000 a variable of the environment has a bad value. What a task of a stream failed with
 * is returned by the next call that waits for the stream: 507xxx, one code for each cause (docs/cann.md). After any
 * error aclGetRecentErrMsg has the text. Outputs are set on success only.
 * Owner: none, unless stated.
 * Thread: any; a handle may be used from every thread.
 * Source: public headers and interface pages of CANN 8.
 * Differs: none, unless stated.
 */
#ifndef ACL_ACL_RT_H
#define ACL_ACL_RT_H

#include "acl_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum aclrtRunMode { ACL_DEVICE = 0, ACL_HOST = 1 } aclrtRunMode;

typedef enum aclrtMemMallocPolicy {
    ACL_MEM_MALLOC_HUGE_FIRST = 0,
    ACL_MEM_MALLOC_HUGE_ONLY = 1,
    ACL_MEM_MALLOC_NORMAL_ONLY = 2,
    ACL_MEM_MALLOC_HUGE_FIRST_P2P = 3,
    ACL_MEM_MALLOC_HUGE_ONLY_P2P = 4,
    ACL_MEM_MALLOC_NORMAL_ONLY_P2P = 5,
    ACL_MEM_MALLOC_HUGE1G_ONLY = 6,
    ACL_MEM_MALLOC_HUGE1G_ONLY_P2P = 7,
    ACL_MEM_TYPE_LOW_BAND_WIDTH = 0x0100,
    ACL_MEM_TYPE_HIGH_BAND_WIDTH = 0x1000,
    ACL_MEM_ACCESS_USER_SPACE_READONLY = 0x100000
} aclrtMemMallocPolicy;

typedef enum aclrtMemcpyKind {
    ACL_MEMCPY_HOST_TO_HOST = 0,
    ACL_MEMCPY_HOST_TO_DEVICE = 1,
    ACL_MEMCPY_DEVICE_TO_HOST = 2,
    ACL_MEMCPY_DEVICE_TO_DEVICE = 3,
    ACL_MEMCPY_DEFAULT = 4,
    ACL_MEMCPY_HOST_TO_BUF_TO_DEVICE = 5,
    ACL_MEMCPY_INNER_DEVICE_TO_DEVICE = 6,
    ACL_MEMCPY_INTER_DEVICE_TO_DEVICE = 7
} aclrtMemcpyKind;

typedef enum aclrtMemAttr {
    ACL_DDR_MEM = 0,
    ACL_HBM_MEM = 1,
    ACL_DDR_MEM_HUGE = 2,
    ACL_DDR_MEM_NORMAL = 3,
    ACL_HBM_MEM_HUGE = 4,
    ACL_HBM_MEM_NORMAL = 5,
    ACL_DDR_MEM_P2P_HUGE = 6,
    ACL_DDR_MEM_P2P_NORMAL = 7,
    ACL_HBM_MEM_P2P_HUGE = 8,
    ACL_HBM_MEM_P2P_NORMAL = 9
} aclrtMemAttr;

typedef enum aclrtStreamStatus {
    ACL_STREAM_STATUS_COMPLETE = 0,
    ACL_STREAM_STATUS_NOT_READY = 1,
    ACL_STREAM_STATUS_RESERVED = 0xFFFF
} aclrtStreamStatus;

typedef enum aclrtEventRecordedStatus {
    ACL_EVENT_RECORDED_STATUS_NOT_READY = 0,
    ACL_EVENT_RECORDED_STATUS_COMPLETE = 1
} aclrtEventRecordedStatus;

/* Flags of aclrtCreateStreamWithConfig; accepted and without effect. */
#define ACL_STREAM_FAST_LAUNCH 0x00000001U
#define ACL_STREAM_FAST_SYNC   0x00000002U

/* Flags of aclrtCreateEventWithFlag; accepted: every event can be waited for and has a time. */
#define ACL_EVENT_SYNC                    0x00000001U
#define ACL_EVENT_CAPTURE_STREAM_PROGRESS 0x00000002U
#define ACL_EVENT_TIME_LINE               0x00000008U

/* ---- Devices and contexts ------------------------------------------------------------------------------------- */

/*
 * Makes a device's default context, with its default stream, current for the calling thread, and takes one reference.
 * Errors: 107001 deviceId is not in [0, number of devices).
 * Owner: the program gives the reference back with aclrtResetDevice.
 */
ACL_FUNC_VISIBILITY aclError aclrtSetDevice(int32_t deviceId);

/*
 * Gives one reference back. With the last one the device's default context ends, and its streams with it, after their
 * queued work; contexts that the program made stay, with their streams. One reset too many succeeds and does nothing.
 * Errors: 107001 deviceId is not in [0, number of devices).
 */
ACL_FUNC_VISIBILITY aclError aclrtResetDevice(int32_t deviceId);

/*
 * The device of the calling thread's current context.
 * Errors: 100000 deviceId is null; 107002 the thread has no context.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetDevice(int32_t *deviceId);

/*
 * The number of devices: EPX_DEVICE_COUNT, or as many of them as ASCEND_RT_VISIBLE_DEVICES lists (ascending, up to the
 * first entry that is no device).
 * Errors: 100000 count is null.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetDeviceCount(uint32_t *count);

/*
 * Where the program runs: always ACL_HOST.
 * Errors: 100000 runMode is null.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetRunMode(aclrtRunMode *runMode);

/*
 * The name of the product whose limits hold: "epx-host", "Ascend910B" or "Ascend910_93" for EPX_PRODUCT host, A2 or A3;
 * null when EPX_PRODUCT has another value.
 * Owner: the library, for ever.
 * Differs: short names; the product is chosen by the environment.
 */
ACL_FUNC_VISIBILITY const char *aclrtGetSocName(void);

/*
 * Waits for all work queued on the streams of the current context's device.
 * Errors: 107002 the thread has no context; 507xxx the first failure of a task.
 */
ACL_FUNC_VISIBILITY aclError aclrtSynchronizeDevice(void);

/*
 * Makes a context on a device, current for the calling thread.
 * Errors: 100000 context is null; 107001 deviceId is not in [0, number of devices); 207001 no memory.
 * Owner: the program, until aclrtDestroyContext.
 */
ACL_FUNC_VISIBILITY aclError aclrtCreateContext(aclrtContext *context, int32_t deviceId);

/*
 * Ends a context that aclrtCreateContext made, and its streams with it, after their queued work. The device may have
 * been reset before.
 * Errors: 100000 context is null; 107002 it is no context, a device's default context, or has been
 * destroyed.
 */
ACL_FUNC_VISIBILITY aclError aclrtDestroyContext(aclrtContext context);

/*
 * Makes a context current for the calling thread.
 * Errors: 100000 context is null; 107002 it is no context or has been destroyed.
 */
ACL_FUNC_VISIBILITY aclError aclrtSetCurrentContext(aclrtContext context);

/*
 * The calling thread's current context.
 * Errors: 100000 context is null; 107002 the thread has none.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetCurrentContext(aclrtContext *context);

/* ---- Streams -------------------------------------------------------------------------------------------------- */

/*
 * Makes a stream in the current context.
 * Errors: 100000 stream is null; 107002 the thread has no context; 207008 the device has 1984 streams; 207001 no
 * memory.
 * Owner: the program, until aclrtDestroyStream or the end of the context.
 */
ACL_FUNC_VISIBILITY aclError aclrtCreateStream(aclrtStream *stream);

/* As aclrtCreateStream. priority and flag are accepted and have no effect. */
ACL_FUNC_VISIBILITY aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flag);

/*
 * Waits for the queued work and ends the stream.
 * Errors: 100000 stream is null; 107017 it is no stream, a default stream, or has ended.
 */
ACL_FUNC_VISIBILITY aclError aclrtDestroyStream(aclrtStream stream);

/*
 * Waits until everything queued before the call has run. stream: null means the current context's default stream.
 * Errors: 107017 it is no stream; 107002 stream is null and the thread has no context; 507xxx the first failure of a
 * task since the last call that returned one.
 */
ACL_FUNC_VISIBILITY aclError aclrtSynchronizeStream(aclrtStream stream);

/*
 * The same, for at most timeout milliseconds; -1 waits for ever, 0 looks once.
 * Errors: also 107000 timeout is less than -1; 507046 the time passed first, with a text that says what is waited for.
 */
ACL_FUNC_VISIBILITY aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout);

/*
 * Whether everything queued has run. stream: null means the current context's default stream.
 * Errors: 100000 status is null; 107017 it is no stream; 107002 stream is null and the thread has no context.
 */
ACL_FUNC_VISIBILITY aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus *status);

/*
 * Drops what is queued and has not begun. The next synchronisation reports it once, as 507023, when there was any.
 * Errors: 100000 stream is null; 107017 it is no stream.
 * Differs: a task that runs is not stopped.
 */
ACL_FUNC_VISIBILITY aclError aclrtStreamAbort(aclrtStream stream);

/* ---- Events --------------------------------------------------------------------------------------------------- */

/*
 * Makes an event that has not been recorded.
 * Errors: 100000 event is null; 107002 the thread has no context; 207001 no memory.
 * Owner: the program, until aclrtDestroyEvent.
 */
ACL_FUNC_VISIBILITY aclError aclrtCreateEvent(aclrtEvent *event);

/* As aclrtCreateEvent. flag: a set of ACL_EVENT_ flags. Errors: also 107000 an unknown flag, or none. */
ACL_FUNC_VISIBILITY aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag);

/*
 * Ends an event; a stream that waits for it goes on.
 * Errors: 100000 event is null; 107017 it is no event or has been destroyed.
 */
ACL_FUNC_VISIBILITY aclError aclrtDestroyEvent(aclrtEvent event);

/*
 * Queues "the event happens". stream: null means the current context's default stream.
 * Errors: 100000 event is null; 107017 event or stream is none; 107002 stream is null and the thread has no context;
 * 207001 no memory.
 */
ACL_FUNC_VISIBILITY aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream);

/*
 * Queues "wait for the latest record of the event before this call"; an event without a record does not hold.
 * Errors: as aclrtRecordEvent.
 */
ACL_FUNC_VISIBILITY aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event);

/*
 * Waits for the latest record of the event; an event without a record does not hold.
 * Errors: 100000 event is null; 107017 it is no event.
 */
ACL_FUNC_VISIBILITY aclError aclrtSynchronizeEvent(aclrtEvent event);

/*
 * Whether the latest record of the event has happened; NOT_READY for an event without a record.
 * Errors: 100000 a pointer is null; 107017 event is none.
 */
ACL_FUNC_VISIBILITY aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status);

/*
 * Milliseconds between two events that have happened.
 * Errors: 100000 a pointer is null; 107017 startEvent or endEvent is none; 107006 one of them has not happened; 107007
 * endEvent happened before startEvent.
 */
ACL_FUNC_VISIBILITY aclError aclrtEventElapsedTime(float *ms, aclrtEvent startEvent, aclrtEvent endEvent);

/* ---- Memory --------------------------------------------------------------------------------------------------- */

/*
 * Allocates device memory: zeroed, aligned to 64 bytes, to 2 MiB when a policy asks for huge pages only. Peers read it
 * in place.
 * Errors: 100000 devPtr is null or size is 0; 107018 policy is unknown; 207001 no memory.
 * Owner: the program, until aclrtFree.
 * Differs: needs no context.
 */
ACL_FUNC_VISIBILITY aclError aclrtMalloc(void **devPtr, size_t size, aclrtMemMallocPolicy policy);

/* As aclrtMalloc; the size needs no padding. Differs: none. */
ACL_FUNC_VISIBILITY aclError aclrtMallocAlign32(void **devPtr, size_t size, aclrtMemMallocPolicy policy);

/* As aclrtMalloc; the processor's caches are coherent with it without further calls. Differs: none. */
ACL_FUNC_VISIBILITY aclError aclrtMallocCached(void **devPtr, size_t size, aclrtMemMallocPolicy policy);

/*
 * Frees device memory. No queued work may still use it.
 * Errors: 100000 devPtr is null; 107000 it is not the start of a live allocation.
 */
ACL_FUNC_VISIBILITY aclError aclrtFree(void *devPtr);

/*
 * Allocates host memory: zeroed, aligned to 64 bytes, readable by peers in place.
 * Errors: 100000 hostPtr is null or size is 0; 207001 no memory.
 * Owner: the program, until aclrtFreeHost.
 */
ACL_FUNC_VISIBILITY aclError aclrtMallocHost(void **hostPtr, size_t size);

/*
 * Frees host memory.
 * Errors: 100000 hostPtr is null; 107000 it is not the start of a live allocation.
 */
ACL_FUNC_VISIBILITY aclError aclrtFreeHost(void *hostPtr);

/*
 * Copies count bytes at once. Source and destination may overlap. count 0 succeeds before any check.
 * kind: must be a value of its type; the memory is the same for all of them.
 * Errors: 100000 dst or src is null; 107000 count is larger than destMax, or kind is unknown.
 */
ACL_FUNC_VISIBILITY aclError aclrtMemcpy(void *dst, size_t destMax, const void *src, size_t count,
                                         aclrtMemcpyKind kind);

/*
 * Queues the copy. stream: null means the current context's default stream. Both buffers stay the stream's until then.
 * Errors: as aclrtMemcpy; 107017 it is no stream; 107002 stream is null and the thread has no context; 207001 no
 * memory.
 */
ACL_FUNC_VISIBILITY aclError aclrtMemcpyAsync(void *dst, size_t destMax, const void *src, size_t count,
                                              aclrtMemcpyKind kind, aclrtStream stream);

/*
 * Sets count bytes to the low byte of value at once. count 0 succeeds before any check.
 * Errors: 100000 devPtr is null; 107000 count is larger than maxCount.
 */
ACL_FUNC_VISIBILITY aclError aclrtMemset(void *devPtr, size_t maxCount, int32_t value, size_t count);

/*
 * Queues it. stream: null means the current context's default stream.
 * Errors: as aclrtMemset; 107017 it is no stream; 107002 stream is null and the thread has no context; 207001 no
 * memory.
 */
ACL_FUNC_VISIBILITY aclError aclrtMemsetAsync(void *devPtr, size_t maxCount, int32_t value, size_t count,
                                              aclrtStream stream);

/*
 * Bytes that may still be allocated, and bytes of the machine's memory; the same for every attribute.
 * Errors: 100000 a pointer is null; 107000 attr is unknown; 107002 the thread has no context.
 */
ACL_FUNC_VISIBILITY aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t *free, size_t *total);

#ifdef __cplusplus
}
#endif

#endif
