/*
 * The centre of the census: a thread of rank 0's process. It gathers the ranks' hellos, sends everyone the whole census
 * and says when every rank has it. It holds no rank itself: its own rank reports like all others.
 */
#ifndef EPX_COMM_CENSUS_CENTRE_H
#define EPX_COMM_CENSUS_CENTRE_H

#include "comm/census_member.h"

struct epx_census_centre;

/*
 * Starts the thread. `listener` stays the caller's, `taking` must live until the stop and is read alone. The thread
 * ends when the census is complete or has failed, or when a rank is lost after all had reported: then every connection
 * is closed without a word and the ranks report again. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM.
 */
EPX_NODISCARD enum epx_status epx_census_centre_start(const struct epx_census_taking *taking, int listener,
                                                      struct epx_census_centre **out);

/* Ends the thread and frees all; what says that the census is complete has gone out before. */
void epx_census_centre_stop(struct epx_census_centre *centre);

#endif
