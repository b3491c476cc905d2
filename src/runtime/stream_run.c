#include "runtime/stream_object.h"

#include <stdio.h>

static void keep_failure(struct epx_stream *stream, enum epx_status status, const char *text)
{
    if (stream->failure == EPX_OK) {
        stream->failure = status;
        (void)snprintf(stream->failure_text, sizeof stream->failure_text, "%s", text);
    }
}

/* The queue is not empty, and nothing is current. */
static void take_task(struct epx_stream *stream)
{
    uint64_t number = stream->taken++;
    stream->current = stream->ring[number & (stream->capacity - 1)];
    stream->wanted = number >= stream->drop_before;
    stream->running = stream->wanted;
    if (!stream->wanted) {
        keep_failure(stream, EPX_ERR_ABORTED, "queued work was dropped because its stream was aborted");
    }
}

/* What the task holds is released before anybody who waits for it goes on. */
static void end_task(struct epx_stream *stream)
{
    if (stream->current.release) {
        pthread_mutex_unlock(&stream->lock);
        stream->current.release(stream->current.context);
        pthread_mutex_lock(&stream->lock);
    }
    stream->executing = false;
    stream->finished++;
    pthread_cond_broadcast(&stream->progress);
}

bool epx_stream_has_work(const struct epx_stream *stream)
{
    return !stream->executing && stream->finished < stream->submitted;
}

const struct epx_task *epx_stream_next(const struct epx_stream *stream)
{
    if (!epx_stream_has_work(stream)) {
        return NULL;
    }
    return stream->taken > stream->finished ? &stream->current : &stream->ring[stream->taken & (stream->capacity - 1)];
}

bool epx_stream_run_next(struct epx_stream *stream, uint64_t until_ns)
{
    if (stream->taken == stream->finished) {
        take_task(stream);
    }
    stream->executing = true;
    if (stream->wanted) {
        enum epx_status status = EPX_OK;
        pthread_mutex_unlock(&stream->lock);
        epx_error_text_set("");
        bool ended = stream->current.run(stream->current.context, until_ns, &status);
        pthread_mutex_lock(&stream->lock);
        if (!ended) {
            stream->executing = false;
            pthread_cond_broadcast(&stream->progress);
            return false;
        }
        stream->running = false;
        if (status != EPX_OK) {
            keep_failure(stream, status, epx_error_text());
        }
    }
    end_task(stream);
    return true;
}
