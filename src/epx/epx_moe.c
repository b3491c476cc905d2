#include "base/clock.h"
#include "epx/objects.h"
#include "moe/view.h"

#include <stdio.h>
#include <stdlib.h>
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
    struct epx_stream *stream;   /* held */
    uint64_t place;              /* of the task on it; 0: it has run elsewhere */
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

/* An address for a view whose form the plan has. Inputs are only read. */
static void set(struct epx_view *view, const void *data)
{
    view->data = (void *)(uintptr_t)data;
}

/* All tensors but the one for the rows. */
static void set_tensors(struct epx_dispatch_tensors *tensors, const struct epx_dispatch_args *args)
{
    set(&tensors->x, args->x);
    set(&tensors->expert_ids, args->expert_ids);
    /* A rank without tokens has given all its weights, and needs no address to say so. */
    set(&tensors->expert_scales,
        args->expert_scales == NULL && args->token_count == 0 ? args->expand_scales : args->expert_scales);
    set(&tensors->smooth_scales, args->smooth_scales);
    set(&tensors->dynamic_scales, args->dynamic_scales);
    set(&tensors->expand_idx, args->expand_idx);
    set(&tensors->expert_token_nums, args->expert_token_nums);
    set(&tensors->ep_recv_counts, args->ep_recv_counts);
    set(&tensors->expand_scales, args->expand_scales);
}

static enum epx_status bind_tensors(struct epx_plan *plan, int64_t token_count,
                                    const struct epx_dispatch_tensors *tensors, struct operation *operation)
{
    EPX_TRY(epx_views_check_none(plan));
    operation->plan = plan;
    operation->combines = false;
    return epx_dispatch_binding_init(plan->dispatch, token_count, tensors, &operation->binding.dispatch);
}

static enum epx_status bind_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *given,
                                     struct operation *operation)
{
    struct epx_dispatch_args args;
    struct epx_dispatch_tensors tensors = {0};
    EPX_TRY(epx_plan_check(plan));
    EPX_TRY(epx_struct_read(&args, sizeof args, sizeof args, given, "args"));
    set_tensors(&tensors, &args);
    set(&tensors.expand_x, args.expand_x);
    return bind_tensors(plan, args.token_count, &tensors, operation);
}

static enum epx_status bind_dispatch_views(struct epx_plan *plan, const struct epx_dispatch_views_args *given,
                                           struct operation *operation)
{
    struct epx_dispatch_views_args args;
    struct epx_dispatch_tensors tensors = {0};
    EPX_TRY(epx_plan_check(plan));
    EPX_TRY(epx_struct_read(&args, sizeof args, sizeof args, given, "args"));
    const struct epx_dispatch_args others = {
        .token_count = args.token_count,
        .x = args.x,
        .expert_ids = args.expert_ids,
        .expert_scales = args.expert_scales,
        .smooth_scales = args.smooth_scales,
        .dynamic_scales = args.dynamic_scales,
        .expand_idx = args.expand_idx,
        .expert_token_nums = args.expert_token_nums,
        .ep_recv_counts = args.ep_recv_counts,
        .expand_scales = args.expand_scales,
    };
    set_tensors(&tensors, &others);
    tensors.row_views = (struct epx_view){
        .data = args.rows, .dtype = EPX_DTYPE_INT64, .dim_count = 1, .shape = {plan->recv_row_max}, .stride = {1}};
    return bind_tensors(plan, args.token_count, &tensors, operation);
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

/* The operation takes its place among the others: from here on views are out, or no longer. */
static void reserve(struct operation *operation)
{
    struct epx_plan *plan = operation->plan;
    if (operation->combines) {
        epx_combine_binding_reserve(plan->combine, &operation->binding.combine);
        operation->binding.combine.views_round = epx_views_close(plan);
        return;
    }
    struct epx_dispatch_binding *binding = &operation->binding.dispatch;
    epx_dispatch_binding_reserve(plan->dispatch, binding);
    if (epx_view_present(&binding->tensors.row_views)) {
        epx_views_open(plan, binding);
    }
}

static void keep_stats(const struct operation *operation, const struct epx_operation_stats *run)
{
    struct epx_plan *plan = operation->plan;
    struct epx_kept_stats *kept = operation->combines ? &plan->combine_stats : &plan->dispatch_stats;
    atomic_store_explicit(&kept->rows_sent, run->rows_sent, memory_order_relaxed);
    atomic_store_explicit(&kept->rows_received, run->rows_received, memory_order_relaxed);
    atomic_store_explicit(&kept->bytes_read, run->bytes_read, memory_order_relaxed);
    atomic_store_explicit(&kept->bytes_written, run->bytes_written, memory_order_relaxed);
    atomic_store_explicit(&kept->total_ns, run->total_ns, memory_order_relaxed);
    atomic_store_explicit(&kept->enter_wait_ns, run->enter_wait_ns, memory_order_relaxed);
    atomic_store_explicit(&kept->move_ns, run->move_ns, memory_order_relaxed);
    atomic_store_explicit(&kept->done_wait_ns, run->done_wait_ns, memory_order_relaxed);
}

/* As epx_task_run. */
static bool advance(struct operation *operation, uint64_t until_ns, enum epx_status *status)
{
    struct epx_operation_stats stats;
    bool ended = operation->combines
                     ? epx_combine_binding_advance(operation->plan->combine, &operation->binding.combine, until_ns,
                                                   &stats, status)
                     : epx_dispatch_binding_advance(operation->plan->dispatch, &operation->binding.dispatch, until_ns,
                                                    &stats, status);
    if (ended && *status == EPX_OK) {
        keep_stats(operation, &stats);
    }
    return ended;
}

static enum epx_status run(struct operation *operation)
{
    struct epx_stream *stream = operation->plan->communicator->stream;
    enum epx_status status = EPX_OK;
    if (stream != NULL) {
        epx_stream_hurry(stream); /* operations that were started before come first */
    }
    while (!advance(operation, EPX_NEVER, &status)) {
    }
    return status;
}

enum epx_status epx_dispatch(struct epx_plan *plan, const struct epx_dispatch_args *args)
{
    struct operation operation;
    EPX_TRY(bind_dispatch(plan, args, &operation));
    reserve(&operation);
    return run(&operation);
}

enum epx_status epx_dispatch_views(struct epx_plan *plan, const struct epx_dispatch_views_args *args)
{
    struct operation operation;
    EPX_TRY(bind_dispatch_views(plan, args, &operation));
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

/* One that the plan has kept, or a new one; null when there is no memory. */
static struct epx_request *request_get(struct epx_plan *plan)
{
    for (size_t i = 0; i < sizeof plan->spare_requests / sizeof plan->spare_requests[0]; i++) {
        struct epx_request *request = atomic_exchange(&plan->spare_requests[i], NULL);
        if (request != NULL) {
            return request;
        }
    }
    return calloc(1, sizeof(struct epx_request));
}

static void request_put(struct epx_plan *plan, struct epx_request *request)
{
    for (size_t i = 0; i < sizeof plan->spare_requests / sizeof plan->spare_requests[0]; i++) {
        struct epx_request *none = NULL;
        if (atomic_compare_exchange_strong(&plan->spare_requests[i], &none, request)) {
            return;
        }
    }
    free(request);
}

static void request_release(void *context)
{
    struct epx_request *request = context;
    if (atomic_fetch_sub(&request->references, 1) == 1) {
        struct epx_plan *plan = request->operation.plan;
        request->magic = 0;
        epx_stream_release(request->stream);
        request_put(plan, request);
        epx_plan_release(plan);
    }
}

/* The task. Its failure belongs to the request: the stream need not keep it. */
static bool request_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct epx_request *request = context;
    *status = EPX_OK;
    if (!advance(&request->operation, until_ns, &request->status)) {
        return false;
    }
    if (request->status != EPX_OK) {
        (void)snprintf(request->text, sizeof request->text, "%s", epx_error_text());
    }
    return true;
}

static enum epx_status start(const struct operation *operation, struct epx_request **out)
{
    struct epx_communicator *communicator = operation->plan->communicator;
    if (communicator->stream == NULL) {
        EPX_TRY(epx_stream_create(&communicator->stream));
    }
    struct epx_request *request = request_get(operation->plan);
    if (request == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a request");
    }
    request->magic = EPX_REQUEST_MAGIC;
    atomic_init(&request->references, 2);
    request->place = 0;
    request->operation = *operation;
    (void)atomic_fetch_add(&operation->plan->references, 1);
    request->stream = communicator->stream;
    epx_stream_hold(request->stream);
    reserve(&request->operation);
    const struct epx_task task = {
        .run = request_run, .release = request_release, .context = request, .waiter_may_run = true};
    if (epx_stream_submit_at(request->stream, &task, &request->place) != EPX_OK) {
        /* The place in the order of rounds is taken: the operation runs here and now instead. */
        enum epx_status status;
        while (!request_run(request, EPX_NEVER, &status)) {
        }
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

enum epx_status epx_dispatch_views_start(struct epx_plan *plan, const struct epx_dispatch_views_args *args,
                                         struct epx_request **out)
{
    struct operation operation;
    if (out == NULL) {
        return epx_fail(EPX_ERR_NULL, "out is null");
    }
    EPX_TRY(bind_dispatch_views(plan, args, &operation));
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
    if (!epx_stream_wait_place(request->stream, request->place, deadline_ns)) {
        return wait_expired(request, timeout_ms);
    }
    enum epx_status status = request->status;
    if (status != EPX_OK) {
        epx_error_text_set(request->text);
    }
    *handle = NULL;
    request_release(request);
    return status;
}
