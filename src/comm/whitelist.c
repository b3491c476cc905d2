#include "comm/whitelist.h"

#include "base/config.h"
#include "comm/json_file.h"
#include "comm/meeting_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum epx_status take_address(void *context, const char *text)
{
    struct epx_whitelist *list = context;
    union epx_address *more = realloc(list->addresses, (list->count + (size_t)1) * sizeof *more);
    if (more == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a list of %u addresses", list->count + 1);
    }
    list->addresses = more;
    if (!epx_address_read(text, &more[list->count])) {
        return epx_fail(EPX_ERR_CONFIG, "host_ip[%u] is \"%.100s\", must be an IPv4 or IPv6 address", list->count,
                        text);
    }
    list->count++;
    return EPX_OK;
}

enum epx_status epx_whitelist_load(struct epx_whitelist *list)
{
    int64_t disabled = 1;
    *list = (struct epx_whitelist){.enabled = false};
    EPX_TRY(epx_option_integer(EPX_OPTION_HCCL_WHITELIST_DISABLE, &disabled));
    list->enabled = disabled == 0;
    if (!list->enabled || !epx_option_is_set(EPX_OPTION_HCCL_WHITELIST_FILE)) {
        return EPX_OK;
    }
    enum epx_status status =
        epx_json_file_texts(epx_option_text(EPX_OPTION_HCCL_WHITELIST_FILE), "host_ip", take_address, list);
    if (status == EPX_OK) {
        return EPX_OK;
    }
    epx_whitelist_fini(list);
    if (status == EPX_ERR_NO_MEMORY) {
        return status;
    }
    char reason[EPX_ERROR_TEXT_BYTES];
    (void)snprintf(reason, sizeof reason, "%s", epx_error_text());
    return epx_fail(EPX_ERR_CONFIG, "HCCL_WHITELIST_FILE: %.400s", reason);
}

void epx_whitelist_fini(struct epx_whitelist *list)
{
    free(list->addresses);
    *list = (struct epx_whitelist){.enabled = false};
}

static bool ends_read(int fd, union epx_address *own, union epx_address *peer)
{
    socklen_t own_bytes = sizeof *own;
    socklen_t peer_bytes = sizeof *peer;
    memset(own, 0, sizeof *own);
    memset(peer, 0, sizeof *peer);
    return getsockname(fd, &own->any, &own_bytes) == 0 && getpeername(fd, &peer->any, &peer_bytes) == 0;
}

bool epx_whitelist_admits(const struct epx_whitelist *list, int fd)
{
    union epx_address own;
    union epx_address peer;
    if (list == NULL || !list->enabled) {
        return true;
    }
    if (!ends_read(fd, &own, &peer)) {
        return false;
    }
    if (peer.any.sa_family != AF_INET && peer.any.sa_family != AF_INET6) {
        return false;
    }
    if (epx_address_is_loopback(&peer) || epx_address_same_ip(&own, &peer)) {
        return true;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (epx_address_same_ip(&list->addresses[i], &peer)) {
            return true;
        }
    }
    return false;
}
