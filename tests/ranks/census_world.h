/*
 * Worlds for the tests of the census: ranks as threads and processes that claim to be on several hosts, a connection by
 * hand, and a look at what is left. Included by one file a program; not every program uses everything.
 */
#ifndef EPX_TESTS_CENSUS_WORLD_H
#define EPX_TESTS_CENSUS_WORLD_H

#pragma GCC diagnostic ignored "-Wunused-function"

#include "comm/census.h"

#include "base/clock.h"
#include "base/sanitizer.h"
#include "comm/census_reach.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 60000
#define WHAT        "the test world"
#define PORT_COUNT  4
#define RANKS_MAX   512

/* The thread sanitizer does not support threads in a child that was forked from a process with threads. */
#define NEEDS_FORK()                                                                                                   \
    do {                                                                                                               \
        if (EPX_THREAD_SANITIZER) {                                                                                    \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

struct world {
    uint8_t key[32];
    struct epx_meeting meeting;
    uint32_t rank_count;
    uint8_t host_tags[RANKS_MAX]; /* by rank; ranks with equal tags are on one host */
};

struct outcome { /* of one rank; in memory that forked children share */
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
    char defect[128]; /* what a successful census got wrong */
};

struct task { /* one rank as a thread */
    struct world world;
    uint32_t rank;
    int64_t timeout_ms;
    struct outcome *outcome;
    pthread_t thread;
};

/* ---- Worlds ---------------------------------------------------------------------------------------------------- */

/* A port of the loopback device that nobody uses just now. */
static uint16_t pick_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    assert_int_equal(close(fd), 0);
    return ntohs(address.sin_port);
}

static struct world make_world(uint32_t rank_count)
{
    static uint32_t counter;
    struct world world = {.rank_count = rank_count};
    const uint64_t parts[4] = {0xce9505, (uint64_t)getpid(), ++counter, epx_clock_ns()};
    memcpy(world.key, parts, sizeof world.key);
    world.meeting.root.v4.sin_family = AF_INET;
    world.meeting.root.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    world.meeting.port_count = PORT_COUNT;
    for (uint32_t p = 0; p < PORT_COUNT; p++) {
        world.meeting.ports[p] = pick_port();
    }
    return world;
}

static uint32_t card_bytes_of(uint32_t rank)
{
    return rank % 5 == 3 ? 0 : rank % 7 == 1 ? EPX_CENSUS_CARD_BYTES_MAX : 40 + rank % 100;
}

static uint8_t card_byte_of(uint32_t rank, uint32_t i)
{
    return (uint8_t)(rank * 31 + i * 7 + 1);
}

static struct epx_census_request make_request(const struct world *world, uint32_t rank, int64_t timeout_ms,
                                              uint8_t card[EPX_CENSUS_CARD_BYTES_MAX])
{
    struct epx_census_request request = {.rank = rank,
                                         .rank_count = world->rank_count,
                                         .timeout_ms = timeout_ms,
                                         .what = WHAT,
                                         .meeting = world->meeting,
                                         .card = card,
                                         .card_bytes = card_bytes_of(rank)};
    memcpy(request.key, world->key, sizeof request.key);
    request.host_id[7] = world->host_tags[rank];
    (void)snprintf(request.host_name, sizeof request.host_name, "node%u", world->host_tags[rank]);
    for (uint32_t i = 0; i < request.card_bytes; i++) {
        card[i] = card_byte_of(rank, i);
    }
    return request;
}

/* ---- Judging a census ------------------------------------------------------------------------------------------ */

static bool transfer(int fd, void *data, size_t bytes, bool out)
{
    uint64_t deadline = epx_deadline_after_ms(PATIENCE_MS);
    size_t done = 0;
    while (done < bytes && epx_clock_ns() < deadline) {
        struct pollfd poll_fd = {.fd = fd, .events = out ? POLLOUT : POLLIN};
        (void)poll(&poll_fd, 1, 1000);
        ssize_t moved = out ? send(fd, (char *)data + done, bytes - done, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(fd, (char *)data + done, bytes - done, MSG_DONTWAIT);
        if (moved == 0 || (moved < 0 && errno != EAGAIN)) {
            return false;
        }
        done += moved > 0 ? (size_t)moved : 0;
    }
    return done == bytes;
}

/* Rank 0 says each leader's host, the leader answers with its rank. */
static const char *try_links(const struct epx_census *census, uint32_t rank, const uint32_t *leaders)
{
    uint32_t host = census->members[rank].host;
    if (leaders[host] != rank) {
        return census->links != NULL || census->link_count != 0 ? "links of no leader" : NULL;
    }
    if (rank != 0) {
        uint32_t said = 0;
        bool fine = census->link_count == 1 && transfer(census->links[0], &said, sizeof said, false) && said == host &&
                    transfer(census->links[0], &rank, sizeof rank, true);
        return fine ? NULL : "the link to rank 0 does not work";
    }
    if (census->link_count != census->host_count || census->links[0] != -1) {
        return "wrong number of links";
    }
    for (uint32_t h = 1; h < census->host_count; h++) {
        uint32_t answer = 0;
        if (!transfer(census->links[h], &h, sizeof h, true) ||
            !transfer(census->links[h], &answer, sizeof answer, false) || answer != leaders[h]) {
            return "a link to a leader does not work";
        }
    }
    return NULL;
}

static const char *judge(const struct world *world, uint32_t rank, const struct epx_census *census)
{
    uint32_t leaders[RANKS_MAX];
    uint32_t host_count = 0;
    if (census->rank_count != world->rank_count) {
        return "wrong rank_count";
    }
    for (uint32_t r = 0; r < world->rank_count; r++) {
        const struct epx_census_member *member = &census->members[r];
        uint32_t host = 0;
        while (host < host_count && world->host_tags[leaders[host]] != world->host_tags[r]) {
            host++;
        }
        if (host == host_count) {
            leaders[host_count++] = r;
        }
        char name[32];
        (void)snprintf(name, sizeof name, "node%u", world->host_tags[r]);
        if (member->host != host || host >= census->host_count || strcmp(census->host_names[host], name) != 0) {
            return "a rank is on the wrong host";
        }
        if (member->card_bytes != card_bytes_of(r) || member->pid == 0 ||
            (r == rank && member->pid != (uint32_t)getpid())) {
            return "a member is not what it said";
        }
        for (uint32_t i = 0; i < member->card_bytes; i++) {
            if (member->card[i] != card_byte_of(r, i)) {
                return "a card is damaged";
            }
        }
    }
    return census->host_count != host_count ? "wrong host_count" : try_links(census, rank, leaders);
}

/* ---- Running ranks --------------------------------------------------------------------------------------------- */

static void run_rank(const struct world *world, uint32_t rank, int64_t timeout_ms, struct outcome *outcome)
{
    uint8_t card[EPX_CENSUS_CARD_BYTES_MAX];
    struct epx_census_request request = make_request(world, rank, timeout_ms, card);
    struct epx_census census;
    enum epx_status status = epx_census_take(&request, &census);
    if (status == EPX_OK) {
        const char *defect = judge(world, rank, &census);
        (void)snprintf(outcome->defect, sizeof outcome->defect, "%s", defect != NULL ? defect : "");
        epx_census_fini(&census);
    } else {
        (void)snprintf(outcome->text, sizeof outcome->text, "%s", epx_error_text());
    }
    outcome->status = status;
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

static void *run_task(void *argument)
{
    struct task *task = argument;
    run_rank(&task->world, task->rank, task->timeout_ms, task->outcome);
    return NULL;
}

static void start_thread(struct task *task, const struct world *world, uint32_t rank, int64_t timeout_ms,
                         struct outcome *outcome)
{
    *task = (struct task){.world = *world, .rank = rank, .timeout_ms = timeout_ms, .outcome = outcome};
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

/* Ranks first .. rank_count - 1 as threads; returns when all have ended. */
static void run_threads(const struct world *world, uint32_t first, int64_t timeout_ms, struct outcome *outcomes)
{
    struct task *tasks = calloc(world->rank_count, sizeof *tasks);
    if (tasks == NULL) {
        abort();
    }
    for (uint32_t r = first; r < world->rank_count; r++) {
        start_thread(&tasks[r], world, r, timeout_ms, &outcomes[r]);
    }
    for (uint32_t r = first; r < world->rank_count; r++) {
        end_thread(&tasks[r]);
    }
    free(tasks);
}

static pid_t fork_rank(const struct world *world, uint32_t rank, int64_t timeout_ms, struct outcome *outcome)
{
    pid_t pid = fork();
    if (pid == 0) {
        run_rank(world, rank, timeout_ms, outcome);
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void end_process(pid_t pid, bool killed)
{
    if (killed) {
        assert_int_equal(kill(pid, SIGKILL), 0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
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

/* ---- By hand --------------------------------------------------------------------------------------------------- */

static int raw_connect_to(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* A listener that nothing of the census is behind. */
static int raw_listen(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

/* A connection whose centre has proved itself, wherever it listens. */
static struct epx_census_reach raw_reach(const struct world *world)
{
    struct epx_census_reach reach = {.key = world->key,
                                     .role = EPX_CENSUS_ROLE_CENTRE,
                                     .address = &world->meeting.root,
                                     .own_ip = "",
                                     .ports = world->meeting.ports,
                                     .port_count = world->meeting.port_count,
                                     .deadline_ns = epx_deadline_after_ms(PATIENCE_MS)};
    assert_int_equal(epx_census_reach(&reach), EPX_CENSUS_REACHED);
    return reach;
}

static void raw_end(struct epx_census_reach *reach)
{
    (void)close(reach->fd);
    epx_census_reader_fini(&reach->reader);
}

static void raw_hello(const struct world *world, const struct epx_census_reach *reach, uint32_t rank, uint64_t instance)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_HELLO_MIN];
    struct epx_census_hello hello = {.rank = rank,
                                     .rank_count = world->rank_count,
                                     .pid = 4711,
                                     .link_port = rank == 0 ? 1 : 0,
                                     .instance = instance,
                                     .host_name = "byhand"};
    uint32_t bytes = epx_census_hello_encode(&hello, frame + EPX_CENSUS_HEAD_BYTES);
    assert_int_equal(epx_census_reach_prove(reach, EPX_CENSUS_ROLE_MEMBER, EPX_CENSUS_HELLO, frame, bytes), 0);
}

/* The next frame's kind, 0 when the centre has closed. */
static uint32_t raw_read(struct epx_census_reach *reach)
{
    for (;;) {
        int result = epx_census_read(reach->fd, UINT32_MAX, &reach->reader);
        if (result != -EAGAIN) {
            assert_true(result >= 0);
            return result == 1 ? reach->reader.head.kind : 0;
        }
        struct pollfd poll_fd = {.fd = reach->fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    }
}

/* Joins as `spare` by hand until the centre says that only the ranks of `missing` have not reported. */
static void wait_until_missing(const struct world *world, uint32_t spare, const char *missing)
{
    struct epx_census_reach reach = raw_reach(world);
    raw_hello(world, &reach, spare, 99);
    char text[128] = "";
    while (strcmp(text, missing) != 0) {
        struct epx_census_missing report;
        assert_int_equal(raw_read(&reach), EPX_CENSUS_MISSING);
        assert_true(epx_census_missing_decode(reach.reader.body, reach.reader.head.body_bytes, &report));
        epx_rank_set_print(&report.ranks, text, sizeof text);
    }
    raw_end(&reach);
}

/* ---- Nothing left ---------------------------------------------------------------------------------------------- */

static int resources_before[2];

static int count_entries(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    int count = 0;
    while (readdir(folder) != NULL) {
        count++;
    }
    (void)closedir(folder);
    return count;
}

static void *do_nothing(void *argument)
{
    return argument;
}

/* A sanitizer starts a thread of its own with the first one of the program. */
static int start_one_thread(void **state)
{
    (void)state;
    pthread_t thread;
    return pthread_create(&thread, NULL, do_nothing, NULL) == 0 && pthread_join(thread, NULL) == 0 ? 0 : -1;
}

static int note_resources(void **state)
{
    (void)state;
    resources_before[0] = count_entries("/proc/self/fd");
    resources_before[1] = count_entries("/proc/self/task");
    return 0;
}

static int compare_resources(void **state)
{
    (void)state;
    int descriptors = count_entries("/proc/self/fd") - resources_before[0];
    int threads = count_entries("/proc/self/task") - resources_before[1];
    /* A thread that has been joined may be listed for a moment. */
    for (int i = 0; i < 1000 && threads > 0; i++) {
        (void)usleep(1000);
        threads = count_entries("/proc/self/task") - resources_before[1];
    }
    if (descriptors != 0 || threads != 0) {
        print_error("left behind: %d descriptors, %d threads\n", descriptors, threads);
        return -1;
    }
    return 0;
}

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, note_resources, compare_resources)

#endif
