/*
 * The host "device": streams (in-order queues with a worker thread each) and events. The worker starts with the first
 * task, blocks all signals, and never keeps the process from exiting. Knows nothing of communicators.
 */
#ifndef EPX_RUNTIME_STREAM_H
#define EPX_RUNTIME_STREAM_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_stream;
struct epx_event;

/* Runs on the stream's worker. A failure is kept with its text; later tasks still run (they find their communicator
 * failed by themselves). */
typedef enum epx_status (*epx_task_run)(void *context);
/* Called once after run, or when the task is dropped. Null allowed. */
typedef void (*epx_task_release)(void *context);
/* A line about what the task waits for at the moment, "" for nothing; called by other threads while the task runs. */
typedef void (*epx_task_blame)(void *context, char *text, uint64_t text_bytes);

struct epx_task {
    epx_task_run run;
    epx_task_release release;
    epx_task_blame blame; /* null allowed */
    void *context;
};

EPX_NODISCARD enum epx_status epx_stream_create(struct epx_stream **out);

/* Waits for queued work, then frees. */
void epx_stream_destroy(struct epx_stream *stream);

/* Queues a task. On failure (EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM: no thread) nothing was queued and release is not
 * called. */
EPX_NODISCARD enum epx_status epx_stream_submit(struct epx_stream *stream, const struct epx_task *task);

/*
 * Waits until everything queued before the call has run. Returns the first failure since the last call that returned
 * one, with its text, and forgets it. timeout_ms < 0: for ever; when it passes first: EPX_ERR_TIMEOUT with the running
 * task's line of blame.
 */
EPX_NODISCARD enum epx_status epx_stream_synchronize(struct epx_stream *stream, int64_t timeout_ms);

/* The same; *expired says whether EPX_ERR_TIMEOUT is the wait's own, and not a task's failure. */
EPX_NODISCARD enum epx_status epx_stream_wait(struct epx_stream *stream, int64_t timeout_ms, bool *expired);

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
EPX_NODISCARD enum epx_status epx_event_synchronize(struct epx_event *event, int64_t timeout_ms);
/* Whether the latest record has happened; false when there is none. Waits on an event without a record return at once.
 */
bool epx_event_happened(struct epx_event *event);
/* Nanoseconds (epx_clock_ns) of the last time it happened, 0 when never. */
uint64_t epx_event_time_ns(struct epx_event *event);

#endif
