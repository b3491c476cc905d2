#include "cann/executor.h"

#include "aclnn/opdev/op_errno.h"
#include "cann/acl_error.h"
#include "cann/collective.h"
#include "cann/exports_aclnn.h"
#include "cann/handle_registry.h"
#include "cann/hccl_state.h"
#include "cann/object_set.h"
#include "cann/spare_list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define SPARES_MAX EPX_SPARES_MAX /* of programs that queue a whole model before they wait */

struct executor;

struct run {
    struct epx_cann_collective collective;
    struct executor *executor;
    union epx_cann_binding binding;
};

struct executor {
    struct epx_cann_planned planned; /* constant; its communicators are not held, its addresses are the first run's */
    _Atomic(void *) addresses[EPX_CANN_ROLE_COUNT]; /* of the next run */
    struct epx_cann_plan *plan;
    atomic_bool repeatable;
    _Atomic uint32_t users; /* the program, and runs that are queued or running */
    struct run run;         /* one; others of a repeatable executor, while this is queued, are allocated */
    atomic_bool run_taken;
};

/* Those that the program knows: an executor's handle is removed when the program's use of it ends. */
static struct epx_handle_registry executors = EPX_HANDLE_REGISTRY_INIT(4);
static pthread_once_t executor_once = PTHREAD_ONCE_INIT;
static struct epx_spare_list spare_executors = {.object_bytes = sizeof(struct executor), .limit = SPARES_MAX};
static struct epx_spare_list spare_runs = {.object_bytes = sizeof(struct run), .limit = SPARES_MAX};

/* The child of a fork has no executors, as it has no communicators. */
static void forget_in_child(void)
{
    epx_handle_reset_after_fork(&executors);
    epx_spare_list_reset_after_fork(&spare_executors);
    epx_spare_list_reset_after_fork(&spare_runs);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

/* Null when there is no memory. */
static struct run *take_run(struct executor *executor)
{
    if (!atomic_exchange_explicit(&executor->run_taken, true, memory_order_acquire)) {
        return &executor->run;
    }
    struct run *run = epx_spare_take(&spare_runs);
    return run ? run : malloc(sizeof *run);
}

static void put_run(struct executor *executor, struct run *run)
{
    if (run == &executor->run) {
        atomic_store_explicit(&executor->run_taken, false, memory_order_release);
    } else if (!epx_spare_give(&spare_runs, run)) {
        free(run);
    }
}

/* Gives back one use. */
static void give_back(struct executor *executor)
{
    if (atomic_fetch_sub_explicit(&executor->users, 1, memory_order_acq_rel) > 1) {
        return;
    }
    epx_cann_plan_release(executor->plan);
    if (!epx_spare_give(&spare_executors, executor)) {
        free(executor);
    }
}

static struct executor *executor_new(void)
{
    struct executor *executor = epx_spare_take(&spare_executors);
    return executor ? executor : malloc(sizeof *executor);
}

static void executor_init(struct executor *executor, const struct epx_cann_planned *planned, struct epx_cann_plan *plan)
{
    executor->planned = *planned;
    executor->plan = plan;
    atomic_init(&executor->repeatable, false);
    atomic_init(&executor->users, 1);
    atomic_init(&executor->run_taken, false);
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        const struct epx_view *view = epx_cann_planned_view(&executor->planned, (enum epx_cann_role)role);
        atomic_init(&executor->addresses[role], view ? view->data : NULL);
    }
}

enum epx_status epx_cann_executor_create(const struct epx_cann_planned *planned, aclOpExecutor **out)
{
    struct epx_cann_plan *plan;
    void *handle;
    pthread_once(&executor_once, watch_forks);
    EPX_TRY(epx_cann_plan_acquire(planned, &plan));
    struct executor *executor = executor_new();
    if (!executor) {
        epx_cann_plan_release(plan);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an executor");
    }
    executor_init(executor, planned, plan);
    if (!epx_handle_add(&executors, executor, &handle)) {
        give_back(executor);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an executor's handle");
    }
    *out = handle;
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
    struct executor *executor = run->executor;
    put_run(executor, run);
    give_back(executor);
}

static enum epx_status acquire_comms(struct run *run)
{
    struct epx_cann_comm_place place;
    struct epx_cann_comm_place tp_place;
    struct epx_cann_collective *collective = &run->collective;
    epx_cann_plan_comms(run->executor->plan, &place, &tp_place);
    EPX_TRY(epx_cann_comm_acquire_again(&place, &collective->comm));
    if (tp_place.serial != 0) {
        enum epx_status status = epx_cann_comm_acquire_again(&tp_place, &collective->tp_comm);
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

/* Queues a run; the use of the executor that the caller took is the run's. */
static enum epx_status run_queue(struct executor *executor, const struct epx_cann_planned *planned, aclrtStream stream)
{
    bool taken = false;
    struct run *run = take_run(executor);
    if (!run) {
        give_back(executor);
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
        const struct epx_cann_comm *comm = run->collective.comm;
        const struct epx_cann_comm *tp_comm = run->collective.tp_comm;
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

/* What the next run is asked to do, with the addresses as they are now. */
static struct epx_cann_planned planned_now(struct executor *executor)
{
    struct epx_cann_planned planned = executor->planned;
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        struct epx_view *view = epx_cann_planned_view(&planned, (enum epx_cann_role)role);
        if (view) {
            view->data = atomic_load_explicit(&executor->addresses[role], memory_order_relaxed);
        }
    }
    return planned;
}

/* A use for the run, of an executor that the caller holds and holds no longer: the program's, when this uses the
 * executor up. False: another thread has used it up meanwhile. */
static bool take_use(struct executor *executor, const aclOpExecutor *handle)
{
    const bool repeatable = atomic_load(&executor->repeatable);
    if (repeatable) {
        (void)atomic_fetch_add_explicit(&executor->users, 1, memory_order_relaxed);
    }
    epx_handle_release(&executors, handle);
    return repeatable || epx_handle_remove(&executors, handle) != NULL;
}

aclnnStatus epx_cann_executor_launch(aclOpExecutor *handle, enum epx_operation operation, aclrtStream stream)
{
    struct executor *executor = epx_handle_acquire(&executors, handle);
    if (!executor) {
        return refuse_unknown(handle);
    }
    const enum epx_operation planned_operation = executor->planned.operation;
    if (planned_operation != operation) {
        epx_handle_release(&executors, handle);
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "executor was made for %s, not for %s",
                               epx_cann_operator_describe(planned_operation)->name,
                               epx_cann_operator_describe(operation)->name);
    }
    if (!take_use(executor, handle)) {
        return refuse_unknown(handle);
    }
    const struct epx_cann_planned planned = planned_now(executor);
    return launch_result(run_queue(executor, &planned, stream));
}

/* ---- What programs do to executors ------------------------------------------------------------------------------- */

aclnnStatus epx_cann_aclSetAclOpExecutorRepeatable(aclOpExecutor *handle)
{
    struct executor *executor = epx_handle_acquire(&executors, handle);
    if (!executor) {
        return refuse_unknown(handle);
    }
    atomic_store(&executor->repeatable, true);
    epx_handle_release(&executors, handle);
    return ACLNN_SUCCESS;
}

aclnnStatus epx_cann_aclDestroyAclOpExecutor(aclOpExecutor *handle)
{
    struct executor *executor = epx_handle_remove(&executors, handle);
    if (!executor) {
        return refuse_unknown(handle);
    }
    give_back(executor);
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

static aclnnStatus set_address_of(struct executor *executor, struct place place, size_t index, void *address)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(executor->planned.operation);
    enum epx_cann_role role;
    if (!role_at(op, place, index, &role)) {
        return epx_cann_refuse(ACLNN_ERR_PARAM_INVALID, "index is %zu, %s has no such tensor", index, op->name);
    }
    const struct epx_view *view = epx_cann_planned_view(&executor->planned, role);
    if (view && view->dim_count != 0) {
        atomic_store_explicit(&executor->addresses[role], (char *)address + executor->planned.offset_bytes[role],
                              memory_order_relaxed);
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
    struct executor *executor = epx_handle_acquire(&executors, handle);
    if (!executor) {
        return refuse_unknown(handle);
    }
    const aclnnStatus status = set_address_of(executor, place, index, address);
    epx_handle_release(&executors, handle);
    if (status == ACLNN_SUCCESS) {
        tensor->data = address;
    }
    return status;
}

/* No operator here has a list of tensors. */
static aclnnStatus set_list_address(aclOpExecutor *handle, size_t index, const aclTensorList *tensors,
                                    const void *address)
{
    if (!epx_handle_acquire(&executors, handle)) {
        return refuse_unknown(handle);
    }
    epx_handle_release(&executors, handle);
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
