/*
 * Queues collective operations on streams. An operation takes its place in the order of its communicators' rounds when
 * it is queued; that and queueing it are one step, so that two threads cannot queue two operations of a communicator on
 * one stream in the order opposite to their rounds, nor two of a pair of communicators in opposite orders.
 */
#ifndef EPX_CANN_COLLECTIVE_H
#define EPX_CANN_COLLECTIVE_H

#include "acl/acl_rt.h"
#include "base/status.h"
#include "cann/hccl_state.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_cann_collective {             /* the caller's, at its place until finish */
    const struct epx_cann_comm *comm;    /* held by the caller (hccl_state.h); the operation's after success */
    const struct epx_cann_comm *tp_comm; /* the same; null when there is none */
    void *context;
    void (*reserve)(
        void *context); /* takes the rounds, without a lock; run follows, until the operation is over on this rank */
    bool (*run)(void *context, uint64_t until_ns, enum epx_status *status); /* as epx_task_run */
    bool until_ignored;                                                     /* as in struct epx_task */
    void (*finish)(void *context); /* once, last of all: frees context and collective; may be on any thread */

    bool over; /* run has ended: set by the queue */
};

/*
 * Queues the operation on the stream (null: the default one). Allocates nothing. The communicators are released and
 * finish is called before a synchronisation of the stream returns. After a failure that came before the reservation
 * nothing has happened and all is still the caller's: EPX_ERR_NOT_FOUND, EPX_ERR_STATE (stream), with *taken false.
 * When the stream takes no task after it, the communicators are failed on all ranks, and *taken is true.
 */
EPX_NODISCARD enum epx_status epx_cann_collective_submit(aclrtStream stream, struct epx_cann_collective *collective,
                                                         bool *taken);

/* In a forked child. */
void epx_cann_collective_reset_after_fork(void);

#endif
