/*
 * Memory limits of this process's control groups. Thread: any.
 */
#ifndef EPX_BASE_CGROUP_H
#define EPX_BASE_CGROUP_H

#include <stdint.h>

#define EPX_CGROUP_UNLIMITED UINT64_MAX

/*
 * Bytes until the first limit of the memory cgroup, version 1 or 2, at any level from this process's group up to the
 * root of the mounted hierarchy; page cache that the kernel can drop at once counts as free. EPX_CGROUP_UNLIMITED when
 * nothing limits or nothing can be read. `root` is put before every absolute path: "" for the machine's own.
 */
uint64_t epx_cgroup_memory_headroom_bytes(const char *root);

#endif
