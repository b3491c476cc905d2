#include "moe/combine_relay.h"

#include "base/checked_math.h"
#include "moe/plan_memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- Who relays what -------------------------------------------------------------------------------------------- */

/* The host of a server; false when its ranks are on several. */
static bool host_of_server(const struct epx_combine_plan *plan, int64_t server, uint32_t *host)
{
    int64_t first = server * plan->world.server_ranks;
    *host = epx_comm_host_of(plan->request.comm, (uint32_t)first);
    for (int64_t rank = first; rank < first + plan->world.server_ranks; rank++) {
        if (epx_comm_host_of(plan->request.comm, (uint32_t)rank) != *host) {
            return false;
        }
    }
    return true;
}

static bool fill_servers(const struct epx_combine_plan *plan, struct epx_combine_relay *relay)
{
    for (int64_t server = 0; server < relay->server_count; server++) {
        uint32_t host;
        if (!host_of_server(plan, server, &host)) {
            return false;
        }
        relay->server_host[server] = host;
        relay->server_place[server] = relay->host_servers[host]++;
    }
    return true;
}

static enum epx_status no_memory(const struct epx_combine_plan *plan)
{
    return epx_fail(EPX_ERR_NO_MEMORY, "no memory to relay sums of %lld tokens a rank to other hosts",
                    (long long)plan->request.token_count);
}

static bool tables_allocate(struct epx_combine_relay *relay, uint32_t rank_count)
{
    relay->server_host = calloc((size_t)relay->server_count, sizeof *relay->server_host);
    relay->server_place = calloc((size_t)relay->server_count, sizeof *relay->server_place);
    relay->host_servers = calloc(relay->host_count, sizeof *relay->host_servers);
    relay->tasks = calloc(rank_count, sizeof *relay->tasks);
    relay->homes = calloc(relay->host_count, sizeof *relay->homes);
    return relay->server_host != NULL && relay->server_place != NULL && relay->host_servers != NULL &&
           relay->tasks != NULL && relay->homes != NULL;
}

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

static void task_fini(struct epx_combine_relay_task *task)
{
    free(task->ids);
    free(task->slots);
    free(task->weights);
    free(task->blocks);
    free(task->is_made);
    epx_plan_memory_free(task->rows);
}

static enum epx_status task_init(const struct epx_combine_plan *plan, uint32_t rank, int64_t tokens,
                                 struct epx_combine_relay_task *task)
{
    const struct epx_combine_relay *relay = plan->relay;
    int64_t copies;
    int64_t row_count;
    int64_t bytes;
    *task = (struct epx_combine_relay_task){.rank = rank, .token_capacity = tokens};
    if (!epx_mul_i64(tokens, plan->world.topk, &copies) ||
        !epx_mul_i64(tokens, relay->host_servers[relay->own_host], &row_count) || row_count > INT32_MAX ||
        !epx_mul_i64(row_count, (int64_t)relay->pitch_bytes, &bytes)) {
        return no_memory(plan);
    }
    task->ids = calloc((size_t)copies + 1, sizeof *task->ids);
    task->slots = calloc((size_t)copies + 1, sizeof *task->slots);
    task->weights = calloc((size_t)copies + 1, sizeof *task->weights);
    task->blocks = calloc((size_t)plan->world.expert_count, sizeof *task->blocks);
    task->is_made = calloc((size_t)row_count + 1, sizeof *task->is_made);
    if (task->ids == NULL || task->slots == NULL || task->weights == NULL || task->blocks == NULL ||
        task->is_made == NULL) {
        return no_memory(plan);
    }
    return epx_plan_memory_reserve((uint64_t)bytes, &task->rows);
}

static enum epx_status home_init(const struct epx_combine_plan *plan, uint32_t host)
{
    struct epx_combine_relay *relay = plan->relay;
    struct epx_combine_relay_home *home = &relay->homes[host];
    int64_t row_count;
    int64_t bytes;
    if (!epx_mul_i64(plan->request.token_count, relay->host_servers[host], &row_count) || row_count > INT32_MAX ||
        !epx_mul_add_i64(row_count, (int64_t)relay->pitch_bytes, (int64_t)EPX_LAYOUT_ALIGN, &bytes)) {
        return no_memory(plan);
    }
    EPX_TRY(epx_plan_memory_reserve((uint64_t)bytes, &home->memory));
    home->mirror = (struct epx_remote_mirror){
        .exchange = home->memory,
        .exchange_capacity = EPX_LAYOUT_ALIGN,
        .sets = {{.rows = home->memory + EPX_LAYOUT_ALIGN,
                  .pitch_bytes = relay->pitch_bytes,
                  .row_capacity = row_count}},
    };
    return EPX_OK;
}

static enum epx_status memory_init(struct epx_combine_plan *plan)
{
    struct epx_combine_relay *relay = plan->relay;
    const struct epx_comm *comm = plan->request.comm;
    int64_t tokens = epx_moe_token_limit(&plan->request.shape, plan->world.rank_count, plan->request.token_count);
    for (uint32_t host = 0; host < relay->host_count; host++) {
        if (host != relay->own_host) {
            EPX_TRY(home_init(plan, host));
        }
    }
    for (uint32_t rank = 0; rank < epx_comm_rank_count(comm); rank++) {
        if (!epx_comm_is_here(comm, rank) && epx_comm_stand_in(comm, rank, relay->own_host) == epx_comm_rank(comm)) {
            EPX_TRY(task_init(plan, rank, tokens, &relay->tasks[relay->task_count++]));
        }
    }
    return EPX_OK;
}

enum epx_status epx_combine_relay_create(struct epx_combine_plan *plan)
{
    const struct epx_comm *comm = plan->request.comm;
    const struct epx_moe_world *world = &plan->world;
    if (!world->two_level || epx_comm_host_count(comm) == 1) {
        return EPX_OK;
    }
    struct epx_combine_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL) {
        return no_memory(plan);
    }
    plan->relay = relay;
    relay->own_host = epx_comm_host_of(comm, epx_comm_rank(comm));
    relay->host_count = epx_comm_host_count(comm);
    relay->server_count = world->rank_count / world->server_ranks;
    if (!tables_allocate(relay, epx_comm_rank_count(comm))) {
        return no_memory(plan);
    }
    if (!fill_servers(plan, relay)) { /* the same on every rank */
        epx_combine_relay_destroy(plan);
        return EPX_OK;
    }
    relay->row_bytes = plan->transport_int8 ? epx_group_packed_bytes((enum epx_row_format)plan->request.shape.dtype,
                                                                     (size_t)world->hidden_elems)
                                            : plan->row_bytes;
    relay->pitch_bytes = epx_layout_row_pitch(relay->row_bytes);
    return memory_init(plan);
}

void epx_combine_relay_destroy(struct epx_combine_plan *plan)
{
    struct epx_combine_relay *relay = plan->relay;
    if (relay == NULL) {
        return;
    }
    for (uint32_t i = 0; i < relay->task_count; i++) {
        task_fini(&relay->tasks[i]);
    }
    for (uint32_t host = 0; relay->homes != NULL && host < relay->host_count; host++) {
        epx_plan_memory_free(relay->homes[host].memory);
    }
    free(relay->server_host);
    free(relay->server_place);
    free(relay->host_servers);
    free(relay->tasks);
    free(relay->homes);
    free(relay);
    plan->relay = NULL;
}

/* ---- What other hosts ask for ----------------------------------------------------------------------------------- */

static struct epx_combine_relay_task *task_of(const struct epx_combine_relay *relay, uint32_t rank)
{
    for (uint32_t i = 0; i < relay->task_count; i++) {
        if (relay->tasks[i].rank == rank) {
            return &relay->tasks[i];
        }
    }
    return NULL;
}

enum epx_status epx_combine_relay_prepare(struct epx_combine_plan *plan, uint32_t rank, int64_t tokens)
{
    struct epx_combine_relay_task *task = task_of(plan->relay, rank);
    struct epx_combine_relay_task larger;
    if (task->token_capacity >= tokens) {
        return EPX_OK;
    }
    enum epx_status status = task_init(plan, rank, tokens, &larger);
    if (status != EPX_OK) {
        task_fini(&larger);
        return status;
    }
    task_fini(task);
    *task = larger;
    return EPX_OK;
}

bool epx_combine_relay_take(struct epx_combine_plan *plan, uint32_t rank, const void *exchange, uint64_t bytes,
                            const struct epx_exchange_header *header)
{
    struct epx_combine_relay_task *task = task_of(plan->relay, rank);
    int64_t copies = header->token_count * plan->world.topk;
    if (header->token_count > task->token_capacity) {
        return false;
    }
    const void *ids = epx_exchange_piece(exchange, bytes, header->ids_at, copies);
    const void *slots = epx_exchange_piece(exchange, bytes, header->occurrence_at, copies);
    const void *weights = epx_exchange_piece(exchange, bytes, header->weights_at, copies);
    if (ids == NULL || slots == NULL || weights == NULL) {
        return false;
    }
    memcpy(task->ids, ids, (size_t)copies * sizeof *task->ids);
    memcpy(task->slots, slots, (size_t)copies * sizeof *task->slots);
    memcpy(task->weights, weights, (size_t)copies * sizeof *task->weights);
    for (int64_t copy = 0; copy < copies; copy++) {
        if (task->ids[copy] < 0 || task->ids[copy] >= plan->world.expert_count) {
            return false;
        }
    }
    task->token_count = header->token_count;
    return true;
}

struct relaying {
    struct epx_combine_run *run;
    struct epx_combine_relay_task *task;
};

static enum epx_status relay_tokens(void *context, uint32_t lane_index, uint32_t lane_count)
{
    const struct relaying *work = context;
    struct epx_combine_lane *lane = &work->run->plan->lanes[lane_index];
    int64_t end = epx_team_share(work->task->token_count, lane_index + 1, lane_count);
    for (int64_t token = epx_team_share(work->task->token_count, lane_index, lane_count); token < end; token++) {
        EPX_TRY(epx_combine_relay_token(lane, work->task, token));
    }
    return EPX_OK;
}

static enum epx_status relay_task(struct epx_combine_run *run, struct epx_combine_relay_task *task)
{
    struct epx_combine_plan *plan = run->plan;
    const struct epx_combine_relay *relay = plan->relay;
    struct relaying work = {.run = run, .task = task};
    const struct epx_team_task team_task = {.run = relay_tokens, .context = &work};
    uint64_t row_count = (uint64_t)(task->token_count * relay->host_servers[relay->own_host]);
    uint64_t bytes = (uint64_t)(task->token_count * plan->world.topk) * plan->row_bytes;
    memset(task->is_made, 0, row_count);
    EPX_TRY(epx_rounds_need(&run->rounds, "sums for other hosts", task->rows, row_count * relay->pitch_bytes));
    enum epx_status status = epx_team_run(&plan->team, epx_team_lanes(&plan->team, bytes), &team_task);
    return status == EPX_OK ? EPX_OK : epx_rounds_fail(&run->rounds, status, "%s", epx_error_text());
}

/* ---- The way back ----------------------------------------------------------------------------------------------- */

/* In place of an exchange region: the number of tokens. */
static const void *exchange_for(void *context, uint32_t rank, uint64_t *bytes, uint64_t *room)
{
    const struct epx_combine_run *run = context;
    struct epx_combine_relay_task *task = task_of(run->plan->relay, rank);
    task->sent_tokens = task->token_count;
    *bytes = sizeof task->sent_tokens;
    *room = 0;
    return &task->sent_tokens;
}

static uint32_t rows_for(void *context, uint32_t rank, uint64_t *cursor, struct epx_remote_row *rows, uint32_t max)
{
    const struct epx_combine_run *run = context;
    const struct epx_combine_relay *relay = run->plan->relay;
    const struct epx_combine_relay_task *task = task_of(relay, rank);
    uint64_t end = (uint64_t)(task->token_count * relay->host_servers[relay->own_host]);
    uint32_t count = 0;
    for (; *cursor < end && count < max; (*cursor)++) {
        if (task->is_made[*cursor] != 0) {
            rows[count++] = (struct epx_remote_row){
                .index = (int32_t)*cursor,
                .address = task->rows + *cursor * relay->pitch_bytes,
            };
        }
    }
    return count;
}

static const struct epx_remote_mirror *mirror_of(void *context, uint32_t rank, uint64_t bytes, uint64_t room,
                                                 enum epx_status *status)
{
    const struct epx_combine_run *run = context;
    uint32_t host = epx_comm_host_of(run->plan->request.comm, rank);
    (void)room;
    if (bytes != sizeof(int64_t)) {
        *status = epx_fail(EPX_ERR_PROTOCOL, "rank %u says %llu bytes of sums, must be %zu", rank,
                           (unsigned long long)bytes, sizeof(int64_t));
        return NULL;
    }
    return &run->plan->relay->homes[host].mirror;
}

/* Partials that the own tokens have from servers of a host. */
static uint64_t partials_expected(const struct epx_combine_run *run, uint32_t host)
{
    const struct epx_combine_plan *plan = run->plan;
    const struct epx_combine_relay *relay = plan->relay;
    uint64_t count = 0;
    for (int64_t token = 0; token < run->token_count; token++) {
        const int32_t *ids = plan->ids + token * plan->world.topk;
        for (int64_t k = 0; k < plan->world.topk; k++) {
            int64_t server = epx_moe_expert_owner(&plan->world, ids[k]) / plan->world.server_ranks;
            bool counts = relay->server_host[server] == host;
            for (int64_t before = 0; before < k && counts; before++) {
                counts = epx_moe_expert_owner(&plan->world, ids[before]) / plan->world.server_ranks != server;
            }
            count += counts ? 1 : 0;
        }
    }
    return count;
}

static bool complete(void *context, uint32_t rank, uint64_t bytes, const uint64_t row_counts[EPX_REMOTE_SET_MAX])
{
    const struct epx_combine_run *run = context;
    uint32_t host = epx_comm_host_of(run->plan->request.comm, rank);
    int64_t tokens;
    (void)bytes;
    memcpy(&tokens, run->plan->relay->homes[host].mirror.exchange, sizeof tokens);
    return tokens == run->token_count && row_counts[0] == partials_expected(run, host);
}

enum epx_status epx_combine_relay_run(struct epx_combine_run *run)
{
    struct epx_combine_relay *relay = run->plan->relay;
    if (relay == NULL) {
        return EPX_OK;
    }
    for (uint32_t i = 0; i < relay->task_count; i++) {
        EPX_TRY(relay_task(run, &relay->tasks[i]));
    }
    const struct epx_remote_source source = {
        .context = run,
        .is_back = true,
        .exchange = exchange_for,
        .rows = rows_for,
        .row_bytes = {(uint32_t)relay->row_bytes},
    };
    const struct epx_remote_sink sink = {.context = run, .mirror = mirror_of, .complete = complete};
    EPX_TRY(epx_rounds_begin_remote(&run->rounds, &source, &sink));
    return epx_rounds_await_sums(&run->rounds);
}
