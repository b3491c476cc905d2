/*
 * The guard: a small process that ends the ranks' process groups when this program dies without doing so. A rank itself
 * is killed by the kernel then (PR_SET_PDEATHSIG), but what a rank started is not.
 */
#ifndef EPX_TOOLS_RUN_GUARD_H
#define EPX_TOOLS_RUN_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct run_guard {
    pid_t pid;     /* 0: not there */
    int life;      /* end of a pipe: the guard sees it close */
    pid_t *groups; /* shared with the guard: of each rank, 0: none */
    uint32_t rank_count;
};

/* Before the first rank. False: errno says why. */
bool run_guard_init(struct run_guard *guard, uint32_t rank_count);

/* A rank enters itself; it is taken out before its process id can be used again: before it is waited for. */
void run_guard_enter(struct run_guard *guard, uint32_t rank, pid_t group);
void run_guard_leave(struct run_guard *guard, uint32_t rank);

/* The guard ends by itself; its parent is to wait for it. May be repeated. */
void run_guard_retire(struct run_guard *guard);
void run_guard_fini(struct run_guard *guard);

#endif
