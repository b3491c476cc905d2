#include "moe/combine_plan.h"

#include "base/checked_math.h"
#include "moe/combine_relay.h"
#include "moe/combine_validate.h"
#include "moe/plan_memory.h"
#include "moe/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum epx_status no_memory(const struct epx_combine_plan *plan)
{
    return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a combine plan of BS %lld, H %lld, K %lld, %lld rows of expandX",
                    (long long)plan->request.token_count, (long long)plan->world.hidden_elems,
                    (long long)plan->world.topk, (long long)epx_view_row_count(&plan->request.tensors.expand_x));
}

/* calloc of at least one element, so that null always means failure. */
static void *alloc_array(int64_t count, size_t elem_bytes)
{
    return calloc(count > 0 ? (size_t)count : 1, elem_bytes);
}

static bool alloc_copies(struct epx_combine_plan *plan)
{
    const struct epx_moe_world *world = &plan->world;
    int64_t copies = plan->request.token_count * world->topk;
    plan->counts = alloc_array(world->rank_count * world->local_experts * (world->tp ? 2 : 1), sizeof *plan->counts);
    plan->ids = alloc_array(copies, sizeof *plan->ids);
    plan->slots = alloc_array(copies, sizeof *plan->slots);
    plan->weights = alloc_array(copies, sizeof *plan->weights);
    plan->routing.occurrence = plan->slots;
    if (world->two_level) {
        plan->routing.offsets = alloc_array(world->expert_count + 1, sizeof *plan->routing.offsets);
        plan->routing.sorted = alloc_array(copies, sizeof *plan->routing.sorted);
        if (plan->routing.offsets == NULL || plan->routing.sorted == NULL) {
            return false;
        }
    }
    plan->blocks = alloc_array(world->expert_count, sizeof *plan->blocks);
    plan->shared_blocks = alloc_array(world->shared_count, sizeof *plan->shared_blocks);
    return plan->counts != NULL && plan->ids != NULL && plan->slots != NULL && plan->weights != NULL &&
           plan->blocks != NULL && plan->shared_blocks != NULL;
}

static bool alloc_lane(const struct epx_combine_plan *plan, struct epx_combine_lane *lane)
{
    const struct epx_moe_world *world = &plan->world;
    lane->run = &plan->run;
    lane->row_pointers = alloc_array(world->topk, sizeof *lane->row_pointers);
    lane->row_weights = alloc_array(world->topk, sizeof *lane->row_weights);
    lane->order = alloc_array(world->topk, sizeof *lane->order);
    lane->row = alloc_array(world->hidden_elems, sizeof *lane->row);
    lane->partial = alloc_array(world->hidden_elems, sizeof *lane->partial);
    lane->sum = alloc_array(world->hidden_elems, sizeof *lane->sum);
    if (plan->transport_int8 && !world->two_level) {
        int64_t elems;
        if (!epx_mul_i64(world->topk + 1, world->hidden_elems, &elems)) {
            return false;
        }
        lane->transported = alloc_array(elems, sizeof *lane->transported);
        if (lane->transported == NULL) {
            return false;
        }
    }
    return lane->row_pointers != NULL && lane->row_weights != NULL && lane->order != NULL && lane->row != NULL &&
           lane->partial != NULL && lane->sum != NULL;
}

static void free_lane(struct epx_combine_lane *lane)
{
    free(lane->row_pointers);
    free(lane->row_weights);
    free(lane->order);
    free(lane->transported);
    free(lane->row);
    free(lane->partial);
    free(lane->sum);
}

static enum epx_status alloc_lanes(struct epx_combine_plan *plan)
{
    EPX_TRY(epx_team_init(&plan->team, plan->request.comm, plan->world.tp ? 2 : 1));
    plan->lanes = calloc(plan->team.thread_count, sizeof *plan->lanes);
    if (plan->lanes == NULL) {
        return no_memory(plan);
    }
    for (uint32_t i = 0; i < plan->team.thread_count; i++) {
        if (!alloc_lane(plan, &plan->lanes[i])) {
            return no_memory(plan);
        }
    }
    return EPX_OK;
}

/* An address that is not known yet needs no staging memory: it is made when it is bound. */
static bool readable_in_place(const struct epx_view *view)
{
    uint64_t bytes;
    uint64_t offset;
    if (view->data == NULL || epx_view_empty(view)) {
        return true;
    }
    return epx_view_rows_direct(view) && epx_view_extent_bytes(view, &bytes) &&
           epx_arena_offset_of(view->data, bytes, &offset);
}

static enum epx_status stage_for(struct epx_combine_plan *plan, const struct epx_combine_tensors *tensors)
{
    if (!readable_in_place(&tensors->expand_x)) {
        EPX_TRY(epx_plan_memory_reserve_once(plan->layout.staged_bytes, &plan->staged));
    }
    return EPX_OK;
}

static enum epx_status alloc_all(struct epx_combine_plan *plan)
{
    const struct epx_combine_sizes sizes = {
        .hidden_elems = plan->world.hidden_elems,
        .count_elems = plan->world.rank_count * plan->world.local_experts,
        .row_max = epx_view_row_count(&plan->request.tensors.expand_x),
        .tp = plan->world.tp,
    };
    if (!epx_combine_layout_init(&plan->layout, &sizes, sizeof(struct epx_exchange_header))) {
        return no_memory(plan);
    }
    EPX_TRY(epx_plan_memory_alloc(plan->layout.exchange_bytes, &plan->exchange));
    EPX_TRY(epx_plan_memory_alloc(plan->layout.tp_exchange_bytes, &plan->tp_exchange));
    EPX_TRY(epx_plan_memory_reserve(plan->layout.summed_bytes, &plan->summed));
    EPX_TRY(stage_for(plan, &plan->request.tensors));
    EPX_TRY(alloc_lanes(plan));
    return alloc_copies(plan) ? EPX_OK : no_memory(plan);
}

static void init_binding(struct epx_combine_plan *plan)
{
    struct epx_tensor_rules rules;
    plan->binding.token_count = plan->request.token_count;
    plan->binding.tensors = plan->request.tensors;
    epx_combine_rules_init(&rules, &plan->request.shape, &plan->world, plan->request.token_count,
                           &plan->binding.tensors);
    plan->binding.bound = epx_tensor_rules_unbound(&rules) == NULL;
}

enum epx_status epx_combine_plan_create(const struct epx_combine_request *request, struct epx_combine_plan **out)
{
    struct epx_moe_world world;
    if (request == NULL || out == NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", request == NULL ? "request" : "out");
    }
    EPX_TRY(epx_combine_validate(request, &world));
    struct epx_combine_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a combine plan");
    }
    plan->request = *request;
    plan->world = world;
    plan->transport_int8 = request->shape.comm_quantization == EPX_COMM_QUANTIZATION_INT8;
    plan->row_bytes = (uint64_t)world.hidden_elems * sizeof(uint16_t);
    init_binding(plan);
    enum epx_status status = epx_plan_stream_bytes(request->comm, EPX_OPERATION_COMBINE, &plan->stream_bytes);
    if (status == EPX_OK) {
        status = alloc_all(plan);
    }
    if (status == EPX_OK) {
        status = epx_combine_relay_create(plan);
    }
    if (status == EPX_OK) {
        status = epx_combine_remote_create(plan);
    }
    if (status != EPX_OK) {
        epx_combine_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return EPX_OK;
}

void epx_combine_plan_destroy(struct epx_combine_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    epx_combine_remote_destroy(plan);
    epx_combine_relay_destroy(plan);
    epx_plan_memory_free(plan->exchange);
    epx_plan_memory_free(plan->tp_exchange);
    epx_plan_memory_free(plan->staged);
    epx_plan_memory_free(plan->summed);
    free(plan->counts);
    free(plan->ids);
    free(plan->slots);
    free(plan->weights);
    free(plan->routing.offsets);
    free(plan->routing.sorted);
    free(plan->blocks);
    free(plan->shared_blocks);
    for (uint32_t i = 0; plan->lanes != NULL && i < plan->team.thread_count; i++) {
        free_lane(&plan->lanes[i]);
    }
    free(plan->lanes);
    epx_team_fini(&plan->team);
    free(plan);
}

static void bind_view(struct epx_view *view, const struct epx_view *given)
{
    if (epx_view_present(view) && given->data != NULL) {
        view->data = given->data;
    }
}

static void bind_views(const struct epx_combine_tensors *given, struct epx_combine_tensors *tensors)
{
    bind_view(&tensors->expand_x, &given->expand_x);
    bind_view(&tensors->expert_ids, &given->expert_ids);
    bind_view(&tensors->expand_idx, &given->expand_idx);
    bind_view(&tensors->ep_send_counts, &given->ep_send_counts);
    bind_view(&tensors->expert_scales, &given->expert_scales);
    bind_view(&tensors->tp_send_counts, &given->tp_send_counts);
    bind_view(&tensors->expand_scales, &given->expand_scales);
    bind_view(&tensors->x, &given->x);
}

enum epx_status epx_combine_binding_init(struct epx_combine_plan *plan, int64_t token_count,
                                         const struct epx_combine_tensors *tensors, struct epx_combine_binding *binding)
{
    struct epx_combine_binding bound = {.token_count = token_count, .tensors = plan->request.tensors};
    struct epx_tensor_rules rules;
    if (token_count < 0 || token_count > plan->request.token_count) {
        return epx_fail(EPX_ERR_INVALID, "BS is %lld, must be in [0, %lld] (planned)", (long long)token_count,
                        (long long)plan->request.token_count);
    }
    bind_views(tensors, &bound.tensors);
    /* Only what the run touches may not overlap. */
    bound.tensors.expert_ids.shape[0] = token_count;
    bound.tensors.expand_idx.shape[0] = token_count * plan->world.topk;
    bound.tensors.expert_scales.shape[0] = token_count;
    bound.tensors.x.shape[0] = token_count;
    epx_combine_rules_init(&rules, &plan->request.shape, &plan->world, token_count, &bound.tensors);
    const char *unbound = epx_tensor_rules_unbound(&rules);
    if (unbound != NULL) {
        return epx_fail(EPX_ERR_NULL, "%s is null", unbound);
    }
    EPX_TRY(epx_tensor_rules_check(&rules));
    EPX_TRY(epx_tensor_rules_check_memory(&rules));
    EPX_TRY(stage_for(plan, &bound.tensors));
    bound.bound = true;
    *binding = bound;
    return EPX_OK;
}

enum epx_status epx_combine_plan_bind(struct epx_combine_plan *plan, const struct epx_combine_tensors *tensors)
{
    /* A null address keeps the one bound last, not the one planned first. */
    struct epx_combine_tensors merged = plan->binding.tensors;
    bind_views(tensors, &merged);
    return epx_combine_binding_init(plan, plan->request.token_count, &merged, &plan->binding);
}

void epx_combine_binding_reserve(struct epx_combine_plan *plan, struct epx_combine_binding *binding)
{
    binding->round = epx_round_reserve(plan->request.comm);
    binding->stage = EPX_MOE_STAGE_TURN;
    if (plan->world.tp) {
        binding->tp_round = epx_round_reserve(plan->request.tp_comm);
    }
}

void epx_combine_plan_reserve(struct epx_combine_plan *plan)
{
    epx_combine_binding_reserve(plan, &plan->binding);
}

enum epx_status epx_combine_run(struct epx_combine_plan *plan, struct epx_operation_stats *stats)
{
    return epx_combine_binding_run(plan, &plan->binding, stats);
}

void epx_combine_plan_print(const struct epx_combine_plan *plan, void *out_file)
{
    FILE *out = out_file;
    const struct epx_moe_world *world = &plan->world;
    const struct epx_combine_layout *layout = &plan->layout;
    (void)fprintf(out, "combine plan of rank %" PRId64 " of %" PRId64 "\n", world->rank, world->rank_count);
    (void)fprintf(out, "  tokens %" PRId64 ", H %" PRId64 ", K %" PRId64 ", rows of expandX %" PRId64 "\n",
                  plan->request.token_count, world->hidden_elems, world->topk,
                  epx_view_row_count(&plan->request.tensors.expand_x));
    (void)fprintf(out, "  algorithm %s, rows return %s, tensor parallel %s\n",
                  world->two_level ? "two-level" : "full mesh", plan->transport_int8 ? "as int8" : "as they are",
                  world->tp ? "2" : "none");
    (void)fprintf(
        out, "  exchange region %" PRIu64 " bytes, copied rows %" PRIu64 " bytes (%s), sums %" PRIu64 " bytes\n",
        layout->exchange_bytes, layout->staged_bytes, plan->staged != NULL ? "made" : "not made", layout->summed_bytes);
}
