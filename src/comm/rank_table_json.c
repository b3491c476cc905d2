#include "comm/rank_table_draft.h"

#include "comm/comm.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHERE_BYTES 96

enum need { OPTIONAL, REQUIRED };

#undef epx_draft_fail
enum epx_status epx_draft_fail(const char *name, enum epx_status status, const char *format, ...)
{
    char text[EPX_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    return epx_fail(status, "rank table %s: %s", name, text);
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "of an unknown type";
}

/* `where` is "" or ends in a dot. */
static enum epx_status find_key(const char *name, const json_t *object, const char *where, const char *key,
                                enum need need, json_t **out)
{
    *out = json_object_get(object, key);
    if (*out == NULL && need == REQUIRED) {
        return epx_draft_fail(name, EPX_ERR_SYNTAX, "required key missing: %s%s", where, key);
    }
    return EPX_OK;
}

static enum epx_status read_text(const char *name, const json_t *object, const char *where, const char *key,
                                 enum need need, const char **out)
{
    json_t *value;
    EPX_TRY(find_key(name, object, where, key, need, &value));
    if (value != NULL && !json_is_string(value)) {
        return epx_draft_fail(name, EPX_ERR_SYNTAX, "%s%s is %s, must be a string", where, key, type_name(value));
    }
    *out = value != NULL ? json_string_value(value) : NULL;
    return EPX_OK;
}

static enum epx_status read_list(const char *name, const json_t *object, const char *where, const char *key,
                                 enum need need, json_t **out)
{
    EPX_TRY(find_key(name, object, where, key, need, out));
    if (*out != NULL && !json_is_array(*out)) {
        return epx_draft_fail(name, EPX_ERR_SYNTAX, "%s%s is %s, must be a list", where, key, type_name(*out));
    }
    return EPX_OK;
}

static enum epx_status require_object(const char *name, const json_t *value, const char *where)
{
    if (!json_is_object(value)) {
        return epx_draft_fail(name, EPX_ERR_SYNTAX, "%s is %s, must be an object", where, type_name(value));
    }
    return EPX_OK;
}

/* A file that is still being filled may hold nothing but its status, so the status comes before the version. */
static enum epx_status read_head(struct epx_draft *draft, const json_t *root)
{
    const json_t *status = json_object_get(root, "status");
    if (status != NULL && json_is_string(status) && strcmp(json_string_value(status), "initializing") == 0) {
        return epx_draft_fail(draft->name, EPX_ERR_JOIN_TIMEOUT,
                              "status is still \"initializing\", must become \"completed\"");
    }
    bool legacy = json_object_get(root, "group_list") != NULL;
    if (json_object_get(root, "version") == NULL && legacy) {
        return epx_draft_fail(
            draft->name, EPX_ERR_UNSUPPORTED,
            "this is the legacy template (group_list, no version); versions 1.0 and 1.2 are supported");
    }
    EPX_TRY(read_text(draft->name, root, "", "version", REQUIRED, &draft->version));
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a REQUIRED text that is read is not null */
    if (strcmp(draft->version, "1.0") != 0 && strcmp(draft->version, "1.2") != 0) {
        return epx_draft_fail(draft->name, EPX_ERR_UNSUPPORTED,
                              "version is \"%.40s\", only \"1.0\" and \"1.2\" are supported", draft->version);
    }
    const char *status_text = "";
    EPX_TRY(read_text(draft->name, root, "", "status", REQUIRED, &status_text));
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): the same */
    if (strcmp(status_text, "completed") != 0) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "status is \"%.40s\", must be \"completed\" or \"initializing\"", status_text);
    }
    return read_text(draft->name, root, "", "server_count", OPTIONAL, &draft->server_count);
}

static enum epx_status read_device(struct epx_draft *draft, const json_t *object, struct epx_draft_device *device)
{
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "server_list[%u].device[%u]", device->server, device->place);
    EPX_TRY(require_object(draft->name, object, where));
    strcat(where, ".");
    EPX_TRY(read_text(draft->name, object, where, "device_id", REQUIRED, &device->device_id));
    EPX_TRY(read_text(draft->name, object, where, "rank_id", REQUIRED, &device->rank_id));
    EPX_TRY(read_text(draft->name, object, where, "device_ip", OPTIONAL, &device->device_ip));
    EPX_TRY(read_text(draft->name, object, where, "device_port", OPTIONAL, &device->device_port));
    EPX_TRY(read_text(draft->name, object, where, "host_port", OPTIONAL, &device->host_port));
    if (strcmp(draft->version, "1.2") == 0) {
        EPX_TRY(read_text(draft->name, object, where, "super_device_id", OPTIONAL, &device->super_device_id));
    }
    EPX_TRY(read_text(draft->name, object, where, "backup_device_ip", OPTIONAL, &device->backup_device_ip));
    return read_text(draft->name, object, where, "backup_device_port", OPTIONAL, &device->backup_device_port);
}

/* Finds the list of devices of every server and counts them, so that the draft can be allocated at once. */
static enum epx_status count_devices(struct epx_draft *draft, const json_t *list)
{
    size_t index;
    json_t *object;
    size_t total = 0;
    json_array_foreach(list, index, object)
    {
        char where[WHERE_BYTES];
        json_t *devices;
        (void)snprintf(where, sizeof where, "server_list[%zu]", index);
        EPX_TRY(require_object(draft->name, object, where));
        strcat(where, ".");
        EPX_TRY(read_list(draft->name, object, where, "device", REQUIRED, &devices));
        if (json_array_size(devices) == 0) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE, "%sdevice is empty, must hold at least 1 device",
                                  where);
        }
        total += json_array_size(devices);
        if (total > EPX_COMM_RANK_MAX) {
            return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                                  "server_list[0] to [%zu] hold %zu devices, at most %u are allowed", index, total,
                                  EPX_COMM_RANK_MAX);
        }
    }
    draft->server_list_count = (uint32_t)json_array_size(list);
    draft->device_total = (uint32_t)total;
    return EPX_OK;
}

static enum epx_status read_servers(struct epx_draft *draft, const json_t *root)
{
    json_t *list;
    EPX_TRY(read_list(draft->name, root, "", "server_list", REQUIRED, &list));
    if (json_array_size(list) == 0) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE, "server_list is empty, must hold at least 1 server");
    }
    EPX_TRY(count_devices(draft, list));
    draft->servers = calloc(draft->server_list_count, sizeof *draft->servers);
    draft->devices = calloc(draft->device_total, sizeof *draft->devices);
    if (draft->servers == NULL || draft->devices == NULL) {
        return epx_draft_fail(draft->name, EPX_ERR_NO_MEMORY, "no memory for %u devices", draft->device_total);
    }
    uint32_t next = 0;
    for (uint32_t s = 0; s < draft->server_list_count; s++) {
        struct epx_draft_server *server = &draft->servers[s];
        const json_t *object = json_array_get(list, s);
        const json_t *devices = json_object_get(object, "device");
        char where[WHERE_BYTES];
        (void)snprintf(where, sizeof where, "server_list[%u].", s);
        EPX_TRY(read_text(draft->name, object, where, "server_id", REQUIRED, &server->server_id));
        EPX_TRY(read_text(draft->name, object, where, "host_ip", OPTIONAL, &server->host_ip));
        server->first_device = next;
        server->device_count = (uint32_t)json_array_size(devices);
        for (uint32_t d = 0; d < server->device_count; d++, next++) {
            draft->devices[next].server = s;
            draft->devices[next].place = d;
            EPX_TRY(read_device(draft, json_array_get(devices, d), &draft->devices[next]));
        }
    }
    return EPX_OK;
}

static enum epx_status read_pod(struct epx_draft *draft, const json_t *list, uint32_t index)
{
    struct epx_draft_pod *pod = &draft->pods[index];
    const json_t *object = json_array_get(list, index);
    char where[WHERE_BYTES];
    (void)snprintf(where, sizeof where, "super_pod_list[%u]", index);
    EPX_TRY(require_object(draft->name, object, where));
    strcat(where, ".");
    EPX_TRY(read_text(draft->name, object, where, "super_pod_id", REQUIRED, &pod->super_pod_id));
    json_t *members;
    EPX_TRY(read_list(draft->name, object, where, "server_list", REQUIRED, &members));
    size_t count = json_array_size(members);
    if (count == 0 || count > draft->server_list_count - draft->member_total) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "%sserver_list holds %zu servers, must hold at least 1, and all super pods together at "
                              "most the %u of server_list",
                              where, count, draft->server_list_count);
    }
    pod->first_member = draft->member_total;
    pod->member_count = (uint32_t)count;
    for (uint32_t m = 0; m < pod->member_count; m++) {
        const json_t *member = json_array_get(members, m);
        (void)snprintf(where, sizeof where, "super_pod_list[%u].server_list[%u]", index, m);
        EPX_TRY(require_object(draft->name, member, where));
        strcat(where, ".");
        EPX_TRY(read_text(draft->name, member, where, "server_id", REQUIRED, &draft->members[draft->member_total]));
        draft->member_total++;
    }
    return EPX_OK;
}

static enum epx_status read_pods(struct epx_draft *draft, const json_t *root)
{
    json_t *list;
    EPX_TRY(read_list(draft->name, root, "", "super_pod_list", OPTIONAL, &list));
    size_t count = list != NULL ? json_array_size(list) : 0;
    if (count == 0) {
        return EPX_OK;
    }
    if (count > draft->server_list_count) {
        return epx_draft_fail(draft->name, EPX_ERR_RANK_TABLE,
                              "super_pod_list holds %zu super pods, at most one for each of %u servers is allowed",
                              count, draft->server_list_count);
    }
    draft->pods = calloc(count, sizeof *draft->pods);
    draft->members = calloc(draft->server_list_count, sizeof *draft->members);
    if (draft->pods == NULL || draft->members == NULL) {
        return epx_draft_fail(draft->name, EPX_ERR_NO_MEMORY, "no memory for %zu super pods", count);
    }
    draft->pod_count = (uint32_t)count;
    for (uint32_t p = 0; p < draft->pod_count; p++) {
        EPX_TRY(read_pod(draft, list, p));
    }
    return EPX_OK;
}

enum epx_status epx_draft_read(struct epx_draft *draft, const char *name, const char *text, size_t text_bytes)
{
    *draft = (struct epx_draft){.name = name};
    json_error_t error;
    json_t *root = json_loadb(text, text_bytes, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        enum epx_status status =
            json_error_code(&error) == json_error_out_of_memory ? EPX_ERR_NO_MEMORY : EPX_ERR_SYNTAX;
        return epx_draft_fail(name, status, "line %d, column %d: %s", error.line, error.column, error.text);
    }
    draft->document = root;
    if (!json_is_object(root)) {
        return epx_draft_fail(name, EPX_ERR_SYNTAX, "the document is %s, must be an object", type_name(root));
    }
    EPX_TRY(read_head(draft, root));
    EPX_TRY(read_servers(draft, root));
    if (strcmp(draft->version, "1.2") == 0) {
        EPX_TRY(read_pods(draft, root));
    }
    return EPX_OK;
}

void epx_draft_fini(struct epx_draft *draft)
{
    free(draft->servers);
    free(draft->devices);
    free(draft->pods);
    free(draft->members);
    json_decref(draft->document);
    *draft = (struct epx_draft){.name = draft->name};
}
