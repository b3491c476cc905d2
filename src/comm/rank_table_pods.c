#include "comm/rank_table_draft.h"

#include <string.h>

static uint32_t find_server(const struct epx_draft *draft, const char *server_id)
{
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        if (strcmp(draft->servers[s].server_id, server_id) == 0) {
            return s;
        }
    }
    return UINT32_MAX;
}

static enum epx_status check_pod(struct epx_draft *draft, uint32_t index)
{
    const struct epx_draft_pod *pod = &draft->pods[index];
    if (*pod->super_pod_id == '\0') {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "super_pod_list[%u].super_pod_id is \"\", must not be empty", index);
    }
    for (uint32_t other = 0; other < index; other++) {
        if (strcmp(draft->pods[other].super_pod_id, pod->super_pod_id) == 0) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "super_pod_list[%u].super_pod_id is \"%.64s\", which super_pod_list[%u] has", index,
                                  pod->super_pod_id, other);
        }
    }
    for (uint32_t m = 0; m < pod->member_count; m++) {
        const char *server_id = draft->members[pod->first_member + m];
        uint32_t server = find_server(draft, server_id);
        if (server == UINT32_MAX) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "super_pod_list[%u].server_list[%u].server_id is \"%.64s\", must be a server_id of "
                                  "server_list",
                                  index, m, server_id);
        }
        if (draft->servers[server].pod != EPX_DRAFT_NO_POD) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "super_pod_list[%u].server_list[%u].server_id is \"%.64s\", which super_pod_list[%u] "
                                  "has",
                                  index, m, server_id, draft->servers[server].pod);
        }
        draft->servers[server].pod = index;
    }
    return EPX_OK;
}

/* A pod is a run of neighbours in server_list: its servers lie within a span as long as their number. */
static enum epx_status check_not_interleaved(const struct epx_draft *draft, uint32_t index)
{
    uint32_t first = UINT32_MAX;
    uint32_t last = 0;
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        if (draft->servers[s].pod == index) {
            first = first == UINT32_MAX ? s : first;
            last = s;
        }
    }
    if (last - first + 1 != draft->pods[index].member_count) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "super_pod_list[%u] (\"%.64s\") has %u servers between server_list[%u] and "
                              "server_list[%u]; super pods must not interleave",
                              index, draft->pods[index].super_pod_id, draft->pods[index].member_count, first, last);
    }
    return EPX_OK;
}

static enum epx_status check_super_devices(const struct epx_draft *draft)
{
    for (uint32_t a = 1; a < draft->device_total; a++) {
        const struct epx_draft_device *device = &draft->devices[a];
        uint32_t pod = draft->servers[device->server].pod;
        if (device->super_device_id == NULL || pod == EPX_DRAFT_NO_POD) {
            continue;
        }
        for (uint32_t b = 0; b < a; b++) {
            const struct epx_draft_device *other = &draft->devices[b];
            if (other->super_device_id != NULL && draft->servers[other->server].pod == pod &&
                other->super_device == device->super_device) {
                return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                      "server_list[%u].device[%u].super_device_id is %u, which "
                                      "server_list[%u].device[%u] of super pod \"%.64s\" has",
                                      device->server, device->place, device->super_device, other->server, other->place,
                                      draft->pods[pod].super_pod_id);
            }
        }
    }
    return EPX_OK;
}

enum epx_status epx_draft_check_pods(struct epx_draft *draft)
{
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        draft->servers[s].pod = EPX_DRAFT_NO_POD;
    }
    for (uint32_t p = 0; p < draft->pod_count; p++) {
        EPX_TRY(check_pod(draft, p));
    }
    for (uint32_t p = 0; p < draft->pod_count; p++) {
        EPX_TRY(check_not_interleaved(draft, p));
    }
    return check_super_devices(draft);
}
