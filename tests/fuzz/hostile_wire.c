#include "fuzz/hostile_wire.h"

#include "fuzz/hostile_guard.h"
#include "transport/wire.h"

#include <stdlib.h>
#include <string.h>

bool __real_epx_remote_receive(void *context, uint32_t rank, const uint8_t header[EPX_WIRE_HEADER_BYTES],
                               const void *data, uint64_t bytes);
bool __wrap_epx_remote_receive(void *context, uint32_t rank, const uint8_t header[EPX_WIRE_HEADER_BYTES],
                               const void *data, uint64_t bytes);
enum epx_status __real_epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send);
enum epx_status __wrap_epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send);
bool __real_epx_wire_progress(struct epx_wire *wire);
bool __wrap_epx_wire_progress(struct epx_wire *wire);
void __real_epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns);
void __wrap_epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns);
void __real_epx_wire_close(struct epx_wire *wire);
void __wrap_epx_wire_close(struct epx_wire *wire);
enum epx_status __real_epx_step_arrive(struct epx_comm *comm, bool is_last);
enum epx_status __wrap_epx_step_arrive(struct epx_comm *comm, bool is_last);

static struct hostile_world *recording;
static struct hostile_world *playing;
static bool taken[HOSTILE_MESSAGE_MAX]; /* of the order */
static volatile uint8_t sent_sum __attribute__((used));

void hostile_wire_record(struct hostile_world *world)
{
    recording = world;
}

void hostile_wire_play(struct hostile_world *world)
{
    playing = world;
    memset(taken, 0, sizeof taken);
}

static void message_copy(struct hostile_message *to, const struct hostile_message *from)
{
    *to = *from;
    to->data = malloc(from->bytes);
    hostile_require(to->data != NULL);
    if (from->bytes > 0) {
        memcpy(to->data, from->data, from->bytes);
    }
}

void hostile_messages_copy(struct hostile_world *world)
{
    for (uint32_t i = 0; i < world->message_count; i++) {
        free(world->messages[i].data);
    }
    for (uint32_t i = 0; i < world->honest_count; i++) {
        message_copy(&world->messages[i], &world->honest[i]);
        world->order[i] = i;
    }
    world->message_count = world->honest_count;
    world->order_count = world->honest_count;
}

bool __wrap_epx_remote_receive(void *context, uint32_t rank, const uint8_t header[EPX_WIRE_HEADER_BYTES],
                               const void *data, uint64_t bytes)
{
    bool is_taken = __real_epx_remote_receive(context, rank, header, data, bytes);
    if (recording != NULL && context == recording->comm && is_taken) {
        hostile_require(recording->honest_count < HOSTILE_MESSAGE_MAX);
        struct hostile_message message = {.from = rank, .data = (uint8_t *)(uintptr_t)data, .bytes = bytes};
        memcpy(message.header, header, sizeof message.header);
        message_copy(&recording->honest[recording->honest_count++], &message);
    }
    return is_taken;
}

/* What is sent is read, so that memory that may not be is seen, and goes nowhere. */
enum epx_status __wrap_epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send)
{
    if (playing == NULL) {
        return __real_epx_wire_send(wire, peer, send);
    }
    uint8_t sum = 0;
    for (uint32_t i = 0; i < send->piece_count; i++) {
        for (size_t at = 0; at < send->pieces[i].iov_len; at++) {
            sum ^= ((const uint8_t *)send->pieces[i].iov_base)[at];
        }
    }
    sent_sum = sum;
    send->done = true;
    return EPX_OK;
}

/* In order; what the rank does not want yet waits, and with it what comes after it from the same peer. */
bool __wrap_epx_wire_progress(struct epx_wire *wire)
{
    if (playing == NULL) {
        return __real_epx_wire_progress(wire);
    }
    if (wire != playing->comm->hosts->wire) {
        return false; /* that of the tensor-parallel pair: nothing crosses there */
    }
    const struct epx_wire_handler handler = epx_remote_handler(playing->comm);
    bool waits[256] = {false};
    bool any = false;
    for (uint32_t i = 0; i < playing->order_count; i++) {
        const struct hostile_message *message = &playing->messages[playing->order[i]];
        if (taken[i] || waits[message->from & 255]) {
            continue;
        }
        if (message->ends_link) {
            handler.lost(handler.context, message->from, "the cable is cut");
            taken[i] = true;
        } else {
            taken[i] = handler.receive(handler.context, message->from, message->header, message->data, message->bytes);
        }
        waits[message->from & 255] = !taken[i];
        any = any || taken[i];
    }
    return any;
}

/* Nothing is left to come. */
void __wrap_epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns)
{
    if (playing == NULL) {
        __real_epx_wire_wait(wire, spin_ns, until_ns);
        return;
    }
    hostile_require(epx_comm_abort(playing->comm, EPX_ERR_TIMEOUT, "nothing more comes") != EPX_OK);
}

void __wrap_epx_wire_close(struct epx_wire *wire)
{
    if (playing == NULL) {
        __real_epx_wire_close(wire);
    }
}

/* The other rank of the host arrives at each step just before. */
enum epx_status __wrap_epx_step_arrive(struct epx_comm *comm, bool is_last)
{
    if (playing != NULL) {
        (void)atomic_fetch_add(&comm->control->arrivals, comm->here_count - 1);
    }
    return __real_epx_step_arrive(comm, is_last);
}
