/*
 * What the demo's processes share: one anonymous mapping, made by the parent before it forks. Each rank writes its own
 * part; the parent reads when the rank has ended (or, for the progress numbers, at any time).
 */
#ifndef EPX_DEMO_BOARD_H
#define EPX_DEMO_BOARD_H

#include "options.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum board_phase {
    BOARD_DISPATCH = 0,      /* from call to return, waiting for the other ranks included */
    BOARD_DISPATCH_MOVE = 1, /* the part of it in which this rank moved rows */
    BOARD_EXPERTS = 2,
    BOARD_COMBINE = 3,
    BOARD_COMBINE_MOVE = 4,
    BOARD_PHASE_COUNT = 5,
};

enum board_form { BOARD_COPIES = 0, BOARD_VIEWS = 1, BOARD_FORM_COUNT = 2 };

struct board_rank {
    _Atomic int64_t rounds_done;
    _Atomic int joined;
    int finished; /* 1: ran all rounds without an error */
    int64_t rows;
    int64_t dispatch_bytes[BOARD_FORM_COUNT];
    int64_t combine_bytes;
    uint64_t rows_hash[BOARD_FORM_COUNT]; /* of the valid rows, then of their scales */
    int64_t rounds_that_differ;           /* results that were not that of the first round, bit for bit */
    char error[512];
};

struct board {
    struct board_rank *ranks; /* [rank_count] */
    int64_t *expert_rows;     /* [rank_count][local experts] */
    int32_t *recv_counts;     /* [rank_count][rank_count * local experts] */
    uint16_t *x;              /* [rank_count][tokens * hidden]: outputs of the last round */
    uint64_t *phase_ns;       /* [rank_count][rounds][BOARD_FORM_COUNT][BOARD_PHASE_COUNT] */
    int64_t local_experts;    /* largest of any rank */
    void *memory;
    size_t memory_bytes;
};

/* 0, or -1 with errno. */
int board_create(const struct demo_options *options, struct board *board);
void board_destroy(struct board *board);

int64_t *board_expert_rows(const struct board *board, int64_t rank);
int32_t *board_recv_counts(const struct demo_options *options, const struct board *board, int64_t rank);
uint16_t *board_x(const struct demo_options *options, const struct board *board, int64_t rank);
uint64_t *board_phase_ns(const struct demo_options *options, const struct board *board, int64_t rank, int64_t round,
                         enum board_form form);

/* FNV-1a, 64 bits, continued from `hash` (start: BOARD_HASH_START). */
#define BOARD_HASH_START UINT64_C(0xCBF29CE484222325)
uint64_t board_hash(uint64_t hash, const void *data, size_t bytes);

#endif
