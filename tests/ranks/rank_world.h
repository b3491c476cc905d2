/*
 * A world of test ranks: each a process of its own, or all threads of one process. What a rank finds out goes into its
 * report in shared memory; the test itself asserts in the parent, which never has a communicator.
 */
#ifndef EPX_TESTS_RANK_WORLD_H
#define EPX_TESTS_RANK_WORLD_H

#include "base/clock.h"
#include "comm/comm.h"
#include "comm/completion.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WORLD_RANK_MAX 16u

/* Sanitizers slow the ranks down; the bounds of the tests move with them. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define WORLD_SLOWNESS 4u
#else
#define WORLD_SLOWNESS 1u
#endif

/* A rank that found something wrong, or did not end: no test waits longer. */
#define WORLD_LIMIT_MS (60000u * WORLD_SLOWNESS)

struct rank_report {
    int wrong_line; /* of the check that failed, 0 when none */
    int status;
    char text[EPX_ERROR_TEXT_BYTES];
    char blame[EPX_ERROR_TEXT_BYTES];
    uint64_t failed_ns;      /* when the rank saw the failure */
    _Atomic uint64_t rounds; /* completed */
    pid_t pid;
};

struct world {
    uint8_t key[32];
    uint32_t rank_count;
    int64_t op_timeout_ms;
    uint64_t round_count;
    int variant;
    _Atomic uint32_t stage; /* the scenario's own */
    struct rank_report reports[WORLD_RANK_MAX];
};

typedef void (*world_main)(struct world *world, uint32_t rank);

/* In a rank: notes the line and ends the rank's function. */
#define RANK_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            world->reports[rank].wrong_line = __LINE__;                                                                \
            (void)fprintf(stderr, "rank %u: line %d: %s (%s)\n", rank, __LINE__, #condition, epx_error_text());        \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static inline void sleep_us(uint64_t us)
{
    struct timespec time = {.tv_sec = (time_t)(us / 1000000u), .tv_nsec = (long)(us % 1000000u) * 1000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

static inline uint32_t random_below(uint32_t *seed, uint32_t limit)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)*seed * limit) >> 32);
}

static inline struct world *world_create(uint32_t rank_count, int64_t op_timeout_ms)
{
    struct world *world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(world, MAP_FAILED);
    assert_int_equal(getrandom(world->key, sizeof world->key, 0), sizeof world->key);
    world->rank_count = rank_count;
    world->op_timeout_ms = op_timeout_ms;
    return world;
}

static inline void world_destroy(struct world *world)
{
    assert_int_equal(munmap(world, sizeof *world), 0);
}

static inline enum epx_status world_open(const struct world *world, uint32_t rank, struct epx_comm **comm)
{
    struct epx_comm_spec spec = {
        .name = "test",
        .rank = rank,
        .rank_count = world->rank_count,
        .join_timeout_ms = 30000,
        .op_timeout_ms = world->op_timeout_ms,
        .what = "test world",
    };
    memcpy(spec.key, world->key, sizeof spec.key);
    return epx_comm_open(&spec, comm);
}

static inline void world_note_failure(struct world *world, uint32_t rank, enum epx_status status)
{
    struct rank_report *report = &world->reports[rank];
    report->failed_ns = epx_clock_ns();
    report->status = (int)status;
    (void)snprintf(report->text, sizeof report->text, "%s", epx_error_text());
}

static inline void world_start(struct world *world, world_main run)
{
    pid_t parent = getpid();
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            /* No rank outlives a test that ends by an assertion. */
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) {
                _exit(1);
            }
            run(world, rank);
            _exit(0);
        }
        world->reports[rank].pid = pid;
    }
}

/* Collects the ranks' processes. `killed` is the rank that was killed on purpose, UINT32_MAX for none. */
static inline void world_finish(struct world *world, uint32_t killed)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        int code = 0;
        pid_t done = 0;
        while ((done = waitpid(world->reports[rank].pid, &code, WNOHANG)) == 0 && epx_clock_ns() < deadline_ns) {
            sleep_us(500);
        }
        if (done == 0) {
            (void)kill(world->reports[rank].pid, SIGKILL);
            (void)waitpid(world->reports[rank].pid, &code, 0);
            fail_msg("rank %u did not end", rank);
        }
        if (rank == killed) {
            assert_true(WIFSIGNALED(code));
        } else {
            assert_true(WIFEXITED(code));
            assert_int_equal(WEXITSTATUS(code), 0);
        }
        assert_int_equal(world->reports[rank].wrong_line, 0);
    }
}

static inline void world_run(struct world *world, world_main run)
{
    world_start(world, run);
    world_finish(world, UINT32_MAX);
}

struct world_thread {
    struct world *world;
    world_main run;
    uint32_t rank;
};

static inline void *world_thread_main(void *context)
{
    struct world_thread *thread = context;
    thread->run(thread->world, thread->rank);
    return NULL;
}

/* All ranks as threads of one child process. */
static inline void world_run_threads(struct world *world, world_main run)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t ids[WORLD_RANK_MAX];
        struct world_thread threads[WORLD_RANK_MAX];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(WORLD_LIMIT_MS / 1000);
        for (uint32_t rank = 0; rank < world->rank_count; rank++) {
            threads[rank] = (struct world_thread){.world = world, .run = run, .rank = rank};
            if (pthread_create(&ids[rank], NULL, world_thread_main, &threads[rank]) != 0) {
                _exit(1);
            }
        }
        for (uint32_t rank = 0; rank < world->rank_count; rank++) {
            (void)pthread_join(ids[rank], NULL);
        }
        exit(0);
    }
    int code = 0;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code));
    assert_int_equal(WEXITSTATUS(code), 0);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        assert_int_equal(world->reports[rank].wrong_line, 0);
    }
}

/* Waits until *counter has reached `value`. */
static inline void world_await(const _Atomic uint64_t *counter, uint64_t value)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    while (atomic_load(counter) < value) {
        assert_true(epx_clock_ns() < deadline_ns);
        sleep_us(200);
    }
}

/* A whole round without data. */
static inline enum epx_status world_round(struct epx_comm *comm, enum epx_operation operation)
{
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    EPX_TRY(epx_round_begin(&round, comm, epx_round_reserve(comm), operation));
    EPX_TRY(epx_round_enter(&round, &agreement, NULL, 0, NULL));
    EPX_TRY(epx_round_step(&round, EPX_PHASE_ROWS));
    EPX_TRY(epx_round_step(&round, EPX_PHASE_DONE));
    epx_round_end(&round);
    return EPX_OK;
}

#endif
