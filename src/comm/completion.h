/*
 * Rounds: the state machine of one collective operation. docs/protocol.md has the rules, tests/model the model.
 *
 * A round is a fixed sequence of steps, equal on all ranks; a step ends for a rank when every rank has arrived at it or
 * the communicator has failed. One 64-bit word of the control region decides, atomically: bits 16..63 count the steps
 * completed since the communicator was made, bits 0..15 are 0 or 1 + the rank whose failure record is the cause. It
 * moves by compare-and-swap only, from (s-1, 0) to (s, 0) by the last to arrive (or by whoever finds that all have
 * arrived) or to (s-1, rank + 1) by the first to fail. So a step is completed on every rank or on none, and a failure
 * is final.
 *
 * Each rank writes only its own slot. Nobody ever writes into another rank's memory.
 */
#ifndef EPX_COMM_COMPLETION_H
#define EPX_COMM_COMPLETION_H

#include "base/status.h"
#include "comm/comm.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_operation { /* for messages and agreement */
                     EPX_OPERATION_NONE = 0,
                     EPX_OPERATION_DISPATCH = 1,
                     EPX_OPERATION_COMBINE = 2,
                     EPX_OPERATION_BARRIER = 3,
                     EPX_OPERATION_RELEASE = 4, /* of row views */
};

enum epx_phase { /* what a rank does or waits for, for messages */
                 EPX_PHASE_IDLE = 0,
                 EPX_PHASE_ENTER = 1, /* arguments and counts published */
                 EPX_PHASE_ROWS = 2,  /* rows final and readable, or moved */
                 EPX_PHASE_DONE = 3,  /* no rank reads this rank's tensors any more */
};

/* The 64 bytes that are compared between all ranks in the first step of a round. Field layout: the operation's. */
struct epx_agreement {
    uint8_t bytes[64];
};

struct epx_agreement_field {
    const char *name; /* as the user knows it: "moe_expert_num" … */
    uint8_t offset;
    uint8_t width; /* 1, 2, 4 or 8 bytes, little endian, unsigned unless is_signed */
    uint8_t is_signed;
    const char *const *value_names; /* null, or texts for values 0 .. value_name_count-1 */
    uint32_t value_name_count;
};

/* What a rank offers to its peers in a round. Offsets into its own arena. */
struct epx_publication {
    uint64_t offset; /* of its exchange region for this round; a multiple of 64 */
    uint64_t bytes;
};

/* What a rank on another host puts up at ENTER, as its stand-in has received it. */
struct epx_remote_entry {
    uint64_t step;
    uint64_t round;
    uint32_t operation;
    struct epx_agreement agreement;
};

struct epx_round { /* caller's memory, one per running operation */
    struct epx_comm *comm;
    uint64_t number;
    enum epx_operation operation;
    enum epx_phase phase;  /* at whose step the rank has arrived last */
    uint64_t waited_ns[4]; /* by phase: time spent waiting, for statistics */
    bool is_over;          /* ended, by success or failure */
};

/* Takes the next round number, in program order; called when an operation is queued. Every number taken must be begun.
 */
uint64_t epx_round_reserve(struct epx_comm *comm);

/*
 * Begins round `number` on the calling thread after this rank's earlier rounds have ended. Returns the communicator's
 * failure at once when it has failed (the round then is over; do not end it).
 */
EPX_NODISCARD enum epx_status epx_round_begin(struct epx_round *round, struct epx_comm *comm, uint64_t number,
                                              enum epx_operation operation);

/*
 * The parts of a round that wait, for callers that must be back in time. Each returns with *pending when until_ns
 * (epx_clock_ns; EPX_NEVER: waits for as long as it takes) passes first; nothing has changed then, and the same call is
 * to be made again, by any thread: a round moves between threads at these points.
 * begin_until: as begin; a pending round is not begun, and `round` need not be kept.
 * publish: what this rank has to say in the round, before it arrives at ENTER. `publication` null: nothing is offered.
 * arrive: at the step of `phase`. await: the end of that step. agree: after ENTER, compares the arguments of all ranks.
 */
EPX_NODISCARD enum epx_status epx_round_begin_until(struct epx_round *round, struct epx_comm *comm, uint64_t number,
                                                    enum epx_operation operation, uint64_t until_ns, bool *pending);
EPX_NODISCARD enum epx_status epx_round_publish(struct epx_round *round, const struct epx_agreement *agreement,
                                                const struct epx_publication *publication);
/* The same of a rank on another host for which this one stands, before it arrives at ENTER; the publication lies in
 * this rank's arena. */
void epx_round_publish_for(struct epx_round *round, uint32_t rank, const struct epx_remote_entry *entry,
                           const struct epx_publication *publication);
EPX_NODISCARD enum epx_status epx_round_arrive(struct epx_round *round, enum epx_phase phase);
EPX_NODISCARD enum epx_status epx_round_await(struct epx_round *round, uint64_t until_ns, bool *pending);
EPX_NODISCARD enum epx_status epx_round_agree(struct epx_round *round, const struct epx_agreement_field *fields,
                                              uint32_t field_count);

/* Publishes arguments and exchange region, arrives at the first step (phase ENTER), waits, and compares the arguments
 * of all ranks: EPX_ERR_MISMATCH names argument, ranks and values. */
EPX_NODISCARD enum epx_status epx_round_enter(struct epx_round *round, const struct epx_agreement *agreement,
                                              const struct epx_agreement_field *fields, uint32_t field_count,
                                              const struct epx_publication *publication);

/* Arrives at the next step and waits for all. All memory written before by any rank is visible after. */
EPX_NODISCARD enum epx_status epx_round_step(struct epx_round *round, enum epx_phase phase);

/* Fails the round on every rank with this cause, unless another was first; returns the status of the one that won, with
 * its text set. The round is over. */
EPX_NODISCARD enum epx_status epx_round_fail(struct epx_round *round, enum epx_status status, const char *format, ...)
    EPX_PRINTF(3, 4);

/* Ends a round whose last step succeeded; the next one of this rank may begin. After a failure of begin, enter, step or
 * fail the round has been ended by that call. */
void epx_round_end(struct epx_round *round);

/*
 * Pacing: ranks that read the same memory in the same order find it in a shared cache when they stay near each other.
 * pace begins the next part of the round's work: it lets the others catch up while this rank is more than a part ahead
 * of them on average, for 1 ms at most and, once that was not enough, not again in the round. skip counts parts without
 * waiting. All ranks count equally many parts in a round, those that skip before they do other work; when they do not,
 * only speed suffers.
 */
void epx_round_pace(struct epx_round *round);
void epx_round_skip(struct epx_round *round, uint64_t parts);

/* A rank's publication of the current round (after enter), read once and checked against its arena: null and
 * EPX_ERR_PROTOCOL through epx_round_fail when it is out of bounds; null, 0 bytes and EPX_OK when it offers nothing. */
EPX_NODISCARD enum epx_status epx_round_peer(struct epx_round *round, uint32_t rank, const void **exchange,
                                             uint64_t *bytes);

#endif
