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
#include <stdbool.h>
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
    bool closing;              /* being destroyed: nobody asks `comm` any more; under the lock of epx_views.c */
};

/* Row views of a plan that have been given out and not been ended. They hold a reference to the plan. */
struct epx_plan_views {
    uint64_t round;        /* of the dispatch; 0: none are out */
    const void *x;         /* tokens that peers look at, or would if they lay in the arena; null: none */
    size_t x_bytes;        /* of them */
    bool abandoned;        /* the plan's handle is gone */
    struct epx_plan *next; /* see epx_views.c; all members are written under the lock there */
};

/* Of the last successful run of an operation. Each number is whole; two may be of different runs while one ends. */
struct epx_kept_stats {
    _Atomic int64_t rows_sent;
    _Atomic int64_t rows_received;
    _Atomic int64_t bytes_read;
    _Atomic int64_t bytes_written;
    _Atomic uint64_t total_ns;
    _Atomic uint64_t enter_wait_ns;
    _Atomic uint64_t move_ns;
    _Atomic uint64_t done_wait_ns;
};

struct epx_plan {
    uint32_t magic;
    _Atomic uint32_t references; /* the handle, and one a request */
    struct epx_communicator *communicator;
    int64_t recv_row_max;
    enum epx_exchange exchange; /* that runs */
    int64_t local_expert_count;
    struct epx_dispatch_plan *dispatch;
    struct epx_combine_plan *combine;
    struct epx_kept_stats dispatch_stats;
    struct epx_kept_stats combine_stats;
    _Atomic(struct epx_request *) spare_requests[2]; /* to be used again, for operations of either kind in turn */
    struct epx_plan_views views;
};

/* One without a `comm`, of this process, with the reference of its handle. EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_communicator_new(struct epx_communicator **out);

void epx_communicator_release(struct epx_communicator *communicator);

/* EPX_ERR_NULL, EPX_ERR_INVALID (not a communicator), EPX_ERR_STATE (destroyed, or of the process before a fork). */
EPX_NODISCARD enum epx_status epx_communicator_check(const struct epx_communicator *communicator);

/* Same for a plan and its communicator. */
EPX_NODISCARD enum epx_status epx_plan_check(const struct epx_plan *plan);

void epx_plan_release(struct epx_plan *plan);

/* EPX_ERR_STATE while views of the plan are out, unless its communicator has failed. */
EPX_NODISCARD enum epx_status epx_views_check_none(const struct epx_plan *plan);

/* The dispatch of `binding`, whose round is reserved, gives out views. */
void epx_views_open(struct epx_plan *plan, const struct epx_dispatch_binding *binding);

/* The plan's views end with the operation that is about to run. Returns their round, 0 when none are out. */
uint64_t epx_views_close(struct epx_plan *plan);

/* The plan's handle goes: its memory stays for peers that look at it, until the communicator is destroyed. */
void epx_views_abandon(struct epx_plan *plan);

/* EPX_ERR_STATE while views of a plan with a handle are out and the communicator has not failed. */
EPX_NODISCARD enum epx_status epx_views_check_left(const struct epx_communicator *communicator);

/* The communicator is gone: nobody has a say about its plans' views any more. */
void epx_views_forget(const struct epx_communicator *communicator);

/* Its destruction begins, or has been refused: what other threads ask about views does not look at its rounds. */
void epx_views_set_closing(struct epx_communicator *communicator, bool closing);

/* EPX_ERR_STATE when an allocation holds tokens that views are out of. */
EPX_NODISCARD enum epx_status epx_views_check_free(const void *pointer);

/*
 * Copies a caller's struct, whose first member is its size. `known` is what this library has, `least` what its first
 * version had; missing members become 0. EPX_ERR_NULL; EPX_ERR_INVALID naming `what` for a size below `least`, or for a
 * larger struct with something in the part that is not known here.
 */
EPX_NODISCARD enum epx_status epx_struct_read(void *dst, size_t known, size_t least, const void *given,
                                              const char *what);

#endif
