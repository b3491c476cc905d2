#include "cann/property_cann_run.h"

#include <string.h>

static void layout_matrix(struct property_cann_run *run, int param, const char *name, enum epx_dtype dtype,
                          int64_t rows, int64_t columns)
{
    property_cann_layout(&run->combine.own[param], &run->random, name, dtype, 2, rows, columns,
                         property_cann_dense(run), param >= COMBINE_INPUT_COUNT);
}

static void layout_vector(struct property_cann_run *run, int param, const char *name, int64_t elems)
{
    property_cann_layout(&run->combine.own[param], &run->random, name, EPX_DTYPE_INT32, 1, elems, 1,
                         property_cann_dense(run), false);
}

/* Takes dispatch's tensor for a parameter; where the world gives other values to combine, never. */
static bool chain(struct property_cann_run *run, int param, int source, const void *ours, const void *dispatched,
                  int64_t bytes)
{
    const struct property_cann_tensor *tensor = &run->dispatch.own[source];
    if (ours == NULL || dispatched == NULL || tensor->storages[0].tensor.view.dim_count == 0 || tensor->is_decoy ||
        memcmp(ours, dispatched, (size_t)bytes) != 0 || !random_percent(&run->random, 60)) {
        return false;
    }
    run->combine.params[param] = &run->dispatch.own[source];
    run->combine_reads_dispatch = run->combine_reads_dispatch || source >= DISPATCH_INPUT_COUNT;
    return true;
}

static void layout_rows(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_returns *returns = &run->world->returns[run->place->index];
    const enum epx_dtype dtype = shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
    if (property_cann_rows_chained(run->world, run->place->index)) {
        run->combine.params[COMBINE_EXPAND_X] = &run->dispatch.own[DISPATCH_EXPAND_X];
        run->combine_reads_dispatch = true;
    } else {
        layout_matrix(run, COMBINE_EXPAND_X, "combine's expandX", dtype, property_cann_rows(run, returns->row_capacity),
                      shape->hidden);
    }
    layout_matrix(run, COMBINE_EXPERT_SCALES, "combine's expertScales", EPX_DTYPE_FP32, returns->token_count,
                  shape->topk);
    layout_matrix(run, COMBINE_X, "combine's x", dtype, returns->token_count + property_cann_more(run, 3),
                  shape->hidden);
}

static void layout_numbers(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_tokens *tokens = &run->world->tokens[run->place->index];
    const struct ref_received *received = &run->world->received[run->place->index];
    const struct ref_returns *returns = &run->world->returns[run->place->index];
    const int64_t copies = returns->token_count * shape->topk;
    if (!chain(run, COMBINE_EXPERT_IDS, DISPATCH_EXPERT_IDS, returns->expert_ids, tokens->expert_ids, copies * 4)) {
        layout_matrix(run, COMBINE_EXPERT_IDS, "combine's expertIds", EPX_DTYPE_INT32, returns->token_count,
                      shape->topk);
    }
    if (shape->two_level) {
        property_cann_ignored(run, &run->combine.own[COMBINE_EXPAND_IDX], "combine's expandIdx", true);
    } else if (!chain(run, COMBINE_EXPAND_IDX, DISPATCH_EXPAND_IDX, returns->expand_idx, received->expand_idx,
                      copies * 4)) {
        layout_vector(run, COMBINE_EXPAND_IDX, "combine's expandIdx", copies + property_cann_more(run, 3));
    }
    if (!chain(run, COMBINE_EP_COUNTS, DISPATCH_EP_COUNTS, returns->ep_send_counts, received->ep_recv_counts,
               received->count_elems * 4)) {
        layout_vector(run, COMBINE_EP_COUNTS, "epSendCounts",
                      received->count_elems + random_between(&run->random, 0, 3));
    }
    if (shape->tp_count != 2) {
        property_cann_ignored_tp_counts(run, &run->combine.own[COMBINE_TP_COUNTS], "tpSendCounts", false);
    } else if (!chain(run, COMBINE_TP_COUNTS, DISPATCH_TP_COUNTS, returns->tp_send_counts, received->tp_recv_counts,
                      8)) {
        layout_vector(run, COMBINE_TP_COUNTS, "tpSendCounts", 2 + property_cann_more(run, 2));
    }
}

static void layout_ignored(struct property_cann_run *run)
{
    struct property_cann_tensor *own = run->combine.own;
    const bool is_a2 = run->place->owner->product == EPX_PRODUCT_A2;
    if (run->place->owner->product != EPX_PRODUCT_A3) {
        property_cann_ignored(run, &own[COMBINE_MASK], "combine's xActiveMask", false);
    }
    property_cann_ignored(run, &own[COMBINE_ACTIVATION_SCALE], "activationScale", false);
    property_cann_ignored(run, &own[COMBINE_WEIGHT_SCALE], "weightScale", false);
    property_cann_ignored(run, &own[COMBINE_GROUP_LIST], "groupList", false);
    if (run->dispatch.own[DISPATCH_EXPAND_SCALES].storages[0].tensor.view.dim_count != 0 &&
        random_percent(&run->random, 50)) {
        run->combine.params[COMBINE_EXPAND_SCALES] = &run->dispatch.own[DISPATCH_EXPAND_SCALES];
    } else {
        property_cann_ignored(run, &own[COMBINE_EXPAND_SCALES], "combine's expandScales",
                              is_a2 && run->world->shape.two_level);
    }
}

/* After a dispatch that fails the world has no tensors for combine: what it is given then is never looked at. */
static void layout_any(struct property_cann_run *run)
{
    static const int params[][2] = {{COMBINE_EXPERT_IDS, DISPATCH_EXPERT_IDS},
                                    {COMBINE_EP_COUNTS, DISPATCH_EP_COUNTS},
                                    {COMBINE_TP_COUNTS, DISPATCH_TP_COUNTS},
                                    {COMBINE_EXPAND_IDX, DISPATCH_EXPAND_IDX}};
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_tokens *tokens = &run->world->tokens[run->place->index];
    const enum epx_dtype dtype = shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
        run->combine.params[params[i][0]] = &run->dispatch.own[params[i][1]];
    }
    run->combine_reads_dispatch = true;
    layout_matrix(run, COMBINE_EXPAND_X, "combine's expandX", dtype, 1, shape->hidden);
    layout_matrix(run, COMBINE_EXPERT_SCALES, "combine's expertScales", EPX_DTYPE_FP32, tokens->token_count,
                  shape->topk);
    layout_matrix(run, COMBINE_X, "combine's x", dtype, tokens->token_count, shape->hidden);
}

void property_cann_combine_layout(struct property_cann_run *run)
{
    for (int i = 0; i < COMBINE_PARAM_COUNT; i++) {
        run->combine.params[i] = &run->combine.own[i];
    }
    if (run->world->dispatch_error.status != REF_OK) {
        layout_any(run);
    } else {
        layout_rows(run);
        layout_numbers(run);
    }
    layout_ignored(run);
}

void property_cann_combine_fill(struct property_cann_run *run)
{
    const struct ref_shape *shape = &run->world->shape;
    const struct ref_returns *returns = &run->world->returns[run->place->index];
    struct property_cann_tensor *own = run->combine.own;
    const int64_t copies = returns->token_count * shape->topk;
    const struct {
        int param;
        const void *values;
        int64_t elems;
    } inputs[] = {
        {COMBINE_EXPAND_X, returns->expand_x, returns->row_capacity * shape->hidden},
        {COMBINE_EXPERT_IDS, returns->expert_ids, copies},
        {COMBINE_EXPERT_SCALES, returns->expert_scales, copies},
        {COMBINE_EXPAND_IDX, returns->expand_idx, copies},
        {COMBINE_EP_COUNTS, returns->ep_send_counts, run->world->received[run->place->index].count_elems},
        {COMBINE_TP_COUNTS, returns->tp_send_counts, 2},
    };
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (inputs[i].values != NULL && own[inputs[i].param].handle != NULL) {
            property_cann_tensor_fill(&own[inputs[i].param], inputs[i].values, inputs[i].elems);
        }
    }
}

void property_cann_combine_expect(struct property_cann_run *run)
{
    const struct world *world = run->world;
    const int64_t elems = world->returns[run->place->index].token_count * world->shape.hidden;
    property_cann_tensor_expect(&run->combine.own[COMBINE_X], property_cann_storage_count(run), 0,
                                world->x[run->place->index], elems, NULL);
}

aclnnStatus property_cann_combine_prepare(struct property_cann_run *run, aclOpExecutor **executor)
{
    const struct world *world = run->world;
    const struct ref_shape *shape = &world->shape;
    const struct property_cann_place *place = run->place;
    aclTensor *t[COMBINE_PARAM_COUNT];
    uint64_t workspace_bytes = UINT64_MAX;
    const int64_t ignored = random_between(&run->random, -1, 3);
    for (int i = 0; i < COMBINE_PARAM_COUNT; i++) {
        t[i] = run->combine.params[i]->handle;
    }
    const aclnnStatus status = epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize(
        t[COMBINE_EXPAND_X], t[COMBINE_EXPERT_IDS], t[COMBINE_EXPAND_IDX], t[COMBINE_EP_COUNTS],
        t[COMBINE_EXPERT_SCALES], t[COMBINE_TP_COUNTS], t[COMBINE_MASK], t[COMBINE_ACTIVATION_SCALE],
        t[COMBINE_WEIGHT_SCALE], t[COMBINE_GROUP_LIST], t[COMBINE_EXPAND_SCALES], place->name, shape->rank_count,
        place->group_rank, shape->expert_count, property_cann_group_tp(run), property_cann_tp_world_size(world),
        property_cann_tp_rank_id(run), 0, property_cann_shared_expert_num(world), shape->shared_rank_count,
        shape->global_token_count, ignored, shape->comm_quantize ? 2 : 0, ignored, t[COMBINE_X], &workspace_bytes,
        executor);
    return status == 0 && workspace_bytes != 0 ? -1 : status;
}
