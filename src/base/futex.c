#include "base/futex.h"

#include "base/clock.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void epx_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    /* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time, so that a signal does not prolong the wait. */
    struct timespec limit;
    struct timespec *limit_or_null = NULL;
    if (deadline_ns != EPX_NEVER) {
        limit.tv_sec = (time_t)(deadline_ns / 1000000000u);
        limit.tv_nsec = (long)(deadline_ns % 1000000000u);
        limit_or_null = &limit;
    }
    (void)syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, limit_or_null, NULL, FUTEX_BITSET_MATCH_ANY);
}

void epx_futex_wake_all(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
