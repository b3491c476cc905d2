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

/* ---- Worlds that come together --------------------------------------------------------------------------------- */

static void join_threads(uint32_t rank_count)
{
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(rank_count);
    run_threads(key, 0, 1, rank_count, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, rank_count);
    free_outcomes(outcomes, rank_count);
    assert_false(name_is_bound(key));
}

static void join_processes(uint32_t process_count, uint32_t rank_count)
{
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(rank_count);
    pid_t *pids = calloc(process_count, sizeof *pids);
    assert_non_null(pids);
    for (uint32_t p = 0; p < process_count; p++) {
        uint32_t step = process_count < rank_count ? process_count : 0;
        pids[p] = fork_ranks(key, p, step, rank_count, PATIENCE_MS, outcomes);
    }
    for (uint32_t p = 0; p < process_count; p++) {
        assert_int_equal(waitpid(pids[p], NULL, 0), pids[p]);
    }
    must_be_ok(outcomes, rank_count);
    free(pids);
    free_outcomes(outcomes, rank_count);
    assert_false(name_is_bound(key));
}

static void join__one_rank(void **state)
{
    (void)state;
    join_threads(1);
}

static void join__threads(void **state)
{
    (void)state;
    join_threads(2);
    join_threads(16);
    join_threads(64);
}

static void join__processes(void **state)
{
    (void)state;
    NEEDS_FORK();
    join_processes(2, 2);
    join_processes(16, 16);
}

static void join__threads_of_several_processes(void **state)
{
    (void)state;
    NEEDS_FORK();
    join_processes(4, 24);
}

/* The shells' usual limit, in each process; EPX_TEST_RANKS=288 makes it a large world. */
static void join__with_few_descriptors(void **state)
{
    (void)state;
    NEEDS_FORK();
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const char *text = getenv("EPX_TEST_RANKS");
    uint32_t rank_count = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : 40;
    struct rlimit few = {.rlim_cur = text != NULL ? 1024 : 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    join_processes(rank_count, rank_count);
    if (text != NULL) {
        join_threads(rank_count);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void join__two_worlds_at_once(void **state)
{
    (void)state;
    uint8_t keys[2][32];
    struct outcome *outcomes[2];
    struct task tasks[2][4];
    for (uint32_t w = 0; w < 2; w++) {
        make_key(keys[w]);
        outcomes[w] = make_outcomes(4);
    }
    for (uint32_t r = 0; r < 4; r++) {
        for (uint32_t w = 0; w < 2; w++) {
            start_thread(&tasks[w][r], make_request(keys[w], r, 4, PATIENCE_MS), &outcomes[w][r]);
        }
    }
    for (uint32_t w = 0; w < 2; w++) {
        for (uint32_t r = 0; r < 4; r++) {
            end_thread(&tasks[w][r]);
        }
        must_be_ok(outcomes[w], 4);
        free_outcomes(outcomes[w], 4);
    }
}

/* A full world closes its epoch: a second one with the same key meets while the first is still in use. */
static void join__same_key_again(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct epx_bootstrap_request request = make_request(key, 0, 1, PATIENCE_MS);
    struct epx_bootstrap_result first;
    struct epx_bootstrap_result second;
    assert_int_equal(epx_bootstrap_join(&request, &first), EPX_OK);
    assert_int_equal(epx_bootstrap_join(&request, &second), EPX_OK);
    assert_ptr_not_equal(first.shared, second.shared);
    memset(first.shared, 1, sizeof(struct board));
    for (size_t i = 0; i < sizeof(struct board); i++) {
        assert_int_equal(((const uint8_t *)second.shared)[i], 0);
    }
    epx_bootstrap_result_fini(&first, 1);
    epx_bootstrap_result_fini(&second, 1);
    struct outcome *outcomes = make_outcomes(4);
    run_threads(key, 0, 1, 4, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, 4);
    run_threads(key, 0, 1, 4, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

/* ---- Refusals -------------------------------------------------------------------------------------------------- */

static void join__duplicate_rank_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    pid_t holder = fork_ranks(key, 0, 0, 3, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    wait_until_joined(key, 3, 1, 0);
    start_thread(&tasks[3], make_request(key, 0, 3, PATIENCE_MS), &outcomes[3]);
    end_thread(&tasks[3]);
    char expected[128];
    (void)snprintf(expected, sizeof expected, WHAT ": rank 0 is held by pid %d", (int)holder);
    must_fail(&outcomes[3], EPX_ERR_RENDEZVOUS, expected);
    for (uint32_t r = 1; r < 3; r++) {
        start_thread(&tasks[r], make_request(key, r, 3, PATIENCE_MS), &outcomes[r]);
    }
    for (uint32_t r = 1; r < 3; r++) {
        end_thread(&tasks[r]);
    }
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    must_be_ok(outcomes, 3);
    free_outcomes(outcomes, 4);
}

/* A rank whose holder has gone is free again, here in the same gathering. */
static void join__rank_of_a_dead_process_is_free(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    start_thread(&tasks[0], make_request(key, 0, 4, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    pid_t holder = fork_ranks(key, 1, 0, 4, PATIENCE_MS, outcomes);
    wait_until_joined(key, 4, 2, 1);
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    start_thread(&tasks[1], make_request(key, 1, 4, PATIENCE_MS), &outcomes[1]);
    start_thread(&tasks[2], make_request(key, 2, 4, PATIENCE_MS), &outcomes[2]);
    start_thread(&tasks[3], make_request(key, 3, 4, PATIENCE_MS), &outcomes[3]);
    for (uint32_t r = 0; r < 4; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

static void join__world_size_mismatch_fails_all(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[3];
    start_thread(&tasks[0], make_request(key, 0, 4, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    start_thread(&tasks[1], make_request(key, 1, 4, PATIENCE_MS), &outcomes[1]);
    wait_until_joined(key, 4, 3, 1);
    start_thread(&tasks[2], make_request(key, 2, 5, PATIENCE_MS), &outcomes[2]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&tasks[r]);
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "world size differs: rank 2 (pid ");
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "says 5, rank 0 (pid ");
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "says 4");
    }
    free_outcomes(outcomes, 3);
}

static void join__region_size_mismatch_fails_all(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    struct epx_bootstrap_request other = make_request(key, 1, 2, PATIENCE_MS);
    other.shared_bytes = 4096;
    start_thread(&tasks[1], other, &outcomes[1]);
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&tasks[r]);
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "control region size differs: rank 1");
    }
    free_outcomes(outcomes, 2);
}

static void join__bad_requests(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct epx_bootstrap_result result;
    struct epx_bootstrap_request request = make_request(key, 0, 0, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    request = make_request(key, 0, 4097, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    request = make_request(key, 3, 3, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), WHAT ": rank is 3, must be in [0, 3)");
    request.rank = 0;
    request.shared_bytes = 0;
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
}

/* ---- Time-outs ------------------------------------------------------------------------------------------------- */

/* Ranks 1, 4 and 5 stay away. The ranks come one after another, so the centre gives up before all the others. */
static void join__missing_ranks_are_named_by_all(void **state)
{
    (void)state;
    static const uint32_t present[] = {0, 2, 3, 6};
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    uint64_t begin = epx_clock_ns();
    for (uint32_t i = 0; i < 4; i++) {
        start_thread(&tasks[i], make_request(key, present[i], 7, 1500), &outcomes[i]);
        (void)usleep(100000);
    }
    for (uint32_t i = 0; i < 4; i++) {
        end_thread(&tasks[i]);
    }
    uint64_t span_ms = (epx_clock_ns() - begin) / 1000000u;
    assert_in_range(span_ms, 1500, 10000);
    for (uint32_t i = 0; i < 4; i++) {
        must_fail(&outcomes[i], EPX_ERR_JOIN_TIMEOUT,
                  "3 of 7 ranks have not joined " WHAT " within 1.5 s: missing ranks 1, 4-5");
    }
    free_outcomes(outcomes, 4);
    assert_false(name_is_bound(key));
}

/* Each rank keeps its own deadline: one that gives up early leaves the others waiting, even when it was the centre. */
static void join__impatient_centre_does_not_fail_the_others(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[3];
    struct outcome early = {.status = EPX_ERR_INTERNAL};
    start_thread(&tasks[0], make_request(key, 0, 3, 400), &early);
    wait_until_bound(key);
    start_thread(&tasks[1], make_request(key, 1, 3, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    must_fail(&early, EPX_ERR_JOIN_TIMEOUT, "1 of 3 ranks has not joined " WHAT " within 0.4 s: missing rank 2");
    start_thread(&tasks[2], make_request(key, 2, 3, PATIENCE_MS), &outcomes[2]);
    start_thread(&tasks[0], make_request(key, 0, 3, PATIENCE_MS), &outcomes[0]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 3);
    free_outcomes(outcomes, 3);
}

static void join__stopped_centre_does_not_hold_the_others(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task task;
    pid_t centre = fork_ranks(key, 0, 0, 2, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    assert_int_equal(kill(centre, SIGSTOP), 0);
    start_thread(&task, make_request(key, 1, 2, 500), &outcomes[1]);
    end_thread(&task);
    char expected[256];
    (void)snprintf(expected, sizeof expected,
                   "1 of 2 ranks has not joined " WHAT " within 0.5 s: missing rank 0; the meeting point is held by "
                   "pid %d, which does not answer",
                   (int)centre);
    must_fail(&outcomes[1], EPX_ERR_JOIN_TIMEOUT, expected);
    assert_int_equal(kill(centre, SIGKILL), 0);
    assert_int_equal(waitpid(centre, NULL, 0), centre);
    free_outcomes(outcomes, 2);
}

/* ---- Deaths, failures and strangers ---------------------------------------------------------------------------- */

static void join__killed_centre_is_replaced(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(5);
    struct task tasks[5];
    pid_t centre = fork_ranks(key, 0, 0, 5, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    for (uint32_t r = 1; r < 3; r++) {
        start_thread(&tasks[r], make_request(key, r, 5, PATIENCE_MS), &outcomes[r]);
    }
    wait_until_joined(key, 5, 3, 1);
    wait_until_joined(key, 5, 3, 2);
    assert_int_equal(kill(centre, SIGKILL), 0);
    assert_int_equal(waitpid(centre, NULL, 0), centre);
    start_thread(&tasks[0], make_request(key, 0, 5, PATIENCE_MS), &outcomes[0]);
    start_thread(&tasks[3], make_request(key, 3, 5, PATIENCE_MS), &outcomes[3]);
    start_thread(&tasks[4], make_request(key, 4, 5, PATIENCE_MS), &outcomes[4]);
    for (uint32_t r = 0; r < 5; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 5);
    free_outcomes(outcomes, 5);
}

struct crowd { /* ranks 0 and 1 of 3 as threads; rank 2 is played by hand */
    uint8_t key[32];
    struct outcome *outcomes;
    struct task tasks[3];
    int fd;
};

static void start_crowd(struct crowd *crowd, int64_t timeout_ms)
{
    make_key(crowd->key);
    crowd->outcomes = make_outcomes(3);
    start_thread(&crowd->tasks[0], make_request(crowd->key, 0, 3, timeout_ms), &crowd->outcomes[0]);
    wait_until_bound(crowd->key);
    start_thread(&crowd->tasks[1], make_request(crowd->key, 1, 3, timeout_ms), &crowd->outcomes[1]);
    crowd->fd = raw_connect(crowd->key);
    raw_hello(crowd->fd, 2, 3);
    assert_int_equal(raw_receive(crowd->fd), EPX_BOOT_ASSEMBLED);
}

static void join__failure_of_one_rank_is_told_to_all(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, PATIENCE_MS);
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_FAILURE);
    message.body.failure.status = EPX_ERR_NO_MEMORY;
    (void)snprintf(message.body.failure.text, sizeof message.body.failure.text, "no address space");
    assert_int_equal(epx_boot_send(crowd.fd, &message, NULL, 0), 0);
    char expected[128];
    (void)snprintf(expected, sizeof expected, WHAT ": rank 2 (pid %d): no address space", (int)getpid());
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&crowd.tasks[r]);
        must_fail(&crowd.outcomes[r], EPX_ERR_NO_MEMORY, expected);
    }
    epx_boot_close(crowd.fd);
    free_outcomes(crowd.outcomes, 3);
}

static void join__death_while_mapping_is_made_good(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, PATIENCE_MS);
    (void)usleep(100000);
    epx_boot_close(crowd.fd);
    start_thread(&crowd.tasks[2], make_request(crowd.key, 2, 3, PATIENCE_MS), &crowd.outcomes[2]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&crowd.tasks[r]);
    }
    must_be_ok(crowd.outcomes, 3);
    free_outcomes(crowd.outcomes, 3);
}

static void join__nobody_succeeds_without_all_mapped(void **state)
{
    (void)state;
    struct crowd crowd;
    start_crowd(&crowd, 700);
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&crowd.tasks[r]);
    }
    /* Whoever ends second may find the gathering of a new attempt; rank 2 is to blame in either case. */
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(crowd.outcomes[r].status, EPX_ERR_JOIN_TIMEOUT);
    }
    assert_true(strstr(crowd.outcomes[0].text, "late ranks 2") != NULL ||
                strstr(crowd.outcomes[1].text, "late ranks 2") != NULL);
    epx_boot_close(crowd.fd);
    free_outcomes(crowd.outcomes, 3);
}

static void join__messages_out_of_turn_drop_the_rank(void **state)
{
    (void)state;
    static const enum epx_boot_kind kinds[] = {EPX_BOOT_GET_ROSTER, EPX_BOOT_WANT,      EPX_BOOT_MAPPED,
                                               EPX_BOOT_COMPLETE,   EPX_BOOT_ASSEMBLED, EPX_BOOT_QUERY};
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct epx_boot_message message;
        int fd = raw_connect(key);
        epx_boot_message_init(&message, kinds[i]);
        message.body.items.count = 1;
        if (kinds[i] != EPX_BOOT_QUERY) {
            message.body.get_roster.first = 1;
        }
        assert_int_equal(epx_boot_send(fd, &message, NULL, 0), 0);
        assert_int_equal(raw_receive(fd), 0);
        epx_boot_close(fd);
    }
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

static void join__garbage_is_dropped(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 48, 524, 1040, 5000};
    uint8_t key[32];
    uint8_t garbage[5000];
    make_key(key);
    memset(garbage, 0xa5, sizeof garbage);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int fd = raw_connect(key);
        assert_int_equal(send(fd, garbage, sizes[i], MSG_NOSIGNAL), (ssize_t)sizes[i]);
        assert_int_equal(raw_receive(fd), 0);
        epx_boot_close(fd);
    }
    /* A hello without its arena. */
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello = (struct epx_boot_hello){.rank = 1, .rank_count = 2, .shared_bytes = sizeof(struct board)};
    int fd = raw_connect(key);
    assert_int_equal(epx_boot_send(fd, &message, NULL, 0), 0);
    assert_int_equal(raw_receive(fd), 0);
    epx_boot_close(fd);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

/* Says hello as rank 1 with the arena of rank 0's process: one death would stand for two processes, or for none. */
static int pose_with_arena(const uint8_t key[32], const struct epx_arena_id *id, int arena_fd)
{
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello = (struct epx_boot_hello){
        .rank = 1, .rank_count = 2, .shared_bytes = sizeof(struct board), .pid = (uint32_t)getpid(), .arena = *id};
    int fd = raw_connect(key);
    if (epx_boot_send(fd, &message, &arena_fd, 1) != 0) {
        return 2;
    }
    return raw_receive(fd) == 0 ? 0 : 1;
}

static void join__arena_of_another_process_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    struct epx_arena_id id;
    int arena_fd;
    uint64_t reserve_bytes;
    make_key(key);
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    epx_arena_own_info(&id, &arena_fd, &reserve_bytes);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(pose_with_arena(key, &id, STDERR_FILENO));
    }
    int code = 0;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_int_equal(code, 0);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 2);
}

/* Another user has taken the name: said at once, and to whom it belongs. */
static void join__meeting_point_of_another_user_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    if (geteuid() != 0) {
        skip();
    }
    uint8_t key[32];
    struct epx_boot_name name;
    make_key(key);
    epx_boot_name_make(key, &name);
    struct outcome *outcomes = make_outcomes(1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(60);
        if (setuid(65534) == 0 && epx_boot_listen(&name, 16) >= 0) {
            pause();
        }
        _exit(1);
    }
    wait_until_bound(key);
    struct task task;
    start_thread(&task, make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    end_thread(&task);
    char expected[128];
    (void)snprintf(expected, sizeof expected, "the meeting point is held by user 65534 (pid %d), this is user 0",
                   (int)pid);
    must_fail(&outcomes[0], EPX_ERR_RENDEZVOUS, expected);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    free_outcomes(outcomes, 1);
}

/* More silent connections than the centre takes: they are dropped and the ranks behind them get their turn. */
static void join__silent_connections_are_dropped(void **state)
{
    (void)state;
    enum { SILENT = 100 };
    uint8_t key[32];
    int fds[SILENT];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    uint64_t begin = epx_clock_ns();
    struct epx_boot_name name;
    epx_boot_name_make(key, &name);
    fds[0] = raw_connect(key);
    for (int i = 1; i < SILENT; i++) {
        fds[i] = epx_boot_connect(&name);
    }
    assert_int_equal(raw_receive(fds[0]), 0);
    assert_in_range((epx_clock_ns() - begin) / 1000000u, 1900, 30000);
    start_thread(&tasks[1], make_request(key, 1, 2, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    for (int i = 0; i < SILENT; i++) {
        if (fds[i] >= 0) {
            epx_boot_close(fds[i]);
        }
    }
    free_outcomes(outcomes, 2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join__processes),
        WATCHED(join__one_rank),
        WATCHED(join__threads),
        WATCHED(join__threads_of_several_processes),
        WATCHED(join__with_few_descriptors),
        WATCHED(join__two_worlds_at_once),
        WATCHED(join__same_key_again),
        WATCHED(join__duplicate_rank_is_refused),
        WATCHED(join__rank_of_a_dead_process_is_free),
        WATCHED(join__world_size_mismatch_fails_all),
        WATCHED(join__region_size_mismatch_fails_all),
        WATCHED(join__bad_requests),
        WATCHED(join__missing_ranks_are_named_by_all),
        WATCHED(join__impatient_centre_does_not_fail_the_others),
        WATCHED(join__stopped_centre_does_not_hold_the_others),
        WATCHED(join__killed_centre_is_replaced),
        WATCHED(join__failure_of_one_rank_is_told_to_all),
        WATCHED(join__death_while_mapping_is_made_good),
        WATCHED(join__nobody_succeeds_without_all_mapped),
        WATCHED(join__messages_out_of_turn_drop_the_rank),
        WATCHED(join__garbage_is_dropped),
        WATCHED(join__silent_connections_are_dropped),
        WATCHED(join__arena_of_another_process_is_refused),
        WATCHED(join__meeting_point_of_another_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
