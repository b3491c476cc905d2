/*
 * The hosts that rank 0 of a world on several hosts takes: with HCCL_WHITELIST_DISABLE=0 those that the host_ip list of
 * HCCL_WHITELIST_FILE names, and its own; without a file its own alone. Asked before a connection has said a word.
 */
#ifndef EPX_COMM_WHITELIST_H
#define EPX_COMM_WHITELIST_H

#include "base/status.h"
#include "comm/census.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_whitelist { /* admits everybody when zeroed */
    bool enabled;
    uint32_t count;
    union epx_address *addresses;
};

/* EPX_ERR_CONFIG: the variable, the file or an address in it is wrong; EPX_ERR_NO_MEMORY. *list is empty then. */
EPX_NODISCARD enum epx_status epx_whitelist_load(struct epx_whitelist *list);
void epx_whitelist_fini(struct epx_whitelist *list);

/* Whether the other end of a connected socket may stay. Null admits everybody. */
bool epx_whitelist_admits(const struct epx_whitelist *list, int fd);

#endif
