/* The worker of a stream whose program waits at once: it is left asleep, but not for long; its doorbell; a stress. */
#include "runtime/doorbell.h"
#include "unit/stream_test.h"

#include <sys/resource.h>
#include <sys/wait.h>

static void submit__runs_without_a_wait(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    for (int i = 0; i < 30; i++) {
        atomic_bool ran[3] = {false, false, false};
        if (i % 2 == 1) {
            learn_early_waits(stream);
        }
        for (int k = 0; k < 3; k++) {
            submit_for_all(stream, run_flag, &ran[k]);
        }
        await(&ran[2]);
        assert_true(atomic_load(&ran[0]) && atomic_load(&ran[1]));
    }
    epx_stream_destroy(stream);
}

/* Submissions that follow one another do not put off those before them. */
static void submit__is_not_put_off_by_later_ones(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    atomic_bool first = false;
    learn_early_waits(stream);
    submit_for_all(stream, run_flag, &first);
    uint64_t deadline_ns = epx_deadline_after_ms(TEST_WAIT_MS);
    while (!atomic_load(&first)) {
        assert_true(epx_clock_ns() < deadline_ns);
        submit_for_all(stream, run_nothing, NULL);
        usleep(50);
    }
    epx_stream_destroy(stream);
}

static void submit__after_a_late_one_wakes_the_worker_at_once(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    atomic_bool ran = false;
    do { /* on a busy machine the worker may be awake already, for the bell of an earlier submission */
        atomic_store(&ran, false);
        learn_early_waits(stream);
        submit_for_all(stream, run_flag, &ran);
        await(&ran);
    } while (worker_sleeps_on_bell(stream));
    pthread_mutex_lock(&stream->lock);
    assert_false(epx_stream_expects_wait(stream));
    pthread_mutex_unlock(&stream->lock);
    epx_stream_destroy(stream);
}

static void release_count(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static void abort__drops_what_the_worker_was_left_asleep_for(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    atomic_int released = 0;
    const struct epx_task task = {
        .run = run_nothing, .release = release_count, .context = &released, .waiter_may_run = true};
    learn_early_waits(stream);
    struct patient first = {0};
    submit_for_all(stream, run_patient, &first);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
    }
    await(&first.entered);
    epx_stream_abort(stream);
    atomic_store(&first.open, true);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_ERR_ABORTED);
    assert_int_equal(atomic_load(&released), 3);
    epx_stream_destroy(stream);
}

static void destroy__runs_what_the_worker_was_left_asleep_for(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct epx_stream *stream = new_stream();
        atomic_bool ran = false;
        learn_early_waits(stream);
        submit_for_all(stream, run_flag, &ran);
        epx_stream_destroy(stream);
        assert_true(atomic_load(&ran));
    }
}

static void descriptors__one_a_stream_that_is_waited_for(void **state)
{
    (void)state;
    const int before = open_descriptors();
    struct epx_stream *idle = new_stream();
    struct epx_stream *background = new_stream();
    struct epx_stream *stream = new_stream();
    atomic_bool ran = false;
    submit_for_all(background, run_flag, &ran);
    await(&ran);
    assert_int_equal(idle->place, EPX_WORKER_NONE);
    assert_int_equal(open_descriptors(), before);
    learn_early_waits(stream);
    assert_int_equal(open_descriptors(), before + 1);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(open_descriptors() == before ? 42 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    atomic_store(&ran, false);
    submit_for_all(stream, run_flag, &ran); /* the child has not taken the parent's */
    await(&ran);
    epx_stream_destroy(stream);
    epx_stream_destroy(background);
    epx_stream_destroy(idle);
    assert_int_equal(open_descriptors(), before);
}

/* Early waits without a doorbell to be had: the worker is woken at once. */
static void expect_work_without_bell(struct epx_stream *stream)
{
    for (int i = 0; i < 100; i++) {
        submit_for_all(stream, run_nothing, NULL);
        assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    }
    for (int i = 0; i < 10; i++) {
        atomic_bool ran = false;
        submit_for_all(stream, run_flag, &ran);
        await(&ran);
    }
    assert_false(worker_sleeps_on_bell(stream));
}

static void descriptors__none_left(void **state)
{
    (void)state;
    struct rlimit limit;
    struct epx_stream *stream = new_stream();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit none = {.rlim_cur = (rlim_t)open_descriptors(), .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    expect_work_without_bell(stream);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    epx_stream_destroy(stream);
}

static void doorbells__few(void **state)
{
    (void)state;
    const int before = open_descriptors();
    int bells[EPX_DOORBELLS_MAX];
    for (int i = 0; i < EPX_DOORBELLS_MAX; i++) {
        bells[i] = epx_doorbell_open();
        assert_true(bells[i] >= 0);
    }
    assert_int_equal(epx_doorbell_open(), -1);
    struct epx_stream *stream = new_stream();
    expect_work_without_bell(stream);
    for (int i = 0; i < EPX_DOORBELLS_MAX; i++) {
        epx_doorbell_close(bells[i]);
    }
    epx_stream_destroy(stream);
    assert_int_equal(open_descriptors(), before);
}

static void doorbell__rings(void **state)
{
    (void)state;
    int bell = epx_doorbell_open();
    assert_true(bell >= 0);
    uint64_t before_ns = epx_clock_ns();
    epx_doorbell_ring(bell, 5000000u);
    assert_int_equal(epx_doorbell_await(bell), EPX_DOORBELL_RANG);
    assert_true(epx_clock_ns() - before_ns >= 5000000u);
    epx_doorbell_ring(bell, 3600000000000u);
    epx_doorbell_ring(bell, 0); /* the last one counts */
    usleep(1000);
    assert_int_equal(epx_doorbell_await(bell), EPX_DOORBELL_RANG); /* also when it has rung before */
    assert_int_equal(close(bell), 0);
    assert_int_equal(epx_doorbell_await(bell), EPX_DOORBELL_LOST);
    epx_doorbell_close(bell); /* no longer one */
}

static void doorbell__closed_under_the_worker(void **state)
{
    (void)state;
    atomic_bool ran = false;
    struct epx_stream *stream = new_stream();
    learn_early_waits(stream);
    assert_true(worker_sleeps_on_bell(stream));
    pthread_mutex_lock(&stream->lock);
    int bell = stream->bell;
    pthread_mutex_unlock(&stream->lock);
    assert_int_equal(close(bell), 0);
    submit_for_all(stream, run_flag, &ran);
    await(&ran); /* after EPX_DOORBELL_PATIENCE_MS at most, and not never */
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_OK);
    epx_stream_destroy(stream);
}

/* ---- Stress ------------------------------------------------------------------------------------------------------ */

#define THREADS           4
#define TASKS_OF_A_THREAD 1500

struct crowd {
    struct epx_stream *stream;
    atomic_int running;
    atomic_bool overlapped;
    atomic_int runs;
    atomic_int releases;
};

struct member {
    struct crowd *crowd;
    pthread_t thread;
    uint32_t seed;
    bool failed;
};

struct step {
    struct crowd *crowd;
    uint64_t until_ns; /* pending up to then */
};

static bool run_step(void *context, uint64_t until_ns, enum epx_status *status)
{
    struct step *step = context;
    if (atomic_fetch_add(&step->crowd->running, 1) != 0) {
        atomic_store(&step->crowd->overlapped, true);
    }
    uint64_t now_ns = epx_clock_ns();
    while (now_ns < step->until_ns && now_ns < until_ns) {
        now_ns = epx_clock_ns();
    }
    atomic_fetch_sub(&step->crowd->running, 1);
    if (now_ns < step->until_ns) {
        return false;
    }
    atomic_fetch_add(&step->crowd->runs, 1);
    *status = EPX_OK;
    return true;
}

static void release_step(void *context)
{
    struct step *step = context;
    atomic_fetch_add(&step->crowd->releases, 1);
    free(step);
}

static uint32_t draw(struct member *member, uint32_t limit)
{
    member->seed = member->seed * 1664525u + 1013904223u;
    return (member->seed >> 8) % limit;
}

static bool submit_step(struct member *member, uint64_t *place)
{
    struct step *step = calloc(1, sizeof *step);
    const struct epx_task task = {.run = run_step,
                                  .release = release_step,
                                  .context = step,
                                  .waiter_may_run = draw(member, 8) != 0,
                                  .until_ignored = draw(member, 8) == 0};
    if (!step) {
        return false;
    }
    step->crowd = member->crowd;
    step->until_ns = draw(member, 4) == 0 ? epx_clock_ns() + draw(member, 200) * 1000u : 0;
    return epx_stream_submit_at(member->crowd->stream, &task, place) == EPX_OK;
}

static void give_up_waiting(struct epx_stream *stream, uint64_t place, uint64_t deadline_ns)
{
    bool finished = epx_stream_wait_place(stream, place, deadline_ns);
    (void)finished; /* either is right */
}

static void *member_main(void *argument)
{
    struct member *member = argument;
    struct epx_stream *stream = member->crowd->stream;
    uint64_t place = 0;
    for (int i = 0; i < TASKS_OF_A_THREAD && !member->failed; i++) {
        member->failed = !submit_step(member, &place);
        switch (draw(member, 8)) {
        case 0: member->failed |= !epx_stream_wait_place(stream, place, EPX_NEVER); break;
        case 1: member->failed |= epx_stream_synchronize(stream, -1) != EPX_OK; break;
        case 2: give_up_waiting(stream, place, epx_clock_ns() + draw(member, 300) * 1000u); break;
        case 3: give_up_waiting(stream, place, epx_deadline_after_ms(draw(member, 2))); break;
        case 4: epx_stream_hurry(stream); break;
        case 5: usleep(draw(member, 1500)); break;
        default: break;
        }
    }
    return NULL;
}

static void stress__of_submissions_and_waits(void **state)
{
    (void)state;
    struct crowd crowd = {.stream = new_stream()};
    struct member members[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        members[i] = (struct member){.crowd = &crowd, .seed = 77 * i + 5};
        assert_int_equal(pthread_create(&members[i].thread, NULL, member_main, &members[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(members[i].thread, NULL);
        assert_false(members[i].failed);
    }
    epx_stream_destroy(crowd.stream);
    assert_false(atomic_load(&crowd.overlapped));
    assert_int_equal(atomic_load(&crowd.runs), THREADS * TASKS_OF_A_THREAD);
    assert_int_equal(atomic_load(&crowd.releases), THREADS * TASKS_OF_A_THREAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors__one_a_stream_that_is_waited_for), /* first: it forks */
        cmocka_unit_test(submit__runs_without_a_wait),
        cmocka_unit_test(submit__is_not_put_off_by_later_ones),
        cmocka_unit_test(submit__after_a_late_one_wakes_the_worker_at_once),
        cmocka_unit_test(abort__drops_what_the_worker_was_left_asleep_for),
        cmocka_unit_test(destroy__runs_what_the_worker_was_left_asleep_for),
        cmocka_unit_test(descriptors__none_left),
        cmocka_unit_test(doorbells__few),
        cmocka_unit_test(doorbell__rings),
        cmocka_unit_test(doorbell__closed_under_the_worker),
        cmocka_unit_test(stress__of_submissions_and_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
