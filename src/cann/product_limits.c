/*
 * What a product's operator refuses: attributes and shapes. Each product has its own order, as its device has.
 */
#include "cann/object_set.h"
#include "cann/product_table.h"

#include "base/checked_math.h"

#include <stdio.h>
#include <string.h>

#define LIST_BYTES 96

struct check {
    const struct epx_cann_call *call;
    const struct epx_cann_attributes *attributes;
    const struct epx_cann_operator *op;
    const struct epx_product_limits *limits;
    enum epx_product product;
    bool two_level;
};

typedef enum epx_status (*check_step)(const struct check *check);

static enum epx_status fail_range(const struct check *check, const char *name, int64_t value, int64_t minimum,
                                  int64_t maximum)
{
    return epx_fail(EPX_ERR_INVALID, "%s is %lld, must be in [%lld, %lld] (product %s)", name, (long long)value,
                    (long long)minimum, (long long)maximum, check->limits->name);
}

static enum epx_status in_range(const struct check *check, const char *name, int64_t value, int64_t minimum,
                                int64_t maximum)
{
    return value >= minimum && value <= maximum ? EPX_OK : fail_range(check, name, value, minimum, maximum);
}

static enum epx_status one_of_two(const struct check *check, const char *name, int64_t value, int64_t a, int64_t b)
{
    if (value == a || value == b) {
        return EPX_OK;
    }
    return epx_fail(EPX_ERR_INVALID, "%s is %lld, must be %lld or %lld (product %s)", name, (long long)value,
                    (long long)a, (long long)b, check->limits->name);
}

/* ---- Attributes -------------------------------------------------------------------------------------------------- */

static enum epx_status check_world_size(const struct check *check)
{
    const struct epx_product_limits *limits = check->limits;
    const int64_t size = check->attributes->ep_world_size;
    char list[LIST_BYTES] = "";
    if (!limits->world_sizes) {
        return in_range(check, "epWorldSize", size, 1, EPX_COMM_RANK_MAX);
    }
    for (uint32_t i = 0; i < limits->world_size_count; i++) {
        if (size == limits->world_sizes[i]) {
            return EPX_OK;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%lld", i == 0 ? "" : ", ", (long long)limits->world_sizes[i]);
    }
    return epx_fail(EPX_ERR_INVALID, "epWorldSize is %lld, must be one of %s (product %s)", (long long)size, list,
                    limits->name);
}

static enum epx_status check_tp_world_size(const struct check *check)
{
    return in_range(check, "tpWorldSize", check->attributes->tp_world_size, 0, check->limits->tp_world_max);
}

static enum epx_status check_rank(const struct check *check)
{
    const int64_t rank = check->attributes->ep_rank_id;
    if (rank < 0 || rank >= check->attributes->ep_world_size) {
        return epx_fail(EPX_ERR_INVALID, "epRankId is %lld, must be in [0, %lld), epWorldSize", (long long)rank,
                        (long long)check->attributes->ep_world_size);
    }
    return EPX_OK;
}

static enum epx_status check_tp_rank(const struct check *check)
{
    const struct epx_cann_attributes *attributes = check->attributes;
    if (attributes->tp_world_size < 2) {
        return check->limits->tp_rank_zero ? in_range(check, "tpRankId", attributes->tp_rank_id, 0, 0) : EPX_OK;
    }
    EPX_TRY(in_range(check, "tpRankId", attributes->tp_rank_id, 0, 1));
    if (!attributes->group_tp || attributes->group_tp[0] == '\0') {
        return epx_fail(EPX_ERR_INVALID, "groupTp is %s, must be given with tpWorldSize 2",
                        attributes->group_tp ? "empty" : "null");
    }
    if (strcmp(attributes->group_tp, attributes->group_ep) == 0) {
        return epx_fail(EPX_ERR_INVALID, "groupTp and groupEp are both '%s', must differ with tpWorldSize 2",
                        attributes->group_ep);
    }
    return EPX_OK;
}

static enum epx_status check_shard_type(const struct check *check)
{
    return in_range(check, "expertShardType", check->attributes->expert_shard_type, 0, 0);
}

static enum epx_status check_shared_ranks(const struct check *check)
{
    const struct epx_product_limits *limits = check->limits;
    const int64_t count = check->attributes->shared_expert_rank_num;
    const int64_t world = check->attributes->ep_world_size;
    if (!limits->shared_ranks) {
        return in_range(check, "sharedExpertRankNum", count, 0, 0);
    }
    return in_range(check, "sharedExpertRankNum", count, 0, limits->shared_ranks_divide ? world - 2 : world - 1);
}

static enum epx_status check_shared_division(const struct check *check)
{
    const int64_t count = check->attributes->shared_expert_rank_num;
    const int64_t world = check->attributes->ep_world_size;
    if (check->limits->shared_ranks_divide && count != 0 && world % count != 0) {
        return epx_fail(EPX_ERR_INVALID, "sharedExpertRankNum is %lld, must divide epWorldSize %lld (product %s)",
                        (long long)count, (long long)world, check->limits->name);
    }
    return EPX_OK;
}

static enum epx_status check_shared_experts(const struct check *check)
{
    const int64_t count = check->attributes->shared_expert_num;
    EPX_TRY(in_range(check, "sharedExpertNum", count, 0, 1));
    if (count == 0 && check->attributes->shared_expert_rank_num != 0) {
        return epx_fail(EPX_ERR_INVALID, "sharedExpertNum is 0, must be 1 with sharedExpertRankNum %lld",
                        (long long)check->attributes->shared_expert_rank_num);
    }
    return EPX_OK;
}

static enum epx_status check_expert_count(const struct check *check)
{
    return in_range(check, "moeExpertNum", check->attributes->moe_expert_num, 1, check->limits->expert_max);
}

static enum epx_status check_expert_division(const struct check *check)
{
    const struct epx_cann_attributes *attributes = check->attributes;
    const int64_t ranks = attributes->ep_world_size - attributes->shared_expert_rank_num;
    if (attributes->moe_expert_num % ranks != 0) {
        return epx_fail(EPX_ERR_INVALID,
                        "moeExpertNum is %lld, must be divisible by %lld (epWorldSize - sharedExpertRankNum)",
                        (long long)attributes->moe_expert_num, (long long)ranks);
    }
    if (check->limits->tp_one_expert && attributes->tp_world_size > 1 && attributes->moe_expert_num / ranks > 1) {
        return epx_fail(EPX_ERR_INVALID,
                        "moeExpertNum is %lld, %lld experts a rank, must be 1 with tpWorldSize 2 (product %s)",
                        (long long)attributes->moe_expert_num, (long long)(attributes->moe_expert_num / ranks),
                        check->limits->name);
    }
    return EPX_OK;
}

static enum epx_status check_quant_mode(const struct check *check)
{
    if (check->call->operation != EPX_OPERATION_DISPATCH) {
        return EPX_OK;
    }
    return one_of_two(check, "quantMode", check->attributes->quant_mode, 0, 2);
}

static enum epx_status check_scales(const struct check *check)
{
    if (check->attributes->quant_mode == 0 && check->call->tensors[EPX_CANN_ROLE_SMOOTH_SCALES]) {
        return epx_fail(EPX_ERR_INVALID, "scales is given, must be null with quantMode 0");
    }
    return EPX_OK;
}

static enum epx_status check_token_nums_type(const struct check *check)
{
    if (check->call->operation != EPX_OPERATION_DISPATCH) {
        return EPX_OK;
    }
    return one_of_two(check, "expertTokenNumsType", check->attributes->expert_token_nums_type, 0, 1);
}

static enum epx_status check_comm_quant_mode(const struct check *check)
{
    const int64_t mode = check->attributes->comm_quant_mode;
    EPX_TRY(one_of_two(check, "commQuantMode", mode, 0, 2));
    if (mode != 0 && check->limits->tp_plain_return && check->attributes->tp_world_size > 1) {
        return epx_fail(EPX_ERR_INVALID, "commQuantMode is %lld, must be 0 with tpWorldSize 2 (product %s)",
                        (long long)mode, check->limits->name);
    }
    if (mode != 0 && check->limits->plain_return_only && !check->two_level) {
        return epx_fail(EPX_ERR_INVALID, "commQuantMode is %lld, must be 0 without the two-level exchange (product %s)",
                        (long long)mode, check->limits->name);
    }
    return EPX_OK;
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */

static bool uses(const struct check *check, enum epx_cann_role role)
{
    return epx_product_uses(check->call, check->product, role);
}

static int64_t dim(const struct check *check, enum epx_cann_role role, uint32_t index)
{
    return check->call->tensors[role]->view_dims[index];
}

static const char *name_of(const struct check *check, enum epx_cann_role role)
{
    return check->op->tensor_names[role];
}

static uint32_t dim_count_of(enum epx_cann_role role)
{
    switch (role) {
    case EPX_CANN_ROLE_TOKENS:
    case EPX_CANN_ROLE_EXPERT_IDS:
    case EPX_CANN_ROLE_SMOOTH_SCALES:
    case EPX_CANN_ROLE_EXPERT_SCALES:
    case EPX_CANN_ROLE_EXPAND_X: return 2;
    default: return 1;
    }
}

static enum epx_status check_mask(const struct check *check)
{
    if (check->limits->mask_refused && check->call->tensors[EPX_CANN_ROLE_MASK]) {
        return epx_fail(EPX_ERR_INVALID, "xActiveMask is given, must be null (product %s)", check->limits->name);
    }
    return EPX_OK;
}

/* The program may leave these out, but not in every case. */
static enum epx_status check_presence(const struct check *check)
{
    if (check->attributes->tp_world_size > 1 && !check->call->tensors[EPX_CANN_ROLE_TP_COUNTS]) {
        return epx_fail(EPX_ERR_INVALID, "%s is null, must be given with tpWorldSize 2",
                        name_of(check, EPX_CANN_ROLE_TP_COUNTS));
    }
    if (!check->two_level || !check->limits->two_level_needs_weights) {
        return EPX_OK;
    }
    static const enum epx_cann_role weights[] = {EPX_CANN_ROLE_EXPERT_SCALES, EPX_CANN_ROLE_EXPAND_SCALES};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        if (!check->call->tensors[weights[i]]) {
            return epx_fail(EPX_ERR_INVALID, "%s is null, must be given with the two-level exchange (product %s)",
                            name_of(check, weights[i]), check->limits->name);
        }
    }
    return EPX_OK;
}

static enum epx_status check_dim_counts(const struct check *check)
{
    const struct epx_cann_operator *op = check->op;
    for (uint32_t i = 0; i < op->input_count + op->output_count; i++) {
        const enum epx_cann_role role = i < op->input_count ? op->inputs[i] : op->outputs[i - op->input_count];
        if (uses(check, role) && check->call->tensors[role]->view_dim_count != dim_count_of(role)) {
            return epx_fail(EPX_ERR_SHAPE, "%s has %u dimensions, must have %u", op->tensor_names[role],
                            check->call->tensors[role]->view_dim_count, dim_count_of(role));
        }
    }
    return EPX_OK;
}

static enum epx_status check_hidden(const struct check *check)
{
    const int64_t hidden = epx_product_hidden(check->call);
    EPX_TRY(in_range(check, "H", hidden, check->limits->hidden_min, check->limits->hidden_max));
    if (hidden % check->limits->hidden_multiple != 0) {
        return epx_fail(EPX_ERR_INVALID, "H is %lld, must be a multiple of %lld (product %s)", (long long)hidden,
                        (long long)check->limits->hidden_multiple, check->limits->name);
    }
    return EPX_OK;
}

static enum epx_status check_token_count(const struct check *check)
{
    return in_range(check, "BS", epx_product_token_count(check->call), check->limits->token_min,
                    check->limits->token_max);
}

static enum epx_status check_topk(const struct check *check)
{
    return in_range(check, "K", epx_product_topk(check->call), 1, check->limits->topk_max);
}

static enum epx_status check_topk_of_experts(const struct check *check)
{
    const int64_t topk = epx_product_topk(check->call);
    if (topk > check->attributes->moe_expert_num) {
        return epx_fail(EPX_ERR_INVALID, "K is %lld, must be at most moeExpertNum %lld", (long long)topk,
                        (long long)check->attributes->moe_expert_num);
    }
    return EPX_OK;
}

/* The two-level exchange is not held to the list: it needs no more than a bound. */
static bool in_global_bs_list(const struct check *check, int64_t equal)
{
    const int64_t unequal = check->limits->global_bs_unequal;
    const int64_t global_bs = check->attributes->global_bs;
    return unequal == 0 || check->two_level || global_bs == equal ||
           global_bs == unequal * check->attributes->ep_world_size;
}

static enum epx_status check_global_bs(const struct check *check)
{
    const int64_t global_bs = check->attributes->global_bs;
    const int64_t world = check->attributes->ep_world_size;
    const int64_t equal = epx_product_token_count(check->call) * world; /* both have been checked */
    if (global_bs == 0) {
        return EPX_OK;
    }
    if (!in_global_bs_list(check, equal)) {
        return epx_fail(EPX_ERR_INVALID,
                        "globalBs is %lld, must be 0, %lld (BS * epWorldSize) or, with unequal BS, %lld (product %s)",
                        (long long)global_bs, (long long)equal, (long long)(check->limits->global_bs_unequal * world),
                        check->limits->name);
    }
    if (global_bs < equal || global_bs < 0) {
        return epx_fail(EPX_ERR_INVALID, "globalBs is %lld, must be 0 or at least %lld (BS * epWorldSize)",
                        (long long)global_bs, (long long)equal);
    }
    if (check->limits->global_bs_multiple && global_bs % world != 0) {
        return epx_fail(EPX_ERR_INVALID, "globalBs is %lld, must be a multiple of epWorldSize %lld (product %s)",
                        (long long)global_bs, (long long)world, check->limits->name);
    }
    return EPX_OK;
}

/* ---- Shapes: rows and columns ------------------------------------------------------------------------------------ */

static enum epx_status at_least(const struct check *check, enum epx_cann_role role, uint32_t index, int64_t minimum,
                                const char *what)
{
    if (dim(check, role, index) >= minimum) {
        return EPX_OK;
    }
    return epx_fail(EPX_ERR_SHAPE, "dimension %u of %s is %lld, must be at least %lld (%s)", index,
                    name_of(check, role), (long long)dim(check, role, index), (long long)minimum, what);
}

static enum epx_status equal(const struct check *check, enum epx_cann_role role, uint32_t index, int64_t value,
                             const char *what)
{
    if (dim(check, role, index) == value) {
        return EPX_OK;
    }
    return epx_fail(EPX_ERR_SHAPE, "dimension %u of %s is %lld, must be %lld (%s)", index, name_of(check, role),
                    (long long)dim(check, role, index), (long long)value, what);
}

static enum epx_status check_tokens_shape(const struct check *check)
{
    const int64_t token_count = epx_product_token_count(check->call);
    EPX_TRY(at_least(check, EPX_CANN_ROLE_TOKENS, 0, token_count, "BS, the rows of expertIds"));
    EPX_TRY(equal(check, EPX_CANN_ROLE_TOKENS, 1, epx_product_hidden(check->call), "H"));
    if (check->limits->exact_outputs && check->call->operation == EPX_OPERATION_COMBINE) {
        EPX_TRY(equal(check, EPX_CANN_ROLE_TOKENS, 0, token_count, "BS"));
    }
    if (uses(check, EPX_CANN_ROLE_EXPERT_SCALES)) {
        EPX_TRY(equal(check, EPX_CANN_ROLE_EXPERT_SCALES, 0, token_count, "BS"));
        EPX_TRY(equal(check, EPX_CANN_ROLE_EXPERT_SCALES, 1, epx_product_topk(check->call), "K"));
    }
    return EPX_OK;
}

/* Without shared ranks row e is expert e's, with them row e + 1. docs/cann.md row 12. */
static enum epx_status check_scales_shape(const struct check *check)
{
    const struct epx_cann_attributes *attributes = check->attributes;
    if (!uses(check, EPX_CANN_ROLE_SMOOTH_SCALES)) {
        return EPX_OK;
    }
    const int64_t rows = dim(check, EPX_CANN_ROLE_SMOOTH_SCALES, 0);
    const int64_t expected = attributes->moe_expert_num + (attributes->shared_expert_rank_num != 0 ? 1 : 0);
    const bool page_rows =
        attributes->shared_expert_rank_num == 0 && rows == attributes->moe_expert_num + attributes->shared_expert_num;
    if (rows != expected && !page_rows) {
        return epx_fail(EPX_ERR_SHAPE, "dimension 0 of scales is %lld, must be %lld (moeExpertNum%s)", (long long)rows,
                        (long long)expected, attributes->shared_expert_rank_num != 0 ? " + 1" : "");
    }
    return equal(check, EPX_CANN_ROLE_SMOOTH_SCALES, 1, epx_product_hidden(check->call), "H");
}

static enum epx_status check_rows(const struct check *check)
{
    EPX_TRY(equal(check, EPX_CANN_ROLE_EXPAND_X, 1, epx_product_hidden(check->call), "H"));
    if (!check->limits->row_minimum) {
        return EPX_OK;
    }
    const int64_t tp_ranks = epx_max_i64(check->attributes->tp_world_size, 1);
    int64_t rows;
    if (!epx_mul_i64(epx_product_row_min(check->call), tp_ranks, &rows)) {
        rows = INT64_MAX;
    }
    EPX_TRY(at_least(check, EPX_CANN_ROLE_EXPAND_X, 0, rows, "A"));
    if (uses(check, EPX_CANN_ROLE_DYNAMIC_SCALES)) {
        EPX_TRY(at_least(check, EPX_CANN_ROLE_DYNAMIC_SCALES, 0, rows, "A"));
    }
    if (uses(check, EPX_CANN_ROLE_EXPAND_SCALES)) {
        EPX_TRY(at_least(check, EPX_CANN_ROLE_EXPAND_SCALES, 0, rows, "A"));
    }
    return EPX_OK;
}

static enum epx_status check_exact(const struct check *check, enum epx_cann_role role, int64_t value, const char *what)
{
    if (!uses(check, role)) {
        return EPX_OK;
    }
    return check->limits->exact_outputs ? equal(check, role, 0, value, what) : at_least(check, role, 0, value, what);
}

static enum epx_status check_counts(const struct check *check)
{
    const struct epx_cann_attributes *attributes = check->attributes;
    const int64_t local = epx_product_local_experts(attributes);
    const int64_t tp_ranks = epx_max_i64(attributes->tp_world_size, 1);
    EPX_TRY(check_exact(check, EPX_CANN_ROLE_EXPAND_IDX,
                        epx_product_token_count(check->call) * epx_product_topk(check->call), "BS * K"));
    EPX_TRY(check_exact(check, EPX_CANN_ROLE_TOKEN_NUMS, local, "local experts"));
    EPX_TRY(at_least(check, EPX_CANN_ROLE_EP_COUNTS, 0, attributes->ep_world_size * local * tp_ranks,
                     "epWorldSize * local experts * max(tpWorldSize, 1)"));
    return check_exact(check, EPX_CANN_ROLE_TP_COUNTS, 2, "tpWorldSize");
}

/* docs/cann.md row 4: without TP the length counts only where tpWorldSize says 1. */
static enum epx_status check_tp_counts_without_tp(const struct check *check)
{
    const struct aclTensor *counts = check->call->tensors[EPX_CANN_ROLE_TP_COUNTS];
    if (!check->limits->exact_outputs || check->attributes->tp_world_size != 1 || !counts) {
        return EPX_OK;
    }
    if (!epx_object_alive(counts, EPX_OBJECT_TENSOR) || counts->view_dim_count != 1 || counts->view_dims[0] != 1) {
        return epx_fail(EPX_ERR_SHAPE, "%s must have the one dimension tpWorldSize 1 (product %s)",
                        name_of(check, EPX_CANN_ROLE_TP_COUNTS), check->limits->name);
    }
    return EPX_OK;
}

/* ---- Orders ------------------------------------------------------------------------------------------------------ */

static const check_step order_a3[] = {
    check_world_size,
    check_tp_world_size,
    check_rank,
    check_tp_rank,
    check_shard_type,
    check_shared_ranks,
    check_expert_count,
    check_quant_mode,
    check_comm_quant_mode,
    check_shared_experts,
    check_token_nums_type,
    check_scales,
    check_mask,
    check_presence,
    check_dim_counts,
    check_shared_division,
    check_expert_division,
    check_token_count,
    check_global_bs,
    check_topk_of_experts,
    check_hidden,
    check_topk,
    check_tokens_shape,
    check_scales_shape,
    check_rows,
    check_counts,
    check_tp_counts_without_tp,
};

static const check_step order_a2[] = {
    check_dim_counts,
    check_hidden,
    check_token_count,
    check_topk,
    check_scales,
    check_world_size,
    check_rank,
    check_expert_count,
    check_shard_type,
    check_tp_world_size,
    check_tp_rank,
    check_shared_ranks,
    check_shared_experts,
    check_expert_division,
    check_quant_mode,
    check_comm_quant_mode,
    check_token_nums_type,
    check_presence,
    check_topk_of_experts,
    check_global_bs,
    check_tokens_shape,
    check_scales_shape,
    check_rows,
    check_counts,
};

enum epx_status epx_product_check_limits(const struct epx_cann_call *call, enum epx_product product)
{
    const struct check check = {
        .call = call,
        .attributes = &call->attributes,
        .op = epx_cann_operator_describe(call->operation),
        .limits = epx_product_limits_of(product),
        .product = product,
        .two_level = epx_product_two_level(product),
    };
    const check_step *order = product == EPX_PRODUCT_A2 ? order_a2 : order_a3;
    const size_t count =
        product == EPX_PRODUCT_A2 ? sizeof order_a2 / sizeof order_a2[0] : sizeof order_a3 / sizeof order_a3[0];
    for (size_t i = 0; i < count; i++) {
        EPX_TRY(order[i](&check));
    }
    return EPX_OK;
}
