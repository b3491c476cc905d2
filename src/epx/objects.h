/*
 * What the handles of epx/epx.h point at. Communicators and plans are counted: a plan outlives the destruction of its
 * communicator as an unusable one, and a request keeps its plan.
 */
#ifndef EPX_EPX_OBJECTS_H
#define EPX_EPX_OBJECTS_H

#include "base/status.h"
#include "comm/comm.h"
#include "epx/epx.h"
#include "moe/request.h"
#include "runtime/stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define EPX_COMMUNICATOR_MAGIC 0x45435058u
#define EPX_PLAN_MAGIC         0x45505058u
#define EPX_REQUEST_MAGIC      0x45525058u

struct epx_communicator {
    uint32_t magic;
    _Atomic uint32_t references; /* the handle, and one a plan */
    pid_t process;
    struct epx_comm *comm;     /* null once destroyed */
    struct epx_stream *stream; /* made by the first start; null before */
};

struct epx_plan {
    uint32_t magic;
    _Atomic uint32_t references; /* the handle, and one a request */
    struct epx_communicator *communicator;
    int64_t recv_row_max;
    int64_t local_expert_count;
    struct epx_dispatch_plan *dispatch;
    struct epx_combine_plan *combine;
    pthread_mutex_t stats_lock;
    struct epx_stats stats; /* under stats_lock */
};

void epx_communicator_release(struct epx_communicator *communicator);

/* EPX_ERR_NULL, EPX_ERR_INVALID (not a communicator), EPX_ERR_STATE (destroyed, or of the process before a fork). */
EPX_NODISCARD enum epx_status epx_communicator_check(const struct epx_communicator *communicator);

/* Same for a plan and its communicator. */
EPX_NODISCARD enum epx_status epx_plan_check(const struct epx_plan *plan);

void epx_plan_release(struct epx_plan *plan);

/*
 * Copies a caller's struct, whose first member is its size. `known` is what this library has, `least` what its first
 * version had; missing members become 0. EPX_ERR_NULL; EPX_ERR_INVALID naming `what` for a size below `least`, or for a
 * larger struct with something in the part that is not known here.
 */
EPX_NODISCARD enum epx_status epx_struct_read(void *dst, size_t known, size_t least, const void *given,
                                              const char *what);

#endif
