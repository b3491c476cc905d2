/*
 * The links between the leaders (lowest ranks) of the hosts: rank 0 holds a second door, each other leader comes to it.
 */
#ifndef EPX_COMM_CENSUS_LINKS_H
#define EPX_COMM_CENSUS_LINKS_H

#include "comm/census_member.h"

/*
 * After the census: fills links and link_count of the draft's census as census.h says; `listener` is rank 0's, of other
 * ranks -1, and stays the caller's. EPX_ERR_JOIN_TIMEOUT naming the host that has not linked; EPX_ERR_RENDEZVOUS when
 * rank 0 is gone; EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM.
 */
EPX_NODISCARD enum epx_status epx_census_links_make(struct epx_census_taking *taking, int listener);

/* Rank 0's part of it (census_gate.c), with `links` allocated and -1. */
EPX_NODISCARD enum epx_status epx_census_links_gather(struct epx_census_taking *taking, int listener);

/* The lowest rank of a host below host_count. */
uint32_t epx_census_leader_of(const struct epx_census *census, uint32_t host);

void epx_census_links_close(struct epx_census *census);

#endif
