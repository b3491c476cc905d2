/*
 * Going on without those that are lost: the survivors of a failed communicator agree on who they are, and meet again.
 *
 * They decide in generations, counted in one word of the control region (`shrink`), which goes from generation g - 1 to
 * (g, rank) by one compare-and-swap: who swaps it has written its list of what became of each rank before, and that
 * list is the decision. Only members of generation g - 1 take part in g, so nobody comes back. When the members of g do
 * not all meet, those that are left decide g + 1. docs/protocol.md has the whole of it.
 */
#ifndef EPX_COMM_SHRINK_H
#define EPX_COMM_SHRINK_H

#include "comm/comm.h"

#include <stdint.h>

enum epx_fate { /* of a rank; 4 bits in a list */
                EPX_SHRINK_MEMBER = 0,
                EPX_SHRINK_DEAD = 1,
                EPX_SHRINK_LEFT = 2,
                EPX_SHRINK_SILENT = 3, /* has neither called in time, nor left, nor died */
                EPX_SHRINK_EXCLUDED = 4,
};

struct epx_shrink_request {
    int64_t timeout_ms;      /* how long a rank that neither calls nor ends is waited for; < 0: for ever */
    const uint32_t *exclude; /* ranks to be left out whatever they do; not the own one */
    uint32_t exclude_count;
};

/*
 * Collective among the ranks of `comm` that live. Gives the new communicator of those that called, in the order of
 * their old ranks, and what became of each old rank: `fates` has epx_comm_rank_count entries, the same on every rank
 * that succeeds. `comm` has failed or fails by this call, and is the caller's to close; it can be shrunk once.
 *
 * EPX_ERR_STATE (not failed and nobody to exclude; shrunk already), EPX_ERR_INVALID (exclude), EPX_ERR_UNSUPPORTED (a
 * world on several hosts), EPX_ERR_PEER_LEFT (the others go on without this rank), EPX_ERR_JOIN_TIMEOUT (the members
 * cannot meet), those of epx_comm_open. After the last two it may be called again. Thread: any, one call at a time.
 */
EPX_NODISCARD enum epx_status epx_shrink_run(struct epx_comm *comm, const struct epx_shrink_request *request,
                                             uint8_t *fates, struct epx_comm **out);

#endif
