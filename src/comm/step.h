/*
 * One step: arriving, and waiting until every rank has arrived or the communicator has failed. docs/protocol.md has the
 * argument why this is safe.
 */
#ifndef EPX_COMM_STEP_H
#define EPX_COMM_STEP_H

#include "comm/comm_object.h"

#include <stdbool.h>

/* The policy that EPX_WAIT asks for: EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_wait_policy_choose(uint32_t rank_count, struct epx_wait_policy *policy);

/* Arrives at the rank's next step, the last of its round or one before. In a world on several hosts all hosts meet at
 * the last one, and the ranks of a host at the others. Else than EPX_OK: the communicator has failed, with this status.
 * Thread: the one that runs the round. */
EPX_NODISCARD enum epx_status epx_step_arrive(struct epx_comm *comm, bool is_last);

/*
 * Waits for the step at which the rank has arrived. EPX_OK and not *pending: it is complete, all memory that any rank
 * had written before it arrived is visible, and the time since the arrival has been added to *waited_ns. *pending:
 * until_ns (epx_clock_ns) has passed first; to be called again, by any thread. Else the communicator has failed, with
 * this status.
 */
EPX_NODISCARD enum epx_status epx_step_await(struct epx_comm *comm, uint64_t until_ns, uint64_t *waited_ns,
                                             bool *pending);

/* epx_round_pace of this rank's next part. Thread: the one that runs the round. */
void epx_step_pace(struct epx_comm *comm);

/* The tag of a world for epx_comm.order_tag. */
char *epx_step_order_tag(const uint8_t key[32]);

#endif
