#include "base/clock.h"
#include "runtime/stream_object.h"

#include <stdio.h>
#include <time.h>

static bool may_run(const struct epx_stream *stream, uint64_t deadline_ns)
{
    const struct epx_task *task = epx_stream_next(stream);
    return task && task->waiter_may_run && (deadline_ns == EPX_NEVER || !task->until_ignored);
}

/* The thread's own text stays: a task's failure is the stream's until a wait returns it. */
static void run_in_place(struct epx_stream *stream, uint64_t until_ns)
{
    char text[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", epx_error_text());
    (void)epx_stream_run_next(stream, until_ns);
    epx_error_text_set(text);
}

static void sleep_until_progress(struct epx_stream *stream, uint64_t deadline_ns)
{
    stream->waiting++;
    if (deadline_ns == EPX_NEVER) {
        pthread_cond_wait(&stream->progress, &stream->lock);
    } else {
        const struct timespec limit = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                       .tv_nsec = (long)(deadline_ns % 1000000000u)};
        pthread_cond_timedwait(&stream->progress, &stream->lock, &limit);
    }
    stream->waiting--;
}

bool epx_stream_wait_finished(struct epx_stream *stream, uint64_t target, uint64_t deadline_ns)
{
    if (deadline_ns == EPX_NEVER || epx_clock_ns() < deadline_ns) {
        epx_stream_note_wait(stream);
    }
    while (stream->finished < target) {
        if (deadline_ns != EPX_NEVER && epx_clock_ns() >= deadline_ns) {
            epx_stream_call_if_left(stream, true);
            return false;
        }
        if (may_run(stream, deadline_ns)) {
            run_in_place(stream, deadline_ns);
            continue;
        }
        if (epx_stream_has_work(stream)) {
            epx_stream_call(stream, true);
        }
        sleep_until_progress(stream, deadline_ns);
    }
    epx_stream_call_if_left(stream, false);
    return true;
}

/* With the lock held, so that the running task cannot end meanwhile. */
static enum epx_status report_expired(struct epx_stream *stream, int64_t timeout_ms)
{
    char blame[EPX_ERROR_TEXT_BYTES / 2] = "";
    if (stream->running && stream->current.blame) {
        stream->current.blame(stream->current.context, blame, sizeof blame);
    }
    return epx_fail(EPX_ERR_TIMEOUT, "the stream's work did not finish within %lld ms%s%s", (long long)timeout_ms,
                    blame[0] ? ": " : "", blame);
}

enum epx_status epx_stream_wait(struct epx_stream *stream, int64_t timeout_ms, bool *expired)
{
    uint64_t deadline_ns = epx_deadline_after_ms(timeout_ms);
    enum epx_status status = EPX_OK;
    pthread_mutex_lock(&stream->lock);
    *expired = !epx_stream_wait_finished(stream, stream->submitted, deadline_ns);
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

bool epx_stream_wait_place(struct epx_stream *stream, uint64_t place, uint64_t deadline_ns)
{
    pthread_mutex_lock(&stream->lock);
    bool finished = epx_stream_wait_finished(stream, place, deadline_ns);
    pthread_mutex_unlock(&stream->lock);
    return finished;
}
