#include "transport/wire_ucx.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for "eth0,mlx5_bond_0:1" with the longest names there are. */
#define DEVICES_BYTES (IF_NAMESIZE + 64 + 8)

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

struct setting {
    const char *name; /* without UCX_ */
    const char *value;
};

/* For TCP alone: no message asks its receiver first. Messages are copied to UCX's buffers: UCX 1.13 may end the process
 * when a send from the caller's memory is cut off by a reset connection. */
static const struct setting for_tcp[] = {{"RNDV_THRESH", "inf"}, {"ZCOPY_THRESH", "inf"}};

/* Of the transport itself. A message of one segment is sent with one call and handed over where it was received; 64 KiB
 * is the longest that UCX takes, and more than is received at a time it does not take: so both or none.
 * The kernel asks an idle connection whether its other end is there, so that a cut link is a loss within 15 s. */
static const char *const of_segments[] = {"UCX_TCP_TX_SEG_SIZE=64k", "UCX_TCP_RX_SEG_SIZE=128k"};
static const char *const of_connections[] = {"UCX_TCP_KEEPIDLE=5s", "UCX_TCP_KEEPINTVL=2s", "UCX_TCP_KEEPCNT=5"};

static enum epx_status set(const struct epx_ucx *ucx, ucp_config_t *config, const char *name, const char *value)
{
    char variable[64];
    (void)snprintf(variable, sizeof(variable), "UCX_%s", name);
    if (getenv(variable) != NULL) {
        return EPX_OK;
    }
    ucs_status_t status = ucx->ucp_config_modify(config, name, value);
    if (status != UCS_OK) {
        return epx_fail(EPX_ERR_SYSTEM, "UCX does not take %s=%s: %s", variable, value, ucx->ucs_status_string(status));
    }
    return EPX_OK;
}

static bool has_address(const struct ifaddrs *entry, int family, const void *address)
{
    if (entry->ifa_addr == NULL || entry->ifa_addr->sa_family != family) {
        return false;
    }
    if (family == AF_INET) {
        const struct sockaddr_in *own = (const void *)entry->ifa_addr;
        return memcmp(&own->sin_addr, address, sizeof(own->sin_addr)) == 0;
    }
    const struct sockaddr_in6 *own = (const void *)entry->ifa_addr;
    return memcmp(&own->sin6_addr, address, sizeof(own->sin6_addr)) == 0;
}

static enum epx_status find_interface(const char *ip, char name[IF_NAMESIZE])
{
    unsigned char address[sizeof(struct in6_addr)];
    int family = strchr(ip, ':') != NULL ? AF_INET6 : AF_INET;
    if (inet_pton(family, ip, address) != 1) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%s is not the numeric address of an interface", ip);
    }
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0) {
        return epx_fail(EPX_ERR_SYSTEM, "the interfaces of this host cannot be listed");
    }
    name[0] = '\0';
    for (const struct ifaddrs *entry = list; entry != NULL && name[0] == '\0'; entry = entry->ifa_next) {
        if (has_address(entry, family, address)) {
            (void)snprintf(name, IF_NAMESIZE, "%s", entry->ifa_name);
        }
    }
    freeifaddrs(list);
    if (name[0] == '\0') {
        return epx_fail(EPX_ERR_NOT_FOUND, "no interface of this host has the address %s", ip);
    }
    return EPX_OK;
}

/* The RDMA device behind an interface and its port there; false when there is none. */
static bool find_rdma(const char *interface, char *device, size_t device_bytes)
{
    char path[64 + IF_NAMESIZE];
    unsigned port = 0;
    (void)snprintf(path, sizeof(path), "/sys/class/net/%s/dev_port", interface);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        port = fscanf(file, "%u", &port) == 1 ? port : 0; /* NOLINT(cert-err34-c) */
        (void)fclose(file);
    }
    (void)snprintf(path, sizeof(path), "/sys/class/net/%s/device/infiniband", interface);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return false;
    }
    const struct dirent *entry = NULL;
    device[0] = '\0';
    while (device[0] == '\0' && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            (void)snprintf(device, device_bytes, "%.63s:%u", entry->d_name, port + 1);
        }
    }
    (void)closedir(folder);
    return device[0] != '\0';
}

static enum epx_status set_for_tcp(const struct epx_ucx *ucx, ucp_config_t *config)
{
    EPX_TRY(set(ucx, config, "TLS", "tcp"));
    for (size_t i = 0; i < LENGTH(for_tcp); i++) {
        EPX_TRY(set(ucx, config, for_tcp[i].name, for_tcp[i].value));
    }
    return EPX_OK;
}

/* A choice of transports by the user stays, and is not tuned. */
enum epx_status epx_ucx_configure(const struct epx_ucx *ucx, const char *bind_ip, ucp_config_t *config)
{
    char interface[IF_NAMESIZE];
    char rdma[64 + 8];
    char devices[DEVICES_BYTES];
    bool has_rdma = false;
    if (bind_ip[0] != '\0') {
        EPX_TRY(find_interface(bind_ip, interface));
        has_rdma = find_rdma(interface, rdma, sizeof(rdma));
        (void)snprintf(devices, sizeof(devices), "%s%s%s", interface, has_rdma ? "," : "", has_rdma ? rdma : "");
        EPX_TRY(set(ucx, config, "NET_DEVICES", devices));
    }
    const char *user_choice = getenv("UCX_TLS");
    if (user_choice != NULL && strcmp(user_choice, "tcp") != 0) {
        return EPX_OK;
    }
    return has_rdma ? set(ucx, config, "TLS", "rc,dc,ud,tcp") : set_for_tcp(ucx, config);
}

enum epx_status epx_ucx_settings_begin(const char *bind_ip)
{
    const char *settings[LENGTH(of_segments) + LENGTH(of_connections) + 1];
    size_t count = 0;
    if (!epx_ucx_environment_has(of_segments[0]) && !epx_ucx_environment_has(of_segments[1])) {
        for (size_t i = 0; i < LENGTH(of_segments); i++) {
            settings[count++] = of_segments[i];
        }
    }
    for (size_t i = 0; i < LENGTH(of_connections); i++) {
        settings[count++] = of_connections[i];
    }
    if (bind_ip[0] != '\0') {
        settings[count++] = strchr(bind_ip, ':') != NULL ? "UCX_TCP_AF_PRIO=inet6,inet" : "UCX_TCP_AF_PRIO=inet,inet6";
    }
    return epx_ucx_environment_begin(settings, count);
}

void epx_ucx_settings_end(void)
{
    epx_ucx_environment_end();
}
