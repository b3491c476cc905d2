#include "moe/plan_memory.h"

#include "base/config.h"
#include "base/topology.h"
#include "memory/arena.h"
#include "moe/layout.h"

enum epx_status epx_plan_memory_alloc(uint64_t bytes, uint8_t **out)
{
    void *memory = NULL;
    if (bytes != 0) {
        EPX_TRY(epx_arena_alloc(bytes, EPX_LAYOUT_ALIGN, &memory));
    }
    *out = memory;
    return EPX_OK;
}

enum epx_status epx_plan_memory_reserve(uint64_t bytes, uint8_t **out)
{
    void *memory = NULL;
    if (bytes != 0) {
        EPX_TRY(epx_arena_reserve(bytes, EPX_LAYOUT_ALIGN, &memory));
    }
    *out = memory;
    return EPX_OK;
}

enum epx_status epx_plan_memory_reserve_once(uint64_t bytes, _Atomic(uint8_t *) *place)
{
    uint8_t *none = NULL;
    uint8_t *memory;
    if (atomic_load_explicit(place, memory_order_acquire) != NULL) {
        return EPX_OK;
    }
    EPX_TRY(epx_plan_memory_reserve(bytes, &memory));
    if (!atomic_compare_exchange_strong(place, &none, memory)) {
        epx_plan_memory_free(memory);
    }
    return EPX_OK;
}

void epx_plan_memory_free(uint8_t *memory)
{
    if (memory != NULL) {
        enum epx_status status = epx_arena_free(memory);
        (void)status; /* it came from the arena */
    }
}

enum epx_status epx_plan_stream_bytes(const struct epx_comm *comm, enum epx_operation operation, uint64_t *bytes)
{
    int64_t kib;
    EPX_TRY(epx_option_integer(EPX_OPTION_STREAM_KIB, &kib));
    if (kib >= 0) {
        *bytes = (uint64_t)kib * 1024;
        return EPX_OK;
    }
    /* Ranks that take turns on a core push each other's rows out of the cache. Combine writes little beside what it
     * reads, and does better to leave the cache to that. */
    bool keeps = operation == EPX_OPERATION_DISPATCH && epx_topology_cpu_count() >= epx_comm_rank_count(comm);
    *bytes = epx_topology_cache_bytes() / (keeps ? 2 : 4);
    return EPX_OK;
}
