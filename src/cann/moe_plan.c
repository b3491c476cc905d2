#include "cann/moe_plan.h"

#include "base/config.h"
#include "cann/hccl_state.h"
#include "moe/combine_validate.h"
#include "moe/dispatch_validate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Unused plans of a communicator: both operators, in two sizes. */
#define IDLE_MAX 4u

/* The options that the operators read when they plan: a plan is used again where they are as they were. */
static const enum epx_option_id planning_options[] = {
    EPX_OPTION_STREAM_KIB,
    EPX_OPTION_PART_KIB,
    EPX_OPTION_THREADS,
    EPX_OPTION_THREAD_KIB,
};
#define OPTION_COUNT (sizeof planning_options / sizeof planning_options[0])

struct epx_cann_plan {            /* constant while it is in use, but for what is under a lock */
    struct epx_cann_planned form; /* without addresses */
    int64_t options[OPTION_COUNT];
    uint64_t comm_serial;
    uint64_t tp_comm_serial;
    union {
        struct epx_dispatch_plan *dispatch;
        struct epx_combine_plan *combine;
    } operation;
    pthread_mutex_t bind_lock; /* of binding, which may make staging memory */

    /* Under plans_lock. */
    uint32_t users;
    bool forgotten;      /* a communicator of it is gone */
    uint64_t idle_since; /* counts releases */
    struct epx_cann_plan *next;
};

/* Never held together with another lock. */
static pthread_mutex_t plans_lock = PTHREAD_MUTEX_INITIALIZER;
static struct epx_cann_plan *plans;
static uint64_t release_count;

/* Views and shapes are compared as bytes. */
_Static_assert(sizeof(struct epx_view) == sizeof(void *) + 8 + 4 * sizeof(int64_t), "a view has no padding");
_Static_assert(sizeof(struct epx_dispatch_tensors) == 12 * sizeof(struct epx_view), "tensors are views only");
_Static_assert(sizeof(struct epx_combine_tensors) == 8 * sizeof(struct epx_view), "tensors are views only");
_Static_assert(sizeof(struct epx_moe_shape) == 7 * sizeof(int64_t) + 16, "a shape has no padding");

static void plan_destroy(struct epx_cann_plan *plan)
{
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_plan_destroy(plan->operation.dispatch);
    } else {
        epx_combine_plan_destroy(plan->operation.combine);
    }
    pthread_mutex_destroy(&plan->bind_lock);
    free(plan);
}

static void destroy_list(struct epx_cann_plan *list)
{
    while (list) {
        struct epx_cann_plan *next = list->next;
        plan_destroy(list);
        list = next;
    }
}

/* ---- With the lock ----------------------------------------------------------------------------------------------- */

static bool dispatch_equal(const struct epx_dispatch_request *a, const struct epx_dispatch_request *b)
{
    return a->token_count == b->token_count && a->token_nums_kind == b->token_nums_kind &&
           memcmp(&a->shape, &b->shape, sizeof a->shape) == 0 &&
           memcmp(&a->tensors, &b->tensors, sizeof a->tensors) == 0;
}

static bool combine_equal(const struct epx_combine_request *a, const struct epx_combine_request *b)
{
    return a->token_count == b->token_count && memcmp(&a->shape, &b->shape, sizeof a->shape) == 0 &&
           memcmp(&a->tensors, &b->tensors, sizeof a->tensors) == 0;
}

static bool plan_fits(const struct epx_cann_plan *plan, const struct epx_cann_plan *wanted)
{
    if (plan->forgotten || plan->comm_serial != wanted->comm_serial || plan->tp_comm_serial != wanted->tp_comm_serial ||
        plan->form.operation != wanted->form.operation ||
        memcmp(plan->options, wanted->options, sizeof plan->options) != 0) {
        return false;
    }
    return plan->form.operation == EPX_OPERATION_DISPATCH
               ? dispatch_equal(&plan->form.request.dispatch, &wanted->form.request.dispatch)
               : combine_equal(&plan->form.request.combine, &wanted->form.request.combine);
}

static struct epx_cann_plan *find(const struct epx_cann_plan *wanted)
{
    struct epx_cann_plan *plan = plans;
    while (plan && !plan_fits(plan, wanted)) {
        plan = plan->next;
    }
    return plan;
}

static void unlink_plan(const struct epx_cann_plan *plan)
{
    struct epx_cann_plan **link = &plans;
    while (*link != plan) {
        link = &(*link)->next;
    }
    *link = plan->next;
}

/* The plan of this communicator that has been idle for longest, when it has too many; null otherwise. */
static struct epx_cann_plan *surplus_of(uint64_t comm_serial)
{
    struct epx_cann_plan *oldest = NULL;
    uint32_t idle = 0;
    for (struct epx_cann_plan *plan = plans; plan; plan = plan->next) {
        if (plan->users == 0 && plan->comm_serial == comm_serial) {
            idle++;
            oldest = !oldest || plan->idle_since < oldest->idle_since ? plan : oldest;
        }
    }
    return idle > IDLE_MAX ? oldest : NULL;
}

/* Takes the idle plans out of the list, all or those of a communicator. Its plans in use will not be idle. */
static struct epx_cann_plan *take_idle(uint64_t comm_serial, bool all)
{
    struct epx_cann_plan *taken = NULL;
    for (struct epx_cann_plan **link = &plans; *link;) {
        struct epx_cann_plan *plan = *link;
        const bool meant = all || plan->comm_serial == comm_serial || plan->tp_comm_serial == comm_serial;
        plan->forgotten = plan->forgotten || (meant && !all);
        if (meant && plan->users == 0) {
            *link = plan->next;
            plan->next = taken;
            taken = plan;
        } else {
            link = &plan->next;
        }
    }
    return taken;
}

/* ---- Making one -------------------------------------------------------------------------------------------------- */

static enum epx_status check(const struct epx_cann_planned *planned)
{
    struct epx_moe_world world;
    return planned->operation == EPX_OPERATION_DISPATCH ? epx_dispatch_validate(&planned->request.dispatch, &world)
                                                        : epx_combine_validate(&planned->request.combine, &world);
}

/* An option without a valid value is reported by the plan that reads it. */
static int64_t option_value(enum epx_option_id id)
{
    int64_t value;
    return epx_option_integer(id, &value) == EPX_OK ? value : INT64_MIN;
}

static void describe(const struct epx_cann_planned *planned, struct epx_cann_plan *wanted)
{
    memset(wanted, 0, sizeof *wanted);
    wanted->form = *planned;
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        struct epx_view *view = epx_cann_planned_view(&wanted->form, (enum epx_cann_role)role);
        if (view) {
            view->data = NULL;
        }
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        wanted->options[i] = option_value(planning_options[i]);
    }
    wanted->comm_serial = epx_cann_comm_serial(planned->comm);
    wanted->tp_comm_serial = planned->tp_comm ? epx_cann_comm_serial(planned->tp_comm) : 0;
}

static enum epx_status make_operation(struct epx_cann_plan *plan)
{
    return plan->form.operation == EPX_OPERATION_DISPATCH
               ? epx_dispatch_plan_create(&plan->form.request.dispatch, &plan->operation.dispatch)
               : epx_combine_plan_create(&plan->form.request.combine, &plan->operation.combine);
}

bool epx_cann_plans_give_up(void)
{
    pthread_mutex_lock(&plans_lock);
    struct epx_cann_plan *idle = take_idle(0, true);
    pthread_mutex_unlock(&plans_lock);
    destroy_list(idle);
    return idle != NULL;
}

static enum epx_status bind_once(struct epx_cann_plan *plan, const struct epx_cann_planned *planned,
                                 union epx_cann_binding *binding)
{
    enum epx_status status;
    pthread_mutex_lock(&plan->bind_lock);
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        const struct epx_dispatch_request *request = &planned->request.dispatch;
        status = epx_dispatch_binding_init(plan->operation.dispatch, request->token_count, &request->tensors,
                                           &binding->dispatch);
    } else {
        const struct epx_combine_request *request = &planned->request.combine;
        status = epx_combine_binding_init(plan->operation.combine, request->token_count, &request->tensors,
                                          &binding->combine);
    }
    pthread_mutex_unlock(&plan->bind_lock);
    return status;
}

enum epx_status epx_cann_plan_bind(struct epx_cann_plan *plan, const struct epx_cann_planned *planned,
                                   union epx_cann_binding *binding)
{
    const enum epx_status status = bind_once(plan, planned, binding);
    return status == EPX_ERR_NO_MEMORY && epx_cann_plans_give_up() ? bind_once(plan, planned, binding) : status;
}

/* Staging memory for addresses that are known is made with the plan, so that the first phase says that there is none.
 * What else is wrong with addresses is said by the second, as they may change. */
static enum epx_status make_staging(struct epx_cann_plan *plan, const struct epx_cann_planned *planned)
{
    union epx_cann_binding unused;
    const enum epx_status status = epx_cann_plan_bind(plan, planned, &unused);
    return status == EPX_ERR_NO_MEMORY ? status : EPX_OK;
}

static enum epx_status make_once(const struct epx_cann_plan *wanted, const struct epx_cann_planned *planned,
                                 struct epx_cann_plan **out)
{
    struct epx_cann_plan *plan = malloc(sizeof *plan);
    if (!plan) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a plan");
    }
    *plan = *wanted;
    plan->users = 1;
    pthread_mutex_init(&plan->bind_lock, NULL);
    enum epx_status status = make_operation(plan);
    if (status == EPX_OK) {
        status = make_staging(plan, planned);
    }
    if (status != EPX_OK) {
        plan_destroy(plan);
        return status;
    }
    *out = plan;
    return EPX_OK;
}

/* Memory that is only kept for later is given up for a plan that is needed now. */
static enum epx_status make(const struct epx_cann_plan *wanted, const struct epx_cann_planned *planned,
                            struct epx_cann_plan **out)
{
    const enum epx_status status = make_once(wanted, planned, out);
    return status == EPX_ERR_NO_MEMORY && epx_cann_plans_give_up() ? make_once(wanted, planned, out) : status;
}

/* ---- Use --------------------------------------------------------------------------------------------------------- */

void epx_cann_plan_release(struct epx_cann_plan *plan)
{
    struct epx_cann_plan *surplus = NULL;
    pthread_mutex_lock(&plans_lock);
    if (--plan->users == 0) {
        plan->idle_since = ++release_count;
        surplus = plan->forgotten ? plan : surplus_of(plan->comm_serial);
    }
    if (surplus) {
        unlink_plan(surplus);
    }
    pthread_mutex_unlock(&plans_lock);
    if (surplus) {
        plan_destroy(surplus);
    }
}

enum epx_status epx_cann_plan_acquire(const struct epx_cann_planned *planned, struct epx_cann_plan **out)
{
    struct epx_cann_plan wanted;
    EPX_TRY(check(planned));
    describe(planned, &wanted);
    pthread_mutex_lock(&plans_lock);
    struct epx_cann_plan *plan = find(&wanted);
    if (plan) {
        plan->users++;
    }
    pthread_mutex_unlock(&plans_lock);
    if (plan) {
        const enum epx_status status = make_staging(plan, planned);
        if (status != EPX_OK) {
            epx_cann_plan_release(plan);
            return status;
        }
    } else {
        EPX_TRY(make(&wanted, planned, &plan));
        /* Another thread may have made its equal: then there are two, which harms nothing. */
        pthread_mutex_lock(&plans_lock);
        plan->next = plans;
        plans = plan;
        pthread_mutex_unlock(&plans_lock);
    }
    *out = plan;
    return EPX_OK;
}

void epx_cann_plan_comms(const struct epx_cann_plan *plan, uint64_t *comm_serial, uint64_t *tp_comm_serial)
{
    *comm_serial = plan->comm_serial;
    *tp_comm_serial = plan->tp_comm_serial;
}

void epx_cann_plan_reserve(struct epx_cann_plan *plan, union epx_cann_binding *binding)
{
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_binding_reserve(plan->operation.dispatch, &binding->dispatch);
    } else {
        epx_combine_binding_reserve(plan->operation.combine, &binding->combine);
    }
}

bool epx_cann_plan_advance(struct epx_cann_plan *plan, union epx_cann_binding *binding, uint64_t until_ns,
                           enum epx_status *status)
{
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        return epx_dispatch_binding_advance(plan->operation.dispatch, &binding->dispatch, until_ns, NULL, status);
    }
    return epx_combine_binding_advance(plan->operation.combine, &binding->combine, until_ns, NULL, status);
}

void epx_cann_plans_forget(uint64_t comm_serial)
{
    pthread_mutex_lock(&plans_lock);
    struct epx_cann_plan *ended = take_idle(comm_serial, false);
    pthread_mutex_unlock(&plans_lock);
    destroy_list(ended);
}

void epx_cann_plans_reset_after_fork(void)
{
    pthread_mutex_init(&plans_lock, NULL);
    plans = NULL;
}
