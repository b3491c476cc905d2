/*
 * Processes of this host, as /proc shows them to everybody. Thread: any.
 */
#ifndef EPX_BASE_PROCESS_H
#define EPX_BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum epx_process_state {
    EPX_PROCESS_UNKNOWN = 0, /* it exists, or may exist; /proc does not show it */
    EPX_PROCESS_GONE = 1,    /* there is none, or a zombie */
    EPX_PROCESS_LIVES = 2,
    EPX_PROCESS_STOPPED = 3, /* by a signal or a debugger */
};

struct epx_process {
    enum epx_process_state state;
    uint64_t start_ticks; /* since the start of the machine; 0 when it is not known */
};

/* Always fills *process; false when nothing is known of it. A zombie has its start_ticks. */
bool epx_process_read(pid_t pid, struct epx_process *process);

/* The calling process's namespace of a kind ("pid", "time"): its inode number, 0 when it cannot be had. */
uint32_t epx_process_namespace(const char *kind);

#endif
