#include "moe/dispatch_validate.h"

#include "moe/view.h"

bool epx_dispatch_is_smooth(const struct epx_moe_shape *shape, const struct epx_dispatch_tensors *tensors)
{
    return shape->quantization == EPX_QUANTIZATION_DYNAMIC_INT8 && shape->algorithm == EPX_ALGORITHM_FULL_MESH &&
           epx_view_present(&tensors->smooth_scales);
}

static void add_inputs(struct epx_tensor_rules *rules, const struct epx_moe_shape *shape,
                       const struct epx_moe_world *world, int64_t token_count, struct epx_dispatch_tensors *tensors)
{
    int64_t hidden = world->hidden_elems;
    bool shared = world->shared_count > 0;
    int64_t scale_rows = world->expert_count + (shared ? 1 : 0);
    const struct epx_tensor_rule x = {"x",       &tensors->x, shape->dtype, 2,   token_count,
                                      INT64_MAX, hidden,      "BS",         "H", .output = false};
    const struct epx_tensor_rule ids = {"expertIds", &tensors->expert_ids, EPX_DTYPE_INT32, 2,
                                        token_count, token_count,          world->topk,     "BS",
                                        "K",         .output = false};
    const struct epx_tensor_rule scales = {"scales",
                                           &tensors->smooth_scales,
                                           EPX_DTYPE_FP32,
                                           2,
                                           scale_rows,
                                           shared ? scale_rows : INT64_MAX,
                                           hidden,
                                           shared ? "moeExpertNum + 1" : "moeExpertNum",
                                           "H",
                                           .output = false};
    const struct epx_tensor_rule weights = {
        "expertScales",  &tensors->expert_scales, EPX_DTYPE_FP32, 2, token_count, token_count, world->topk, "BS", "K",
        .optional = true};
    epx_tensor_rule_add(rules, &x);
    epx_tensor_rule_add(rules, &ids);
    if (epx_dispatch_is_smooth(shape, tensors)) {
        epx_tensor_rule_add(rules, &scales);
    }
    if (world->two_level) {
        epx_tensor_rule_add(rules, &weights);
    }
}

static void add_output(struct epx_tensor_rules *rules, const char *name, struct epx_view *view, enum epx_dtype dtype,
                       int64_t elem_min, const char *elem_is)
{
    const struct epx_tensor_rule rule = {.name = name,
                                         .view = view,
                                         .dtype = dtype,
                                         .dim_count = 1,
                                         .row_min = elem_min,
                                         .row_max = INT64_MAX,
                                         .row_is = elem_is,
                                         .output = true};
    epx_tensor_rule_add(rules, &rule);
}

static void add_outputs(struct epx_tensor_rules *rules, const struct epx_moe_shape *shape,
                        const struct epx_moe_world *world, int64_t token_count, struct epx_dispatch_tensors *tensors)
{
    bool quantized = shape->quantization == EPX_QUANTIZATION_DYNAMIC_INT8;
    int64_t blocks = world->rank_count * world->local_experts;
    const struct epx_tensor_rule expand_x = {.name = "expandX",
                                             .view = &tensors->expand_x,
                                             .dtype = quantized ? EPX_DTYPE_INT8 : shape->dtype,
                                             .dim_count = 2,
                                             .row_min = 0,
                                             .row_max = INT64_MAX,
                                             .columns = world->hidden_elems,
                                             .row_is = "A",
                                             .column_is = "H",
                                             .output = true};
    if (epx_view_present(&tensors->row_views)) {
        add_output(rules, "rows", &tensors->row_views, EPX_DTYPE_INT64, 0, "A");
    } else {
        epx_tensor_rule_add(rules, &expand_x);
    }
    if (quantized) {
        /* Rows are counted against the smaller of expandX and dynamicScales when they are known. */
        add_output(rules, "dynamicScales", &tensors->dynamic_scales, EPX_DTYPE_FP32, 0, "A");
    }
    if (!world->two_level) {
        add_output(rules, "expandIdx", &tensors->expand_idx, EPX_DTYPE_INT32, token_count * world->topk, "BS * K");
    }
    add_output(rules, "expertTokenNums", &tensors->expert_token_nums, EPX_DTYPE_INT64, world->local_experts,
               "local experts");
    add_output(rules, "epRecvCounts", &tensors->ep_recv_counts, EPX_DTYPE_INT32, world->tp ? 2 * blocks : blocks,
               world->tp ? "epWorldSize * local experts * tpWorldSize" : "epWorldSize * local experts");
    if (world->tp) {
        add_output(rules, "tpRecvCounts", &tensors->tp_recv_counts, EPX_DTYPE_INT32, 2, "tpWorldSize");
    }
    if (world->two_level) {
        add_output(rules, "expandScales", &tensors->expand_scales, EPX_DTYPE_FP32, 0, "A");
        rules->rules[rules->count - 1].optional = true;
    }
}

void epx_dispatch_rules_init(struct epx_tensor_rules *rules, const struct epx_moe_shape *shape,
                             const struct epx_moe_world *world, int64_t token_count,
                             struct epx_dispatch_tensors *tensors)
{
    rules->count = 0;
    add_inputs(rules, shape, world, token_count, tensors);
    add_outputs(rules, shape, world, token_count, tensors);
}

enum epx_status epx_dispatch_validate(const struct epx_dispatch_request *request, struct epx_moe_world *world)
{
    struct epx_dispatch_tensors tensors = request->tensors;
    struct epx_tensor_rules rules;
    EPX_TRY(epx_moe_shape_check(&request->shape, request->token_count, request->comm, request->tp_comm, world));
    if (request->token_nums_kind != EPX_TOKEN_NUMS_PREFIX && request->token_nums_kind != EPX_TOKEN_NUMS_COUNT) {
        return epx_fail(EPX_ERR_INVALID, "expertTokenNumsType is %d, must be 0 or 1", (int)request->token_nums_kind);
    }
    if (request->shape.quantization == EPX_QUANTIZATION_NONE && epx_view_present(&tensors.smooth_scales)) {
        return epx_fail(EPX_ERR_INVALID, "scales is given, must be null with quantMode 0");
    }
    epx_dispatch_rules_init(&rules, &request->shape, world, request->token_count, &tensors);
    return epx_tensor_rules_check(&rules);
}
