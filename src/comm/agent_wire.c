#include "comm/agent_wire.h"

#include "comm/control_region.h"
#include "comm/failure.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are little endian as they lie in memory");

static size_t status_bytes(uint32_t count)
{
    return offsetof(struct epx_agent_status, places) + count * sizeof(struct epx_agent_place);
}

void epx_agent_message_seal(struct epx_agent_message *message, enum epx_agent_kind kind)
{
    message->magic = EPX_AGENT_MAGIC;
    message->kind = (uint32_t)kind;
    message->zero = 0;
    switch (kind) {
    case EPX_AGENT_ARRIVED:
    case EPX_AGENT_COMPLETE: message->body_bytes = sizeof(struct epx_agent_step); break;
    case EPX_AGENT_PROPOSE:
    case EPX_AGENT_FAILED: message->body_bytes = sizeof(struct epx_agent_cause); break;
    case EPX_AGENT_STATUS: message->body_bytes = (uint32_t)status_bytes(message->body.status.count); break;
    case EPX_AGENT_BYE: message->body_bytes = 0; break;
    }
}

static bool header_right(const struct epx_agent_message *message)
{
    if (message->magic != EPX_AGENT_MAGIC || message->zero != 0) {
        return false;
    }
    switch (message->kind) {
    case EPX_AGENT_ARRIVED:
    case EPX_AGENT_COMPLETE: return message->body_bytes == sizeof(struct epx_agent_step);
    case EPX_AGENT_PROPOSE:
    case EPX_AGENT_FAILED: return message->body_bytes == sizeof(struct epx_agent_cause);
    case EPX_AGENT_STATUS:
        return message->body_bytes >= status_bytes(0) && message->body_bytes <= sizeof(struct epx_agent_status);
    case EPX_AGENT_BYE: return message->body_bytes == 0;
    default: return false;
    }
}

static bool status_right(const struct epx_agent_status *status, uint32_t body_bytes, uint32_t rank_count)
{
    if (status->count > EPX_AGENT_STATUS_MAX || status->zero != 0 || body_bytes != status_bytes(status->count)) {
        return false;
    }
    for (uint32_t i = 0; i < status->count; i++) {
        if (status->places[i].rank >= rank_count || status->places[i].life > EPX_LIFE_LEFT) {
            return false;
        }
    }
    return true;
}

static bool cause_right(const struct epx_agent_cause *cause, uint32_t rank_count)
{
    return cause->rank < rank_count && cause->of_world <= 1 && cause->zero == 0 &&
           epx_failure_status_exists(cause->status) && memchr(cause->text, '\0', sizeof cause->text) != NULL;
}

int64_t epx_agent_message_decode(const uint8_t *stream, size_t bytes, uint32_t rank_count,
                                 struct epx_agent_message *out)
{
    if (bytes < EPX_AGENT_HEADER_BYTES) {
        return 0;
    }
    memcpy(out, stream, EPX_AGENT_HEADER_BYTES);
    if (!header_right(out)) {
        return -1;
    }
    if (bytes - EPX_AGENT_HEADER_BYTES < out->body_bytes) {
        return 0;
    }
    memcpy(&out->body, stream + EPX_AGENT_HEADER_BYTES, out->body_bytes);
    bool right = true;
    if (out->kind == EPX_AGENT_STATUS) {
        right = status_right(&out->body.status, out->body_bytes, rank_count);
    } else if (out->kind == EPX_AGENT_PROPOSE || out->kind == EPX_AGENT_FAILED) {
        right = cause_right(&out->body.cause, rank_count);
    }
    return right ? (int64_t)epx_agent_message_bytes(out) : -1;
}
