/*
 * One connection between two agents: bytes in and out of a non-blocking socket, in buffers of fixed size. Thread: one
 * at a time (the agent's lock).
 */
#ifndef EPX_COMM_AGENT_LINK_H
#define EPX_COMM_AGENT_LINK_H

#include "comm/agent_wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for what a peer that lives takes within its time limit: places of 4096 ranks, several times. */
#define EPX_AGENT_OUT_BYTES (1u << 20)

struct epx_agent_link {
    int fd; /* -1: gone */
    uint32_t host;
    bool is_deaf;          /* it takes nothing any more; what it has said is still read */
    bool said_bye;         /* its leader has left: the end of the connection is no failure */
    uint64_t heard_ns;     /* when something came last */
    bool heard;            /* whether anything has come: until then the other agent may not have begun */
    uint64_t arrived_step; /* of its host, as it said last */
    const char *reason;    /* why it is gone, for messages: static, or `reason_text` */
    char reason_text[96];
    uint8_t *in;
    size_t in_used;
    uint8_t *out;
    size_t out_used;
};

/* Takes the descriptor, after a failure too. EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_agent_link_init(struct epx_agent_link *link, int fd, uint32_t host, uint64_t now_ns);
void epx_agent_link_fini(struct epx_agent_link *link);

/* Gives a link up: closes it and notes why. */
void epx_agent_link_lose(struct epx_agent_link *link, const char *reason);

/* Sends or keeps a message. A link that takes no more is lost. */
void epx_agent_link_send(struct epx_agent_link *link, const struct epx_agent_message *message);

/* Sends what was kept. */
void epx_agent_link_flush(struct epx_agent_link *link);

/* Reads what is there; the end of the stream or an error loses the link. */
void epx_agent_link_read(struct epx_agent_link *link, uint64_t now_ns);

/* Takes the next whole message; false when there is none. What is no message loses the link. */
bool epx_agent_link_take(struct epx_agent_link *link, uint32_t rank_count, struct epx_agent_message *message);

/* Says that nothing more will be sent, and waits until the peer has taken all, or until `until_ns`. */
void epx_agent_link_linger(struct epx_agent_link *link, uint64_t until_ns);

#endif
