#include "base/clock.h"

#include <time.h>

uint64_t epx_clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t epx_deadline_after_ms(int64_t timeout_ms)
{
    if (timeout_ms < 0 || timeout_ms > INT64_MAX / 1000000) {
        return EPX_NEVER;
    }
    uint64_t now = epx_clock_ns();
    uint64_t span = (uint64_t)timeout_ms * 1000000u;
    return now > EPX_NEVER - span ? EPX_NEVER : now + span;
}
