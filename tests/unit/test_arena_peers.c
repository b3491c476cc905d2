#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/sanitizer.h"
#include "memory/arena.h"

#include "child_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB          ((size_t)1 << 20)
#define TENSOR_BYTES 300000

/* For a build with the thread sanitizer, which otherwise ends a child that starts a thread. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* What an owner tells its peer, with the arena's descriptor. */
struct announcement {
    struct epx_arena_id id;
    uint64_t offset; /* of TENSOR_BYTES bytes, byte i is (uint8_t)(i * 7) */
};

static void send_arena(int socket_fd, const struct announcement *announcement, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)announcement, .iov_len = sizeof *announcement};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHILD_EXPECT(sendmsg(socket_fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *announcement);
}

static int receive_arena(int socket_fd, struct announcement *announcement)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = announcement, .iov_len = sizeof *announcement};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    assert_int_equal(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), sizeof *announcement);
    int fd = -1;
    assert_non_null(CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static uint8_t *announce_tensor(int socket_fd)
{
    struct announcement announcement;
    int fd;
    uint64_t reserve_bytes;
    void *tensor = NULL;
    CHILD_EXPECT(epx_arena_alloc(TENSOR_BYTES, 64, &tensor) == EPX_OK);
    for (size_t i = 0; i < TENSOR_BYTES; i++) {
        ((uint8_t *)tensor)[i] = (uint8_t)(i * 7);
    }
    CHILD_EXPECT(epx_arena_offset_of(tensor, TENSOR_BYTES, &announcement.offset));
    epx_arena_own_info(&announcement.id, &fd, &reserve_bytes);
    send_arena(socket_fd, &announcement, fd);
    return tensor;
}

/* Forks a process that runs `body` with its end of a socket pair; the parent's end comes back. */
static pid_t start_owner(void (*body)(int socket_fd), int *socket_fd)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        body(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    *socket_fd = ends[0];
    return pid;
}

static size_t descriptor_count(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static void read_maps_line(const void *address, char line[512])
{
    FILE *file = fopen("/proc/self/maps", "r");
    assert_non_null(file);
    uintptr_t first = 1;
    uintptr_t end = 0;
    while (fgets(line, 512, file) != NULL) {
        if (sscanf(line, "%lx-%lx", &first, &end) == 2 && first <= (uintptr_t)address && (uintptr_t)address < end) {
            break;
        }
        line[0] = '\0';
    }
    fclose(file);
}

static bool dies_within_two_seconds(const struct epx_arena *arena)
{
    uint64_t deadline_ns = epx_deadline_after_ms(2000);
    while (!epx_arena_owner_dead(arena)) {
        if (epx_clock_ns() > deadline_ns) {
            return false;
        }
        usleep(200);
    }
    return true;
}

static void wait_for_byte(int socket_fd)
{
    char byte;
    CHILD_EXPECT(recv(socket_fd, &byte, 1, 0) == 1);
}

static void own_and_sleep(int socket_fd)
{
    (void)announce_tensor(socket_fd);
    for (;;) {
        pause();
    }
}

static struct epx_arena *attach_announced(int socket_fd, struct announcement *announcement)
{
    int fd = receive_arena(socket_fd, announcement);
    struct epx_arena *arena = NULL;
    enum epx_status status = epx_arena_attach(fd, &announcement->id, &arena);
    if (status != EPX_OK) {
        fail_msg("attach: %s", epx_error_text());
    }
    assert_int_equal(close(fd), 0);
    return arena;
}

static void attach__shows_the_owners_bytes_and_keeps_no_descriptor(void **state)
{
    (void)state;
    int socket_fd;
    struct announcement announcement;
    size_t descriptors = descriptor_count();
    pid_t pid = start_owner(own_and_sleep, &socket_fd);
    struct epx_arena *arena = attach_announced(socket_fd, &announcement);
    assert_int_equal(descriptor_count(), descriptors + 1); /* the socket */

    const uint8_t *tensor = epx_arena_at(arena, announcement.offset, TENSOR_BYTES);
    assert_non_null(tensor);
    for (size_t i = 0; i < TENSOR_BYTES; i++) {
        assert_int_equal(tensor[i], (uint8_t)(i * 7));
    }
    char line[512];
    read_maps_line(tensor, line);
    assert_non_null(strstr(line, " r--s "));
    assert_int_equal(epx_arena_owner_pid(arena), (uint32_t)pid);

    assert_ptr_equal(epx_arena_attach_by_id(&announcement.id), arena);
    epx_arena_detach(arena);
    assert_int_equal(tensor[1], 7); /* one reference is left */
    epx_arena_detach(arena);
    assert_null(epx_arena_attach_by_id(&announcement.id));
    read_maps_line(tensor, line);
    assert_null(strstr(line, "epx-arena"));
    epx_arena_detach(NULL);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(socket_fd);
}

static void own_and_grow(int socket_fd)
{
    void *more = NULL;
    uint64_t offset;
    (void)announce_tensor(socket_fd);
    wait_for_byte(socket_fd);
    CHILD_EXPECT(epx_arena_alloc(5 * MIB, 64, &more) == EPX_OK);
    memset(more, 0x3C, 5 * MIB);
    CHILD_EXPECT(epx_arena_offset_of(more, 5 * MIB, &offset));
    CHILD_EXPECT(send(socket_fd, &offset, sizeof offset, 0) == (ssize_t)sizeof offset);
    wait_for_byte(socket_fd);
}

static void attach__sees_what_is_committed_later(void **state)
{
    (void)state;
    int socket_fd;
    struct announcement announcement;
    pid_t pid = start_owner(own_and_grow, &socket_fd);
    struct epx_arena *arena = attach_announced(socket_fd, &announcement);
    assert_null(epx_arena_at(arena, announcement.offset, 5 * MIB));
    assert_int_equal(send(socket_fd, "x", 1, 0), 1);
    uint64_t offset = 0;
    assert_int_equal(recv(socket_fd, &offset, sizeof offset, 0), sizeof offset);
    const uint8_t *more = epx_arena_at(arena, offset, 5 * MIB);
    assert_non_null(more);
    for (size_t i = 0; i < 5 * MIB; i++) {
        assert_int_equal(more[i], 0x3C);
    }
    assert_false(epx_arena_owner_dead(arena));
    assert_int_equal(send(socket_fd, "x", 1, 0), 1);
    expect_good_exit(pid);
    assert_true(dies_within_two_seconds(arena));
    assert_int_equal(more[5 * MIB - 1], 0x3C); /* what a dead rank left can still be read */
    epx_arena_detach(arena);
    close(socket_fd);
}

static void owner_dead__of_a_killed_process_that_nobody_reaps(void **state)
{
    (void)state;
    int socket_fd;
    struct announcement announcement;
    pid_t pid = start_owner(own_and_sleep, &socket_fd);
    int fd = receive_arena(socket_fd, &announcement);
    struct epx_arena *arena = NULL;
    assert_int_equal(epx_arena_attach(fd, &announcement.id, &arena), EPX_OK);
    usleep(20000);
    assert_false(epx_arena_owner_dead(arena));

    assert_int_equal(kill(pid, SIGSTOP), 0);
    usleep(20000);
    assert_false(epx_arena_owner_dead(arena)); /* late is not dead */
    assert_int_equal(kill(pid, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(dies_within_two_seconds(arena));
    assert_int_equal(kill(pid, 0), 0); /* the zombie still answers */

    /* The dead one's arena can be attached anew. */
    epx_arena_detach(arena);
    assert_int_equal(epx_arena_attach(fd, &announcement.id, &arena), EPX_OK);
    assert_true(epx_arena_owner_dead(arena));
    epx_arena_detach(arena);
    close(fd);
    close(socket_fd);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void own_and_exec(int socket_fd)
{
    (void)announce_tensor(socket_fd);
    wait_for_byte(socket_fd);
    (void)execl("/bin/sleep", "sleep", "30", (char *)NULL);
    _exit(1);
}

/* The kernel reaps private pages of a process that it kills for lack of memory, maybe before it looks at the list. */
static void check_list_of_the_watch(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct epx_arena *own = epx_arena_attach_by_id(&id);
    const struct epx_arena_header *header = epx_arena_at(own, 0, sizeof *header);
    CHILD_EXPECT(header != NULL);
    struct robust_list_head *head = NULL;
    size_t bytes = 0;
    char line[512];
    uint32_t thread = atomic_load(&header->life) & FUTEX_TID_MASK;
    CHILD_EXPECT(syscall(SYS_get_robust_list, thread, &head, &bytes) == 0 && bytes == sizeof *head);
    CHILD_EXPECT((uintptr_t)head->list.next + (uintptr_t)head->futex_offset == (uintptr_t)&header->life);
    read_maps_line(head, line);
    CHILD_EXPECT(strstr(line, " rw-s ") != NULL);
    read_maps_line(head->list.next, line);
    CHILD_EXPECT(strstr(line, " rw-s ") != NULL);
    epx_arena_detach(own);
}

static void owner_dead__does_not_depend_on_private_memory(void **state)
{
    (void)state;
    run_in_child(check_list_of_the_watch);
}

static void owner_dead__of_a_process_that_became_another_program(void **state)
{
    (void)state;
    int socket_fd;
    struct announcement announcement;
    pid_t pid = start_owner(own_and_exec, &socket_fd);
    struct epx_arena *arena = attach_announced(socket_fd, &announcement);
    assert_false(epx_arena_owner_dead(arena));
    assert_int_equal(send(socket_fd, "x", 1, 0), 1);
    assert_true(dies_within_two_seconds(arena));
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it runs on */
    epx_arena_detach(arena);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(socket_fd);
}

static void *touch_arena(void *unused)
{
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    return unused;
}

static void own_from_a_thread_that_ends(int socket_fd)
{
    pthread_t thread;
    CHILD_EXPECT(pthread_create(&thread, NULL, touch_arena, NULL) == 0);
    CHILD_EXPECT(pthread_join(thread, NULL) == 0);
    own_and_sleep(socket_fd);
}

static void owner_dead__is_about_the_process_not_the_thread_that_opened(void **state)
{
    (void)state;
    int socket_fd;
    struct announcement announcement;
    pid_t pid = start_owner(own_from_a_thread_that_ends, &socket_fd);
    struct epx_arena *arena = attach_announced(socket_fd, &announcement);
    usleep(20000);
    assert_false(epx_arena_owner_dead(arena));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(dies_within_two_seconds(arena));
    epx_arena_detach(arena);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(socket_fd);
}

/* A memfd that looks like an arena with 2 pages in the file, of 4 reserved. */
static int make_file(const struct epx_arena_header *header, off_t file_bytes, int seals)
{
    int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, file_bytes), 0);
    assert_int_equal(pwrite(fd, header, sizeof *header, 0), sizeof *header);
    assert_int_equal(ftruncate(fd, file_bytes), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void expect_attach(const struct epx_arena_header *header, off_t file_bytes, int seals, enum epx_status expected)
{
    const struct epx_arena_id id = {{1, 2}};
    struct epx_arena *arena = NULL;
    int fd = make_file(header, file_bytes, seals);
    enum epx_status status = epx_arena_attach(fd, &id, &arena);
    if (status != expected) {
        fail_msg("attach gave %d, expected %d: %s", (int)status, (int)expected, epx_error_text());
    }
    assert_int_equal(arena != NULL, expected == EPX_OK);
    epx_arena_detach(arena);
    close(fd);
}

static void attach__refuses_what_is_no_arena(void **state)
{
    (void)state;
    const off_t page = (off_t)sysconf(_SC_PAGESIZE);
    const struct epx_arena_header good = {.magic = EPX_ARENA_MAGIC,
                                          .version = EPX_ARENA_VERSION,
                                          .id = {{1, 2}},
                                          .reserve_bytes = 4 * (uint64_t)page,
                                          .committed_bytes = 2 * (uint64_t)page,
                                          .life = FUTEX_OWNER_DIED,
                                          .pid = 4711};
    expect_attach(&good, 2 * page, F_SEAL_SHRINK, EPX_OK);
    expect_attach(&good, 2 * page, F_SEAL_GROW, EPX_ERR_PROTOCOL);
    expect_attach(&good, page - 1, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    expect_attach(&good, page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);     /* less than committed */
    expect_attach(&good, 5 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL); /* more than reserved */

    struct epx_arena_header bad = good;
    bad.magic++;
    expect_attach(&bad, 2 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    bad = good;
    bad.version++;
    expect_attach(&bad, 2 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    assert_non_null(strstr(epx_error_text(), "4711"));
    bad = good;
    bad.id.words[1]++;
    expect_attach(&bad, 2 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    bad = good;
    bad.life = 0;
    expect_attach(&bad, 2 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    static const uint64_t reserves[] = {0, 1, 4097, UINT64_MAX, (uint64_t)1 << 60};
    for (size_t i = 0; i < sizeof reserves / sizeof reserves[0]; i++) {
        bad = good;
        bad.reserve_bytes = reserves[i];
        expect_attach(&bad, 2 * page, F_SEAL_SHRINK, EPX_ERR_PROTOCOL);
    }
}

static void attach__refuses_other_descriptors(void **state)
{
    (void)state;
    const struct epx_arena_id id = {{1, 2}};
    struct epx_arena *arena = NULL;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(epx_arena_attach(fd, &id, &arena), EPX_ERR_PROTOCOL);
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(epx_arena_attach(fd, &id, &arena), EPX_ERR_PROTOCOL);
    close(fd);
    assert_int_equal(epx_arena_attach(fd, &id, &arena), EPX_ERR_SYSTEM);
    assert_null(arena);
}

/* A peer that lies about what is committed is held to what it reserved. */
static void at__is_held_to_the_reserve(void **state)
{
    (void)state;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct epx_arena_header header = {.magic = EPX_ARENA_MAGIC,
                                      .version = EPX_ARENA_VERSION,
                                      .id = {{1, 2}},
                                      .reserve_bytes = 2 * page,
                                      .committed_bytes = 2 * page,
                                      .life = 1};
    int fd = make_file(&header, (off_t)(2 * page), F_SEAL_SHRINK);
    struct epx_arena *arena = NULL;
    assert_int_equal(epx_arena_attach(fd, &header.id, &arena), EPX_OK);
    header.committed_bytes = UINT64_MAX;
    header.reserve_bytes = UINT64_MAX;
    assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
    assert_non_null(epx_arena_at(arena, page, page));
    assert_null(epx_arena_at(arena, page, page + 1));
    assert_null(epx_arena_at(arena, 2 * page + 1, 0));
    epx_arena_detach(arena);
    close(fd);
}

/* A peer that lies about what is committed is held to what its file holds: reading beyond it would be a signal. */
static void at__is_held_to_the_file(void **state)
{
    (void)state;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct epx_arena_header header = {.magic = EPX_ARENA_MAGIC,
                                      .version = EPX_ARENA_VERSION,
                                      .id = {{1, 2}},
                                      .reserve_bytes = 4 * page,
                                      .committed_bytes = 2 * page,
                                      .life = 1};
    int fd = make_file(&header, (off_t)(2 * page), F_SEAL_SHRINK);
    struct epx_arena *arena = NULL;
    assert_int_equal(epx_arena_attach(fd, &header.id, &arena), EPX_OK);
    header.committed_bytes = 4 * page;
    assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
    assert_non_null(epx_arena_at(arena, page, page));
    assert_null(epx_arena_at(arena, 2 * page, 1));
    assert_null(epx_arena_at(arena, page, 2 * page));
    assert_null(epx_arena_at(arena, 4 * page - 1, 1));
    assert_int_equal(ftruncate(fd, (off_t)(3 * page)), 0);
    const uint8_t *third = epx_arena_at(arena, 2 * page, page);
    assert_non_null(third);
    assert_int_equal(third[page - 1], 0);
    assert_null(epx_arena_at(arena, 2 * page, page + 1));
    epx_arena_detach(arena);
    close(fd);
}

static void attach_own(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    struct epx_arena *first = NULL;
    void *tensor = NULL;
    uint64_t offset = 0;
    CHILD_EXPECT(epx_arena_alloc(1000, 64, &tensor) == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(epx_arena_attach(fd, &id, &first) == EPX_OK);
    CHILD_EXPECT(epx_arena_attach_by_id(&id) == first);
    CHILD_EXPECT(epx_arena_offset_of(tensor, 1000, &offset));
    CHILD_EXPECT(epx_arena_at(first, offset, 1000) == tensor);
    epx_arena_detach(first);
    epx_arena_detach(first);
    memset(tensor, 1, 1000); /* the process's own reference stays */
    CHILD_EXPECT(epx_arena_attach_by_id(&id) == first);
}

static void attach__own_arena_is_not_mapped_twice(void **state)
{
    (void)state;
    run_in_child(attach_own);
}

/* ---- fork ---- */

static void check_forked_child(struct epx_arena *handle, uint8_t *tensor, const struct epx_arena_id *id, int fd)
{
    uint64_t offset;
    uint64_t reserve_bytes;
    struct epx_arena_id child_id;
    int child_fd;
    uint64_t live_bytes;
    uint64_t live_count;
    struct stat file;
    CHILD_EXPECT(fstat(fd, &file) == -1);
    CHILD_EXPECT(!epx_arena_offset_of(tensor, 1, &offset));
    CHILD_EXPECT(epx_arena_free(tensor) == EPX_ERR_NOT_FOUND);
    CHILD_EXPECT(epx_arena_at(handle, 0, 8) == NULL);
    CHILD_EXPECT(epx_arena_owner_dead(handle));
    CHILD_EXPECT(epx_arena_attach_by_id(id) == NULL);
    epx_arena_usage(&live_bytes, &live_count);
    CHILD_EXPECT(live_bytes == 0 && live_count == 0);

    void *fresh = NULL;
    CHILD_EXPECT(epx_arena_alloc(MIB, 64, &fresh) == EPX_OK);
    memset(fresh, 0x11, MIB);
    epx_arena_own_info(&child_id, &child_fd, &reserve_bytes);
    CHILD_EXPECT(memcmp(&child_id, id, sizeof child_id) != 0);
    struct epx_arena *own = epx_arena_attach_by_id(&child_id);
    CHILD_EXPECT(own != NULL && !epx_arena_owner_dead(own) && epx_arena_owner_pid(own) == (uint32_t)getpid());
    epx_arena_detach(own);
    epx_arena_detach(handle);
}

static void fork_with_arena(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    void *tensor = NULL;
    CHILD_EXPECT(epx_arena_alloc(5000, 64, &tensor) == EPX_OK);
    memset(tensor, 0x77, 5000);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct epx_arena *handle = epx_arena_attach_by_id(&id);
    pid_t pid = fork();
    CHILD_EXPECT(pid >= 0);
    if (pid == 0) {
        check_forked_child(handle, tensor, &id, fd);
        _exit(0);
    }
    int result = 1;
    CHILD_EXPECT(waitpid(pid, &result, 0) == pid && result == 0);
    for (size_t i = 0; i < 5000; i++) {
        CHILD_EXPECT(((uint8_t *)tensor)[i] == 0x77);
    }
    CHILD_EXPECT(!epx_arena_owner_dead(handle));
    CHILD_EXPECT(epx_arena_free(tensor) == EPX_OK);
    epx_arena_detach(handle);
}

static void fork__child_starts_anew_and_parent_is_untouched(void **state)
{
    (void)state;
#if EPX_THREAD_SANITIZER
    skip(); /* the child of a process with threads starts one: the sanitizer may hang there */
#endif
    run_in_child(fork_with_arena);
}

static _Atomic bool stop;

static void *end_late(void *unused)
{
    usleep(100000);
    return unused;
}

/* The watch thread must not keep such a process from ending, and it takes no signals. */
static void end_thread_by_thread(void)
{
    pid_t pid = fork();
    CHILD_EXPECT(pid >= 0);
    if (pid == 0) {
        pthread_t thread;
        (void)alarm(20);
        CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
        CHILD_EXPECT(pthread_create(&thread, NULL, end_late, NULL) == 0);
        pthread_exit(NULL);
    }
    int code = -1;
    pid_t done = 0;
    uint64_t deadline_ns = epx_deadline_after_ms(10000);
    while ((done = waitpid(pid, &code, WNOHANG)) == 0 && epx_clock_ns() < deadline_ns) {
        usleep(1000);
    }
    if (done == 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &code, 0);
    }
    CHILD_EXPECT(done == pid && code == 0);
}

static void watch__lets_a_process_end_by_its_last_thread(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* they have threads of their own, or cannot end this way */
#endif
    run_in_child(end_thread_by_thread);
}

/* The program has closed the arena's descriptor, and its number is another file's. */
static void fork_with_a_stolen_descriptor(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    int other = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHILD_EXPECT(other >= 0 && dup2(other, fd) == fd);
    pid_t pid = fork();
    CHILD_EXPECT(pid >= 0);
    if (pid == 0) {
        struct stat file;
        _exit(fstat(fd, &file) == 0 ? 0 : 1);
    }
    int code = 0;
    CHILD_EXPECT(waitpid(pid, &code, 0) == pid && code == 0);
}

static void fork__leaves_descriptors_of_others_open(void **state)
{
    (void)state;
    run_in_child(fork_with_a_stolen_descriptor);
}

static void *allocate_until_stopped(void *unused)
{
    while (!atomic_load(&stop)) {
        void *pointer = NULL;
        CHILD_EXPECT(epx_arena_alloc(70000, 64, &pointer) == EPX_OK);
        CHILD_EXPECT(epx_arena_free(pointer) == EPX_OK);
    }
    return unused;
}

static void fork_while_allocating(void)
{
    pthread_t threads[2];
    CHILD_EXPECT(pthread_create(&threads[0], NULL, allocate_until_stopped, NULL) == 0);
    CHILD_EXPECT(pthread_create(&threads[1], NULL, allocate_until_stopped, NULL) == 0);
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork();
        CHILD_EXPECT(pid >= 0);
        if (pid == 0) {
            void *pointer = NULL;
            CHILD_EXPECT(epx_arena_alloc(70000, 64, &pointer) == EPX_OK);
            _exit(0);
        }
        int result = 1;
        CHILD_EXPECT(waitpid(pid, &result, 0) == pid && result == 0);
    }
    atomic_store(&stop, true);
    CHILD_EXPECT(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
}

static void fork__while_threads_allocate(void **state)
{
    (void)state;
#if EPX_THREAD_SANITIZER || defined(__SANITIZE_ADDRESS__)
    skip(); /* as above; the other one's allocator may be locked for good in the child */
#endif
    run_in_child(fork_while_allocating);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attach__shows_the_owners_bytes_and_keeps_no_descriptor),
        cmocka_unit_test(attach__sees_what_is_committed_later),
        cmocka_unit_test(owner_dead__of_a_killed_process_that_nobody_reaps),
        cmocka_unit_test(owner_dead__of_a_process_that_became_another_program),
        cmocka_unit_test(owner_dead__is_about_the_process_not_the_thread_that_opened),
        cmocka_unit_test(attach__refuses_what_is_no_arena),
        cmocka_unit_test(attach__refuses_other_descriptors),
        cmocka_unit_test(at__is_held_to_the_reserve),
        cmocka_unit_test(at__is_held_to_the_file),
        cmocka_unit_test(watch__lets_a_process_end_by_its_last_thread),
        cmocka_unit_test(owner_dead__does_not_depend_on_private_memory),
        cmocka_unit_test(fork__leaves_descriptors_of_others_open),
        cmocka_unit_test(attach__own_arena_is_not_mapped_twice),
        cmocka_unit_test(fork__child_starts_anew_and_parent_is_untouched),
        cmocka_unit_test(fork__while_threads_allocate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
