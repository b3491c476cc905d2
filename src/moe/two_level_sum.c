/*
 * The two-level sum of a token: per server, ascending, the products of its experts in the order of (expert, slot) are
 * summed and the partial is rounded as a relay would send it; then the partials are added where the token is. Partials
 * of servers on this host are computed there from the rows themselves, those of other hosts come from their relays
 * (combine_relay.c).
 */
#include "moe/combine_plan.h"
#include "moe/combine_relay.h"

#include <string.h>

/* Orders the copies of a token by (expert, k): an expert's slots rise with k, and experts with their servers. */
static void order_copies(struct epx_combine_lane *lane, const int32_t *ids, int64_t topk)
{
    for (int32_t k = 0; k < (int32_t)topk; k++) {
        int32_t at = k;
        for (; at > 0 && ids[lane->order[at - 1]] > ids[k]; at--) {
            lane->order[at] = lane->order[at - 1];
        }
        lane->order[at] = k;
    }
}

static int64_t server_of(const struct epx_combine_plan *plan, int32_t expert)
{
    return epx_moe_expert_owner(&plan->world, expert) / plan->world.server_ranks;
}

/* How many copies from place `first` of the order are on one server, and on which. */
static int64_t count_server(const struct epx_combine_lane *lane, const int32_t *ids, int64_t first, int64_t *server)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    int64_t place = first;
    *server = server_of(plan, ids[lane->order[first]]);
    while (place < plan->world.topk && server_of(plan, ids[lane->order[place]]) == *server) {
        place++;
    }
    return place - first;
}

static enum epx_status find_row(const struct epx_combine_copies *copies, int64_t copy, const uint16_t **row)
{
    int32_t expert = copies->ids[copy];
    int32_t slot = copies->slots[copy];
    const struct epx_combine_block *block = &copies->blocks[expert];
    if (slot < 0 || slot >= block->row_count) {
        return epx_fail(EPX_ERR_COUNTS,
                        "rank %lld: expertIds names expert %d more than %d times, it returns %lld rows to this rank",
                        (long long)copies->rank, expert, slot, (long long)block->row_count);
    }
    *row = (const uint16_t *)(const void *)(block->rows + (uint64_t)slot * block->pitch_bytes);
    return EPX_OK;
}

/* The partial of `count` copies from place `first` of the order, in lane->partial. */
static enum epx_status make_partial(struct epx_combine_lane *lane, const struct epx_combine_copies *copies,
                                    int64_t token, int64_t first, int64_t count)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    for (int64_t i = 0; i < count; i++) {
        int64_t copy = token * plan->world.topk + lane->order[first + i];
        EPX_TRY(find_row(copies, copy, &lane->row_pointers[i]));
        lane->row_weights[i] = copies->weights[copy];
    }
    epx_partial_sum_row((enum epx_row_format)plan->request.shape.dtype, lane->partial, lane->row_pointers,
                        lane->row_weights, (size_t)count, (size_t)plan->world.hidden_elems);
    return EPX_OK;
}

static void add_partial(struct epx_combine_lane *lane)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    if (plan->transport_int8) {
        epx_group_transport_add_row(format, lane->sum, lane->partial, elems);
        return;
    }
    epx_round_row(format, lane->row, lane->partial, elems);
    epx_add_row(format, lane->sum, lane->row, elems);
}

static void add_relayed(struct epx_combine_lane *lane, const void *row)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    if (plan->transport_int8) {
        epx_group_add_packed_row(format, lane->sum, row, elems);
    } else {
        epx_add_row(format, lane->sum, row, elems);
    }
}

enum epx_status epx_combine_sum_token_two_level(struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    const struct epx_combine_copies copies = {plan->ids, plan->slots, plan->weights, plan->blocks, plan->world.rank};
    const int32_t *ids = plan->ids + token * plan->world.topk;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    memset(lane->sum, 0, elems * sizeof *lane->sum);
    order_copies(lane, ids, plan->world.topk);
    for (int64_t first = 0; first < plan->world.topk;) {
        int64_t server;
        int64_t count = count_server(lane, ids, first, &server);
        const void *relayed = epx_combine_relayed_row(plan, token, server);
        if (relayed != NULL) {
            add_relayed(lane, relayed);
        } else {
            EPX_TRY(make_partial(lane, &copies, token, first, count));
            add_partial(lane);
        }
        first += count;
    }
    const uint16_t *shared_row = epx_combine_shared_row(lane, token);
    if (shared_row != NULL) {
        epx_add_row(format, lane->sum, shared_row, elems);
    }
    epx_round_row(format, epx_combine_output_row(lane, token), lane->sum, elems);
    epx_combine_put_row(lane, token);
    return EPX_OK;
}

enum epx_status epx_combine_relay_token(struct epx_combine_lane *lane, struct epx_combine_relay_task *task,
                                        int64_t token)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    const struct epx_combine_relay *relay = plan->relay;
    const struct epx_combine_copies copies = {task->ids, task->slots, task->weights, task->blocks, task->rank};
    const int32_t *ids = task->ids + token * plan->world.topk;
    int64_t first_place = token * relay->host_servers[relay->own_host];
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    order_copies(lane, ids, plan->world.topk);
    for (int64_t first = 0; first < plan->world.topk;) {
        int64_t server;
        int64_t count = count_server(lane, ids, first, &server);
        if (relay->server_host[server] == relay->own_host) {
            int64_t place = first_place + relay->server_place[server];
            uint8_t *row = task->rows + (uint64_t)place * relay->pitch_bytes;
            EPX_TRY(make_partial(lane, &copies, token, first, count));
            if (plan->transport_int8) {
                epx_group_pack_row(format, row, lane->partial, elems);
            } else {
                epx_round_row(format, (uint16_t *)(void *)row, lane->partial, elems);
            }
            task->is_made[place] = 1;
        }
        first += count;
    }
    return EPX_OK;
}
