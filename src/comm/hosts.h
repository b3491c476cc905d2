/*
 * The hosts of a world and who stands for whom. Constant while the communicator is open.
 *
 * Hosts are numbered in the order of their lowest ranks, so host 0 has rank 0; the lowest rank of a host is its leader.
 * A rank has a stand-in on every other host: the rank there whose place in its host is the place of the rank in its
 * own, modulo the number of ranks there. A rank sends to its stand-ins, and receives from those it stands for.
 */
#ifndef EPX_COMM_HOSTS_H
#define EPX_COMM_HOSTS_H

#include "base/status.h"
#include "comm/census.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_wire;
struct epx_remote;
struct epx_agent;

struct epx_hosts {
    uint32_t host_count; /* 2 and more */
    uint32_t own_host;
    uint32_t here_count;
    uint32_t *host_of;    /* by rank */
    uint32_t *place_of;   /* in its host, by rank */
    uint32_t *host_first; /* host_count + 1: where a host's ranks begin in host_ranks */
    uint32_t *host_ranks; /* by host, ascending */
    uint32_t *pids;       /* by rank, as each rank knows its own */
    char (*host_names)[EPX_CENSUS_NAME_BYTES];
    char (*host_ips)[EPX_CENSUS_IP_BYTES]; /* where worlds whose rank 0 is there meet; "" when not known */
    struct epx_meeting meeting;            /* of this world */
    uint64_t silence_ns;                   /* after which a host, or the agent of this one, is lost */
    struct epx_wire *wire;                 /* connected; a peer's number is its rank */
    struct epx_remote *remote;             /* see remote.h */
    struct epx_agent *agent;               /* the leader's; null on other ranks */
};

/* From a census of two hosts and more. EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_hosts_create(const struct epx_census *census, uint32_t rank, struct epx_hosts **out);

/* Frees the tables; wire, remote and agent have been ended before. Null is allowed. */
void epx_hosts_destroy(struct epx_hosts *hosts);

static inline uint32_t epx_hosts_rank_count(const struct epx_hosts *hosts, uint32_t host)
{
    return hosts->host_first[host + 1] - hosts->host_first[host];
}

static inline uint32_t epx_hosts_rank_at(const struct epx_hosts *hosts, uint32_t host, uint32_t place)
{
    return hosts->host_ranks[hosts->host_first[host] + place];
}

static inline uint32_t epx_hosts_leader(const struct epx_hosts *hosts, uint32_t host)
{
    return epx_hosts_rank_at(hosts, host, 0);
}

/* The rank of `host` that stands for `rank`, which is on another host. */
static inline uint32_t epx_hosts_stand_in(const struct epx_hosts *hosts, uint32_t rank, uint32_t host)
{
    return epx_hosts_rank_at(hosts, host, hosts->place_of[rank] % epx_hosts_rank_count(hosts, host));
}

#endif
