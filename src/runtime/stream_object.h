/*
 * The inside of a stream, shared by its files: the queue and who runs it (stream_run.c), when the worker is called
 * (stream_call.c), the worker (stream_worker.c), those who wait (stream_wait.c).
 *
 * Tasks are run by the worker or by threads that wait, one task at a time and in order. Invariant, whenever the lock is
 * free: when there is work that nobody runs, then the worker is awake or has been called, at the latest for the end of
 * the grace, or a thread that waits has been woken and will look. So a thread that takes the work, or that leaves some
 * of it, owes nobody anything but epx_stream_call_if_left on its way out.
 */
#ifndef EPX_RUNTIME_STREAM_OBJECT_H
#define EPX_RUNTIME_STREAM_OBJECT_H

#include "runtime/stream.h"

#include <pthread.h>
#include <stdatomic.h>

enum epx_worker_place {
    EPX_WORKER_NONE,         /* not started */
    EPX_WORKER_AWAKE,        /* looks at the queue before it sleeps */
    EPX_WORKER_ON_CONDITION, /* sleeps until the place changes */
    EPX_WORKER_ON_BELL,      /* sleeps until its doorbell rings */
};

/* How soon after a submission this stream's program comes to wait for it. */
struct epx_stream_habit {
    uint64_t since_ns;     /* when the oldest work there is had been queued */
    bool judged;           /* a thread has come to wait for it */
    uint32_t early;        /* in so many cases in a row, up to now, it came at once */
    uint32_t early_needed; /* so many are needed to trust in it */
};

/* Everything under the lock, but for constants. */
struct epx_stream {
    _Atomic uint32_t holders;
    pthread_mutex_t lock;
    pthread_cond_t work;     /* the worker's place changed */
    pthread_cond_t progress; /* finished or executing changed; waits by CLOCK_MONOTONIC */

    /* Tasks are numbered from 0. finished <= taken <= submitted; taken - finished <= 1: the current task. */
    struct epx_task *ring; /* task n at n & (capacity - 1) */
    uint64_t capacity;
    uint64_t submitted;
    uint64_t taken;
    uint64_t finished;
    uint64_t drop_before;    /* tasks with a lower number are dropped when they are taken */
    struct epx_task current; /* does not change while it is the current one */
    bool wanted;             /* the current task is run, not dropped */
    bool running;            /* it has not ended yet: it may be asked for blame */
    bool executing;          /* a thread works on it; false with a current task: the next thread goes on with it */

    enum epx_worker_place place;
    pthread_t worker;
    bool closing;
    bool bell_refused;
    bool idle;            /* the bell was silent for long: the worker's next sleep is on the condition */
    int bell;             /* -1: none */
    uint64_t rings_at_ns; /* while the worker is on the bell; 0: at once, EPX_NEVER: not set */
    struct epx_stream_habit habit;
    uint32_t waiting; /* threads asleep on progress */

    enum epx_status failure;
    char failure_text[EPX_ERROR_TEXT_BYTES];
    void *owner; /* set before others know the stream */
};

/* All with the lock held. */

/* stream_run.c. Whether there is work that no thread has; the task to go on with, null when there is none. */
bool epx_stream_has_work(const struct epx_stream *stream);
const struct epx_task *epx_stream_next(const struct epx_stream *stream);
/* Runs that task, there being one, without the lock meanwhile. False: until_ns has passed, and it has not ended. */
bool epx_stream_run_next(struct epx_stream *stream, uint64_t until_ns);

/* stream_call.c. Wakes the worker, unless it is awake: now; or, where the habit says that somebody else will take the
 * work and `soon` is false, when the grace is over. */
void epx_stream_call(struct epx_stream *stream, bool soon);
/* Calls the worker when there is work that nobody has, and no thread that was woken for it. */
void epx_stream_call_if_left(struct epx_stream *stream, bool soon);
/* What happens, as far as it says something about the habit: before and after the first submission to an idle stream
 * (calling the worker may cost the thread its processor), at a wait, when the worker has found work at the end of the
 * grace. */
void epx_stream_note_submission(struct epx_stream *stream);
void epx_stream_note_submitted(struct epx_stream *stream);
void epx_stream_note_wait(struct epx_stream *stream);
void epx_stream_note_late(struct epx_stream *stream);
bool epx_stream_expects_wait(const struct epx_stream *stream);

/* stream_worker.c. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM. */
EPX_NODISCARD enum epx_status epx_stream_start_worker(struct epx_stream *stream);

/* stream_wait.c. Works or sleeps until `target` tasks are finished; false when the deadline passed first. */
bool epx_stream_wait_finished(struct epx_stream *stream, uint64_t target, uint64_t deadline_ns);

#endif
