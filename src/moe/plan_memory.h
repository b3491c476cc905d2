/*
 * Memory of a plan that peers read, and how the plan treats the caches. Nothing for 0 bytes. EPX_ERR_NO_MEMORY,
 * EPX_ERR_SYSTEM. Thread: any.
 */
#ifndef EPX_MOE_PLAN_MEMORY_H
#define EPX_MOE_PLAN_MEMORY_H

#include "comm/completion.h"

#include <stdatomic.h>
#include <stdint.h>

/* *out is null for 0 bytes. */
EPX_NODISCARD enum epx_status epx_plan_memory_alloc(uint64_t bytes, uint8_t **out);

/* Same; a run asks for what it is about to write with epx_rounds_need. */
EPX_NODISCARD enum epx_status epx_plan_memory_reserve(uint64_t bytes, uint8_t **out);

/* The same into *place when it is null still, for threads that find it so at once: one of them makes it. */
EPX_NODISCARD enum epx_status epx_plan_memory_reserve_once(uint64_t bytes, _Atomic(uint8_t *) *place);

/* Frees what one of them gave; null allowed. */
void epx_plan_memory_free(uint8_t *memory);

/* EPX_STREAM_KIB in bytes: operations that move more write past the caches. EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_plan_stream_bytes(const struct epx_comm *comm, enum epx_operation operation,
                                                    uint64_t *bytes);

#endif
