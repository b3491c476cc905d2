/*
 * Root information: 4108 opaque bytes that name one communicator to be. Its ranks meet by the random key in them; in
 * the network when they carry an address, else all on one host.
 */
#ifndef EPX_CANN_ROOT_INFO_H
#define EPX_CANN_ROOT_INFO_H

#include "base/status.h"

#include "hccl/hccl_types.h"

#include "comm/census.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_root_info {
    uint8_t key[32];
    char name[COMM_NAME_MAX_LENGTH];     /* "<address>_<port>_<device>_<time>" */
    uint8_t ip[16];                      /* network order; 4 bytes of it for IPv4 */
    uint16_t ip_bytes;                   /* 4, 16, or 0: all ranks are on one host */
    uint16_t port_count;                 /* of ports */
    uint16_t ports[EPX_CENSUS_PORT_MAX]; /* where rank 0 may listen */
};

/* A new one for a communicator whose root is on `device`, with the place that epx_meeting_choose_here gives unless it
 * is `local`. EPX_ERR_SYSTEM, EPX_ERR_CONFIG. Thread: any. */
EPX_NODISCARD enum epx_status epx_root_info_create(int32_t device, bool local, struct epx_root_info *info);

/* Where its ranks meet, with this host's own address. False: on one host. */
bool epx_root_info_meeting(const struct epx_root_info *info, struct epx_meeting *meeting);

/* To and from what programs carry about. EPX_ERR_INVALID when the bytes are not such information. */
void epx_root_info_pack(const struct epx_root_info *info, HcclRootInfo *out);
EPX_NODISCARD enum epx_status epx_root_info_unpack(const HcclRootInfo *bytes, struct epx_root_info *info);

#endif
