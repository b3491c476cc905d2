/*
 * Sockets of the census: TCP, never blocking, no signal, closed on exec; frames read exactly, never a byte beyond.
 * Thread: any.
 */
#ifndef EPX_COMM_CENSUS_SOCKET_H
#define EPX_COMM_CENSUS_SOCKET_H

#include "comm/census_wire.h"
#include "comm/whitelist.h"

#define EPX_CENSUS_PEER_TEXT_BYTES 80

/* Milliseconds from now to a deadline for poll, at least 1 while it lies ahead, at most `most`. */
int epx_census_poll_ms(uint64_t now_ns, uint64_t deadline_ns, int most);

/* The same address with another port. */
union epx_address epx_census_address_at(const union epx_address *address, uint16_t port);
/* "10.1.2.3", "[fe80::1]"; "?" when it cannot be said. */
void epx_census_address_print(const union epx_address *address, char text[EPX_CENSUS_PEER_TEXT_BYTES]);
/* Address and port of the other end. */
void epx_census_peer_print(int fd, char text[EPX_CENSUS_PEER_TEXT_BYTES]);

/* A listener, or a negative errno. Port 0: any; *port is the one it has. */
int epx_census_listen(const union epx_address *address, uint16_t *port);
/* A connection, or a negative errno: -EAGAIN when nobody waits, -EPERM when whoever waited is not on the list. */
int epx_census_accept(int listener, const struct epx_whitelist *list);
/* A connection on its way, or a negative errno. `own_ip` as in struct epx_meeting. */
int epx_census_connect(const union epx_address *address, const char *own_ip);
/* What became of it, once it can be written to: zero or a negative errno. */
int epx_census_connect_result(int fd);

/* Whether the other end has closed, even if what it has sent before is still to be read. */
bool epx_census_has_hung_up(int fd);

/* Bytes that went out, or a negative errno: -EAGAIN. */
ssize_t epx_census_send(int fd, const void *data, size_t bytes);
/* A short frame on a connection that has room for it: zero or a negative errno. `frame` has room for the head. */
int epx_census_send_frame(int fd, enum epx_census_kind kind, uint8_t *frame, uint32_t body_bytes);

struct epx_census_reader { /* of one connection; empty when zeroed */
    uint32_t got;          /* bytes of the frame, its head included */
    uint8_t head_bytes[EPX_CENSUS_HEAD_BYTES];
    struct epx_census_head head;
    uint8_t *body;
    uint32_t capacity;
};

/*
 * Reads on. 1: a frame of one of `kinds` (EPX_CENSUS_BIT) is in reader->head and body, until the next call. 0: the peer
 * has closed. Negative errno: -EAGAIN (more to come), -EBADMSG (not a frame, or of another kind), -EPROTO (another
 * version), -ENOMEM.
 */
int epx_census_read(int fd, uint32_t kinds, struct epx_census_reader *reader);
void epx_census_reader_fini(struct epx_census_reader *reader);

/* ---- The door's side of a handshake ---------------------------------------------------------------------------- */

struct epx_census_visitor { /* a connection that has to prove itself */
    bool greeted;
    uint64_t deadline_ns;
    struct epx_census_nonces nonces;
    struct epx_census_reader reader;
};

struct epx_census_door {
    const uint8_t *key;
    enum epx_census_role role;
    enum epx_census_role visitor_role;
    enum epx_census_kind expected; /* the frame with the visitor's proof */
};

/* 1: reader holds the expected frame and its proof is right. Otherwise as epx_census_read; -EACCES: wrong key. */
int epx_census_visitor_read(int fd, const struct epx_census_door *door, struct epx_census_visitor *visitor);
/* What such a negative errno means, for the log. */
const char *epx_census_read_error(int error);

#endif
