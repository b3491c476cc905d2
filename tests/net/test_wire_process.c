/*
 * Wires of two processes over loopback: one ends or hangs, and what the other does to its process. Each case runs in
 * two processes of its own that have nothing of UCX before.
 */
#include "base/process.h"
#include "base/sanitizer.h"
#include "net/wire_ends.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BULK_COUNT 32u
#define BULK_BYTES EPX_WIRE_MESSAGE_BYTES_MAX

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            (void)fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, epx_error_text());       \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

typedef void side_function(int socket, pid_t other);

static pid_t start(side_function *side, int socket, int others, pid_t other)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(others);
        side(socket, other);
        _exit(0);
    }
    return pid;
}

/* `tested` gets the process of `peer`, which is ended in the end whatever it does. */
static void run(side_function *tested, side_function *peer)
{
    int sockets[2];
    int status = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    pid_t peer_pid = start(peer, sockets[1], sockets[0], 0);
    pid_t tested_pid = start(tested, sockets[0], sockets[1], peer_pid);
    (void)close(sockets[0]);
    (void)close(sockets[1]);
    assert_int_equal(waitpid(tested_pid, &status, 0), tested_pid);
    (void)kill(peer_pid, SIGKILL);
    assert_int_equal(waitpid(peer_pid, NULL, 0), peer_pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void open_end(struct end *end)
{
    const struct epx_wire_handler handler = {.context = end, .receive = end_receive, .lost = end_lost};
    memset(end, 0, sizeof(*end));
    CHECK(epx_wire_open("127.0.0.1", &handler, END_PEERS, &end->wire) == EPX_OK);
}

/* Opens and connects; a message has gone both ways when it returns. */
static void meet(struct end *end, int socket)
{
    uint8_t other[EPX_WIRE_ADDRESS_BYTES_MAX];
    uint32_t bytes = 0;
    struct epx_wire_send send;
    open_end(end);
    const void *address = epx_wire_address(end->wire, &bytes);
    CHECK(write(socket, address, bytes) == (ssize_t)bytes);
    ssize_t got = read(socket, other, sizeof(other));
    CHECK(got > 0 && epx_wire_connect(end->wire, 0, other, (uint32_t)got, 0) == EPX_OK);
    CHECK(end_send(end, 0, &send, NULL, 0) == EPX_OK);
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while ((end->received[0] == 0 || !send.done) && epx_clock_ns() < until) {
        epx_wire_wait(end->wire, 0, epx_clock_ns() + 10000000);
    }
    CHECK(end->received[0] == 1 && send.done);
}

static void fill_pipe(struct end *end, struct epx_wire_send *sends, struct iovec *piece)
{
    static uint8_t data[BULK_BYTES];
    *piece = (struct iovec){.iov_base = data, .iov_len = sizeof(data)};
    for (uint32_t i = 0; i < BULK_COUNT; i++) {
        CHECK(end_send(end, 0, &sends[i], piece, 1) == EPX_OK);
        (void)epx_wire_progress(end->wire);
    }
    CHECK(!sends[BULK_COUNT - 1].done);
}

static void stay(int socket, pid_t other)
{
    static struct end end;
    (void)other;
    meet(&end, socket);
    (void)raise(SIGSTOP);
}

static void serve(int socket, pid_t other)
{
    static struct end end;
    (void)other;
    meet(&end, socket);
    for (;;) {
        epx_wire_wait(end.wire, 0, epx_clock_ns() + 1000000000);
    }
}

static void wait_for_loss(struct end *end)
{
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (end->lost[0] == 0 && epx_clock_ns() < until) {
        epx_wire_wait(end->wire, 0, until);
    }
    CHECK(end->lost[0] == 1);
}

static void wait_until_stopped(pid_t process)
{
    struct epx_process seen;
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (epx_process_read(process, &seen) && seen.state != EPX_PROCESS_STOPPED && epx_clock_ns() < until) {
        (void)usleep(1000);
    }
    CHECK(seen.state == EPX_PROCESS_STOPPED);
}

static void see_a_kill(int socket, pid_t other)
{
    static struct end end;
    struct epx_wire_send send;
    meet(&end, socket);
    CHECK(kill(other, SIGKILL) == 0);
    wait_for_loss(&end);
    CHECK(end_send(&end, 0, &send, NULL, 0) == EPX_ERR_PEER_DEAD && send.done);
    (void)epx_wire_progress(end.wire);
    CHECK(end.lost[0] == 1);
    epx_wire_close(end.wire);
}

static void see_a_kill_while_sending(int socket, pid_t other)
{
    static struct end end;
    static struct epx_wire_send sends[BULK_COUNT];
    struct iovec piece;
    meet(&end, socket);
    wait_until_stopped(other);
    fill_pipe(&end, sends, &piece);
    CHECK(kill(other, SIGKILL) == 0);
    wait_for_loss(&end);
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    for (uint32_t i = 0; i < BULK_COUNT; i++) {
        while (!sends[i].done && epx_clock_ns() < until) {
            epx_wire_wait(end.wire, 0, epx_clock_ns() + 10000000);
        }
        CHECK(sends[i].done);
    }
    epx_wire_close(end.wire);
}

static void close_before_a_stopped_one(int socket, pid_t other)
{
    static struct end end;
    static struct epx_wire_send sends[BULK_COUNT];
    struct iovec piece;
    meet(&end, socket);
    wait_until_stopped(other);
    fill_pipe(&end, sends, &piece);
    uint64_t from = epx_clock_ns();
    epx_wire_close(end.wire);
    CHECK(epx_clock_ns() - from < 10000000000u);
    for (uint32_t i = 0; i < BULK_COUNT; i++) {
        CHECK(sends[i].done);
    }
    CHECK(end.wrong == 0);
}

/* A child's close does nothing to the wire of its parent. */
static void fork_and_go_on(int socket, pid_t other)
{
    static struct end end;
    struct epx_wire_send send;
    int status = 0;
    meet(&end, socket);
    pid_t child = fork();
    if (child == 0) {
        epx_wire_close(end.wire);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(end_send(&end, 0, &send, NULL, 0) == EPX_OK);
    uint64_t until = epx_clock_ns() + END_WAIT_NS;
    while (!send.done && epx_clock_ns() < until) {
        (void)epx_wire_progress(end.wire);
    }
    CHECK(send.done && end.lost[0] == 0);
    CHECK(kill(other, SIGKILL) == 0);
    wait_for_loss(&end);
    epx_wire_close(end.wire);
}

static unsigned count_entries(const char *folder)
{
    unsigned count = 0;
    DIR *list = opendir(folder);
    CHECK(list != NULL);
    while (readdir(list) != NULL) {
        count++;
    }
    (void)closedir(list);
    return count;
}

#define CODE_BYTES 16
static const char *const patched_by_others[] = {"mmap", "munmap", "mremap", "brk", "sbrk", "madvise", "shmat", "shmdt"};
#define CODE_COUNT (sizeof(patched_by_others) / sizeof(patched_by_others[0]))

#define SIGNAL_END 65

struct process_picture {
    struct sigaction actions[SIGNAL_END];
    sigset_t mask;
    char **environment;
    uint8_t code[CODE_COUNT][CODE_BYTES];
};

static void take_picture(struct process_picture *picture)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    memset(picture, 0, sizeof(*picture));
    CHECK(libc != NULL);
    for (int i = 1; i < SIGNAL_END; i++) {
        (void)sigaction(i, NULL, &picture->actions[i]);
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &picture->mask);
    picture->environment = environ;
    for (size_t i = 0; i < CODE_COUNT; i++) {
        const void *code = dlsym(libc, patched_by_others[i]);
        CHECK(code != NULL);
        memcpy(picture->code[i], code, CODE_BYTES);
    }
    (void)dlclose(libc);
}

/* No signal caught, no call patched, nothing printed, the environment as it was; no thread and no descriptor left. */
static void leave_no_trace(int socket, pid_t other)
{
    static struct end end;
    static struct process_picture before;
    static struct process_picture after;
    struct epx_wire_send send;
    char printed[200] = "";
    int prints[2];
    CHECK(setenv("EPX_LOG", "error", 1) == 0 && pipe2(prints, O_NONBLOCK | O_CLOEXEC) == 0);
    int stderr_copy = fcntl(2, F_DUPFD_CLOEXEC, 3);
    int stdout_copy = fcntl(1, F_DUPFD_CLOEXEC, 3);
    take_picture(&before);
    unsigned threads = count_entries("/proc/self/task");
    (void)fflush(stdout);
    CHECK(dup2(prints[1], 1) == 1 && dup2(prints[1], 2) == 2);
    open_end(&end); /* what UCX keeps for ever comes with the first one */
    epx_wire_close(end.wire);
    unsigned descriptors = count_entries("/proc/self/fd");
    meet(&end, socket);
    take_picture(&after);
    CHECK(kill(other, SIGKILL) == 0);
    wait_for_loss(&end);
    (void)end_send(&end, 0, &send, NULL, 0);
    epx_wire_close(end.wire);
    (void)fflush(stdout);
    ssize_t bytes = read(prints[0], printed, sizeof(printed) - 1);
    CHECK(dup2(stdout_copy, 1) == 1 && dup2(stderr_copy, 2) == 2);
    if (bytes > 0) {
        (void)fprintf(stderr, "printed: %s\n", printed);
    }
    CHECK(bytes == -1);
    for (int i = 1; i < SIGNAL_END; i++) {
        if (before.actions[i].sa_handler != after.actions[i].sa_handler) {
            (void)fprintf(stderr, "signal %d is caught\n", i);
            _exit(1);
        }
    }
    CHECK(memcmp(&before.mask, &after.mask, sizeof(before.mask)) == 0);
    CHECK(before.environment == after.environment);
    CHECK(memcmp(before.code, after.code, sizeof(before.code)) == 0);
    /* That sanitizer's own thread may come in between. */
    CHECK(EPX_THREAD_SANITIZER || count_entries("/proc/self/task") == threads);
    CHECK(count_entries("/proc/self/fd") == descriptors);
}

static void ask_whether_possible(int socket, pid_t other)
{
    (void)socket;
    (void)other;
    if (!end_possible()) {
        (void)fflush(stdout);
        _exit(END_SKIPPED);
    }
}

static void test_kill(void **state)
{
    (void)state;
    run(see_a_kill, serve);
}

static void test_kill_while_sending(void **state)
{
    (void)state;
    run(see_a_kill_while_sending, stay);
}

static void test_close_before_a_stopped_one(void **state)
{
    (void)state;
    run(close_before_a_stopped_one, stay);
}

static void test_fork(void **state)
{
    (void)state;
    run(fork_and_go_on, serve);
}

static void test_no_trace(void **state)
{
    (void)state;
    run(leave_no_trace, serve);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_kill_while_sending),
        cmocka_unit_test(test_close_before_a_stopped_one),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_no_trace),
    };
    int status = 0;
    pid_t pid = start(ask_whether_possible, -1, -1, 0);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == END_SKIPPED) {
        return END_SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
