/*
 * Between the files of the reference.
 */
#ifndef EPX_TESTS_REFERENCE_INTERNAL_H
#define EPX_TESTS_REFERENCE_INTERNAL_H

#include "reference/reference.h"

/* calloc that never fails; never null, also for zero elements. */
void *ref_alloc(int64_t count, size_t elem_bytes);

/* One row of a receiver's expand_x: where it comes from. */
struct ref_copy {
    int64_t source; /* rank in the group */
    int64_t token;
    int64_t slot; /* k; -1: the copy for the shared expert */
};

/* The own rows of one receiver, without TP. */
struct ref_inbox {
    int64_t row_count;
    struct ref_copy *copies;
    int64_t block_count; /* W * local experts */
    int64_t *block_ends; /* inclusive running totals */
};

/* `group` points at the tokens of rank 0 of the receiver's group. */
void ref_inbox_init(struct ref_inbox *inbox, const struct ref_shape *shape, const struct ref_tokens *group,
                    int64_t rank);
void ref_inbox_fini(struct ref_inbox *inbox);

int64_t ref_owner_of(const struct ref_shape *shape, int64_t expert);
int64_t ref_local_index_of(const struct ref_shape *shape, int64_t expert);
int64_t ref_server_of(const struct ref_shape *shape, int64_t rank);
/* Place of an expert among those of its server, by rank and then by local index. */
int64_t ref_index_in_server(const struct ref_shape *shape, int64_t expert);
/* Number of i < j with ids[i] == ids[j]. */
int64_t ref_occurrence(const int32_t *expert_ids, int64_t j);

/* Two-level: fills received->tail*. `group` as above. */
void ref_fill_tail(const struct ref_shape *shape, const struct ref_tokens *group, int64_t rank,
                   struct ref_received *received);

/* The first id outside [0, E) of one rank. */
enum ref_status ref_check_ids(const struct ref_shape *shape, int64_t index, int64_t token_count, const int32_t *ids,
                              struct ref_error *error);

/* Row `row` of rank `index` as it goes back: with TP the peer's row added, then through int8 transport if asked. */
void ref_returned_row(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index, int64_t row,
                      uint16_t *dst);
/* First row and rows of block `block` of a rank. */
void ref_block(const struct ref_returns *rank, int64_t block, int64_t *first, int64_t *count);
/* One token of rank `index`, all experts and the shared one, before the last rounding. */
void ref_sum_two_level(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index, int64_t token,
                       float *sum);

#endif
