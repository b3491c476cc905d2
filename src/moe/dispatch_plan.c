#include "moe/dispatch_plan.h"

#include "base/config.h"
#include "moe/dispatch_validate.h"
#include "moe/plan_memory.h"
#include "moe/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum epx_status read_options(struct epx_dispatch_plan *plan)
{
    int64_t part_kib;
    EPX_TRY(epx_plan_stream_bytes(plan->request.comm, EPX_OPERATION_DISPATCH, &plan->stream_bytes));
    EPX_TRY(epx_option_integer(EPX_OPTION_PART_KIB, &part_kib));
    plan->part_bytes = (uint64_t)part_kib * 1024;
    return EPX_OK;
}

static enum epx_status lay_out(struct epx_dispatch_plan *plan)
{
    const struct epx_dispatch_request *request = &plan->request;
    const struct epx_dispatch_sizes sizes = {
        .token_count = request->token_count,
        .topk = plan->world.topk,
        .expert_count = plan->world.expert_count,
        .hidden_elems = plan->world.hidden_elems,
        .count_elems = plan->world.rank_count * plan->world.local_experts,
        .row_max = epx_view_row_count(&request->tensors.expand_x),
        .quantized = plan->quantized,
        .smooth = plan->smooth,
        .shared = plan->world.shared_count > 0,
        .two_level = plan->world.two_level,
        .tp = plan->world.tp,
    };
    if (!epx_dispatch_layout_init(&plan->layout, &sizes, sizeof(struct epx_exchange_header))) {
        return epx_fail(EPX_ERR_NO_MEMORY,
                        "dispatch of BS %lld, H %lld, K %lld needs more memory than can be addressed",
                        (long long)request->token_count, (long long)sizes.hidden_elems, (long long)sizes.topk);
    }
    return EPX_OK;
}

static bool alloc_lanes(struct epx_dispatch_plan *plan)
{
    size_t blocks = (size_t)(plan->world.rank_count * plan->world.local_experts);
    size_t elems = (size_t)plan->world.hidden_elems;
    plan->lanes = calloc(plan->team.thread_count, sizeof *plan->lanes);
    for (uint32_t i = 0; plan->lanes != NULL && i < plan->team.thread_count; i++) {
        struct epx_dispatch_lane *lane = &plan->lanes[i];
        lane->next_rows = calloc(blocks, sizeof *lane->next_rows);
        lane->token_row = calloc(elems, sizeof *lane->token_row);
        lane->smooth_row = calloc(elems, sizeof *lane->smooth_row);
        if (lane->next_rows == NULL || lane->token_row == NULL || lane->smooth_row == NULL) {
            return false;
        }
    }
    return plan->lanes != NULL;
}

static void free_lanes(struct epx_dispatch_plan *plan)
{
    for (uint32_t i = 0; plan->lanes != NULL && i < plan->team.thread_count; i++) {
        free(plan->lanes[i].next_rows);
        free(plan->lanes[i].token_row);
        free(plan->lanes[i].smooth_row);
    }
    free(plan->lanes);
    epx_team_fini(&plan->team);
}

static bool alloc_scratch(struct epx_dispatch_plan *plan)
{
    const struct epx_moe_world *world = &plan->world;
    size_t blocks = (size_t)(world->rank_count * world->local_experts);
    size_t servers = world->server_ranks > 0 ? (size_t)(world->rank_count / world->server_ranks) : 0;
    plan->sources = calloc((size_t)world->rank_count, sizeof *plan->sources);
    plan->block_ends = calloc(blocks, sizeof *plan->block_ends);
    plan->block_starts = calloc(blocks, sizeof *plan->block_starts);
    plan->tp_block_ends = calloc(blocks, sizeof *plan->tp_block_ends);
    plan->entries = calloc((size_t)world->topk, sizeof *plan->entries);
    plan->server_tokens = calloc(servers + 1, sizeof *plan->server_tokens);
    return plan->sources != NULL && plan->block_ends != NULL && plan->block_starts != NULL &&
           plan->tp_block_ends != NULL && plan->entries != NULL && plan->server_tokens != NULL && alloc_lanes(plan);
}

/* Whether peers can read the first `row_count` rows of a view where they are. An address that is not known yet counts
 * as yes: staging memory is made when it is bound. */
static bool readable_in_place(const struct epx_view *view, int64_t row_count)
{
    uint64_t bytes;
    uint64_t offset;
    if (view->data == NULL || row_count == 0) {
        return true;
    }
    return epx_view_rows_dense(view) && epx_view_rows_extent_bytes(view, row_count, &bytes) &&
           epx_arena_offset_of(view->data, bytes, &offset);
}

/* The same for x, whose rows peers may be shown as they are: then they must be aligned as elements are. */
static bool tokens_readable_in_place(const struct epx_view *x, int64_t token_count)
{
    return x->data == NULL || token_count == 0 || (epx_view_rows_direct(x) && readable_in_place(x, token_count));
}

/* Makes the memory that these tensors need to be shown to peers. */
static enum epx_status stage_for(struct epx_dispatch_plan *plan, const struct epx_dispatch_tensors *tensors,
                                 int64_t token_count)
{
    if (!plan->quantized && !tokens_readable_in_place(&tensors->x, token_count)) {
        EPX_TRY(epx_plan_memory_reserve_once(plan->layout.plain_bytes, &plan->plain_rows));
    }
    int64_t row_max = epx_view_row_count(&tensors->expand_x);
    if (plan->world.tp && !readable_in_place(&tensors->expand_x, row_max)) {
        struct epx_layout region = {0};
        (void)epx_layout_take(&region, row_max, plan->tp_rows_pitch);
        if (region.overflowed) {
            return epx_fail(EPX_ERR_NO_MEMORY, "expandX has %lld rows, more than can be copied for the TP peer",
                            (long long)row_max);
        }
        EPX_TRY(epx_plan_memory_reserve_once(region.bytes, &plan->tp_rows));
    }
    return EPX_OK;
}

static enum epx_status alloc_all(struct epx_dispatch_plan *plan)
{
    EPX_TRY(epx_plan_memory_alloc(plan->layout.exchange_bytes, &plan->exchange));
    EPX_TRY(epx_plan_memory_alloc(plan->layout.tp_exchange_bytes, &plan->tp_exchange));
    EPX_TRY(epx_plan_memory_reserve(plan->layout.quantized_bytes, &plan->quantized_rows));
    EPX_TRY(stage_for(plan, &plan->request.tensors, plan->request.token_count));
    EPX_TRY(epx_team_init(&plan->team, plan->request.comm, plan->world.tp ? 2 : 1));
    if (!alloc_scratch(plan)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a dispatch plan of %lld ranks, %lld local experts, H %lld",
                        (long long)plan->world.rank_count, (long long)plan->world.local_experts,
                        (long long)plan->world.hidden_elems);
    }
    return EPX_OK;
}

static void init_binding(struct epx_dispatch_plan *plan)
{
    struct epx_tensor_rules rules;
    plan->binding.token_count = plan->request.token_count;
    plan->binding.tensors = plan->request.tensors;
    epx_dispatch_rules_init(&rules, &plan->request.shape, &plan->world, plan->request.token_count,
                            &plan->binding.tensors);
    plan->binding.bound = epx_tensor_rules_unbound(&rules) == NULL;
}

enum epx_status epx_dispatch_plan_create(const struct epx_dispatch_request *request, struct epx_dispatch_plan **out)
{
    struct epx_moe_world world;
    if (request == NULL || out == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", request == NULL ? "request" : "out");
    }
    EPX_TRY(epx_dispatch_validate(request, &world));
    struct epx_dispatch_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a dispatch plan");
    }
    plan->request = *request;
    plan->world = world;
    plan->quantized = request->shape.quantization == EPX_QUANTIZATION_DYNAMIC_INT8;
    plan->smooth = epx_dispatch_is_smooth(&request->shape, &request->tensors);
    plan->row_bytes = (uint64_t)world.hidden_elems * (plan->quantized ? sizeof(int8_t) : sizeof(uint16_t));
    plan->tp_rows_pitch = epx_layout_row_pitch(plan->row_bytes);
    init_binding(plan);
    enum epx_status status = read_options(plan);
    if (status == EPX_OK) {
        status = lay_out(plan);
    }
    if (status == EPX_OK) {
        status = alloc_all(plan);
    }
    if (status == EPX_OK) {
        status = epx_dispatch_remote_create(plan);
    }
    if (status != EPX_OK) {
        epx_dispatch_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return EPX_OK;
}

void epx_dispatch_plan_destroy(struct epx_dispatch_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    epx_dispatch_remote_destroy(plan);
    epx_plan_memory_free(plan->exchange);
    epx_plan_memory_free(plan->tp_exchange);
    epx_plan_memory_free(plan->quantized_rows);
    epx_plan_memory_free(plan->plain_rows);
    epx_plan_memory_free(plan->tp_rows);
    free(plan->sources);
    free(plan->block_ends);
    free(plan->block_starts);
    free(plan->tp_block_ends);
    free_lanes(plan);
    free(plan->entries);
    free(plan->server_tokens);
    free(plan);
}

static void bind_view(struct epx_view *view, const struct epx_view *given)
{
    if (epx_view_present(view) && given->data != NULL) {
        view->data = given->data;
    }
}

/* The plan's tensors at the addresses of `given`. */
static void bind_views(const struct epx_dispatch_tensors *given, struct epx_dispatch_tensors *tensors)
{
    bind_view(&tensors->x, &given->x);
    bind_view(&tensors->expert_ids, &given->expert_ids);
    bind_view(&tensors->smooth_scales, &given->smooth_scales);
    bind_view(&tensors->expert_scales, &given->expert_scales);
    bind_view(&tensors->expand_x, &given->expand_x);
    bind_view(&tensors->dynamic_scales, &given->dynamic_scales);
    bind_view(&tensors->expand_idx, &given->expand_idx);
    bind_view(&tensors->expert_token_nums, &given->expert_token_nums);
    bind_view(&tensors->ep_recv_counts, &given->ep_recv_counts);
    bind_view(&tensors->tp_recv_counts, &given->tp_recv_counts);
    bind_view(&tensors->expand_scales, &given->expand_scales);
}

enum epx_status epx_dispatch_binding_init(struct epx_dispatch_plan *plan, int64_t token_count,
                                          const struct epx_dispatch_tensors *tensors,
                                          struct epx_dispatch_binding *binding)
{
    struct epx_dispatch_binding bound = {.token_count = token_count, .tensors = plan->request.tensors};
    struct epx_tensor_rules rules;
    if (token_count < 0 || token_count > plan->request.token_count) {
        return epx_fail(EPX_ERR_INVALID, "BS is %lld, must be in [0, %lld] (planned)", (long long)token_count,
                        (long long)plan->request.token_count);
    }
    bind_views(tensors, &bound.tensors);
    if (epx_view_present(&tensors->row_views)) {
        if (plan->world.tp) {
            return epx_fail(EPX_ERR_UNSUPPORTED, "row views are not offered with tpWorldSize 2");
        }
        bound.tensors.row_views = tensors->row_views;
        bound.tensors.expand_x.data = NULL;
    }
    /* Only what the run touches may not overlap. */
    bound.tensors.x.shape[0] = token_count;
    bound.tensors.expert_ids.shape[0] = token_count;
    bound.tensors.expert_scales.shape[0] = token_count;
    bound.tensors.expand_idx.shape[0] = token_count * plan->world.topk;
    epx_dispatch_rules_init(&rules, &plan->request.shape, &plan->world, token_count, &bound.tensors);
    const char *unbound = epx_tensor_rules_unbound(&rules);
    if (unbound != NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", unbound);
    }
    EPX_TRY(epx_tensor_rules_check(&rules));
    EPX_TRY(epx_tensor_rules_check_memory(&rules));
    EPX_TRY(stage_for(plan, &bound.tensors, token_count));
    bound.bound = true;
    *binding = bound;
    return EPX_OK;
}

enum epx_status epx_dispatch_plan_bind(struct epx_dispatch_plan *plan, const struct epx_dispatch_tensors *tensors)
{
    /* A null address keeps the one bound last, not the one planned first. */
    struct epx_dispatch_tensors merged = plan->binding.tensors;
    bind_views(tensors, &merged);
    return epx_dispatch_binding_init(plan, plan->request.token_count, &merged, &plan->binding);
}

void epx_dispatch_binding_reserve(struct epx_dispatch_plan *plan, struct epx_dispatch_binding *binding)
{
    binding->round = epx_round_reserve(plan->request.comm);
    binding->stage = EPX_MOE_STAGE_TURN;
    if (plan->world.tp) {
        binding->tp_round = epx_round_reserve(plan->request.tp_comm);
    }
}

void epx_dispatch_plan_reserve(struct epx_dispatch_plan *plan)
{
    epx_dispatch_binding_reserve(plan, &plan->binding);
}

enum epx_status epx_dispatch_run(struct epx_dispatch_plan *plan, struct epx_operation_stats *stats)
{
    return epx_dispatch_binding_run(plan, &plan->binding, stats);
}

void epx_dispatch_plan_print(const struct epx_dispatch_plan *plan, void *out_file)
{
    FILE *out = out_file;
    const struct epx_moe_world *world = &plan->world;
    const struct epx_dispatch_layout *layout = &plan->layout;
    (void)fprintf(out, "dispatch plan of rank %" PRId64 " of %" PRId64 "\n", world->rank, world->rank_count);
    (void)fprintf(out, "  experts %" PRId64 ", of this rank %" PRId64 " from %" PRId64 "%s\n", world->expert_count,
                  world->local_experts, world->first_expert, world->holds_shared ? " (the shared expert)" : "");
    (void)fprintf(out, "  tokens %" PRId64 ", H %" PRId64 ", K %" PRId64 ", rows of expandX %" PRId64 "\n",
                  plan->request.token_count, world->hidden_elems, world->topk,
                  epx_view_row_count(&plan->request.tensors.expand_x));
    (void)fprintf(out, "  algorithm %s, rows %s, tensor parallel %s\n", world->two_level ? "two-level" : "full mesh",
                  !plan->quantized ? "as they are" : (plan->smooth ? "int8 with scales" : "int8"),
                  world->tp ? "2" : "none");
    (void)fprintf(out,
                  "  a row has %" PRIu64 " bytes; written past the caches from %" PRIu64 " bytes in all; read in parts "
                  "of %" PRIu64 " bytes\n",
                  plan->row_bytes, plan->stream_bytes, plan->part_bytes);
    (void)fprintf(out,
                  "  exchange region %" PRIu64 " bytes: offsets at %" PRIu64 ", order at %" PRIu64
                  ", occurrence at %" PRIu64 ", ids at %" PRIu64 ", weights at %" PRIu64 "\n",
                  layout->exchange_bytes, layout->offsets_at, layout->sorted_at, layout->occurrence_at, layout->ids_at,
                  layout->weights_at);
    (void)fprintf(
        out, "  quantised rows %" PRIu64 " bytes, copied rows %" PRIu64 " bytes (%s), TP region %" PRIu64 " bytes\n",
        layout->quantized_bytes, layout->plain_bytes, plan->plain_rows != NULL ? "made" : "not made",
        layout->tp_exchange_bytes);
}
