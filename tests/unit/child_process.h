/*
 * Tests that need a process of their own: a function runs in a forked child and tells by its exit whether all was well.
 */
#ifndef EPX_TESTS_CHILD_PROCESS_H
#define EPX_TESTS_CHILD_PROCESS_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"

/* In the child: says what is wrong, and ends it. */
#define CHILD_EXPECT(condition)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s is false; last error: %s\n", __FILE__, __LINE__, #condition, epx_error_text()); \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static inline void expect_good_exit(pid_t pid)
{
    int result = 0;
    assert_int_equal(waitpid(pid, &result, 0), pid);
    if (!WIFEXITED(result) || WEXITSTATUS(result) != 0) {
        fail_msg("the child ended with wait status 0x%x", (unsigned)result);
    }
}

static inline void run_in_child(void (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        body();
        _exit(0);
    }
    expect_good_exit(pid);
}

/* The sanitizers need address space of their own and end the process when a limit denies it. */
static inline int address_space_can_be_limited(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return 0;
#else
    return 1;
#endif
#else
    return 1;
#endif
}

#endif
