/*
 * Messages between agents: a header and the body of its kind, integers little endian and of fixed width. What arrives
 * is checked here before anything of it is used. Pure.
 */
#ifndef EPX_COMM_AGENT_WIRE_H
#define EPX_COMM_AGENT_WIRE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPX_AGENT_MAGIC        0x41475845u
#define EPX_AGENT_HEADER_BYTES 16u
#define EPX_AGENT_STATUS_MAX   256u /* ranks in one STATUS */

enum epx_agent_kind {
    EPX_AGENT_ARRIVED = 1,  /* to host 0: all ranks of the sender's host have arrived at a step of the world */
    EPX_AGENT_COMPLETE = 2, /* from host 0: all hosts have */
    EPX_AGENT_PROPOSE = 3,  /* to host 0: a rank of the sender's host has found a cause of failure */
    EPX_AGENT_FAILED = 4,   /* from host 0: the one cause */
    EPX_AGENT_STATUS = 5,   /* where ranks are; also the sign of life */
    EPX_AGENT_BYE = 6,      /* the sender's leader has left the communicator: its last message */
};

struct epx_agent_step {
    uint64_t step;
};

struct epx_agent_cause {
    uint64_t steps;    /* completed where it was found */
    uint32_t rank;     /* whose record it is */
    uint32_t status;   /* enum epx_status */
    uint32_t of_world; /* 1: void once the next step is complete, which is one of the world */
    uint32_t zero;
    char text[EPX_ERROR_TEXT_BYTES];
};

struct epx_agent_place {
    uint32_t rank;
    uint32_t life; /* enum epx_life */
    uint64_t arrived_step;
    uint64_t activity;
    uint64_t age_ns;   /* for how long */
    uint64_t heard_ns; /* how long ago its host said so */
};

struct epx_agent_status {
    uint32_t count; /* 0 .. EPX_AGENT_STATUS_MAX */
    uint32_t zero;
    struct epx_agent_place places[EPX_AGENT_STATUS_MAX];
};

struct epx_agent_message {
    uint32_t magic;
    uint32_t kind;
    uint32_t body_bytes;
    uint32_t zero;
    union {
        struct epx_agent_step step;
        struct epx_agent_cause cause;
        struct epx_agent_status status;
    } body;
};
_Static_assert(offsetof(struct epx_agent_message, body) == EPX_AGENT_HEADER_BYTES, "layout");
_Static_assert(sizeof(struct epx_agent_cause) == 24 + EPX_ERROR_TEXT_BYTES, "no padding");
_Static_assert(sizeof(struct epx_agent_place) == 40 && sizeof(struct epx_agent_status) == 8 + 256 * 40, "no padding");

/* Sets header and length of a message whose body is filled. */
void epx_agent_message_seal(struct epx_agent_message *message, enum epx_agent_kind kind);

static inline size_t epx_agent_message_bytes(const struct epx_agent_message *message)
{
    return EPX_AGENT_HEADER_BYTES + message->body_bytes;
}

/* What the first `bytes` bytes of a stream are. 0: not yet a whole message; < 0: never one; else its bytes, and *out is
 * it, checked: lengths, counts, ranks below rank_count, statuses that exist, text that ends. */
int64_t epx_agent_message_decode(const uint8_t *stream, size_t bytes, uint32_t rank_count,
                                 struct epx_agent_message *out);

#endif
