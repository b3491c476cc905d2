/*
 * Where a world whose ranks may be on several hosts meets: at an address of rank 0's host. Decided before anybody is
 * dialled, from the environment and the rank table.
 */
#ifndef EPX_COMM_MEETING_H
#define EPX_COMM_MEETING_H

#include "base/status.h"
#include "comm/census.h"
#include "comm/rank_table.h"

#include <stdbool.h>

/*
 * EPX_ROOT, when set, is the place: "address:port" or "address:first-last", an IPv6 address in brackets. Else, with a
 * rank table of several servers one of whose addresses (host_ip, server_id where it is an address, the device_ip of its
 * first rank) is an address of this machine, loopback apart: the address of rank 0's server, with the ports of
 * HCCL_HOST_SOCKET_PORT_RANGE or the 32 from HCCL_IF_BASE_PORT on. Else *meets is false: the world is one of this host,
 * whatever servers its table names, and no address of it is ever dialled.
 *
 * `table` may be null. EPX_ERR_CONFIG, EPX_ERR_SYSTEM. Thread: any.
 */
EPX_NODISCARD enum epx_status epx_meeting_choose(const struct epx_rank_table *table, struct epx_meeting *meeting,
                                                 bool *meets);

/* A meeting at a host that a launcher names, at the same ports. Asks the resolver. EPX_ERR_CONFIG when the name has no
 * address. */
EPX_NODISCARD enum epx_status epx_meeting_at(const char *host, struct epx_meeting *meeting);

/*
 * The place of a world that one process, on rank 0's host, tells all others of: EPX_ROOT; else HCCL_IF_IP; else the
 * address of the first interface that HCCL_SOCKET_IFNAME names (names of containers' bridges, docker..., come last),
 * of HCCL_SOCKET_FAMILY. Of the latter two only an address of this machine counts, loopback apart. Else *meets is
 * false. own_ip stays empty: it is each rank's own. EPX_ERR_CONFIG, EPX_ERR_SYSTEM. Thread: any.
 */
EPX_NODISCARD enum epx_status epx_meeting_choose_here(struct epx_meeting *meeting, bool *meets);

/* Reads the text of EPX_ROOT. Pure. */
EPX_NODISCARD enum epx_status epx_meeting_parse(const char *text, struct epx_meeting *meeting);

/* Reads a port list: "60000,60050-60100"; at most EPX_CENSUS_PORT_MAX ports are taken. `name` is for messages. Pure. */
EPX_NODISCARD enum epx_status epx_ports_parse(const char *name, const char *text, uint16_t *ports, uint32_t *count);

#endif
