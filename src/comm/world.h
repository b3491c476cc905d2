/*
 * What a world on several hosts needs beside the rendezvous of the ranks of a host, when a communicator is opened and
 * closed. All of it does nothing in a world without a meeting point in the network, or whose census finds one host.
 */
#ifndef EPX_COMM_WORLD_H
#define EPX_COMM_WORLD_H

#include "comm/comm_object.h"

/* Opens the wire and takes the census: comm->hosts and here_count. To be called first. */
EPX_NODISCARD enum epx_status epx_world_meet(struct epx_comm *comm, const struct epx_comm_spec *spec,
                                             struct epx_census *census);

/* What the ranks of this host share: the world's key, and in a world on several hosts the host's number. */
void epx_world_host_key(const struct epx_comm *comm, const uint8_t key[32], uint8_t host_key[32]);

/* Fills comm->arenas after the rendezvous. EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_world_arenas(struct epx_comm *comm);

/* Connects to the stand-ins, starts the leader's agent (which takes the census's links) and meets all ranks. */
EPX_NODISCARD enum epx_status epx_world_connect(struct epx_comm *comm, const struct epx_comm_spec *spec,
                                                struct epx_census *census);

/* Ends agent, remote rounds and wire. A child of fork only forgets them. */
void epx_world_leave(struct epx_comm *comm);

#endif
