#include "base/clock.h"
#include "base/futex.h"
#include "epx/objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One operation of a plan, bound to its tensors. */
struct operation {
    struct epx_plan *plan;
    bool combines;
    union {
        struct epx_dispatch_binding dispatch;
        struct epx_combine_binding combine;
    } binding;
};

struct epx_request {
    uint32_t magic;
    _Atomic uint32_t references; /* the waiter's and the task's */
    struct operation operation;  /* its plan is held */
    _Atomic uint32_t done;       /* futex; release after the members below */
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

/* An address for a view whose form the plan has. Inputs are only read. */
static void set(struct epx_view *view, const void *data)
{
    view->data = (void *)(uintptr_t)data;
}

static enum epx_status bind_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *given,
                                     struct operation *operation)
{
    struct epx_dispatch_args args;
    struct epx_dispatch_tensors tensors = {0};
    EPX_TRY(epx_plan_check(plan));
    EPX_TRY(epx_struct_read(&args, sizeof args, sizeof args, given, "args"));
    set(&tensors.x, args.x);
    set(&tensors.expert_ids, args.expert_ids);
    /* A rank without tokens has given all its weights, and needs no address to say so. */
    set(&tensors.expert_scales,
        args.expert_scales == NULL && args.token_count == 0 ? args.expand_scales : args.expert_scales);
    set(&tensors.smooth_scales, args.smooth_scales);
    set(&tensors.expand_x, args.expand_x);
    set(&tensors.dynamic_scales, args.dynamic_scales);
    set(&tensors.expand_idx, args.expand_idx);
    set(&tensors.expert_token_nums, args.expert_token_nums);
    set(&tensors.ep_recv_counts, args.ep_recv_counts);
    set(&tensors.expand_scales, args.expand_scales);
    operation->plan = plan;
    operation->combines = false;
    return epx_dispatch_binding_init(plan->dispatch, args.token_count, &tensors, &operation->binding.dispatch);
}

static enum epx_status bind_combine(struct epx_plan *plan, const struct epx_combine_args *given,
                                    struct operation *operation)
{
    struct epx_combine_args args;
    struct epx_combine_tensors tensors = {0};
    EPX_TRY(epx_plan_check(plan));
    EPX_TRY(epx_struct_read(&args, sizeof args, sizeof args, given, "args"));
    set(&tensors.expand_x, args.expand_x);
    set(&tensors.expert_ids, args.expert_ids);
    set(&tensors.expand_idx, args.expand_idx);
    set(&tensors.ep_send_counts, args.ep_send_counts);
    set(&tensors.expert_scales, args.expert_scales);
    set(&tensors.x, args.x);
    operation->plan = plan;
    operation->combines = true;
    return epx_combine_binding_init(plan->combine, args.token_count, &tensors, &operation->binding.combine);
}

static void reserve(struct operation *operation)
{
    if (operation->combines) {
        epx_combine_binding_reserve(operation->plan->combine, &operation->binding.combine);
    } else {
        epx_dispatch_binding_reserve(operation->plan->dispatch, &operation->binding.dispatch);
    }
}

static void keep_stats(const struct operation *operation, const struct epx_operation_stats *run)
{
    struct epx_stats *stats = &operation->plan->stats;
    (void)pthread_mutex_lock(&operation->plan->stats_lock);
    if (operation->combines) {
        stats->combine_rows_read = run->rows_received;
        stats->combine_bytes_read = run->bytes_read;
        stats->combine_bytes_written = run->bytes_written;
        stats->combine_ns = run->total_ns;
        stats->combine_enter_wait_ns = run->enter_wait_ns;
        stats->combine_move_ns = run->move_ns;
        stats->combine_done_wait_ns = run->done_wait_ns;
    } else {
        stats->dispatch_rows_sent = run->rows_sent;
        stats->dispatch_rows_received = run->rows_received;
        stats->dispatch_bytes_read = run->bytes_read;
        stats->dispatch_bytes_written = run->bytes_written;
        stats->dispatch_ns = run->total_ns;
        stats->dispatch_enter_wait_ns = run->enter_wait_ns;
        stats->dispatch_move_ns = run->move_ns;
        stats->dispatch_done_wait_ns = run->done_wait_ns;
    }
    (void)pthread_mutex_unlock(&operation->plan->stats_lock);
}

static enum epx_status run(const struct operation *operation)
{
    struct epx_operation_stats stats;
    if (operation->combines) {
        EPX_TRY(epx_combine_binding_run(operation->plan->combine, &operation->binding.combine, &stats));
    } else {
        EPX_TRY(epx_dispatch_binding_run(operation->plan->dispatch, &operation->binding.dispatch, &stats));
    }
    keep_stats(operation, &stats);
    return EPX_OK;
}

enum epx_status epx_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *args)
{
    struct operation operation;
    EPX_TRY(bind_dispatch(plan, args, &operation));
    reserve(&operation);
    return run(&operation);
}

enum epx_status epx_combine(struct epx_plan *plan, const struct epx_combine_args *args)
{
    struct operation operation;
    EPX_TRY(bind_combine(plan, args, &operation));
    reserve(&operation);
    return run(&operation);
}

static void request_release(void *context)
{
    struct epx_request *request = context;
    if (atomic_fetch_sub(&request->references, 1) == 1) {
        request->magic = 0;
        epx_plan_release(request->operation.plan);
        free(request);
    }
}

/* The task. Its failure belongs to the request: the stream need not keep it. */
static enum epx_status request_run(void *context)
{
    struct epx_request *request = context;
    request->status = run(&request->operation);
    if (request->status != EPX_OK) {
        (void)snprintf(request->text, sizeof request->text, "%s", epx_error_text());
    }
    atomic_store_explicit(&request->done, 1, memory_order_release);
    epx_futex_wake_all(&request->done);
    return EPX_OK;
}

static enum epx_status start(const struct operation *operation, struct epx_request **out)
{
    struct epx_communicator *communicator = operation->plan->communicator;
    if (communicator->stream == NULL) {
        EPX_TRY(epx_stream_create(&communicator->stream));
    }
    struct epx_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a request");
    }
    request->magic = EPX_REQUEST_MAGIC;
    atomic_init(&request->references, 2);
    atomic_init(&request->done, 0);
    request->operation = *operation;
    (void)atomic_fetch_add(&operation->plan->references, 1);
    reserve(&request->operation);
    const struct epx_task task = {.run = request_run, .release = request_release, .context = request};
    if (epx_stream_submit(communicator->stream, &task) != EPX_OK) {
        /* The place in the order of rounds is taken: the operation runs here and now instead. */
        enum epx_status status = request_run(request);
        (void)status;
        request_release(request);
    }
    *out = request;
    return EPX_OK;
}

enum epx_status epx_dispatch_start(struct epx_plan *plan, const struct epx_dispatch_args *args,
                                   struct epx_request **out)
{
    struct operation operation;
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(bind_dispatch(plan, args, &operation));
    return start(&operation, out);
}

enum epx_status epx_combine_start(struct epx_plan *plan, const struct epx_combine_args *args, struct epx_request **out)
{
    struct operation operation;
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(bind_combine(plan, args, &operation));
    return start(&operation, out);
}

static enum epx_status wait_expired(const struct epx_request *request, int64_t timeout_ms)
{
    const struct epx_communicator *communicator = request->operation.plan->communicator;
    char blame[EPX_ERROR_TEXT_BYTES / 2] = "";
    if (communicator->comm != NULL) {
        epx_comm_blame(communicator->comm, blame, sizeof blame);
    }
    return epx_fail(EPX_ERR_TIMEOUT, "not done after %lld ms%s%s", (long long)timeout_ms, blame[0] != '\0' ? ": " : "",
                    blame);
}

static enum epx_status wait_check(struct epx_request *const *handle, int64_t timeout_ms)
{
    if (handle == NULL || *handle == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", handle == NULL ? "request" : "*request");
    }
    if ((*handle)->magic != EPX_REQUEST_MAGIC) {
        return epx_fail(EPX_ERR_INVALID, "not a request");
    }
    if (timeout_ms < -1) {
        return epx_fail(EPX_ERR_INVALID, "timeout_ms is %lld, must be >= 0 or -1 (for ever)", (long long)timeout_ms);
    }
    /* In a child of fork nothing would ever finish it. */
    pid_t process = (*handle)->operation.plan->communicator->process;
    if (process != getpid()) {
        return epx_fail(EPX_ERR_STATE, "the request belongs to process %d, from before the fork", (int)process);
    }
    return EPX_OK;
}

enum epx_status epx_wait(struct epx_request **handle, int64_t timeout_ms)
{
    EPX_TRY(wait_check(handle, timeout_ms));
    struct epx_request *request = *handle;
    uint64_t deadline_ns = epx_deadline_after_ms(timeout_ms);
    while (atomic_load_explicit(&request->done, memory_order_acquire) == 0) {
        if (deadline_ns != EPX_NEVER && epx_clock_ns() >= deadline_ns) {
            return wait_expired(request, timeout_ms);
        }
        epx_futex_wait(&request->done, 0, deadline_ns);
    }
    enum epx_status status = request->status;
    if (status != EPX_OK) {
        epx_error_text_set(request->text);
    }
    *handle = NULL;
    request_release(request);
    return status;
}
