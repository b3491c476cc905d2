/* Threads of the library. Thread: any. */
#ifndef EPX_BASE_THREAD_H
#define EPX_BASE_THREAD_H

#include "base/status.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

/*
 * Starts a thread with every signal blocked, so that none of the program's handlers ever runs on it. `stack_bytes` 0,
 * or less than this system takes: the default. Zero or the error number of pthread_create.
 */
int epx_thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *), void *context);

/* Status of a failed start: its EAGAIN stands for address space as well as for the limits on threads. */
static inline enum epx_status epx_status_of_thread_error(int error_number)
{
    return error_number == EAGAIN || error_number == ENOMEM ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM;
}

#endif
