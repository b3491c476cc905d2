#include "base/digest.h"
#include "transport/wire_ucx.h"

#include <stdlib.h>
#include <string.h>

/* What peers get: UCX would follow any bytes as if they were an address. */
struct wire_address {
    uint32_t magic;
    uint32_t bytes;
    uint8_t digest[EPX_DIGEST_BYTES];
    uint8_t ucx[];
};

_Static_assert(sizeof(ucp_dt_iov_t) == sizeof(struct iovec) &&
                   offsetof(ucp_dt_iov_t, buffer) == offsetof(struct iovec, iov_base) &&
                   offsetof(ucp_dt_iov_t, length) == offsetof(struct iovec, iov_len),
               "pieces are handed to UCX as they are");
_Static_assert(offsetof(struct epx_wire_send, frame) == offsetof(struct epx_wire_frame, magic) &&
                   EPX_WIRE_FRAME_BYTES == EPX_WIRE_HEADER_BYTES + sizeof(((struct epx_wire_send *)0)->frame),
               "header and frame of a message travel as one");

enum epx_status epx_wire_fail_ucx(const struct epx_wire *wire, const char *what, ucs_status_t status)
{
    return epx_fail(status == UCS_ERR_NO_MEMORY ? EPX_ERR_NO_MEMORY : EPX_ERR_SYSTEM, "UCX cannot %s: %s", what,
                    wire->ucx->ucs_status_string(status));
}

enum epx_status epx_wire_make_address(struct epx_wire *wire)
{
    ucp_address_t *own = NULL;
    size_t own_bytes = 0;
    ucs_status_t status = wire->ucx->ucp_worker_get_address(wire->worker, &own, &own_bytes);
    if (status != UCS_OK) {
        return epx_wire_fail_ucx(wire, "tell its address", status);
    }
    enum epx_status result = EPX_OK;
    struct wire_address *address = NULL;
    if (own_bytes > EPX_WIRE_ADDRESS_BYTES_MAX - sizeof(*address)) {
        result = epx_fail(EPX_ERR_SYSTEM,
                          "the address that UCX has here is of %zu bytes, at most %zu fit; fewer devices "
                          "(UCX_NET_DEVICES) make it shorter",
                          own_bytes, EPX_WIRE_ADDRESS_BYTES_MAX - sizeof(*address));
    } else if ((address = calloc(1, sizeof(*address) + own_bytes)) == NULL) {
        result = epx_fail(EPX_ERR_NO_MEMORY, "no memory for an address of %zu bytes", own_bytes);
    } else {
        address->magic = EPX_WIRE_FRAME_MAGIC;
        address->bytes = (uint32_t)own_bytes;
        memcpy(address->ucx, own, own_bytes);
        epx_digest(address->ucx, own_bytes, address->digest);
        wire->address = address;
        wire->address_bytes = (uint32_t)(sizeof(*address) + own_bytes);
    }
    wire->ucx->ucp_worker_release_address(wire->worker, own);
    return result;
}

void epx_wire_end_send(struct epx_wire_send *send)
{
    *send->link = send->next;
    if (send->next != NULL) {
        send->next->link = send->link;
    }
    send->done = true;
}

static void on_sent(void *request, ucs_status_t status, void *user_data)
{
    struct epx_wire_send *send = user_data;
    struct epx_wire_peer *peer = send->owner;
    struct epx_wire *wire = peer->wire;
    epx_wire_end_send(send);
    wire->happened = true;
    if (status != UCS_OK && !wire->closing) {
        epx_wire_break(peer, wire->ucx->ucs_status_string(status), false);
    }
    wire->ucx->ucp_request_free(request);
}

static void on_error(void *context, ucp_ep_h endpoint, ucs_status_t status)
{
    struct epx_wire_peer *peer = context;
    (void)endpoint;
    if (!peer->wire->closing) {
        epx_wire_break(peer, peer->wire->ucx->ucs_status_string(status), false);
    }
}

static bool address_is_good(const struct wire_address *address, uint32_t address_bytes)
{
    uint8_t digest[EPX_DIGEST_BYTES];
    if (address_bytes <= sizeof(*address) || address_bytes > EPX_WIRE_ADDRESS_BYTES_MAX ||
        address->magic != EPX_WIRE_FRAME_MAGIC || address->bytes != address_bytes - sizeof(*address)) {
        return false;
    }
    epx_digest(address->ucx, address->bytes, digest);
    return memcmp(digest, address->digest, sizeof(digest)) == 0;
}

enum epx_status epx_wire_connect(struct epx_wire *wire, uint32_t peer, const void *address, uint32_t address_bytes,
                                 uint32_t self)
{
    union {
        struct wire_address address;
        uint8_t bytes[EPX_WIRE_ADDRESS_BYTES_MAX];
    } copy;
    if (peer >= wire->peer_max) {
        return epx_fail(EPX_ERR_INVALID, "peer is %u, must be in [0, %u)", peer, wire->peer_max);
    }
    struct epx_wire_peer *entry = &wire->peers[peer];
    if (entry->connected) {
        return epx_fail(EPX_ERR_STATE, "peer %u is connected already", peer);
    }
    if (address_bytes <= sizeof(copy.bytes)) {
        memcpy(copy.bytes, address, address_bytes);
    }
    if (!address_is_good(&copy.address, address_bytes)) {
        return epx_fail(EPX_ERR_INVALID, "what peer %u gave as its address is none", peer);
    }
    ucp_ep_params_t params = {
        .field_mask =
            UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = (const ucp_address_t *)copy.address.ucx,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = entry},
    };
    ucs_status_t status = wire->ucx->ucp_ep_create(wire->worker, &params, &entry->endpoint);
    if (status != UCS_OK) {
        entry->endpoint = NULL;
        return epx_wire_fail_ucx(wire, "connect to a peer", status);
    }
    entry->self = self;
    entry->connected = true;
    if (entry->lost) {
        epx_wire_tell_later(entry);
    }
    return EPX_OK;
}

static enum epx_status check_send(const struct epx_wire *wire, uint32_t peer, const struct epx_wire_send *send)
{
    uint64_t bytes = 0;
    if (peer >= wire->peer_max || !wire->peers[peer].connected) {
        return epx_fail(EPX_ERR_STATE, "peer %u is not connected", peer);
    }
    if (wire->peers[peer].lost) {
        return epx_fail(EPX_ERR_PEER_DEAD, "peer %u cannot be reached any more: %s", peer, wire->peers[peer].reason);
    }
    if (send->piece_count > EPX_WIRE_PIECE_MAX) {
        return epx_fail(EPX_ERR_INVALID, "a message has %u pieces, at most %u", send->piece_count, EPX_WIRE_PIECE_MAX);
    }
    for (uint32_t i = 0; i < send->piece_count; i++) {
        if (send->pieces[i].iov_len > EPX_WIRE_MESSAGE_BYTES_MAX - bytes) {
            return epx_fail(EPX_ERR_INVALID, "a message is longer than %u bytes", EPX_WIRE_MESSAGE_BYTES_MAX);
        }
        bytes += send->pieces[i].iov_len;
    }
    return EPX_OK;
}

static ucs_status_ptr_t start_send(struct epx_wire_peer *peer, struct epx_wire_send *send)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_DATATYPE,
        .cb.send = on_sent,
        .user_data = send,
        .datatype = ucp_dt_make_contig(1),
    };
    const void *data = NULL;
    size_t count = 0;
    if (send->piece_count == 1) {
        data = send->pieces[0].iov_base;
        count = send->pieces[0].iov_len;
    } else if (send->piece_count > 1) {
        data = send->pieces;
        count = send->piece_count;
        param.datatype = ucp_dt_make_iov();
    }
    return peer->wire->ucx->ucp_am_send_nbx(peer->endpoint, EPX_WIRE_MESSAGE_ID, send, EPX_WIRE_FRAME_BYTES, data,
                                            count, &param);
}

enum epx_status epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send)
{
    send->done = true;
    EPX_TRY(check_send(wire, peer, send));
    struct epx_wire_peer *entry = &wire->peers[peer];
    const struct epx_wire_frame frame = {.magic = EPX_WIRE_FRAME_MAGIC, .self = entry->self, .sequence = entry->sent};
    memcpy(send->frame, &frame.magic, sizeof(send->frame));
    send->owner = entry;
    ucs_status_ptr_t request = start_send(entry, send);
    if (UCS_PTR_IS_ERR(request) && UCS_PTR_STATUS(request) == UCS_ERR_NO_MEMORY) {
        return epx_wire_fail_ucx(wire, "send a message", UCS_PTR_STATUS(request));
    }
    if (UCS_PTR_IS_ERR(request)) { /* the endpoint has failed, and on_error has not been called yet */
        epx_wire_break(entry, wire->ucx->ucs_status_string(UCS_PTR_STATUS(request)), false);
        return check_send(wire, peer, send);
    }
    entry->sent++;
    if (request == NULL) {
        return EPX_OK;
    }
    send->done = false;
    send->next = wire->sending;
    send->link = &wire->sending;
    if (send->next != NULL) {
        send->next->link = &send->next;
    }
    wire->sending = send;
    return EPX_OK;
}
