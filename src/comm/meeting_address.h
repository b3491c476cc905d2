/*
 * Addresses, as the choice of a meeting place needs them. Numeric only: no name is ever looked up.
 */
#ifndef EPX_COMM_MEETING_ADDRESS_H
#define EPX_COMM_MEETING_ADDRESS_H

#include "base/status.h"
#include "comm/census.h"

#include <ifaddrs.h>
#include <stdbool.h>

/* IPv4 or IPv6; the rest of *address is zero. False: it is neither. */
bool epx_address_read(const char *text, union epx_address *address);
void epx_address_port_set(union epx_address *address, uint16_t port);

/* Without the ports. */
bool epx_address_same_ip(const union epx_address *a, const union epx_address *b);
bool epx_address_is_loopback(const union epx_address *address);
bool epx_address_is_own(const struct ifaddrs *interfaces, const union epx_address *address);

/* Fills own_ip with the own address from which the root is reached: the kernel's routing says it, nothing is sent. */
void epx_meeting_own_ip(struct epx_meeting *meeting);

/* Fills the ports: of HCCL_HOST_SOCKET_PORT_RANGE, else the 32 from HCCL_IF_BASE_PORT on. EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_meeting_ports(struct epx_meeting *meeting);

#endif
