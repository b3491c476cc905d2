/*
 * The communicators of this process, as the hccl functions make and end them. Handles are numbers, never addresses: any
 * value a program passes can be looked up. After fork the child has none. Thread: any.
 */
#ifndef EPX_CANN_HCCL_REGISTRY_H
#define EPX_CANN_HCCL_REGISTRY_H

#include "base/status.h"
#include "cann/hccl_state.h"

#include "hccl/hccl_types.h"

#include <stdbool.h>
#include <stdint.h>

/* Takes over the communicator of `given`, a copy of which gets a serial. EPX_ERR_NO_MEMORY: it stays the caller's. */
EPX_NODISCARD enum epx_status epx_hccl_registry_add(const struct epx_cann_comm *given, HcclComm *handle);

/* Holds the communicator of a handle until epx_cann_comm_release. EPX_ERR_NOT_FOUND. */
EPX_NODISCARD enum epx_status epx_hccl_registry_acquire(HcclComm handle, const struct epx_cann_comm **comm);

/* The handle of the newest communicator of this name on this device. EPX_ERR_NOT_FOUND. */
EPX_NODISCARD enum epx_status epx_hccl_registry_find(const char *name, int32_t device, HcclComm *handle);

/* Whether a communicator with this name, rank and device exists. */
bool epx_hccl_registry_has(const char *name, uint32_t rank, int32_t device);

/* Closes and forgets it. EPX_ERR_NOT_FOUND; EPX_ERR_STATE while it is held or has rounds queued. */
EPX_NODISCARD enum epx_status epx_hccl_registry_destroy(HcclComm handle);

/* Marks a sub-communicator's number as used in its parent. EPX_ERR_INVALID when it was used before. */
EPX_NODISCARD enum epx_status epx_hccl_registry_claim_sub(HcclComm parent, uint64_t sub_id);
void epx_hccl_registry_unclaim_sub(HcclComm parent, uint64_t sub_id);

#endif
