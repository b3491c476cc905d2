/*
 * The host "device": streams (in-order queues of tasks) and events. A stream's tasks are run, one at a time, by threads
 * that wait for the stream and by its worker: a thread that starts with the first task, blocks all signals, and never
 * keeps the process from exiting. A worker is left asleep for a while (1 ms at most) when this stream's program has
 * always come to wait at once. Knows nothing of communicators.
 */
#ifndef EPX_RUNTIME_STREAM_H
#define EPX_RUNTIME_STREAM_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_stream;
struct epx_event;

/*
 * Runs the task, or goes on with it. True: it has ended with *status, its text set in the calling thread. False:
 * until_ns (epx_clock_ns; EPX_NEVER: never) has passed first; it is called again, by this or another thread, one at a
 * time, to go on. A failure is kept with its text; later tasks still run (they find their communicator failed by
 * themselves).
 */
typedef bool (*epx_task_run)(void *context, uint64_t until_ns, enum epx_status *status);
/* Called once after run, or when the task is dropped. Null allowed. */
typedef void (*epx_task_release)(void *context);
/* A line about what the task waits for at the moment, "" for nothing; called by other threads while the task runs. */
typedef void (*epx_task_blame)(void *context, char *text, uint64_t text_bytes);

/* Called when the task has its place, before anybody can run it, with the stream's lock held: takes no lock itself. */
typedef void (*epx_task_queued)(void *context);

struct epx_task {
    epx_task_queued queued; /* null allowed */
    epx_task_run run;
    epx_task_release release;
    epx_task_blame blame; /* null allowed */
    void *context;
    bool waiter_may_run; /* a thread that waits for the stream may run and release it; false: only the worker */
    bool until_ignored;  /* run may return late: threads that wait with a deadline leave it to others */
};

EPX_NODISCARD enum epx_status epx_stream_create(struct epx_stream **out);

/* Waits for queued work and ends the stream; its memory stays while others hold it. */
void epx_stream_destroy(struct epx_stream *stream);

/* For those who may wait for a stream that another thread destroys. */
void epx_stream_hold(struct epx_stream *stream);
void epx_stream_release(struct epx_stream *stream);

/* Queues a task. On failure (EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM: no thread) nothing was queued and release is not
 * called. */
EPX_NODISCARD enum epx_status epx_stream_submit(struct epx_stream *stream, const struct epx_task *task);
/* The same; *place is the task's place in the queue. */
EPX_NODISCARD enum epx_status epx_stream_submit_at(struct epx_stream *stream, const struct epx_task *task,
                                                   uint64_t *place);

/*
 * Waits until everything queued before the call has run. Returns the first failure since the last call that returned
 * one, with its text, and forgets it. timeout_ms < 0: for ever; when it passes first: EPX_ERR_TIMEOUT with the running
 * task's line of blame; 0: looks only. Meanwhile the calling thread runs tasks that it may run.
 */
EPX_NODISCARD enum epx_status epx_stream_synchronize(struct epx_stream *stream, int64_t timeout_ms);

/* The same; *expired says whether EPX_ERR_TIMEOUT is the wait's own, and not a task's failure. */
EPX_NODISCARD enum epx_status epx_stream_wait(struct epx_stream *stream, int64_t timeout_ms, bool *expired);

/* Waits, and works, until the task at `place` and all before it have run and are released, or until deadline_ns: false
 * then. Failures stay the stream's. */
EPX_NODISCARD bool epx_stream_wait_place(struct epx_stream *stream, uint64_t place, uint64_t deadline_ns);

/* The worker begins now, if it has not. For those who wait for an effect of queued work in another way. */
void epx_stream_hurry(struct epx_stream *stream);

/* Whether all queued work has run; does not wait. */
bool epx_stream_idle(struct epx_stream *stream);

/* What is queued and has not begun is dropped instead of run; does not wait. The next synchronisation that finds no
 * other failure returns EPX_ERR_ABORTED when there was any. */
void epx_stream_abort(struct epx_stream *stream);

/* A pointer of the stream's creator. Set before other threads know the stream; null until then. */
void epx_stream_set_owner(struct epx_stream *stream, void *owner);
void *epx_stream_owner(const struct epx_stream *stream);

EPX_NODISCARD enum epx_status epx_event_create(struct epx_event **out);
/* Frees; waits queued on it are released as if it had happened. */
void epx_event_destroy(struct epx_event *event);
/* Queues "the event happens" on the stream. */
EPX_NODISCARD enum epx_status epx_event_record(struct epx_event *event, struct epx_stream *stream);
/* Queues "wait for the event's latest record before now" on the stream. */
EPX_NODISCARD enum epx_status epx_stream_wait_event(struct epx_stream *stream, struct epx_event *event);
/* As a wait for the stream up to the latest record. EPX_ERR_TIMEOUT. */
EPX_NODISCARD enum epx_status epx_event_synchronize(struct epx_event *event, int64_t timeout_ms);
/* Whether the latest record has happened; false when there is none. Waits on an event without a record return at once.
 */
bool epx_event_happened(struct epx_event *event);
/* Nanoseconds (epx_clock_ns) of the last time it happened, 0 when never. */
uint64_t epx_event_time_ns(struct epx_event *event);

#endif
