#include "base/clock.h"
#include "base/futex.h"
#include "runtime/stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/*
 * Each record of an event is an object of its own, since a wait means the record that was the latest when the wait was
 * queued. A thread that waits does so as one that waits for the record's stream. A queued wait sleeps on the event's
 * word `changes`, looks at it first and at the record then.
 */
struct epx_event {
    _Atomic uint32_t changes; /* rises after a record happened or the event was destroyed */
    _Atomic uint32_t holders; /* the creator and every record */
    _Atomic bool destroyed;
    _Atomic uint64_t time_ns;
    pthread_mutex_t lock;  /* of latest */
    struct record *latest; /* null: never recorded */
};

struct record {
    struct epx_event *event;
    struct epx_stream *stream;
    uint64_t place; /* of the record on its stream; set before the record is the latest */
    _Atomic uint32_t holders;
    _Atomic bool happened;
};

static void event_release(struct epx_event *event)
{
    if (atomic_fetch_sub_explicit(&event->holders, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&event->lock);
        free(event);
    }
}

static void announce_change(struct epx_event *event)
{
    atomic_fetch_add_explicit(&event->changes, 1, memory_order_release);
    epx_futex_wake_all(&event->changes);
}

static void record_release(struct record *record)
{
    if (record && atomic_fetch_sub_explicit(&record->holders, 1, memory_order_acq_rel) == 1) {
        epx_stream_release(record->stream);
        event_release(record->event);
        free(record);
    }
}

/* The latest record, held; null when there is none. */
static struct record *hold_latest(struct epx_event *event)
{
    pthread_mutex_lock(&event->lock);
    struct record *record = event->latest;
    if (record) {
        atomic_fetch_add_explicit(&record->holders, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&event->lock);
    return record;
}

/* Makes `record` the latest, which holds it once, or removes it. */
static void set_latest(struct epx_event *event, struct record *record)
{
    pthread_mutex_lock(&event->lock);
    struct record *previous = event->latest;
    event->latest = record;
    pthread_mutex_unlock(&event->lock);
    record_release(previous);
}

static bool record_over(const struct record *record)
{
    return atomic_load_explicit(&record->happened, memory_order_acquire) ||
           atomic_load_explicit(&record->event->destroyed, memory_order_acquire);
}

/* False when the deadline passed first. */
static bool record_wait(struct record *record, uint64_t deadline_ns)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&record->event->changes, memory_order_acquire);
        if (record_over(record)) {
            return true;
        }
        if (deadline_ns != EPX_NEVER && epx_clock_ns() >= deadline_ns) {
            return false;
        }
        epx_futex_wait(&record->event->changes, seen, deadline_ns);
    }
}

static bool run_record(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct record *record = context;
    (void)until_ns;
    atomic_store_explicit(&record->event->time_ns, epx_clock_ns(), memory_order_release);
    atomic_store_explicit(&record->happened, true, memory_order_release);
    announce_change(record->event);
    *status = EPX_OK;
    return true;
}

/* A record that was dropped must not hold anybody. */
static void release_record(void *context)
{
    struct record *record = context;
    if (!atomic_load_explicit(&record->happened, memory_order_acquire)) {
        atomic_store_explicit(&record->happened, true, memory_order_release);
        announce_change(record->event);
    }
    record_release(record);
}

/* The thread that runs this cannot run the other stream's work as well: that may take longer than the wait. */
static bool run_wait(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct record *record = context;
    *status = EPX_OK;
    if (record_over(record)) {
        return true;
    }
    epx_stream_hurry(record->stream);
    return record_wait(record, until_ns);
}

static void release_wait(void *context)
{
    record_release(context);
}

enum epx_status epx_event_create(struct epx_event **out)
{
    struct epx_event *event = calloc(1, sizeof *event);
    if (!event) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for an event");
    }
    atomic_init(&event->holders, 1);
    pthread_mutex_init(&event->lock, NULL);
    *out = event;
    return EPX_OK;
}

void epx_event_destroy(struct epx_event *event)
{
    if (!event) {
        return;
    }
    atomic_store_explicit(&event->destroyed, true, memory_order_release);
    announce_change(event);
    set_latest(event, NULL);
    event_release(event);
}

enum epx_status epx_event_record(struct epx_event *event, struct epx_stream *stream)
{
    struct record *record = calloc(1, sizeof *record);
    if (!record) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to record an event");
    }
    record->event = event;
    record->stream = stream;
    atomic_init(&record->holders, 2); /* the queued task and event->latest */
    atomic_fetch_add_explicit(&event->holders, 1, memory_order_relaxed);
    epx_stream_hold(stream);
    const struct epx_task task = {
        .run = run_record, .release = release_record, .context = record, .waiter_may_run = true};
    enum epx_status status = epx_stream_submit_at(stream, &task, &record->place);
    if (status != EPX_OK) {
        epx_stream_release(stream);
        event_release(event);
        free(record);
        return status;
    }
    set_latest(event, record);
    return EPX_OK;
}

enum epx_status epx_stream_wait_event(struct epx_stream *stream, struct epx_event *event)
{
    struct record *record = hold_latest(event);
    if (!record) {
        return EPX_OK;
    }
    const struct epx_task task = {.run = run_wait, .release = release_wait, .context = record, .waiter_may_run = true};
    enum epx_status status = epx_stream_submit(stream, &task);
    if (status != EPX_OK) {
        record_release(record);
    }
    return status;
}

enum epx_status epx_event_synchronize(struct epx_event *event, int64_t timeout_ms)
{
    uint64_t deadline_ns = epx_deadline_after_ms(timeout_ms);
    struct record *record = hold_latest(event);
    if (!record) {
        return EPX_OK;
    }
    bool over = record_over(record) || epx_stream_wait_place(record->stream, record->place, deadline_ns);
    record_release(record);
    if (!over) {
        return epx_fail(EPX_ERR_TIMEOUT, "the event did not happen within %lld ms", (long long)timeout_ms);
    }
    return EPX_OK;
}

bool epx_event_happened(struct epx_event *event)
{
    struct record *record = hold_latest(event);
    bool happened = record && atomic_load_explicit(&record->happened, memory_order_acquire);
    record_release(record);
    return happened;
}

uint64_t epx_event_time_ns(struct epx_event *event)
{
    return atomic_load_explicit(&event->time_ns, memory_order_acquire);
}
