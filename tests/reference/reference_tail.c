/*
 * What the two-level dispatch writes into ep_recv_counts after the counts. Byte offsets are from the end of the counts.
 * Elements are written in the order of the regions; one that does not lie inside the tensor whole is left out.
 */
#include "reference/reference_internal.h"

#include <stdlib.h>

struct tail {
    const struct ref_shape *shape;
    const struct ref_tokens *group;
    int64_t rank;
    int64_t server_count;
    int64_t global_tokens; /* gBs after defaulting */
    struct ref_received *received;
};

static void put(struct tail *tail, int64_t offset, int64_t value, int64_t bytes)
{
    struct ref_received *received = tail->received;
    if (offset + bytes > received->tail_bytes) {
        return;
    }
    for (int64_t i = 0; i < bytes; i++) {
        received->tail[offset + i] = (uint8_t)((uint64_t)value >> (8 * i));
        received->tail_written[offset + i] = 1;
    }
}

static int64_t server_of_expert(const struct tail *tail, int64_t expert)
{
    return ref_server_of(tail->shape, ref_owner_of(tail->shape, expert));
}

/* Copies of one token for experts of server `server`. */
static int64_t copies_on_server(const struct tail *tail, const struct ref_tokens *source, int64_t token, int64_t server)
{
    int64_t count = 0;
    for (int64_t k = 0; k < tail->shape->topk; k++) {
        count += server_of_expert(tail, source->expert_ids[token * tail->shape->topk + k]) == server;
    }
    return count;
}

static const struct ref_tokens *twin(const struct tail *tail, int64_t server)
{
    int64_t n = tail->shape->server_rank_count;
    return &tail->group[server * n + tail->rank % n];
}

static void write_inner_counts(struct tail *tail)
{
    int64_t own_server = ref_server_of(tail->shape, tail->rank);
    for (int64_t server = 0; server < tail->server_count; server++) {
        const struct ref_tokens *source = twin(tail, server);
        int64_t base = 2 * tail->global_tokens * server;
        put(tail, base, source->token_count, 2);
        for (int64_t token = 0; token < source->token_count; token++) {
            put(tail, base + 2 * (token + 1), copies_on_server(tail, source, token, own_server), 2);
        }
    }
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

/* K ascending entries of one token, -1 where it has fewer copies on this server. Entries of two experts are equal when
 * one has gBs copies or more: both are kept. */
static void write_inner_offsets_of_token(struct tail *tail, const struct ref_tokens *source, int64_t token,
                                         int64_t base)
{
    int64_t topk = tail->shape->topk;
    int64_t own_server = ref_server_of(tail->shape, tail->rank);
    int64_t *entries = ref_alloc(topk, sizeof *entries);
    int64_t count = 0;
    for (int64_t j = token * topk; j < (token + 1) * topk; j++) {
        int64_t expert = source->expert_ids[j];
        if (server_of_expert(tail, expert) == own_server) {
            entries[count++] =
                ref_occurrence(source->expert_ids, j) + ref_index_in_server(tail->shape, expert) * tail->global_tokens;
        }
    }
    qsort(entries, (size_t)count, sizeof *entries, compare);
    for (int64_t i = 0; i < topk; i++) {
        put(tail, base + 4 * i, i < count ? entries[i] : -1, 4);
    }
    free(entries);
}

static void write_inner_offsets(struct tail *tail, int64_t region)
{
    int64_t topk = tail->shape->topk;
    for (int64_t server = 0; server < tail->server_count; server++) {
        const struct ref_tokens *source = twin(tail, server);
        int64_t base = region + 4 * tail->global_tokens * topk * server;
        for (int64_t token = 0; token < source->token_count; token++) {
            write_inner_offsets_of_token(tail, source, token, base + 4 * token * topk);
        }
    }
}

static void write_outer(struct tail *tail, int64_t count_region, int64_t offset_region)
{
    const struct ref_tokens *own = &tail->group[tail->rank];
    for (int64_t token = 0; token < own->token_count; token++) {
        int64_t destinations = 0;
        for (int64_t server = 0; server < tail->server_count; server++) {
            destinations += copies_on_server(tail, own, token, server) != 0;
        }
        put(tail, count_region + 4 * token, destinations, 4);
    }
    for (int64_t token = 0; token < own->token_count; token++) {
        int64_t place = offset_region + 4 * token * tail->server_count;
        int64_t written = 0;
        for (int64_t server = 0; server < tail->server_count; server++) {
            if (copies_on_server(tail, own, token, server) == 0) {
                continue;
            }
            int64_t earlier = 0;
            for (int64_t before = 0; before < token; before++) {
                earlier += copies_on_server(tail, own, before, server) != 0;
            }
            put(tail, place + 4 * written++, server * own->token_count + earlier, 4);
        }
        while (written < tail->server_count) {
            put(tail, place + 4 * written++, -1, 4);
        }
    }
}

void ref_fill_tail(const struct ref_shape *shape, const struct ref_tokens *group, int64_t rank,
                   struct ref_received *received)
{
    struct tail tail = {shape,   group, rank, shape->rank_count / shape->server_rank_count, shape->global_token_count,
                        received};
    for (int64_t i = 0; shape->global_token_count == 0 && i < shape->rank_count; i++) {
        int64_t all = group[i].token_count * shape->rank_count;
        tail.global_tokens = all > tail.global_tokens ? all : tail.global_tokens;
    }
    received->tail_bytes = group[rank].tail_room_bytes;
    received->tail = ref_alloc(received->tail_bytes, 1);
    received->tail_written = ref_alloc(received->tail_bytes, 1);
    int64_t inner_offsets = 2 * tail.global_tokens * tail.server_count;
    int64_t outer_counts = inner_offsets + 4 * tail.global_tokens * shape->topk * tail.server_count;
    int64_t outer_offsets = outer_counts + 4 * group[rank].token_count;
    write_inner_counts(&tail);
    write_inner_offsets(&tail, inner_offsets);
    write_outer(&tail, outer_counts, outer_offsets);
}
