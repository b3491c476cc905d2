#include "comm/meeting.h"

#include "base/config.h"
#include "base/log.h"
#include "comm/meeting_address.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

/* "eth,enp": names that begin so; "=eth0,eth1": these names; with ^ in front: all others. */
static bool name_is_chosen(const char *choice, const char *name)
{
    bool inverted = choice[0] == '^';
    choice += inverted;
    bool whole = choice[0] == '=';
    choice += whole;
    bool found = false;
    while (!found && *choice != '\0') {
        size_t length = strcspn(choice, ",");
        found = length > 0 && strncmp(name, choice, length) == 0 && (!whole || name[length] == '\0');
        choice += length + (choice[length] == ',');
    }
    return found != inverted;
}

static bool address_of(const struct ifaddrs *interface, sa_family_t family, union epx_address *address)
{
    memset(address, 0, sizeof *address);
    if (interface->ifa_addr == NULL || (interface->ifa_flags & IFF_UP) == 0 ||
        interface->ifa_addr->sa_family != family) {
        return false;
    }
    if (family == AF_INET) {
        memcpy(&address->v4, interface->ifa_addr, sizeof address->v4);
    } else {
        memcpy(&address->v6, interface->ifa_addr, sizeof address->v6);
    }
    /* An address of one link alone means nothing without the number of an interface, which other hosts do not share. */
    return !epx_address_is_loopback(address) && !(family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&address->v6.sin6_addr));
}

static bool find_in_family(const struct ifaddrs *interfaces, sa_family_t family, union epx_address *address)
{
    const char *choice = epx_option_text(EPX_OPTION_HCCL_SOCKET_IFNAME);
    for (int of_bridge = 0; of_bridge < 2; of_bridge++) {
        for (const struct ifaddrs *one = interfaces; one != NULL; one = one->ifa_next) {
            bool is_bridge = strncmp(one->ifa_name, "docker", 6) == 0;
            if (is_bridge == (of_bridge == 1) && name_is_chosen(choice, one->ifa_name) &&
                address_of(one, family, address)) {
                return true;
            }
        }
    }
    return false;
}

static enum epx_status find_by_name(const struct ifaddrs *interfaces, union epx_address *address, bool *found)
{
    int64_t family = 0;
    EPX_TRY(epx_option_integer(EPX_OPTION_HCCL_SOCKET_FAMILY, &family));
    bool any = !epx_option_is_set(EPX_OPTION_HCCL_SOCKET_FAMILY);
    *found = (family == 0 && find_in_family(interfaces, AF_INET, address)) ||
             ((any || family == 1) && find_in_family(interfaces, AF_INET6, address));
    if (!*found) {
        epx_log(EPX_LOG_WARN,
                "no interface that is up and that HCCL_SOCKET_IFNAME \"%s\" names has an address but "
                "loopback: all ranks of the root information must be on this host",
                epx_option_text(EPX_OPTION_HCCL_SOCKET_IFNAME));
    }
    return EPX_OK;
}

static enum epx_status find_by_address(const struct ifaddrs *interfaces, union epx_address *address, bool *found)
{
    const char *text = epx_option_text(EPX_OPTION_HCCL_IF_IP);
    if (!epx_address_read(text, address)) {
        return epx_fail(EPX_ERR_CONFIG, "HCCL_IF_IP is \"%.100s\", must be an IPv4 or IPv6 address", text);
    }
    *found = !epx_address_is_loopback(address) && epx_address_is_own(interfaces, address);
    if (!*found) {
        epx_log(EPX_LOG_WARN,
                "HCCL_IF_IP \"%s\" is no address of this machine that others reach: all ranks of the root "
                "information must be on this host",
                text);
    }
    return EPX_OK;
}

enum epx_status epx_meeting_choose_here(struct epx_meeting *meeting, bool *meets)
{
    struct ifaddrs *interfaces = NULL;
    memset(meeting, 0, sizeof *meeting);
    *meets = epx_option_is_set(EPX_OPTION_ROOT);
    if (*meets) {
        return epx_meeting_parse(epx_option_text(EPX_OPTION_ROOT), meeting);
    }
    bool by_address = epx_option_is_set(EPX_OPTION_HCCL_IF_IP);
    if (!by_address && !epx_option_is_set(EPX_OPTION_HCCL_SOCKET_IFNAME)) {
        return EPX_OK;
    }
    if (getifaddrs(&interfaces) != 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "getifaddrs");
    }
    enum epx_status status = by_address ? find_by_address(interfaces, &meeting->root, meets)
                                        : find_by_name(interfaces, &meeting->root, meets);
    freeifaddrs(interfaces);
    EPX_TRY(status);
    if (*meets) {
        EPX_TRY(epx_meeting_ports(meeting));
        epx_address_port_set(&meeting->root, meeting->ports[0]);
    }
    return EPX_OK;
}
