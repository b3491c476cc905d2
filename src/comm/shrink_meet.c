#include "base/digest.h"
#include "base/fault.h"
#include "comm/shrink_object.h"

#include <stdio.h>
#include <string.h>

/* How often the time for the meeting is doubled: when all live and have called, it is the machine that is slow. */
#define PATIENCE_MAX 5u

static uint32_t count_members(const struct epx_shrink *shrink, uint32_t from, uint32_t until)
{
    uint32_t count = 0;
    for (uint32_t rank = from; rank < until; rank++) {
        count += shrink->fates[rank] == EPX_SHRINK_MEMBER;
    }
    return count;
}

/* What is left of each server, when it is the same of all that are left; else 0. */
static uint32_t server_ranks(const struct epx_shrink *shrink)
{
    uint32_t rank_count = shrink->comm->rank_count;
    uint32_t width = shrink->comm->server_rank_count;
    uint32_t result = 0;
    for (uint32_t first = 0; width != 0 && first < rank_count; first += width) {
        uint32_t left = count_members(shrink, first, first + width);
        if (left != 0 && result != 0 && left != result) {
            return 0;
        }
        result = left != 0 ? left : result;
    }
    return result;
}

static bool is_hopeless(void *context)
{
    struct epx_shrink *shrink = context;
    struct epx_comm *comm = shrink->comm;
    for (uint32_t rank = 0; rank < comm->rank_count && !shrink->lost; rank++) {
        if (shrink->fates[rank] == EPX_SHRINK_MEMBER && rank != comm->rank) {
            /* One that takes part in a later generation has given this one up. */
            shrink->lost = epx_shrink_look(shrink, rank) != EPX_SHRINK_MEMBER ||
                           atomic_load(&comm->control->slots[rank].shrink_wish) > shrink->generation;
        }
    }
    return shrink->lost;
}

static void key_make(const struct epx_shrink *shrink, uint8_t key[32])
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    epx_digest_update(&state, "epx shrink", sizeof "epx shrink");
    epx_digest_update(&state, shrink->comm->key, sizeof shrink->comm->key);
    epx_digest_update(&state, &shrink->generation, sizeof shrink->generation);
    epx_digest_update(&state, shrink->fates, shrink->comm->rank_count);
    epx_digest_final(&state, key);
}

static int64_t patience_ms(const struct epx_shrink *shrink)
{
    int64_t timeout_ms = shrink->request->timeout_ms;
    uint64_t before = shrink->generation - 1;
    uint64_t doublings = before < PATIENCE_MAX ? before : PATIENCE_MAX;
    int64_t factor = (int64_t)1 << doublings;
    return timeout_ms > INT64_MAX / factor ? -1 : timeout_ms * factor;
}

enum epx_status epx_shrink_meet(struct epx_shrink *shrink, struct epx_comm **out)
{
    struct epx_comm *comm = shrink->comm;
    char what[EPX_COMM_NAME_BYTES + 64];
    (void)epx_fault("shrink.meet", (int)comm->rank);
    (void)snprintf(what, sizeof what, "survivors %llu of communicator %s", (unsigned long long)shrink->generation,
                   comm->name);
    struct epx_comm_spec spec = {
        .rank = count_members(shrink, 0, comm->rank),
        .rank_count = count_members(shrink, 0, comm->rank_count),
        .server_rank_count = server_ranks(shrink),
        .join_timeout_ms = patience_ms(shrink),
        .op_timeout_ms = atomic_load_explicit(&comm->op_timeout_ms, memory_order_relaxed),
        .what = what,
        .is_hopeless = is_hopeless,
        .context = shrink,
    };
    key_make(shrink, spec.key);
    memcpy(spec.name, comm->name, sizeof spec.name);
    return epx_comm_open(&spec, out);
}
