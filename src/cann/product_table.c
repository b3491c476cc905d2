#include "cann/product_table.h"

#include "base/checked_math.h"
#include "base/config.h"

#include <string.h>

#define DEVICE_ID_MAX_OF_CHIP 15 /* rank table rules: device_id of A2 and A3 */
#define MIB                   (INT64_C(1) << 20)

/* page: epWorldSize, A2; row 7. */
static const int64_t a2_world_sizes[] = {16, 32, 64};
/* page: epWorldSize, A3; device: tiling A3 order 4, the same by W <= 288, W % 8, and 256 % W or W % 144. */
static const int64_t a3_world_sizes[] = {8, 16, 32, 64, 128, 144, 256, 288};

/* What is not named for a product is 0 or false: not asked for. */
static const struct epx_product_limits product_limits[EPX_PRODUCT_COUNT] = {
    [EPX_PRODUCT_HOST] =
        {
            .name = "host",
            .world_sizes = NULL,              /* the communicator's limit */
            .expert_max = INT32_MAX,          /* an id is INT32 */
            .hidden_min = 1,                  /* page: H, 0 excluded */
            .hidden_max = INT32_MAX,          /* none of page or device: 63 bits hold all sizes made of it */
            .hidden_multiple = 1,             /* none */
            .token_min = 0,                   /* none: a rank may have no token */
            .token_max = INT32_MAX,           /* as hidden_max */
            .topk_max = INT32_MAX,            /* page: K, at most moeExpertNum; row 9 */
            .tp_world_max = 2,                /* page: tpWorldSize */
            .knows_two_level = true,          /* page: HCCL_INTRA_PCIE_ENABLE */
            .shared_ranks = true,             /* page: sharedExpertRankNum */
            .buffer = EPX_PRODUCT_BUFFER_ANY, /* row 15 */
        },
    [EPX_PRODUCT_A2] =
        {
            .name = "A2",
            .world_sizes = a2_world_sizes,
            .world_size_count = sizeof a2_world_sizes / sizeof a2_world_sizes[0],
            .expert_max = 512,               /* page: moeExpertNum; device: tiling A2 order 9; row 17 */
            .hidden_min = 1,                 /* page: H, A2; device: tiling A2 order 2 */
            .hidden_max = 7168,              /* the same */
            .hidden_multiple = 32,           /* the same */
            .token_min = 1,                  /* page: BS, A2; device: tiling A2 order 3 */
            .token_max = 256,                /* the same */
            .topk_max = 8,                   /* page: K; row 8 */
            .tp_world_max = 1,               /* page: tpWorldSize, A2; row 19 */
            .knows_two_level = true,         /* page: HCCL_INTRA_PCIE_ENABLE */
            .two_level_needs_weights = true, /* page: expertScales, expandScales, A2; row 18 */
            .plain_return_only = true,       /* device: tiling A2 of combine order 9, commQuantMode; row 20 */
            .global_bs_unequal = 256,        /* page: globalBs, A2; row 10 */
            .row_minimum = true,             /* page: A; row 11 */
            .buffer = EPX_PRODUCT_BUFFER_A2, /* page: HCCL_BUFFSIZE, A2; row 15 */
        },
    [EPX_PRODUCT_A3] =
        {
            .name = "A3",
            .world_sizes = a3_world_sizes,
            .world_size_count = sizeof a3_world_sizes / sizeof a3_world_sizes[0],
            .expert_max = 512,               /* page: moeExpertNum; device: tiling A3 order 1 */
            .hidden_min = 7168,              /* page: H, A3; device: tiling A3 order 5 */
            .hidden_max = 7168,              /* the same */
            .hidden_multiple = 1,            /* the same */
            .token_min = 1,                  /* page: BS, A3; device: tiling A3 order 4 */
            .token_max = 512,                /* the same */
            .topk_max = 8,                   /* page: K; device: tiling A3 order 5 */
            .tp_world_max = 2,               /* page: tpWorldSize, A3; device: tiling A3 order 1 */
            .shared_ranks = true,            /* page: sharedExpertRankNum, A3 */
            .shared_ranks_divide = true,     /* the same; device: tiling A3 order 4; row 6 */
            .tp_one_expert = true,           /* page: localExpertNum, one with TP; device: tiling A3 order 5 */
            .tp_plain_return = true,         /* device: tiling A3 of combine, commQuantMode */
            .tp_rank_zero = true,            /* page: tpRankId, A3; device: tiling A3 order 1 */
            .checks_group_tp = true,         /* page: groupTp, A3; device: interface order 6; row 21 */
            .mask_refused = true,            /* device: tiling A3 order 3; row 2 */
            .global_bs_multiple = true,      /* device: tiling A3 order 4; row 10 */
            .row_minimum = true,             /* page: A; device: tiling A3 order 5; row 11 */
            .exact_outputs = true,           /* page: expandIdx, expertTokenNums, tpRecvCounts; device: the same */
            .buffer = EPX_PRODUCT_BUFFER_A3, /* page: HCCL_BUFFSIZE, A3; row 15 */
        },
};

const struct epx_product_limits *epx_product_limits_of(enum epx_product product)
{
    return &product_limits[product];
}

enum epx_status epx_product_current(enum epx_product *product)
{
    int64_t value;
    EPX_TRY(epx_option_integer(EPX_OPTION_PRODUCT, &value));
    *product = (enum epx_product)value;
    return EPX_OK;
}

enum epx_status epx_product_device_id_max(uint32_t *device_id_max)
{
    enum epx_product product;
    int64_t device_count;
    EPX_TRY(epx_product_current(&product));
    EPX_TRY(epx_option_integer(EPX_OPTION_DEVICE_COUNT, &device_count));
    *device_id_max = product == EPX_PRODUCT_HOST ? (uint32_t)(device_count - 1) : DEVICE_ID_MAX_OF_CHIP;
    return EPX_OK;
}

/* device: as each first phase runs, both variables set, compared as texts. */
bool epx_product_two_level(enum epx_product product)
{
    return product_limits[product].knows_two_level && epx_option_is_set(EPX_OPTION_HCCL_INTRA_PCIE_ENABLE) &&
           epx_option_is_set(EPX_OPTION_HCCL_INTRA_ROCE_ENABLE) &&
           strcmp(epx_option_text(EPX_OPTION_HCCL_INTRA_PCIE_ENABLE), "1") == 0 &&
           strcmp(epx_option_text(EPX_OPTION_HCCL_INTRA_ROCE_ENABLE), "0") == 0;
}

bool epx_product_uses(const struct epx_cann_call *call, enum epx_product product, enum epx_cann_role role)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    const bool dispatch = call->operation == EPX_OPERATION_DISPATCH;
    if (!call->tensors[role]) {
        return false;
    }
    switch (role) {
    case EPX_CANN_ROLE_SMOOTH_SCALES: return attributes->quant_mode != 0 && !epx_product_two_level(product);
    case EPX_CANN_ROLE_DYNAMIC_SCALES: return attributes->quant_mode == 2;
    case EPX_CANN_ROLE_EXPERT_SCALES: return !dispatch || epx_product_two_level(product);
    case EPX_CANN_ROLE_EXPAND_IDX: return !epx_product_two_level(product);
    case EPX_CANN_ROLE_EXPAND_SCALES: return dispatch && epx_product_two_level(product);
    case EPX_CANN_ROLE_TP_COUNTS: return attributes->tp_world_size == 2;
    case EPX_CANN_ROLE_MASK:
    case EPX_CANN_ROLE_IGNORED_0:
    case EPX_CANN_ROLE_IGNORED_1:
    case EPX_CANN_ROLE_IGNORED_2: return false;
    default: return true;
    }
}

int64_t epx_product_local_experts(const struct epx_cann_attributes *attributes)
{
    const int64_t moe_ranks = attributes->ep_world_size - attributes->shared_expert_rank_num;
    return attributes->ep_rank_id < attributes->shared_expert_rank_num ? 1 : attributes->moe_expert_num / moe_ranks;
}

int64_t epx_product_token_count(const struct epx_cann_call *call)
{
    return call->tensors[EPX_CANN_ROLE_EXPERT_IDS]->view_dims[0];
}

int64_t epx_product_topk(const struct epx_cann_call *call)
{
    return call->tensors[EPX_CANN_ROLE_EXPERT_IDS]->view_dims[1];
}

int64_t epx_product_hidden(const struct epx_cann_call *call)
{
    const bool dispatch = call->operation == EPX_OPERATION_DISPATCH;
    return call->tensors[dispatch ? EPX_CANN_ROLE_TOKENS : EPX_CANN_ROLE_EXPAND_X]->view_dims[1];
}

int64_t epx_product_global_bs(const struct epx_cann_call *call)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    return attributes->global_bs != 0 ? attributes->global_bs
                                      : epx_product_token_count(call) * attributes->ep_world_size;
}

int64_t epx_product_row_min(const struct epx_cann_call *call)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    const int64_t global_bs = epx_product_global_bs(call);
    if (attributes->ep_rank_id < attributes->shared_expert_rank_num) {
        return global_bs / attributes->shared_expert_rank_num;
    }
    const int64_t copies = epx_min_i64(epx_product_local_experts(attributes), epx_product_topk(call));
    int64_t rows;
    return epx_mul_i64(global_bs, copies, &rows) ? rows : INT64_MAX;
}

static int64_t buffer_need_a2(const struct epx_cann_call *call, bool two_level)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    const int64_t tokens = epx_product_token_count(call);
    const int64_t topk = epx_product_topk(call);
    const int64_t hidden = epx_product_hidden(call);
    if (two_level) {
        return attributes->moe_expert_num * tokens * (hidden * 2 + 4 * topk * 4) + 4 * MIB + 100 * MIB;
    }
    const int64_t copies = epx_min_i64(epx_product_local_experts(attributes), topk);
    return 2 * (tokens * attributes->ep_world_size * copies * hidden * 2 + 2 * MIB);
}

/* The page's condition 2^20 * (B - 2) / 2 >= need, solved for the bytes of B. */
static int64_t buffer_need_a3(const struct epx_cann_call *call)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    const int64_t rows = attributes->ep_world_size * epx_product_local_experts(attributes) + epx_product_topk(call) + 1;
    return 2 * (epx_product_token_count(call) * 2 * (epx_product_hidden(call) + 128) * rows) + 2 * MIB;
}

enum epx_status epx_product_check_buffer(const struct epx_cann_call *call, enum epx_product product,
                                         uint32_t buffer_mib)
{
    const struct epx_product_limits *limits = &product_limits[product];
    if (limits->buffer == EPX_PRODUCT_BUFFER_ANY) {
        return EPX_OK;
    }
    const int64_t need = limits->buffer == EPX_PRODUCT_BUFFER_A2 ? buffer_need_a2(call, epx_product_two_level(product))
                                                                 : buffer_need_a3(call);
    const int64_t given = (int64_t)buffer_mib * MIB;
    if (given < need) {
        return epx_fail(
            EPX_ERR_INVALID,
            "HCCL_BUFFSIZE of the communicator is %u MiB, %lld bytes, must be at least %lld bytes (product %s)",
            buffer_mib, (long long)given, (long long)need, limits->name);
    }
    return EPX_OK;
}
