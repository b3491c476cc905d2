/*
 * Which row comes from where.
 */
#include "reference/reference_internal.h"

#include <stdio.h>
#include <stdlib.h>

void *ref_alloc(int64_t count, size_t elem_bytes)
{
    size_t bytes = (size_t)count * elem_bytes;
    void *memory = bytes != 0 ? calloc((size_t)count, elem_bytes) : malloc(1);
    if (memory == NULL) {
        fprintf(stderr, "reference: no memory for %zu bytes\n", bytes);
        abort();
    }
    return memory;
}

static int64_t experts_per_rank(const struct ref_shape *shape)
{
    return shape->expert_count / (shape->rank_count - shape->shared_rank_count);
}

int64_t ref_local_expert_count(const struct ref_shape *shape, int64_t rank)
{
    return rank < shape->shared_rank_count ? 1 : experts_per_rank(shape);
}

int64_t ref_owner_of(const struct ref_shape *shape, int64_t expert)
{
    return shape->shared_rank_count + expert / experts_per_rank(shape);
}

int64_t ref_local_index_of(const struct ref_shape *shape, int64_t expert)
{
    return expert % experts_per_rank(shape);
}

int64_t ref_server_of(const struct ref_shape *shape, int64_t rank)
{
    return rank / shape->server_rank_count;
}

int64_t ref_index_in_server(const struct ref_shape *shape, int64_t expert)
{
    int64_t place = ref_owner_of(shape, expert) % shape->server_rank_count;
    return place * experts_per_rank(shape) + ref_local_index_of(shape, expert);
}

int64_t ref_occurrence(const int32_t *expert_ids, int64_t j)
{
    int64_t count = 0;
    for (int64_t i = 0; i < j; i++) {
        count += expert_ids[i] == expert_ids[j];
    }
    return count;
}

enum ref_status ref_check_ids(const struct ref_shape *shape, int64_t index, int64_t token_count, const int32_t *ids,
                              struct ref_error *error)
{
    for (int64_t j = 0; j < token_count * shape->topk; j++) {
        if (ids[j] < 0 || ids[j] >= shape->expert_count) {
            *error = (struct ref_error){REF_BAD_EXPERT_ID, index, j / shape->topk, j % shape->topk, ids[j]};
            return REF_BAD_EXPERT_ID;
        }
    }
    return REF_OK;
}

void ref_shared_interval(int64_t shared_rank_count, int64_t token_count, int64_t shared, int64_t source, int64_t *first,
                         int64_t *count)
{
    int64_t base = source * token_count / shared_rank_count;
    int64_t begin = (shared + source) * token_count / shared_rank_count;
    int64_t end = (shared + source + 1) * token_count / shared_rank_count;
    *first = begin - base;
    *count = end - begin;
}

static void append(struct ref_inbox *inbox, int64_t source, int64_t token, int64_t slot)
{
    inbox->copies[inbox->row_count++] = (struct ref_copy){source, token, slot};
}

static void fill_moe(struct ref_inbox *inbox, const struct ref_shape *shape, const struct ref_tokens *group,
                     int64_t rank)
{
    int64_t local_experts = ref_local_expert_count(shape, rank);
    for (int64_t local = 0; local < local_experts; local++) {
        int64_t expert = (rank - shape->shared_rank_count) * local_experts + local;
        for (int64_t source = 0; source < shape->rank_count; source++) {
            for (int64_t j = 0; j < group[source].token_count * shape->topk; j++) {
                if (group[source].expert_ids[j] == expert) {
                    append(inbox, source, j / shape->topk, j % shape->topk);
                }
            }
            inbox->block_ends[local * shape->rank_count + source] = inbox->row_count;
        }
    }
}

static void fill_shared(struct ref_inbox *inbox, const struct ref_shape *shape, const struct ref_tokens *group,
                        int64_t rank)
{
    for (int64_t token = 0; token < group[rank].token_count; token++) {
        append(inbox, rank, token, -1);
    }
    int64_t total = 0;
    for (int64_t source = 0; source < shape->rank_count; source++) {
        /* For i < S only a count of its own tokens: the receiver's BS, source and receiver exchanged make no change. */
        bool pseudo = source < shape->shared_rank_count;
        int64_t token_count = pseudo ? group[rank].token_count : group[source].token_count;
        int64_t first;
        int64_t count;
        ref_shared_interval(shape->shared_rank_count, token_count, rank, source, &first, &count);
        for (int64_t token = first; !pseudo && token < first + count; token++) {
            append(inbox, source, token, -1);
        }
        total += count;
        inbox->block_ends[source] = total;
    }
}

void ref_inbox_init(struct ref_inbox *inbox, const struct ref_shape *shape, const struct ref_tokens *group,
                    int64_t rank)
{
    int64_t limit = 0;
    for (int64_t source = 0; source < shape->rank_count; source++) {
        limit += group[source].token_count * (shape->topk + 1);
    }
    inbox->row_count = 0;
    inbox->copies = ref_alloc(limit, sizeof *inbox->copies);
    inbox->block_count = shape->rank_count * ref_local_expert_count(shape, rank);
    inbox->block_ends = ref_alloc(inbox->block_count, sizeof *inbox->block_ends);
    if (rank < shape->shared_rank_count) {
        fill_shared(inbox, shape, group, rank);
    } else {
        fill_moe(inbox, shape, group, rank);
    }
}

void ref_inbox_fini(struct ref_inbox *inbox)
{
    free(inbox->copies);
    free(inbox->block_ends);
}
