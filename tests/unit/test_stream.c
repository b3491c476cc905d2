/* Streams: order, waiting, failures, blame, abort, growth. */
#include "base/clock.h"
#include "runtime/stream.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TASKS 1000

static struct epx_stream *new_stream(void)
{
    struct epx_stream *stream = NULL;
    assert_int_equal(epx_stream_create(&stream), EPX_OK);
    return stream;
}

static void submit(struct epx_stream *stream, epx_task_run run, epx_task_release release, void *context)
{
    const struct epx_task task = {.run = run, .release = release, .context = context};
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
}

/* A task that runs until it is told to end. */
struct gate {
    atomic_bool entered;
    atomic_bool open;
};

static bool run_gate(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    struct gate *gate = context;
    atomic_store(&gate->entered, true);
    while (!atomic_load(&gate->open)) {
        usleep(200);
    }
    *status = EPX_OK;
    return true;
}

static void await(atomic_bool *flag)
{
    while (!atomic_load(flag)) {
        usleep(200);
    }
}

static void blame_gate(void *context, char *text, uint64_t text_bytes)
{
    struct gate *gate = context;
    snprintf(text, text_bytes, "%s", atomic_load(&gate->open) ? "" : "rank 7 has not come");
}

struct journal {
    int next; /* of the stream's thread; read after synchronisation */
    int order[TASKS];
    atomic_int released;
};

struct entry {
    struct journal *journal;
    int number;
};

static bool run_entry(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    struct entry *entry = context;
    entry->journal->order[entry->journal->next++] = entry->number;
    *status = EPX_OK;
    return true;
}

static void release_entry(void *context)
{
    struct entry *entry = context;
    atomic_fetch_add(&entry->journal->released, 1);
}

static void submit__runs_in_order_and_releases_each_once(void **state)
{
    (void)state;
    static struct journal journal;
    static struct entry entries[TASKS];
    struct epx_stream *stream = new_stream();
    struct gate gate = {0};
    submit(stream, run_gate, NULL, &gate); /* so that the queue has to grow */
    for (int i = 0; i < TASKS; i++) {
        entries[i] = (struct entry){&journal, i};
        submit(stream, run_entry, release_entry, &entries[i]);
    }
    assert_false(epx_stream_idle(stream));
    atomic_store(&gate.open, true);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    assert_true(epx_stream_idle(stream));
    assert_int_equal(journal.next, TASKS);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(journal.order[i], i);
    }
    assert_int_equal(atomic_load(&journal.released), TASKS);
    epx_stream_destroy(stream);
}

static void destroy__waits_for_queued_work(void **state)
{
    (void)state;
    struct journal journal = {0};
    struct entry entries[8];
    struct epx_stream *stream = new_stream();
    for (int i = 0; i < 8; i++) {
        entries[i] = (struct entry){&journal, i};
        submit(stream, run_entry, release_entry, &entries[i]);
    }
    epx_stream_destroy(stream);
    assert_int_equal(journal.next, 8);
    assert_int_equal(atomic_load(&journal.released), 8);
    epx_stream_destroy(NULL);
}

static void destroy__stream_without_work(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    assert_true(epx_stream_idle(stream));
    assert_int_equal(epx_stream_synchronize(stream, 0), EPX_OK);
    epx_stream_destroy(stream);
}

static bool fail_with_number(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    *status = epx_fail(EPX_ERR_CAPACITY, "task %d failed", *(int *)context);
    return true;
}

static bool fail_without_text(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    (void)context;
    *status = EPX_ERR_COUNTS;
    return true;
}

static void synchronize__gives_the_first_failure_once(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct journal journal = {0};
    struct entry entry = {&journal, 3};
    int first = 1;
    int second = 2;
    submit(stream, fail_with_number, NULL, &first);
    submit(stream, fail_with_number, NULL, &second);
    submit(stream, run_entry, NULL, &entry);
    assert_int_equal(epx_stream_synchronize(stream, 10000), EPX_ERR_CAPACITY);
    assert_string_equal(epx_error_text(), "task 1 failed");
    assert_int_equal(journal.next, 1); /* later tasks still run */
    assert_int_equal(epx_stream_synchronize(stream, 10000), EPX_OK);

    submit(stream, fail_without_text, NULL, NULL);
    assert_int_equal(epx_stream_synchronize(stream, 10000), EPX_ERR_COUNTS);
    assert_string_equal(epx_error_text(), "");
    epx_stream_destroy(stream);
}

static bool fail_as_late_rank(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    (void)context;
    *status = epx_fail(EPX_ERR_TIMEOUT, "rank 3 did not come");
    return true;
}

static void wait__tells_its_own_timeout_from_a_task_s(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct gate gate = {0};
    bool expired = true;
    submit(stream, fail_as_late_rank, NULL, NULL);
    assert_int_equal(epx_stream_wait(stream, -1, &expired), EPX_ERR_TIMEOUT);
    assert_false(expired);
    assert_string_equal(epx_error_text(), "rank 3 did not come");

    const struct epx_task task = {.run = run_gate, .blame = blame_gate, .context = &gate};
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
    await(&gate.entered);
    uint64_t before_ns = epx_clock_ns();
    assert_int_equal(epx_stream_wait(stream, 30, &expired), EPX_ERR_TIMEOUT);
    assert_true(epx_clock_ns() - before_ns >= 30000000u);
    assert_true(expired);
    assert_non_null(strstr(epx_error_text(), "30 ms"));
    assert_non_null(strstr(epx_error_text(), "rank 7 has not come"));
    assert_int_equal(epx_stream_wait(stream, 0, &expired), EPX_ERR_TIMEOUT);
    assert_true(expired);
    atomic_store(&gate.open, true);
    assert_int_equal(epx_stream_wait(stream, -1, &expired), EPX_OK);
    assert_false(expired);
    epx_stream_destroy(stream);
}

static void synchronize__timeout_keeps_a_failure_for_later(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct gate gate = {0};
    int number = 5;
    submit(stream, fail_with_number, NULL, &number);
    submit(stream, run_gate, NULL, &gate);
    await(&gate.entered);
    assert_int_equal(epx_stream_synchronize(stream, 1), EPX_ERR_TIMEOUT);
    atomic_store(&gate.open, true);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_ERR_CAPACITY);
    assert_string_equal(epx_error_text(), "task 5 failed");
    epx_stream_destroy(stream);
}

static void abort__drops_what_has_not_begun(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct gate gate = {0};
    struct journal journal = {0};
    struct entry entries[3];
    submit(stream, run_gate, NULL, &gate);
    await(&gate.entered);
    for (int i = 0; i < 3; i++) {
        entries[i] = (struct entry){&journal, i};
        submit(stream, run_entry, release_entry, &entries[i]);
    }
    epx_stream_abort(stream);
    submit(stream, run_entry, release_entry, &entries[2]); /* after the abort: runs */
    atomic_store(&gate.open, true);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_ERR_ABORTED);
    assert_int_equal(journal.next, 1);
    assert_int_equal(journal.order[0], 2);
    assert_int_equal(atomic_load(&journal.released), 4);
    epx_stream_abort(stream);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    epx_stream_destroy(stream);
}

static bool read_mask(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    *status = pthread_sigmask(SIG_SETMASK, NULL, context) == 0 ? EPX_OK : EPX_ERR_SYSTEM;
    return true;
}

static void worker__blocks_all_signals(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    sigset_t before;
    sigset_t after;
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    submit(stream, read_mask, NULL, &mask);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int number = 1; number < 32; number++) {
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
        if (number != SIGKILL && number != SIGSTOP) {
            assert_int_equal(sigismember(&mask, number), 1);
        }
    }
    epx_stream_destroy(stream);
}

static void worker__does_not_hold_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static struct gate gate;
        struct epx_stream *stream = NULL;
        const struct epx_task task = {.run = run_gate, .context = &gate};
        if (epx_stream_create(&stream) != EPX_OK || epx_stream_submit(stream, &task) != EPX_OK) {
            _exit(1);
        }
        await(&gate.entered);
        exit(42);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

struct producer {
    struct epx_stream *stream;
    atomic_int *runs;
};

static bool count_run(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    atomic_fetch_add((atomic_int *)context, 1);
    *status = EPX_OK;
    return true;
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (int i = 0; i < TASKS; i++) {
        const struct epx_task task = {.run = count_run, .context = producer->runs};
        if (epx_stream_submit(producer->stream, &task) != EPX_OK) {
            return argument;
        }
        if (i % 100 == 0 && epx_stream_synchronize(producer->stream, -1) != EPX_OK) {
            return argument;
        }
    }
    return NULL;
}

static void submit__from_many_threads(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    atomic_int runs = 0;
    struct producer producer = {stream, &runs};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producer), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = &producer;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    assert_int_equal(atomic_load(&runs), 4 * TASKS);
    epx_stream_destroy(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker__does_not_hold_the_process), /* first: it forks */
        cmocka_unit_test(submit__runs_in_order_and_releases_each_once),
        cmocka_unit_test(destroy__waits_for_queued_work),
        cmocka_unit_test(destroy__stream_without_work),
        cmocka_unit_test(synchronize__gives_the_first_failure_once),
        cmocka_unit_test(wait__tells_its_own_timeout_from_a_task_s),
        cmocka_unit_test(synchronize__timeout_keeps_a_failure_for_later),
        cmocka_unit_test(abort__drops_what_has_not_begun),
        cmocka_unit_test(worker__blocks_all_signals),
        cmocka_unit_test(submit__from_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
