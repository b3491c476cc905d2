/* What programs do on their way out: in several orders, from several threads, and with fork. */
#include "cann/acl_state.h"
#include "cann/exports_acl.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

static void twice__stream_context_device(void **state)
{
    (void)state;
    aclrtContext context = NULL;
    aclrtStream stream = NULL;
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    assert_int_equal(epx_cann_aclrtSetDevice(2), 0);
    assert_int_equal(epx_cann_aclrtCreateContext(&context, 2), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    assert_int_equal(epx_cann_aclrtDestroyContext(context), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(2), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 107017);
    assert_int_equal(epx_cann_aclrtDestroyContext(context), 107002);
    assert_int_equal(epx_cann_aclrtResetDevice(2), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(2), 0);
    assert_int_equal(epx_cann_aclFinalize(), 0);
    assert_int_equal(epx_cann_aclFinalize(), 100037);
}

static void context__outlives_its_device_s_reset(void **state)
{
    (void)state;
    aclrtContext context = NULL;
    aclrtStream stream = NULL;
    int value = 1;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateContext(&context, 0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtMemsetAsync(&value, sizeof value, 0, sizeof value, stream), 0);
    assert_int_equal(epx_cann_aclrtDestroyContext(context), 0); /* waits for the stream's work */
    assert_int_equal(value, 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 107017);
}

static void stream__ends_with_the_last_reset(void **state)
{
    (void)state;
    aclrtStream stream = NULL;
    int value = 1;
    assert_int_equal(epx_cann_aclrtSetDevice(1), 0);
    assert_int_equal(epx_cann_aclrtSetDevice(1), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(1), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 0);
    assert_int_equal(epx_cann_aclrtMemsetAsync(&value, sizeof value, 0, sizeof value, stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(1), 0);
    assert_int_equal(value, 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 107017);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 107017);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(NULL), 107002);
}

static void memory__outlives_everything(void **state)
{
    (void)state;
    void *pointer = NULL;
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, 4096, ACL_MEM_MALLOC_HUGE_FIRST), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
    assert_int_equal(epx_cann_aclFinalize(), 0);
    *(volatile int *)pointer = 1;
    assert_int_equal(epx_cann_aclrtFree(pointer), 0);
    assert_int_equal(epx_cann_aclrtFree(pointer), 107000);
}

/* A program in the manner of the examples: contexts are made on the main thread, used and destroyed by one thread per
 * device, then everything is destroyed once more by the main thread. */
#define RANKS 8

struct rank {
    int32_t device;
    aclrtContext context;
    aclrtStream stream;
    int32_t cells[64];
};

static void *rank_main(void *argument)
{
    struct rank *rank = argument;
    int32_t device = -1;
    uintptr_t wrong = 0;
    wrong += epx_cann_aclrtSetCurrentContext(rank->context) != 0;
    wrong += epx_cann_aclrtGetDevice(&device) != 0 || device != rank->device;
    for (int32_t i = 0; i < 64; i++) {
        wrong += epx_cann_aclrtMemsetAsync(&rank->cells[i], 4, i, 4, rank->stream) != 0;
    }
    wrong += epx_cann_aclrtSynchronizeStreamWithTimeout(rank->stream, 60000) != 0;
    for (int32_t i = 0; i < 64; i++) {
        wrong += rank->cells[i] != i * 0x01010101;
    }
    wrong += epx_cann_aclrtDestroyStream(rank->stream) != 0;
    wrong += epx_cann_aclrtDestroyContext(rank->context) != 0;
    wrong += epx_cann_aclrtResetDevice(rank->device) != 0;
    return (void *)wrong;
}

static void threads__then_main_destroys_again(void **state)
{
    (void)state;
    static struct rank ranks[RANKS];
    pthread_t threads[RANKS];
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    for (int32_t i = 0; i < RANKS; i++) {
        ranks[i].device = i;
        assert_int_equal(epx_cann_aclrtSetDevice(i), 0);
        assert_int_equal(epx_cann_aclrtCreateContext(&ranks[i].context, i), 0);
        assert_int_equal(epx_cann_aclrtCreateStream(&ranks[i].stream), 0);
    }
    for (int32_t i = 0; i < RANKS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, rank_main, &ranks[i]), 0);
    }
    for (int32_t i = 0; i < RANKS; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
        assert_int_equal(epx_cann_aclrtDestroyStream(ranks[i].stream), 107017);
        assert_int_equal(epx_cann_aclrtDestroyContext(ranks[i].context), 107002);
        assert_int_equal(epx_cann_aclrtResetDevice(ranks[i].device), 0);
    }
    assert_int_equal(epx_cann_aclFinalize(), 0);
}

/* Many threads destroy the same things while others use them: each is destroyed once, nothing crashes. */
struct contest {
    aclrtStream streams[16];
    aclrtEvent events[16];
    atomic_int destroyed;
};

static void *contest_main(void *argument)
{
    struct contest *contest = argument;
    aclrtStreamStatus status;
    for (int i = 0; i < 16; i++) {
        (void)epx_cann_aclrtStreamQuery(contest->streams[i], &status);
        (void)epx_cann_aclrtRecordEvent(contest->events[i], contest->streams[i]);
        (void)epx_cann_aclrtSynchronizeStream(contest->streams[i]);
        atomic_fetch_add(&contest->destroyed, epx_cann_aclrtDestroyStream(contest->streams[i]) == 0);
        atomic_fetch_add(&contest->destroyed, epx_cann_aclrtDestroyEvent(contest->events[i]) == 0);
    }
    return NULL;
}

static void threads__destroy_the_same_handles(void **state)
{
    (void)state;
    static struct contest contest;
    pthread_t threads[4];
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(epx_cann_aclrtCreateStream(&contest.streams[i]), 0);
        assert_int_equal(epx_cann_aclrtCreateEvent(&contest.events[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, contest_main, &contest), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&contest.destroyed), 32);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static bool run_for_ever(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    atomic_bool *entered = context;
    atomic_store(entered, true);
    while (atomic_load(entered)) {
        pause();
    }
    *status = EPX_OK;
    return true;
}

/* In a child: its exit status. */
static int leave_with_running_work(void)
{
    static atomic_bool entered;
    aclrtStream handle = NULL;
    struct epx_stream *stream = NULL;
    int32_t device = -1;
    const struct epx_task task = {.run = run_for_ever, .context = &entered};
    if (epx_cann_aclInit(NULL) != 0 || epx_cann_aclrtSetDevice(0) != 0 || epx_cann_aclrtCreateStream(&handle) != 0 ||
        epx_cann_stream_acquire(handle, &stream, &device) != EPX_OK || epx_stream_submit(stream, &task) != EPX_OK) {
        return 1;
    }
    epx_cann_stream_release(stream);
    while (!atomic_load(&entered)) {
        usleep(200);
    }
    return epx_cann_aclFinalize() == 0 ? 42 : 2;
}

/* The child of a process that has devices, streams and work: it has none of them, and can start anew. */
static int start_after_fork(const void *context, const void *stream)
{
    int32_t device = -1;
    uint64_t left = 0;
    void *own = NULL;
    int value = 1;
    if (epx_cann_aclrtGetDevice(&device) != 107002 || epx_cann_aclFinalizeReference(&left) != 100037 ||
        epx_cann_aclrtSynchronizeStream((void *)(uintptr_t)stream) != 107017 ||
        epx_cann_aclrtDestroyStream((void *)(uintptr_t)stream) != 107017 ||
        epx_cann_aclrtDestroyContext((void *)(uintptr_t)context) != 107002) {
        return 1;
    }
    if (epx_cann_aclInit(NULL) != 0 || epx_cann_aclrtSetDevice(0) != 0 || epx_cann_aclrtCreateStream(&own) != 0 ||
        own == stream || epx_cann_aclrtMemsetAsync(&value, sizeof value, 0, sizeof value, own) != 0 ||
        epx_cann_aclrtSynchronizeStreamWithTimeout(own, 60000) != 0 || value != 0) {
        return 2;
    }
    return epx_cann_aclrtDestroyStream(own) == 0 && epx_cann_aclrtResetDevice(0) == 0 && epx_cann_aclFinalize() == 0
               ? 42
               : 3;
}

static int exit_status_of(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void exit__is_not_held_by_leaked_work(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        exit(leave_with_running_work());
    }
    assert_int_equal(exit_status_of(child), 42);
}

static void fork__leaves_the_parent_untouched(void **state)
{
    (void)state;
    aclrtContext context = NULL;
    aclrtStream stream = NULL;
    int value = 1;
    if (THREAD_SANITIZER) {
        skip(); /* it does not allow threads in the child of a process with threads */
    }
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    assert_int_equal(epx_cann_aclrtCreateContext(&context, 0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    assert_int_equal(epx_cann_aclrtMemsetAsync(&value, sizeof value, 7, sizeof value, stream), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(start_after_fork(context, stream));
    }
    assert_int_equal(exit_status_of(child), 42);
    assert_int_equal(epx_cann_aclrtMemsetAsync(&value, sizeof value, 0, sizeof value, stream), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 0);
    assert_int_equal(value, 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    assert_int_equal(epx_cann_aclrtDestroyContext(context), 0);
    assert_int_equal(epx_cann_aclFinalize(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit__is_not_held_by_leaked_work), /* first: its child starts from nothing */
        cmocka_unit_test(twice__stream_context_device),      cmocka_unit_test(context__outlives_its_device_s_reset),
        cmocka_unit_test(stream__ends_with_the_last_reset),  cmocka_unit_test(memory__outlives_everything),
        cmocka_unit_test(threads__then_main_destroys_again), cmocka_unit_test(threads__destroy_the_same_handles),
        cmocka_unit_test(fork__leaves_the_parent_untouched),
    };
    unsetenv("ASCEND_RT_VISIBLE_DEVICES");
    unsetenv("EPX_DEVICE_COUNT");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
