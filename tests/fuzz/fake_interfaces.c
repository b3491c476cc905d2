#include "fuzz/fake_interfaces.h"

#include "comm/census.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

int __wrap_getifaddrs(struct ifaddrs **out);
void __wrap_freeifaddrs(struct ifaddrs *list);
void __wrap_epx_meeting_own_ip(struct epx_meeting *meeting);

int __wrap_getifaddrs(struct ifaddrs **out)
{
    static const struct {
        const char *name;
        const char *ip;
    } made_up[FAKE_INTERFACES] = {
        {"lo", "127.0.0.1"}, {"lo", "::1"}, {"eth0", "240.0.0.1"}, {"docker0", "240.1.0.1"}, {"eth1", "fd00::1"}};
    static struct ifaddrs list[FAKE_INTERFACES];
    static union epx_address addresses[FAKE_INTERFACES];
    memset(list, 0, sizeof list);
    memset(addresses, 0, sizeof addresses);
    for (int i = 0; i < FAKE_INTERFACES; i++) {
        list[i].ifa_next = i + 1 < FAKE_INTERFACES ? &list[i + 1] : NULL;
        list[i].ifa_name = (char *)(size_t)made_up[i].name;
        list[i].ifa_flags = IFF_UP;
        list[i].ifa_addr = &addresses[i].any;
        if (inet_pton(AF_INET, made_up[i].ip, &addresses[i].v4.sin_addr) == 1) {
            addresses[i].v4.sin_family = AF_INET;
        } else {
            (void)inet_pton(AF_INET6, made_up[i].ip, &addresses[i].v6.sin6_addr);
            addresses[i].v6.sin6_family = AF_INET6;
        }
    }
    *out = list;
    return 0;
}

void __wrap_freeifaddrs(struct ifaddrs *list)
{
    (void)list;
}

void __wrap_epx_meeting_own_ip(struct epx_meeting *meeting)
{
    memcpy(meeting->own_ip, "240.0.0.1", sizeof "240.0.0.1");
}
