/*
 * Faults on purpose. EPX_FAULT=<point>:<n>[:<action>] makes the n-th passage (from 1) of the named point in this
 * process take the action: "fail" (default; epx_fault returns true and the caller behaves as if its operation had
 * failed), "kill" (SIGKILL to the own process), "stop" (SIGSTOP) or "sleep=<ms>". EPX_FAULT_RANK=<r> limits it to calls
 * that name this rank. Compiled to nothing when EPX_FAULTS is not defined.
 */
#ifndef EPX_BASE_FAULT_H
#define EPX_BASE_FAULT_H

#include <stdbool.h>

#ifdef EPX_FAULTS
bool epx_fault(const char *point, int rank);
#else
static inline bool epx_fault(const char *point, int rank)
{
    (void)point;
    (void)rank;
    return false;
}
#endif

#endif
