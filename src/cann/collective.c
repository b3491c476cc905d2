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
#include <stdlib.h>

struct epx_cann_launch {
    struct epx_cann_collective collective;
    pthread_mutex_t lock; /* of the two below: read for blame while another thread ends the operation */
    struct epx_comm *comm;
    struct epx_comm *tp_comm;
    bool over;
};

/* Held from the reservation of a round to its task's place on the stream. */
static pthread_mutex_t submit_lock = PTHREAD_MUTEX_INITIALIZER;

void epx_cann_collective_reset_after_fork(void)
{
    pthread_mutex_init(&submit_lock, NULL);
}

static void launch_end(struct epx_cann_launch *launch)
{
    pthread_mutex_lock(&launch->lock);
    struct epx_comm *comm = launch->comm;
    struct epx_comm *tp_comm = launch->tp_comm;
    launch->comm = NULL;
    launch->tp_comm = NULL;
    pthread_mutex_unlock(&launch->lock);
    launch->collective.finish(launch->collective.context);
    epx_cann_comm_release(comm);
    if (tp_comm) {
        epx_cann_comm_release(tp_comm);
    }
    launch->over = true;
}

/* Everything ends here, not in the release of the task: whoever synchronises the stream may destroy communicators. */
static bool launch_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct epx_cann_launch *launch = context;
    if (!launch->collective.run(launch->collective.context, until_ns, status)) {
        return false;
    }
    launch_end(launch);
    return true;
}

/* A reserved round that will not run by itself: it is run on a failed communicator, which ends at once, and tells the
 * peers that would wait for it. */
static void launch_abandon(struct epx_cann_launch *launch, enum epx_status status, const char *text)
{
    char kept[EPX_ERROR_TEXT_BYTES];
    snprintf(kept, sizeof kept, "%s", text);
    enum epx_status ended = epx_comm_abort(launch->comm, status, kept);
    if (launch->tp_comm) {
        ended = epx_comm_abort(launch->tp_comm, ended, kept);
    }
    epx_log(EPX_LOG_DEBUG, "an operation is abandoned with status %d: %s", (int)ended, kept);
    while (!launch_run(launch, EPX_NEVER, &ended)) {
    }
    if (ended == EPX_OK) {
        epx_log(EPX_LOG_WARN, "an abandoned operation ran");
    }
    epx_error_text_set(kept);
}

static void launch_free(struct epx_cann_launch *launch)
{
    pthread_mutex_destroy(&launch->lock);
    free(launch);
}

static void launch_release(void *context)
{
    struct epx_cann_launch *launch = context;
    if (!launch->over) {
        char text[EPX_ERROR_TEXT_BYTES];
        snprintf(text, sizeof text, "rank %" PRIu32 ": an operation was taken off its stream before it ran",
                 epx_comm_rank(launch->comm));
        launch_abandon(launch, EPX_ERR_ABORTED, text);
    }
    launch_free(launch);
}

static void launch_blame(void *context, char *text, uint64_t text_bytes)
{
    struct epx_cann_launch *launch = context;
    text[0] = '\0';
    pthread_mutex_lock(&launch->lock);
    if (launch->comm) {
        epx_comm_blame(launch->comm, text, text_bytes);
    }
    if (launch->tp_comm && text[0] == '\0') {
        epx_comm_blame(launch->tp_comm, text, text_bytes);
    }
    pthread_mutex_unlock(&launch->lock);
}

enum epx_status epx_cann_collective_submit(aclrtStream handle, const struct epx_cann_collective *collective,
                                           bool *taken)
{
    *taken = false;
    struct epx_stream *stream;
    int32_t device;
    EPX_TRY(epx_cann_stream_acquire(handle, &stream, &device));
    struct epx_cann_launch *launch = calloc(1, sizeof *launch);
    if (!launch) {
        epx_cann_stream_release(stream);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to queue an operation");
    }
    launch->collective = *collective;
    launch->comm = collective->comm;
    launch->tp_comm = collective->tp_comm;
    pthread_mutex_init(&launch->lock, NULL);
    const struct epx_task task = {
        .run = launch_run,
        .release = launch_release,
        .blame = launch_blame,
        .context = launch,
        .waiter_may_run = true,
        .until_ignored = collective->until_ignored,
    };
    *taken = true;
    pthread_mutex_lock(&submit_lock);
    collective->reserve(collective->context);
    enum epx_status status = epx_stream_submit(stream, &task);
    pthread_mutex_unlock(&submit_lock);
    epx_cann_stream_release(stream);
    if (status != EPX_OK) {
        launch_abandon(launch, status, epx_error_text());
        launch_free(launch);
    }
    return status;
}
