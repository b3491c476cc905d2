#include "cann/acl_error.h"
#include "cann/acl_objects.h"
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/moe_plan.h"
#include "cann/object_set.h"

#include "base/clock.h"
#include "base/topology.h"
#include "memory/arena.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN_BYTES      64u
#define HUGE_ALIGN_BYTES (2u << 20)
#define PIECE_BYTES      (1u << 20) /* of a queued copy, between two looks at the clock */
#define POLICY_FLAGS                                                                                                   \
    ((unsigned)ACL_MEM_TYPE_LOW_BAND_WIDTH | (unsigned)ACL_MEM_TYPE_HIGH_BAND_WIDTH |                                  \
     (unsigned)ACL_MEM_ACCESS_USER_SPACE_READONLY)

/* Memory of a device is written by the runtime alone, so its pages may come late. */
static enum epx_status take(size_t size, size_t align, bool device, void **pointer)
{
    return device ? epx_arena_reserve(size, align, pointer) : epx_arena_alloc(size, align, pointer);
}

static aclError allocate(void **out, const char *name, size_t size, size_t align, bool device)
{
    void *pointer;
    if (!out) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null", name);
    }
    if (size == 0) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "size is 0, must be at least 1");
    }
    epx_cann_state_watch_forks();
    enum epx_status status = take(size, align, device, &pointer);
    if (status == EPX_ERR_NO_MEMORY && epx_cann_plans_give_up()) {
        status = take(size, align, device, &pointer);
    }
    if (status != EPX_OK) {
        return epx_cann_acl_result(status);
    }
    if (!epx_object_add(pointer, EPX_OBJECT_MEMORY)) {
        enum epx_status ignored = epx_arena_free(pointer);
        (void)ignored;
        return epx_cann_refuse(ACL_ERROR_RT_MEMORY_ALLOCATION, "no memory to note an allocation of %zu bytes", size);
    }
    *out = pointer;
    return ACL_SUCCESS;
}

/* The library's own blocks lie in the same arena: only what a program was given is looked for there. */
static aclError release(void *pointer, const char *name)
{
    if (!pointer) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null", name);
    }
    if (!epx_object_remove(pointer, EPX_OBJECT_MEMORY)) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "%s is %p, not the start of a live allocation", name,
                               pointer);
    }
    return epx_cann_acl_result(epx_arena_free(pointer));
}

/* Alignment by policy, 0 for an unknown one. Only policies that insist on huge pages promise their alignment. */
static size_t policy_align(aclrtMemMallocPolicy policy)
{
    switch ((unsigned)policy & ~POLICY_FLAGS) {
    case ACL_MEM_MALLOC_HUGE_FIRST:
    case ACL_MEM_MALLOC_NORMAL_ONLY:
    case ACL_MEM_MALLOC_HUGE_FIRST_P2P:
    case ACL_MEM_MALLOC_NORMAL_ONLY_P2P: return ALIGN_BYTES;
    case ACL_MEM_MALLOC_HUGE_ONLY:
    case ACL_MEM_MALLOC_HUGE_ONLY_P2P:
    case ACL_MEM_MALLOC_HUGE1G_ONLY:
    case ACL_MEM_MALLOC_HUGE1G_ONLY_P2P: return HUGE_ALIGN_BYTES;
    default: return 0;
    }
}

aclError epx_cann_aclrtMalloc(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    size_t align = policy_align(policy);
    if (align == 0) {
        return epx_cann_refuse(ACL_ERROR_RT_INVALID_MALLOC_TYPE, "policy is 0x%x, which is unknown", (unsigned)policy);
    }
    return allocate(devPtr, "devPtr", size, align, true);
}

aclError epx_cann_aclrtMallocAlign32(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    return epx_cann_aclrtMalloc(devPtr, size, policy);
}

aclError epx_cann_aclrtMallocCached(void **devPtr, size_t size, aclrtMemMallocPolicy policy)
{
    return epx_cann_aclrtMalloc(devPtr, size, policy);
}

aclError epx_cann_aclrtFree(void *devPtr)
{
    return release(devPtr, "devPtr");
}

aclError epx_cann_aclrtMallocHost(void **hostPtr, size_t size)
{
    return allocate(hostPtr, "hostPtr", size, ALIGN_BYTES, false);
}

aclError epx_cann_aclrtFreeHost(void *hostPtr)
{
    return release(hostPtr, "hostPtr");
}

/* 0, or the code that was reported. */
static aclError check_room(size_t count, size_t limit, const char *limit_name)
{
    if (count > limit) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "count is %zu, larger than %s, %zu", count, limit_name,
                               limit);
    }
    return ACL_SUCCESS;
}

static aclError check_copy(const void *dst, size_t dest_max, const void *src, size_t count, aclrtMemcpyKind kind)
{
    if (!dst || !src) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null", dst ? "src" : "dst");
    }
    if ((unsigned)kind > (unsigned)ACL_MEMCPY_INTER_DEVICE_TO_DEVICE) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "kind is %u, must be in [0, %u]", (unsigned)kind,
                               (unsigned)ACL_MEMCPY_INTER_DEVICE_TO_DEVICE);
    }
    return check_room(count, dest_max, "destMax");
}

static aclError check_set(const void *pointer, size_t max_count, size_t count)
{
    if (!pointer) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "devPtr is null");
    }
    return check_room(count, max_count, "maxCount");
}

struct memory_task {
    void *target;
    const void *source; /* null: set to value */
    int value;
    size_t count; /* what is left of it */
};

/* A piece of what is left: from the start, or from the end where the target lies behind a source that it overlaps. */
static void run_piece(struct memory_task *task, size_t bytes_max)
{
    const size_t bytes = task->count < bytes_max ? task->count : bytes_max;
    char *target = task->target;
    const char *source = task->source;
    task->count -= bytes;
    if (!source) {
        memset(target + task->count, task->value, bytes);
    } else if ((uintptr_t)target - (uintptr_t)source < task->count + bytes) {
        memmove(target + task->count, source + task->count, bytes);
    } else {
        memmove(target, source, bytes);
        task->target = target + bytes;
        task->source = source + bytes;
    }
}

/* Memory that has no pages yet gets them, so that their lack is a status. */
static enum epx_status need_memory(const void *target, const void *source, size_t count)
{
    EPX_TRY(epx_arena_need(target, count));
    return source ? epx_arena_need(source, count) : EPX_OK;
}

static bool run_memory_task(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct memory_task *task = context;
    *status = need_memory(task->target, task->source, task->count);
    if (*status != EPX_OK) {
        return true;
    }
    run_piece(task, until_ns == EPX_NEVER ? SIZE_MAX : PIECE_BYTES);
    while (task->count > 0 && epx_clock_ns() < until_ns) {
        run_piece(task, PIECE_BYTES);
    }
    return task->count == 0;
}

static enum epx_status submit_memory_task(const struct memory_task *wanted, aclrtStream stream)
{
    struct epx_cann_stream *found;
    EPX_TRY(epx_cann_stream_find(stream, &found));
    struct memory_task *copy = malloc(sizeof *copy);
    enum epx_status status = EPX_OK;
    if (copy) {
        *copy = *wanted;
        const struct epx_task task = {.run = run_memory_task, .release = free, .context = copy, .waiter_may_run = true};
        status = epx_stream_submit(found->engine, &task);
        if (status != EPX_OK) {
            free(copy);
        }
    } else {
        status = epx_fail(EPX_ERR_NO_MEMORY, "no memory to queue a copy");
    }
    epx_cann_stream_release(found->engine);
    return status;
}

aclError epx_cann_aclrtMemcpy(void *dst, size_t destMax, const void *src, size_t count, aclrtMemcpyKind kind)
{
    if (count == 0) {
        return ACL_SUCCESS;
    }
    aclError code = check_copy(dst, destMax, src, count, kind);
    if (code == ACL_SUCCESS) {
        code = epx_cann_acl_result(need_memory(dst, src, count));
    }
    if (code == ACL_SUCCESS) {
        memmove(dst, src, count);
    }
    return code;
}

aclError epx_cann_aclrtMemcpyAsync(void *dst, size_t destMax, const void *src, size_t count, aclrtMemcpyKind kind,
                                   aclrtStream stream)
{
    if (count == 0) {
        return ACL_SUCCESS;
    }
    aclError code = check_copy(dst, destMax, src, count, kind);
    if (code != ACL_SUCCESS) {
        return code;
    }
    const struct memory_task task = {.target = dst, .source = src, .count = count};
    return epx_cann_acl_result(submit_memory_task(&task, stream));
}

aclError epx_cann_aclrtMemset(void *devPtr, size_t maxCount, int32_t value, size_t count)
{
    if (count == 0) {
        return ACL_SUCCESS;
    }
    aclError code = check_set(devPtr, maxCount, count);
    if (code == ACL_SUCCESS) {
        code = epx_cann_acl_result(need_memory(devPtr, NULL, count));
    }
    if (code == ACL_SUCCESS) {
        memset(devPtr, value, count);
    }
    return code;
}

aclError epx_cann_aclrtMemsetAsync(void *devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream)
{
    if (count == 0) {
        return ACL_SUCCESS;
    }
    aclError code = check_set(devPtr, maxCount, count);
    if (code != ACL_SUCCESS) {
        return code;
    }
    const struct memory_task task = {.target = devPtr, .value = value, .count = count};
    return epx_cann_acl_result(submit_memory_task(&task, stream));
}

aclError epx_cann_aclrtGetMemInfo(aclrtMemAttr attr, size_t *free_bytes, size_t *total_bytes)
{
    int32_t device;
    if (!free_bytes || !total_bytes) {
        return epx_cann_refuse(ACL_ERROR_INVALID_PARAM, "%s is null", free_bytes ? "total" : "free");
    }
    if ((unsigned)attr > (unsigned)ACL_HBM_MEM_P2P_NORMAL) {
        return epx_cann_refuse(ACL_ERROR_RT_PARAM_INVALID, "attr is %u, must be in [0, %u]", (unsigned)attr,
                               (unsigned)ACL_HBM_MEM_P2P_NORMAL);
    }
    enum epx_status status = epx_cann_current_device(&device);
    if (status == EPX_OK) {
        size_t headroom_bytes = epx_topology_memory_headroom_bytes();
        size_t promised_bytes = epx_arena_promised_bytes();
        *free_bytes = headroom_bytes < promised_bytes ? 0 : headroom_bytes - promised_bytes;
        *total_bytes = epx_topology_memory_total_bytes();
    }
    return epx_cann_acl_result(status);
}
