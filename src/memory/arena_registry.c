#include "memory/arena_registry.h"

#include "memory/arena_fork.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* No address space holds more. */
#define RESERVE_MAX_BYTES (UINT64_C(1) << 47)

struct epx_arena {
    struct epx_arena *next;
    const struct epx_arena_header *header; /* null after a fork: the mapping is the parent's */
    struct epx_arena_id id;
    uint64_t reserve_bytes; /* as checked at attach: the header is the peer's to change */
    uint32_t pid;
    uint32_t reference_count; /* under the lock */
    bool is_own;
    /* The file is known to reach this far, and cannot shrink: what the header says is only a claim. Only rises. */
    _Atomic uint64_t present_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct epx_arena *mapped;
static struct epx_arena *inherited; /* handles from before a fork, so that they stay reachable */

static struct epx_arena *find_mapped(const struct epx_arena_id *id)
{
    for (struct epx_arena *arena = mapped; arena != NULL; arena = arena->next) {
        if (memcmp(&arena->id, id, sizeof *id) == 0) {
            return arena;
        }
    }
    return NULL;
}

static void unlink_from(struct epx_arena **list, const struct epx_arena *arena)
{
    for (; *list != NULL; list = &(*list)->next) {
        if (*list == arena) {
            *list = arena->next;
            return;
        }
    }
}

static void add_mapped(struct epx_arena *arena)
{
    arena->reference_count = 1;
    arena->next = mapped;
    mapped = arena;
}

/* Copies what is needed out of a mapped header, then checks the copies. */
static enum epx_status check_header(const struct epx_arena_header *header, const struct epx_arena_id *id,
                                    struct epx_arena *values)
{
    uint32_t magic = header->magic;
    uint32_t version = header->version;
    uint64_t reserve_bytes = header->reserve_bytes;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    values->id = header->id;
    values->pid = header->pid;
    values->reserve_bytes = reserve_bytes;
    if (magic != EPX_ARENA_MAGIC) {
        return epx_fail(EPX_ERR_PROTOCOL, "a peer's memory is no arena: magic is 0x%08x, must be 0x%08x", magic,
                        EPX_ARENA_MAGIC);
    }
    if (version != EPX_ARENA_VERSION) {
        return epx_fail(EPX_ERR_PROTOCOL, "the arena of process %u has version %u, must be %u", values->pid, version,
                        EPX_ARENA_VERSION);
    }
    if (memcmp(&values->id, id, sizeof *id) != 0) {
        return epx_fail(EPX_ERR_PROTOCOL, "the arena of process %u is not the one that was announced", values->pid);
    }
    if (reserve_bytes < page_bytes || reserve_bytes % page_bytes != 0 || reserve_bytes > RESERVE_MAX_BYTES) {
        return epx_fail(EPX_ERR_PROTOCOL,
                        "the arena of process %u reserves %llu bytes, must be whole pages in [%llu, %llu]", values->pid,
                        (unsigned long long)reserve_bytes, (unsigned long long)page_bytes,
                        (unsigned long long)RESERVE_MAX_BYTES);
    }
    if (atomic_load_explicit(&header->life, memory_order_acquire) == 0) {
        return epx_fail(EPX_ERR_PROTOCOL, "the arena of process %u has no watch thread", values->pid);
    }
    return EPX_OK;
}

/* The file must not be able to shrink, or reading it could end in a signal. */
static enum epx_status check_file(int fd, uint64_t *file_bytes)
{
    struct stat file;
    /* The seal first: what the file holds after it, it keeps. */
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &file) != 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "descriptor %d of a peer's arena", fd);
    }
    if (!S_ISREG(file.st_mode) || seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return epx_fail(EPX_ERR_PROTOCOL, "descriptor %d of a peer's arena is no memory sealed against shrinking", fd);
    }
    if (file.st_size < (off_t)sysconf(_SC_PAGESIZE)) {
        return epx_fail(EPX_ERR_PROTOCOL, "a peer's arena has %lld bytes, must be at least a page",
                        (long long)file.st_size);
    }
    *file_bytes = (uint64_t)file.st_size;
    return EPX_OK;
}

static enum epx_status map_readable(int fd, uint64_t bytes, const void **out)
{
    void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        return epx_fail_errno(errno == ENOMEM ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, errno,
                              "a peer's arena of %llu bytes cannot be mapped", (unsigned long long)bytes);
    }
    *out = base;
    return EPX_OK;
}

/* Looks at the first page alone, so that a reserve that is nonsense is never mapped. */
static enum epx_status read_header(int fd, const struct epx_arena_id *id, struct epx_arena *values)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t file_bytes = 0;
    const void *page = NULL;
    EPX_TRY(check_file(fd, &file_bytes));
    EPX_TRY(map_readable(fd, page_bytes, &page));
    const struct epx_arena_header *header = page;
    enum epx_status status = check_header(header, id, values);
    /* Read before the file's size could have grown further: what was committed must be in the file already. */
    uint64_t committed_bytes = atomic_load_explicit(&header->committed_bytes, memory_order_acquire);
    (void)munmap((void *)(uintptr_t)page, page_bytes);
    EPX_TRY(status);
    EPX_TRY(check_file(fd, &file_bytes));
    if (committed_bytes > file_bytes || file_bytes > values->reserve_bytes) {
        return epx_fail(EPX_ERR_PROTOCOL,
                        "the arena of process %u has %llu bytes in a file of %llu, must be at most that; reserved %llu",
                        values->pid, (unsigned long long)committed_bytes, (unsigned long long)file_bytes,
                        (unsigned long long)values->reserve_bytes);
    }
    return EPX_OK;
}

static enum epx_status map_checked(int fd, const struct epx_arena_id *id, struct epx_arena *arena)
{
    const void *base = NULL;
    EPX_TRY(read_header(fd, id, arena));
    EPX_TRY(map_readable(fd, arena->reserve_bytes, &base));
    void *mapping = (void *)(uintptr_t)base;
    if (madvise(mapping, arena->reserve_bytes, MADV_DONTFORK) != 0) {
        int error_number = errno;
        (void)munmap(mapping, arena->reserve_bytes);
        return epx_fail_errno(EPX_ERR_SYSTEM, error_number, "a peer's arena cannot be kept from forked processes");
    }
    /* Only keeps core files small. */
    (void)madvise(mapping, arena->reserve_bytes, MADV_DONTDUMP);
    arena->header = base;
    atomic_init(&arena->present_bytes, (uint64_t)sysconf(_SC_PAGESIZE));
    return EPX_OK;
}

static enum epx_status attach_locked(int fd, const struct epx_arena_id *id, struct epx_arena **out)
{
    struct epx_arena *arena = find_mapped(id);
    if (arena != NULL) {
        arena->reference_count++;
        *out = arena;
        return EPX_OK;
    }
    arena = epx_arena_registry_reserve();
    if (arena == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the handle of an arena");
    }
    enum epx_status status = map_checked(fd, id, arena);
    if (status != EPX_OK) {
        epx_arena_registry_unreserve(arena);
        return status;
    }
    add_mapped(arena);
    *out = arena;
    return EPX_OK;
}

struct epx_arena *epx_arena_registry_reserve(void)
{
    return calloc(1, sizeof(struct epx_arena));
}

void epx_arena_registry_unreserve(struct epx_arena *handle)
{
    free(handle);
}

void epx_arena_registry_add_own(struct epx_arena *handle, const struct epx_arena_header *header)
{
    handle->header = header;
    handle->id = header->id;
    handle->reserve_bytes = header->reserve_bytes;
    handle->pid = header->pid;
    handle->is_own = true;
    epx_arena_registry_lock();
    add_mapped(handle);
    epx_arena_registry_unlock();
}

void epx_arena_registry_lock(void)
{
    (void)pthread_mutex_lock(&lock);
}

void epx_arena_registry_unlock(void)
{
    (void)pthread_mutex_unlock(&lock);
}

void epx_arena_registry_forget(void)
{
    while (mapped != NULL) {
        struct epx_arena *arena = mapped;
        mapped = arena->next;
        arena->header = NULL;
        arena->reference_count -= arena->is_own;
        if (arena->reference_count == 0) {
            free(arena);
        } else {
            arena->next = inherited;
            inherited = arena;
        }
    }
    epx_arena_registry_unlock();
}

enum epx_status epx_arena_attach(int fd, const struct epx_arena_id *id, struct epx_arena **out)
{
    EPX_TRY(epx_arena_prepare_forks());
    epx_arena_registry_lock();
    enum epx_status status = attach_locked(fd, id, out);
    epx_arena_registry_unlock();
    return status;
}

struct epx_arena *epx_arena_attach_by_id(const struct epx_arena_id *id)
{
    epx_arena_registry_lock();
    struct epx_arena *arena = find_mapped(id);
    if (arena != NULL) {
        arena->reference_count++;
    }
    epx_arena_registry_unlock();
    return arena;
}

void epx_arena_detach(struct epx_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    epx_arena_registry_lock();
    bool last = --arena->reference_count == 0;
    if (last) {
        unlink_from(arena->header != NULL ? &mapped : &inherited, arena);
    }
    epx_arena_registry_unlock();
    if (last) {
        if (arena->header != NULL) {
            (void)munmap((void *)(uintptr_t)arena->header, arena->reserve_bytes);
        }
        free(arena);
    }
}

/*
 * Whether the file reaches up to `end`, which the header claims; a touch of what lies beyond the file would be a
 * signal. The kernel reads the place in the course of a wake-up that nobody waits for. Once for each time the arena has
 * grown.
 */
static bool is_present(const struct epx_arena *arena, uint64_t end)
{
    if (end <= atomic_load_explicit(&arena->present_bytes, memory_order_relaxed)) {
        return true;
    }
    uintptr_t last = (uintptr_t)arena->header + end - 1;
    if (syscall(SYS_futex, last & ~(uintptr_t)3, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 && errno == EFAULT) {
        return false;
    }
    _Atomic uint64_t *present_bytes = (_Atomic uint64_t *)(uintptr_t)&arena->present_bytes;
    uint64_t known = atomic_load_explicit(present_bytes, memory_order_relaxed);
    while (known < end && !atomic_compare_exchange_weak_explicit(present_bytes, &known, end, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
    }
    return true;
}

void *epx_arena_at(const struct epx_arena *arena, uint64_t offset, uint64_t bytes)
{
    if (arena->header == NULL) {
        return NULL;
    }
    /* What was found committed once stays so: no look into the peer's memory, which this core's cache may not have. */
    uint64_t present_bytes = atomic_load_explicit(&arena->present_bytes, memory_order_relaxed);
    if (offset <= present_bytes && bytes <= present_bytes - offset) {
        return (uint8_t *)(uintptr_t)arena->header + offset;
    }
    uint64_t committed_bytes = atomic_load_explicit(&arena->header->committed_bytes, memory_order_acquire);
    if (committed_bytes > arena->reserve_bytes) {
        committed_bytes = arena->reserve_bytes;
    }
    if (offset > committed_bytes || bytes > committed_bytes - offset || !is_present(arena, offset + bytes)) {
        return NULL;
    }
    return (uint8_t *)(uintptr_t)arena->header + offset;
}

bool epx_arena_owner_dead(const struct epx_arena *arena)
{
    return arena->header == NULL ||
           (atomic_load_explicit(&arena->header->life, memory_order_acquire) & FUTEX_OWNER_DIED) != 0;
}

uint32_t epx_arena_owner_pid(const struct epx_arena *arena)
{
    return arena->pid;
}
