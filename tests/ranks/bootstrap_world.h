/*
 * Worlds for the tests of the bootstrap: ranks as threads and processes, a client by hand, and a look at what is left.
 * Included by one file a program; not every program uses everything.
 */
#ifndef EPX_TESTS_BOOTSTRAP_WORLD_H
#define EPX_TESTS_BOOTSTRAP_WORLD_H

#pragma GCC diagnostic ignored "-Wunused-function"

#include "comm/bootstrap.h"

#include "base/clock.h"
#include "comm/bootstrap_shared.h"
#include "comm/bootstrap_socket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS_MAX   512
#define PATIENCE_MS 60000
#define WHAT        "the test world"

/* The control region of the tests. Writer of each slot: its rank. */
struct board {
    _Atomic uint32_t arrived[2];
    struct {
        uint64_t offset; /* of a 64-byte note in the rank's arena */
        uint64_t pid;
    } slots[RANKS_MAX];
};

struct outcome { /* of one rank; in memory that forked children share */
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
    char defect[128]; /* what a successful join got wrong */
};

/* The thread sanitizer does not support threads in a child that was forked from a process with threads. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CANNOT_FORK 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CANNOT_FORK 1
#endif
#ifdef CANNOT_FORK
#define NEEDS_FORK() skip()
#else
#define NEEDS_FORK() ((void)0)
#endif

struct task { /* one rank as a thread */
    struct epx_bootstrap_request request;
    struct outcome *outcome;
    pthread_t thread;
};

/* ---- Running ranks --------------------------------------------------------------------------------------------- */

static void make_key(uint8_t key[32])
{
    static uint32_t counter;
    const uint64_t parts[4] = {0x7e57, (uint64_t)getpid(), ++counter, epx_clock_ns()};
    memcpy(key, parts, 32);
}

static struct epx_bootstrap_request make_request(const uint8_t key[32], uint32_t rank, uint32_t rank_count,
                                                 int64_t timeout_ms)
{
    struct epx_bootstrap_request request = {.rank = rank,
                                            .rank_count = rank_count,
                                            .shared_bytes = sizeof(struct board),
                                            .timeout_ms = timeout_ms,
                                            .what = WHAT};
    memcpy(request.key, key, 32);
    return request;
}

static struct outcome *make_outcomes(uint32_t count)
{
    void *memory =
        mmap(NULL, count * sizeof(struct outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    struct outcome *outcomes = memory;
    for (uint32_t i = 0; i < count; i++) {
        outcomes[i].status = EPX_ERR_INTERNAL;
    }
    return outcomes;
}

static void free_outcomes(struct outcome *outcomes, uint32_t count)
{
    (void)munmap(outcomes, count * sizeof(struct outcome));
}

static bool wait_for_all(_Atomic uint32_t *counter, uint32_t count)
{
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    atomic_fetch_add(counter, 1);
    while (atomic_load(counter) < count) {
        if (epx_clock_ns() > deadline) {
            return false;
        }
        (void)usleep(1000);
    }
    return true;
}

/* Atomic for the thread sanitizer alone: it does not see that two mappings of the board are the same memory. */
static void write_note(_Atomic uint64_t note[8], uint32_t rank)
{
    for (uint64_t i = 0; i < 8; i++) {
        atomic_store(&note[i], 1000 * (uint64_t)rank + i);
    }
}

static bool is_note_of(const _Atomic uint64_t *note, uint32_t rank)
{
    bool same = note != NULL;
    for (uint64_t i = 0; same && i < 8; i++) {
        same = atomic_load(&note[i]) == 1000 * (uint64_t)rank + i;
    }
    return same;
}

/* Each rank leaves a note in its arena and reads all the others': region and arenas are those of this world. */
static const char *exchange_notes(const struct epx_bootstrap_request *request, struct epx_bootstrap_result *result,
                                  void *note)
{
    struct board *board = result->shared;
    uint64_t offset = 0;
    if (result->shared_bytes != sizeof *board) {
        return "wrong shared_bytes";
    }
    write_note(note, request->rank);
    if (!epx_arena_offset_of(note, 64, &offset)) {
        return "the note is not in the arena";
    }
    board->slots[request->rank].offset = offset;
    board->slots[request->rank].pid = (uint64_t)getpid();
    if (!wait_for_all(&board->arrived[0], request->rank_count)) {
        return "not all ranks share the control region";
    }
    const char *defect = NULL;
    for (uint32_t r = 0; r < request->rank_count; r++) {
        if (!is_note_of(epx_arena_at(result->arenas[r], board->slots[r].offset, 64), r)) {
            defect = "an arena is not that of its rank";
        } else if (epx_arena_owner_pid(result->arenas[r]) != board->slots[r].pid) {
            defect = "an arena is not of its rank's process";
        }
    }
    return wait_for_all(&board->arrived[1], request->rank_count) ? defect : "a rank vanished";
}

static void run_rank(const struct epx_bootstrap_request *request, struct outcome *outcome)
{
    struct epx_bootstrap_result result;
    void *note = NULL;
    if (epx_arena_alloc(64, 64, &note) != EPX_OK) {
        (void)snprintf(outcome->text, sizeof outcome->text, "%s", epx_error_text());
        return;
    }
    enum epx_status status = epx_bootstrap_join(request, &result);
    if (status == EPX_OK) {
        const char *defect = exchange_notes(request, &result, note);
        (void)snprintf(outcome->defect, sizeof outcome->defect, "%s", defect != NULL ? defect : "");
        epx_bootstrap_result_fini(&result, request->rank_count);
    } else {
        (void)snprintf(outcome->text, sizeof outcome->text, "%s", epx_error_text());
    }
    if (epx_arena_free(note) != EPX_OK) {
        (void)snprintf(outcome->defect, sizeof outcome->defect, "the note cannot be freed");
    }
    outcome->status = status;
}

static void *run_task(void *argument)
{
    struct task *task = argument;
    run_rank(&task->request, task->outcome);
    return NULL;
}

static void start_thread(struct task *task, struct epx_bootstrap_request request, struct outcome *outcome)
{
    task->request = request;
    task->outcome = outcome;
    if (pthread_create(&task->thread, NULL, run_task, task) != 0) {
        abort();
    }
}

static void end_thread(struct task *task)
{
    if (pthread_join(task->thread, NULL) != 0) {
        abort();
    }
}

/* Ranks first, first + step, … below rank_count as threads; returns when all have ended. */
static void run_threads(const uint8_t key[32], uint32_t first, uint32_t step, uint32_t rank_count, int64_t timeout_ms,
                        struct outcome *outcomes)
{
    struct task *tasks = calloc(rank_count, sizeof *tasks);
    if (tasks == NULL) {
        abort();
    }
    for (uint32_t r = first; r < rank_count; r += step) {
        start_thread(&tasks[r], make_request(key, r, rank_count, timeout_ms), &outcomes[r]);
    }
    for (uint32_t r = first; r < rank_count; r += step) {
        end_thread(&tasks[r]);
    }
    free(tasks);
}

/* A child process with the ranks first, first + step, … as threads, or with the rank `first` alone when step is 0. */
static pid_t fork_ranks(const uint8_t key[32], uint32_t first, uint32_t step, uint32_t rank_count, int64_t timeout_ms,
                        struct outcome *outcomes)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct epx_bootstrap_request request = make_request(key, first, rank_count, timeout_ms);
        if (step == 0) {
            run_rank(&request, &outcomes[first]);
        } else {
            run_threads(key, first, step, rank_count, timeout_ms, outcomes);
        }
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void must_be_ok(const struct outcome *outcomes, uint32_t count)
{
    for (uint32_t r = 0; r < count; r++) {
        if (outcomes[r].status != EPX_OK || outcomes[r].defect[0] != '\0') {
            fail_msg("rank %u: status %d, %s%s", r, (int)outcomes[r].status, outcomes[r].text, outcomes[r].defect);
        }
    }
}

static void must_fail(const struct outcome *outcome, enum epx_status status, const char *fragment)
{
    if (outcome->status != status || strstr(outcome->text, fragment) == NULL) {
        fail_msg("status %d instead of %d, text \"%s\" without \"%s\"", (int)outcome->status, (int)status,
                 outcome->text, fragment);
    }
}

static int count_entries(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    int count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return count;
}

static bool name_is_bound(const uint8_t key[32])
{
    struct epx_boot_name name;
    char line[256];
    bool found = false;
    epx_boot_name_make(key, &name);
    FILE *file = fopen("/proc/net/unix", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        found = found || strstr(line, name.text) != NULL;
    }
    (void)fclose(file);
    return found;
}

static void wait_until_bound(const uint8_t key[32])
{
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    while (!name_is_bound(key)) {
        assert_true(epx_clock_ns() < deadline);
        (void)usleep(1000);
    }
}

/* ---- A client by hand ------------------------------------------------------------------------------------------ */

static int raw_connect(const uint8_t key[32])
{
    struct epx_boot_name name;
    epx_boot_name_make(key, &name);
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    int fd = epx_boot_connect(&name);
    while (fd < 0 && epx_clock_ns() < deadline) {
        (void)usleep(1000);
        fd = epx_boot_connect(&name);
    }
    assert_true(fd >= 0);
    return fd;
}

static void raw_hello(int fd, uint32_t rank, uint32_t rank_count)
{
    struct epx_boot_message message;
    uint64_t reserve;
    int arena_fd;
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello.rank = rank;
    message.body.hello.rank_count = rank_count;
    message.body.hello.shared_bytes = sizeof(struct board);
    message.body.hello.pid = (uint32_t)getpid();
    epx_arena_own_info(&message.body.hello.arena, &arena_fd, &reserve);
    assert_int_equal(epx_boot_send(fd, &message, &arena_fd, 1), 0);
}

/* The kind of the next message, 0 at the end. */
static uint32_t raw_receive(int fd)
{
    struct epx_boot_packet packet;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
        int result = epx_boot_receive(fd, &packet);
        if (result == 1) {
            epx_boot_packet_close(&packet);
            return packet.message.kind;
        }
        if (result != -EAGAIN) {
            return 0;
        }
    }
}

/* Waits until `rank` has joined: says hello as `probe`, with at least one rank still away, asks who is
 * missing, and leaves. */
static void wait_until_joined(const uint8_t key[32], uint32_t rank_count, uint32_t probe, uint32_t rank)
{
    struct epx_boot_message query;
    struct epx_boot_packet packet;
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    int fd = raw_connect(key);
    raw_hello(fd, probe, rank_count);
    epx_boot_message_init(&query, EPX_BOOT_QUERY);
    do {
        assert_true(epx_clock_ns() < deadline);
        assert_int_equal(epx_boot_send(fd, &query, NULL, 0), 0);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
        assert_int_equal(epx_boot_receive(fd, &packet), 1);
        assert_int_equal(packet.message.kind, EPX_BOOT_MISSING);
    } while (epx_boot_set_has(packet.message.body.missing.ranks, rank));
    epx_boot_close(fd);
}

/* ---- Nothing left ---------------------------------------------------------------------------------------------- */

static int descriptors_before;
static int threads_before;

/* The arena with its descriptor and watch thread stays; it is opened first. */
static int note_resources(void **state)
{
    (void)state;
    void *memory;
    if (epx_arena_alloc(64, 64, &memory) != EPX_OK || epx_arena_free(memory) != EPX_OK) {
        return -1;
    }
    descriptors_before = count_entries("/proc/self/fd");
    threads_before = count_entries("/proc/self/task");
    return 0;
}

static int compare_resources(void **state)
{
    (void)state;
    int descriptors = count_entries("/proc/self/fd");
    int threads = count_entries("/proc/self/task");
    if (descriptors != descriptors_before || threads != threads_before) {
        print_error("left behind: %d descriptors, %d threads\n", descriptors - descriptors_before,
                    threads - threads_before);
        return -1;
    }
    return 0;
}

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, note_resources, compare_resources)

#endif
