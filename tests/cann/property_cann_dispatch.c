#include "cann/property_cann_run.h"

#include <string.h>

static enum epx_dtype row_dtype(const struct ref_shape *shape)
{
    return shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
}

static void layout_matrix(struct property_cann_run *run, int param, const char *name, enum epx_dtype dtype,
                          int64_t rows, int64_t columns)
{
    property_cann_layout(&run->dispatch.own[param], &run->random, name, dtype, 2, rows, columns,
                         property_cann_dense(run), param >= DISPATCH_INPUT_COUNT);
}

static void layout_vector(struct property_cann_run *run, int param, const char *name, enum epx_dtype dtype,
                          int64_t elems, bool dense)
{
    property_cann_layout(&run->dispatch.own[param], &run->random, name, dtype, 1, elems, 1, dense,
                         param >= DISPATCH_INPUT_COUNT);
}

static void ignore(struct property_cann_run *run, int param, const char *name, bool required)
{
    property_cann_ignored(run, &run->dispatch.own[param], name, required);
}

static void layout_inputs(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_tokens *tokens = &run->world->tokens[run->place->index];
    layout_matrix(run, DISPATCH_X, "x", row_dtype(shape), tokens->token_count + property_cann_more(run, 2),
                  shape->hidden);
    layout_matrix(run, DISPATCH_EXPERT_IDS, "expertIds", EPX_DTYPE_INT32, tokens->token_count, shape->topk);
    if (shape->smooth && shape->two_level) {
        ignore(run, DISPATCH_SCALES, "scales", false);
    } else if (shape->smooth) {
        const bool page_rows = shape->shared_rank_count > 0 || random_percent(&run->random, 50);
        layout_matrix(run, DISPATCH_SCALES, "scales", EPX_DTYPE_FP32,
                      shape->expert_count + (page_rows ? property_cann_shared_expert_num(run->world) : 0),
                      shape->hidden);
    }
    if (run->place->owner->product != EPX_PRODUCT_A3) {
        ignore(run, DISPATCH_MASK, "xActiveMask", false);
    }
    if (tokens->expert_scales != NULL && (shape->two_level || random_percent(&run->random, 30))) {
        layout_matrix(run, DISPATCH_EXPERT_SCALES, "expertScales", EPX_DTYPE_FP32, tokens->token_count, shape->topk);
    } else if (!shape->two_level) {
        ignore(run, DISPATCH_EXPERT_SCALES, "expertScales", false);
    }
}

static void layout_rows(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const int64_t rows = property_cann_rows(run, run->world->tokens[run->place->index].row_capacity);
    layout_matrix(run, DISPATCH_EXPAND_X, "expandX", shape->quantize ? EPX_DTYPE_INT8 : row_dtype(shape), rows,
                  shape->hidden);
    if (shape->quantize) {
        layout_vector(run, DISPATCH_DYNAMIC_SCALES, "dynamicScales", EPX_DTYPE_FP32, rows + property_cann_more(run, 3),
                      property_cann_dense(run));
    } else {
        ignore(run, DISPATCH_DYNAMIC_SCALES, "dynamicScales", false);
    }
    if (!shape->two_level) {
        ignore(run, DISPATCH_EXPAND_SCALES, "expandScales", false);
    } else if (run->world->expand_scales_given) {
        layout_vector(run, DISPATCH_EXPAND_SCALES, "expandScales", EPX_DTYPE_FP32, rows + property_cann_more(run, 3),
                      property_cann_dense(run));
    }
}

static void layout_numbers(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_tokens *tokens = &run->world->tokens[run->place->index];
    const int64_t local = ref_local_expert_count(shape, run->place->group_rank);
    const int64_t counts = shape->rank_count * local * shape->tp_count;
    if (shape->two_level) {
        ignore(run, DISPATCH_EXPAND_IDX, "expandIdx", true);
    } else {
        layout_vector(run, DISPATCH_EXPAND_IDX, "expandIdx", EPX_DTYPE_INT32,
                      tokens->token_count * shape->topk + property_cann_more(run, 3), property_cann_dense(run));
    }
    layout_vector(run, DISPATCH_TOKEN_NUMS, "expertTokenNums", EPX_DTYPE_INT64, local + property_cann_more(run, 3),
                  property_cann_dense(run));
    /* Room for what the page asks for is never needed. */
    const int64_t room = shape->two_level ? tokens->tail_room_bytes / 4 : random_between(&run->random, 0, 30);
    layout_vector(run, DISPATCH_EP_COUNTS, "epRecvCounts", EPX_DTYPE_INT32,
                  counts + (random_percent(&run->random, 40) && !shape->two_level ? 0 : room),
                  shape->two_level || property_cann_dense(run));
    if (shape->tp_count == 2) {
        layout_vector(run, DISPATCH_TP_COUNTS, "tpRecvCounts", EPX_DTYPE_INT32, 2 + property_cann_more(run, 2),
                      property_cann_dense(run));
    } else {
        property_cann_ignored_tp_counts(run, &run->dispatch.own[DISPATCH_TP_COUNTS], "tpRecvCounts", true);
    }
}

void property_cann_dispatch_layout(struct property_cann_run *run)
{
    layout_inputs(run);
    layout_rows(run);
    layout_numbers(run);
    for (int i = 0; i < DISPATCH_PARAM_COUNT; i++) {
        run->dispatch.params[i] = &run->dispatch.own[i];
    }
}

void property_cann_dispatch_fill(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_tokens *tokens = &run->world->tokens[run->place->index];
    struct property_cann_tensor *own = run->dispatch.own;
    const int64_t copies = tokens->token_count * shape->topk;
    const int64_t smooth_rows = shape->expert_count + (shape->shared_rank_count > 0 ? 1 : 0);
    property_cann_tensor_fill(&own[DISPATCH_X], tokens->x, tokens->token_count * shape->hidden);
    property_cann_tensor_fill(&own[DISPATCH_EXPERT_IDS], tokens->expert_ids, copies);
    if (own[DISPATCH_EXPERT_SCALES].handle != NULL) {
        property_cann_tensor_fill(&own[DISPATCH_EXPERT_SCALES], tokens->expert_scales, copies);
    }
    if (own[DISPATCH_SCALES].handle != NULL) {
        property_cann_tensor_fill(&own[DISPATCH_SCALES], tokens->smooth_scales, smooth_rows * shape->hidden);
    }
}

static void expect(struct property_cann_run *run, int param, const void *values, int64_t elems)
{
    if (values != NULL) {
        property_cann_tensor_expect(&run->dispatch.own[param], property_cann_storage_count(run), 0, values, elems,
                                    NULL);
    }
}

void property_cann_dispatch_expect(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_received *received = &run->world->received[run->place->index];
    const int64_t copies = run->world->tokens[run->place->index].token_count * shape->topk;
    expect(run, DISPATCH_EXPAND_X, received->expand_x, received->row_count * shape->hidden);
    expect(run, DISPATCH_DYNAMIC_SCALES, received->dynamic_scales, received->row_count);
    expect(run, DISPATCH_EXPAND_IDX, received->expand_idx, copies);
    expect(run, DISPATCH_TOKEN_NUMS, received->expert_token_nums, received->local_expert_count);
    expect(run, DISPATCH_EP_COUNTS, received->ep_recv_counts, received->count_elems);
    expect(run, DISPATCH_TP_COUNTS, received->tp_recv_counts, 2);
    expect(run, DISPATCH_EXPAND_SCALES, received->expand_scales, received->row_count);
    if (received->tail != NULL) {
        property_cann_tensor_expect(&run->dispatch.own[DISPATCH_EP_COUNTS], property_cann_storage_count(run),
                                    received->count_elems, received->tail, received->tail_bytes / 4,
                                    received->tail_written);
    }
}

aclnnStatus property_cann_dispatch_prepare(struct property_cann_run *run, aclOpExecutor **executor)
{
    const struct world *world = run->world;
    const struct ref_shape *shape = &world->shape;
    const struct property_cann_place *place = run->place;
    aclTensor *t[DISPATCH_PARAM_COUNT];
    uint64_t workspace_bytes = UINT64_MAX;
    for (int i = 0; i < DISPATCH_PARAM_COUNT; i++) {
        t[i] = run->dispatch.params[i]->handle;
    }
    const aclnnStatus status = epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize(
        t[DISPATCH_X], t[DISPATCH_EXPERT_IDS], t[DISPATCH_SCALES], t[DISPATCH_MASK], t[DISPATCH_EXPERT_SCALES],
        place->name, shape->rank_count, place->group_rank, shape->expert_count, property_cann_group_tp(run),
        property_cann_tp_world_size(world), property_cann_tp_rank_id(run), 0, property_cann_shared_expert_num(world),
        shape->shared_rank_count, shape->quantize ? 2 : 0, shape->global_token_count,
        shape->token_nums == REF_TOKEN_NUMS_PREFIX ? 0 : 1, t[DISPATCH_EXPAND_X], t[DISPATCH_DYNAMIC_SCALES],
        t[DISPATCH_EXPAND_IDX], t[DISPATCH_TOKEN_NUMS], t[DISPATCH_EP_COUNTS], t[DISPATCH_TP_COUNTS],
        t[DISPATCH_EXPAND_SCALES], &workspace_bytes, executor);
    return status == 0 && workspace_bytes != 0 ? -1 : status;
}
