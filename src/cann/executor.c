#include "cann/executor.h"

#include "aclnn/opdev/op_errno.h"
#include "cann/acl_error.h"
#include "cann/collective.h"
#include "cann/exports_aclnn.h"
#include "cann/hccl_state.h"
#include "cann/object_set.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define HANDLE_BASE 0x45580000u /* handles look like addresses of nothing: base + 64 * serial */

union plan {
    struct epx_dispatch_plan *dispatch;
    struct epx_combine_plan *combine;
};

struct executor {
    uint64_t serial;
    struct epx_cann_planned planned; /* with the addresses of the next run; its communicators are not held */
    union plan plan;
    uint64_t comm_serial;
    uint64_t tp_comm_serial; /* 0: none */
    bool repeatable;
    uint32_t users; /* the program, and runs that are queued or running */
    struct executor *next;
};

struct run {
    struct executor *executor;
    union {
        struct epx_dispatch_binding dispatch;
        struct epx_combine_binding combine;
    } binding;
};

static pthread_mutex_t executor_lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, and of every executor in it */
static pthread_once_t executor_once = PTHREAD_ONCE_INIT;
static struct executor *executor_newest;
static uint64_t executor_serial;

/* The child of a fork has no executors, as it has no communicators. */
static void forget_in_child(void)
{
    pthread_mutex_init(&executor_lock, NULL);
    executor_newest = NULL;
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

static aclOpExecutor *handle_of(const struct executor *executor)
{
    return (aclOpExecutor *)(uintptr_t)(HANDLE_BASE + 64 * executor->serial);
}

/* The place in the list that holds the executor of a handle; it holds null when there is none. With the lock. */
static struct executor **find(const aclOpExecutor *handle)
{
    struct executor **link = &executor_newest;
    while (*link && handle_of(*link) != handle) {
        link = &(*link)->next;
    }
    return link;
}

static void executor_free(struct executor *executor)
{
    if (executor->planned.operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_plan_destroy(executor->plan.dispatch);
    } else {
        epx_combine_plan_destroy(executor->plan.combine);
    }
    free(executor);
}

static void executor_drop(struct executor *executor)
{
    pthread_mutex_lock(&executor_lock);
    const bool last = --executor->users == 0;
    pthread_mutex_unlock(&executor_lock);
    if (last) {
        executor_free(executor);
    }
}

enum epx_status epx_cann_executor_create(const struct epx_cann_planned *planned, aclOpExecutor **out)
{
    pthread_once(&executor_once, watch_forks);
    struct executor *executor = calloc(1, sizeof *executor);
    if (!executor) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an executor");
    }
    executor->planned = *planned;
    executor->users = 1;
    executor->comm_serial = epx_cann_comm_serial(planned->comm);
    executor->tp_comm_serial = planned->tp_comm ? epx_cann_comm_serial(planned->tp_comm) : 0;
    const enum epx_status status = planned->operation == EPX_OPERATION_DISPATCH
                                       ? epx_dispatch_plan_create(&planned->request.dispatch, &executor->plan.dispatch)
                                       : epx_combine_plan_create(&planned->request.combine, &executor->plan.combine);
    if (status != EPX_OK) {
        free(executor);
        return status;
    }
    pthread_mutex_lock(&executor_lock);
    executor->serial = ++executor_serial;
    executor->next = executor_newest;
    executor_newest = executor;
    *out = handle_of(executor);
    pthread_mutex_unlock(&executor_lock);
    return EPX_OK;
}

/* ---- One run ----------------------------------------------------------------------------------------------------- */

static void run_reserve(void *context)
{
    struct run *run = context;
    if (run->executor->planned.operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_binding_reserve(run->executor->plan.dispatch, &run->binding.dispatch);
    } else {
        epx_combine_binding_reserve(run->executor->plan.combine, &run->binding.combine);
    }
}

static bool run_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct run *run = context;
    if (run->executor->planned.operation == EPX_OPERATION_DISPATCH) {
        return epx_dispatch_binding_advance(run->executor->plan.dispatch, &run->binding.dispatch, until_ns, NULL,
                                            status);
    }
    return epx_combine_binding_advance(run->executor->plan.combine, &run->binding.combine, until_ns, NULL, status);
}

static void run_finish(void *context)
{
    struct run *run = context;
    executor_drop(run->executor);
    free(run);
}

static enum epx_status run_bind(struct run *run, const struct epx_cann_planned *planned)
{
    if (planned->operation == EPX_OPERATION_DISPATCH) {
        const struct epx_dispatch_request *request = &planned->request.dispatch;
        return epx_dispatch_binding_init(run->executor->plan.dispatch, request->token_count, &request->tensors,
                                         &run->binding.dispatch);
    }
    const struct epx_combine_request *request = &planned->request.combine;
    return epx_combine_binding_init(run->executor->plan.combine, request->token_count, &request->tensors,
                                    &run->binding.combine);
}

static enum epx_status acquire_comms(const struct executor *executor, struct epx_cann_collective *collective)
{
    EPX_TRY(epx_cann_comm_acquire_serial(executor->comm_serial, &collective->comm));
    if (executor->tp_comm_serial != 0) {
        enum epx_status status = epx_cann_comm_acquire_serial(executor->tp_comm_serial, &collective->tp_comm);
        if (status != EPX_OK) {
            epx_cann_comm_release(collective->comm);
            return status;
        }
    }
    return EPX_OK;
}

/* Queues a run; the use of the executor that the caller took is the run's after success. */
static enum epx_status run_queue(struct executor *executor, const struct epx_cann_planned *planned, aclrtStream stream)
{
    bool taken = false;
    struct epx_cann_collective collective = {
        .reserve = run_reserve,
        .run = run_run,
        .until_ignored = executor->tp_comm_serial != 0,
        .finish = run_finish,
    };
    struct run *run = calloc(1, sizeof *run);
    if (!run) {
        executor_drop(executor);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to queue an operation");
    }
    run->executor = executor;
    collective.context = run;
    enum epx_status status = acquire_comms(executor, &collective);
    if (status == EPX_OK) {
        status = run_bind(run, planned);
        if (status == EPX_OK) {
            status = epx_cann_collective_submit(stream, &collective, &taken);
        }
        if (!taken) {
            epx_cann_comm_release(collective.comm);
            if (collective.tp_comm) {
                epx_cann_comm_release(collective.tp_comm);
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
        *link = executor->next; /* used up: the program's use becomes the run's */
    }
    const struct epx_cann_planned planned = executor->planned;
    pthread_mutex_unlock(&executor_lock);
    return launch_result(run_queue(executor, &planned, stream));
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
        *link = executor->next;
    }
    pthread_mutex_unlock(&executor_lock);
    if (!executor) {
        return refuse_unknown(handle);
    }
    executor_drop(executor);
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
