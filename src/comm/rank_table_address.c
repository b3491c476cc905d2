#include "comm/rank_table_draft.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct address {
    int family;
    uint8_t bytes[16]; /* network order, zero padded */
    const struct epx_draft_device *device;
};

/* Parses the item that starts at *cursor and moves the cursor behind it, to null after the last. */
static bool parse_item(const char **cursor, struct address *out)
{
    char text[INET6_ADDRSTRLEN];
    const char *end = strchrnul(*cursor, ',');
    size_t chars = (size_t)(end - *cursor);
    if (chars >= sizeof text) {
        return false;
    }
    memcpy(text, *cursor, chars);
    text[chars] = '\0';
    *cursor = *end == ',' ? end + 1 : NULL;
    memset(out->bytes, 0, sizeof out->bytes);
    if (inet_pton(AF_INET, text, out->bytes) == 1) {
        out->family = AF_INET;
        return true;
    }
    out->family = AF_INET6;
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static bool is_given(const char *list)
{
    return list != NULL && *list != '\0';
}

static enum epx_status bad_address(const struct epx_draft *draft, const struct epx_draft_device *device,
                                   const char *key, const char *list)
{
    return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                          "server_list[%u].device[%u].%s is \"%.80s\", must be IPv4 or IPv6 addresses separated by "
                          "commas",
                          device->server, device->place, key, list);
}

static bool in_single_pod(const struct epx_draft *draft)
{
    return draft->pod_count == 1 && draft->member_total == draft->server_list_count;
}

static enum epx_status require_address(const struct epx_draft *draft, const struct epx_draft_device *device)
{
    bool needed = draft->server_list_count > 1 && draft->servers[device->server].host_ip == NULL;
    if (needed && !is_given(device->device_ip) && !in_single_pod(draft)) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "server_list[%u].device[%u].device_ip is missing, required with %u servers unless "
                              "server_list[%u].host_ip is given",
                              device->server, device->place, draft->server_list_count, device->server);
    }
    return EPX_OK;
}

static size_t count_items(const char *list)
{
    size_t count = is_given(list) ? 1 : 0;
    for (const char *c = list; c != NULL && *c != '\0'; c++) {
        count += *c == ',';
    }
    return count;
}

/* Appends the device's addresses; with several servers all must be of the family of the first. */
static enum epx_status collect(const struct epx_draft *draft, const struct epx_draft_device *device,
                               struct address *all, size_t *count)
{
    EPX_TRY(require_address(draft, device));
    for (const char *cursor = is_given(device->device_ip) ? device->device_ip : NULL; cursor != NULL; (*count)++) {
        struct address *address = &all[*count];
        address->device = device;
        if (!parse_item(&cursor, address)) {
            return bad_address(draft, device, "device_ip", device->device_ip);
        }
        if (draft->server_list_count > 1 && address->family != all[0].family) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[%u].device[%u].device_ip is \"%.80s\", must be of the family of "
                                  "server_list[%u].device[%u].device_ip, %s",
                                  device->server, device->place, device->device_ip, all[0].device->server,
                                  all[0].device->place, all[0].family == AF_INET ? "IPv4" : "IPv6");
        }
    }
    struct address backup;
    for (const char *cursor = is_given(device->backup_device_ip) ? device->backup_device_ip : NULL; cursor != NULL;) {
        if (!parse_item(&cursor, &backup)) {
            return bad_address(draft, device, "backup_device_ip", device->backup_device_ip);
        }
    }
    return EPX_OK;
}

/* Equal addresses come in the order of their devices. */
static int compare_addresses(const void *left, const void *right)
{
    const struct address *a = left;
    const struct address *b = right;
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    int order = memcmp(a->bytes, b->bytes, sizeof a->bytes);
    return order != 0 ? order : (a->device > b->device) - (a->device < b->device);
}

static enum epx_status check_distinct(const struct epx_draft *draft, struct address *all, size_t count)
{
    qsort(all, count, sizeof *all, compare_addresses);
    for (size_t i = 1; i < count; i++) {
        if (all[i].family == all[i - 1].family && memcmp(all[i].bytes, all[i - 1].bytes, sizeof all[i].bytes) == 0) {
            char text[INET6_ADDRSTRLEN];
            (void)inet_ntop(all[i].family, all[i].bytes, text, sizeof text);
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[%u].device[%u].device_ip has %s, which server_list[%u].device[%u] has; "
                                  "an address may be given once",
                                  all[i].device->server, all[i].device->place, text, all[i - 1].device->server,
                                  all[i - 1].device->place);
        }
    }
    return EPX_OK;
}

enum epx_status epx_draft_check_addresses(const struct epx_draft *draft)
{
    size_t capacity = 1;
    for (uint32_t d = 0; d < draft->device_total; d++) {
        capacity += count_items(draft->devices[d].device_ip);
    }
    struct address *all = calloc(capacity, sizeof *all);
    if (all == NULL) {
        return epx_draft_fail(draft->name, EPX_ERR_NO_MEMORY, "no memory for %zu addresses", capacity);
    }
    enum epx_status status = EPX_OK;
    size_t count = 0;
    for (uint32_t d = 0; d < draft->device_total && status == EPX_OK; d++) {
        status = collect(draft, &draft->devices[d], all, &count);
    }
    if (status == EPX_OK) {
        status = check_distinct(draft, all, count);
    }
    free(all);
    return status;
}

void epx_draft_first_address(const char *list, char out[64])
{
    struct address first;
    const char *cursor = list;
    out[0] = '\0';
    if (is_given(list) && parse_item(&cursor, &first)) {
        (void)inet_ntop(first.family, first.bytes, out, 64);
    }
}
