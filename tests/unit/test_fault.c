#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "memory/arena.h"

#include "child_process.h"

#include <signal.h>
#include <sys/stat.h>

#ifdef EPX_FAULTS

#define MIB ((size_t)1 << 20)

static void set_fault(const char *fault, const char *rank)
{
    CHILD_EXPECT(setenv("EPX_FAULT", fault, 1) == 0);
    CHILD_EXPECT(rank == NULL ? unsetenv("EPX_FAULT_RANK") == 0 : setenv("EPX_FAULT_RANK", rank, 1) == 0);
}

static void fail_third_passage(void)
{
    set_fault("here:3", NULL);
    for (int passage = 1; passage <= 6; passage++) {
        CHILD_EXPECT(!epx_fault("elsewhere", 0));
        CHILD_EXPECT(epx_fault("here", passage % 2) == (passage == 3));
    }
}

static void count_only_the_named_rank(void)
{
    set_fault("here:2:fail", "5");
    CHILD_EXPECT(!epx_fault("here", 5));
    CHILD_EXPECT(!epx_fault("here", 4));
    CHILD_EXPECT(!epx_fault("here", -1));
    CHILD_EXPECT(epx_fault("here", 5));
    CHILD_EXPECT(!epx_fault("here", 5));
}

static void sleep_at_passage(void)
{
    set_fault("here:1:sleep=40", NULL);
    uint64_t start = epx_clock_ns();
    CHILD_EXPECT(!epx_fault("here", 0));
    CHILD_EXPECT(epx_clock_ns() - start >= 40000000);
}

static void ignore_bad_text(void)
{
    static const char *const texts[] = {"here",       "here:",         "here:0",  ":1",
                                        "here:1:die", "here:x",        "here:1:", "here:1:sleep=",
                                        "here:-1",    "here:1:fail:2", "here:1 ", "here:1:sleep=5ms"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        pid_t pid = fork();
        CHILD_EXPECT(pid >= 0);
        if (pid == 0) {
            set_fault(texts[i], NULL);
            _exit(epx_fault("here", 0) ? 1 : 0);
        }
        int result = 1;
        CHILD_EXPECT(waitpid(pid, &result, 0) == pid && result == 0);
    }
}

static void kill_at_passage(void)
{
    set_fault("here:1:kill", NULL);
    (void)epx_fault("here", 0);
}

static void stop_at_passage(void)
{
    set_fault("here:1:stop", NULL);
    CHILD_EXPECT(!epx_fault("here", 0));
}

static void fault__actions(void **state)
{
    (void)state;
    setenv("EPX_LOG", "none", 1);
    run_in_child(fail_third_passage);
    run_in_child(count_only_the_named_rank);
    run_in_child(sleep_at_passage);
    run_in_child(ignore_bad_text);
}

static void fault__signals(void **state)
{
    (void)state;
    int result = 0;
    pid_t pid = fork();
    if (pid == 0) {
        kill_at_passage();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &result, 0), pid);
    assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL);
    pid = fork();
    if (pid == 0) {
        stop_at_passage();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &result, WUNTRACED), pid);
    assert_true(WIFSTOPPED(result));
    assert_int_equal(kill(pid, SIGCONT), 0);
    expect_good_exit(pid);
}

static uint64_t resident_bytes(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    struct stat file;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(fstat(fd, &file) == 0);
    return (uint64_t)file.st_blocks * 512;
}

/* Passage 1 is the header's page. */
static void populate_fails(void)
{
    set_fault("arena_populate:2", NULL);
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    uint64_t before = resident_bytes();
    void *pointer = NULL;
    uint64_t live_bytes;
    uint64_t live_count;
    CHILD_EXPECT(epx_arena_alloc(3 * MIB, 64, &pointer) == EPX_ERR_NO_MEMORY);
    epx_arena_usage(&live_bytes, &live_count);
    CHILD_EXPECT(pointer == NULL && live_count == 0);
    CHILD_EXPECT(resident_bytes() == before);
    CHILD_EXPECT(epx_arena_alloc(3 * MIB, 64, &pointer) == EPX_OK);
    memset(pointer, 1, 3 * MIB);
}

/* What lies free is given back, and the allocation tried once more. */
static void populate_fails_with_memory_kept(void)
{
    set_fault("arena_populate:3", NULL);
    void *kept = NULL;
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_alloc(3 * MIB, 64, &kept) == EPX_OK);
    memset(kept, 0xEE, 3 * MIB);
    CHILD_EXPECT(epx_arena_free(kept) == EPX_OK);
    CHILD_EXPECT(resident_bytes() >= 3 * MIB);
    CHILD_EXPECT(epx_arena_alloc(4 * MIB, 64, &pointer) == EPX_OK);
    CHILD_EXPECT(pointer == kept);
    CHILD_EXPECT(resident_bytes() < 5 * MIB);
    for (size_t i = 0; i < 4 * MIB; i++) {
        CHILD_EXPECT(((uint8_t *)pointer)[i] == 0);
    }
}

static void open_fails(void)
{
    set_fault("arena_populate:1", NULL);
    CHILD_EXPECT(epx_arena_open_own() == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
}

static void fault__arena(void **state)
{
    (void)state;
    setenv("EPX_LOG", "none", 1);
    run_in_child(populate_fails);
    run_in_child(populate_fails_with_memory_kept);
    run_in_child(open_fails);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fault__actions),
        cmocka_unit_test(fault__signals),
        cmocka_unit_test(fault__arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

/* Without EPX_FAULTS there are no fault points. */
int main(void)
{
    return 77;
}

#endif
