#include "memory/arena_space.h"

#include "base/checked_math.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MIB (UINT64_C(1) << 20)

#define RESERVE_MIN_BYTES (16 * MIB)
/* Every rank of a host maps every other's reserve: 512 of these fit into the 128 TiB of a process twice. */
#define RESERVE_MAX_BYTES (UINT64_C(128) << 30)
/* Under RLIMIT_AS the arena takes this part of it: the peers' arenas and the program need address space too. */
#define RESERVE_LIMIT_PART 8

/* What is left to the rest of the machine, or of the cgroup, when an allocation is refused. */
#define MARGIN_BYTES (32 * MIB)
/* Between two looks at the limits a populating thread takes this part of what there is, so that as many processes may
 * populate at once without passing a limit together. */
#define STEP_PART      64
#define STEP_MIN_BYTES MIB
#define STEP_MAX_BYTES (256 * MIB)

/* The standard descriptors are kept free: a program that has closed them writes its messages there. */
static int move_above_standard(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error_number = errno;
    (void)close(fd);
    errno = error_number;
    return moved;
}

static enum epx_status create_file(struct epx_arena_space *space)
{
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("epx-arena", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) { /* before Linux 6.3 */
        fd = memfd_create("epx-arena", flags);
    }
    fd = move_above_standard(fd);
    if (fd < 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "the file of the arena cannot be created");
    }
    struct stat file;
    /* No peer may shrink the file under a mapping, nor add a seal that keeps the owner from growing it. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0 || fstat(fd, &file) != 0) {
        int error_number = errno;
        (void)close(fd);
        return epx_fail_errno(EPX_ERR_SYSTEM, error_number, "the file of the arena cannot be sealed");
    }
    space->fd = fd;
    space->device = file.st_dev;
    space->inode = file.st_ino;
    return EPX_OK;
}

/* Maps the file at a multiple of EPX_ARENA_ALIGN_MAX; null with errno when that fails. */
static uint8_t *map_file(int fd, uint64_t reserve_bytes)
{
    uint64_t wide_bytes = reserve_bytes + EPX_ARENA_ALIGN_MAX;
    uint8_t *wide = mmap(NULL, wide_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (wide == MAP_FAILED) {
        return NULL;
    }
    uint64_t before = -(uintptr_t)wide % EPX_ARENA_ALIGN_MAX;
    uint8_t *base = wide + before;
    if (mmap(base, reserve_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        int error_number = errno;
        (void)munmap(wide, wide_bytes);
        errno = error_number;
        return NULL;
    }
    if (before > 0) {
        (void)munmap(wide, before);
    }
    if (before < EPX_ARENA_ALIGN_MAX) {
        (void)munmap(base + reserve_bytes, EPX_ARENA_ALIGN_MAX - before);
    }
    return base;
}

static uint64_t default_reserve_bytes(void)
{
    uint64_t bytes = epx_topology_memory_total_bytes();
    if (bytes > RESERVE_MAX_BYTES) {
        bytes = RESERVE_MAX_BYTES;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        bytes > limit.rlim_cur / RESERVE_LIMIT_PART) {
        bytes = limit.rlim_cur / RESERVE_LIMIT_PART;
    }
    bytes -= bytes % EPX_ARENA_ALIGN_MAX;
    return bytes < RESERVE_MIN_BYTES ? RESERVE_MIN_BYTES : bytes;
}

static enum epx_status map_reserve(struct epx_arena_space *space)
{
    int64_t asked_mib = 0;
    EPX_TRY(epx_option_integer(EPX_OPTION_ARENA_MIB, &asked_mib));
    uint64_t bytes = asked_mib > 0 ? (uint64_t)asked_mib * MIB : default_reserve_bytes();
    uint8_t *base = map_file(space->fd, bytes);
    while (base == NULL && asked_mib == 0 && bytes / 2 >= RESERVE_MIN_BYTES) {
        bytes = bytes / 2 - bytes / 2 % EPX_ARENA_ALIGN_MAX;
        base = map_file(space->fd, bytes);
    }
    if (base == NULL) {
        return epx_fail_errno(errno == ENOMEM ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, errno,
                              "no address space for an arena of %llu MiB%s", (unsigned long long)(bytes / MIB),
                              asked_mib > 0 ? " (EPX_ARENA_MIB)" : "");
    }
    space->base = base;
    space->reserve_bytes = bytes;
    return EPX_OK;
}

enum epx_status epx_arena_space_open(struct epx_arena_space *space)
{
    *space = (struct epx_arena_space){.fd = -1, .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};
    EPX_TRY(create_file(space));
    enum epx_status status = map_reserve(space);
    if (status != EPX_OK) {
        goto close_file;
    }
    if (madvise(space->base, space->reserve_bytes, MADV_DONTFORK) != 0) {
        status = epx_fail_errno(EPX_ERR_SYSTEM, errno, "the arena cannot be kept from forked processes");
        goto unmap;
    }
    /* Only keeps core files small. */
    (void)madvise(space->base, space->reserve_bytes, MADV_DONTDUMP);
    return EPX_OK;

unmap:
    (void)munmap(space->base, space->reserve_bytes);
close_file:
    (void)close(space->fd);
    return status;
}

void epx_arena_space_close(struct epx_arena_space *space)
{
    (void)munmap(space->base, space->reserve_bytes);
    (void)close(space->fd);
    *space = (struct epx_arena_space){.fd = -1};
}

/* ftruncate that reports RLIMIT_FSIZE by errno alone: the signal is held back and, if it is ours, taken away. */
static int set_file_size(int fd, uint64_t file_bytes)
{
    sigset_t size_signal;
    sigset_t previous_mask;
    sigset_t pending;
    (void)sigemptyset(&size_signal);
    (void)sigaddset(&size_signal, SIGXFSZ);
    (void)pthread_sigmask(SIG_BLOCK, &size_signal, &previous_mask);
    (void)sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGXFSZ) == 1;
    int result;
    do {
        result = ftruncate(fd, (off_t)file_bytes);
    } while (result != 0 && errno == EINTR);
    int error_number = result == 0 ? 0 : errno;
    if (error_number == EFBIG && !was_pending) {
        const struct timespec at_once = {0};
        (void)sigtimedwait(&size_signal, NULL, &at_once);
    }
    (void)pthread_sigmask(SIG_SETMASK, &previous_mask, NULL);
    return error_number;
}

static bool descriptor_is_ours(const struct epx_arena_space *space)
{
    struct stat file;
    return fstat(space->fd, &file) == 0 && file.st_dev == space->device && file.st_ino == space->inode;
}

void epx_arena_space_forget(struct epx_arena_space *space)
{
    if (descriptor_is_ours(space)) {
        (void)close(space->fd);
    }
    space->fd = -1;
}

static enum epx_status check_descriptor(const struct epx_arena_space *space)
{
    if (!descriptor_is_ours(space)) {
        return epx_fail(EPX_ERR_SYSTEM, "descriptor %d of the arena was closed by the program", space->fd);
    }
    return EPX_OK;
}

enum epx_status epx_arena_space_grow(struct epx_arena_space *space, uint64_t file_bytes)
{
    if (file_bytes <= space->file_bytes) {
        return EPX_OK;
    }
    if (file_bytes > space->reserve_bytes) {
        return epx_fail(EPX_ERR_NO_MEMORY, "the arena needs %llu bytes, must be at most %llu (EPX_ARENA_MIB)",
                        (unsigned long long)file_bytes, (unsigned long long)space->reserve_bytes);
    }
    EPX_TRY(check_descriptor(space));
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && file_bytes > limit.rlim_cur) {
        return epx_fail(EPX_ERR_NO_MEMORY, "the arena needs %llu bytes, must be at most %llu (RLIMIT_FSIZE)",
                        (unsigned long long)file_bytes, (unsigned long long)limit.rlim_cur);
    }
    int error_number = set_file_size(space->fd, file_bytes);
    if (error_number != 0) {
        bool exhausted = error_number == EFBIG || error_number == ENOSPC || error_number == ENOMEM;
        return epx_fail_errno(exhausted ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, error_number,
                              "the arena cannot grow to %llu bytes", (unsigned long long)file_bytes);
    }
    space->file_bytes = file_bytes;
    return EPX_OK;
}

/* Kernels before 5.14, and valgrind, do not know MADV_POPULATE_WRITE; the file can allocate its pages itself. */
static enum epx_status populate_step(const struct epx_arena_space *space, uint64_t offset, uint64_t bytes)
{
    int result;
    do {
        result = madvise(space->base + offset, bytes, MADV_POPULATE_WRITE);
    } while (result != 0 && (errno == EINTR || errno == EAGAIN));
    if (result != 0 && (errno == EINVAL || errno == ENOSYS)) {
        EPX_TRY(check_descriptor(space));
        do {
            result = fallocate(space->fd, 0, (off_t)offset, (off_t)bytes);
        } while (result != 0 && errno == EINTR);
    }
    if (epx_fault("arena_populate", -1)) {
        result = -1;
        errno = ENOMEM;
    }
    if (result != 0) {
        /* EFAULT: the page could not be had, for a reason that a touch would report by SIGBUS. */
        bool exhausted = errno == ENOMEM || errno == ENOSPC || errno == EFAULT;
        return epx_fail_errno(exhausted ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, errno,
                              "%llu bytes of the arena cannot be brought into memory", (unsigned long long)bytes);
    }
    return EPX_OK;
}

/* Bytes that may be taken, with a margin left to others. */
static uint64_t takable_bytes(void)
{
    uint64_t headroom = epx_topology_memory_headroom_bytes();
    return headroom < MARGIN_BYTES ? 0 : headroom - MARGIN_BYTES;
}

enum epx_status epx_arena_space_check_room(uint64_t bytes, uint64_t promised_bytes)
{
    uint64_t takable = takable_bytes();
    uint64_t room = takable < promised_bytes ? 0 : takable - promised_bytes;
    if (room < bytes) {
        return epx_fail(EPX_ERR_NO_MEMORY,
                        "%llu bytes of memory are needed, must be at most %llu: what the machine or its memory cgroup "
                        "has left, less %llu that earlier reservations have not taken yet",
                        (unsigned long long)bytes, (unsigned long long)room, (unsigned long long)promised_bytes);
    }
    return EPX_OK;
}

uint64_t epx_arena_space_there_bytes(const struct epx_arena_space *space)
{
    struct stat file;
    return descriptor_is_ours(space) && fstat(space->fd, &file) == 0 ? (uint64_t)file.st_blocks * 512 : 0;
}

enum epx_status epx_arena_space_populate(const struct epx_arena_space *space, uint64_t offset, uint64_t bytes)
{
    uint64_t page_mask = space->page_bytes - 1;
    uint64_t next = offset & ~page_mask;
    uint64_t end = (offset + bytes + page_mask) & ~page_mask;
    while (next < end) {
        uint64_t left = end - next;
        uint64_t takable = takable_bytes();
        if (takable < left) {
            return epx_fail(EPX_ERR_NO_MEMORY,
                            "%llu bytes of memory are needed, must be at most %llu: what the machine or its memory "
                            "cgroup has left",
                            (unsigned long long)left, (unsigned long long)takable);
        }
        uint64_t step = takable / STEP_PART & ~page_mask;
        step = step < STEP_MIN_BYTES ? STEP_MIN_BYTES : step;
        step = step > STEP_MAX_BYTES ? STEP_MAX_BYTES : step;
        step = step > left ? left : step;
        EPX_TRY(populate_step(space, next, step));
        next += step;
    }
    return EPX_OK;
}

/* MADV_REMOVE refuses locked memory; the file can give its pages back all the same. */
int epx_arena_space_discard(const struct epx_arena_space *space, uint64_t offset, uint64_t bytes)
{
    if (madvise(space->base + offset, bytes, MADV_REMOVE) == 0) {
        return 0;
    }
    if (!descriptor_is_ours(space)) {
        return EBADF;
    }
    int result;
    do {
        result = fallocate(space->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}
