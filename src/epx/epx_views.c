#include "comm/completion.h"
#include "epx/objects.h"

#include <stdio.h>

/* The plans of this process whose row views are out. No other lock is taken under this one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct epx_plan *first_shown;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void unlock_list(void)
{
    (void)pthread_mutex_unlock(&lock);
}

/* The child has no part in its parent's operations. */
static void in_child(void)
{
    first_shown = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static void prepare_forks(void)
{
    (void)pthread_atfork(before_fork, unlock_list, in_child);
}

/* A child, in which destroying and freeing are allowed, must not find the lock held by a thread that it has not got. */
static void lock_list(void)
{
    (void)pthread_once(&once, prepare_forks);
    (void)pthread_mutex_lock(&lock);
}

static enum epx_status fail_out(const struct epx_plan_views *views, const char *what)
{
    if (views->abandoned) {
        return epx_fail(EPX_ERR_STATE,
                        "%s while the row views of dispatch round %llu are out: their plan is destroyed, "
                        "epx_comm_destroy comes first",
                        what, (unsigned long long)views->round);
    }
    return epx_fail(EPX_ERR_STATE,
                    "%s while the row views of dispatch round %llu are out: epx_combine or epx_views_release of their "
                    "plan comes first",
                    what, (unsigned long long)views->round);
}

enum epx_status epx_views_check_none(const struct epx_plan *plan)
{
    /* What a failed communicator says is worth more. */
    if (plan->views.round == 0 || epx_comm_failure(plan->communicator->comm) != EPX_OK) {
        return EPX_OK;
    }
    return fail_out(&plan->views, "dispatch");
}

static void unlink_locked(struct epx_plan *plan)
{
    struct epx_plan **link = &first_shown;
    while (*link != NULL && *link != plan) {
        link = &(*link)->views.next;
    }
    if (*link == plan) {
        *link = plan->views.next;
    }
    plan->views.next = NULL;
}

void epx_views_open(struct epx_plan *plan, const struct epx_dispatch_binding *binding)
{
    const struct epx_view *x = &binding->tensors.x;
    bool was_out = plan->views.round != 0; /* of a communicator that has failed */
    lock_list();
    if (was_out) {
        unlink_locked(plan);
    }
    plan->views.round = binding->round;
    plan->views.x = NULL;
    plan->views.x_bytes = 0;
    if (binding->tensors.expand_x.dtype != EPX_DTYPE_INT8 && binding->token_count > 0) {
        plan->views.x = x->data;
        plan->views.x_bytes = (size_t)binding->token_count * (size_t)x->shape[1] * sizeof(uint16_t);
    }
    plan->views.next = first_shown;
    first_shown = plan;
    unlock_list();
    if (!was_out) {
        (void)atomic_fetch_add(&plan->references, 1);
    }
}

uint64_t epx_views_close(struct epx_plan *plan)
{
    uint64_t round = plan->views.round;
    if (round == 0) {
        return 0;
    }
    lock_list();
    unlink_locked(plan);
    plan->views.round = 0;
    unlock_list();
    epx_plan_release(plan); /* never the last: the caller has the handle */
    return round;
}

void epx_views_abandon(struct epx_plan *plan)
{
    lock_list();
    plan->views.abandoned = true;
    unlock_list();
}

enum epx_status epx_views_check_left(const struct epx_communicator *communicator)
{
    lock_list();
    const struct epx_plan *plan = first_shown;
    while (plan != NULL && (plan->communicator != communicator || plan->views.abandoned)) {
        plan = plan->views.next;
    }
    unlock_list();
    if (plan == NULL || epx_comm_failure(communicator->comm) != EPX_OK) {
        return EPX_OK;
    }
    return fail_out(&plan->views, "epx_comm_destroy");
}

/* One plan of the communicator out of the list; null when there is none left. */
static struct epx_plan *take_one(const struct epx_communicator *communicator)
{
    lock_list();
    struct epx_plan *plan = first_shown;
    while (plan != NULL && plan->communicator != communicator) {
        plan = plan->views.next;
    }
    if (plan != NULL) {
        unlink_locked(plan);
        plan->views.round = 0;
    }
    unlock_list();
    return plan;
}

void epx_views_forget(const struct epx_communicator *communicator)
{
    struct epx_plan *plan = take_one(communicator);
    while (plan != NULL) {
        epx_plan_release(plan);
        plan = take_one(communicator);
    }
}

void epx_views_set_closing(struct epx_communicator *communicator, bool closing)
{
    lock_list();
    communicator->closing = closing;
    unlock_list();
}

/* What peers of a failed communicator read counts for nothing. The thread's own text stays. A communicator that is
   being destroyed by another thread is not asked: its views of plans with a handle are there only if it has failed. */
static bool has_failed(const struct epx_plan *plan)
{
    if (plan->communicator->closing) {
        return !plan->views.abandoned;
    }
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    bool failed = epx_comm_failure(plan->communicator->comm) != EPX_OK;
    epx_error_text_set(text);
    return failed;
}

/* The next plan behind `last` by address, so that none is missed while others come and go; a copy of its views, and
   whether they count. Null when there is none; the plan is not to be looked into. */
static const struct epx_plan *next_shown(const struct epx_plan *last, struct epx_plan_views *views, bool *counts)
{
    const struct epx_plan *next = NULL;
    lock_list();
    for (const struct epx_plan *plan = first_shown; plan != NULL; plan = plan->views.next) {
        if ((uintptr_t)plan > (uintptr_t)last && (next == NULL || (uintptr_t)plan < (uintptr_t)next)) {
            next = plan;
        }
    }
    if (next != NULL) {
        *views = next->views;
        *counts = !has_failed(next);
    }
    unlock_list();
    return next;
}

enum epx_status epx_views_check_free(const void *pointer)
{
    struct epx_plan_views views;
    bool counts;
    const struct epx_plan *plan = next_shown(NULL, &views, &counts);
    for (; plan != NULL; plan = next_shown(plan, &views, &counts)) {
        uintptr_t start = (uintptr_t)pointer;
        uintptr_t x = (uintptr_t)views.x;
        uint64_t offset;
        if (counts && x >= start && x != 0 && epx_arena_offset_of(pointer, x - start + views.x_bytes, &offset)) {
            return fail_out(&views, "epx_memory_free of x");
        }
    }
    return EPX_OK;
}

enum epx_status epx_views_release(struct epx_plan *plan)
{
    EPX_TRY(epx_plan_check(plan));
    if (plan->views.round == 0) {
        return epx_fail(EPX_ERR_STATE, "no row views of the plan are out");
    }
    struct epx_stream *stream = plan->communicator->stream;
    uint64_t views_round = epx_views_close(plan);
    if (stream != NULL) {
        epx_stream_hurry(stream); /* operations that were started before come first */
    }
    return epx_dispatch_views_release(plan->dispatch, views_round, epx_round_reserve(plan->communicator->comm));
}
