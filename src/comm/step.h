/*
 * One step: arriving, and waiting until every rank has arrived or the communicator has failed. docs/protocol.md has the
 * argument why this is safe.
 */
#ifndef EPX_COMM_STEP_H
#define EPX_COMM_STEP_H

#include "comm/comm_object.h"

/* The policy that EPX_WAIT asks for: EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_wait_policy_choose(uint32_t rank_count, struct epx_wait_policy *policy);

/*
 * Arrives at the rank's next step and waits for it; adds the time to *waited_ns. EPX_OK: the step is complete, and all
 * memory that any rank had written before it arrived is visible. Else the communicator has failed, with this status.
 * Thread: the one that runs the round.
 */
EPX_NODISCARD enum epx_status epx_step_pass(struct epx_comm *comm, uint64_t *waited_ns);

/* The tag of a world for epx_comm.order_tag. */
char *epx_step_order_tag(const uint8_t key[32]);

#endif
