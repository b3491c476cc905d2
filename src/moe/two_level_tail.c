/*
 * What the two-level dispatch leaves in ep_recv_counts after the counts: the bookkeeping of a relay, opaque to callers
 * and never read here. Four regions, in bytes from the end of the counts, G being globalBs (0: the largest W * BS of
 * all ranks) and p the rank of server s with this rank's place in its server:
 *   inner counts,  at 0: int16, p at 2 * G * s: BS of p, then for each token of p its copies for this server
 *   inner offsets, after all s: int32, p at 4 * G * K * s: for each token of p, K entries: ascending (expert in server)
 *                  * G + slot of its copies for this server, -1 for the rest
 *   outer counts,  then: int32[BS]: servers that each own token goes to
 *   outer offsets, then: int32[BS * servers]: for each own token the servers it goes to, ascending: s * BS + earlier
 * own tokens for s; -1 for the rest
 *
 * Elements are written in this order; one that does not lie inside the tensor whole is left out.
 */
#include "base/checked_math.h"
#include "moe/dispatch_plan.h"
#include "moe/view.h"

#include <string.h>

struct tail {
    struct epx_dispatch_run *run;
    const struct epx_moe_world *world;
    uint8_t *memory;
    int64_t bytes; /* room */
    int64_t server_count;
    int64_t own_server;
    int64_t global_tokens;
};

/* False when the place does not fit in 63 bits: it then lies outside any tensor. */
static bool place_of(int64_t index, int64_t elem_bytes, int64_t base, int64_t *place)
{
    return epx_mul_add_i64(index, elem_bytes, base, place);
}

static void put_i16(const struct tail *tail, int64_t base, int64_t index, int64_t value)
{
    int16_t narrow = (int16_t)(uint16_t)value;
    int64_t place;
    if (place_of(index, (int64_t)sizeof narrow, base, &place) && place <= tail->bytes - (int64_t)sizeof narrow) {
        memcpy(tail->memory + place, &narrow, sizeof narrow);
    }
}

static void put_i32(const struct tail *tail, int64_t base, int64_t index, int64_t value)
{
    int32_t narrow = (int32_t)(uint32_t)(uint64_t)value;
    int64_t place;
    if (place_of(index, (int64_t)sizeof narrow, base, &place) && place <= tail->bytes - (int64_t)sizeof narrow) {
        memcpy(tail->memory + place, &narrow, sizeof narrow);
    }
}

static int64_t server_of(const struct tail *tail, int64_t expert)
{
    return epx_moe_expert_owner(tail->world, expert) / tail->world->server_ranks;
}

static int64_t index_in_server(const struct tail *tail, int64_t expert)
{
    int64_t place = epx_moe_expert_owner(tail->world, expert) % tail->world->server_ranks;
    return place * tail->world->rank_experts + expert % tail->world->rank_experts;
}

static const struct epx_dispatch_source *twin(const struct tail *tail, int64_t server)
{
    int64_t ranks = tail->world->server_ranks;
    return &tail->run->plan->sources[server * ranks + tail->world->rank % ranks];
}

/* An id that a peer published, forced into range: the tail must not be able to fail. */
static int64_t id_of(const struct tail *tail, const struct epx_dispatch_source *source, int64_t copy)
{
    int64_t id = epx_peek_i32(&source->ids[copy]);
    return id < 0 || id >= tail->world->expert_count ? 0 : id;
}

static int64_t copies_for_server(const struct tail *tail, const struct epx_dispatch_source *source, int64_t token,
                                 int64_t server)
{
    int64_t topk = tail->world->topk;
    int64_t count = 0;
    for (int64_t copy = token * topk; copy < (token + 1) * topk; copy++) {
        count += server_of(tail, id_of(tail, source, copy)) == server ? 1 : 0;
    }
    return count;
}

static void write_inner_counts(const struct tail *tail)
{
    for (int64_t server = 0; server < tail->server_count; server++) {
        const struct epx_dispatch_source *source = twin(tail, server);
        int64_t base = server * 2 * tail->global_tokens;
        put_i16(tail, base, 0, source->token_count);
        for (int64_t token = 0; token < source->token_count; token++) {
            put_i16(tail, base, token + 1, copies_for_server(tail, source, token, tail->own_server));
        }
    }
}

/* The sorted entries of a token's copies for this server; returns how many. */
static int64_t entries_of(const struct tail *tail, const struct epx_dispatch_source *source, int64_t token)
{
    int64_t *entries = tail->run->plan->entries;
    int64_t topk = tail->world->topk;
    int64_t count = 0;
    for (int64_t copy = token * topk; copy < (token + 1) * topk; copy++) {
        int64_t expert = id_of(tail, source, copy);
        if (server_of(tail, expert) != tail->own_server) {
            continue;
        }
        int64_t entry = index_in_server(tail, expert) * tail->global_tokens + epx_peek_i32(&source->occurrence[copy]);
        int64_t at = count++;
        for (; at > 0 && entries[at - 1] > entry; at--) {
            entries[at] = entries[at - 1];
        }
        entries[at] = entry;
    }
    return count;
}

static void write_inner_offsets(const struct tail *tail, int64_t region)
{
    int64_t topk = tail->world->topk;
    for (int64_t server = 0; server < tail->server_count; server++) {
        const struct epx_dispatch_source *source = twin(tail, server);
        int64_t base = region + 4 * tail->global_tokens * topk * server;
        for (int64_t token = 0; token < source->token_count; token++) {
            int64_t count = entries_of(tail, source, token);
            for (int64_t i = 0; i < topk; i++) {
                put_i32(tail, base, token * topk + i, i < count ? tail->run->plan->entries[i] : -1);
            }
        }
    }
}

static void write_outer(const struct tail *tail, int64_t count_region, int64_t offset_region)
{
    struct epx_dispatch_plan *plan = tail->run->plan;
    const struct epx_dispatch_source *own = &plan->sources[tail->world->rank];
    int64_t servers = tail->server_count;
    memset(plan->server_tokens, 0, (size_t)servers * sizeof *plan->server_tokens);
    for (int64_t token = 0; token < own->token_count; token++) {
        int64_t used = 0;
        for (int64_t server = 0; server < servers; server++) {
            used += copies_for_server(tail, own, token, server) > 0 ? 1 : 0;
        }
        put_i32(tail, count_region, token, used);
    }
    for (int64_t token = 0; token < own->token_count; token++) {
        int64_t used = 0;
        for (int64_t server = 0; server < servers; server++) {
            if (copies_for_server(tail, own, token, server) > 0) {
                put_i32(tail, offset_region, token * servers + used++,
                        server * own->token_count + plan->server_tokens[server]++);
            }
        }
        for (; used < servers; used++) {
            put_i32(tail, offset_region, token * servers + used, -1);
        }
    }
}

static int64_t largest_global_tokens(const struct epx_dispatch_plan *plan)
{
    int64_t largest = plan->request.shape.global_token_count;
    for (int64_t rank = 0; plan->request.shape.global_token_count == 0 && rank < plan->world.rank_count; rank++) {
        largest = epx_max_i64(largest, plan->sources[rank].token_count * plan->world.rank_count);
    }
    return largest;
}

/* Places of the regions after the first. */
struct tail_regions {
    int64_t inner_offsets;
    int64_t outer_counts;
    int64_t outer_offsets;
};

/* False when a place or an entry does not fit in 63 bits. */
static bool lay_out(const struct tail *tail, struct tail_regions *regions)
{
    int64_t offsets_bytes;
    int64_t largest_entry;
    return epx_mul_i64(tail->global_tokens, 2 * tail->server_count, &regions->inner_offsets) &&
           epx_mul_i64(regions->inner_offsets, 2 * tail->world->topk, &offsets_bytes) &&
           epx_add_i64(regions->inner_offsets, offsets_bytes, &regions->outer_counts) &&
           epx_add_i64(regions->outer_counts, 4 * tail->run->token_count, &regions->outer_offsets) &&
           epx_mul_add_i64(tail->global_tokens, tail->world->expert_count, INT32_MAX, &largest_entry);
}

void epx_dispatch_write_tail(struct epx_dispatch_run *run)
{
    const struct epx_moe_world *world = &run->plan->world;
    const struct epx_view *counts = &run->tensors->ep_recv_counts;
    int64_t written = world->rank_count * world->local_experts * (world->tp ? 2 : 1);
    struct tail_regions regions;
    struct tail tail = {
        .run = run,
        .world = world,
        .bytes = (epx_view_row_count(counts) - written) * (int64_t)sizeof(int32_t),
        .server_count = world->rank_count / world->server_ranks,
        .own_server = world->rank / world->server_ranks,
        .global_tokens = largest_global_tokens(run->plan),
    };
    if (!epx_view_dense(counts) || tail.bytes <= 0 || !lay_out(&tail, &regions)) {
        return;
    }
    tail.memory = epx_view_row(counts, written);
    write_inner_counts(&tail);
    write_inner_offsets(&tail, regions.inner_offsets);
    write_outer(&tail, regions.outer_counts, regions.outer_offsets);
}
