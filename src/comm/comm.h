/*
 * A communicator: the ranks of one expert-parallel (or tensor-parallel) world, their mapped arenas and the control
 * region through which they agree. One object a rank; ranks may be threads of one process.
 */
#ifndef EPX_COMM_COMM_H
#define EPX_COMM_COMM_H

#include "base/status.h"
#include "memory/arena.h"

#include <stdbool.h>
#include <stdint.h>

#define EPX_COMM_NAME_BYTES 128
#define EPX_COMM_RANK_MAX   4096u

struct epx_meeting;

struct epx_comm_spec {
    uint8_t key[32]; /* see bootstrap.h */
    char name[EPX_COMM_NAME_BYTES];
    uint32_t rank;
    uint32_t rank_count; /* 1 .. EPX_COMM_RANK_MAX */
    uint32_t
        server_rank_count;   /* ranks of one server, the inner level of the two-level algorithm; ranks of a server are
                                consecutive. rank_count when there is one server, 0 when servers differ in size */
    int64_t join_timeout_ms; /* < 0: never */
    int64_t op_timeout_ms;   /* deadline of one wait inside a round; < 0: never */
    const char *what;        /* for messages */
    const struct epx_meeting *meeting;  /* null: all ranks are on this host; see census.h */
    bool (*is_hopeless)(void *context); /* see bootstrap.h; null: never */
    void *context;
};

struct epx_comm;

/* Collective. Errors: those of epx_bootstrap_join, EPX_ERR_INVALID. */
EPX_NODISCARD enum epx_status epx_comm_open(const struct epx_comm_spec *spec, struct epx_comm **out);

/* Local, never waits for peers: peers that wait for this rank from now on fail with EPX_ERR_PEER_LEFT; peers that do
 * not are not disturbed. EPX_ERR_STATE while a round of this rank is queued or running (the communicator stays open).
 */
EPX_NODISCARD enum epx_status epx_comm_close(struct epx_comm *comm);

const char *epx_comm_name(const struct epx_comm *comm);
uint32_t epx_comm_rank(const struct epx_comm *comm);
uint32_t epx_comm_rank_count(const struct epx_comm *comm);
uint32_t epx_comm_server_rank_count(const struct epx_comm *comm);

/* Hosts of the world, from 0 in the order of their lowest ranks; the host of a rank; whether it is the own one. */
uint32_t epx_comm_host_count(const struct epx_comm *comm);
uint32_t epx_comm_host_of(const struct epx_comm *comm, uint32_t rank);
bool epx_comm_is_here(const struct epx_comm *comm, uint32_t rank);

/* What carries messages to other hosts, for people: "UCX 1.13.1", "none (built without UCX)". Static. Loads it. */
const char *epx_comm_wire_description(void);

/* The rank of `host` that stands for `rank` of another host: see hosts.h. */
uint32_t epx_comm_stand_in(const struct epx_comm *comm, uint32_t rank, uint32_t host);

/* Where some of its ranks, the first of which is to be rank 0, meet for a world of their own: that rank's host, at the
 * ports of this world. *meets is false when all of them are on one host. The same for every one of them, but for the
 * own address. EPX_ERR_NOT_FOUND: that host's address is not known. */
EPX_NODISCARD enum epx_status epx_comm_sub_meeting(const struct epx_comm *comm, const uint32_t *ranks, uint32_t count,
                                                   struct epx_meeting *meeting, bool *meets);

/* Address of [offset, offset + bytes) of a rank's arena, null when outside what the rank has committed. For a rank of
 * another host: of the arena of the rank here that stands for it. */
const void *epx_comm_peer_at(const struct epx_comm *comm, uint32_t rank, uint64_t offset, uint64_t bytes);

/* Process id of a rank as the rank knows it: another namespace's when that is where it runs. 0 when there is no such
 * rank. */
uint32_t epx_comm_process_of(const struct epx_comm *comm, uint32_t rank);

/* EPX_OK, or the status with which the communicator has failed; the thread's error text is set to the cause. */
EPX_NODISCARD enum epx_status epx_comm_failure(const struct epx_comm *comm);

/* Fails the communicator on every rank, now, from any thread. The first cause wins; returns that cause's status. */
EPX_NODISCARD enum epx_status epx_comm_abort(struct epx_comm *comm, enum epx_status status, const char *text);

/* "rank 5 (pid 4711) has not entered dispatch round 812; ranks 0-4,6-15 have waited 2.0 s" for the wait in which this
 * rank is at the moment; "" when it is in none. Thread: any. */
void epx_comm_blame(const struct epx_comm *comm, char *text, size_t text_bytes);

#endif
