#include "comm/step.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/sanitizer.h"
#include "base/topology.h"
#include "comm/agent.h"
#include "comm/failure.h"
#include "comm/health.h"
#include "transport/wire.h"

#include <sched.h>
#include <stdio.h>

/* Choices of EPX_WAIT. */
enum { WAIT_AUTO = 0, WAIT_SPIN = 1, WAIT_BLOCK = 2 };

/* A wait longer than this is not worth a core: going to sleep then costs it 1 % at most (a wake-up takes some 20 us).
 */
#define SPIN_NS 2000000u
/* A spinning rank whose wait lasts longer than this may keep another from a core it needs, its own ranks' or a
 * stranger's: from then on it offers the core, which costs 0.3 us when nobody wants it. */
#define ALONE_NS 20000u
/* About what it takes 16 ranks on two cores to come by one after the other (a yield takes 1.5 us). */
#define YIELD_COUNT 64u
/* Between two looks at the clock. */
#define PAUSE_COUNT 64u
/* Longest that a rank lets others catch up before a part, of which a core copies a rank's share in some 50 us. */
#define PACE_NS 1000000u
/* Yields end after this time even when other work on the cores makes each of them long. */
#define YIELD_NS 2000000u
/* A death is reported after at most two slices; each look reads a line or two of every rank. */
#define SLICE_NS          20000000u
#define SLICE_NS_PER_RANK 100000u
/* How much longer than its deadline a rank waits for the agents when they alone are missing. */
#define AGREEMENT_GRACE_NS 1000000000u
/* First sleep of a rank whose messages to other hosts may still wait for room in a socket; each is twice the last. */
#define WIRE_SLICE_NS 500000u
/* A look that comes late by more slices than these: this process itself was stopped, not just slow. */
#define STOPPED_SLICES 10u

/*
 * ThreadSanitizer follows atomics by address, but ranks that are threads of one process map the control region at
 * different addresses. The order that an arrival and the end of a step give is told to it through a tag a world.
 */
#if EPX_THREAD_SANITIZER
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define order_release(tag) __tsan_release(tag)
#define order_acquire(tag) __tsan_acquire(tag)
#else
#define order_release(tag) ((void)(tag))
#define order_acquire(tag) ((void)(tag))
#endif

struct wait {
    struct epx_comm *comm;
    uint64_t step;
    uint64_t pending;     /* the word as long as neither has happened */
    uint64_t since_ns;    /* when this rank arrived */
    uint64_t deadline_ns; /* EPX_NEVER: none */
    uint64_t until_ns;    /* when the caller wants to be back, the step being complete or not */
    uint64_t check_ns;    /* when to look at the others' health */
    uint64_t slice_ns;    /* of the next sleep */
};

static uint64_t word_load(const struct epx_comm *comm)
{
    return atomic_load_explicit(&comm->control->word.value, memory_order_acquire);
}

static uint64_t arrivals_needed(const struct epx_comm *comm, uint64_t step)
{
    return (uint64_t)comm->here_count * step;
}

/* All ranks here have arrived. */
static void step_complete(struct epx_comm *comm, uint64_t step)
{
    if (comm->wait_world) {
        epx_bell_ring(comm->control);
        return;
    }
    (void)epx_word_complete(comm->control, step);
}

/* All ranks of the world seem to have arrived, and no agent says so. What is known of other hosts is some time old. */
static enum epx_status agreement_blame(const struct wait *wait, char *text, size_t text_bytes)
{
    uint64_t now_ns = epx_clock_ns();
    if (now_ns < wait->deadline_ns + AGREEMENT_GRACE_NS) {
        return EPX_OK;
    }
    (void)snprintf(text, text_bytes,
                   "the hosts have not agreed on step %llu, at which all ranks have arrived, for %.1f s",
                   (unsigned long long)wait->step, (double)(now_ns - wait->since_ns) / 1e9);
    return EPX_ERR_TIMEOUT;
}

/* The deadline has passed: whom to blame. EPX_OK when the last one arrived at this moment, or when that is not known
 * yet. */
static enum epx_status wait_blame(const struct wait *wait, char *text, size_t text_bytes)
{
    struct epx_comm *comm = wait->comm;
    if (epx_health_is_unsure(comm, wait->step, wait->deadline_ns)) {
        return EPX_OK;
    }
    epx_health_blame(comm, wait->step, wait->since_ns, text, text_bytes);
    if (text[0] != '\0') {
        return EPX_ERR_TIMEOUT;
    }
    /* Who says that it has arrived has been counted before; so the count is whole now, or somebody's word is false. */
    uint64_t arrivals = atomic_load_explicit(&comm->control->arrivals, memory_order_acquire);
    if (arrivals >= arrivals_needed(comm, wait->step)) {
        step_complete(comm, wait->step);
        return comm->wait_world ? agreement_blame(wait, text, text_bytes) : EPX_OK;
    }
    (void)snprintf(text, text_bytes, "all %u ranks say that they have arrived at step %llu, %llu arrivals are missing",
                   comm->here_count, (unsigned long long)wait->step,
                   (unsigned long long)(arrivals_needed(comm, wait->step) - arrivals));
    return EPX_ERR_PROTOCOL;
}

/* Looks for a reason to end the wait, in this order: all have arrived but nobody said so (the last one may have been
 * stopped just before), a rank is gone, the deadline. What it decides it does by compare-and-swap from `pending`, so a
 * step that completes meanwhile stays complete. */
static void wait_examine(struct wait *wait, uint64_t now_ns)
{
    struct epx_comm *comm = wait->comm;
    /* That time, in which the others may have been stopped, too, counts against nobody. */
    if (now_ns > wait->check_ns + STOPPED_SLICES * comm->policy.slice_ns && wait->deadline_ns != EPX_NEVER) {
        wait->deadline_ns += now_ns - wait->check_ns;
    }
    wait->check_ns = now_ns + comm->policy.slice_ns;
    uint64_t arrivals = atomic_load_explicit(&comm->control->arrivals, memory_order_acquire);
    if (arrivals >= arrivals_needed(comm, wait->step)) {
        step_complete(comm, wait->step);
        if (!comm->wait_world) {
            return;
        }
    }
    char text[EPX_ERROR_TEXT_BYTES];
    uint64_t activity = atomic_load_explicit(&comm->slot->activity, memory_order_relaxed);
    enum epx_status status = epx_health_examine(comm, wait->step, activity, text, sizeof text);
    if (status == EPX_OK && now_ns >= wait->deadline_ns) {
        status = wait_blame(wait, text, sizeof text);
    }
    if (status != EPX_OK) {
        epx_failure_offer(comm, wait->step - 1, status, text);
    }
}

/* The stages of a wait; each ends when the word is no longer pending, or after its time or the caller's. */
static void wait_spin(struct wait *wait)
{
    uint64_t end_ns = wait->comm->policy.spin_ns == EPX_NEVER ? EPX_NEVER : wait->since_ns + wait->comm->policy.spin_ns;
    uint64_t now_ns = wait->since_ns;
    if (end_ns > wait->until_ns) {
        end_ns = wait->until_ns;
    }
    while (now_ns < end_ns) {
        for (uint32_t i = 0; i < PAUSE_COUNT; i++) {
            if (word_load(wait->comm) != wait->pending) {
                return;
            }
            epx_cpu_pause();
        }
        now_ns = epx_clock_ns();
        if (now_ns >= wait->check_ns || now_ns >= wait->deadline_ns) {
            wait_examine(wait, now_ns);
        }
        if (now_ns >= wait->since_ns + ALONE_NS) {
            (void)sched_yield();
        }
    }
}

static void wait_yield(struct wait *wait)
{
    uint64_t end_ns = epx_clock_ns() + YIELD_NS;
    for (uint32_t i = 0; i < wait->comm->policy.yield_count && word_load(wait->comm) == wait->pending; i++) {
        (void)sched_yield();
        if (epx_clock_ns() >= end_ns) {
            return;
        }
    }
}

/* What this rank has sent to other hosts goes on its way also while it waits for this one; the next sleep is longer. */
static void wire_move(struct wait *wait)
{
    const struct epx_comm *comm = wait->comm;
    if (comm->hosts != NULL && comm->hosts->wire != NULL) {
        (void)epx_wire_progress(comm->hosts->wire);
        wait->slice_ns = 2 * wait->slice_ns < comm->policy.slice_ns ? 2 * wait->slice_ns : comm->policy.slice_ns;
    }
}

static void wait_sleep(struct wait *wait)
{
    struct epx_control *control = wait->comm->control;
    while (word_load(wait->comm) == wait->pending) {
        uint64_t now_ns = epx_clock_ns();
        uint64_t until_ns = now_ns + wait->slice_ns;
        if (now_ns >= wait->until_ns) {
            return;
        }
        if (until_ns > wait->deadline_ns && now_ns < wait->deadline_ns) {
            until_ns = wait->deadline_ns;
        }
        if (until_ns > wait->until_ns) {
            until_ns = wait->until_ns;
        }
        (void)atomic_fetch_add_explicit(&control->sleepers, 1, memory_order_seq_cst);
        if (atomic_load_explicit(&control->word.value, memory_order_seq_cst) == wait->pending) {
            epx_futex_wait(&control->word.low, (uint32_t)wait->pending, until_ns);
        }
        (void)atomic_fetch_sub_explicit(&control->sleepers, 1, memory_order_seq_cst);
        (void)epx_fault("round.wait", (int)wait->comm->rank);
        wire_move(wait);
        /* First the word, then the others: who wakes late must not blame anybody for a step that is complete. */
        if (word_load(wait->comm) == wait->pending) {
            wait_examine(wait, epx_clock_ns());
        }
    }
}

enum epx_status epx_wait_policy_choose(uint32_t rank_count, struct epx_wait_policy *policy)
{
    int64_t choice = WAIT_AUTO;
    EPX_TRY(epx_option_integer(EPX_OPTION_WAIT, &choice));
    bool a_core_each = epx_topology_cpu_count() >= rank_count;
    policy->slice_ns = SLICE_NS + (uint64_t)rank_count * SLICE_NS_PER_RANK;
    policy->spin_ns = choice == WAIT_SPIN ? EPX_NEVER : choice == WAIT_AUTO && a_core_each ? SPIN_NS : 0;
    policy->yield_count = choice == WAIT_AUTO ? YIELD_COUNT : 0;
    return EPX_OK;
}

enum epx_status epx_step_arrive(struct epx_comm *comm, bool is_last)
{
    struct epx_control *control = comm->control;
    uint64_t step = comm->step + 1;
    uint64_t word = word_load(comm);
    if (epx_word_failed(word) != 0) {
        return epx_failure_take(comm, word);
    }
    if (epx_fault("round.arrive", (int)comm->rank)) {
        return epx_failure_force(comm, EPX_ERR_INTERNAL, "fault point round.arrive");
    }
    comm->wait_world = is_last && comm->hosts != NULL;
    if (comm->wait_world) {
        atomic_store_explicit(&control->world_step, step, memory_order_release);
    }
    order_release(comm->order_tag);
    uint64_t now_ns = epx_clock_ns();
    atomic_store_explicit(&comm->wait_since_ns, now_ns, memory_order_release);
    comm->wait_check_ns = now_ns + comm->policy.slice_ns;
    comm->wait_deadline_ns = epx_deadline_after_ms(atomic_load_explicit(&comm->op_timeout_ms, memory_order_relaxed));
    /* Release: this rank's memory goes to whoever completes the step. Acquire: the last one has everybody's. */
    uint64_t arrivals = atomic_fetch_add_explicit(&control->arrivals, 1, memory_order_acq_rel) + 1;
    /* After the count, so that while the count is short some rank is seen as late. */
    atomic_store_explicit(&comm->slot->arrived_step, step, memory_order_release);
    if (arrivals > arrivals_needed(comm, step)) {
        return epx_failure_force(comm, EPX_ERR_PROTOCOL, "more arrivals are counted than there are ranks");
    }
    if (arrivals == arrivals_needed(comm, step) && !epx_fault("round.last", (int)comm->rank)) {
        step_complete(comm, step);
    }
    return EPX_OK;
}

/* What the word says of the step at the end of a wait for it. */
static enum epx_status step_result(struct epx_comm *comm, uint64_t step)
{
    uint64_t word = word_load(comm);
    if (epx_word_step(word) == step) {
        return EPX_OK; /* even when it has failed since: that belongs to a later step */
    }
    if (epx_word_step(word) == step - 1) {
        return epx_failure_take(comm, word);
    }
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "the control word counts %llu steps where rank %u is at step %llu",
                   (unsigned long long)epx_word_step(word), comm->rank, (unsigned long long)step);
    return epx_failure_force(comm, EPX_ERR_PROTOCOL, text);
}

enum epx_status epx_step_await(struct epx_comm *comm, uint64_t until_ns, uint64_t *waited_ns, bool *pending)
{
    uint64_t step = comm->step + 1;
    struct wait wait = {
        .comm = comm,
        .step = step,
        .pending = epx_word_make(step - 1, 0),
        .since_ns = atomic_load_explicit(&comm->wait_since_ns, memory_order_relaxed),
        .deadline_ns = comm->wait_deadline_ns,
        .until_ns = until_ns,
        .slice_ns = comm->hosts != NULL ? WIRE_SLICE_NS : comm->policy.slice_ns,
        .check_ns = comm->wait_check_ns, /* kept from piece to piece: this process may be stopped between two */
    };
    *pending = false;
    atomic_store_explicit(&comm->wait_step, step, memory_order_release);
    wait_spin(&wait);
    wait_yield(&wait);
    wait_sleep(&wait);
    if (word_load(comm) == wait.pending) {
        comm->wait_deadline_ns = wait.deadline_ns;
        comm->wait_check_ns = wait.check_ns;
        *pending = true;
        return EPX_OK;
    }
    atomic_store_explicit(&comm->wait_step, 0, memory_order_release);
    *waited_ns += epx_clock_ns() - wait.since_ns;
    EPX_TRY(step_result(comm, step));
    order_acquire(comm->order_tag);
    comm->step = step;
    if (comm->wait_world && comm->hosts->agent != NULL) {
        epx_agent_sync(comm->hosts->agent); /* the others are told before this process may end */
    }
    (void)epx_fault("round.done", (int)comm->rank);
    return EPX_OK;
}

/* Whether the others have caught up, or pacing has become pointless. */
static bool pace_over(const struct epx_comm *comm, uint64_t behind)
{
    return atomic_load_explicit(&comm->control->parts, memory_order_relaxed) >= behind ||
           epx_word_failed(atomic_load_explicit(&comm->control->word.value, memory_order_relaxed)) != 0;
}

void epx_step_pace(struct epx_comm *comm)
{
    uint64_t behind = comm->parts > 0 ? (comm->parts - 1) * comm->here_count : 0;
    comm->parts++;
    atomic_fetch_add_explicit(&comm->control->parts, 1, memory_order_relaxed);
    if (!comm->paces) {
        return;
    }
    for (uint32_t i = 0; i < PAUSE_COUNT; i++) {
        if (pace_over(comm, behind)) {
            return;
        }
        epx_cpu_pause();
    }
    uint64_t end_ns = epx_clock_ns() + PACE_NS;
    while (!pace_over(comm, behind)) {
        if (epx_clock_ns() >= end_ns) {
            /* Somebody is late, stopped or dead: that is for the next step to find, and this rank must get there. */
            comm->paces = false;
            return;
        }
        (void)sched_yield();
    }
}

char *epx_step_order_tag(const uint8_t key[32])
{
    static char tags[256];
    return &tags[key[0]];
}
