#include "cann/moe_plan.h"

#include "base/config.h"
#include "cann/hold.h"
#include "moe/combine_validate.h"
#include "moe/dispatch_validate.h"

#include <pthread.h>
#include <stdatomic.h>
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

/* Constant while it is held, but for what is under the lock. Used again for another plan, never freed. */
struct epx_cann_plan {
    struct epx_cann_planned form; /* without addresses */
    int64_t options[OPTION_COUNT];
    struct epx_cann_comm_place comm;
    struct epx_cann_comm_place tp_comm;
    union {
        struct epx_dispatch_plan *dispatch;
        struct epx_combine_plan *combine;
    } operation;
    struct epx_hold hold; /* its users; a plan ends under plans_lock alone, or with its last user */
    uint32_t generation;
    _Atomic uint32_t siblings;   /* plans of the same communicator, itself included */
    _Atomic uint64_t idle_since; /* counts releases */

    /* Under plans_lock. */
    struct epx_cann_plan *next;
};

/* Never held together with another lock. */
static pthread_mutex_t plans_lock = PTHREAD_MUTEX_INITIALIZER;
static struct epx_cann_plan *plans;        /* those that have not been closed */
static struct epx_cann_plan *unused_plans; /* memory for the next ones */
static uint32_t last_generation;
static _Atomic uint64_t release_count;

/* The plans that a thread has found lately. */
#define FOUND_MAX 4u
static _Thread_local struct {
    struct epx_cann_plan *plan;
    uint32_t generation;
    uint64_t comm_serial;
    enum epx_operation operation;
} found_lately[FOUND_MAX];
static _Thread_local uint32_t found_next;

/* Views and shapes are compared as bytes. */
_Static_assert(sizeof(struct epx_view) == sizeof(void *) + 8 + 4 * sizeof(int64_t), "a view has no padding");
_Static_assert(sizeof(struct epx_dispatch_tensors) == 12 * sizeof(struct epx_view), "tensors are views only");
_Static_assert(sizeof(struct epx_combine_tensors) == 8 * sizeof(struct epx_view), "tensors are views only");
_Static_assert(sizeof(struct epx_moe_shape) == 7 * sizeof(int64_t) + 16, "a shape has no padding");

/* With the lock held: memory for a plan, null when there is none. */
static struct epx_cann_plan *plan_new(void)
{
    struct epx_cann_plan *plan = unused_plans;
    if (plan) {
        unused_plans = plan->next;
        return plan;
    }
    return calloc(1, sizeof *plan);
}

/* A plan that is in no list and that nobody has. */
static void plan_destroy(struct epx_cann_plan *plan)
{
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        epx_dispatch_plan_destroy(plan->operation.dispatch);
    } else {
        epx_combine_plan_destroy(plan->operation.combine);
    }
    pthread_mutex_lock(&plans_lock);
    plan->next = unused_plans;
    unused_plans = plan;
    pthread_mutex_unlock(&plans_lock);
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
    if (plan->comm.serial != wanted->comm.serial || plan->tp_comm.serial != wanted->tp_comm.serial ||
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

/* After a plan of the communicator has come or gone. */
static void count_siblings(uint64_t comm_serial)
{
    uint32_t count = 0;
    for (const struct epx_cann_plan *plan = plans; plan; plan = plan->next) {
        count += plan->comm.serial == comm_serial ? 1 : 0;
    }
    for (struct epx_cann_plan *plan = plans; plan; plan = plan->next) {
        if (plan->comm.serial == comm_serial) {
            atomic_store_explicit(&plan->siblings, count, memory_order_relaxed);
        }
    }
}

/* The plan of this communicator that has been idle for longest, when it has too many; null otherwise. */
static struct epx_cann_plan *surplus_of(uint64_t comm_serial)
{
    struct epx_cann_plan *oldest = NULL;
    uint32_t idle = 0;
    for (struct epx_cann_plan *plan = plans; plan; plan = plan->next) {
        if (plan->comm.serial == comm_serial && epx_hold_count(&plan->hold) == 0) {
            idle++;
            oldest = !oldest || atomic_load(&plan->idle_since) < atomic_load(&oldest->idle_since) ? plan : oldest;
        }
    }
    return idle > IDLE_MAX ? oldest : NULL;
}

/* The surplus plan, out of the list and the caller's to end; null when there is none. */
static struct epx_cann_plan *take_surplus(uint64_t comm_serial)
{
    struct epx_cann_plan *surplus;
    do {
        surplus = surplus_of(comm_serial);
    } while (surplus && !epx_hold_close_idle(&surplus->hold, surplus->generation)); /* somebody has taken it */
    if (surplus) {
        unlink_plan(surplus);
        count_siblings(comm_serial);
    }
    return surplus;
}

/* Closes idle plans, all or those of a communicator, whose plans in use are their last users' to end. Returns those
 * that are the caller's to end. */
static struct epx_cann_plan *take_idle(uint64_t comm_serial, bool all)
{
    struct epx_cann_plan *taken = NULL;
    for (struct epx_cann_plan **link = &plans; *link;) {
        struct epx_cann_plan *plan = *link;
        const bool meant = plan->comm.serial == comm_serial || plan->tp_comm.serial == comm_serial;
        uint32_t users = 0;
        if (all ? !epx_hold_close_idle(&plan->hold, plan->generation)
                : !meant || !epx_hold_close(&plan->hold, plan->generation, &users)) {
            link = &plan->next;
            continue;
        }
        *link = plan->next;
        if (users == 0) {
            plan->next = taken;
            taken = plan;
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
    wanted->comm = (struct epx_cann_comm_place){planned->comm, planned->comm->serial};
    if (planned->tp_comm) {
        wanted->tp_comm = (struct epx_cann_comm_place){planned->tp_comm, planned->tp_comm->serial};
    }
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
    if (plan->form.operation == EPX_OPERATION_DISPATCH) {
        const struct epx_dispatch_request *request = &planned->request.dispatch;
        return epx_dispatch_binding_init(plan->operation.dispatch, request->token_count, &request->tensors,
                                         &binding->dispatch);
    }
    const struct epx_combine_request *request = &planned->request.combine;
    return epx_combine_binding_init(plan->operation.combine, request->token_count, &request->tensors,
                                    &binding->combine);
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

static void copy_form(struct epx_cann_plan *plan, const struct epx_cann_plan *wanted)
{
    plan->form = wanted->form;
    memcpy(plan->options, wanted->options, sizeof plan->options);
    plan->comm = wanted->comm;
    plan->tp_comm = wanted->tp_comm;
    plan->operation = wanted->operation; /* none */
}

/* In no list yet. */
static enum epx_status make_once(const struct epx_cann_plan *wanted, const struct epx_cann_planned *planned,
                                 struct epx_cann_plan **out)
{
    pthread_mutex_lock(&plans_lock);
    struct epx_cann_plan *plan = plan_new();
    pthread_mutex_unlock(&plans_lock);
    if (!plan) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a plan");
    }
    copy_form(plan, wanted);
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
    /* It may be another plan as soon as the hold is dropped. */
    const uint64_t comm_serial = plan->comm.serial;
    const bool has_siblings = atomic_load_explicit(&plan->siblings, memory_order_relaxed) > IDLE_MAX;
    struct epx_cann_plan *ended = NULL;
    atomic_store_explicit(&plan->idle_since, atomic_fetch_add_explicit(&release_count, 1, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    const enum epx_hold_left left = epx_hold_drop(&plan->hold);
    if (left == EPX_HOLD_ENDED) {
        ended = plan;
    } else if (left == EPX_HOLD_IDLE && has_siblings) {
        pthread_mutex_lock(&plans_lock);
        ended = take_surplus(comm_serial);
        pthread_mutex_unlock(&plans_lock);
    }
    if (ended) {
        plan_destroy(ended);
    }
}

/* What this thread has found before, held; null when it must look. */
static struct epx_cann_plan *recall(const struct epx_cann_plan *wanted)
{
    for (uint32_t i = 0; i < FOUND_MAX; i++) {
        struct epx_cann_plan *plan = found_lately[i].plan;
        if (!plan || found_lately[i].comm_serial != wanted->comm.serial ||
            found_lately[i].operation != wanted->form.operation ||
            !epx_hold_take(&plan->hold, found_lately[i].generation)) {
            continue;
        }
        if (plan_fits(plan, wanted)) {
            return plan;
        }
        epx_cann_plan_release(plan);
    }
    return NULL;
}

static void remember(struct epx_cann_plan *plan)
{
    const uint32_t i = found_next++ % FOUND_MAX;
    found_lately[i].plan = plan;
    found_lately[i].generation = plan->generation;
    found_lately[i].comm_serial = plan->comm.serial;
    found_lately[i].operation = plan->form.operation;
}

/* The plan there is, held; null when there is none. */
static struct epx_cann_plan *find_held(const struct epx_cann_plan *wanted)
{
    pthread_mutex_lock(&plans_lock);
    struct epx_cann_plan *plan = find(wanted);
    if (plan) {
        (void)epx_hold_take(&plan->hold, plan->generation); /* what is in the list is open while the lock is held */
    }
    pthread_mutex_unlock(&plans_lock);
    return plan;
}

static void list_made(struct epx_cann_plan *plan)
{
    pthread_mutex_lock(&plans_lock);
    last_generation += last_generation == UINT32_MAX ? 2 : 1; /* never 0 */
    plan->generation = last_generation;
    plan->next = plans;
    plans = plan;
    count_siblings(plan->comm.serial);
    epx_hold_begin(&plan->hold, plan->generation, 1);
    pthread_mutex_unlock(&plans_lock);
}

enum epx_status epx_cann_plan_acquire(const struct epx_cann_planned *planned, struct epx_cann_plan **out)
{
    struct epx_cann_plan wanted;
    EPX_TRY(check(planned));
    describe(planned, &wanted);
    struct epx_cann_plan *plan = recall(&wanted);
    const bool recalled = plan != NULL;
    plan = plan ? plan : find_held(&wanted);
    if (plan) {
        const enum epx_status status = make_staging(plan, planned);
        if (status != EPX_OK) {
            epx_cann_plan_release(plan);
            return status;
        }
    } else {
        EPX_TRY(make(&wanted, planned, &plan));
        list_made(plan); /* another thread may have made its equal: then there are two, which harms nothing */
    }
    if (!recalled) {
        remember(plan);
    }
    *out = plan;
    return EPX_OK;
}

void epx_cann_plan_comms(const struct epx_cann_plan *plan, struct epx_cann_comm_place *comm,
                         struct epx_cann_comm_place *tp_comm)
{
    *comm = plan->comm;
    *tp_comm = plan->tp_comm;
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
    unused_plans = NULL; /* another thread may have been at it */
}
