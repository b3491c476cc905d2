/*
 * Dispatch to and from other hosts: between publishing and ENTER each rank sends its exchange region and the rows with
 * a receiver there, each once a host, and mirrors what it stands for.
 */
#include "base/checked_math.h"
#include "moe/dispatch_plan.h"
#include "moe/shared_rows.h"

#include <stdlib.h>
#include <string.h>

/* Sets of rows. */
enum {
    SET_ROWS = 0,   /* by token, or by place in `sorted` with smooth scales */
    SET_SHARED = 1, /* with smooth scales: by token, as ranks with the shared expert take them */
};

/* Of a plan in a world of several hosts. */
struct epx_dispatch_remote {
    struct epx_mirrors mirrors;
    struct epx_rows rows; /* own, of the run */
    struct epx_rows shared_rows;
};

static const int32_t *own_piece(const struct epx_dispatch_plan *plan, uint64_t at)
{
    return (const int32_t *)(const void *)(plan->exchange + at);
}

/* Room is told in tokens. */
static const void *exchange_for(void *context, uint32_t rank, uint64_t *bytes, uint64_t *room)
{
    const struct epx_dispatch_run *run = context;
    (void)rank; /* the same for all */
    *bytes = run->plan->layout.exchange_bytes;
    *room = (uint64_t)run->plan->request.token_count;
    return run->plan->exchange;
}

static bool copy_goes_to(const struct epx_dispatch_plan *plan, int64_t copy, uint32_t host)
{
    int32_t expert = own_piece(plan, plan->layout.ids_at)[copy];
    int64_t owner = epx_moe_expert_owner(&plan->world, expert);
    return epx_comm_host_of(plan->request.comm, (uint32_t)owner) == host;
}

static bool token_goes_to(const struct epx_dispatch_plan *plan, int64_t token, uint32_t host)
{
    for (int64_t copy = token * plan->world.topk; copy < (token + 1) * plan->world.topk; copy++) {
        if (copy_goes_to(plan, copy, host)) {
            return true;
        }
    }
    return false;
}

static struct epx_remote_row row_of(const struct epx_rows *rows, uint32_t set, int64_t index)
{
    return (struct epx_remote_row){
        .set = set,
        .index = (int32_t)index,
        .address = epx_rows_at(rows, index),
        .scale = rows->scales != NULL ? rows->scales[index] : 0.0f,
    };
}

/* Rows with an expert on the host: by token, or by copy with smooth scales. From *place on, before `end`. */
static uint32_t expert_rows(const struct epx_dispatch_run *run, uint32_t host, int64_t *place, int64_t end,
                            struct epx_remote_row *rows, uint32_t max)
{
    const struct epx_dispatch_plan *plan = run->plan;
    const int32_t *sorted = own_piece(plan, plan->layout.sorted_at);
    uint32_t count = 0;
    for (; *place < end && count < max; (*place)++) {
        if (plan->smooth ? copy_goes_to(plan, sorted[*place], host) : token_goes_to(plan, *place, host)) {
            rows[count++] = row_of(&plan->remote->rows, SET_ROWS, *place);
        }
    }
    return count;
}

/* Rows of tokens whose holder of the shared expert is on the host. Where copies for experts are the same rows, only
 * those that have not gone there already. */
static uint32_t shared_rows(const struct epx_dispatch_run *run, uint32_t host, int64_t *token,
                            struct epx_remote_row *rows, uint32_t max)
{
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_moe_world *world = &plan->world;
    int64_t shared_count = world->holds_shared ? 0 : world->shared_count; /* who holds it keeps its own tokens */
    uint32_t count = 0;
    for (int64_t holder = 0; holder < shared_count && count < max; holder++) {
        struct epx_token_interval tokens =
            epx_shared_rows_interval(holder, world->rank, run->token_count, shared_count);
        if (epx_comm_host_of(plan->request.comm, (uint32_t)holder) != host) {
            continue;
        }
        *token = epx_max_i64(*token, tokens.first);
        for (; *token < tokens.end && count < max; (*token)++) {
            if (plan->smooth || !token_goes_to(plan, *token, host)) {
                rows[count++] = plan->smooth ? row_of(&plan->remote->shared_rows, SET_SHARED, *token)
                                             : row_of(&plan->remote->rows, SET_ROWS, *token);
            }
        }
    }
    return count;
}

/* The cursor counts places of the first kind, then tokens of the second. */
static uint32_t rows_for(void *context, uint32_t rank, uint64_t *cursor, struct epx_remote_row *rows, uint32_t max)
{
    const struct epx_dispatch_run *run = context;
    uint32_t host = epx_comm_host_of(run->plan->request.comm, rank);
    int64_t places = run->token_count * (run->plan->smooth ? run->plan->world.topk : 1);
    int64_t place = (int64_t)*cursor;
    uint32_t count = 0;
    if (place < places) {
        count = expert_rows(run, host, &place, places, rows, max);
    }
    if (place >= places && count < max) {
        int64_t token = place - places;
        count += shared_rows(run, host, &token, rows + count, max - count);
        place = places + token;
    }
    *cursor = (uint64_t)place;
    return count;
}

/* A mirror is laid out as a rank with so many tokens lays itself out. */
static enum epx_status size_mirror(const struct epx_dispatch_plan *plan, int64_t tokens, struct epx_mirror_sizes *sizes)
{
    const struct epx_moe_world *world = &plan->world;
    const struct epx_dispatch_sizes mirrored = {
        .token_count = tokens,
        .topk = world->topk,
        .expert_count = world->expert_count,
        .hidden_elems = world->hidden_elems,
        .quantized = plan->quantized,
        .smooth = plan->smooth,
        .shared = world->shared_count > 0,
        .two_level = world->two_level,
    };
    struct epx_dispatch_layout layout;
    if (!epx_dispatch_layout_init(&layout, &mirrored, sizeof(struct epx_exchange_header))) {
        return epx_fail(EPX_ERR_NO_MEMORY, "dispatch of %lld tokens a rank needs more memory than can be addressed",
                        (long long)tokens);
    }
    *sizes = (struct epx_mirror_sizes){.exchange_bytes = layout.exchange_bytes};
    sizes->sets[SET_ROWS].row_capacity = plan->smooth ? tokens * world->topk : tokens;
    sizes->sets[SET_SHARED].row_capacity = plan->smooth && world->shared_count > 0 ? tokens : 0;
    for (uint32_t set = 0; set < EPX_REMOTE_SET_MAX; set++) {
        sizes->sets[set].row_bytes = plan->row_bytes;
        sizes->sets[set].scales = plan->quantized;
    }
    return EPX_OK;
}

/* Whether a mirror has room for a rank that plans for so many tokens. */
static bool has_room(const struct epx_dispatch_plan *plan, const struct epx_remote_mirror *mirror, int64_t tokens)
{
    return mirror->sets[SET_ROWS].row_capacity / (plan->smooth ? plan->world.topk : 1) >= tokens;
}

/* Makes room for a rank that plans for more tokens. Its exchange region has as much for them: a number that nothing is
 * behind reserves no memory. */
static enum epx_status enlarge_mirror(const struct epx_dispatch_plan *plan, uint32_t rank, uint64_t bytes,
                                      int64_t tokens)
{
    struct epx_mirror_sizes sizes;
    EPX_TRY(size_mirror(plan, tokens, &sizes));
    if (bytes != sizes.exchange_bytes) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u publishes %llu bytes for %lld tokens in dispatch, must be %llu",
                        rank, (unsigned long long)bytes, (long long)tokens, (unsigned long long)sizes.exchange_bytes);
    }
    return epx_mirrors_resize(&plan->remote->mirrors, rank, &sizes);
}

static const struct epx_remote_mirror *mirror_of(void *context, uint32_t rank, uint64_t bytes, uint64_t room,
                                                 enum epx_status *status)
{
    const struct epx_dispatch_run *run = context;
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_remote_mirror *mirror = epx_mirrors_of(&plan->remote->mirrors, rank);
    if (mirror != NULL && room <= INT32_MAX && !has_room(plan, mirror, (int64_t)room)) {
        /* Without globalBs all ranks should have the same BS; one that plans for more is served all the same. */
        *status = enlarge_mirror(plan, rank, bytes, (int64_t)room);
        if (*status != EPX_OK) {
            return NULL;
        }
    }
    if (mirror == NULL || bytes > mirror->exchange_capacity) {
        *status = epx_fail(EPX_ERR_PROTOCOL,
                           "rank %u publishes %llu bytes for %llu tokens in dispatch, rank %lld has "
                           "room for %llu",
                           rank, (unsigned long long)bytes, (unsigned long long)room, (long long)plan->world.rank,
                           (unsigned long long)(mirror != NULL ? mirror->exchange_capacity : 0));
        return NULL;
    }
    return mirror;
}

/* The header of the mirror says where its rows are. */
static bool complete_mirror(void *context, uint32_t rank, uint64_t bytes, const uint64_t row_counts[EPX_REMOTE_SET_MAX])
{
    const struct epx_dispatch_run *run = context;
    const struct epx_dispatch_plan *plan = run->plan;
    const struct epx_remote_mirror *mirror = epx_mirrors_of(&plan->remote->mirrors, rank);
    struct epx_exchange_header header;
    (void)row_counts; /* which rows are read is the readers' own arithmetic */
    if (!epx_exchange_read(mirror->exchange, bytes, &header) || !has_room(plan, mirror, header.token_count)) {
        return false;
    }
    int64_t row_count = header.token_count * (plan->smooth ? plan->world.topk : 1);
    if (header.rows.row_count != row_count) {
        return false;
    }
    bool own_shared = mirror->sets[SET_SHARED].row_capacity > 0;
    header.rows = epx_mirror_published(mirror, SET_ROWS, row_count);
    header.shared_rows = own_shared ? epx_mirror_published(mirror, SET_SHARED, header.token_count) : header.rows;
    memcpy(mirror->exchange, &header, sizeof header);
    return true;
}

/* Where the own rows are, as the own header says. */
static bool find_own_rows(const struct epx_dispatch_plan *plan)
{
    struct epx_dispatch_remote *remote = plan->remote;
    struct epx_exchange_header header;
    return epx_exchange_read(plan->exchange, plan->layout.exchange_bytes, &header) &&
           epx_rows_resolve(plan->request.comm, plan->world.rank, &header.rows, plan->row_bytes, &remote->rows) &&
           epx_rows_resolve(plan->request.comm, plan->world.rank, &header.shared_rows, plan->row_bytes,
                            &remote->shared_rows);
}

enum epx_status epx_dispatch_begin_remote(struct epx_dispatch_run *run)
{
    const struct epx_dispatch_plan *plan = run->plan;
    if (plan->remote == NULL) {
        return EPX_OK;
    }
    if (!find_own_rows(plan)) {
        return epx_dispatch_protocol_fail(run, plan->world.rank, "the own exchange region");
    }
    struct epx_remote_source source = {.context = run, .exchange = exchange_for, .rows = rows_for};
    const struct epx_remote_sink sink = {.context = run, .mirror = mirror_of, .complete = complete_mirror};
    for (uint32_t set = 0; set < EPX_REMOTE_SET_MAX; set++) {
        source.row_bytes[set] = (uint32_t)plan->row_bytes;
        source.has_scales[set] = plan->quantized;
    }
    return epx_rounds_begin_remote(&run->rounds, &source, &sink);
}

enum epx_status epx_dispatch_remote_create(struct epx_dispatch_plan *plan)
{
    struct epx_mirror_sizes sizes;
    if (epx_comm_host_count(plan->request.comm) == 1) {
        return EPX_OK;
    }
    plan->remote = calloc(1, sizeof *plan->remote);
    if (plan->remote == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a dispatch plan");
    }
    EPX_TRY(size_mirror(
        plan, epx_moe_token_limit(&plan->request.shape, plan->world.rank_count, plan->request.token_count), &sizes));
    return epx_mirrors_init(&plan->remote->mirrors, plan->request.comm, &sizes);
}

void epx_dispatch_remote_destroy(struct epx_dispatch_plan *plan)
{
    if (plan->remote != NULL) {
        epx_mirrors_fini(&plan->remote->mirrors);
        free(plan->remote);
    }
}
