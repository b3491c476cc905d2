/*
 * The reference: what dispatch and combine of a whole world compute, written from the specification alone. One process,
 * one thread, no cleverness, nothing shared with src/. It computes; comparing is its users'.
 *
 * A world has `tp_count` groups of `rank_count` ranks. Rank r of group g has index g * rank_count + r in every array
 * here; its TP peer is rank r of the other group. Where the specification has no layout for a combination of options,
 * docs/extensions.md has, and this code follows it.
 *
 * Memory is allocated with exact sizes (so that a sanitizer sees one element too many) and running out of it ends the
 * program.
 */
#ifndef EPX_TESTS_REFERENCE_H
#define EPX_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ref_format {
    REF_FP16 = 0,
    REF_BF16 = 1,
};

enum ref_token_nums {
    REF_TOKEN_NUMS_PREFIX = 0,
    REF_TOKEN_NUMS_COUNT = 1,
};

struct ref_shape {
    int64_t rank_count;         /* W */
    int64_t tp_count;           /* 1 or 2 */
    int64_t server_rank_count;  /* ranks of one server; divides W when two_level */
    int64_t expert_count;       /* E, a multiple of W - S */
    int64_t shared_rank_count;  /* S < W */
    int64_t hidden;             /* H */
    int64_t topk;               /* K */
    int64_t global_token_count; /* gBs as given */
    enum ref_format format;
    bool quantize;      /* dispatched rows are int8 */
    bool smooth;        /* smooth scales are given */
    bool comm_quantize; /* int8 transport of returned rows */
    bool two_level;
    enum ref_token_nums token_nums;
};

/* What one rank gives to dispatch. Dense, row major. */
struct ref_tokens {
    int64_t token_count;     /* BS */
    int64_t row_capacity;    /* rows of its expand_x */
    int64_t tail_room_bytes; /* of its ep_recv_counts beyond the counts */
    uint16_t *x;             /* (BS, H) */
    int32_t *expert_ids;     /* (BS, K) */
    float *expert_scales;    /* (BS, K), null: not given */
    float *smooth_scales;    /* (E or E + 1, H), null without */
};

/* What one rank gets from dispatch. A null array is one that is not written. */
struct ref_received {
    int64_t row_count;     /* own and, with TP, the peer's */
    int64_t own_row_count; /* without the peer's */
    int64_t local_expert_count;
    void *expand_x;             /* (row_count, H) uint16_t, or int8_t when quantised */
    float *dynamic_scales;      /* (row_count) when quantised */
    int32_t *expand_idx;        /* (BS * K) unless two_level */
    int64_t *expert_token_nums; /* (local_expert_count) */
    int64_t count_elems;        /* W * local experts * tp_count */
    int32_t *ep_recv_counts;    /* (count_elems) */
    int32_t *tp_recv_counts;    /* (2) with TP */
    float *expand_scales;       /* (row_count) when two_level and expert_scales are given */
    int64_t tail_bytes;         /* bytes after the counts that the two arrays below describe */
    uint8_t *tail;              /* content */
    uint8_t *tail_written;      /* 1 where the byte of tail is written, 0 where memory stays as it was */
};

/* What one rank gives to combine. */
struct ref_returns {
    int64_t token_count;
    int64_t row_capacity;
    const uint16_t *expand_x;      /* (row_capacity, H); only rows that the counts name are read */
    const int32_t *expert_ids;     /* (BS, K) */
    const float *expert_scales;    /* (BS, K) */
    const int32_t *expand_idx;     /* (BS * K), not read when two_level */
    const int32_t *ep_send_counts; /* (W * local experts * tp_count) */
    const int32_t *tp_send_counts; /* (2) with TP */
};

enum ref_status {
    REF_OK = 0,
    REF_BAD_EXPERT_ID, /* rank, token, slot, value: first one by rank, token, slot */
    REF_CAPACITY,      /* rank, value: the rows that arrive */
    REF_BAD_COUNTS,    /* rank whose counts contradict themselves, its capacity, or what its peers ask of it */
};

struct ref_error {
    enum ref_status status;
    int64_t rank; /* index in the world */
    int64_t token;
    int64_t slot;
    int64_t value;
};

/* ---- Operators ---- */

/* Fills received[0 .. W * tp_count); after an error nothing is filled. */
enum ref_status ref_dispatch(const struct ref_shape *shape, const struct ref_tokens *tokens,
                             struct ref_received *received, struct ref_error *error);
void ref_received_free(struct ref_received *received);

/* x[i] is set to a new array (BS of rank i, H); after an error all are null. */
enum ref_status ref_combine(const struct ref_shape *shape, const struct ref_returns *returns, uint16_t **x,
                            struct ref_error *error);

int64_t ref_local_expert_count(const struct ref_shape *shape, int64_t rank);

/* Tokens [*first, *first + *count) of rank `source` (>= S, with `token_count` tokens) go to shared rank `shared`. */
void ref_shared_interval(int64_t shared_rank_count, int64_t token_count, int64_t shared, int64_t source, int64_t *first,
                         int64_t *count);

/* ---- Numbers: one value, one row ---- */

float ref_widen(enum ref_format format, uint16_t bits);
uint16_t ref_narrow(enum ref_format format, double value); /* to nearest even */
uint16_t ref_bf16_half_away(double value);                 /* to nearest, halves away from zero */
double ref_round_even(double value);                       /* to an integer */
int8_t ref_saturate_int8(double value);                    /* of ref_round_even; NaN gives 0 */

float ref_quantize_row(enum ref_format format, int8_t *dst, const uint16_t *src, const float *smooth, int64_t elems);
void ref_group8_row(enum ref_format format, uint16_t *dst, const uint16_t *src, int64_t elems);
void ref_tp_sum_row(enum ref_format format, uint16_t *dst, const uint16_t *a, const uint16_t *b, int64_t elems);
/* acc = acc + fp32(row) * weight */
void ref_add_weighted_row(enum ref_format format, float *acc, const uint16_t *row, float weight, int64_t elems);
/* What the home adds to sum for the partial acc of one server: rounded to the format, or as int8 transport has it. */
void ref_add_partial_row(enum ref_format format, bool comm_quantize, float *sum, const float *acc, int64_t elems);

#endif
