/*
 * Messages of the rendezvous. One packet of a SOCK_SEQPACKET socket each: a header and the body of its kind, both of
 * fixed width; integers in the machine's order, since both ends are on one host. What arrives is decoded into a copy
 * and checked there; nothing of it is trusted before.
 */
#ifndef EPX_COMM_BOOTSTRAP_WIRE_H
#define EPX_COMM_BOOTSTRAP_WIRE_H

#include "base/status.h"
#include "comm/comm.h"
#include "memory/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPX_BOOT_MAGIC   0x42585045u
#define EPX_BOOT_VERSION 1u

#define EPX_BOOT_ROSTER_MAX  64u                       /* ranks in one ROSTER */
#define EPX_BOOT_ITEM_MAX    16u                       /* descriptors in one GIVE */
#define EPX_BOOT_ITEM_SHARED UINT32_MAX                /* the item that is the control region and not a rank's arena */
#define EPX_BOOT_SET_WORDS   (EPX_COMM_RANK_MAX / 64u) /* of a set of ranks, bit rank % 64 of word rank / 64 */

enum epx_boot_kind {
    /* rank to centre */
    EPX_BOOT_HELLO = 1,      /* with the descriptor of the rank's arena */
    EPX_BOOT_GET_ROSTER = 2, /* answered by ROSTER */
    EPX_BOOT_WANT = 3,       /* answered by GIVE */
    EPX_BOOT_MAPPED = 4,     /* the rank has everything */
    EPX_BOOT_QUERY = 5,      /* answered by MISSING */
    /* centre to rank */
    EPX_BOOT_ASSEMBLED = 6, /* every rank has said hello */
    EPX_BOOT_ROSTER = 7,
    EPX_BOOT_GIVE = 8,     /* with a descriptor for each item */
    EPX_BOOT_COMPLETE = 9, /* every rank has everything */
    EPX_BOOT_MISSING = 10,
    /* both */
    EPX_BOOT_FAILURE = 11, /* the start has failed; the cause */
    EPX_BOOT_KIND_END,
};

struct epx_boot_hello {
    uint32_t rank;
    uint32_t rank_count;
    uint64_t shared_bytes;
    uint32_t pid; /* as the rank knows it */
    uint32_t zero;
    struct epx_arena_id arena;
};

struct epx_boot_roster_range {
    uint32_t first;
    uint32_t zero;
};

struct epx_boot_roster {
    uint32_t first;
    uint32_t count; /* 1 .. EPX_BOOT_ROSTER_MAX */
    struct epx_arena_id arenas[EPX_BOOT_ROSTER_MAX];
};

struct epx_boot_items {
    uint32_t count;                    /* 1 .. EPX_BOOT_ITEM_MAX */
    uint32_t items[EPX_BOOT_ITEM_MAX]; /* ranks below EPX_COMM_RANK_MAX, or EPX_BOOT_ITEM_SHARED */
};

enum epx_boot_missing_phase {
    EPX_BOOT_MISSING_HELLO = 0,  /* the ranks that have not joined */
    EPX_BOOT_MISSING_MAPPED = 1, /* all have joined; the ranks that have not mapped everything */
};

struct epx_boot_missing {
    uint32_t phase;
    uint32_t centre_leaves; /* 1: the centre gives up; another rank is to take its place */
    uint64_t ranks[EPX_BOOT_SET_WORDS];
};

struct epx_boot_failure {
    uint32_t status;
    char text[EPX_ERROR_TEXT_BYTES]; /* NUL-terminated */
};

struct epx_boot_message {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; /* enum epx_boot_kind */
    union {
        struct epx_boot_hello hello;
        struct epx_boot_roster_range get_roster;
        struct epx_boot_items items; /* WANT, GIVE */
        struct epx_boot_roster roster;
        struct epx_boot_missing missing;
        struct epx_boot_failure failure;
    } body;
};

#define EPX_BOOT_HEADER_BYTES 8u
_Static_assert(offsetof(struct epx_boot_message, body) == EPX_BOOT_HEADER_BYTES, "the header is 8 bytes");
_Static_assert(sizeof(struct epx_boot_hello) == 40 && sizeof(struct epx_boot_roster) == 1032 &&
                   sizeof(struct epx_boot_items) == 68 && sizeof(struct epx_boot_missing) == 520 &&
                   sizeof(struct epx_boot_failure) == 516,
               "bodies have no padding");

/* A message of this kind with an empty body. */
void epx_boot_message_init(struct epx_boot_message *message, enum epx_boot_kind kind);

/* Bytes of a message of this kind on the wire; 0 for an unknown kind. */
size_t epx_boot_message_bytes(uint32_t kind);

/* Copies and checks a packet: magic, version, kind, length, every count, rank, status and text. False when anything is
 * wrong; *out is undefined then. Pure. */
bool epx_boot_message_decode(const void *packet, size_t packet_bytes, struct epx_boot_message *out);

#endif
