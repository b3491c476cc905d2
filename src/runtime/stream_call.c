#include "base/clock.h"
#include "runtime/doorbell.h"
#include "runtime/stream_object.h"

/* A thread that comes to wait within this time of the submission comes at once: less than it takes to wake a worker. */
#define EARLY_NS 50000u
/* For how long the worker is left asleep when such a thread is expected. The doorbell stays set when the work has been
 * taken, so that it need not be set for every submission: only when it would ring sooner than the smaller time after
 * one. Setting it costs more than a short operation does. */
#define GRACE_NS     1000000u
#define GRACE_MIN_NS 250000u
/* Waits in a row that must have come at once: the fewest; the most, when the expectation was wrong again and again. */
#define EARLY_NEEDED_MIN 8u
#define EARLY_NEEDED_MAX 128u
/* So many times what was needed make up for a wrong expectation. */
#define EARLY_PROOF 4u

bool epx_stream_expects_wait(const struct epx_stream *stream)
{
    const struct epx_stream_habit *habit = &stream->habit;
    return habit->early >= EARLY_NEEDED_MIN && habit->early >= habit->early_needed;
}

void epx_stream_note_submission(struct epx_stream *stream)
{
    struct epx_stream_habit *habit = &stream->habit;
    if (!habit->judged) {
        habit->early = 0;
    }
    habit->judged = false;
}

void epx_stream_note_submitted(struct epx_stream *stream)
{
    stream->habit.since_ns = epx_clock_ns();
}

void epx_stream_note_wait(struct epx_stream *stream)
{
    struct epx_stream_habit *habit = &stream->habit;
    if (habit->judged) {
        return;
    }
    habit->judged = true;
    if (epx_clock_ns() - habit->since_ns > EARLY_NS) {
        habit->early = 0;
    } else if (habit->early < UINT32_MAX) {
        habit->early++;
    }
}

void epx_stream_note_late(struct epx_stream *stream)
{
    struct epx_stream_habit *habit = &stream->habit;
    uint32_t needed = habit->early_needed < EARLY_NEEDED_MIN ? EARLY_NEEDED_MIN : habit->early_needed;
    if (habit->early / EARLY_PROOF >= needed) {
        needed = EARLY_NEEDED_MIN;
    } else if (needed < EARLY_NEEDED_MAX) {
        needed *= 2;
    }
    habit->early_needed = needed;
    habit->early = 0;
}

/* Not soon is asked for only what has been queued, or left, just now, so that a bell that is set for later may be put
 * off. */
static void set_bell(struct epx_stream *stream, bool soon)
{
    if (stream->rings_at_ns == 0) {
        return;
    }
    if (soon) {
        stream->rings_at_ns = 0;
        epx_doorbell_ring(stream->bell, 0);
        return;
    }
    uint64_t now_ns = epx_clock_ns();
    if (stream->rings_at_ns == EPX_NEVER || stream->rings_at_ns < now_ns + GRACE_MIN_NS) {
        stream->rings_at_ns = now_ns + GRACE_NS;
        epx_doorbell_ring(stream->bell, GRACE_NS);
    }
}

void epx_stream_call(struct epx_stream *stream, bool soon)
{
    switch (stream->place) {
    case EPX_WORKER_NONE:
    case EPX_WORKER_AWAKE: break;
    case EPX_WORKER_ON_CONDITION:
        stream->place = EPX_WORKER_AWAKE;
        pthread_cond_signal(&stream->work);
        break;
    case EPX_WORKER_ON_BELL: set_bell(stream, soon || !epx_stream_expects_wait(stream)); break;
    }
}

void epx_stream_call_if_left(struct epx_stream *stream, bool soon)
{
    if (epx_stream_has_work(stream) && stream->waiting == 0) {
        epx_stream_call(stream, soon);
    }
}
