/* Worker threads: each part once, memory visible, several callers, children of fork. */
#include "runtime/workers.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PARTS   17u
#define ROUNDS  400u
#define CALLERS 4u

struct sums {
    uint32_t calls[PARTS]; /* plain memory: each part writes its own */
};

static void count_part(void *context, uint32_t part)
{
    struct sums *sums = context;
    sums->calls[part]++;
}

static void run_rounds(struct sums *sums)
{
    memset(sums, 0, sizeof *sums);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        epx_workers_run(PARTS, count_part, sums);
        for (uint32_t part = 0; part < PARTS; part++) {
            if (sums->calls[part] != round + 1) {
                return; /* what is short at the end shows it */
            }
        }
    }
}

static bool all_ran(const struct sums *sums)
{
    for (uint32_t part = 0; part < PARTS; part++) {
        if (sums->calls[part] != ROUNDS) {
            return false;
        }
    }
    return true;
}

static void run__without_threads(void **state)
{
    (void)state;
    struct sums sums;
    assert_int_equal(epx_workers_count(), 0);
    run_rounds(&sums);
    assert_true(all_ran(&sums));
}

static void run__nothing(void **state)
{
    (void)state;
    struct sums sums = {{0}};
    epx_workers_run(0, count_part, &sums);
    assert_int_equal(sums.calls[0], 0);
    epx_workers_run(1, count_part, &sums);
    assert_int_equal(sums.calls[0], 1);
}

static void run__with_threads(void **state)
{
    (void)state;
    struct sums sums;
    epx_workers_prepare(3);
    epx_workers_prepare(2);
    assert_int_equal(epx_workers_count(), 3);
    run_rounds(&sums);
    assert_true(all_ran(&sums));
}

static void *caller_main(void *context)
{
    run_rounds(context);
    return NULL;
}

static void run__several_callers(void **state)
{
    (void)state;
    struct sums sums[CALLERS];
    pthread_t callers[CALLERS];
    epx_workers_prepare(2);
    for (uint32_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i], NULL, caller_main, &sums[i]), 0);
    }
    for (uint32_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i], NULL), 0);
        assert_true(all_ran(&sums[i]));
    }
}

static atomic_uint helpers_seen;
static pthread_t caller;

/* Waits until a second thread is in the job, which a pool without a live thread never gives. */
static void meet_part(void *context, uint32_t part)
{
    (void)context;
    (void)part;
    atomic_fetch_add(&helpers_seen, 1);
    while (atomic_load(&helpers_seen) < 2) {
        (void)usleep(100);
    }
    if (!pthread_equal(pthread_self(), caller)) {
        atomic_fetch_add(&helpers_seen, 100);
    }
}

static void run__on_two_threads_at_once(void **state)
{
    (void)state;
    epx_workers_prepare(1);
    atomic_store(&helpers_seen, 0);
    caller = pthread_self();
    epx_workers_run(2, meet_part, NULL);
    assert_int_equal(atomic_load(&helpers_seen), 102);
}

static void fork__child_has_its_own(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* it does not support threads of a child of a process with threads */
#endif
    epx_workers_prepare(2);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sums sums;
        bool good = epx_workers_count() == 0;
        epx_workers_prepare(2);
        run_rounds(&sums);
        _exit(good && all_ran(&sums) && epx_workers_count() == 2 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run__without_threads),        cmocka_unit_test(run__nothing),
        cmocka_unit_test(run__with_threads),           cmocka_unit_test(run__several_callers),
        cmocka_unit_test(run__on_two_threads_at_once), cmocka_unit_test(fork__child_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
