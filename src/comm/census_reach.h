/*
 * Finding a door among ports, one of which belongs to it: all are tried side by side, again and again, so that one that
 * is silent or belongs to somebody else holds up none of the others.
 */
#ifndef EPX_COMM_CENSUS_REACH_H
#define EPX_COMM_CENSUS_REACH_H

#include "comm/census_socket.h"

enum epx_census_reached {
    EPX_CENSUS_REACHED,
    EPX_CENSUS_UNREACHED_LATE,
    EPX_CENSUS_UNREACHED_GONE, /* every port has refused, and that is final */
    EPX_CENSUS_UNREACHED_NO_MEMORY,
};

struct epx_census_reach {
    const uint8_t *key;
    enum epx_census_role role; /* whose door */
    const union epx_address *address;
    const char *own_ip;
    const uint16_t *ports;
    uint32_t port_count;
    uint64_t deadline_ns;
    bool refusal_is_final;

    /* Result: a connection whose door has proved itself. */
    int fd;
    uint16_t port;
    struct epx_census_nonces nonces;
    struct epx_census_reader reader; /* what the door says next; to be ended */
    char why_not[256];               /* for messages: address, ports, reason */
};

enum epx_census_reached epx_census_reach(struct epx_census_reach *reach);

/* Ends `body` with the proof of the role for this connection and sends it: zero or a negative errno. `frame` begins
 * with room for the head; body_bytes includes the proof. */
int epx_census_reach_prove(const struct epx_census_reach *reach, enum epx_census_role own_role,
                           enum epx_census_kind kind, uint8_t *frame, uint32_t body_bytes);

#endif
