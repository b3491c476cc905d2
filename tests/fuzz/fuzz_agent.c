/* Any bytes as a stream of messages between agents: refused, not yet whole, or every field in its range. */
#include "comm/agent_wire.h"
#include "comm/control_region.h"

#include <stdlib.h>
#include <string.h>

#define RANKS 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_agent_message message;
    size_t at = 0;
    while (at < bytes) {
        int64_t taken = epx_agent_message_decode(data + at, bytes - at, RANKS, &message);
        if (taken <= 0) {
            return 0;
        }
        require((size_t)taken <= bytes - at && memcmp(&message, data + at, (size_t)taken) == 0);
        if (message.kind == EPX_AGENT_STATUS) {
            require(message.body.status.count <= EPX_AGENT_STATUS_MAX);
            for (uint32_t i = 0; i < message.body.status.count; i++) {
                require(message.body.status.places[i].rank < RANKS);
                require(message.body.status.places[i].life <= EPX_LIFE_LEFT);
            }
        } else if (message.kind == EPX_AGENT_PROPOSE || message.kind == EPX_AGENT_FAILED) {
            require(message.body.cause.rank < RANKS && message.body.cause.status != EPX_OK);
            require(strlen(message.body.cause.text) < sizeof message.body.cause.text);
        }
        at += (size_t)taken;
    }
    return 0;
}
