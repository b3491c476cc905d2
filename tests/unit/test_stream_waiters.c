/* Threads that wait for a stream run its tasks: order, deadlines, texts, and what they leave to the worker. */
#include "unit/stream_test.h"

#include <signal.h>
#include <sys/time.h>

#define TASKS 200

struct journal {
    int next; /* of whoever runs; read after synchronisation */
    int order[TASKS];
    int here; /* run by `thread` */
    pthread_t thread;
    atomic_int running;
    atomic_bool overlapped;
};

struct entry {
    struct journal *journal;
    int number;
};

static bool run_entry(void *context, uint64_t until_ns, enum epx_status *status)
{
    const struct entry *entry = context;
    struct journal *journal = entry->journal;
    (void)until_ns;
    if (atomic_fetch_add(&journal->running, 1) != 0) {
        atomic_store(&journal->overlapped, true);
    }
    journal->order[journal->next++] = entry->number;
    journal->here += pthread_equal(journal->thread, pthread_self()) != 0;
    atomic_fetch_sub(&journal->running, 1);
    *status = EPX_OK;
    return true;
}

static void submit_entries(struct epx_stream *stream, struct journal *journal, struct entry *entries)
{
    for (int i = 0; i < TASKS; i++) {
        entries[i] = (struct entry){journal, i};
        submit_for_all(stream, run_entry, &entries[i]);
    }
}

static void expect_order(const struct journal *journal)
{
    assert_int_equal(journal->next, TASKS);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(journal->order[i], i);
    }
    assert_false(atomic_load(&journal->overlapped));
}

/* The worker is left asleep for a while only, which a busy machine can outlast: one round of many must do. */
static void wait__runs_queued_tasks_in_order(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    bool all_here = false;
    uint64_t deadline_ns = epx_deadline_after_ms(TEST_WAIT_MS);
    while (!all_here && epx_clock_ns() < deadline_ns) {
        struct journal journal = {.thread = pthread_self()};
        struct entry entries[TASKS];
        learn_early_waits(stream);
        submit_entries(stream, &journal, entries);
        assert_int_equal(epx_stream_synchronize(stream, TEST_WAIT_MS), EPX_OK);
        expect_order(&journal);
        all_here = journal.here == TASKS;
    }
    assert_true(all_here);
    epx_stream_destroy(stream);
}

static void *synchronize_thread(void *argument)
{
    return epx_stream_synchronize(argument, -1) == EPX_OK ? NULL : argument;
}

static void wait__of_several_threads(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    for (int round = 0; round < 20; round++) {
        struct journal journal = {.thread = pthread_self()};
        struct entry entries[TASKS];
        struct patient first = {0};
        pthread_t threads[3];
        submit_for_all(stream, run_patient, &first);
        submit_entries(stream, &journal, entries);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, synchronize_thread, stream), 0);
        }
        await(&first.entered);
        atomic_store(&first.open, true);
        for (int i = 0; i < 3; i++) {
            void *failed = stream;
            pthread_join(threads[i], &failed);
            assert_null(failed);
        }
        assert_true(epx_stream_idle(stream));
        expect_order(&journal);
    }
    epx_stream_destroy(stream);
}

static void blame_patient(void *context, char *text, uint64_t text_bytes)
{
    (void)context;
    snprintf(text, text_bytes, "rank 7 has not come");
}

static void wait__timeout_leaves_a_begun_task_to_the_worker(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct patient patient = {0};
    atomic_bool next = false;
    bool expired = false;
    learn_early_waits(stream);
    const struct epx_task task = {
        .run = run_patient, .blame = blame_patient, .context = &patient, .waiter_may_run = true};
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
    submit_for_all(stream, run_flag, &next);
    uint64_t before_ns = epx_clock_ns();
    assert_int_equal(epx_stream_wait(stream, 0, &expired), EPX_ERR_TIMEOUT);
    assert_true(expired);
    assert_int_equal(epx_stream_wait(stream, 30, &expired), EPX_ERR_TIMEOUT);
    assert_true(epx_clock_ns() - before_ns >= 30000000u);
    assert_true(expired);
    assert_non_null(strstr(epx_error_text(), "30 ms"));
    assert_non_null(strstr(epx_error_text(), "rank 7 has not come"));
    assert_int_equal(epx_stream_wait(stream, 5, &expired), EPX_ERR_TIMEOUT);
    atomic_store(&patient.open, true);
    await(&patient.ended); /* nobody waits for the stream */
    assert_false(pthread_equal(patient.ended_on, pthread_self()));
    await(&next);
    assert_int_equal(epx_stream_wait(stream, -1, &expired), EPX_OK);
    assert_false(expired);
    epx_stream_destroy(stream);
}

static void wait__longer_one_goes_on_with_a_begun_task(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct patient patient = {0};
    pthread_t thread;
    submit_for_all(stream, run_patient, &patient);
    assert_int_equal(pthread_create(&thread, NULL, synchronize_thread, stream), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(epx_stream_synchronize(stream, 1), EPX_ERR_TIMEOUT);
    }
    atomic_store(&patient.open, true);
    void *failed = stream;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_true(atomic_load(&patient.ended));
    epx_stream_destroy(stream);
}

static bool run_failure(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    *status = epx_fail(EPX_ERR_CAPACITY, "task %d failed", *(int *)context);
    return true;
}

static void wait_place__leaves_the_thread_s_text_and_the_failure(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    int numbers[2] = {1, 2};
    uint64_t place = 0;
    const struct epx_task task = {.run = run_failure, .context = &numbers[0], .waiter_may_run = true};
    learn_early_waits(stream);
    assert_int_equal(epx_fail(EPX_ERR_STATE, "my own text"), EPX_ERR_STATE);
    assert_int_equal(epx_stream_submit_at(stream, &task, &place), EPX_OK);
    submit_for_all(stream, run_failure, &numbers[1]);
    assert_true(epx_stream_wait_place(stream, place, epx_deadline_after_ms(TEST_WAIT_MS)));
    assert_string_equal(epx_error_text(), "my own text");
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_ERR_CAPACITY);
    assert_string_equal(epx_error_text(), "task 1 failed");
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    epx_stream_destroy(stream);
}

struct place {
    pthread_t thread;
    bool here;
};

static bool run_place(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct place *place = context;
    (void)until_ns;
    place->here = pthread_equal(place->thread, pthread_self()) != 0;
    *status = EPX_OK;
    return true;
}

static void wait__leaves_tasks_that_it_may_not_run(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    for (int i = 0; i < 50; i++) {
        struct place place = {.thread = pthread_self(), .here = true};
        struct place late = {.thread = pthread_self(), .here = true};
        const struct epx_task only_worker = {.run = run_place, .context = &place};
        const struct epx_task not_in_time = {
            .run = run_place, .context = &late, .waiter_may_run = true, .until_ignored = true};
        if (i == 25) {
            learn_early_waits(stream);
        }
        assert_int_equal(epx_stream_submit(stream, &only_worker), EPX_OK);
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
        assert_false(place.here);
        assert_int_equal(epx_stream_submit(stream, &not_in_time), EPX_OK);
        assert_int_equal(epx_stream_synchronize(stream, TEST_WAIT_MS), EPX_OK);
        assert_false(late.here);
    }
    bool here = false;
    uint64_t deadline_ns = epx_deadline_after_ms(TEST_WAIT_MS);
    while (!here && epx_clock_ns() < deadline_ns) {
        struct place place = {.thread = pthread_self()};
        const struct epx_task task = {
            .run = run_place, .context = &place, .waiter_may_run = true, .until_ignored = true};
        learn_early_waits(stream);
        assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
        here = place.here;
    }
    assert_true(here);
    epx_stream_destroy(stream);
}

struct submitter {
    struct epx_stream *stream;
    unsigned delay_us; /* longer than the worker is left asleep, or not */
    atomic_bool ran;
    bool failed;
};

static bool run_submitter(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct submitter *submitter = context;
    const struct epx_task task = {.run = run_flag, .context = &submitter->ran, .waiter_may_run = true};
    (void)until_ns;
    *status = EPX_OK;
    usleep(submitter->delay_us);
    submitter->failed = epx_stream_submit(submitter->stream, &task) != EPX_OK;
    return true;
}

static void task__submits_to_its_own_stream(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    for (int i = 0; i < 20; i++) {
        struct submitter submitter = {.stream = stream, .delay_us = i % 2 == 0 ? 0 : 3000};
        learn_early_waits(stream);
        submit_for_all(stream, run_submitter, &submitter);
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
        assert_false(submitter.failed);
        await(&submitter.ran); /* without another wait */
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    }
    static struct submitter last;
    last = (struct submitter){.stream = stream};
    submit_for_all(stream, run_submitter, &last);
    epx_stream_destroy(stream);
    assert_true(atomic_load(&last.ran));
}

static atomic_int alarms;

static void count_alarm(int number)
{
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

/* Signals come to the thread that runs the tasks, as they come to any thread of the program. */
static void wait__with_signals(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct patient patient = {0};
    const struct sigaction action = {.sa_handler = count_alarm};
    const struct itimerval often = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    const struct itimerval never = {0};
    struct sigaction before;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    learn_early_waits(stream);
    submit_for_all(stream, run_patient, &patient);
    uint64_t before_ns = epx_clock_ns();
    assert_int_equal(epx_stream_synchronize(stream, 50), EPX_ERR_TIMEOUT);
    assert_true(epx_clock_ns() - before_ns >= 50000000u);
    atomic_store(&patient.open, true);
    assert_int_equal(epx_stream_synchronize(stream, TEST_WAIT_MS), EPX_OK);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_true(atomic_load(&alarms) > 0);
    epx_stream_destroy(stream);
}

static void *wait_place_thread(void *argument)
{
    struct epx_stream *stream = argument;
    bool finished = epx_stream_wait_place(stream, 1, EPX_NEVER);
    epx_stream_release(stream);
    return finished ? NULL : argument;
}

static void destroy__beside_a_thread_that_waits(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct epx_stream *stream = new_stream();
        struct patient patient = {.open = round % 2 == 0};
        pthread_t thread;
        submit_for_all(stream, run_patient, &patient);
        epx_stream_hold(stream);
        assert_int_equal(pthread_create(&thread, NULL, wait_place_thread, stream), 0);
        await(&patient.entered);
        atomic_store(&patient.open, true);
        epx_stream_destroy(stream);
        assert_true(atomic_load(&patient.ended));
        void *failed = &patient;
        pthread_join(thread, &failed);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait__runs_queued_tasks_in_order),
        cmocka_unit_test(wait__of_several_threads),
        cmocka_unit_test(wait__timeout_leaves_a_begun_task_to_the_worker),
        cmocka_unit_test(wait__longer_one_goes_on_with_a_begun_task),
        cmocka_unit_test(wait_place__leaves_the_thread_s_text_and_the_failure),
        cmocka_unit_test(wait__leaves_tasks_that_it_may_not_run),
        cmocka_unit_test(task__submits_to_its_own_stream),
        cmocka_unit_test(wait__with_signals),
        cmocka_unit_test(destroy__beside_a_thread_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
