/*
 * Dispatch of a whole world.
 */
#include "reference/reference_internal.h"

#include <stdlib.h>
#include <string.h>

static const float *smooth_row(const struct ref_shape *shape, const struct ref_tokens *source,
                               const struct ref_copy *copy)
{
    if (!shape->smooth || shape->two_level) {
        return NULL;
    }
    int64_t row = 0; /* of the shared expert */
    if (copy->slot >= 0) {
        row = source->expert_ids[copy->token * shape->topk + copy->slot] + (shape->shared_rank_count != 0 ? 1 : 0);
    }
    return source->smooth_scales + row * shape->hidden;
}

/* The weight of the first place where the token names this expert. */
static float first_weight(const struct ref_shape *shape, const struct ref_tokens *source, const struct ref_copy *copy)
{
    if (copy->slot < 0) {
        return 1.0f;
    }
    if (source->expert_scales == NULL) {
        return 0.0f;
    }
    const int32_t *ids = source->expert_ids + copy->token * shape->topk;
    int64_t k = 0;
    while (ids[k] != ids[copy->slot]) {
        k++;
    }
    return source->expert_scales[copy->token * shape->topk + k];
}

/* Writes rows [first, first + inbox->row_count) of `received`. */
static void write_rows(const struct ref_shape *shape, const struct ref_tokens *group, const struct ref_inbox *inbox,
                       int64_t first, struct ref_received *received)
{
    for (int64_t i = 0; i < inbox->row_count; i++) {
        const struct ref_copy *copy = &inbox->copies[i];
        const struct ref_tokens *source = &group[copy->source];
        const uint16_t *row = source->x + copy->token * shape->hidden;
        int64_t place = (first + i) * shape->hidden;
        if (shape->quantize) {
            received->dynamic_scales[first + i] = ref_quantize_row(shape->format, (int8_t *)received->expand_x + place,
                                                                   row, smooth_row(shape, source, copy), shape->hidden);
        } else if (shape->hidden > 0) {
            memcpy((uint16_t *)received->expand_x + place, row, (size_t)shape->hidden * sizeof *row);
        }
        if (received->expand_scales != NULL) {
            float weight = first_weight(shape, source, copy);
            memcpy(&received->expand_scales[first + i], &weight, sizeof weight);
        }
    }
}

static int64_t rows_of_local(const struct ref_shape *shape, const struct ref_inbox *inbox, int64_t local)
{
    int64_t begin = local == 0 ? 0 : inbox->block_ends[local * shape->rank_count - 1];
    return inbox->block_ends[(local + 1) * shape->rank_count - 1] - begin;
}

static void write_counts(const struct ref_shape *shape, const struct ref_inbox *own, const struct ref_inbox *peer,
                         struct ref_received *received)
{
    for (int64_t block = 0; block < own->block_count; block++) {
        received->ep_recv_counts[block] = (int32_t)own->block_ends[block];
        if (peer != NULL) {
            received->ep_recv_counts[own->block_count + block] = (int32_t)peer->block_ends[block];
        }
    }
    int64_t total = 0;
    for (int64_t local = 0; local < received->local_expert_count; local++) {
        int64_t rows = rows_of_local(shape, own, local) + (peer != NULL ? rows_of_local(shape, peer, local) : 0);
        total += rows;
        received->expert_token_nums[local] = shape->token_nums == REF_TOKEN_NUMS_PREFIX ? total : rows;
    }
}

static void allocate(const struct ref_shape *shape, const struct ref_tokens *tokens, int64_t index,
                     struct ref_received *received)
{
    int64_t rank = index % shape->rank_count;
    received->local_expert_count = ref_local_expert_count(shape, rank);
    received->count_elems = shape->rank_count * received->local_expert_count * shape->tp_count;
    received->ep_recv_counts = ref_alloc(received->count_elems, sizeof(int32_t));
    received->expert_token_nums = ref_alloc(received->local_expert_count, sizeof(int64_t));
    received->expand_x = ref_alloc(received->row_count * shape->hidden, shape->quantize ? 1 : sizeof(uint16_t));
    if (shape->quantize) {
        received->dynamic_scales = ref_alloc(received->row_count, sizeof(float));
    }
    if (shape->two_level && tokens[index].expert_scales != NULL) {
        received->expand_scales = ref_alloc(received->row_count, sizeof(float));
    }
    if (!shape->two_level) {
        received->expand_idx = ref_alloc(tokens[index].token_count * shape->topk, sizeof(int32_t));
    }
    if (shape->tp_count == 2) {
        received->tp_recv_counts = ref_alloc(2, sizeof(int32_t));
    }
}

static void fill(const struct ref_shape *shape, const struct ref_tokens *tokens, const struct ref_inbox *inboxes,
                 int64_t index, struct ref_received *received)
{
    int64_t rank = index % shape->rank_count;
    int64_t group = index / shape->rank_count;
    const struct ref_inbox *own = &inboxes[index];
    const struct ref_inbox *peer = NULL;
    received->own_row_count = own->row_count;
    received->row_count = own->row_count;
    if (shape->tp_count == 2) {
        peer = &inboxes[(1 - group) * shape->rank_count + rank];
        received->row_count += peer->row_count;
    }
    allocate(shape, tokens, index, received);
    write_rows(shape, tokens + group * shape->rank_count, own, 0, received);
    if (peer != NULL) {
        write_rows(shape, tokens + (1 - group) * shape->rank_count, peer, own->row_count, received);
        received->tp_recv_counts[group] = (int32_t)own->row_count;
        received->tp_recv_counts[1 - group] = (int32_t)peer->row_count;
    }
    write_counts(shape, own, peer, received);
    const struct ref_tokens *mine = &tokens[index];
    for (int64_t j = 0; received->expand_idx != NULL && j < mine->token_count * shape->topk; j++) {
        received->expand_idx[j] = (int32_t)ref_occurrence(mine->expert_ids, j);
    }
    if (shape->two_level) {
        ref_fill_tail(shape, tokens + group * shape->rank_count, rank, received);
    }
}

static enum ref_status check_capacity(const struct ref_shape *shape, const struct ref_tokens *tokens,
                                      const struct ref_inbox *inboxes, struct ref_error *error)
{
    int64_t world = shape->rank_count * shape->tp_count;
    for (int64_t index = 0; index < world; index++) {
        int64_t rows = inboxes[index].row_count;
        if (shape->tp_count == 2) {
            rows += inboxes[(index + shape->rank_count) % world].row_count;
        }
        if (rows > tokens[index].row_capacity) {
            *error = (struct ref_error){REF_CAPACITY, index, -1, -1, rows};
            return REF_CAPACITY;
        }
    }
    return REF_OK;
}

enum ref_status ref_dispatch(const struct ref_shape *shape, const struct ref_tokens *tokens,
                             struct ref_received *received, struct ref_error *error)
{
    int64_t world = shape->rank_count * shape->tp_count;
    memset(received, 0, (size_t)world * sizeof *received);
    *error = (struct ref_error){REF_OK, -1, -1, -1, 0};
    for (int64_t index = 0; index < world; index++) {
        if (ref_check_ids(shape, index, tokens[index].token_count, tokens[index].expert_ids, error) != REF_OK) {
            return error->status;
        }
    }
    struct ref_inbox *inboxes = ref_alloc(world, sizeof *inboxes);
    for (int64_t index = 0; index < world; index++) {
        int64_t group = index / shape->rank_count;
        ref_inbox_init(&inboxes[index], shape, tokens + group * shape->rank_count, index % shape->rank_count);
    }
    if (check_capacity(shape, tokens, inboxes, error) == REF_OK) {
        for (int64_t index = 0; index < world; index++) {
            fill(shape, tokens, inboxes, index, &received[index]);
        }
    }
    for (int64_t index = 0; index < world; index++) {
        ref_inbox_fini(&inboxes[index]);
    }
    free(inboxes);
    return error->status;
}

void ref_received_free(struct ref_received *received)
{
    free(received->expand_x);
    free(received->dynamic_scales);
    free(received->expand_idx);
    free(received->expert_token_nums);
    free(received->ep_recv_counts);
    free(received->tp_recv_counts);
    free(received->expand_scales);
    free(received->tail);
    free(received->tail_written);
    memset(received, 0, sizeof *received);
}
