/*
 * Control regions of other processes, found in /proc/<pid>/maps and copied out. Nothing is written, mapped or attached
 * to: the process does not notice. Thread: any.
 */
#ifndef EPX_COMM_REGION_FIND_H
#define EPX_COMM_REGION_FIND_H

#include "base/status.h"
#include "comm/control_region.h"

#include <stdint.h>
#include <sys/types.h>

/* Where a process has a control region mapped. Device and inode are those of its file: equal for all its ranks. */
struct epx_region {
    pid_t pid;
    uint64_t device;
    uint64_t inode;
    uint64_t begin; /* addresses in the process */
    uint64_t end;
};

struct epx_region_list {
    struct epx_region *regions;
    uint32_t count;
};

/* How a process answers. */
enum epx_region_access {
    EPX_REGION_GOOD = 0,
    EPX_REGION_GONE = 1,   /* no such process, or no longer that mapping */
    EPX_REGION_DENIED = 2, /* the thread's error text says by what */
};

/* Adds the regions of a process that the list does not have yet. *access: whether they could be looked at.
 * EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_region_list_add(struct epx_region_list *list, pid_t pid,
                                                  enum epx_region_access *access);
void epx_region_list_fini(struct epx_region_list *list);

/* Bytes of the mapping that can be a control region; the rest is not looked at. */
uint64_t epx_region_bytes(const struct epx_region *region);

/* Copies epx_region_bytes into `copy`, front to back: what is read of a slot is not older than the word. */
EPX_NODISCARD enum epx_region_access epx_region_copy(const struct epx_region *region, struct epx_control *copy);

#endif
