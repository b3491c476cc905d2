#include "cann/acl_error.h"
#include "cann/acl_objects.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"

#include "base/config.h"

#include <pthread.h>
#include <stdlib.h>

struct device {
    uint64_t references;
    void *default_context; /* null: none; set by the first reference, ended with the last */
};

static struct epx_handle_registry contexts = EPX_HANDLE_REGISTRY_INIT(1);
static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;
static struct device devices[EPX_CANN_DEVICES_MAX];
static _Thread_local void *current_context; /* a handle: it may have ended since */

/* How many entries of a list "0,2,3" are devices below `count`, in ascending order, up to the first that is not.
 * *number is the entry at `index`, and stays as it is where the list has none. */
static int64_t count_visible(const char *list, int64_t count, int64_t index, int32_t *number)
{
    int64_t visible = 0;
    int64_t previous = -1;
    for (;;) {
        char *end;
        if (*list < '0' || *list > '9') {
            return visible;
        }
        long value = strtol(list, &end, 10);
        if (value <= previous || value >= count || (*end != ',' && *end != '\0')) {
            return visible;
        }
        if (visible == index) {
            *number = (int32_t)value;
        }
        previous = value;
        visible++;
        if (*end == '\0') {
            return visible;
        }
        list = end + 1;
    }
}

/* The devices that the program sees. *number, a device's own number, is replaced by the machine's. */
static enum epx_status device_count(int64_t *count, int32_t *number)
{
    EPX_TRY(epx_option_integer(EPX_OPTION_DEVICE_COUNT, count));
    if (*count > EPX_CANN_DEVICES_MAX) {
        return epx_fail(EPX_ERR_CONFIG, "EPX_DEVICE_COUNT is %lld, must be at most %d", (long long)*count,
                        EPX_CANN_DEVICES_MAX);
    }
    if (epx_option_is_set(EPX_OPTION_ASCEND_RT_VISIBLE_DEVICES)) {
        *count = count_visible(epx_option_text(EPX_OPTION_ASCEND_RT_VISIBLE_DEVICES), *count, *number, number);
    }
    return EPX_OK;
}

enum epx_status epx_cann_device_number(int32_t device, int32_t *number)
{
    int64_t count;
    *number = device;
    return device_count(&count, number);
}

/* 0, or the code that was reported. */
static aclError check_device(int32_t device)
{
    int64_t count;
    int32_t number = device;
    enum epx_status status = device_count(&count, &number);
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    if (device < 0 || device >= count) {
        return epx_cann_refuse(ACL_ERROR_RT_INVALID_DEVICEID, "deviceId is %d, must be in [0, %lld)", device,
                               (long long)count);
    }
    return ACL_SUCCESS;
}

static enum epx_status context_make(int32_t device, bool is_default, void **handle)
{
    epx_cann_state_watch_forks();
    struct epx_cann_context *context = calloc(1, sizeof *context);
    void *added;
    if (context) {
        context->device = device;
        context->is_default = is_default;
    }
    if (!context || !epx_handle_add(&contexts, context, &added)) {
        free(context);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a context");
    }
    /* Nobody knows the handle yet. */
    enum epx_status status = epx_cann_stream_make(added, device, true, &context->default_stream);
    if (status != EPX_OK) {
        free(epx_handle_remove(&contexts, added));
        return status;
    }
    *handle = added;
    return EPX_OK;
}

static bool context_end(const void *handle)
{
    struct epx_cann_context *context = epx_handle_remove(&contexts, handle);
    if (!context) {
        return false;
    }
    epx_cann_streams_end(handle);
    free(context);
    return true;
}

enum epx_status epx_cann_context_acquire(void **handle, struct epx_cann_context **context)
{
    *handle = current_context;
    *context = epx_handle_acquire(&contexts, *handle);
    if (!*context) {
        return epx_fail(EPX_ERR_STATE, "the calling thread has no context: aclrtSetDevice or aclrtSetCurrentContext "
                                       "must come first");
    }
    return EPX_OK;
}

void epx_cann_context_release(const void *handle)
{
    epx_handle_release(&contexts, handle);
}

enum epx_status epx_cann_current_device(int32_t *device)
{
    void *handle;
    struct epx_cann_context *context;
    EPX_TRY(epx_cann_context_acquire(&handle, &context));
    *device = context->device;
    epx_cann_context_release(handle);
    return EPX_OK;
}

void epx_cann_devices_reset_after_fork(void)
{
    pthread_mutex_init(&devices_lock, NULL);
    for (size_t i = 0; i < EPX_CANN_DEVICES_MAX; i++) {
        devices[i] = (struct device){0};
    }
    epx_handle_reset_after_fork(&contexts);
    current_context = NULL;
}

aclError epx_cann_aclrtSetDevice(int32_t deviceId)
{
    aclError code = check_device(deviceId);
    if (code != ACL_SUCCESS) {
        return code;
    }
    enum epx_status status = EPX_OK;
    pthread_mutex_lock(&devices_lock);
    struct device *device = &devices[deviceId];
    if (!device->default_context) {
        status = context_make(deviceId, true, &device->default_context);
    }
    if (status == EPX_OK) {
        device->references++;
        current_context = device->default_context;
    }
    pthread_mutex_unlock(&devices_lock);
    return epx_cann_acl_result(status);
}

aclError epx_cann_aclrtResetDevice(int32_t deviceId)
{
    aclError code = check_device(deviceId);
    if (code != ACL_SUCCESS) {
        return code;
    }
    void *ended = NULL;
    pthread_mutex_lock(&devices_lock);
    struct device *device = &devices[deviceId];
    if (device->references > 0 && --device->references == 0) {
        ended = device->default_context;
        device->default_context = NULL;
    }
    pthread_mutex_unlock(&devices_lock);
    if (ended) {
        (void)context_end(ended);
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclrtGetDevice(int32_t *deviceId)
{
    if (!deviceId) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "deviceId is null");
    }
    return epx_cann_acl_result(epx_cann_current_device(deviceId));
}

aclError epx_cann_aclrtGetDeviceCount(uint32_t *count)
{
    int64_t value;
    int32_t any = 0;
    if (!count) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "count is null");
    }
    enum epx_status status = device_count(&value, &any);
    if (status == EPX_OK) {
        *count = (uint32_t)value;
    }
    return epx_cann_acl_result(status);
}

aclError epx_cann_aclrtGetRunMode(aclrtRunMode *runMode)
{
    if (!runMode) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "runMode is null");
    }
    *runMode = ACL_HOST;
    return ACL_SUCCESS;
}

const char *epx_cann_aclrtGetSocName(void)
{
    static const char *const names[] = {"epx-host", "Ascend910B", "Ascend910_93"}; /* by enum epx_product */
    int64_t product;
    enum epx_status status = epx_option_integer(EPX_OPTION_PRODUCT, &product);
    if (status != EPX_OK) {
        (void)epx_cann_acl_result(status);
        return NULL;
    }
    return names[product];
}

aclError epx_cann_aclrtCreateContext(aclrtContext *context, int32_t deviceId)
{
    if (!context) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "context is null");
    }
    aclError code = check_device(deviceId);
    if (code != ACL_SUCCESS) {
        return code;
    }
    enum epx_status status = context_make(deviceId, false, context);
    if (status == EPX_OK) {
        current_context = *context;
    }
    return epx_cann_acl_result(status);
}

/* 0, or the code that was reported. The context is held after success. */
static aclError find_context(aclrtContext handle, struct epx_cann_context **context)
{
    if (!handle) {
        (void)epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "context is null");
        return ACL_ERROR_INVALID_PARAM;
    }
    *context = epx_handle_acquire(&contexts, handle);
    if (!*context) {
        (void)epx_cann_refuse(ACL_ERROR_RT_CONTEXT_NULL, "%p is no context, or has been destroyed", handle);
        return ACL_ERROR_RT_CONTEXT_NULL;
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclrtDestroyContext(aclrtContext context)
{
    struct epx_cann_context *found;
    aclError code = find_context(context, &found);
    if (code != ACL_SUCCESS) {
        return code;
    }
    int32_t device = found->device;
    bool is_default = found->is_default;
    epx_handle_release(&contexts, context);
    if (is_default) {
        return epx_cann_refuse(ACL_ERROR_RT_CONTEXT_NULL, "context %p is the default one of device %d", context,
                               device);
    }
    if (!context_end(context)) {
        return epx_cann_refuse(ACL_ERROR_RT_CONTEXT_NULL, "context %p has been destroyed by another thread", context);
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclrtSetCurrentContext(aclrtContext context)
{
    struct epx_cann_context *found;
    aclError code = find_context(context, &found);
    if (code == ACL_SUCCESS) {
        current_context = context;
        epx_handle_release(&contexts, context);
    }
    return code;
}

aclError epx_cann_aclrtGetCurrentContext(aclrtContext *context)
{
    void *handle;
    struct epx_cann_context *found;
    if (!context) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "context is null");
    }
    enum epx_status status = epx_cann_context_acquire(&handle, &found);
    if (status == EPX_OK) {
        *context = handle;
        epx_cann_context_release(handle);
    }
    return epx_cann_acl_result(status);
}
