/* Any bytes as a packet of the rendezvous: refused, or a message whose every field is in its range. */
#include "comm/bootstrap_wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_boot_message message;
    if (bytes == 0 || !epx_boot_message_decode(data, bytes, &message)) {
        return 0;
    }
    require(message.kind > 0 && message.kind < EPX_BOOT_KIND_END && memcmp(&message, data, bytes) == 0);
    if (message.kind == EPX_BOOT_HELLO) {
        require(message.body.hello.rank < message.body.hello.rank_count);
        require(message.body.hello.rank_count <= EPX_COMM_RANK_MAX);
    } else if (message.kind == EPX_BOOT_ROSTER) {
        require(message.body.roster.count <= EPX_BOOT_ROSTER_MAX);
        require((uint64_t)message.body.roster.first + message.body.roster.count <= EPX_COMM_RANK_MAX);
    } else if (message.kind == EPX_BOOT_WANT || message.kind == EPX_BOOT_GIVE) {
        require(message.body.items.count >= 1 && message.body.items.count <= EPX_BOOT_ITEM_MAX);
    } else if (message.kind == EPX_BOOT_FAILURE) {
        require(strlen(message.body.failure.text) < sizeof message.body.failure.text);
        require(message.body.failure.status != EPX_OK);
    }
    return 0;
}
