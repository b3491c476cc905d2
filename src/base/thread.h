/* What a thread that cannot be created means. */
#ifndef EPX_BASE_THREAD_H
#define EPX_BASE_THREAD_H

#include "base/status.h"

#include <errno.h>

/* Status of a failed pthread_create: its EAGAIN stands for address space as well as for the limits on threads. */
static inline enum epx_status epx_status_of_thread_error(int error_number)
{
    return error_number == EAGAIN || error_number == ENOMEM ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM;
}

#endif
