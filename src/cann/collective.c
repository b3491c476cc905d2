#include "cann/collective.h"

#include "base/clock.h"
#include "base/log.h"
#include "cann/acl_state.h"
#include "cann/hccl_state.h"
#include "runtime/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

/* A round is reserved with the lock of its stream, so that the rounds of a communicator are in one order there. Rounds
 * of a pair of communicators are reserved with the locks of both, so that all pairs are in one order. Communicators
 * share locks by chance. */
#define LOCK_COUNT 64u
#define LOCK_BITS  6u

static struct submit_lock {
    _Alignas(64) pthread_mutex_t mutex;
} submit_locks[LOCK_COUNT] = {[0 ... LOCK_COUNT - 1] = {PTHREAD_MUTEX_INITIALIZER}};

void epx_cann_collective_reset_after_fork(void)
{
    for (uint32_t i = 0; i < LOCK_COUNT; i++) {
        pthread_mutex_init(&submit_locks[i].mutex, NULL);
    }
}

static uint32_t lock_of(const struct epx_cann_comm *comm)
{
    return (uint32_t)((uint64_t)(uintptr_t)comm * 0x9E3779B97F4A7C15u >> (64 - LOCK_BITS));
}

/* The locks of both communicators of a pair, in the order that all threads take them. */
struct lock_pair {
    uint32_t first;
    uint32_t second;
};

static struct lock_pair locks_of(const struct epx_cann_collective *collective)
{
    const uint32_t a = lock_of(collective->comm);
    const uint32_t b = lock_of(collective->tp_comm);
    return a < b ? (struct lock_pair){a, b} : (struct lock_pair){b, a};
}

static void lock_both(struct lock_pair locks)
{
    pthread_mutex_lock(&submit_locks[locks.first].mutex);
    if (locks.second != locks.first) {
        pthread_mutex_lock(&submit_locks[locks.second].mutex);
    }
}

static void unlock_both(struct lock_pair locks)
{
    if (locks.second != locks.first) {
        pthread_mutex_unlock(&submit_locks[locks.second].mutex);
    }
    pthread_mutex_unlock(&submit_locks[locks.first].mutex);
}

static enum epx_status queue_task(struct epx_stream *stream, const struct epx_cann_collective *collective,
                                  const struct epx_task *task)
{
    if (!collective->tp_comm) {
        return epx_stream_submit(stream, task);
    }
    const struct lock_pair locks = locks_of(collective);
    lock_both(locks);
    const enum epx_status status = epx_stream_submit(stream, task);
    unlock_both(locks);
    return status;
}

static void collective_queued(void *context)
{
    struct epx_cann_collective *collective = context;
    collective->reserve(collective->context);
}

static bool collective_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct epx_cann_collective *collective = context;
    collective->over = collective->run(collective->context, until_ns, status);
    return collective->over;
}

/* Whoever synchronises the stream may destroy communicators. */
static void collective_end(struct epx_cann_collective *collective)
{
    const struct epx_cann_comm *comm = collective->comm;
    const struct epx_cann_comm *tp_comm = collective->tp_comm;
    collective->finish(collective->context);
    epx_cann_comm_release(comm);
    if (tp_comm) {
        epx_cann_comm_release(tp_comm);
    }
}

/* Rounds that will not run by themselves: they are run on a failed communicator, which ends at once, and tells the
 * peers that would wait for them. */
static void collective_abandon(struct epx_cann_collective *collective, enum epx_status status, const char *text)
{
    char kept[EPX_ERROR_TEXT_BYTES];
    snprintf(kept, sizeof kept, "%s", text);
    enum epx_status ended = epx_comm_abort(collective->comm->comm, status, kept);
    if (collective->tp_comm) {
        ended = epx_comm_abort(collective->tp_comm->comm, ended, kept);
    }
    epx_log(EPX_LOG_DEBUG, "an operation is abandoned with status %d: %s", (int)ended, kept);
    while (!collective_run(collective, EPX_NEVER, &ended)) {
    }
    if (ended == EPX_OK) {
        epx_log(EPX_LOG_WARN, "an abandoned operation ran");
    }
    epx_error_text_set(kept);
}

static void collective_release(void *context)
{
    struct epx_cann_collective *collective = context;
    if (!collective->over) {
        char text[EPX_ERROR_TEXT_BYTES];
        snprintf(text, sizeof text, "rank %" PRIu32 ": an operation was taken off its stream before it ran",
                 epx_comm_rank(collective->comm->comm));
        collective_abandon(collective, EPX_ERR_ABORTED, text);
    }
    collective_end(collective);
}

/* While the task runs, and so before its communicators are released. */
static void collective_blame(void *context, char *text, uint64_t text_bytes)
{
    const struct epx_cann_collective *collective = context;
    text[0] = '\0';
    epx_comm_blame(collective->comm->comm, text, text_bytes);
    if (collective->tp_comm && text[0] == '\0') {
        epx_comm_blame(collective->tp_comm->comm, text, text_bytes);
    }
}

enum epx_status epx_cann_collective_submit(aclrtStream handle, struct epx_cann_collective *collective, bool *taken)
{
    *taken = false;
    struct epx_stream *stream;
    int32_t device;
    EPX_TRY(epx_cann_stream_acquire(handle, &stream, &device));
    collective->over = false;
    const struct epx_task task = {
        .queued = collective_queued,
        .run = collective_run,
        .release = collective_release,
        .blame = collective_blame,
        .context = collective,
        .waiter_may_run = true,
        .until_ignored = collective->until_ignored,
    };
    *taken = true;
    const enum epx_status status = queue_task(stream, collective, &task);
    epx_cann_stream_release(stream);
    if (status != EPX_OK) {
        collective_queued(collective);
        collective_abandon(collective, status, epx_error_text());
        collective_end(collective);
    }
    return status;
}
