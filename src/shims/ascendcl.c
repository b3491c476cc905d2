/*
 * libascendcl: the acl and aclrt functions.
 */
#include "cann/exports_acl.h"

size_t aclDataTypeSize(aclDataType dataType)
{
    return epx_cann_aclDataTypeSize(dataType);
}

float aclFloat16ToFloat(aclFloat16 value)
{
    return epx_cann_aclFloat16ToFloat(value);
}

aclFloat16 aclFloatToFloat16(float value)
{
    return epx_cann_aclFloatToFloat16(value);
}

aclError aclInit(const char *configPath)
{
    return epx_cann_aclInit(configPath);
}

aclError aclFinalize(void)
{
    return epx_cann_aclFinalize();
}

aclError aclFinalizeReference(uint64_t *refCount)
{
    return epx_cann_aclFinalizeReference(refCount);
}

aclError aclrtGetVersion(int32_t *majorVersion, int32_t *minorVersion, int32_t *patchVersion)
{
    return epx_cann_aclrtGetVersion(majorVersion, minorVersion, patchVersion);
}

const char *aclGetRecentErrMsg(void)
{
    return epx_cann_aclGetRecentErrMsg();
}

aclError aclrtSetDevice(int32_t deviceId)
{
    return epx_cann_aclrtSetDevice(deviceId);
}

aclError aclrtResetDevice(int32_t deviceId)
{
    return epx_cann_aclrtResetDevice(deviceId);
}

aclError aclrtGetDevice(int32_t *deviceId)
{
    return epx_cann_aclrtGetDevice(deviceId);
}

aclError aclrtGetDeviceCount(uint32_t *count)
{
    return epx_cann_aclrtGetDeviceCount(count);
}

aclError aclrtGetRunMode(aclrtRunMode *runMode)
{
    return epx_cann_aclrtGetRunMode(runMode);
}

const char *aclrtGetSocName(void)
{
    return epx_cann_aclrtGetSocName();
}

aclError aclrtSynchronizeDevice(void)
{
    return epx_cann_aclrtSynchronizeDevice();
}

aclError aclrtCreateContext(aclrtContext *context, int32_t deviceId)
{
    return epx_cann_aclrtCreateContext(context, deviceId);
}

aclError aclrtDestroyContext(aclrtContext context)
{
    return epx_cann_aclrtDestroyContext(context);
}

aclError aclrtSetCurrentContext(aclrtContext context)
{
    return epx_cann_aclrtSetCurrentContext(context);
}

aclError aclrtGetCurrentContext(aclrtContext *context)
{
    return epx_cann_aclrtGetCurrentContext(context);
}

aclError aclrtCreateStream(aclrtStream *stream)
{
    return epx_cann_aclrtCreateStream(stream);
}

aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flag)
{
    return epx_cann_aclrtCreateStreamWithConfig(stream, priority, flag);
}

aclError aclrtDestroyStream(aclrtStream stream)
{
    return epx_cann_aclrtDestroyStream(stream);
}

aclError aclrtSynchronizeStream(aclrtStream stream)
{
    return epx_cann_aclrtSynchronizeStream(stream);
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout)
{
    return epx_cann_aclrtSynchronizeStreamWithTimeout(stream, timeout);
}

aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus *status)
{
    return epx_cann_aclrtStreamQuery(stream, status);
}

aclError aclrtStreamAbort(aclrtStream stream)
{
    return epx_cann_aclrtStreamAbort(stream);
}

aclError aclrtCreateEvent(aclrtEvent *event)
{
    return epx_cann_aclrtCreateEvent(event);
}

aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag)
{
    return epx_cann_aclrtCreateEventWithFlag(event, flag);
}

aclError aclrtDestroyEvent(aclrtEvent event)
{
    return epx_cann_aclrtDestroyEvent(event);
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream)
{
    return epx_cann_aclrtRecordEvent(event, stream);
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event)
{
    return epx_cann_aclrtStreamWaitEvent(stream, event);
}

aclError aclrtSynchronizeEvent(aclrtEvent event)
{
    return epx_cann_aclrtSynchronizeEvent(event);
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status)
{
    return epx_cann_aclrtQueryEventStatus(event, status);
}

aclError aclrtEventElapsedTime(float *ms, aclrtEvent startEvent, aclrtEvent endEvent)
{
    return epx_cann_aclrtEventElapsedTime(ms, startEvent, endEvent);
}

aclError aclrtMalloc(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    return epx_cann_aclrtMalloc(devPtr, size, policy);
}

aclError aclrtMallocAlign32(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    return epx_cann_aclrtMallocAlign32(devPtr, size, policy);
}

aclError aclrtMallocCached(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    return epx_cann_aclrtMallocCached(devPtr, size, policy);
}

aclError aclrtFree(void *devPtr)
{
    return epx_cann_aclrtFree(devPtr);
}

aclError aclrtMallocHost(void **hostPtr, size_t size)
{
    return epx_cann_aclrtMallocHost(hostPtr, size);
}

aclError aclrtFreeHost(void *hostPtr)
{
    return epx_cann_aclrtFreeHost(hostPtr);
}

aclError aclrtMemcpy(void *dst, size_t destMax, const void *src, size_t count, aclrtMemcpyKind kind)
{
    return epx_cann_aclrtMemcpy(dst, destMax, src, count, kind);
}

aclError aclrtMemcpyAsync(void *dst, size_t destMax, const void *src, size_t count, aclrtMemcpyKind kind,
                          aclrtStream stream)
{
    return epx_cann_aclrtMemcpyAsync(dst, destMax, src, count, kind, stream);
}

aclError aclrtMemset(void *devPtr, size_t maxCount, int32_t value, size_t count)
{
    return epx_cann_aclrtMemset(devPtr, maxCount, value, count);
}

aclError aclrtMemsetAsync(void *devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream)
{
    return epx_cann_aclrtMemsetAsync(devPtr, maxCount, value, count, stream);
}

aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t *free, size_t *total)
{
    return epx_cann_aclrtGetMemInfo(attr, free, total);
}
