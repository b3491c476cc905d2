#include "comm/meeting.h"

#include "base/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BASE_PORT_COUNT 32u

/* ---- Texts ----------------------------------------------------------------------------------------------------- */

static bool read_port(const char **text, uint16_t *port)
{
    char *end = NULL;
    errno = 0;
    if (**text < '0' || **text > '9') {
        return false;
    }
    unsigned long number = strtoul(*text, &end, 10);
    if (errno != 0 || number == 0 || number > UINT16_MAX) {
        return false;
    }
    *text = end;
    *port = (uint16_t)number;
    return true;
}

/* One "port" or "first-last"; what is more than there is room for is left out. */
static bool read_range(const char **text, uint16_t *ports, uint32_t *count)
{
    uint16_t first;
    uint16_t last;
    if (!read_port(text, &first)) {
        return false;
    }
    last = first;
    if (**text == '-') {
        (*text)++;
        if (!read_port(text, &last) || last < first) {
            return false;
        }
    }
    for (uint32_t port = first; port <= last && *count < EPX_CENSUS_PORT_MAX; port++) {
        ports[(*count)++] = (uint16_t)port;
    }
    return true;
}

enum epx_status epx_ports_parse(const char *name, const char *text, uint16_t *ports, uint32_t *count)
{
    const char *rest = text;
    *count = 0;
    bool right = read_range(&rest, ports, count);
    while (right && *rest == ',') {
        rest++;
        right = read_range(&rest, ports, count);
    }
    if (!right || *rest != '\0') {
        return epx_fail(EPX_ERR_CONFIG, "%s is \"%.200s\", must be ports in [1, 65535], for example 60000,60050-60100",
                        name, text);
    }
    return EPX_OK;
}

static bool address_read(const char *text, union epx_address *address)
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

static void port_set(union epx_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET) {
        address->v4.sin_port = htons(port);
    } else {
        address->v6.sin6_port = htons(port);
    }
}

static enum epx_status root_refuse(const char *text)
{
    return epx_fail(EPX_ERR_CONFIG,
                    "EPX_ROOT is \"%.200s\", must be ADDRESS:PORT or ADDRESS:FIRST-LAST, an IPv6 address "
                    "in brackets",
                    text);
}

enum epx_status epx_meeting_parse(const char *text, struct epx_meeting *meeting)
{
    char ip[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    memset(meeting, 0, sizeof *meeting);
    if (colon == NULL) {
        return root_refuse(text);
    }
    const char *first = text;
    size_t bytes = (size_t)(colon - text);
    bool in_brackets = bytes >= 2 && text[0] == '[' && colon[-1] == ']';
    if (in_brackets) {
        first++;
        bytes -= 2;
    }
    if (bytes >= sizeof ip) {
        return root_refuse(text);
    }
    memcpy(ip, first, bytes);
    ip[bytes] = '\0';
    if (!address_read(ip, &meeting->root) || in_brackets != (meeting->root.any.sa_family == AF_INET6) ||
        epx_ports_parse("EPX_ROOT", colon + 1, meeting->ports, &meeting->port_count) != EPX_OK) {
        return root_refuse(text);
    }
    port_set(&meeting->root, meeting->ports[0]);
    return EPX_OK;
}

/* ---- Addresses of this machine --------------------------------------------------------------------------------- */

static bool same_ip(const union epx_address *a, const union epx_address *b)
{
    if (a->any.sa_family != b->any.sa_family) {
        return false;
    }
    return a->any.sa_family == AF_INET ? a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr
                                       : memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

static bool is_loopback(const union epx_address *address)
{
    return address->any.sa_family == AF_INET ? ntohl(address->v4.sin_addr.s_addr) >> 24 == 127
                                             : IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

static bool is_own(const struct ifaddrs *interfaces, const union epx_address *address)
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
        if (same_ip(&found, address)) {
            return true;
        }
    }
    return false;
}

/* The own address from which the root is reached: the kernel's routing says it, nothing is sent. */
static void own_ip_find(struct epx_meeting *meeting)
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

/* ---- Rank tables ----------------------------------------------------------------------------------------------- */

static bool server_address(const struct epx_rank_table *table, uint32_t server, union epx_address *address)
{
    const struct epx_server_entry *entry = &table->servers[server];
    return address_read(entry->host_ip, address) || address_read(entry->id, address) ||
           address_read(table->ranks[entry->first_rank].device_ip, address);
}

static bool table_is_of_hosts(const struct epx_rank_table *table, const struct ifaddrs *interfaces)
{
    for (uint32_t server = 0; server < table->server_count; server++) {
        union epx_address address;
        if (server_address(table, server, &address) && !is_loopback(&address) && is_own(interfaces, &address)) {
            return true;
        }
    }
    return false;
}

static enum epx_status ports_choose(struct epx_meeting *meeting)
{
    const char *range = epx_option_text(EPX_OPTION_HCCL_HOST_SOCKET_PORT_RANGE);
    if (range[0] != '\0' && strcmp(range, "auto") != 0) {
        return epx_ports_parse("HCCL_HOST_SOCKET_PORT_RANGE", range, meeting->ports, &meeting->port_count);
    }
    int64_t base = 0;
    EPX_TRY(epx_option_integer(EPX_OPTION_HCCL_IF_BASE_PORT, &base));
    for (uint32_t i = 0; i < BASE_PORT_COUNT && base + i <= UINT16_MAX; i++) {
        meeting->ports[meeting->port_count++] = (uint16_t)(base + i);
    }
    return EPX_OK;
}

static enum epx_status choose_by_table(const struct epx_rank_table *table, struct epx_meeting *meeting, bool *meets)
{
    struct ifaddrs *interfaces = NULL;
    if (getifaddrs(&interfaces) != 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "getifaddrs");
    }
    *meets = table_is_of_hosts(table, interfaces) && server_address(table, table->ranks[0].server, &meeting->root) &&
             !is_loopback(&meeting->root);
    freeifaddrs(interfaces);
    if (!*meets) {
        return EPX_OK;
    }
    EPX_TRY(ports_choose(meeting));
    port_set(&meeting->root, meeting->ports[0]);
    return EPX_OK;
}

enum epx_status epx_meeting_at(const char *host, struct epx_meeting *meeting)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    memset(meeting, 0, sizeof *meeting);
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error != 0) {
        return epx_fail(EPX_ERR_CONFIG, "rank 0's host is \"%.200s\", which has no address: %s", host,
                        gai_strerror(error));
    }
    memcpy(&meeting->root, found->ai_addr,
           found->ai_addrlen < sizeof meeting->root ? found->ai_addrlen : sizeof meeting->root);
    freeaddrinfo(found);
    EPX_TRY(ports_choose(meeting));
    port_set(&meeting->root, meeting->ports[0]);
    own_ip_find(meeting);
    return EPX_OK;
}

enum epx_status epx_meeting_choose(const struct epx_rank_table *table, struct epx_meeting *meeting, bool *meets)
{
    const char *root = epx_option_text(EPX_OPTION_ROOT);
    memset(meeting, 0, sizeof *meeting);
    *meets = root[0] != '\0';
    if (*meets) {
        EPX_TRY(epx_meeting_parse(root, meeting));
    } else if (table != NULL && table->server_count > 1) {
        EPX_TRY(choose_by_table(table, meeting, meets));
    }
    if (*meets) {
        own_ip_find(meeting);
    }
    return EPX_OK;
}
