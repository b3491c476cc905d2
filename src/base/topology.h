/*
 * What this machine and process have: processors, memory limits, identity of the host. Thread: any.
 */
#ifndef EPX_BASE_TOPOLOGY_H
#define EPX_BASE_TOPOLOGY_H

#include <stdint.h>

/* Processors in the calling thread's affinity mask, at least 1. */
uint32_t epx_topology_cpu_count(void);

/* Bytes that may still be allocated before a limit of this process's memory cgroup (v1 or v2, every level up to the
 * root) or the machine's available memory is reached; never more than the latter. */
uint64_t epx_topology_memory_headroom_bytes(void);

/* Bytes of the last-level cache of the machine's first processor; 16 MiB where it does not say. */
uint64_t epx_topology_cache_bytes(void);

/* Bytes of memory of the machine. */
uint64_t epx_topology_memory_total_bytes(void);

/*
 * Identity of the host: EPX_HOST_ID when set, else a digest of boot id and network namespace. Two processes with equal
 * ids can share memory.
 */
struct epx_host_id {
    uint8_t bytes[32];
};
void epx_topology_host_id(struct epx_host_id *id);

#endif
