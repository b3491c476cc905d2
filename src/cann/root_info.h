/*
 * Root information: 4108 opaque bytes that name one communicator to be. Its ranks meet by the random key in them.
 */
#ifndef EPX_CANN_ROOT_INFO_H
#define EPX_CANN_ROOT_INFO_H

#include "base/status.h"

#include "hccl/hccl_types.h"

#include <stdint.h>

struct epx_root_info {
    uint8_t key[32];
    char name[COMM_NAME_MAX_LENGTH]; /* "<address>_<port>_<device>_<time>" */
};

/* A new one for a communicator whose root is on `device`. EPX_ERR_SYSTEM, EPX_ERR_CONFIG. Thread: any. */
EPX_NODISCARD enum epx_status epx_root_info_create(int32_t device, struct epx_root_info *info);

/* To and from what programs carry about. EPX_ERR_INVALID when the bytes are not such information. */
void epx_root_info_pack(const struct epx_root_info *info, HcclRootInfo *out);
EPX_NODISCARD enum epx_status epx_root_info_unpack(const HcclRootInfo *bytes, struct epx_root_info *info);

#endif
