/*
 * The two-level sum of own tokens, computed where the tokens are: per server, ascending, the products of its experts in
 * the order of (expert, slot) are summed and the partial is rounded as a relay would send it; then the partials are
 * added.
 */
#include "base/fault.h"
#include "moe/combine_plan.h"
#include "moe/view.h"

#include <string.h>

/* Orders the copies of a token by (expert, k): an expert's slots rise with k, and experts with their servers. */
static void order_copies(const struct epx_combine_plan *plan, int64_t token)
{
    const int32_t *ids = plan->ids + token * plan->world.topk;
    for (int32_t k = 0; k < (int32_t)plan->world.topk; k++) {
        int32_t at = k;
        for (; at > 0 && ids[plan->order[at - 1]] > ids[k]; at--) {
            plan->order[at] = plan->order[at - 1];
        }
        plan->order[at] = k;
    }
}

static int64_t server_of_copy(const struct epx_combine_plan *plan, int64_t copy)
{
    return epx_moe_expert_owner(&plan->world, plan->ids[copy]) / plan->world.server_ranks;
}

/* Rows and weights of the copies on one server from place `first` of the order; *count of them. */
static enum epx_status collect_server(struct epx_combine_run *run, int64_t token, int64_t first, int64_t *count)
{
    const struct epx_combine_plan *plan = run->plan;
    int64_t topk = plan->world.topk;
    int64_t server = server_of_copy(plan, token * topk + plan->order[first]);
    int64_t found = 0;
    for (int64_t place = first; place < topk; place++) {
        int64_t copy = token * topk + plan->order[place];
        if (server_of_copy(plan, copy) != server) {
            break;
        }
        EPX_TRY(epx_combine_find_row(run, copy, &plan->row_pointers[found]));
        plan->row_weights[found] = plan->weights[copy];
        found++;
    }
    *count = found;
    return EPX_OK;
}

static void add_partial(const struct epx_combine_plan *plan, int64_t row_count)
{
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    epx_partial_sum_row(format, plan->partial, plan->row_pointers, plan->row_weights, (size_t)row_count, elems);
    if (plan->transport_int8) {
        epx_group_transport_add_row(format, plan->sum, plan->partial, elems);
        return;
    }
    epx_round_row(format, plan->row, plan->partial, elems);
    epx_add_row(format, plan->sum, plan->row, elems);
}

static enum epx_status sum_token(struct epx_combine_run *run, int64_t token, int64_t *holder)
{
    const struct epx_combine_plan *plan = run->plan;
    enum epx_row_format format = (enum epx_row_format)plan->request.shape.dtype;
    size_t elems = (size_t)plan->world.hidden_elems;
    memset(plan->sum, 0, elems * sizeof *plan->sum);
    order_copies(plan, token);
    for (int64_t first = 0; first < plan->world.topk;) {
        int64_t count = 0;
        EPX_TRY(collect_server(run, token, first, &count));
        add_partial(plan, count);
        first += count;
    }
    const uint16_t *shared_row = epx_combine_shared_row(run, token, holder);
    if (shared_row != NULL) {
        epx_add_row(format, plan->sum, shared_row, elems);
    }
    uint16_t *dst = epx_combine_output_row(run, token);
    epx_round_row(format, dst, plan->sum, elems);
    epx_combine_put_row(run, token, dst);
    return EPX_OK;
}

enum epx_status epx_combine_sum_tokens_two_level(struct epx_combine_run *run)
{
    int64_t holder = 0;
    int rank = (int)run->plan->world.rank;
    for (int64_t token = 0; token < run->token_count; token++) {
        EPX_TRY(sum_token(run, token, &holder));
        if (epx_fault("combine.rows", rank)) {
            return epx_rounds_fail(&run->rounds, EPX_ERR_INTERNAL, "rank %d: fault combine.rows", rank);
        }
    }
    return EPX_OK;
}
