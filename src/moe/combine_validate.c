#include "moe/combine_validate.h"

static void add_rows(struct epx_tensor_rules *rules, const char *name, struct epx_view *view, enum epx_dtype dtype,
                     int64_t row_min, int64_t columns, bool output)
{
    const struct epx_tensor_rule rule = {.name = name,
                                         .view = view,
                                         .dtype = dtype,
                                         .dim_count = 2,
                                         .row_min = row_min,
                                         .row_max = INT64_MAX,
                                         .columns = columns,
                                         .row_is = "BS",
                                         .column_is = "H",
                                         .output = output};
    epx_tensor_rule_add(rules, &rule);
}

static void add_token_table(struct epx_tensor_rules *rules, const char *name, struct epx_view *view,
                            enum epx_dtype dtype, int64_t token_count, int64_t topk)
{
    const struct epx_tensor_rule rule = {.name = name,
                                         .view = view,
                                         .dtype = dtype,
                                         .dim_count = 2,
                                         .row_min = token_count,
                                         .row_max = token_count,
                                         .columns = topk,
                                         .row_is = "BS",
                                         .column_is = "K"};
    epx_tensor_rule_add(rules, &rule);
}

static void add_vector(struct epx_tensor_rules *rules, const char *name, struct epx_view *view, int64_t elem_min,
                       const char *elem_is)
{
    const struct epx_tensor_rule rule = {.name = name,
                                         .view = view,
                                         .dtype = EPX_DTYPE_INT32,
                                         .dim_count = 1,
                                         .row_min = elem_min,
                                         .row_max = INT64_MAX,
                                         .row_is = elem_is};
    epx_tensor_rule_add(rules, &rule);
}

void epx_combine_rules_init(struct epx_tensor_rules *rules, const struct epx_moe_shape *shape,
                            const struct epx_moe_world *world, int64_t token_count, struct epx_combine_tensors *tensors)
{
    int64_t blocks = world->rank_count * world->local_experts;
    rules->count = 0;
    add_rows(rules, "expandX", &tensors->expand_x, shape->dtype, 0, world->hidden_elems, false);
    add_token_table(rules, "expertIds", &tensors->expert_ids, EPX_DTYPE_INT32, token_count, world->topk);
    if (!world->two_level) {
        add_vector(rules, "expandIdx", &tensors->expand_idx, token_count * world->topk, "BS * K");
    }
    add_vector(rules, "epSendCounts", &tensors->ep_send_counts, world->tp ? 2 * blocks : blocks,
               world->tp ? "epWorldSize * local experts * tpWorldSize" : "epWorldSize * local experts");
    add_token_table(rules, "expertScales", &tensors->expert_scales, EPX_DTYPE_FP32, token_count, world->topk);
    if (world->tp) {
        add_vector(rules, "tpSendCounts", &tensors->tp_send_counts, 2, "tpWorldSize");
    }
    add_rows(rules, "x", &tensors->x, shape->dtype, token_count, world->hidden_elems, true);
}

enum epx_status epx_combine_validate(const struct epx_combine_request *request, struct epx_moe_world *world)
{
    struct epx_combine_tensors tensors = request->tensors;
    struct epx_tensor_rules rules;
    EPX_TRY(epx_moe_shape_check(&request->shape, request->token_count, request->comm, request->tp_comm, world));
    epx_combine_rules_init(&rules, &request->shape, world, request->token_count, &tensors);
    return epx_tensor_rules_check(&rules);
}
