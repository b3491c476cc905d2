/* Monotonic time. Thread: any. */
#ifndef EPX_BASE_CLOCK_H
#define EPX_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t epx_clock_ns(void);

/* now + timeout_ms in nanoseconds, UINT64_MAX ("never") for a negative timeout or on overflow. */
uint64_t epx_deadline_after_ms(int64_t timeout_ms);

#define EPX_NEVER UINT64_MAX

#endif
