/*
 * What the device's interface layer and framework refuse before an operator sees a call: null pointers, group names,
 * dtypes.
 */
#include "cann/object_set.h"
#include "cann/product_table.h"

#include <stdio.h>
#include <string.h>

#define GROUP_NAME_MAX 127 /* page: groupEp, groupTp: length in [1, 128) */
#define ALLOWED_MAX    3
#define ALLOWED_BYTES  96

struct allowed_dtypes {
    aclDataType types[ALLOWED_MAX];
    uint32_t count;
};

static const char *dtype_name(aclDataType type)
{
    static const struct {
        aclDataType type;
        const char *name;
    } names[] = {
        {ACL_FLOAT, "ACL_FLOAT"},
        {ACL_FLOAT16, "ACL_FLOAT16"},
        {ACL_INT8, "ACL_INT8"},
        {ACL_INT32, "ACL_INT32"},
        {ACL_UINT8, "ACL_UINT8"},
        {ACL_INT16, "ACL_INT16"},
        {ACL_UINT16, "ACL_UINT16"},
        {ACL_UINT32, "ACL_UINT32"},
        {ACL_INT64, "ACL_INT64"},
        {ACL_UINT64, "ACL_UINT64"},
        {ACL_DOUBLE, "ACL_DOUBLE"},
        {ACL_BOOL, "ACL_BOOL"},
        {ACL_STRING, "ACL_STRING"},
        {ACL_COMPLEX64, "ACL_COMPLEX64"},
        {ACL_COMPLEX128, "ACL_COMPLEX128"},
        {ACL_BF16, "ACL_BF16"},
        {ACL_INT4, "ACL_INT4"},
        {ACL_UINT1, "ACL_UINT1"},
        {ACL_COMPLEX32, "ACL_COMPLEX32"},
        {ACL_HIFLOAT8, "ACL_HIFLOAT8"},
        {ACL_FLOAT8_E5M2, "ACL_FLOAT8_E5M2"},
        {ACL_FLOAT8_E4M3FN, "ACL_FLOAT8_E4M3FN"},
        {ACL_FLOAT8_E8M0, "ACL_FLOAT8_E8M0"},
        {ACL_FLOAT6_E3M2, "ACL_FLOAT6_E3M2"},
        {ACL_FLOAT6_E2M3, "ACL_FLOAT6_E2M3"},
        {ACL_FLOAT4_E2M1, "ACL_FLOAT4_E2M1"},
        {ACL_FLOAT4_E1M2, "ACL_FLOAT4_E1M2"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].type == type) {
            return names[i].name;
        }
    }
    return "ACL_DT_UNDEFINED";
}

/* The dtypes of page and device, of which only the one that fits the call's others is left. */
static struct allowed_dtypes allowed_for(const struct epx_cann_call *call, enum epx_cann_role role)
{
    const bool dispatch = call->operation == EPX_OPERATION_DISPATCH;
    const struct allowed_dtypes tokens = {{ACL_FLOAT16, ACL_BF16}, 2};
    const enum epx_cann_role leader = dispatch ? EPX_CANN_ROLE_TOKENS : EPX_CANN_ROLE_EXPAND_X;
    switch (role) {
    case EPX_CANN_ROLE_TOKENS:
    case EPX_CANN_ROLE_EXPAND_X:
        if (role == leader) {
            return tokens;
        }
        if (dispatch && call->attributes.quant_mode == 2) {
            return (struct allowed_dtypes){{ACL_INT8}, 1};
        }
        if (dispatch && call->attributes.quant_mode != 0) {
            return (struct allowed_dtypes){{ACL_FLOAT16, ACL_BF16, ACL_INT8}, 3};
        }
        return (struct allowed_dtypes){{call->tensors[leader]->data_type}, 1};
    case EPX_CANN_ROLE_TOKEN_NUMS: return (struct allowed_dtypes){{ACL_INT64}, 1};
    case EPX_CANN_ROLE_SMOOTH_SCALES:
    case EPX_CANN_ROLE_EXPERT_SCALES:
    case EPX_CANN_ROLE_DYNAMIC_SCALES:
    case EPX_CANN_ROLE_EXPAND_SCALES: return (struct allowed_dtypes){{ACL_FLOAT}, 1};
    default: return (struct allowed_dtypes){{ACL_INT32}, 1};
    }
}

static enum epx_status check_dtype(const struct epx_cann_call *call, enum epx_cann_role role, const char *name)
{
    const struct allowed_dtypes allowed = allowed_for(call, role);
    const aclDataType given = call->tensors[role]->data_type;
    char list[ALLOWED_BYTES] = "";
    for (uint32_t i = 0; i < allowed.count; i++) {
        if (given == allowed.types[i]) {
            return EPX_OK;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : " or ", dtype_name(allowed.types[i]));
    }
    return epx_fail(EPX_ERR_DTYPE, "%s has dtype %s (%d), must be %s", name, dtype_name(given), (int)given, list);
}

static bool is_strided_format(aclFormat format)
{
    switch (format) {
    case ACL_FORMAT_ND:
    case ACL_FORMAT_NCHW:
    case ACL_FORMAT_NHWC:
    case ACL_FORMAT_HWCN:
    case ACL_FORMAT_NDHWC:
    case ACL_FORMAT_NCDHW:
    case ACL_FORMAT_NC:
    case ACL_FORMAT_NCL: return true;
    default: return false;
    }
}

static enum epx_status check_tensors(const struct epx_cann_call *call, enum epx_product product)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(call->operation);
    for (uint32_t i = 0; i < op->input_count + op->output_count; i++) {
        const enum epx_cann_role role = i < op->input_count ? op->inputs[i] : op->outputs[i - op->input_count];
        if (epx_product_uses(call, product, role)) {
            EPX_TRY(check_dtype(call, role, op->tensor_names[role]));
        }
    }
    for (uint32_t i = 0; i < op->input_count + op->output_count; i++) {
        const enum epx_cann_role role = i < op->input_count ? op->inputs[i] : op->outputs[i - op->input_count];
        if (epx_product_uses(call, product, role) && !is_strided_format(call->tensors[role]->format)) {
            return epx_fail(EPX_ERR_SHAPE, "%s has format %d, must be ACL_FORMAT_ND (%d)", op->tensor_names[role],
                            (int)call->tensors[role]->format, (int)ACL_FORMAT_ND);
        }
    }
    return EPX_OK;
}

/* A handle that is not a living tensor must not be looked into any further. */
static enum epx_status check_alive(const struct epx_cann_call *call, enum epx_product product)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(call->operation);
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        if (epx_product_uses(call, product, (enum epx_cann_role)role) &&
            !epx_object_alive(call->tensors[role], EPX_OBJECT_TENSOR)) {
            return epx_fail(EPX_ERR_DTYPE, "%s is no tensor, or has been destroyed", op->tensor_names[role]);
        }
    }
    return EPX_OK;
}

static enum epx_status check_nulls(const struct epx_cann_call *call)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(call->operation);
    for (uint32_t i = 0; i < op->required_count; i++) {
        if (!call->tensors[op->required[i]]) {
            return epx_fail(EPX_ERR_NULL, "%s is null", op->tensor_names[op->required[i]]);
        }
    }
    if (!call->attributes.group_ep || call->attributes.group_ep[0] == '\0') {
        return epx_fail(EPX_ERR_NULL, "groupEp is %s", call->attributes.group_ep ? "empty" : "null");
    }
    if (call->attributes.quant_mode == 2 && !call->tensors[EPX_CANN_ROLE_DYNAMIC_SCALES]) {
        return epx_fail(EPX_ERR_NULL, "dynamicScales is null, must be given with quantMode 2");
    }
    return EPX_OK;
}

static enum epx_status check_name_length(const struct epx_cann_call *call, const char *argument, const char *name)
{
    if (name && strnlen(name, GROUP_NAME_MAX + 1) > GROUP_NAME_MAX) {
        return epx_fail(epx_cann_operator_describe(call->operation)->long_group_name,
                        "%s is longer than %d characters: '%.32s...'", argument, GROUP_NAME_MAX, name);
    }
    return EPX_OK;
}

enum epx_status epx_product_check_call(const struct epx_cann_call *call, enum epx_product product)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    EPX_TRY(check_nulls(call));
    EPX_TRY(check_name_length(call, "groupEp", attributes->group_ep));
    if (epx_product_limits_of(product)->checks_group_tp || attributes->tp_world_size > 1) {
        EPX_TRY(check_name_length(call, "groupTp", attributes->group_tp));
    }
    if (!call->workspace_bytes || !call->executor) {
        return epx_fail(EPX_ERR_NULL, "%s is null", call->workspace_bytes ? "executor" : "workspaceSize");
    }
    EPX_TRY(check_alive(call, product));
    return check_tensors(call, product);
}
