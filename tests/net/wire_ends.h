/* Ends of wires for tests: each message says in its header what it must be, and is checked when it arrives. */
#ifndef EPX_TESTS_WIRE_ENDS_H
#define EPX_TESTS_WIRE_ENDS_H

#include "base/clock.h"
#include "transport/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define END_PEERS   4u
#define END_SKIPPED 77
#define END_WAIT_NS 30000000000u /* longer than anything takes that works */

struct end {
    struct epx_wire *wire;
    uint64_t sent[END_PEERS];
    uint64_t received[END_PEERS]; /* in order and right */
    uint64_t wrong;
    unsigned lost[END_PEERS];
    bool refuses;
    uint64_t refusals;
};

struct end_note { /* at the start of a header */
    uint64_t number;
    uint64_t bytes;
};

static inline uint8_t end_byte(uint64_t number, uint64_t place)
{
    return (uint8_t)(number * 7 + place * 13 + (place >> 8));
}

static inline void end_fill(uint8_t *data, uint64_t number, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        data[i] = end_byte(number, i);
    }
}

static inline bool end_receive(void *context, uint32_t peer, const uint8_t header[EPX_WIRE_HEADER_BYTES],
                               const void *data, uint64_t bytes)
{
    struct end *end = context;
    struct end_note note;
    memcpy(&note, header, sizeof(note));
    bool right = peer < END_PEERS && note.number == end->received[peer] && note.bytes == bytes;
    for (uint64_t i = 0; right && i < bytes; i++) {
        right = ((const uint8_t *)data)[i] == end_byte(note.number, i);
    }
    for (size_t i = sizeof(note); right && i < EPX_WIRE_HEADER_BYTES; i++) {
        right = header[i] == (uint8_t)(note.number + i);
    }
    if (!right) {
        end->wrong++;
        return true;
    }
    if (end->refuses) {
        end->refusals++;
        return false;
    }
    end->received[peer]++;
    return true;
}

static inline void end_lost(void *context, uint32_t peer, const char *reason)
{
    struct end *end = context;
    end->lost[peer]++;
    end->wrong += reason == NULL || reason[0] == '\0';
}

static inline void end_open(struct end *end)
{
    const struct epx_wire_handler handler = {.context = end, .receive = end_receive, .lost = end_lost};
    memset(end, 0, sizeof(*end));
    if (epx_wire_open("127.0.0.1", &handler, END_PEERS, &end->wire) != EPX_OK) {
        fail_msg("epx_wire_open: %s", epx_error_text());
    }
}

/* `b` is peer number `b_number` of `a`, and the other way round. */
static inline void end_connect(struct end *a, uint32_t b_number, struct end *b, uint32_t a_number)
{
    uint32_t bytes = 0;
    const void *address = epx_wire_address(b->wire, &bytes);
    assert_int_equal(epx_wire_connect(a->wire, b_number, address, bytes, a_number), EPX_OK);
}

static inline enum epx_status end_send(struct end *end, uint32_t peer, struct epx_wire_send *send,
                                       const struct iovec *pieces, uint32_t piece_count)
{
    struct end_note note = {.number = end->sent[peer]};
    for (uint32_t i = 0; i < piece_count; i++) {
        note.bytes += pieces[i].iov_len;
    }
    memset(send, 0, sizeof(*send));
    memcpy(send->header, &note, sizeof(note));
    for (size_t i = sizeof(note); i < EPX_WIRE_HEADER_BYTES; i++) {
        send->header[i] = (uint8_t)(note.number + i);
    }
    send->pieces = pieces;
    send->piece_count = piece_count;
    enum epx_status status = epx_wire_send(end->wire, peer, send);
    end->sent[peer] += status == EPX_OK;
    return status;
}

/* Whether this build and machine can run such tests; says why not. */
static inline bool end_possible(void)
{
    const struct epx_wire_handler handler = {.receive = end_receive, .lost = end_lost};
    struct epx_wire *wire = NULL;
    enum epx_status status = epx_wire_open("127.0.0.1", &handler, 1, &wire);
    if (status == EPX_ERR_UNSUPPORTED || status == EPX_ERR_NOT_FOUND) {
        (void)printf("SKIPPED: %s\n", epx_error_text());
        return false;
    }
    epx_wire_close(wire);
    return true;
}

#endif
