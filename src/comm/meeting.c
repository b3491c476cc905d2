#include "comm/meeting.h"

#include "base/config.h"
#include "comm/meeting_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

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
    if (!epx_address_read(ip, &meeting->root) || in_brackets != (meeting->root.any.sa_family == AF_INET6) ||
        epx_ports_parse("EPX_ROOT", colon + 1, meeting->ports, &meeting->port_count) != EPX_OK) {
        return root_refuse(text);
    }
    epx_address_port_set(&meeting->root, meeting->ports[0]);
    return EPX_OK;
}

/* ---- Rank tables ----------------------------------------------------------------------------------------------- */

static bool server_address(const struct epx_rank_table *table, uint32_t server, union epx_address *address)
{
    const struct epx_server_entry *entry = &table->servers[server];
    return epx_address_read(entry->host_ip, address) || epx_address_read(entry->id, address) ||
           epx_address_read(table->ranks[entry->first_rank].device_ip, address);
}

static bool table_is_of_hosts(const struct epx_rank_table *table, const struct ifaddrs *interfaces)
{
    for (uint32_t server = 0; server < table->server_count; server++) {
        union epx_address address;
        if (server_address(table, server, &address) && !epx_address_is_loopback(&address) &&
            epx_address_is_own(interfaces, &address)) {
            return true;
        }
    }
    return false;
}

static enum epx_status choose_by_table(const struct epx_rank_table *table, struct epx_meeting *meeting, bool *meets)
{
    struct ifaddrs *interfaces = NULL;
    if (getifaddrs(&interfaces) != 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "getifaddrs");
    }
    *meets = table_is_of_hosts(table, interfaces) && server_address(table, table->ranks[0].server, &meeting->root) &&
             !epx_address_is_loopback(&meeting->root);
    freeifaddrs(interfaces);
    if (!*meets) {
        return EPX_OK;
    }
    EPX_TRY(epx_meeting_ports(meeting));
    epx_address_port_set(&meeting->root, meeting->ports[0]);
    return EPX_OK;
}

/* The first address that others can reach; false when a name has none but loopback, as Debian gives it to a host's own.
 */
static bool take_reachable(const struct addrinfo *found, union epx_address *address)
{
    for (; found != NULL; found = found->ai_next) {
        memset(address, 0, sizeof *address);
        memcpy(address, found->ai_addr, found->ai_addrlen < sizeof *address ? found->ai_addrlen : sizeof *address);
        if (!epx_address_is_loopback(address)) {
            return true;
        }
    }
    return false;
}

enum epx_status epx_meeting_at(const char *host, struct epx_meeting *meeting)
{
    union epx_address numeric;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    memset(meeting, 0, sizeof *meeting);
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error != 0) {
        return epx_fail(EPX_ERR_CONFIG, "rank 0's host is \"%.200s\", which has no address: %s", host,
                        gai_strerror(error));
    }
    bool reachable = take_reachable(found, &meeting->root);
    freeaddrinfo(found);
    if (epx_address_read(host, &numeric)) {
        meeting->root = numeric; /* loopback, too, when it is asked for as such */
    } else if (!reachable) {
        return epx_fail(
            EPX_ERR_CONFIG,
            "rank 0's host is \"%.200s\", for which this host knows loopback addresses alone: EPX_ROOT must "
            "say where the ranks meet",
            host);
    }
    EPX_TRY(epx_meeting_ports(meeting));
    epx_address_port_set(&meeting->root, meeting->ports[0]);
    epx_meeting_own_ip(meeting);
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
        epx_meeting_own_ip(meeting);
    }
    return EPX_OK;
}
