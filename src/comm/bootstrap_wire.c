#include "comm/bootstrap_wire.h"

#include <string.h>

/* Bytes of the body; a kind without one has a negative entry, so that it differs from an unknown kind. */
static const int body_bytes[EPX_BOOT_KIND_END] = {
    [EPX_BOOT_HELLO] = sizeof(struct epx_boot_hello),
    [EPX_BOOT_GET_ROSTER] = sizeof(struct epx_boot_roster_range),
    [EPX_BOOT_WANT] = sizeof(struct epx_boot_items),
    [EPX_BOOT_MAPPED] = -1,
    [EPX_BOOT_QUERY] = -1,
    [EPX_BOOT_ASSEMBLED] = -1,
    [EPX_BOOT_ROSTER] = sizeof(struct epx_boot_roster),
    [EPX_BOOT_GIVE] = sizeof(struct epx_boot_items),
    [EPX_BOOT_COMPLETE] = -1,
    [EPX_BOOT_MISSING] = sizeof(struct epx_boot_missing),
    [EPX_BOOT_FAILURE] = sizeof(struct epx_boot_failure),
};

static bool hello_is_valid(const struct epx_boot_hello *hello)
{
    return hello->rank_count >= 1 && hello->rank_count <= EPX_COMM_RANK_MAX && hello->rank < hello->rank_count &&
           hello->zero == 0;
}

static bool roster_is_valid(const struct epx_boot_roster *roster)
{
    return roster->count >= 1 && roster->count <= EPX_BOOT_ROSTER_MAX && roster->first < EPX_COMM_RANK_MAX &&
           roster->first + roster->count <= EPX_COMM_RANK_MAX;
}

static bool items_are_valid(const struct epx_boot_items *items)
{
    if (items->count < 1 || items->count > EPX_BOOT_ITEM_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < items->count; i++) {
        if (items->items[i] >= EPX_COMM_RANK_MAX && items->items[i] != EPX_BOOT_ITEM_SHARED) {
            return false;
        }
    }
    return true;
}

static bool failure_is_valid(const struct epx_boot_failure *failure)
{
    return failure->status > EPX_OK && failure->status <= EPX_ERR_INTERNAL &&
           strcmp(epx_status_phrase((enum epx_status)failure->status), "unknown status") != 0 &&
           memchr(failure->text, '\0', sizeof failure->text) != NULL;
}

static bool body_is_valid(const struct epx_boot_message *message)
{
    switch ((enum epx_boot_kind)message->kind) {
    case EPX_BOOT_HELLO: return hello_is_valid(&message->body.hello);
    case EPX_BOOT_GET_ROSTER:
        return message->body.get_roster.first < EPX_COMM_RANK_MAX && message->body.get_roster.zero == 0;
    case EPX_BOOT_WANT:
    case EPX_BOOT_GIVE: return items_are_valid(&message->body.items);
    case EPX_BOOT_ROSTER: return roster_is_valid(&message->body.roster);
    case EPX_BOOT_MISSING:
        return message->body.missing.phase <= EPX_BOOT_MISSING_MAPPED && message->body.missing.centre_leaves <= 1;
    case EPX_BOOT_FAILURE: return failure_is_valid(&message->body.failure);
    case EPX_BOOT_MAPPED:
    case EPX_BOOT_QUERY:
    case EPX_BOOT_ASSEMBLED:
    case EPX_BOOT_COMPLETE: return true;
    case EPX_BOOT_KIND_END: break;
    }
    return false;
}

void epx_boot_message_init(struct epx_boot_message *message, enum epx_boot_kind kind)
{
    memset(message, 0, sizeof *message);
    message->magic = EPX_BOOT_MAGIC;
    message->version = EPX_BOOT_VERSION;
    message->kind = (uint16_t)kind;
}

size_t epx_boot_message_bytes(uint32_t kind)
{
    if (kind >= EPX_BOOT_KIND_END || body_bytes[kind] == 0) {
        return 0;
    }
    return EPX_BOOT_HEADER_BYTES + (body_bytes[kind] > 0 ? (size_t)body_bytes[kind] : 0);
}

bool epx_boot_message_decode(const void *packet, size_t packet_bytes, struct epx_boot_message *out)
{
    if (packet_bytes < EPX_BOOT_HEADER_BYTES || packet_bytes > sizeof *out) {
        return false;
    }
    memset(out, 0, sizeof *out);
    memcpy(out, packet, packet_bytes);
    return out->magic == EPX_BOOT_MAGIC && out->version == EPX_BOOT_VERSION &&
           packet_bytes == epx_boot_message_bytes(out->kind) && body_is_valid(out);
}
