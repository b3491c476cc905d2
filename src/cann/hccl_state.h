/*
 * Communicators of the CANN door: found by (group name, rank, device), since ranks may be threads of one process and
 * two of them may share name and device.
 */
#ifndef EPX_CANN_HCCL_STATE_H
#define EPX_CANN_HCCL_STATE_H

#include "base/status.h"
#include "comm/comm.h"

#include <stdint.h>

/*
 * The communicator that a call means by a group name: the one with this name and rank on the current device; else with
 * this name and rank on any device. EPX_ERR_NOT_FOUND names the argument, what was asked and what exists. Held until
 * released: destroy refuses while it is held.
 */
EPX_NODISCARD enum epx_status epx_cann_comm_acquire(const char *argument, const char *group, int64_t rank,
                                                    struct epx_comm **comm);
void epx_cann_comm_release(struct epx_comm *comm);

/* HCCL_BUFFSIZE of the communicator in MiB, as read when it was created (or its configuration). */
uint32_t epx_cann_comm_buffer_mib(const struct epx_comm *comm);

/* A number that no other communicator of this process ever has. The communicator must be held. */
uint64_t epx_cann_comm_serial(const struct epx_comm *comm);

/* Holds the communicator with this number again. EPX_ERR_NOT_FOUND when it has been destroyed. */
EPX_NODISCARD enum epx_status epx_cann_comm_acquire_serial(uint64_t serial, struct epx_comm **comm);

#endif
