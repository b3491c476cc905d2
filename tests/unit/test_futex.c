#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/futex.h"

#include "child_process.h"

#include <pthread.h>
#include <sys/mman.h>

#define MS UINT64_C(1000000)

static void wait__returns_at_once_when_the_word_differs(void **state)
{
    (void)state;
    _Atomic uint32_t word = 5;
    epx_futex_wait(&word, 4, EPX_NEVER);
    assert_int_equal(word, 5);
}

static void wait__lasts_until_the_deadline(void **state)
{
    (void)state;
    _Atomic uint32_t word = 5;
    uint64_t start = epx_clock_ns();
    uint64_t deadline_ns = epx_deadline_after_ms(30);
    while (epx_clock_ns() < deadline_ns) { /* a signal may end one wait early */
        epx_futex_wait(&word, 5, deadline_ns);
    }
    assert_true(epx_clock_ns() - start >= 30 * MS);
}

static void wait__a_passed_deadline_does_not_sleep(void **state)
{
    (void)state;
    _Atomic uint32_t word = 5;
    epx_futex_wait(&word, 5, 1);
    epx_futex_wait(&word, 5, epx_clock_ns() - 1);
    epx_futex_wait(&word, 5, 0);
}

/* Sleeps for ever unless it is woken; a test that hangs is ended by its time limit. */
static void *sleep_until_changed(void *shared)
{
    _Atomic uint32_t *word = shared;
    while (atomic_load(word) == 0) {
        epx_futex_wait(word, 0, EPX_NEVER);
    }
    return NULL;
}

static void wake_all__wakes_every_thread(void **state)
{
    (void)state;
    _Atomic uint32_t word = 0;
    pthread_t threads[5];
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_until_changed, &word), 0);
    }
    usleep(20000);
    atomic_store(&word, 1);
    epx_futex_wake_all(&word);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void wake_all__crosses_processes(void **state)
{
    (void)state;
    _Atomic uint32_t *word = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(word, MAP_FAILED);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)sleep_until_changed(word);
        _exit(0);
    }
    usleep(20000);
    atomic_store(word, 1);
    epx_futex_wake_all(word);
    expect_good_exit(pid);
    munmap(word, sizeof *word);
}

static void deadline__never_and_overflow(void **state)
{
    (void)state;
    assert_true(epx_deadline_after_ms(-1) == EPX_NEVER);
    assert_true(epx_deadline_after_ms(INT64_MIN) == EPX_NEVER);
    assert_true(epx_deadline_after_ms(INT64_MAX) == EPX_NEVER);
    assert_true(epx_deadline_after_ms(2147483647000) > epx_clock_ns() + 2147483646000 * MS);
    uint64_t now = epx_clock_ns();
    assert_true(epx_deadline_after_ms(0) >= now);
    assert_true(epx_deadline_after_ms(10000) - now >= 10000 * MS);
    assert_true(epx_deadline_after_ms(10000) - now < 20000 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait__returns_at_once_when_the_word_differs),
        cmocka_unit_test(wait__lasts_until_the_deadline),
        cmocka_unit_test(wait__a_passed_deadline_does_not_sleep),
        cmocka_unit_test(wake_all__wakes_every_thread),
        cmocka_unit_test(wake_all__crosses_processes),
        cmocka_unit_test(deadline__never_and_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
