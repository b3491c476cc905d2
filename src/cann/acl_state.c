#include "cann/acl_state.h"

#include "cann/acl_error.h"
#include "cann/acl_objects.h"
#include "cann/collective.h"
#include "cann/exports_acl.h"
#include "cann/object_set.h"
#include "comm/json_file.h"

#include <pthread.h>
#include <stdatomic.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of reference_count */
static uint64_t reference_count;

bool epx_cann_first_time(_Atomic bool *flag)
{
    return !atomic_exchange_explicit(flag, true, memory_order_relaxed);
}

void epx_cann_state_reset_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    reference_count = 0;
    epx_cann_devices_reset_after_fork();
    epx_cann_streams_reset_after_fork();
    epx_cann_events_reset_after_fork();
    epx_object_set_reset_after_fork();
    epx_cann_collective_reset_after_fork();
}

static void register_reset(void)
{
    (void)pthread_atfork(NULL, NULL, epx_cann_state_reset_after_fork);
}

void epx_cann_state_watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_reset);
}

aclError epx_cann_aclInit(const char *configPath)
{
    epx_cann_state_watch_forks();
    enum epx_status status = configPath ? epx_json_file_check(configPath) : EPX_OK;
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    pthread_mutex_lock(&lock);
    uint64_t count = ++reference_count;
    pthread_mutex_unlock(&lock);
    if (count > 1) {
        return epx_cann_refuse(ACL_ERROR_REPEAT_INITIALIZE, "the runtime was started before; it has %llu references",
                               (unsigned long long)count);
    }
    return ACL_SUCCESS;
}

/* Takes `count` references back, all there are at most, and says how many are left; false when there was none. */
static bool take_references(uint64_t count, uint64_t *left)
{
    pthread_mutex_lock(&lock);
    bool had_any = reference_count > 0;
    reference_count -= count < reference_count ? count : reference_count;
    *left = reference_count;
    pthread_mutex_unlock(&lock);
    return had_any;
}

aclError epx_cann_aclFinalize(void)
{
    uint64_t left;
    if (!take_references(UINT64_MAX, &left)) {
        return epx_cann_refuse(ACL_ERROR_REPEAT_FINALIZE, "the runtime is not started");
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclFinalizeReference(uint64_t *refCount)
{
    uint64_t left;
    if (!take_references(1, &left)) {
        return epx_cann_refuse(ACL_ERROR_REPEAT_FINALIZE, "the runtime is not started");
    }
    if (refCount) {
        *refCount = left;
    }
    return ACL_SUCCESS;
}

aclError epx_cann_aclrtGetVersion(int32_t *majorVersion, int32_t *minorVersion, int32_t *patchVersion)
{
    if (!majorVersion || !minorVersion || !patchVersion) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null",
                               !majorVersion   ? "majorVersion"
                               : !minorVersion ? "minorVersion"
                                               : "patchVersion");
    }
    *majorVersion = ACL_MAJOR_VERSION;
    *minorVersion = ACL_MINOR_VERSION;
    *patchVersion = ACL_PATCH_VERSION;
    return ACL_SUCCESS;
}

aclnnStatus epx_cann_aclnnInit(const char *configPath)
{
    enum epx_status status = configPath ? epx_json_file_check(configPath) : EPX_OK;
    return status == EPX_OK ? 0 : epx_cann_report(epx_cann_aclnn_status(status), NULL);
}

aclnnStatus epx_cann_aclnnFinalize(void)
{
    return 0;
}
