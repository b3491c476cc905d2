/*
 * Faults on purpose. EPX_FAULT=<point>:<n>[:<action>] makes the n-th passage (from 1) of the named point in this
 * process take the action: "fail" (default; epx_fault returns true and the caller behaves as if its operation had
 * failed), "kill" (SIGKILL to the own process), "stop" (SIGSTOP) or "sleep=<ms>". EPX_FAULT_RANK=<r> limits it to calls
 * that name this rank. EPX_FAULT_FIRST_STEP=<n> makes communicators count as if n steps and n rounds were done when
 * they are made, so that counters wrap while a test looks. Compiled to nothing when EPX_FAULTS is not defined.
 */
#ifndef EPX_BASE_FAULT_H
#define EPX_BASE_FAULT_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef EPX_FAULTS
bool epx_fault(const char *point, int rank);
EPX_NODISCARD enum epx_status epx_fault_first_step(uint64_t *step);
#else
static inline bool epx_fault(const char *point, int rank)
{
    (void)point;
    (void)rank;
    return false;
}
EPX_NODISCARD static inline enum epx_status epx_fault_first_step(uint64_t *step)
{
    *step = 0;
    return EPX_OK;
}
#endif

#endif
