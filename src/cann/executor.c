#include "cann/executor.h"

#include "aclnn/opdev/op_errno.h"
#include "cann/acl_error.h"
#include "cann/collective.h"
#include "cann/exports_aclnn.h"
#include "cann/hccl_state.h"
#include "cann/object_set.h"
#include "cann/spare_list.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_BASE  0x45580000u /* handles look like addresses of nothing: base + 64 * serial */
#define BUCKET_COUNT 256u        /* by serial */
#define SPARES_MAX   512u        /* of programs that queue a whole model before they wait */

struct executor;

struct run {
    struct epx_cann_collective collective;
    struct executor *executor;
    union epx_cann_binding binding;
};

struct executor {
    uint64_t serial;                 /* from 1 on; of no other executor before or after */
    struct epx_cann_planned planned; /* with the addresses of the next run; its communicators are not held */
    struct epx_cann_plan *plan;
    bool repeatable;
    uint32_t users; /* the program, and runs that are queued or running */
    struct run run; /* one; others of a repeatable executor, while this is queued, are allocated */
    bool run_taken;
    struct executor *next;
};

static pthread_mutex_t executor_lock = PTHREAD_MUTEX_INITIALIZER; /* of everything here, and of every executor */
static pthread_once_t executor_once = PTHREAD_ONCE_INIT;
static struct executor *buckets[BUCKET_COUNT];
static uint64_t executor_serial;
static struct epx_spare_list spare_executors = {.object_bytes = sizeof(struct executor), .limit = SPARES_MAX};
static struct epx_spare_list spare_runs = {.object_bytes = sizeof(struct run), .limit = SPARES_MAX};

/* The child of a fork has no executors, as it has no communicators. */
static void forget_in_child(void)
{
    pthread_mutex_init(&executor_lock, NULL);
    memset(buckets, 0, sizeof buckets);
    epx_spare_list_reset_after_fork(&spare_executors);
    epx_spare_list_reset_after_fork(&spare_runs);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

static aclOpExecutor *handle_of(const struct executor *executor)
{
    return (aclOpExecutor *)(uintptr_t)(HANDLE_BASE + 64 * executor->serial);
}

/* The place in its bucket that holds the executor of a handle; it holds null when there is none. With the lock. */
static struct executor **find(const aclOpExecutor *handle)
{
    const uint64_t serial = ((uint64_t)(uintptr_t)handle - HANDLE_BASE) / 64;
    struct executor **link = &buckets[serial % BUCKET_COUNT];
    while (*link && handle_of(*link) != handle) {
        link = &(*link)->next;
    }
    return link;
}

/* Takes it out of its bucket: the program's use is the caller's now. With the lock. */
static void unlist(struct executor **link)
{
    struct executor *executor = *link;
    *link = executor->next;
}

/* A run of the executor, null when there is none without allocating. With the lock. */
static struct run *take_run(struct executor *executor)
{
    if (executor->run_taken) {
        return epx_spare_take(&spare_runs);
    }
    executor->run_taken = true;
    return &executor->run;
}

/* Null when the run needs not be freed. With the lock. */
static struct run *put_run(struct executor *executor, struct run *run)
{
    if (run == &executor->run) {
        executor->run_taken = false;
        return NULL;
    }
    return run && !epx_spare_give(&spare_runs, run) ? run : NULL;
}

/* Gives back one use and, if not null, a run. */
static void give_back(struct executor *executor, struct run *run)
{
    struct epx_cann_plan *plan = NULL;
    pthread_mutex_lock(&executor_lock);
    run = put_run(executor, run);
    if (--executor->users > 0) {
        executor = NULL;
    } else {
        plan = executor->plan;
        executor = epx_spare_give(&spare_executors, executor) ? NULL : executor;
    }
    pthread_mutex_unlock(&executor_lock);
    if (plan) {
        epx_cann_plan_release(plan);
    }
    free(executor);
    free(run);
}

static struct executor *executor_new(void)
{
    pthread_mutex_lock(&executor_lock);
    struct executor *executor = epx_spare_take(&spare_executors);
    pthread_mutex_unlock(&executor_lock);
    return executor ? executor : malloc(sizeof *executor);
}

enum epx_status epx_cann_executor_create(const struct epx_cann_planned *planned, aclOpExecutor **out)
{
    struct epx_cann_plan *plan;
    pthread_once(&executor_once, watch_forks);
    EPX_TRY(epx_cann_plan_acquire(planned, &plan));
    struct executor *executor = executor_new();
    if (!executor) {
        epx_cann_plan_release(plan);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an executor");
    }
    executor->planned = *planned;
    executor->plan = plan;
    executor->repeatable = false;
    executor->users = 1;
    executor->run_taken = false;
    pthread_mutex_lock(&executor_lock);
    executor->serial = ++executor_serial;
    *out = handle_of(executor);
    struct executor **bucket = &buckets[executor->serial % BUCKET_COUNT];
    executor->next = *bucket;
    *bucket = executor;
    pthread_mutex_unlock(&executor_lock);
    return EPX_OK;
}

/* ---- One run ----------------------------------------------------------------------------------------------------- */

static void run_reserve(void *context)
{
    struct run *run = context;
    epx_cann_plan_reserve(run->executor->plan, &run->binding);
}

static bool run_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct run *run = context;
    return epx_cann_plan_advance(run->executor->plan, &run->binding, until_ns, status);
}

static void run_finish(void *context)
{
    struct run *run = context;
    give_back(run->executor, run);
}

static enum epx_status acquire_comms(struct run *run)
{
    uint64_t comm_serial;
    uint64_t tp_comm_serial;
    struct epx_cann_collective *collective = &run->collective;
    epx_cann_plan_comms(run->executor->plan, &comm_serial, &tp_comm_serial);
    EPX_TRY(epx_cann_comm_acquire_serial(comm_serial, &collective->comm));
    if (tp_comm_serial != 0) {
        enum epx_status status = epx_cann_comm_acquire_serial(tp_comm_serial, &collective->tp_comm);
        if (status != EPX_OK) {
            epx_cann_comm_release(collective->comm);
            return status;
        }
        collective->until_ignored = true;
    }
    return EPX_OK;
}

/* With the communicators held, which are the caller's still when *taken is false. */
static enum epx_status run_submit(struct run *run, const struct epx_cann_planned *planned, aclrtStream stream,
                                  bool *taken)
{
    *taken = false;
    EPX_TRY(epx_cann_plan_bind(run->executor->plan, planned, &run->binding));
    return epx_cann_collective_submit(stream, &run->collective, taken);
}

/* Queues a run, null when one must be allocated; the use of the executor that the caller took is the run's. */
static enum epx_status run_queue(struct run *run, struct executor *executor, const struct epx_cann_planned *planned,
                                 aclrtStream stream)
{
    bool taken = false;
    run = run ? run : malloc(sizeof *run);
    if (!run) {
        give_back(executor, NULL);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to queue an operation");
    }
    run->executor = executor;
    run->collective = (struct epx_cann_collective){
        .context = run,
        .reserve = run_reserve,
        .run = run_run,
        .finish = run_finish,
    };
    enum epx_status status = acquire_comms(run);
    if (status == EPX_OK) {
        struct epx_comm *comm = run->collective.comm;
        struct epx_comm *tp_comm = run->collective.tp_comm;
        status = run_submit(run, planned, stream, &taken);
        if (!taken) {
            epx_cann_comm_release(comm);
            if (tp_comm) {
                epx_cann_comm_release(tp_comm);
            }
        }
    }
    if (!taken) {
        run_finish(run);
    }
    return status;
}

static aclnnStatus refuse_unknown(const aclOpExecutor *handle)
{
    if (!handle) {
        return epx_cann_refuse(ACLNN_ERR_INNER_NULLPTR, "executor is null");
    }
    return epx_cann_refuse(ACLNN_ERR_INNER_NULLPTR, "executor %p is none, or has been used up", (const void *)handle);
}

/* Codes of the second phase: what goes wrong there is the stream's or the communicator's, but for a missing address. */
static aclnnStatus launch_result(enum epx_status status)
{
    switch (status) {
    case EPX_OK: return ACLNN_SUCCESS;
    case EPX_ERR_STATE:
    case EPX_ERR_NOT_FOUND: return epx_cann_report(ACLNN_ERR_RUNTIME_ERROR, NULL);
    default: return epx_cann_report(epx_cann_aclnn_status(status), NULL);
    }
}

aclnnStatus epx_cann_executor_launch(aclOpExecutor *handle, enum epx_operation operation, aclrtStream stream)
{
    pthread_mutex_lock(&executor_lock);
    struct executor **link = find(handle);
    struct executor *executor = *link;
    if (!executor) {
        pthread_mutex_unlock(&executor_lock);
        return refuse_unknown(handle);
    }
    const enum epx_operation planned_operation = executor->planned.operation;
    if (planned_operation != operation) {
        pthread_mutex_unlock(&executor_lock);
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "executor was made for %s, not for %s",
                               epx_cann_operator_describe(planned_operation)->name,
                               epx_cann_operator_describe(operation)->name);
    }
    if (executor->repeatable) {
        executor->users++;
    } else {
        unlist(link); /* used up: the program's use becomes the run's */
    }
    struct run *run = take_run(executor);
    const struct epx_cann_planned planned = executor->planned;
    pthread_mutex_unlock(&executor_lock);
    return launch_result(run_queue(run, executor, &planned, stream));
}

/* ---- What programs do to executors ------------------------------------------------------------------------------- */

aclnnStatus epx_cann_aclSetAclOpExecutorRepeatable(aclOpExecutor *handle)
{
    pthread_mutex_lock(&executor_lock);
    struct executor *executor = *find(handle);
    if (executor) {
        executor->repeatable = true;
    }
    pthread_mutex_unlock(&executor_lock);
    return executor ? ACLNN_SUCCESS : refuse_unknown(handle);
}

aclnnStatus epx_cann_aclDestroyAclOpExecutor(aclOpExecutor *handle)
{
    pthread_mutex_lock(&executor_lock);
    struct executor **link = find(handle);
    struct executor *executor = *link;
    if (executor) {
        unlist(link);
    }
    pthread_mutex_unlock(&executor_lock);
    if (!executor) {
        return refuse_unknown(handle);
    }
    give_back(executor, NULL);
    return ACLNN_SUCCESS;
}

/* Which of an operator's tensors an index means. */
struct place {
    bool inputs;
    bool outputs;
};

static bool role_at(const struct epx_cann_operator *op, struct place place, size_t index, enum epx_cann_role *role)
{
    if (place.inputs) {
        if (index < op->input_count) {
            *role = op->inputs[index];
            return true;
        }
        index -= op->input_count;
    }
    if (place.outputs && index < op->output_count) {
        *role = op->outputs[index];
        return true;
    }
    return false;
}

static aclnnStatus set_address_locked(struct executor *executor, struct place place, size_t index, void *address)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(executor->planned.operation);
    enum epx_cann_role role;
    if (!role_at(op, place, index, &role)) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "index is %zu, %s has no such tensor", index, op->name);
    }
    struct epx_view *view = epx_cann_planned_view(&executor->planned, role);
    if (view && view->dim_count != 0) {
        view->data = (char *)address + executor->planned.offset_bytes[role];
    }
    return ACLNN_SUCCESS;
}

static aclnnStatus set_address(aclOpExecutor *handle, struct place place, size_t index, aclTensor *tensor,
                               void *address)
{
    if (!tensor || !address) {
        return handle ? epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "%s is null", tensor ? "addr" : "tensor")
                      : refuse_unknown(handle);
    }
    if (!epx_object_alive(tensor, EPX_OBJECT_TENSOR)) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "tensor is no tensor, or has been destroyed");
    }
    pthread_mutex_lock(&executor_lock);
    struct executor *executor = *find(handle);
    const aclnnStatus status = executor ? set_address_locked(executor, place, index, address) : refuse_unknown(handle);
    pthread_mutex_unlock(&executor_lock);
    if (status == ACLNN_SUCCESS) {
        tensor->data = address;
    }
    return status;
}

/* No operator here has a list of tensors. */
static aclnnStatus set_list_address(aclOpExecutor *handle, size_t index, const aclTensorList *tensors,
                                    const void *address)
{
    pthread_mutex_lock(&executor_lock);
    const bool known = *find(handle) != NULL;
    pthread_mutex_unlock(&executor_lock);
    if (!known) {
        return refuse_unknown(handle);
    }
    if (!tensors || !address) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_NULLPTR, "%s is null", tensors ? "addr" : "tensors");
    }
    return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "irIndex is %zu, the operator has no list of tensors", index);
}

aclnnStatus epx_cann_aclSetInputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return set_address(executor, (struct place){.inputs = true}, index, tensor, addr);
}

aclnnStatus epx_cann_aclSetOutputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return set_address(executor, (struct place){.outputs = true}, index, tensor, addr);
}

aclnnStatus epx_cann_aclSetTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return set_address(executor, (struct place){.inputs = true, .outputs = true}, index, tensor, addr);
}

aclnnStatus epx_cann_aclSetDynamicInputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                                  aclTensorList *tensors, void *addr)
{
    (void)relativeIndex;
    return set_list_address(executor, irIndex, tensors, addr);
}

aclnnStatus epx_cann_aclSetDynamicOutputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                                   aclTensorList *tensors, void *addr)
{
    (void)relativeIndex;
    return set_list_address(executor, irIndex, tensors, addr);
}

aclnnStatus epx_cann_aclSetDynamicTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                             aclTensorList *tensors, void *addr)
{
    (void)relativeIndex;
    return set_list_address(executor, irIndex, tensors, addr);
}

aclnnStatus epx_cann_AclSetInputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetInputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus epx_cann_AclSetOutputTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetOutputTensorAddr(executor, index, tensor, addr);
}

aclnnStatus epx_cann_AclSetTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *tensor, void *addr)
{
    return epx_cann_aclSetTensorAddr(executor, index, tensor, addr);
}

aclnnStatus epx_cann_AclSetDynamicInputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                                  aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicInputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus epx_cann_AclSetDynamicOutputTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                                   aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicOutputTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}

aclnnStatus epx_cann_AclSetDynamicTensorAddr(aclOpExecutor *executor, size_t irIndex, const size_t relativeIndex,
                                             aclTensorList *tensors, void *addr)
{
    return epx_cann_aclSetDynamicTensorAddr(executor, irIndex, relativeIndex, tensors, addr);
}
