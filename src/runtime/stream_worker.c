#include "base/clock.h"
#include "base/thread.h"
#include "runtime/doorbell.h"
#include "runtime/stream_object.h"

#define WORKER_STACK_BYTES (1u << 20) /* pages are taken as they are touched */

/* Whether the worker can sleep on a bell: only streams whose waits come early have one. */
static bool has_bell(struct epx_stream *stream)
{
    if (stream->bell < 0 && !stream->bell_refused) {
        stream->bell = epx_doorbell_open();
        stream->bell_refused = stream->bell < 0;
    }
    return stream->bell >= 0;
}

static void sleep_on_bell(struct epx_stream *stream)
{
    stream->place = EPX_WORKER_ON_BELL;
    stream->rings_at_ns = EPX_NEVER;
    pthread_mutex_unlock(&stream->lock);
    enum epx_doorbell_call call = epx_doorbell_await(stream->bell);
    pthread_mutex_lock(&stream->lock);
    if (call == EPX_DOORBELL_LOST) {
        stream->bell = -1;
        stream->bell_refused = true;
    }
    stream->idle = call == EPX_DOORBELL_SILENT;
    /* Nobody has called at once, and nobody has come. */
    if (stream->rings_at_ns != 0 && epx_stream_has_work(stream)) {
        epx_stream_note_late(stream);
    }
    stream->place = EPX_WORKER_AWAKE;
}

static void worker_sleep(struct epx_stream *stream)
{
    if (!stream->idle && epx_stream_expects_wait(stream) && has_bell(stream)) {
        sleep_on_bell(stream);
        return;
    }
    stream->idle = false;
    stream->place = EPX_WORKER_ON_CONDITION;
    while (stream->place == EPX_WORKER_ON_CONDITION) {
        pthread_cond_wait(&stream->work, &stream->lock);
    }
}

static void *worker_main(void *argument)
{
    struct epx_stream *stream = argument;
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        if (epx_stream_has_work(stream)) {
            (void)epx_stream_run_next(stream, EPX_NEVER);
        } else if (stream->closing) {
            break;
        } else {
            worker_sleep(stream);
        }
    }
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

enum epx_status epx_stream_start_worker(struct epx_stream *stream)
{
    int error = epx_thread_start(&stream->worker, WORKER_STACK_BYTES, worker_main, stream);
    if (error != 0) {
        return epx_fail_errno(epx_status_of_thread_error(error), error, "cannot start a stream's thread");
    }
    (void)pthread_setname_np(stream->worker, "epx-stream");
    stream->place = EPX_WORKER_AWAKE;
    return EPX_OK;
}
