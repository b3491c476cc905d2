/*
 * The two-level sum of own tokens, computed where the tokens are: per server, ascending, the products of its experts in
 * the order of (expert, slot) are summed and the partial is rounded as a relay would send it; then the partials are
 * added.
 */
#include "moe/combine_plan.h"
#include "moe/view.h"

#include <string.h>

/* Orders the copies of a token by (expert, k): an expert's slots rise with k, and experts with their servers. */
static void order_copies(struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    const int32_t *ids = plan->ids + token * plan->world.topk;
    for (int32_t k = 0; k < (int32_t)plan->world.topk; k++) {
        int32_t at = k;
        for (; at > 0 && ids[lane->order[at - 1]] > ids[k]; at--) {
            lane->order[at] = lane->order[at - 1];
        }
        lane->order[at] = k;
    }
}

static int64_t server_of_copy(const struct epx_combine_plan *plan, int64_t copy)
{
    return epx_moe_expert_owner(&plan->world, plan->ids[copy]) / plan->world.server_ranks;
}

/* Rows and weights of the copies on one server from place `first` of the order; *count of them. */
static enum epx_status collect_server(struct epx_combine_lane *lane, int64_t token, int64_t first, int64_t *count)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    int64_t topk = plan->world.topk;
    int64_t server = server_of_copy(plan, token * topk + lane->order[first]);
    int64_t found = 0;
    for (int64_t place = first; place < topk; place++) {
        int64_t copy = token * topk + lane->order[place];
        if (server_of_copy(plan, copy) != server) {
            break;
        }
        EPX_TRY(epx_combine_find_row(lane->run, copy, &lane->row_pointers[found]));
        lane->row_weights[found] = plan->weights[copy];
        found++;
    }
    *count = found;
    return EPX_OK;
}

static void add_partial(struct epx_combine_lane *lane, int64_t row_count)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    epx_partial_sum_row(format, lane->partial, lane->row_pointers, lane->row_weights, (size_t)row_count, elems);
    if (plan->transport_int8) {
        epx_group_transport_add_row(format, lane->sum, lane->partial, elems);
        return;
    }
    epx_round_row(format, lane->row, lane->partial, elems);
    epx_add_row(format, lane->sum, lane->row, elems);
}

enum epx_status epx_combine_sum_token_two_level(struct epx_combine_lane *lane, int64_t token)
{
    const struct epx_combine_plan *plan = lane->run->plan;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    memset(lane->sum, 0, elems * sizeof *lane->sum);
    order_copies(lane, token);
    for (int64_t first = 0; first < plan->world.topk;) {
        int64_t count = 0;
        EPX_TRY(collect_server(lane, token, first, &count));
        add_partial(lane, count);
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
