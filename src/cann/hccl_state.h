/*
 * Communicators of the CANN door: found by (group name, rank, device), since ranks may be threads of one process and
 * two of them may share name and device.
 */
#ifndef EPX_CANN_HCCL_STATE_H
#define EPX_CANN_HCCL_STATE_H

#include "base/status.h"
#include "comm/comm.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_cann_comm { /* constant while it is held */
    struct epx_comm *comm;
    uint64_t serial; /* a number that no other communicator of this process ever has, from 1 */
    uint8_t key[32]; /* what its ranks met by */
    int32_t device;
    uint32_t buffer_mib; /* HCCL_BUFFSIZE, as read when it was created (or its configuration) */
    bool is_sub;
};

/*
 * The communicator that a call means by a group name: the one with this name and rank on the current device; else with
 * this name and rank on any device. EPX_ERR_NOT_FOUND names the argument, what was asked and what exists. Held until
 * released: destroy refuses while it is held. No lock where the thread has asked the same since communicators were last
 * made or destroyed.
 */
EPX_NODISCARD enum epx_status epx_cann_comm_acquire(const char *argument, const char *group, int64_t rank,
                                                    const struct epx_cann_comm **comm);
void epx_cann_comm_release(const struct epx_cann_comm *comm);

/* Where a communicator is that may have been destroyed since; serial 0: none. */
struct epx_cann_comm_place {
    const struct epx_cann_comm *comm; /* not to be looked into */
    uint64_t serial;
};

/* Holds it again, without a lock. EPX_ERR_NOT_FOUND when it has been destroyed. */
EPX_NODISCARD enum epx_status epx_cann_comm_acquire_again(const struct epx_cann_comm_place *place,
                                                          const struct epx_cann_comm **comm);

#endif
