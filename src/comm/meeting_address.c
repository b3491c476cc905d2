#include "comm/meeting_address.h"

#include "base/config.h"
#include "comm/meeting.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BASE_PORT_COUNT 32u

bool epx_address_read(const char *text, union epx_address *address)
{
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        return true;
    }
    return false;
}

void epx_address_port_set(union epx_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET) {
        address->v4.sin_port = htons(port);
    } else {
        address->v6.sin6_port = htons(port);
    }
}

bool epx_address_same_ip(const union epx_address *a, const union epx_address *b)
{
    if (a->any.sa_family != b->any.sa_family) {
        return false;
    }
    return a->any.sa_family == AF_INET ? a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr
                                       : memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

bool epx_address_is_loopback(const union epx_address *address)
{
    return address->any.sa_family == AF_INET ? ntohl(address->v4.sin_addr.s_addr) >> 24 == 127
                                             : IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

bool epx_address_is_own(const struct ifaddrs *interfaces, const union epx_address *address)
{
    for (const struct ifaddrs *one = interfaces; one != NULL; one = one->ifa_next) {
        union epx_address found = {0};
        if (one->ifa_addr == NULL) {
            continue;
        }
        if (one->ifa_addr->sa_family == AF_INET) {
            memcpy(&found.v4, one->ifa_addr, sizeof found.v4);
        } else if (one->ifa_addr->sa_family == AF_INET6) {
            memcpy(&found.v6, one->ifa_addr, sizeof found.v6);
        }
        if (epx_address_same_ip(&found, address)) {
            return true;
        }
    }
    return false;
}

void epx_meeting_own_ip(struct epx_meeting *meeting)
{
    union epx_address own = {0};
    socklen_t bytes = sizeof own;
    bool is_v4 = meeting->root.any.sa_family == AF_INET;
    int fd = socket(meeting->root.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, &meeting->root.any, is_v4 ? sizeof meeting->root.v4 : sizeof meeting->root.v6) == 0 &&
        getsockname(fd, &own.any, &bytes) == 0) {
        const void *ip = is_v4 ? (const void *)&own.v4.sin_addr : (const void *)&own.v6.sin6_addr;
        (void)inet_ntop(own.any.sa_family, ip, meeting->own_ip, sizeof meeting->own_ip);
    }
    (void)close(fd);
}

enum epx_status epx_meeting_ports(struct epx_meeting *meeting)
{
    const char *range = epx_option_text(EPX_OPTION_HCCL_HOST_SOCKET_PORT_RANGE);
    if (range[0] != '\0' && strcmp(range, "auto") != 0) {
        return epx_ports_parse("HCCL_HOST_SOCKET_PORT_RANGE", range, meeting->ports, &meeting->port_count);
    }
    int64_t base = 0;
    meeting->port_count = 0;
    EPX_TRY(epx_option_integer(EPX_OPTION_HCCL_IF_BASE_PORT, &base));
    for (uint32_t i = 0; i < BASE_PORT_COUNT && base + i <= UINT16_MAX; i++) {
        meeting->ports[meeting->port_count++] = (uint16_t)(base + i);
    }
    return EPX_OK;
}
