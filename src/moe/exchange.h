/*
 * What a rank shows to its peers in a round: a header at the start of its exchange region, pieces after it, and rows
 * anywhere in its arena. Writer: the owner, before it arrives at ENTER. Readers: its peers, between ENTER and DONE;
 * what they read is copied out, then checked, then used. Order: the steps of the round.
 */
#ifndef EPX_MOE_EXCHANGE_H
#define EPX_MOE_EXCHANGE_H

#include "comm/comm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPX_EXCHANGE_MAGIC 0x45585045u

/* Rows in the owner's arena. With row_count 0 the places mean nothing. */
struct epx_published_rows {
    uint64_t offset;      /* of row 0 */
    uint64_t pitch_bytes; /* from row to row */
    int64_t row_count;
    uint64_t scales_offset; /* of fp32 [row_count], 0 for none */
};

struct epx_exchange_header {
    uint32_t magic;
    uint32_t header_bytes;
    int64_t token_count;
    /* Pieces by their distance from the header; 0: absent. Dispatch: layout.h. */
    uint64_t offsets_at;
    uint64_t sorted_at;
    uint64_t occurrence_at;
    uint64_t ids_at;
    uint64_t weights_at;
    uint64_t counts_at; /* int32 [count_elems]; combine, and dispatch to the tensor-parallel peer */
    int64_t count_elems;
    int64_t own_row_count; /* combine, to the tensor-parallel peer: rows of the own group */
    uint64_t part_bytes;   /* dispatch: token rows that all read before they go on; rank 0's counts for all */
    uint64_t reserved[5];
    struct epx_published_rows rows;
    struct epx_published_rows shared_rows; /* dispatch: what ranks with the shared expert take, by token */
};

_Static_assert(sizeof(struct epx_exchange_header) == 192, "three cache lines");
_Static_assert(offsetof(struct epx_exchange_header, rows) == 128, "rows in a line of their own");

/* Rows of a peer, checked. */
struct epx_rows {
    const uint8_t *first; /* null with row_count 0 */
    uint64_t pitch_bytes;
    int64_t row_count;
    const float *scales; /* null when none */
};

/* A header for its owner to fill. */
void epx_exchange_header_init(struct epx_exchange_header *header, int64_t token_count);

/* Copies a header out and checks what is the same for all operations. False when it cannot be right. */
bool epx_exchange_read(const void *exchange, uint64_t bytes, struct epx_exchange_header *header);

/* `count` elements of 4 bytes, `at` bytes into a region; null when they do not lie inside or are not aligned. */
const void *epx_exchange_piece(const void *exchange, uint64_t bytes, uint64_t at, int64_t count);

/* Turns what a rank published into addresses. False when it reaches out of the rank's arena. */
bool epx_rows_resolve(const struct epx_comm *comm, int64_t rank, const struct epx_published_rows *published,
                      uint64_t row_bytes, struct epx_rows *rows);

/* Whether all rows may be read as 16-bit elements. */
static inline bool epx_rows_halves_aligned(const struct epx_rows *rows)
{
    return ((uintptr_t)rows->first | rows->pitch_bytes) % sizeof(uint16_t) == 0;
}

static inline const uint8_t *epx_rows_at(const struct epx_rows *rows, int64_t row)
{
    return rows->first + (uint64_t)row * rows->pitch_bytes;
}

/* One value that its owner could change: read once. */
static inline int32_t epx_peek_i32(const int32_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

#endif
