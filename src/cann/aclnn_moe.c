#include "cann/aclnn_moe.h"

#include "base/log.h"
#include "cann/acl_state.h"
#include "cann/hccl_state.h"
#include "cann/product.h"
#include "cann/status_map.h"
#include "cann/tensor_view.h"

#include <stdatomic.h>
#include <string.h>

/* The engine works in memory of its own. */
#define WORKSPACE_BYTES 0

static struct epx_moe_shape shape_of(const struct epx_cann_call *call, const struct epx_view *tokens,
                                     const struct epx_view *ids, bool two_level)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    return (struct epx_moe_shape){
        .expert_count = attributes->moe_expert_num,
        .hidden_elems = tokens->shape[1],
        .topk = ids->shape[1],
        .shared_rank_count = attributes->shared_expert_rank_num,
        .shared_expert_count = attributes->shared_expert_num,
        .tp_rank_count = attributes->tp_world_size,
        .global_token_count = attributes->global_bs,
        .dtype = tokens->dtype,
        .quantization = attributes->quant_mode == 2 ? EPX_QUANTIZATION_DYNAMIC_INT8 : EPX_QUANTIZATION_NONE,
        .comm_quantization = attributes->comm_quant_mode == 2 ? EPX_COMM_QUANTIZATION_INT8 : EPX_COMM_QUANTIZATION_NONE,
        .algorithm = two_level ? EPX_ALGORITHM_TWO_LEVEL : EPX_ALGORITHM_FULL_MESH,
    };
}

/* Tensors that the operation does not use stay absent, whatever they are. */
static enum epx_status fill_views(const struct epx_cann_call *call, enum epx_product product,
                                  struct epx_cann_planned *planned)
{
    const struct epx_cann_operator *op = epx_cann_operator_describe(call->operation);
    for (int i = 0; i < EPX_CANN_ROLE_COUNT; i++) {
        const enum epx_cann_role role = (enum epx_cann_role)i;
        struct epx_view *view = epx_cann_planned_view(planned, role);
        if (view && epx_product_uses(call, product, role)) {
            EPX_TRY(
                epx_cann_tensor_view(call->tensors[role], op->tensor_names[role], view, &planned->offset_bytes[role]));
        }
    }
    return EPX_OK;
}

static void fill_request(const struct epx_cann_call *call, enum epx_product product, struct epx_cann_planned *planned)
{
    const bool two_level = epx_product_two_level(product);
    const struct epx_view *ids = epx_cann_planned_view(planned, EPX_CANN_ROLE_EXPERT_IDS);
    if (call->operation == EPX_OPERATION_DISPATCH) {
        struct epx_dispatch_request *request = &planned->request.dispatch;
        request->comm = planned->comm->comm;
        request->tp_comm = planned->tp_comm ? planned->tp_comm->comm : NULL;
        request->shape = shape_of(call, &request->tensors.x, ids, two_level);
        request->token_count = ids->shape[0];
        request->token_nums_kind =
            call->attributes.expert_token_nums_type == 0 ? EPX_TOKEN_NUMS_PREFIX : EPX_TOKEN_NUMS_COUNT;
        return;
    }
    struct epx_combine_request *request = &planned->request.combine;
    request->comm = planned->comm->comm;
    request->tp_comm = planned->tp_comm ? planned->tp_comm->comm : NULL;
    request->shape = shape_of(call, &request->tensors.expand_x, ids, two_level);
    request->token_count = ids->shape[0];
}

static void warn_of_mask(const struct epx_cann_call *call)
{
    static _Atomic bool warned;
    if (call->tensors[EPX_CANN_ROLE_MASK] && epx_cann_first_time(&warned)) {
        epx_log(EPX_LOG_WARN, "%s: xActiveMask is reserved and ignored: every token takes part",
                epx_cann_operator_describe(call->operation)->name);
    }
}

static enum epx_status check_rank_count(const struct epx_comm *comm, const char *group, const char *argument,
                                        int64_t size)
{
    if ((int64_t)epx_comm_rank_count(comm) != size) {
        return epx_fail(EPX_ERR_NOT_FOUND, "%s is %lld, must be %u, the ranks of communicator '%.127s'", argument,
                        (long long)size, epx_comm_rank_count(comm), group);
    }
    return EPX_OK;
}

/* With the communicators held. One that has failed is not refused here: a peer's failure may come before or after this
 * call, and what a program sees of it, an error of the stream's synchronisation, must not depend on that. */
static enum epx_status plan_call(const struct epx_cann_call *call, enum epx_product product,
                                 struct epx_cann_planned *planned, aclOpExecutor **executor)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    EPX_TRY(check_rank_count(planned->comm->comm, attributes->group_ep, "epWorldSize", attributes->ep_world_size));
    if (planned->tp_comm) {
        EPX_TRY(
            check_rank_count(planned->tp_comm->comm, attributes->group_tp, "tpWorldSize", attributes->tp_world_size));
    }
    EPX_TRY(epx_product_check_buffer(call, product, planned->comm->buffer_mib));
    EPX_TRY(fill_views(call, product, planned));
    fill_request(call, product, planned);
    return epx_cann_executor_create(planned, executor);
}

static enum epx_status prepare(const struct epx_cann_call *call, aclOpExecutor **executor)
{
    const struct epx_cann_attributes *attributes = &call->attributes;
    struct epx_cann_planned planned;
    enum epx_product product;
    memset(&planned, 0, sizeof planned);
    planned.operation = call->operation;
    EPX_TRY(epx_product_current(&product));
    EPX_TRY(epx_product_check_call(call, product));
    EPX_TRY(epx_product_check_limits(call, product));
    EPX_TRY(epx_cann_comm_acquire("groupEp", attributes->group_ep, attributes->ep_rank_id, &planned.comm));
    enum epx_status status = EPX_OK;
    if (attributes->tp_world_size > 1) {
        status = epx_cann_comm_acquire("groupTp", attributes->group_tp, attributes->tp_rank_id, &planned.tp_comm);
    }
    if (status == EPX_OK) {
        status = plan_call(call, product, &planned, executor);
    }
    if (planned.tp_comm) {
        epx_cann_comm_release(planned.tp_comm);
    }
    epx_cann_comm_release(planned.comm);
    return status;
}

aclnnStatus epx_cann_moe_prepare(const struct epx_cann_call *call)
{
    aclOpExecutor *executor = NULL;
    const enum epx_status status = prepare(call, &executor);
    if (status != EPX_OK) {
        return epx_cann_report(epx_cann_aclnn_status(status), NULL);
    }
    warn_of_mask(call);
    *call->workspace_bytes = WORKSPACE_BYTES;
    *call->executor = executor;
    return epx_cann_aclnn_status(EPX_OK);
}
