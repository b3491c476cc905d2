/*
 * The part of a round that crosses to other hosts: each rank sends its entry, its exchange region and the rows that are
 * read there to its stand-in on each other host, and takes the same in from every remote rank that it stands for.
 * Between publishing and ENTER. Nothing to do in a world on one host.
 *
 * What a stand-in has received it puts up in the place of the remote rank: its entry into that rank's slot of the
 * control region of this host, with an exchange region in the stand-in's own arena. So from ENTER on a remote rank is
 * read like any other.
 */
#ifndef EPX_COMM_REMOTE_H
#define EPX_COMM_REMOTE_H

#include "comm/completion.h"
#include "transport/wire.h"

/* Sets of rows that a rank may offer in a round. */
#define EPX_REMOTE_SET_MAX 2u
/* Longest row that can cross. */
#define EPX_REMOTE_ROW_BYTES_MAX (EPX_WIRE_MESSAGE_BYTES_MAX / 2)

struct epx_remote_row { /* of a sender */
    uint32_t set;
    int32_t index; /* its place in the mirror's set */
    const void *address;
    float scale; /* sent when the set has scales */
};

/* What a rank sends to its peers: to its stand-ins, or back to the ranks for which it stands. Thread: the round's. */
struct epx_remote_source {
    void *context;
    bool is_back; /* the other direction, in a later step than ENTER: entries are not put up again */
    /* The exchange region as the peer `rank` and its host are to see it: *bytes stay readable until the wire part of
     * the round is over. *room: what the mirrors' sizes follow from. */
    const void *(*exchange)(void *context, uint32_t rank, uint64_t *bytes, uint64_t *room);
    /* Up to `max` next rows for that peer; *cursor is 0 at first and the callee's after. Returns how many, 0: no more.
     */
    uint32_t (*rows)(void *context, uint32_t rank, uint64_t *cursor, struct epx_remote_row *rows, uint32_t max);
    uint32_t row_bytes[EPX_REMOTE_SET_MAX]; /* 0: no such set; at most EPX_REMOTE_ROW_BYTES_MAX */
    bool has_scales[EPX_REMOTE_SET_MAX];
};

/* Where the rows of one remote rank go: memory of this rank's arena, reserved (epx_arena_need is called before rows are
 * written). */
struct epx_remote_set {
    uint8_t *rows;
    uint64_t pitch_bytes;
    int64_t row_capacity;
    float *scales; /* null: none */
};
struct epx_remote_mirror {
    uint8_t *exchange; /* reserved, too */
    uint64_t exchange_capacity;
    struct epx_remote_set sets[EPX_REMOTE_SET_MAX];
};

/* What a rank does with what arrives. */
struct epx_remote_sink {
    void *context;
    /* Before the first byte of `rank` is written: where to. It offers `bytes` of exchange region, not 0, which fit, and
     * says `room`. Null: this rank cannot take it, with *status and the thread's text. */
    const struct epx_remote_mirror *(*mirror)(void *context, uint32_t rank, uint64_t bytes, uint64_t room,
                                              enum epx_status *status);
    /* All of `rank` is there: checks and completes the mirror (offsets). `bytes` of exchange region and row_counts of
     * each set have arrived. False: it cannot be right. */
    bool (*complete)(void *context, uint32_t rank, uint64_t bytes, const uint64_t row_counts[EPX_REMOTE_SET_MAX]);
};

/* Begins the wire part, after epx_round_publish and before epx_round_arrive(ENTER). Source and sink are copied;
 * contexts must live until it is over. Both null: only the entry is sent and received. No-op (and nothing pending) on
 * one host. Another, back, may follow before the round's next step; both ends of a pair begin the same ones.
 */
EPX_NODISCARD enum epx_status epx_remote_begin(struct epx_round *round, const struct epx_remote_source *source,
                                               const struct epx_remote_sink *sink);

/* Goes on until all is sent and received (not *pending), until_ns, or failure of the communicator (the round is over,
 * and nothing is sent any more of what its memory held). */
EPX_NODISCARD enum epx_status epx_remote_await(struct epx_round *round, uint64_t until_ns, bool *pending);

/* Begin and await of a round without exchange regions. */
EPX_NODISCARD enum epx_status epx_remote_enter(struct epx_round *round);

/* The state of a communicator whose hosts are set, before the wire is connected; all memory that rounds will need.
 * EPX_ERR_NO_MEMORY. Destroyed after the wire is closed. */
EPX_NODISCARD enum epx_status epx_remote_create(struct epx_comm *comm);
void epx_remote_destroy(struct epx_comm *comm);

/* For epx_wire_open. What arrives before the state is created is left to the wire. */
struct epx_wire_handler epx_remote_handler(struct epx_comm *comm);

#endif
