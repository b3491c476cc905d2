#include "runtime/stream.h"

#include "base/clock.h"
#include "runtime/doorbell.h"
#include "runtime/stream_object.h"

#include <stdlib.h>
#include <time.h>

#define RING_TASKS_MIN 32u /* a power of two */

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
    atomic_init(&stream->holders, 1);
    stream->ring = ring;
    stream->capacity = RING_TASKS_MIN;
    stream->bell = -1;
    *out = stream;
    return EPX_OK;
}

void epx_stream_hold(struct epx_stream *stream)
{
    atomic_fetch_add_explicit(&stream->holders, 1, memory_order_relaxed);
}

void epx_stream_release(struct epx_stream *stream)
{
    if (atomic_fetch_sub_explicit(&stream->holders, 1, memory_order_acq_rel) != 1) {
        return;
    }
    pthread_cond_destroy(&stream->progress);
    pthread_cond_destroy(&stream->work);
    pthread_mutex_destroy(&stream->lock);
    free(stream->ring);
    free(stream);
}

void epx_stream_destroy(struct epx_stream *stream)
{
    if (!stream) {
        return;
    }
    pthread_mutex_lock(&stream->lock);
    while (stream->finished < stream->submitted) { /* tasks may submit tasks */
        (void)epx_stream_wait_finished(stream, stream->submitted, EPX_NEVER);
    }
    stream->closing = true;
    epx_stream_call(stream, true);
    bool has_worker = stream->place != EPX_WORKER_NONE;
    pthread_mutex_unlock(&stream->lock);
    if (has_worker) {
        pthread_join(stream->worker, NULL);
    }
    if (stream->bell >= 0) {
        epx_doorbell_close(stream->bell);
    }
    epx_stream_release(stream);
}

/* With the lock held. Work that was there before has called the worker, or has a thread that will. */
static void queue_task(struct epx_stream *stream, const struct epx_task *task)
{
    bool first = stream->finished == stream->submitted;
    if (task->queued) {
        task->queued(task->context);
    }
    stream->ring[stream->submitted++ & (stream->capacity - 1)] = *task;
    if (first) {
        epx_stream_note_submission(stream);
        epx_stream_call(stream, !task->waiter_may_run);
        epx_stream_note_submitted(stream);
    }
}

enum epx_status epx_stream_submit_at(struct epx_stream *stream, const struct epx_task *task, uint64_t *place)
{
    pthread_mutex_lock(&stream->lock);
    enum epx_status status = reserve_slot(stream);
    if (status == EPX_OK && stream->place == EPX_WORKER_NONE) {
        status = epx_stream_start_worker(stream);
    }
    if (status == EPX_OK) {
        queue_task(stream, task);
        *place = stream->submitted;
    }
    pthread_mutex_unlock(&stream->lock);
    return status;
}

enum epx_status epx_stream_submit(struct epx_stream *stream, const struct epx_task *task)
{
    uint64_t place;
    return epx_stream_submit_at(stream, task, &place);
}

void epx_stream_hurry(struct epx_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    if (epx_stream_has_work(stream)) {
        epx_stream_call(stream, true);
    }
    pthread_mutex_unlock(&stream->lock);
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
