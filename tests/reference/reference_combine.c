/*
 * Combine of a whole world: rows on their way back, and the full-mesh sum.
 */
#include "reference/reference_internal.h"

#include <stdlib.h>
#include <string.h>

static int64_t own_block_count(const struct ref_shape *shape, int64_t index)
{
    return shape->rank_count * ref_local_expert_count(shape, index % shape->rank_count);
}

static int64_t peer_of(const struct ref_shape *shape, int64_t index)
{
    return (index + shape->rank_count) % (2 * shape->rank_count);
}

void ref_block(const struct ref_returns *rank, int64_t block, int64_t *first, int64_t *count)
{
    *first = block == 0 ? 0 : rank->ep_send_counts[block - 1];
    *count = rank->ep_send_counts[block] - *first;
}

void ref_returned_row(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index, int64_t row,
                      uint16_t *dst)
{
    int64_t hidden = shape->hidden;
    const uint16_t *own = returns[index].expand_x + row * hidden;
    memcpy(dst, own, (size_t)hidden * sizeof *dst);
    if (shape->tp_count == 2) {
        int64_t peer = peer_of(shape, index);
        int64_t first = returns[peer].tp_send_counts[peer / shape->rank_count];
        ref_tp_sum_row(shape->format, dst, own, returns[peer].expand_x + (first + row) * hidden, hidden);
    }
    if (shape->comm_quantize && !shape->two_level) {
        ref_group8_row(shape->format, dst, dst, hidden);
    }
}

/* acc += the row of the shared expert for a token. */
static void add_shared(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index, int64_t token,
                       float *acc)
{
    int64_t rank = index % shape->rank_count;
    int64_t first_of_group = index - rank;
    uint16_t *row = ref_alloc(shape->hidden, sizeof *row);
    if (rank < shape->shared_rank_count) {
        ref_returned_row(shape, returns, index, token, row);
    } else {
        int64_t shared = -1;
        int64_t first = 0;
        int64_t count = 0;
        while (token < first || token >= first + count) {
            shared++;
            ref_shared_interval(shape->shared_rank_count, returns[index].token_count, shared, rank, &first, &count);
        }
        int64_t holder = first_of_group + shared;
        int64_t begin;
        int64_t rows;
        ref_block(&returns[holder], rank, &begin, &rows);
        ref_returned_row(shape, returns, holder, begin + token - first, row);
    }
    ref_add_weighted_row(shape->format, acc, row, 1.0f, shape->hidden);
    free(row);
}

static void sum_full_mesh(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index,
                          int64_t token, float *acc)
{
    int64_t rank = index % shape->rank_count;
    uint16_t *row = ref_alloc(shape->hidden, sizeof *row);
    for (int64_t k = 0; k < shape->topk; k++) {
        int64_t j = token * shape->topk + k;
        int64_t expert = returns[index].expert_ids[j];
        int64_t owner = index - rank + ref_owner_of(shape, expert);
        int64_t first;
        int64_t count;
        ref_block(&returns[owner], ref_local_index_of(shape, expert) * shape->rank_count + rank, &first, &count);
        ref_returned_row(shape, returns, owner, first + returns[index].expand_idx[j], row);
        ref_add_weighted_row(shape->format, acc, row, returns[index].expert_scales[j], shape->hidden);
    }
    free(row);
}

static enum ref_status bad_counts(struct ref_error *error, int64_t index, int64_t value)
{
    *error = (struct ref_error){REF_BAD_COUNTS, index, -1, -1, value};
    return REF_BAD_COUNTS;
}

/* Running totals that rise from 0 and end inside the tensor. */
static enum ref_status check_counts(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index,
                                    struct ref_error *error)
{
    const struct ref_returns *rank = &returns[index];
    int64_t blocks = own_block_count(shape, index);
    for (int64_t part = 0; part < shape->tp_count; part++) {
        int64_t before = 0;
        for (int64_t block = 0; block < blocks; block++) {
            int64_t end = rank->ep_send_counts[part * blocks + block];
            if (end < before) {
                return bad_counts(error, index, end);
            }
            before = end;
        }
    }
    int64_t rows = rank->ep_send_counts[blocks - 1];
    if (shape->tp_count == 2) {
        int64_t slot = index / shape->rank_count;
        const struct ref_returns *peer = &returns[peer_of(shape, index)];
        int64_t for_peer = rank->ep_send_counts[2 * blocks - 1];
        if (rank->tp_send_counts[slot] != rows || rank->tp_send_counts[1 - slot] != for_peer ||
            for_peer != peer->ep_send_counts[blocks - 1]) {
            return bad_counts(error, index, for_peer);
        }
        rows += for_peer;
    }
    return rows <= rank->row_capacity ? REF_OK : bad_counts(error, index, rows);
}

/* The row of every copy lies in its block. */
static enum ref_status check_slots(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index,
                                   struct ref_error *error)
{
    int64_t rank = index % shape->rank_count;
    for (int64_t j = 0; j < returns[index].token_count * shape->topk; j++) {
        int64_t expert = returns[index].expert_ids[j];
        int64_t owner = index - rank + ref_owner_of(shape, expert);
        int64_t slot = shape->two_level ? ref_occurrence(returns[index].expert_ids, j) : returns[index].expand_idx[j];
        int64_t first;
        int64_t count;
        ref_block(&returns[owner], ref_local_index_of(shape, expert) * shape->rank_count + rank, &first, &count);
        if (slot < 0 || slot >= count) {
            *error = (struct ref_error){REF_BAD_COUNTS, index, j / shape->topk, j % shape->topk, slot};
            return REF_BAD_COUNTS;
        }
    }
    return REF_OK;
}

/* Shared ranks hold a row for every token that the formula sends them. */
static enum ref_status check_shared(const struct ref_shape *shape, const struct ref_returns *returns, int64_t index,
                                    struct ref_error *error)
{
    int64_t rank = index % shape->rank_count;
    int64_t shared_count = shape->shared_rank_count;
    if (rank >= shared_count) {
        return REF_OK;
    }
    if (returns[index].ep_send_counts[shared_count - 1] != returns[index].token_count) {
        return bad_counts(error, index, returns[index].ep_send_counts[shared_count - 1]);
    }
    for (int64_t source = shared_count; source < shape->rank_count; source++) {
        int64_t first;
        int64_t expected;
        int64_t count;
        ref_shared_interval(shared_count, returns[index - rank + source].token_count, rank, source, &first, &expected);
        ref_block(&returns[index], source, &first, &count);
        if (count != expected) {
            return bad_counts(error, index, count);
        }
    }
    return REF_OK;
}

static enum ref_status check(const struct ref_shape *shape, const struct ref_returns *returns, struct ref_error *error)
{
    int64_t world = shape->rank_count * shape->tp_count;
    *error = (struct ref_error){REF_OK, -1, -1, -1, 0};
    for (int64_t index = 0; index < world; index++) {
        if (ref_check_ids(shape, index, returns[index].token_count, returns[index].expert_ids, error) != REF_OK) {
            return error->status;
        }
    }
    for (int64_t index = 0; index < world; index++) {
        if (check_counts(shape, returns, index, error) != REF_OK) {
            return error->status;
        }
    }
    for (int64_t index = 0; index < world; index++) {
        if (check_slots(shape, returns, index, error) != REF_OK ||
            check_shared(shape, returns, index, error) != REF_OK) {
            return error->status;
        }
    }
    return REF_OK;
}

enum ref_status ref_combine(const struct ref_shape *shape, const struct ref_returns *returns, uint16_t **x,
                            struct ref_error *error)
{
    int64_t world = shape->rank_count * shape->tp_count;
    int64_t hidden = shape->hidden;
    memset(x, 0, (size_t)world * sizeof *x);
    if (check(shape, returns, error) != REF_OK) {
        return error->status;
    }
    float *acc = ref_alloc(hidden, sizeof *acc);
    for (int64_t index = 0; index < world; index++) {
        x[index] = ref_alloc(returns[index].token_count * hidden, sizeof **x);
        for (int64_t token = 0; token < returns[index].token_count; token++) {
            for (int64_t h = 0; h < hidden; h++) {
                acc[h] = 0.0f;
            }
            if (shape->two_level) {
                ref_sum_two_level(shape, returns, index, token, acc);
            } else {
                sum_full_mesh(shape, returns, index, token, acc);
            }
            if (shape->shared_rank_count > 0) {
                add_shared(shape, returns, index, token, acc);
            }
            for (int64_t h = 0; h < hidden; h++) {
                x[index][token * hidden + h] = ref_narrow(shape->format, (double)acc[h]);
            }
        }
    }
    free(acc);
    return REF_OK;
}
