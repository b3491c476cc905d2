#include "comm/bootstrap_shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t verdict_offset(uint64_t shared_bytes)
{
    return (shared_bytes + page_bytes() - 1) & ~(page_bytes() - 1);
}

static enum epx_status no_room(int error, uint64_t bytes)
{
    bool memory = error == ENOMEM || error == ENOSPC || error == EFBIG || error == EAGAIN;
    return epx_fail_errno(memory ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, error, "control region of %llu bytes",
                          (unsigned long long)bytes);
}

/* Gives the file its pages now: memory that runs out later would be a signal. */
static int populate(int fd, uint64_t bytes)
{
    if (ftruncate(fd, (off_t)bytes) != 0) {
        return errno;
    }
    while (fallocate(fd, 0, 0, (off_t)bytes) != 0) {
        if (errno != EINTR) {
            return errno;
        }
    }
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 ? 0 : errno;
}

enum epx_status epx_boot_shared_create(uint64_t shared_bytes, int *fd)
{
    uint64_t bytes = verdict_offset(shared_bytes) + page_bytes();
    int file = memfd_create(EPX_BOOT_SHARED_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0) {
        return no_room(errno, bytes);
    }
    int error = populate(file, bytes);
    if (error != 0) {
        (void)close(file);
        return no_room(error, bytes);
    }
    *fd = file;
    return EPX_OK;
}

static enum epx_status check_file(int fd, uint64_t shared_bytes)
{
    struct stat info;
    uint64_t bytes = verdict_offset(shared_bytes) + page_bytes();
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &info) != 0 || (uint64_t)info.st_size != bytes) {
        return epx_fail(EPX_ERR_PROTOCOL, "the control region handed over is not a sealed file of %llu bytes",
                        (unsigned long long)bytes);
    }
    return EPX_OK;
}

static enum epx_status map_part(int fd, uint64_t offset, uint64_t bytes, void **out)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (address == MAP_FAILED) {
        return no_room(errno, bytes);
    }
    /* A forked child must not write into its parent's slot, not even by mistake. */
    if (madvise(address, bytes, MADV_DONTFORK) != 0) {
        int error = errno;
        (void)munmap(address, bytes);
        return no_room(error, bytes);
    }
    *out = address;
    return EPX_OK;
}

enum epx_status epx_boot_shared_map(int fd, uint64_t shared_bytes, void **shared)
{
    EPX_TRY(check_file(fd, shared_bytes));
    return map_part(fd, 0, shared_bytes, shared);
}

enum epx_status epx_boot_verdict_map(int fd, uint64_t shared_bytes, struct epx_boot_verdict_page **page)
{
    void *address = NULL;
    EPX_TRY(check_file(fd, shared_bytes));
    EPX_TRY(map_part(fd, verdict_offset(shared_bytes), page_bytes(), &address));
    *page = address;
    return EPX_OK;
}

void epx_boot_verdict_unmap(struct epx_boot_verdict_page *page)
{
    if (page != NULL) {
        (void)munmap(page, page_bytes());
    }
}

enum epx_boot_verdict epx_boot_verdict_say(struct epx_boot_verdict_page *page, enum epx_boot_verdict verdict)
{
    uint32_t standing = EPX_BOOT_PENDING;
    bool said = atomic_compare_exchange_strong_explicit(&page->verdict, &standing, verdict, memory_order_acq_rel,
                                                        memory_order_acquire);
    return said ? verdict : (enum epx_boot_verdict)standing;
}
