/* Streams for tests: what to queue, and a stream whose worker is left asleep. */
#ifndef EPX_TESTS_UNIT_STREAM_TEST_H
#define EPX_TESTS_UNIT_STREAM_TEST_H

#include "base/clock.h"
#include "runtime/stream_object.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST_WAIT_MS 60000

static inline struct epx_stream *new_stream(void)
{
    struct epx_stream *stream = NULL;
    assert_int_equal(epx_stream_create(&stream), EPX_OK);
    return stream;
}

static inline void submit_for_all(struct epx_stream *stream, epx_task_run run, void *context)
{
    const struct epx_task task = {.run = run, .context = context, .waiter_may_run = true};
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
}

static inline bool run_nothing(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)context;
    (void)until_ns;
    *status = EPX_OK;
    return true;
}

static inline bool worker_sleeps_on_bell(struct epx_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool sleeps = stream->place == EPX_WORKER_ON_BELL && epx_stream_expects_wait(stream);
    pthread_mutex_unlock(&stream->lock);
    return sleeps;
}

/* Waits at once for each submission until the stream expects it. A busy machine makes some waits late. */
static inline void learn_early_waits(struct epx_stream *stream)
{
    uint64_t deadline_ns = epx_deadline_after_ms(TEST_WAIT_MS);
    while (!worker_sleeps_on_bell(stream) && epx_clock_ns() < deadline_ns) {
        submit_for_all(stream, run_nothing, NULL);
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    }
    assert_true(worker_sleeps_on_bell(stream));
}

/* Looks at memory only: nothing here makes the stream go on. */
static inline void await(atomic_bool *flag)
{
    uint64_t deadline_ns = epx_deadline_after_ms(TEST_WAIT_MS);
    while (!atomic_load(flag)) {
        assert_true(epx_clock_ns() < deadline_ns);
        usleep(200);
    }
}

/* A task that is patient: it ends when it is told to, and is back in time until then. */
struct patient {
    atomic_bool entered;
    atomic_bool open;
    atomic_bool ended;
    atomic_int calls;
    pthread_t ended_on;
};

static inline bool run_patient(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct patient *patient = context;
    atomic_fetch_add(&patient->calls, 1);
    atomic_store(&patient->entered, true);
    while (!atomic_load(&patient->open)) {
        if (until_ns != EPX_NEVER && epx_clock_ns() >= until_ns) {
            return false;
        }
        usleep(200);
    }
    patient->ended_on = pthread_self();
    *status = EPX_OK;
    atomic_store(&patient->ended, true);
    return true;
}

static inline bool run_flag(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    *status = EPX_OK;
    atomic_store((atomic_bool *)context, true);
    return true;
}

static inline int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory)) {
        count++;
    }
    closedir(directory);
    return count - 3; /* ".", "..", and the directory */
}

#endif
