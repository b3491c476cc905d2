/*
 * Combine to and from other hosts: between publishing and ENTER each rank sends the rows that tokens of another host
 * are made of there, with counts as if it returned no others, and mirrors what it stands for. Where sums cross in place
 * of rows (combine_relay.h), experts return no rows to other hosts, and ids, slots and weights of the own tokens go
 * there.
 */
#include "base/checked_math.h"
#include "moe/combine_plan.h"
#include "moe/combine_relay.h"

#include <stdlib.h>
#include <string.h>

/* Ids, slots and weights of a rank's copies behind the rest of its exchange region. */
struct copies_layout {
    uint64_t ids_at;
    uint64_t slots_at;
    uint64_t weights_at;
};

/* Of a plan in a world of several hosts. */
struct epx_combine_remote {
    struct epx_mirrors mirrors;
    uint8_t *exchanges; /* [hosts][exchange_bytes]: the exchange region as each host is to see it */
    uint64_t exchange_bytes;
    struct copies_layout copies; /* where sums cross */
    struct epx_rows rows;        /* own, of the run */
};

static uint8_t *exchange_of(const struct epx_combine_plan *plan, uint32_t host)
{
    return plan->remote->exchanges + host * plan->remote->exchange_bytes;
}

static int32_t *counts_of(const struct epx_combine_plan *plan, uint32_t host)
{
    return (int32_t *)(void *)(exchange_of(plan, host) + plan->layout.counts_at);
}

static int64_t block_count(const struct epx_combine_plan *plan)
{
    return plan->world.rank_count * plan->world.local_experts;
}

/* Whether the rows of a block belong to a rank of the host. Rows of own tokens, which a rank with the shared expert has
 * in its first blocks, stay. */
static bool block_goes_to(const struct epx_combine_plan *plan, int64_t block, uint32_t host)
{
    int64_t rank = block % plan->world.rank_count;
    return plan->world.holds_shared
               ? rank >= plan->world.shared_count && epx_comm_host_of(plan->request.comm, (uint32_t)rank) == host
               : plan->relay == NULL && epx_comm_host_of(plan->request.comm, (uint32_t)rank) == host;
}

static int64_t block_start(const struct epx_combine_plan *plan, int64_t block)
{
    return block == 0 ? 0 : plan->counts[block - 1];
}

/* The own copies, for those who sum on another host. */
static void put_copies(const struct epx_combine_run *run, uint8_t *exchange, struct epx_exchange_header *header)
{
    const struct epx_combine_plan *plan = run->plan;
    const struct copies_layout *layout = &plan->remote->copies;
    size_t copies = (size_t)(run->token_count * plan->world.topk);
    header->ids_at = layout->ids_at;
    header->occurrence_at = layout->slots_at;
    header->weights_at = layout->weights_at;
    memcpy(exchange + layout->ids_at, plan->ids, copies * sizeof *plan->ids);
    memcpy(exchange + layout->slots_at, plan->slots, copies * sizeof *plan->slots);
    memcpy(exchange + layout->weights_at, plan->weights, copies * sizeof *plan->weights);
}

/* Room is told in rows, and above 32 bits in tokens. */
static const void *exchange_for(void *context, uint32_t rank, uint64_t *bytes, uint64_t *room)
{
    const struct epx_combine_run *run = context;
    const struct epx_combine_plan *plan = run->plan;
    uint32_t host = epx_comm_host_of(plan->request.comm, rank);
    struct epx_exchange_header header;
    int32_t *counts = counts_of(plan, host);
    int32_t rows = 0;
    for (int64_t block = 0; block < block_count(plan); block++) {
        if (block_goes_to(plan, block, host)) {
            rows += (int32_t)(plan->counts[block] - block_start(plan, block));
        }
        counts[block] = rows;
    }
    memcpy(&header, plan->exchange, sizeof header);
    header.rows.row_count = rows;
    if (plan->relay != NULL) {
        put_copies(run, exchange_of(plan, host), &header);
    }
    memcpy(exchange_of(plan, host), &header, sizeof header);
    *bytes = plan->remote->exchange_bytes;
    *room = (uint64_t)plan->request.token_count << 32 | (uint64_t)rows;
    return exchange_of(plan, host);
}

/* The cursor is a row of expand_x. */
static uint32_t rows_for(void *context, uint32_t rank, uint64_t *cursor, struct epx_remote_row *rows, uint32_t max)
{
    const struct epx_combine_run *run = context;
    const struct epx_combine_plan *plan = run->plan;
    uint32_t host = epx_comm_host_of(plan->request.comm, rank);
    const int32_t *sent = counts_of(plan, host);
    int64_t row = (int64_t)*cursor;
    uint32_t count = 0;
    for (int64_t block = 0; block < block_count(plan) && count < max; block++) {
        if (!block_goes_to(plan, block, host)) {
            continue;
        }
        int64_t start = block_start(plan, block);
        int64_t sent_start = block == 0 ? 0 : sent[block - 1];
        for (row = epx_max_i64(row, start); row < plan->counts[block] && count < max; row++) {
            rows[count++] = (struct epx_remote_row){
                .index = (int32_t)(sent_start + row - start),
                .address = epx_rows_at(&plan->remote->rows, row),
            };
        }
    }
    *cursor = (uint64_t)row;
    return count;
}

/* Adds the pieces for so many tokens behind *bytes, where sums cross; false when they do not fit. */
static bool lay_copies(const struct epx_combine_plan *plan, int64_t tokens, uint64_t *bytes,
                       struct copies_layout *layout)
{
    struct epx_layout region = {.bytes = *bytes};
    int64_t copies;
    if (plan->relay == NULL) {
        return true;
    }
    if (!epx_mul_i64(tokens, plan->world.topk, &copies)) {
        return false;
    }
    layout->ids_at = epx_layout_take(&region, copies, sizeof(int32_t));
    layout->slots_at = epx_layout_take(&region, copies, sizeof(int32_t));
    layout->weights_at = epx_layout_take(&region, copies, sizeof(float));
    *bytes = region.bytes;
    return !region.overflowed;
}

static enum epx_status size_mirror(const struct epx_combine_plan *plan, int64_t rows, int64_t tokens,
                                   struct epx_mirror_sizes *sizes)
{
    struct copies_layout copies;
    const struct epx_combine_sizes mirrored = {
        .hidden_elems = plan->world.hidden_elems,
        .count_elems = plan->world.rank_count * plan->world.rank_experts,
        .row_max = rows,
    };
    struct epx_combine_layout layout;
    if (!epx_combine_layout_init(&layout, &mirrored, sizeof(struct epx_exchange_header))) {
        return epx_fail(EPX_ERR_NO_MEMORY,
                        "combine of %lld rows from another rank needs more memory than can be "
                        "addressed",
                        (long long)rows);
    }
    *sizes = (struct epx_mirror_sizes){.exchange_bytes = layout.exchange_bytes};
    if (!lay_copies(plan, tokens, &sizes->exchange_bytes, &copies)) {
        return epx_fail(EPX_ERR_NO_MEMORY,
                        "combine of %lld tokens of another rank needs more memory than can be addressed",
                        (long long)tokens);
    }
    sizes->sets[0].row_capacity = rows;
    sizes->sets[0].row_bytes = plan->row_bytes;
    return EPX_OK;
}

/* Makes room for a rank that has more rows for this host, or more tokens, than was planned for. Copies of its tokens
 * lie in its exchange region: a number of tokens that nothing is behind takes no memory. */
static enum epx_status enlarge(struct epx_combine_plan *plan, uint32_t rank, uint64_t bytes, int64_t rows,
                               int64_t tokens)
{
    struct epx_mirrors *mirrors = &plan->remote->mirrors;
    const struct epx_remote_mirror *mirror = epx_mirrors_of(mirrors, rank);
    struct copies_layout copies;
    uint64_t least_bytes = 0;
    if (!lay_copies(plan, tokens, &least_bytes, &copies) || bytes < least_bytes) {
        return epx_fail(EPX_ERR_PROTOCOL, "rank %u publishes %llu bytes for %lld tokens in combine, too few", rank,
                        (unsigned long long)bytes, (long long)tokens);
    }
    if (rows > mirror->sets[0].row_capacity || bytes > mirror->exchange_capacity) {
        struct epx_mirror_sizes sizes;
        EPX_TRY(size_mirror(plan, epx_max_i64(rows, mirror->sets[0].row_capacity), tokens, &sizes));
        EPX_TRY(epx_mirrors_resize(mirrors, rank, &sizes));
    }
    return plan->relay != NULL ? epx_combine_relay_prepare(plan, rank, tokens) : EPX_OK;
}

static const struct epx_remote_mirror *mirror_of(void *context, uint32_t rank, uint64_t bytes, uint64_t room,
                                                 enum epx_status *status)
{
    const struct epx_combine_run *run = context;
    struct epx_combine_plan *plan = run->plan;
    const struct epx_remote_mirror *mirror = epx_mirrors_of(&plan->remote->mirrors, rank);
    int64_t rows = (int64_t)(room & UINT32_MAX);
    int64_t tokens = (int64_t)(room >> 32);
    /* Without globalBs all ranks should have the same BS; one of a host that has more is served all the same. */
    if (mirror != NULL && rows <= INT32_MAX && tokens <= INT32_MAX) {
        *status = enlarge(plan, rank, bytes, rows, tokens);
        if (*status != EPX_OK) {
            return NULL;
        }
    }
    if (mirror == NULL || bytes > mirror->exchange_capacity) {
        *status = epx_fail(EPX_ERR_PROTOCOL, "rank %u publishes %llu bytes in combine, rank %lld has room for %llu",
                           rank, (unsigned long long)bytes, (long long)plan->world.rank,
                           (unsigned long long)(mirror != NULL ? mirror->exchange_capacity : 0));
        return NULL;
    }
    return mirror;
}

static bool complete_mirror(void *context, uint32_t rank, uint64_t bytes, const uint64_t row_counts[EPX_REMOTE_SET_MAX])
{
    const struct epx_combine_run *run = context;
    const struct epx_remote_mirror *mirror = epx_mirrors_of(&run->plan->remote->mirrors, rank);
    struct epx_exchange_header header;
    if (!epx_exchange_read(mirror->exchange, bytes, &header) || header.rows.row_count < 0 ||
        (uint64_t)header.rows.row_count != row_counts[0] || header.rows.row_count > mirror->sets[0].row_capacity) {
        return false;
    }
    if (run->plan->relay != NULL && !epx_combine_relay_take(run->plan, rank, mirror->exchange, bytes, &header)) {
        return false;
    }
    header.rows = epx_mirror_published(mirror, 0, header.rows.row_count);
    memcpy(mirror->exchange, &header, sizeof header);
    return true;
}

enum epx_status epx_combine_begin_remote(struct epx_combine_run *run)
{
    const struct epx_combine_plan *plan = run->plan;
    struct epx_exchange_header header;
    if (plan->remote == NULL) {
        return EPX_OK;
    }
    if (!epx_exchange_read(plan->exchange, plan->layout.exchange_bytes, &header) ||
        !epx_rows_resolve(plan->request.comm, plan->world.rank, &header.rows, plan->row_bytes, &plan->remote->rows)) {
        return epx_rounds_fail(&run->rounds, EPX_ERR_INTERNAL, "rank %lld: the own exchange region cannot be right",
                               (long long)plan->world.rank);
    }
    const struct epx_remote_source source = {
        .context = run,
        .exchange = exchange_for,
        .rows = rows_for,
        .row_bytes = {(uint32_t)plan->row_bytes},
    };
    const struct epx_remote_sink sink = {.context = run, .mirror = mirror_of, .complete = complete_mirror};
    return epx_rounds_begin_remote(&run->rounds, &source, &sink);
}

/* A rank returns at most all copies of the tokens of a host. False: more than can be counted. */
static bool most_rows(const struct epx_combine_plan *plan, int64_t *rows)
{
    const struct epx_moe_world *world = &plan->world;
    int64_t limit = epx_moe_token_limit(&plan->request.shape, world->rank_count, plan->request.token_count);
    int64_t here = 0;
    for (int64_t rank = 0; rank < world->rank_count; rank++) {
        here += epx_comm_is_here(plan->request.comm, (uint32_t)rank) ? 1 : 0;
    }
    return epx_mul_i64(here * world->topk, limit, rows);
}

enum epx_status epx_combine_remote_create(struct epx_combine_plan *plan)
{
    uint32_t hosts = epx_comm_host_count(plan->request.comm);
    struct epx_mirror_sizes sizes;
    int64_t rows;
    if (hosts == 1) {
        return EPX_OK;
    }
    plan->remote = calloc(1, sizeof *plan->remote);
    if (plan->remote != NULL) {
        plan->remote->exchange_bytes = plan->layout.exchange_bytes;
        if (lay_copies(plan, plan->request.token_count, &plan->remote->exchange_bytes, &plan->remote->copies)) {
            plan->remote->exchanges = calloc(hosts, plan->remote->exchange_bytes);
        }
    }
    if (plan->remote == NULL || plan->remote->exchanges == NULL || !most_rows(plan, &rows)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a combine plan of %lld tokens a rank on %u hosts",
                        (long long)plan->request.token_count, hosts);
    }
    int64_t tokens = epx_moe_token_limit(&plan->request.shape, plan->world.rank_count, plan->request.token_count);
    EPX_TRY(size_mirror(plan, rows, tokens, &sizes));
    return epx_mirrors_init(&plan->remote->mirrors, plan->request.comm, &sizes);
}

void epx_combine_remote_destroy(struct epx_combine_plan *plan)
{
    if (plan->remote != NULL) {
        epx_mirrors_fini(&plan->remote->mirrors);
        free(plan->remote->exchanges);
        free(plan->remote);
    }
}
