/*
 * The centre of a start needs descriptors for every rank: while one is at work, the process's soft limit is raised.
 */
#ifndef EPX_COMM_BOOTSTRAP_LIMIT_H
#define EPX_COMM_BOOTSTRAP_LIMIT_H

#include <stdint.h>

/* Raises RLIMIT_NOFILE to `needed`, as far as the hard limit allows. Each call is undone by one of release, in any
 * order; the last one restores the limit. Thread: any. */
void epx_boot_limit_acquire(uint64_t needed);
void epx_boot_limit_release(void);

/* The soft limit in force, for messages. */
uint64_t epx_boot_limit_now(void);

#endif
