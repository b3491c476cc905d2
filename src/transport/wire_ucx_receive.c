#include "base/log.h"
#include "transport/wire_ucx.h"

#include <stdlib.h>
#include <string.h>

/* Data of a kept message: one of two sizes, so that what is freed fits what comes. */
#define SMALL_BYTES 4096u
/* Freed ones that stay; one beyond goes back to the system. */
#define SMALL_FREE_MAX 256u
#define LARGE_FREE_MAX 64u
/* A message this far before its turn is no message. */
#define EARLY_MAX (1u << 24)

static struct epx_wire_message *take(struct epx_wire *wire, uint64_t bytes)
{
    bool large = bytes > SMALL_BYTES;
    struct epx_wire_pool *pool = large ? &wire->large : &wire->small;
    struct epx_wire_message *message = pool->free;
    if (message != NULL) {
        pool->free = message->next;
        pool->free_count--;
    } else {
        message = malloc(sizeof(*message) + (large ? EPX_WIRE_MESSAGE_BYTES_MAX : SMALL_BYTES));
    }
    if (message != NULL) {
        message->wire = wire;
        message->large = large;
    }
    return message;
}

static void give_back(struct epx_wire_message *message)
{
    struct epx_wire_pool *pool = message->large ? &message->wire->large : &message->wire->small;
    if (pool->free_count >= (message->large ? LARGE_FREE_MAX : SMALL_FREE_MAX)) {
        free(message);
        return;
    }
    message->next = pool->free;
    pool->free = message;
    pool->free_count++;
}

static void free_list(struct epx_wire_message *list)
{
    while (list != NULL) {
        struct epx_wire_message *next = list->next;
        free(list);
        list = next;
    }
}

/* One that UCX still writes to stays until the end of the wire. */
static void drop_kept(struct epx_wire_peer *peer)
{
    struct epx_wire_message **link = &peer->kept;
    while (*link != NULL) {
        struct epx_wire_message *message = *link;
        if (message->state == EPX_WIRE_ARRIVING) {
            link = &message->next;
            continue;
        }
        *link = message->next;
        give_back(message);
    }
}

void epx_wire_tell_later(struct epx_wire_peer *peer)
{
    peer->next_losing = peer->wire->losing;
    peer->wire->losing = peer;
}

void epx_wire_break(struct epx_wire_peer *peer, const char *reason, bool bad)
{
    struct epx_wire *wire = peer->wire;
    if (bad && !peer->bad) {
        peer->bad = true;
        drop_kept(peer);
    }
    if (peer->lost) {
        return;
    }
    peer->lost = true;
    peer->reason = reason;
    wire->happened = true;
    if (peer->connected) {
        epx_wire_tell_later(peer);
    }
}

static bool keep(struct epx_wire_peer *peer, struct epx_wire_message *message)
{
    struct epx_wire_message **link = &peer->kept;
    while (*link != NULL && (*link)->sequence < message->sequence) {
        link = &(*link)->next;
    }
    if (*link != NULL && (*link)->sequence == message->sequence) {
        return false;
    }
    message->next = *link;
    *link = message;
    if (!peer->waiting) {
        peer->waiting = true;
        peer->next_waiting = peer->wire->waiting;
        peer->wire->waiting = peer;
    }
    return true;
}

static bool offer_peer(struct epx_wire_peer *peer)
{
    struct epx_wire *wire = peer->wire;
    bool taken = false;
    struct epx_wire_message *message = NULL;
    while (peer->connected && !peer->bad && (message = peer->kept) != NULL && message->state == EPX_WIRE_WHOLE &&
           message->sequence == peer->offered) {
        if (!wire->handler.receive(wire->handler.context, peer->number, message->header, message->data,
                                   message->bytes)) {
            break;
        }
        peer->kept = message->next;
        peer->offered++;
        give_back(message);
        taken = true;
    }
    return taken;
}

bool epx_wire_offer_kept(struct epx_wire *wire)
{
    bool taken = false;
    struct epx_wire_peer **link = &wire->waiting;
    while (*link != NULL) {
        struct epx_wire_peer *peer = *link;
        taken |= offer_peer(peer);
        if (peer->kept == NULL) {
            peer->waiting = false;
            *link = peer->next_waiting;
        } else {
            link = &peer->next_waiting;
        }
    }
    return taken;
}

void epx_wire_forget_kept(struct epx_wire *wire)
{
    for (uint32_t i = 0; i < wire->peer_max; i++) {
        free_list(wire->peers[i].kept);
        wire->peers[i].kept = NULL;
    }
    free_list(wire->small.free);
    free_list(wire->large.free);
}

static void refuse(struct epx_wire_peer *peer, const char *what, uint64_t value)
{
    epx_log(EPX_LOG_WARN, "a message of peer %u is dropped, and the connection with it: %s %llu", peer->number, what,
            (unsigned long long)value);
    epx_wire_break(peer, what, true);
}

/* The peer whose message this is, null when it is to be dropped. */
static struct epx_wire_peer *check(struct epx_wire *wire, const void *header, size_t header_bytes, size_t bytes,
                                   struct epx_wire_frame *frame)
{
    if (header_bytes != EPX_WIRE_FRAME_BYTES) {
        epx_log(EPX_LOG_WARN, "a message of an unknown sender is dropped: its header has %zu bytes", header_bytes);
        return NULL;
    }
    memcpy(frame, header, EPX_WIRE_FRAME_BYTES);
    if (frame->magic != EPX_WIRE_FRAME_MAGIC || frame->self >= wire->peer_max) {
        epx_log(EPX_LOG_WARN, "a message of an unknown sender is dropped: peer %u, mark %#x", frame->self,
                frame->magic);
        return NULL;
    }
    struct epx_wire_peer *peer = &wire->peers[frame->self];
    if (peer->bad) {
        return NULL;
    }
    if (bytes > EPX_WIRE_MESSAGE_BYTES_MAX) {
        refuse(peer, "a message too long, bytes:", bytes);
        return NULL;
    }
    if (frame->sequence < peer->offered || frame->sequence - peer->offered > EARLY_MAX) {
        refuse(peer, "a message out of its turn, number", frame->sequence);
        return NULL;
    }
    return peer;
}

static struct epx_wire_message *keep_new(struct epx_wire_peer *peer, const struct epx_wire_frame *frame, size_t bytes)
{
    struct epx_wire_message *message = take(peer->wire, bytes);
    if (message == NULL) {
        epx_wire_break(peer, "no memory for its message", true);
        return NULL;
    }
    message->peer = peer;
    message->sequence = frame->sequence;
    message->bytes = bytes;
    message->state = EPX_WIRE_ARRIVING;
    memcpy(message->header, frame->header, sizeof(message->header));
    if (!keep(peer, message)) {
        give_back(message);
        refuse(peer, "a message sent twice, number", frame->sequence);
        return NULL;
    }
    return message;
}

/* Data that came with the message. */
static void accept_whole(struct epx_wire_peer *peer, const struct epx_wire_frame *frame, const void *data, size_t bytes)
{
    struct epx_wire *wire = peer->wire;
    bool in_turn = peer->connected && peer->kept == NULL && frame->sequence == peer->offered;
    if (in_turn && wire->handler.receive(wire->handler.context, peer->number, frame->header, data, bytes)) {
        peer->offered++;
        return;
    }
    struct epx_wire_message *message = keep_new(peer, frame, bytes);
    if (message == NULL) {
        return;
    }
    if (bytes > 0) {
        memcpy(message->data, data, bytes);
    }
    message->state = EPX_WIRE_WHOLE;
}

/* One that broke off stays: what comes after it never has its turn. */
static void end_reception(struct epx_wire_message *message, ucs_status_t status)
{
    struct epx_wire *wire = message->wire;
    wire->receive_count--;
    wire->happened = true;
    message->state = status == UCS_OK ? EPX_WIRE_WHOLE : EPX_WIRE_BROKEN;
    if (status != UCS_OK) {
        epx_wire_break(message->peer, "a message of it broke off", false);
    }
}

static void on_received(void *request, ucs_status_t status, size_t length, void *user_data)
{
    struct epx_wire_message *message = user_data;
    struct epx_wire *wire = message->wire;
    end_reception(message, status == UCS_OK && length != message->bytes ? UCS_ERR_MESSAGE_TRUNCATED : status);
    wire->ucx->ucp_request_free(request);
}

/* Data that the sender still has: fetched at once, so that its memory is free again whatever the receiver wants. */
static ucs_status_t fetch(struct epx_wire_peer *peer, const struct epx_wire_frame *frame, void *data, size_t bytes)
{
    struct epx_wire *wire = peer->wire;
    struct epx_wire_message *message = keep_new(peer, frame, bytes);
    if (message == NULL) {
        return UCS_ERR_CANCELED;
    }
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv_am = on_received,
        .user_data = message,
    };
    wire->receive_count++;
    ucs_status_ptr_t request = wire->ucx->ucp_am_recv_data_nbx(wire->worker, data, message->data, bytes, &param);
    if (UCS_PTR_IS_ERR(request)) {
        end_reception(message, UCS_PTR_STATUS(request));
    }
    return UCS_INPROGRESS;
}

ucs_status_t epx_wire_on_message(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                                 const ucp_am_recv_param_t *param)
{
    struct epx_wire *wire = context;
    struct epx_wire_frame frame;
    bool fetched = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
    wire->happened = true;
    if (wire->closing) {
        return fetched ? UCS_ERR_CANCELED : UCS_OK;
    }
    struct epx_wire_peer *peer = check(wire, header, header_bytes, bytes, &frame);
    if (peer == NULL) {
        return fetched ? UCS_ERR_CANCELED : UCS_OK;
    }
    if (fetched) {
        return fetch(peer, &frame, data, bytes);
    }
    accept_whole(peer, &frame, data, bytes);
    return UCS_OK;
}
