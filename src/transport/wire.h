/*
 * Messages to ranks on other hosts, over UCX (wire_ucx.c) or nothing (wire_none.c, in builds without UCX). One wire a
 * rank and communicator. Messages of one peer arrive whole, once and in order. The peers' trust: what is wrong with a
 * message costs the connection to its sender, never more. No flow control: what the receiver does not want yet waits in
 * its memory.
 *
 * UCX is loaded by the first call that needs it, so that a program on one host pays nothing for it.
 *
 * Thread: one at a time, any.
 */
#ifndef EPX_TRANSPORT_WIRE_H
#define EPX_TRANSPORT_WIRE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define EPX_WIRE_ADDRESS_BYTES_MAX 2048u
/* Longest message, header apart; a sender splits what is longer. */
#define EPX_WIRE_MESSAGE_BYTES_MAX (1u << 20)
#define EPX_WIRE_HEADER_BYTES      64u
/* Pieces of one message. */
#define EPX_WIRE_PIECE_MAX 512u

struct epx_wire;

struct epx_wire_handler { /* called inside epx_wire_progress and epx_wire_wait; must not call the wire */
    void *context;
    /* A message of `peer` (as given to epx_wire_connect). Header and data are the wire's, until it returns. False: the
     * message is kept and offered again by a later progress, before any later one of that peer (the receiver is not
     * there yet). */
    bool (*receive)(void *context, uint32_t peer, const uint8_t header[EPX_WIRE_HEADER_BYTES], const void *data,
                    uint64_t bytes);
    /* `peer` cannot be reached any more, also because it has closed; `reason` is static or the wire's until it returns.
     * Once a peer. Messages that had arrived whole before are still offered later, unless one of them was wrong. */
    void (*lost)(void *context, uint32_t peer, const char *reason);
};

/* A message on its way. Caller's memory, and so is what it points to until `done`. */
struct epx_wire_send {
    uint8_t header[EPX_WIRE_HEADER_BYTES];
    uint64_t frame[2]; /* the wire's: travels behind the header */
    const struct iovec *pieces;
    uint32_t piece_count; /* 0 .. EPX_WIRE_PIECE_MAX */
    bool done;            /* set by the wire: the memory is the caller's again, be it that the peer is lost */
    struct epx_wire_send *next, **link; /* the wire's */
    void *owner;                        /* the wire's */
};

/* Whether there is a wire here at all, and what it is for people: "UCX 1.13.1", "none (built without UCX)". */
bool epx_wire_available(void);
const char *epx_wire_description(void);

/* `bind_ip`: numeric address of the interface to use, "" to leave it to UCX. Errors: EPX_ERR_UNSUPPORTED (no
 * wire here), EPX_ERR_NOT_FOUND (no interface has the address), EPX_ERR_CONFIG (EPX_WIRE), EPX_ERR_SYSTEM (text has
 * UCX's words), EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_wire_open(const char *bind_ip, const struct epx_wire_handler *handler,
                                            uint32_t peer_max, struct epx_wire **out);
/* Ends it within a second: what the peers' connections take at once still goes to them, also messages not done; the
 * rest is cancelled, and done is set in any case. Calls no handler. Null is allowed. A child of fork calls nothing but
 * this, and then it only forgets. */
void epx_wire_close(struct epx_wire *wire);

/* What peers need to connect; the wire's memory. At most EPX_WIRE_ADDRESS_BYTES_MAX. */
const void *epx_wire_address(const struct epx_wire *wire, uint32_t *bytes);

/* Both ends connect to each other, each with its own number for the other, < peer_max. `self`: the number under which
 * the other end knows this one; it travels in every message and is checked by the receiver. What the other end sends
 * before this call is offered after it. Errors: EPX_ERR_INVALID (a number or an address that is none), EPX_ERR_STATE
 * (connected already), EPX_ERR_SYSTEM. */
EPX_NODISCARD enum epx_status epx_wire_connect(struct epx_wire *wire, uint32_t peer, const void *address,
                                               uint32_t address_bytes, uint32_t self);

/* Begins to send; a failure has done set. EPX_ERR_PEER_DEAD when the peer is lost; EPX_ERR_INVALID (too long, too many
 * pieces), EPX_ERR_STATE (not connected), EPX_ERR_SYSTEM. */
EPX_NODISCARD enum epx_status epx_wire_send(struct epx_wire *wire, uint32_t peer, struct epx_wire_send *send);

/* Whether the connections asked for so far stand, or are lost. They are made by epx_wire_progress on both ends; until
 * then the loss of a peer is harder to survive than later. */
bool epx_wire_settled(struct epx_wire *wire);

/* Moves what can be moved, also what is done but still waits for room in a socket; calls the handler; true when
 * anything happened. Never blocks. */
bool epx_wire_progress(struct epx_wire *wire);

/* Sleeps until something may have happened or until_ns (epx_clock_ns); may return early. Spins for spin_ns first. */
void epx_wire_wait(struct epx_wire *wire, uint64_t spin_ns, uint64_t until_ns);

#endif
