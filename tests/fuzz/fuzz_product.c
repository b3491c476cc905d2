/*
 * Any bytes as one call of a first phase: attributes and tensors of any kind and size, under each product. Accepted, or
 * refused with a text; no arithmetic on what was accepted goes over. The bytes are changes to a call that is right.
 */
#include "cann/exports_acl.h"
#include "cann/object_set.h"
#include "cann/product_table.h"
#include "fuzz/fake_environment.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define CHANGE_MAX 16u

static struct aclTensor tensors[EPX_CANN_ROLE_COUNT];

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void tensor_set(enum epx_cann_role role, aclDataType type, int64_t rows, int64_t columns)
{
    tensors[role] = (struct aclTensor){.magic = EPX_CANN_TENSOR_MAGIC,
                                       .data_type = type,
                                       .format = ACL_FORMAT_ND,
                                       .view_dim_count = columns > 0 ? 2 : 1,
                                       .view_dims = {rows, columns},
                                       .strides = {columns > 0 ? columns : 1, 1}};
}

/* W 16, BS 2, K 2, E 16, H 7168: right under each product. */
static void call_init(struct epx_cann_call *call, bool dispatch, bool two_level)
{
    const struct epx_cann_operator *op;
    static uint64_t workspace_bytes;
    static aclOpExecutor *executor;
    *call = (struct epx_cann_call){.operation = dispatch ? EPX_OPERATION_DISPATCH : EPX_OPERATION_COMBINE,
                                   .attributes = {.group_ep = "group",
                                                  .ep_world_size = 16,
                                                  .ep_rank_id = 3,
                                                  .moe_expert_num = 16,
                                                  .group_tp = "",
                                                  .shared_expert_num = 1},
                                   .workspace_bytes = &workspace_bytes,
                                   .executor = &executor};
    op = epx_cann_operator_describe(call->operation);
    tensor_set(EPX_CANN_ROLE_TOKENS, ACL_BF16, 2, 7168);
    tensor_set(EPX_CANN_ROLE_EXPERT_IDS, ACL_INT32, 2, 2);
    tensor_set(EPX_CANN_ROLE_SMOOTH_SCALES, ACL_FLOAT, 16, 7168);
    tensor_set(EPX_CANN_ROLE_EXPERT_SCALES, ACL_FLOAT, 2, 2);
    tensor_set(EPX_CANN_ROLE_EXPAND_X, ACL_BF16, 32, 7168);
    tensor_set(EPX_CANN_ROLE_DYNAMIC_SCALES, ACL_FLOAT, 32, 0);
    tensor_set(EPX_CANN_ROLE_EXPAND_IDX, ACL_INT32, 4, 0);
    tensor_set(EPX_CANN_ROLE_TOKEN_NUMS, ACL_INT64, 1, 0);
    tensor_set(EPX_CANN_ROLE_EP_COUNTS, ACL_INT32, 16, 0);
    tensor_set(EPX_CANN_ROLE_TP_COUNTS, ACL_INT32, 1, 0);
    tensor_set(EPX_CANN_ROLE_EXPAND_SCALES, ACL_FLOAT, 32, 0);
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        bool given = op->tensor_names[role] != NULL && role != EPX_CANN_ROLE_SMOOTH_SCALES &&
                     role != EPX_CANN_ROLE_MASK && role < EPX_CANN_ROLE_IGNORED_0;
        call->tensors[role] = given ? &tensors[role] : NULL;
    }
    fake_environment_set("HCCL_INTRA_PCIE_ENABLE", two_level ? "1" : NULL);
    fake_environment_set("HCCL_INTRA_ROCE_ENABLE", two_level ? "0" : NULL);
}

struct change {
    uint8_t kind;
    uint8_t at;
    uint16_t scale; /* the value's shift to the left, and whether it is negated */
    int32_t value;
};

static int64_t value_of(const struct change *change)
{
    uint64_t value = (uint64_t)(int64_t)change->value << (change->scale & 63);
    return (int64_t)((change->scale & 64) != 0 ? value - 1 : value);
}

static void attribute_set(struct epx_cann_attributes *attributes, uint8_t at, int64_t value)
{
    static char long_name[200];
    int64_t *const numbers[] = {&attributes->ep_world_size,
                                &attributes->ep_rank_id,
                                &attributes->moe_expert_num,
                                &attributes->tp_world_size,
                                &attributes->tp_rank_id,
                                &attributes->expert_shard_type,
                                &attributes->shared_expert_num,
                                &attributes->shared_expert_rank_num,
                                &attributes->global_bs,
                                &attributes->quant_mode,
                                &attributes->expert_token_nums_type,
                                &attributes->comm_quant_mode};
    uint32_t place = at % (sizeof numbers / sizeof numbers[0] + 2);
    if (place < sizeof numbers / sizeof numbers[0]) {
        *numbers[place] = value;
        return;
    }
    memset(long_name, 'n', sizeof long_name);
    long_name[(uint64_t)value % sizeof long_name] = '\0';
    *(place % 2 == 0 ? &attributes->group_ep : &attributes->group_tp) = value == -1 ? NULL : long_name;
}

static void change_apply(struct epx_cann_call *call, const struct change *change)
{
    struct aclTensor *tensor = &tensors[change->at % EPX_CANN_ROLE_COUNT];
    int64_t value = value_of(change);
    switch (change->kind % 8) {
    case 0: attribute_set(&call->attributes, change->at, value); break;
    case 1: tensor->view_dims[0] = value < 0 ? 0 : value; break;
    case 2: tensor->view_dims[1] = value < 0 ? 0 : value; break;
    case 3: tensor->view_dim_count = (uint32_t)value % 9; break;
    case 4: tensor->data_type = (aclDataType)(value % 40); break;
    case 5: tensor->format = (aclFormat)(value % 40); break;
    case 6: call->tensors[change->at % EPX_CANN_ROLE_COUNT] = NULL; break;
    default: call->tensors[change->at % EPX_CANN_ROLE_COUNT] = tensor; break;
    }
}

static void try_call(const struct epx_cann_call *call, enum epx_product product)
{
    epx_error_text_set("");
    if (epx_product_check_call(call, product) != EPX_OK || epx_product_check_limits(call, product) != EPX_OK) {
        require(epx_error_text()[0] != '\0');
        return;
    }
    require(call->attributes.ep_rank_id >= 0 && call->attributes.ep_rank_id < call->attributes.ep_world_size);
    require(epx_product_local_experts(&call->attributes) >= 1);
    require(epx_product_check_buffer(call, product, UINT32_MAX) == EPX_OK || epx_error_text()[0] != '\0');
    (void)epx_product_row_min(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool registered;
    struct epx_cann_call call;
    struct change change;
    for (int role = 0; !registered && role < EPX_CANN_ROLE_COUNT; role++) {
        require(epx_object_add(&tensors[role], EPX_OBJECT_TENSOR));
    }
    registered = true;
    if (bytes == 0) {
        return 0;
    }
    call_init(&call, (data[0] & 1) != 0, (data[0] & 2) != 0);
    enum epx_product product = (enum epx_product)((data[0] >> 2) % EPX_PRODUCT_COUNT);
    data++;
    bytes--;
    for (uint32_t i = 0; i < CHANGE_MAX && bytes >= sizeof change; i++) {
        memcpy(&change, data, sizeof change);
        change_apply(&call, &change);
        data += sizeof change;
        bytes -= sizeof change;
    }
    try_call(&call, product);
    fake_environment_forget();
    return 0;
}
