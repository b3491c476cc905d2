#include "comm/rank_table_draft.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX        65535u
#define SERVER_ID_CHARS 64u

/* Decimal digits only; a value above `maximum` is not a number here. */
static bool parse_decimal(const char *text, uint32_t maximum, uint32_t *out)
{
    uint64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > maximum) {
            return false;
        }
    }
    *out = (uint32_t)value;
    return true;
}

/* Fails for `device`: its key and value, and what they must be. */
static enum epx_status device_number(const struct epx_draft *draft, const struct epx_draft_device *device,
                                     const char *key, const char *text, const uint32_t limits[2], uint32_t *out)
{
    uint32_t value;
    if (!parse_decimal(text, limits[1], &value) || value < limits[0]) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "server_list[%u].device[%u].%s is \"%.40s\", must be a decimal number in [%u, %u]",
                              device->server, device->place, key, text, limits[0], limits[1]);
    }
    *out = value;
    return EPX_OK;
}

static enum epx_status check_device_numbers(const struct epx_draft *draft, struct epx_draft_device *device)
{
    static const uint32_t ports[2] = {1, PORT_MAX};
    const uint32_t devices[2] = {0, EPX_RANK_TABLE_DEVICE_ID_MAX};
    const uint32_t ranks[2] = {0, draft->device_total - 1};
    const uint32_t any[2] = {0, UINT32_MAX};
    uint32_t backup_port;
    EPX_TRY(device_number(draft, device, "device_id", device->device_id, devices, &device->device));
    EPX_TRY(device_number(draft, device, "rank_id", device->rank_id, ranks, &device->rank));
    if (device->device_port != NULL) {
        EPX_TRY(device_number(draft, device, "device_port", device->device_port, ports, &device->device_port_number));
    }
    if (device->host_port != NULL) {
        EPX_TRY(device_number(draft, device, "host_port", device->host_port, ports, &device->host_port_number));
    }
    if (device->backup_device_port != NULL) {
        EPX_TRY(device_number(draft, device, "backup_device_port", device->backup_device_port, ports, &backup_port));
    }
    if (device->super_device_id != NULL) {
        EPX_TRY(device_number(draft, device, "super_device_id", device->super_device_id, any, &device->super_device));
    }
    return EPX_OK;
}

static enum epx_status check_unique_in_server(const struct epx_draft *draft, const struct epx_draft_server *server)
{
    const struct epx_draft_device *devices = draft->devices + server->first_device;
    for (uint32_t a = 1; a < server->device_count; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (devices[a].device == devices[b].device) {
                return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                      "server_list[%u].device[%u].device_id is %u, which device[%u] of this server has",
                                      devices[a].server, a, devices[a].device, b);
            }
            if (devices[a].host_port_number != 0 && devices[a].host_port_number == devices[b].host_port_number) {
                return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                      "server_list[%u].device[%u].host_port is %u, which device[%u] of this server has",
                                      devices[a].server, a, devices[a].host_port_number, b);
            }
        }
    }
    return EPX_OK;
}

static enum epx_status check_server_head(const struct epx_draft *draft, uint32_t index)
{
    const struct epx_draft_server *server = &draft->servers[index];
    size_t chars = strlen(server->server_id);
    if (chars == 0 || chars > SERVER_ID_CHARS) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "server_list[%u].server_id is \"%.80s\" with %zu characters, must have 1 to %u", index,
                              server->server_id, chars, SERVER_ID_CHARS);
    }
    for (uint32_t other = 0; other < index; other++) {
        if (strcmp(draft->servers[other].server_id, server->server_id) == 0) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[%u].server_id is \"%s\", which server_list[%u] has", index,
                                  server->server_id, other);
        }
    }
    struct in_addr address;
    if (server->host_ip != NULL && inet_pton(AF_INET, server->host_ip, &address) != 1) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "server_list[%u].host_ip is \"%.64s\", must be an IPv4 address", index, server->host_ip);
    }
    return EPX_OK;
}

static enum epx_status check_servers(struct epx_draft *draft)
{
    uint32_t count = 0;
    if (draft->server_count != NULL &&
        (!parse_decimal(draft->server_count, UINT32_MAX, &count) || count != draft->server_list_count)) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "server_count is \"%.40s\", must be \"%u\", the length of server_list",
                              draft->server_count, draft->server_list_count);
    }
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        const struct epx_draft_server *server = &draft->servers[s];
        EPX_TRY(check_server_head(draft, s));
        for (uint32_t d = 0; d < server->device_count; d++) {
            EPX_TRY(check_device_numbers(draft, &draft->devices[server->first_device + d]));
        }
        EPX_TRY(check_unique_in_server(draft, server));
    }
    return EPX_OK;
}

/* Every rank is below the number of devices, so distinct ranks are exactly 0 .. count-1. */
static enum epx_status check_ranks_distinct(const struct epx_draft *draft, uint32_t *device_of_rank)
{
    for (uint32_t r = 0; r < draft->device_total; r++) {
        device_of_rank[r] = UINT32_MAX;
    }
    for (uint32_t d = 0; d < draft->device_total; d++) {
        const struct epx_draft_device *device = &draft->devices[d];
        if (device_of_rank[device->rank] != UINT32_MAX) {
            const struct epx_draft_device *holder = &draft->devices[device_of_rank[device->rank]];
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[%u].device[%u].rank_id is %u, which server_list[%u].device[%u] has; the "
                                  "ranks must be 0 to %u, each once",
                                  device->server, device->place, device->rank, holder->server, holder->place,
                                  draft->device_total - 1);
        }
        device_of_rank[device->rank] = d;
    }
    return EPX_OK;
}

static enum epx_status check_ranks_consecutive(const struct epx_draft *draft)
{
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        const struct epx_draft_server *server = &draft->servers[s];
        uint32_t lowest = UINT32_MAX;
        uint32_t highest = 0;
        for (uint32_t d = 0; d < server->device_count; d++) {
            uint32_t rank = draft->devices[server->first_device + d].rank;
            lowest = rank < lowest ? rank : lowest;
            highest = rank > highest ? rank : highest;
        }
        if (highest - lowest + 1 != server->device_count) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[%u].device has %u devices with rank_id from %u to %u, the ranks of a "
                                  "server must be consecutive",
                                  s, server->device_count, lowest, highest);
        }
    }
    return EPX_OK;
}

enum epx_status epx_draft_check(struct epx_draft *draft)
{
    EPX_TRY(check_servers(draft));
    uint32_t *device_of_rank = malloc(draft->device_total * sizeof *device_of_rank);
    if (device_of_rank == NULL) {
        return epx_draft_fail(draft->name, EPX_ERR_NO_MEMORY, "no memory for %u ranks", draft->device_total);
    }
    enum epx_status status = check_ranks_distinct(draft, device_of_rank);
    free(device_of_rank);
    EPX_TRY(status);
    EPX_TRY(check_ranks_consecutive(draft));
    EPX_TRY(epx_draft_check_pods(draft));
    return epx_draft_check_addresses(draft);
}
