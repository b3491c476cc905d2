/*
 * Any bytes as what peers give as their addresses, and as what UCX hands to the wire: messages in any order, of any
 * sender, with any frame, data at once or to be fetched and then there or not. Whatever comes, the receiver is offered
 * the messages of a peer in their order, each once it has been taken once, with the bytes that came; and after a peer
 * sent what is wrong, nothing more of it.
 */
#include "base/digest.h"
#include "transport/wire_ucx.h"

#include <stdlib.h>
#include <string.h>

#define PEERS       4u
#define PENDING_MAX 64u
/* Bytes of most messages: long ones take time. */
#define SMALL_MAX 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct {
    struct epx_wire wire;
    struct epx_wire_peer peers[PEERS];
    struct epx_ucx ucx;
    uint64_t next[PEERS]; /* the number of the message that must be offered next */
    bool accepts;
    bool had_long;
    struct {
        ucp_am_recv_data_nbx_callback_t done;
        void *user_data;
        uint8_t *to;
        size_t bytes;
    } pending[PENDING_MAX];
    uint32_t pending_count;
} scene;

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* Header and data of a message follow from its peer and number. */
static uint8_t mark_of(uint32_t peer, uint64_t sequence)
{
    return (uint8_t)(peer * 85u + sequence * 7u + 1u);
}

static bool receive(void *context, uint32_t peer, const uint8_t header[EPX_WIRE_HEADER_BYTES], const void *data,
                    uint64_t bytes)
{
    (void)context;
    require(peer < PEERS && bytes <= EPX_WIRE_MESSAGE_BYTES_MAX);
    require(scene.peers[peer].connected && !scene.peers[peer].bad);
    uint8_t mark = mark_of(peer, scene.next[peer]);
    require(header[0] == mark && header[EPX_WIRE_HEADER_BYTES - 1] == mark);
    require(bytes == 0 || (((const uint8_t *)data)[0] == mark && ((const uint8_t *)data)[bytes - 1] == mark));
    scene.next[peer] += scene.accepts;
    return scene.accepts;
}

static void lost(void *context, uint32_t peer, const char *reason)
{
    (void)context;
    require(peer < PEERS && reason != NULL);
}

static void free_request(void *request)
{
    require(request == &scene.pending_count);
}

static ucs_status_ptr_t fetch(ucp_worker_h worker, void *data_desc, void *buffer, size_t count,
                              const ucp_request_param_t *param)
{
    (void)worker;
    require(count <= EPX_WIRE_MESSAGE_BYTES_MAX);
    if (scene.pending_count == PENDING_MAX || data_desc == NULL) {
        return UCS_STATUS_PTR(UCS_ERR_NO_MEMORY);
    }
    scene.pending[scene.pending_count].done = param->cb.recv_am;
    scene.pending[scene.pending_count].user_data = param->user_data;
    scene.pending[scene.pending_count].to = buffer;
    scene.pending[scene.pending_count++].bytes = count;
    return &scene.pending_count;
}

/* A reception that ends: well, short, or not at all. */
static void end_pending(uint32_t index, uint8_t how)
{
    struct epx_wire_message *message = scene.pending[index].user_data;
    size_t bytes = scene.pending[index].bytes;
    ucp_am_recv_data_nbx_callback_t done = scene.pending[index].done;
    uint8_t mark = mark_of(message->peer->number, message->sequence);
    if (bytes > 0) {
        scene.pending[index].to[0] = mark;
        scene.pending[index].to[bytes - 1] = mark;
    }
    scene.pending[index] = scene.pending[--scene.pending_count];
    done(&scene.pending_count, how == 1 ? UCS_ERR_CONNECTION_RESET : UCS_OK, how == 2 ? bytes + 1 : bytes, message);
}

struct event {
    uint8_t kind;
    uint8_t self;
    int8_t sequence; /* from what is next */
    uint8_t spoils;
    uint32_t bytes;
};
_Static_assert(sizeof(struct event) == 8, "an event has eight bytes");

static void deliver(const struct event *event)
{
    bool fetched = (event->kind & 0x40) != 0;
    uint64_t known = event->self < PEERS ? scene.peers[event->self].offered : 0;
    struct epx_wire_frame frame = {
        .magic = EPX_WIRE_FRAME_MAGIC, .self = event->self, .sequence = known + (uint64_t)(int64_t)event->sequence};
    const ucp_am_recv_param_t param = {.recv_attr = fetched ? UCP_AM_RECV_ATTR_FLAG_RNDV : 0};
    bool is_long = fetched && (event->spoils & 0x80) != 0 && !scene.had_long;
    scene.had_long = scene.had_long || is_long;
    size_t bytes = event->bytes % (is_long ? EPX_WIRE_MESSAGE_BYTES_MAX + 64 : SMALL_MAX);
    size_t header_bytes = sizeof frame;
    uint8_t mark = mark_of(event->self, frame.sequence);
    memset(frame.header, mark, sizeof frame.header);
    switch (event->spoils & 0x7F) {
    case 1: frame.magic ^= event->bytes; break;
    case 2: frame.sequence = (uint64_t)event->bytes << 32 | event->bytes; break;
    case 3: header_bytes = event->bytes % sizeof frame; break;
    case 4: frame.self = event->bytes; break;
    default: break;
    }
    uint8_t *header = malloc(header_bytes);
    uint8_t *data = malloc(bytes);
    require(header != NULL && data != NULL);
    memcpy(header, &frame, header_bytes);
    if (!fetched) {
        memset(data, mark, bytes);
    }
    bool is_spoilt = (event->spoils & 0x7F) == 2 || (event->spoils & 0x7F) == 4;
    /* With a wrong number or sender the marks are not what the receiver expects. */
    bool could_pass = is_spoilt && frame.self < PEERS && frame.sequence - scene.peers[frame.self].offered <= 255;
    if (!could_pass) {
        ucs_status_t status =
            epx_wire_on_message(&scene.wire, header, header_bytes, fetched ? header : data, bytes, &param);
        require(status == UCS_OK || status == UCS_INPROGRESS || status == UCS_ERR_CANCELED);
        require(fetched || status == UCS_OK);
    }
    free(header);
    free(data);
}

static ucs_status_t create_endpoint(ucp_worker_h worker, const ucp_ep_params_t *params, ucp_ep_h *endpoint)
{
    (void)worker;
    require(params->address != NULL && params->err_handler.cb != NULL);
    *endpoint = (ucp_ep_h)&scene;
    return UCS_OK;
}

/* An address of UCX as a peer gives it: with a mark, its length and its digest before it. */
static void connect_with(const struct event *event)
{
    uint32_t ucx_bytes = event->bytes % 64;
    uint32_t given_bytes = 8 + EPX_DIGEST_BYTES + ucx_bytes;
    uint8_t bytes[8 + EPX_DIGEST_BYTES + 64] = {0};
    uint32_t magic = EPX_WIRE_FRAME_MAGIC;
    uint32_t said_bytes = ucx_bytes;
    switch (event->spoils) {
    case 1: magic++; break;
    case 2: said_bytes += event->bytes >> 8; break;
    case 3: given_bytes = event->bytes; break;
    default: break;
    }
    memcpy(bytes, &magic, sizeof magic);
    memcpy(bytes + 4, &said_bytes, sizeof said_bytes);
    memset(bytes + 8 + EPX_DIGEST_BYTES, event->self, ucx_bytes);
    epx_digest(bytes + 8 + EPX_DIGEST_BYTES, ucx_bytes, bytes + 8);
    bytes[8] = (uint8_t)(bytes[8] ^ (event->spoils == 4));
    uint8_t *given = malloc(given_bytes < sizeof bytes ? given_bytes : sizeof bytes);
    require(given != NULL);
    memcpy(given, bytes, given_bytes < sizeof bytes ? given_bytes : sizeof bytes);
    bool was_connected = event->self < PEERS && scene.peers[event->self].connected;
    /* Longer ones than any are not looked at. */
    if (given_bytes <= sizeof bytes || given_bytes > EPX_WIRE_ADDRESS_BYTES_MAX) {
        enum epx_status status = epx_wire_connect(&scene.wire, event->self, given, given_bytes, 0);
        bool is_good = event->spoils == 0 || event->spoils > 4;
        require(status != EPX_OK || (event->self < PEERS && !was_connected));
        require(!is_good || was_connected || event->self >= PEERS || ucx_bytes == 0 || status == EPX_OK);
    }
    free(given);
}

static void take_event(const struct event *event)
{
    struct epx_wire_peer *peer = &scene.peers[event->self % PEERS];
    switch (event->kind & 0x3F) {
    case 0: peer->connected = true; break;
    case 1: scene.accepts = !scene.accepts; break;
    case 2: (void)epx_wire_offer_kept(&scene.wire); break;
    case 3: epx_wire_break(peer, "the cable is cut", event->spoils == 1); break;
    case 4:
        if (scene.pending_count > 0) {
            end_pending(event->bytes % scene.pending_count, event->spoils);
        }
        break;
    case 5: scene.wire.closing = event->spoils == 1; break;
    case 7: connect_with(event); break;
    default: deliver(event); break;
    }
}

static void scene_init(void)
{
    static const struct epx_wire_handler handler = {.receive = receive, .lost = lost};
    memset(&scene, 0, sizeof scene);
    scene.accepts = true;
    scene.ucx.ucp_request_free = free_request;
    scene.ucx.ucp_am_recv_data_nbx = fetch;
    scene.ucx.ucp_ep_create = create_endpoint;
    scene.wire.ucx = &scene.ucx;
    scene.wire.handler = handler;
    scene.wire.peers = scene.peers;
    scene.wire.peer_max = PEERS;
    for (uint32_t i = 0; i < PEERS; i++) {
        scene.peers[i].wire = &scene.wire;
        scene.peers[i].number = i;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool quiet;
    if (!quiet) {
        quiet = setenv("EPX_LOG", "none", 1) == 0;
    }
    scene_init();
    for (; bytes >= sizeof(struct event); data += sizeof(struct event), bytes -= sizeof(struct event)) {
        struct event event;
        memcpy(&event, data, sizeof event);
        take_event(&event);
    }
    while (scene.pending_count > 0) {
        end_pending(0, 0);
    }
    require(scene.wire.receive_count == 0);
    epx_wire_forget_kept(&scene.wire);
    return 0;
}
