/*
 * The failure of a communicator: deciding it, once for all ranks, and taking over what was decided.
 */
#ifndef EPX_COMM_FAILURE_H
#define EPX_COMM_FAILURE_H

#include "comm/comm_object.h"

/* Whether the number is a status of a failure. */
bool epx_failure_status_exists(uint32_t status);

/* The cause that a failed `word` names in a region of rank_count ranks, or in a copy of one: its status, the thread's
 * error text being set; EPX_ERR_PROTOCOL for a rank or a status that cannot be. */
EPX_NODISCARD enum epx_status epx_failure_read(const struct epx_control *control, uint32_t rank_count, uint64_t word);

/* The cause that a failed `word` names, copied out of its rank's record and checked; sets the thread's error text. */
EPX_NODISCARD enum epx_status epx_failure_take(const struct epx_comm *comm, uint64_t word);

/*
 * Fails the communicator on every rank if exactly `step` steps are complete and it has not failed; otherwise changes
 * nothing. The caller looks at the word to see what came of it. Where another host decides this asks for it, and the
 * word changes later. Thread: any.
 */
void epx_failure_offer(struct epx_comm *comm, uint64_t step, enum epx_status status, const char *text);

/* Fails the communicator whatever the step; returns the status of the cause that was first. Thread: any. */
EPX_NODISCARD enum epx_status epx_failure_force(struct epx_comm *comm, enum epx_status status, const char *text);

/* Wakes this host's agent, in a world on several hosts. */
void epx_bell_ring(struct epx_control *control);

/* Completes `step` if it is the next and has not failed, and wakes its sleepers; whether it was this call. */
bool epx_word_complete(struct epx_control *control, uint64_t step);

/* Wakes every rank that sleeps on the word; to be called after the word has changed. */
void epx_word_wake(struct epx_control *control);

#endif
