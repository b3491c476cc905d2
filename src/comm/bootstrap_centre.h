/*
 * The centre of the star: a thread of the rank that came first. It gathers the ranks' hellos, hands the control region
 * and the arenas around and says when every rank has them. It holds no rank itself: its own rank joins like all others.
 */
#ifndef EPX_COMM_BOOTSTRAP_CENTRE_H
#define EPX_COMM_BOOTSTRAP_CENTRE_H

#include "comm/bootstrap.h"

struct epx_boot_centre;

/*
 * Starts the thread; it owns `listener` and `own_end`, the connection of its own rank, from here on, after a failure
 * too. `request` must live until the stop. The
 * thread ends when the start is complete or has failed, or when a rank is lost after the roll was closed: then every
 * connection is closed without a word and the ranks meet again. EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM.
 */
EPX_NODISCARD enum epx_status epx_boot_centre_start(const struct epx_bootstrap_request *request, int listener,
                                                    int own_end, struct epx_boot_centre **out);

/* Ends the thread, which tells the ranks that another centre is needed unless it was over already, and frees all. */
void epx_boot_centre_stop(struct epx_boot_centre *centre);

#endif
