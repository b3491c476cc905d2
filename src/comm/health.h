/*
 * Who is missing, and why: deaths, departures, lateness. Reads the others' slots, writes nothing.
 * Thread: any.
 */
#ifndef EPX_COMM_HEALTH_H
#define EPX_COMM_HEALTH_H

#include "comm/comm_object.h"
#include "comm/health_view.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Whether `step` can never complete: EPX_ERR_PEER_LEFT when a rank has left without arriving at it, EPX_ERR_PEER_DEAD
 * when a rank that has not left is dead, with the text; EPX_OK else. True only if the step is still incomplete
 * afterwards: the caller decides by compare-and-swap of the word. `needed` is the activity of this rank that needs the
 * step, for the text.
 */
EPX_NODISCARD enum epx_status epx_health_examine(const struct epx_comm *comm, uint64_t step, uint64_t needed,
                                                 char *text, size_t text_bytes);

/* The line of blame for a wait at `step` that began at `since_ns`; "" when every rank has arrived. */
void epx_health_blame(const struct epx_comm *comm, uint64_t step, uint64_t since_ns, char *text, size_t text_bytes);

/* At a deadline: whether to wait a little longer, until a grace after `deadline_ns` has passed, so that the right one
 * is blamed. See epx_health_view_is_unsure. */
bool epx_health_is_unsure(const struct epx_comm *comm, uint64_t step, uint64_t deadline_ns);

/* See epx_health_view_blame_silence. */
bool epx_health_blame_silence(const struct epx_comm *comm, const struct epx_rank_set *late, uint64_t since_ns,
                              char *text, size_t text_bytes);

#endif
