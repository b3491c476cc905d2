/*
 * The thread whose end the kernel reports. It owns the robust futex word in the header of the process's own arena:
 * when the process ends, in whatever way, the kernel sets FUTEX_OWNER_DIED there.
 */
#ifndef EPX_MEMORY_ARENA_WATCH_H
#define EPX_MEMORY_ARENA_WATCH_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdint.h>

/* Starts the thread and returns when it owns *life. One at a time in a process; it never ends before the process, and
 * does not keep alive one whose other threads have all ended. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM: no thread is left,
 * *life is unchanged. */
EPX_NODISCARD enum epx_status epx_arena_watch_start(_Atomic uint32_t *life);

#endif
