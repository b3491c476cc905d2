/*
 * The file behind the process's own arena and its mapping: address space, file size and pages. Knows nothing of
 * allocations.
 */
#ifndef EPX_MEMORY_ARENA_SPACE_H
#define EPX_MEMORY_ARENA_SPACE_H

#include "base/status.h"

#include <stdint.h>
#include <sys/types.h>

/* The mapping begins at a multiple of this. */
#define EPX_ARENA_ALIGN_MAX (2u << 20)

struct epx_arena_space {
    int fd;
    dev_t device; /* of the file: a program that closes descriptors it did not open must not make us cut another file */
    ino_t inode;
    uint8_t *base;
    uint64_t reserve_bytes; /* multiple of page_bytes */
    uint64_t file_bytes;
    uint64_t page_bytes;
};

/* Creates the file and maps the reserve. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_arena_space_open(struct epx_arena_space *space);
void epx_arena_space_close(struct epx_arena_space *space);

/* In a forked child, where the mapping does not exist: closes the descriptor, if it still is the arena's. */
void epx_arena_space_forget(struct epx_arena_space *space);

/* Makes the file at least `file_bytes` bytes, not more than the reserve. EPX_ERR_NO_MEMORY (also for RLIMIT_FSIZE,
 * without its signal), EPX_ERR_SYSTEM. */
EPX_NODISCARD enum epx_status epx_arena_space_grow(struct epx_arena_space *space, uint64_t file_bytes);

/*
 * Brings the pages of [offset, offset + bytes) into memory. Looks at the limits of cgroup and machine first and on the
 * way, and leaves a margin to them, so that EPX_ERR_NO_MEMORY comes before the kernel kills somebody. Pages brought in
 * before a failure stay. Thread: any, also at the same time.
 */
EPX_NODISCARD enum epx_status epx_arena_space_populate(const struct epx_arena_space *space, uint64_t offset,
                                                       uint64_t bytes);

/* EPX_ERR_NO_MEMORY when `bytes` bytes, beside `promised_bytes` that others were promised, pass the limits that
 * epx_arena_space_populate looks at. */
EPX_NODISCARD enum epx_status epx_arena_space_check_room(uint64_t bytes, uint64_t promised_bytes);

/* Bytes of pages that are in memory, or swapped out. */
uint64_t epx_arena_space_there_bytes(const struct epx_arena_space *space);

/* Gives the pages of [offset, offset + bytes), whole pages, back to the system; they read as zeros then. Returns 0 or
 * an errno value, after which the pages are unchanged. */
int epx_arena_space_discard(const struct epx_arena_space *space, uint64_t offset, uint64_t bytes);

#endif
