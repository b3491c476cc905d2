#include "runtime/stream.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RING_TASKS_MIN     32u        /* a power of two */
#define WORKER_STACK_BYTES (1u << 20) /* pages are taken as they are touched */

/*
 * Tasks are numbered from 0 in the order of submission. Invariant, under the lock: finished <= taken <= submitted, and
 * taken - finished <= 1: at most one task is running.
 */
struct epx_stream {
    pthread_mutex_t lock;
    pthread_cond_t work;     /* submitted or closing changed */
    pthread_cond_t progress; /* finished changed; waits by CLOCK_MONOTONIC */
    struct epx_task *ring;   /* task n at n & (capacity - 1) */
    uint64_t capacity;
    uint64_t submitted;
    uint64_t taken;
    uint64_t finished;
    uint64_t drop_before;           /* tasks with a lower number are dropped when they are taken */
    const struct epx_task *running; /* while its run is called; a copy on the worker's stack */
    bool has_worker;
    bool closing;
    pthread_t worker;
    enum epx_status failure;
    char failure_text[EPX_ERROR_TEXT_BYTES];
    void *owner;
};

static void keep_failure(struct epx_stream *stream, enum epx_status status, const char *text)
{
    if (stream->failure == EPX_OK) {
        stream->failure = status;
        snprintf(stream->failure_text, sizeof stream->failure_text, "%s", text);
    }
}

/* Takes the next task out of the queue; with the lock held and the queue not empty. Returns whether it is to be run. */
static bool take_task(struct epx_stream *stream, struct epx_task *task)
{
    uint64_t number = stream->taken++;
    *task = stream->ring[number & (stream->capacity - 1)];
    if (number >= stream->drop_before) {
        stream->running = task;
        return true;
    }
    keep_failure(stream, EPX_ERR_ABORTED, "queued work was dropped because its stream was aborted");
    return false;
}

/* Runs or drops a task that was taken; without the lock. What the task holds is released before anybody who waits for
 * it goes on. */
static void run_task(struct epx_stream *stream, const struct epx_task *task, bool wanted)
{
    if (wanted) {
        epx_error_text_set("");
        enum epx_status status = task->run(task->context);
        pthread_mutex_lock(&stream->lock);
        stream->running = NULL;
        if (status != EPX_OK) {
            keep_failure(stream, status, epx_error_text());
        }
        pthread_mutex_unlock(&stream->lock);
    }
    if (task->release) {
        task->release(task->context);
    }
    pthread_mutex_lock(&stream->lock);
    stream->finished++;
    pthread_cond_broadcast(&stream->progress);
    pthread_mutex_unlock(&stream->lock);
}

static void *worker_main(void *argument)
{
    struct epx_stream *stream = argument;
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        if (stream->taken < stream->submitted) {
            struct epx_task task;
            bool wanted = take_task(stream, &task);
            pthread_mutex_unlock(&stream->lock);
            run_task(stream, &task, wanted);
            pthread_mutex_lock(&stream->lock);
        } else if (stream->closing) {
            break;
        } else {
            pthread_cond_wait(&stream->work, &stream->lock);
        }
    }
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

/* With the lock held. The worker inherits a mask that blocks every signal, so that none of the program's handlers ever
 * runs on it. */
static enum epx_status start_worker(struct epx_stream *stream)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t previous;
    int error = pthread_attr_init(&attributes);
    if (error) {
        return epx_fail_errno(EPX_ERR_SYSTEM, error, "cannot start a stream's thread");
    }
    (void)pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    error = pthread_create(&stream->worker, &attributes, worker_main, stream);
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        return epx_fail_errno(epx_status_of_thread_error(error), error, "cannot start a stream's thread");
    }
    (void)pthread_setname_np(stream->worker, "epx-stream");
    stream->has_worker = true;
    return EPX_OK;
}

/* Room for one more task; with the lock held. */
static enum epx_status reserve_slot(struct epx_stream *stream)
{
    uint64_t queued = stream->submitted - stream->taken;
    if (queued < stream->capacity) {
        return EPX_OK;
    }
    uint64_t capacity = stream->capacity * 2;
    struct epx_task *ring = calloc(capacity, sizeof *ring);
    if (!ring) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a stream's queue of %llu tasks",
                        (unsigned long long)capacity);
    }
    for (uint64_t n = stream->taken; n < stream->submitted; n++) {
        ring[n & (capacity - 1)] = stream->ring[n & (stream->capacity - 1)];
    }
    free(stream->ring);
    stream->ring = ring;
    stream->capacity = capacity;
    return EPX_OK;
}

enum epx_status epx_stream_create(struct epx_stream **out)
{
    struct epx_stream *stream = calloc(1, sizeof *stream);
    struct epx_task *ring = calloc(RING_TASKS_MIN, sizeof *ring);
    if (!stream || !ring) {
        free(stream);
        free(ring);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a stream");
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->work, NULL);
    pthread_cond_init(&stream->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
    stream->ring = ring;
    stream->capacity = RING_TASKS_MIN;
    *out = stream;
    return EPX_OK;
}

void epx_stream_destroy(struct epx_stream *stream)
{
    if (!stream) {
        return;
    }
    pthread_mutex_lock(&stream->lock);
    stream->closing = true;
    pthread_cond_signal(&stream->work);
    bool has_worker = stream->has_worker;
    pthread_mutex_unlock(&stream->lock);
    if (has_worker) {
        pthread_join(stream->worker, NULL);
    }
    pthread_cond_destroy(&stream->progress);
    pthread_cond_destroy(&stream->work);
    pthread_mutex_destroy(&stream->lock);
    free(stream->ring);
    free(stream);
}

enum epx_status epx_stream_submit(struct epx_stream *stream, const struct epx_task *task)
{
    pthread_mutex_lock(&stream->lock);
    enum epx_status status = reserve_slot(stream);
    if (status == EPX_OK && !stream->has_worker) {
        status = start_worker(stream);
    }
    if (status == EPX_OK) {
        stream->ring[stream->submitted++ & (stream->capacity - 1)] = *task;
        pthread_cond_signal(&stream->work);
    }
    pthread_mutex_unlock(&stream->lock);
    return status;
}

/* With the lock held, so that the running task cannot end meanwhile. */
static enum epx_status report_expired(struct epx_stream *stream, int64_t timeout_ms)
{
    char blame[EPX_ERROR_TEXT_BYTES / 2] = "";
    if (stream->running && stream->running->blame) {
        stream->running->blame(stream->running->context, blame, sizeof blame);
    }
    return epx_fail(EPX_ERR_TIMEOUT, "the stream's work did not finish within %lld ms%s%s", (long long)timeout_ms,
                    blame[0] ? ": " : "", blame);
}

/* With the lock held. False when the deadline passed first. */
static bool wait_finished(struct epx_stream *stream, uint64_t target, uint64_t deadline_ns)
{
    while (stream->finished < target) {
        if (deadline_ns == EPX_NEVER) {
            pthread_cond_wait(&stream->progress, &stream->lock);
            continue;
        }
        if (epx_clock_ns() >= deadline_ns) {
            return false;
        }
        const struct timespec limit = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                       .tv_nsec = (long)(deadline_ns % 1000000000u)};
        pthread_cond_timedwait(&stream->progress, &stream->lock, &limit);
    }
    return true;
}

enum epx_status epx_stream_wait(struct epx_stream *stream, int64_t timeout_ms, bool *expired)
{
    uint64_t deadline_ns = epx_deadline_after_ms(timeout_ms);
    enum epx_status status = EPX_OK;
    pthread_mutex_lock(&stream->lock);
    *expired = !wait_finished(stream, stream->submitted, deadline_ns);
    if (*expired) {
        status = report_expired(stream, timeout_ms);
    } else if (stream->failure != EPX_OK) {
        status = stream->failure;
        stream->failure = EPX_OK;
        epx_error_text_set(stream->failure_text);
    }
    pthread_mutex_unlock(&stream->lock);
    return status;
}

enum epx_status epx_stream_synchronize(struct epx_stream *stream, int64_t timeout_ms)
{
    bool expired;
    return epx_stream_wait(stream, timeout_ms, &expired);
}

bool epx_stream_idle(struct epx_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool idle = stream->finished == stream->submitted;
    pthread_mutex_unlock(&stream->lock);
    return idle;
}

void epx_stream_abort(struct epx_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->drop_before = stream->submitted;
    pthread_mutex_unlock(&stream->lock);
}

void epx_stream_set_owner(struct epx_stream *stream, void *owner)
{
    stream->owner = owner;
}

void *epx_stream_owner(const struct epx_stream *stream)
{
    return stream->owner;
}
