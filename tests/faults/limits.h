/*
 * Processes under limits: what each call returned goes into a report in shared memory; the parent, which has neither a
 * limit nor a communicator, judges it. A child that does not end, or ends by a signal, fails the test by name.
 */
#ifndef EPX_TESTS_FAULTS_LIMITS_H
#define EPX_TESTS_FAULTS_LIMITS_H

#include "epx/epx.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define LIMIT_WAIT_MS  30000
#define LIMIT_STEP_MAX 64

struct limit_step {
    char name[48];
    int code;
    char text[300];
};

struct limit_report {
    struct limit_step steps[LIMIT_STEP_MAX];
    uint32_t count;
    uint32_t lifted_at; /* steps from here on ran without the limit; UINT32_MAX: none */
    uint64_t ended_ns;  /* of the last step */
    bool unusable;      /* the limit could not be set */
};

/* The sanitizers need address space of their own and end the process when a limit denies it. */
static inline bool limit_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

/* A wish for very much memory is refused, and neither ends the program nor has its shadow filled; and no second of rest
 * at each exit. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=128";
}

__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=128:atexit_sleep_ms=0";
}

static inline uint64_t limit_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void limit_sleep_ms(int64_t ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&span, &span) != 0 && errno == EINTR) {
    }
}

/* Notes a call's code; returns whether it was 0. */
static inline bool limit_note(struct limit_report *report, const char *name, int code, const char *text)
{
    if (report->count < LIMIT_STEP_MAX) {
        struct limit_step *step = &report->steps[report->count++];
        (void)snprintf(step->name, sizeof step->name, "%s", name);
        (void)snprintf(step->text, sizeof step->text, "%s", code != 0 && text != NULL ? text : "");
        step->code = code;
    }
    report->ended_ns = limit_now_ns();
    return code == 0;
}

/* Of epx/epx.h's functions. */
static inline bool limit_note_epx(struct limit_report *report, const char *name, enum epx_status status)
{
    return limit_note(report, name, (int)status, epx_last_error());
}

static inline struct limit_report *limit_reports_create(uint32_t count)
{
    struct limit_report *reports =
        mmap(NULL, count * sizeof *reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(reports, MAP_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        reports[i].lifted_at = UINT32_MAX;
    }
    return reports;
}

static inline void limit_reports_destroy(struct limit_report *reports, uint32_t count)
{
    assert_int_equal(munmap(reports, count * sizeof *reports), 0);
}

/* In the child, first: it does not outlive a test that ends by an assertion, and a fault ends it and not a test. */
static inline void limit_child_begin(pid_t parent)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0] && !limit_sanitized(); i++) {
        (void)signal(faults[i], SIG_DFL);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
}

/* Waits for a child that must end by itself with status 0. */
static inline void limit_child_expect(pid_t pid, const struct limit_report *report, const char *what)
{
    int code = 0;
    pid_t done = 0;
    uint64_t limit_ns = limit_now_ns() + (uint64_t)LIMIT_WAIT_MS * 1000000u;
    while ((done = waitpid(pid, &code, WNOHANG)) == 0 && limit_now_ns() < limit_ns) {
        limit_sleep_ms(1);
    }
    const char *last = report->count == 0 ? "the start" : report->steps[report->count - 1].name;
    if (done == 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &code, 0);
        fail_msg("%s: hangs after %s", what, last);
    }
    if (WIFSIGNALED(code)) {
        fail_msg("%s: signal %d after %s", what, WTERMSIG(code), last);
    }
    if (!WIFEXITED(code) || WEXITSTATUS(code) != 0) {
        fail_msg("%s: exit status %d after %s", what, WEXITSTATUS(code), last);
    }
}

static inline uint32_t limit_failures(const struct limit_report *report)
{
    uint32_t failures = 0;
    for (uint32_t i = 0; i < report->count; i++) {
        failures += report->steps[i].code != 0;
    }
    return failures;
}

/* Every code is 0 or one of `allowed` (ended by 0), with a text; and 0 once the limit is gone. An arena that was opened
 * under a limit on address space keeps its size. */
static inline void limit_report_judge(const struct limit_report *report, const int *allowed, const char *what)
{
    for (uint32_t i = 0; i < report->count; i++) {
        const struct limit_step *step = &report->steps[i];
        bool known = step->code == 0;
        bool limited = i < report->lifted_at || strstr(step->text, "EPX_ARENA_MIB") != NULL;
        for (const int *code = allowed; limited && *code != 0; code++) {
            known = known || step->code == *code;
        }
        if (!known) {
            fail_msg("%s: %s gives %d%s: %s", what, step->name, step->code,
                     i >= report->lifted_at ? " without the limit" : "", step->text);
        }
        if (step->code != 0 && step->text[0] == '\0') {
            fail_msg("%s: %s gives %d without a text", what, step->name, step->code);
        }
    }
}

static inline bool limit_set(int resource, rlim_t amount)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) {
        return false;
    }
    limit.rlim_cur = amount < limit.rlim_max ? amount : limit.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0;
}

/* Pages of a line of /proc/self/status in bytes, 0 when there is none. */
static inline size_t limit_own_bytes(const char *line_name)
{
    char line[256];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, line_name, strlen(line_name)) == 0) {
            kib = strtoul(line + strlen(line_name), NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib * 1024;
}

#endif
