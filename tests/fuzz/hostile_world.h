/*
 * A world of four ranks on two hosts (0 and 1, 2 and 3) inside one process, with tensor parallelism two of them, in
 * which one rank is tested and the others lie. An honest operation of all four is run and recorded once. Then the
 * tested rank runs it alone, again and again: what its peers did is replayed, spoilt as the fuzzer has it. Nothing is
 * sent, and no process or thread is made.
 *
 * A peer on the tested rank's host can spoil its exchange region, its entry, those of the remote rank for which it
 * stands, and its failure record; the remote peer for which the tested rank stands, its messages.
 */
#ifndef EPX_TESTS_FUZZ_HOSTILE_WORLD_H
#define EPX_TESTS_FUZZ_HOSTILE_WORLD_H

#include "comm/comm_object.h"
#include "comm/remote_state.h"
#include "moe/request.h"

#include <stdbool.h>
#include <stdint.h>

#define HOSTILE_RANKS       4u
#define HOSTILE_REGION_MAX  3u
#define HOSTILE_MESSAGE_MAX 12u

struct hostile_variant {
    enum epx_operation operation; /* DISPATCH, or COMBINE after a dispatch that is not spoilt */
    uint32_t own;                 /* the tested rank: 0 or 1 */
    int64_t shared_ranks;
    bool quantized, smooth, two_level, views, return_int8, tp;
    int64_t global_tokens;
};

struct hostile_message {
    uint32_t from;
    bool ends_link; /* in place of a message: the peer is lost */
    uint8_t header[EPX_WIRE_HEADER_BYTES];
    uint8_t *data; /* of its size and no more, so that a byte read beyond it is seen */
    uint64_t bytes;
};

/* The exchange region that a peer on the tested rank's host has put up for itself or for whom it stands, or the tensor-
 * parallel peer, and its entry. */
struct hostile_region {
    struct epx_control_entry *entry;
    struct epx_control_entry honest_entry;
    uint8_t *memory;
    uint8_t *honest;
    uint64_t bytes;
};

struct hostile_world {
    const struct hostile_variant *variant;
    struct hostile_side *sides; /* by rank; with tensor parallelism, those of the second group follow */
    struct epx_comm *comm;      /* the tested rank's */
    struct hostile_region regions[HOSTILE_REGION_MAX];
    uint32_t region_count;
    struct hostile_message honest[HOSTILE_MESSAGE_MAX];
    uint32_t honest_count;

    /* What is replayed: copies, to be spoilt. */
    struct hostile_message messages[HOSTILE_MESSAGE_MAX];
    uint32_t message_count;
    uint32_t order[HOSTILE_MESSAGE_MAX]; /* of the messages; one may come more than once */
    uint32_t order_count;

    struct hostile_before *before; /* the tested rank's state before the operation */
};

/* Runs and records the honest operation, and makes sure that its replay gives the same. */
struct hostile_world *hostile_open(const struct hostile_variant *variant);

/* Everything as it was before the operation, and all messages honest. */
void hostile_reset(struct hostile_world *world);

/* The operation on the tested rank, against what is set up. Aborts when memory that nobody may write has changed. */
enum epx_status hostile_run(struct hostile_world *world);

/* Spoils the replay as the bytes say, runs it, and checks that success or a failure with a text is its end. */
void hostile_try(struct hostile_world *world, const uint8_t *data, size_t bytes);

#endif
