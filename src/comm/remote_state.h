/*
 * The inside of the wire part of rounds, for the files remote*.c: messages, and how far they are. Touched by the thread
 * that runs the round.
 */
#ifndef EPX_COMM_REMOTE_STATE_H
#define EPX_COMM_REMOTE_STATE_H

#include "comm/comm_object.h"
#include "comm/hosts.h"
#include "comm/remote.h"

#include <stdbool.h>
#include <stdint.h>

/* Messages on their way to one peer at a time: enough to keep the wire busy while the next one is put together. */
#define EPX_REMOTE_SLOT_COUNT 4u
/* Bytes of rows in a message: over TCP it is then one segment of UCX, which the receiver places from where it arrived;
 * longer ones are put together first. */
#define EPX_REMOTE_BATCH_BYTES (60u << 10)
/* Rows of a message: a piece each, and one for the table. */
#define EPX_REMOTE_BATCH_ROWS (EPX_WIRE_PIECE_MAX - 1u)

#define EPX_REMOTE_MAGIC 0x52585045u

/*
 * Messages of one rank to a stand-in in a round, in this order: ENTRY, more than one when the exchange region is long,
 * the first of them with the agreement before its piece; ROWS, any number: a table and the rows it names; END.
 */
enum epx_remote_kind {
    EPX_REMOTE_ENTRY = 1,
    EPX_REMOTE_ROWS = 2,
    EPX_REMOTE_END = 3,
};

struct epx_remote_header {
    uint32_t magic;
    uint16_t kind;
    uint16_t operation;
    uint64_t step;
    uint64_t round;
    uint64_t total_bytes;                    /* ENTRY: of the exchange region */
    uint64_t offset;                         /* ENTRY: of the piece in it */
    uint64_t row_counts[EPX_REMOTE_SET_MAX]; /* ROWS: of the message; END: of the round */
    uint64_t room;                           /* ENTRY: what the mirror's size follows from */
};
_Static_assert(sizeof(struct epx_remote_header) == EPX_WIRE_HEADER_BYTES, "the wire's header is filled");

struct epx_remote_table_row {
    uint32_t set;
    int32_t index;
    float scale;
};
_Static_assert((sizeof(struct epx_remote_table_row) * EPX_REMOTE_BATCH_ROWS) +
                       (EPX_REMOTE_BATCH_BYTES > EPX_REMOTE_ROW_BYTES_MAX ? EPX_REMOTE_BATCH_BYTES
                                                                          : EPX_REMOTE_ROW_BYTES_MAX) <=
                   EPX_WIRE_MESSAGE_BYTES_MAX,
               "a message of rows fits");

struct epx_remote_slot { /* a message on its way */
    struct epx_wire_send send;
    bool busy;
    struct iovec pieces[EPX_WIRE_PIECE_MAX];
    struct epx_remote_table_row table[EPX_REMOTE_BATCH_ROWS];
};

enum epx_remote_stage { /* what comes next, to or from a peer */
                        EPX_REMOTE_STAGE_ENTRY,
                        EPX_REMOTE_STAGE_REGION, /* more of the exchange region */
                        EPX_REMOTE_STAGE_ROWS,   /* rows, or the end */
                        EPX_REMOTE_STAGE_OVER,
};

struct epx_remote_sender { /* to a peer that stands for this rank; back: for which this one stands */
    bool exists;
    enum epx_remote_stage stage;
    const uint8_t *exchange;
    uint64_t exchange_bytes;
    uint64_t room;
    uint64_t sent_bytes;
    uint64_t cursor;
    uint64_t row_counts[EPX_REMOTE_SET_MAX];
    struct epx_remote_slot *slots; /* [EPX_REMOTE_SLOT_COUNT] */
};

struct epx_remote_receiver { /* from a peer for which this rank stands; back: that stands for this one */
    bool exists;
    enum epx_remote_stage stage;
    bool dropped; /* the peer does something else in this round: only its entry counts */
    struct epx_remote_entry entry;
    const struct epx_remote_mirror *mirror; /* null: nothing is offered, or dropped */
    uint64_t exchange_bytes;
    uint64_t received_bytes;
    uint64_t row_counts[EPX_REMOTE_SET_MAX];
};

struct epx_remote_peer {
    uint32_t rank;
    bool stands_for_this; /* it stands for this rank, */
    bool stood_for;       /* this rank stands for it, or both */
    bool lost;
    char reason[96];
    struct epx_remote_sender sender;
    struct epx_remote_receiver receiver;
};

struct epx_remote {
    struct epx_comm *comm;
    uint32_t peer_count;
    struct epx_remote_peer *peers;
    int32_t *peer_of; /* by rank; -1: no peer */

    /* Of the wire part that is going on. */
    struct epx_round *round; /* null: none */
    uint64_t step;           /* at which the round enters */
    struct epx_remote_source source;
    struct epx_remote_sink sink;
    bool offers;            /* there are source and sink */
    uint32_t batch_rows;    /* of a message, as long as rows are in this round */
    uint64_t moves;         /* messages sent or taken: while it rises nobody is late */
    enum epx_status status; /* else than EPX_OK: why the round cannot go on, with the text */
    char text[EPX_ERROR_TEXT_BYTES];
    uint64_t since_ns;    /* when it began */
    uint64_t deadline_ns; /* EPX_NEVER: none; moves with `moves` */
    uint64_t check_ns;    /* when to look at the others' health */
    uint64_t lost_ns;     /* when a peer that is needed was first seen lost; 0: none is */
    struct epx_remote_row rows[EPX_REMOTE_BATCH_ROWS];
};

/* Notes why the round cannot go on; the first reason stands. */
void epx_remote_note(struct epx_remote *remote, enum epx_status status, const char *format, ...) EPX_PRINTF(3, 4);

/* "rank 5 (host b, pid 4711)" */
#define EPX_REMOTE_NAME_BYTES 128
void epx_remote_name(const struct epx_comm *comm, uint32_t rank, char name[EPX_REMOTE_NAME_BYTES]);

/* Why the wait that is going on is so long, and for whom; "" when it is not. remote_blame.c */
void epx_remote_blame(const struct epx_remote *remote, uint64_t now_ns, char *text, size_t text_bytes);

/* Hands the wire as many messages as there is room for. remote_send.c */
void epx_remote_post(struct epx_remote *remote);
/* Whether all messages to the peer have left. */
bool epx_remote_sent(const struct epx_remote_peer *peer);

/* The wire's handler. remote_receive.c */
bool epx_remote_receive(void *context, uint32_t rank, const uint8_t header[EPX_WIRE_HEADER_BYTES], const void *data,
                        uint64_t bytes);

#endif
