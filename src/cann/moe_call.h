/*
 * One call of a first phase as the program gave it, in one form for both operators: tensors by what they are for, named
 * as the operator names them.
 */
#ifndef EPX_CANN_MOE_CALL_H
#define EPX_CANN_MOE_CALL_H

#include "cann/acl_state.h"
#include "comm/completion.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_cann_role {
    EPX_CANN_ROLE_TOKENS, /* dispatch reads it, combine writes it */
    EPX_CANN_ROLE_EXPERT_IDS,
    EPX_CANN_ROLE_SMOOTH_SCALES,
    EPX_CANN_ROLE_MASK,
    EPX_CANN_ROLE_EXPERT_SCALES,
    EPX_CANN_ROLE_EXPAND_X,
    EPX_CANN_ROLE_DYNAMIC_SCALES,
    EPX_CANN_ROLE_EXPAND_IDX,
    EPX_CANN_ROLE_TOKEN_NUMS,
    EPX_CANN_ROLE_EP_COUNTS,
    EPX_CANN_ROLE_TP_COUNTS,
    EPX_CANN_ROLE_EXPAND_SCALES,
    EPX_CANN_ROLE_IGNORED_0, /* combine: activationScale, weightScale, groupList */
    EPX_CANN_ROLE_IGNORED_1,
    EPX_CANN_ROLE_IGNORED_2,
    EPX_CANN_ROLE_COUNT,
};

#define EPX_CANN_INPUT_MAX  11
#define EPX_CANN_OUTPUT_MAX 7

/* An operator's tensors in the order of its parameters. */
struct epx_cann_operator {
    const char *name;
    const char *tensor_names[EPX_CANN_ROLE_COUNT]; /* null: the operator has no such tensor */
    enum epx_cann_role inputs[EPX_CANN_INPUT_MAX];
    uint32_t input_count;
    enum epx_cann_role outputs[EPX_CANN_OUTPUT_MAX];
    uint32_t output_count;
    enum epx_cann_role required[EPX_CANN_OUTPUT_MAX]; /* in the order in which their absence is reported */
    uint32_t required_count;
    enum epx_status long_group_name; /* status, and so code, of a name beyond 127 bytes: differs between operators */
};

const struct epx_cann_operator *epx_cann_operator_describe(enum epx_operation operation);

/* Attributes, by the names of the interface page. */
struct epx_cann_attributes {
    const char *group_ep;
    int64_t ep_world_size;
    int64_t ep_rank_id;
    int64_t moe_expert_num;
    const char *group_tp;
    int64_t tp_world_size;
    int64_t tp_rank_id;
    int64_t expert_shard_type;
    int64_t shared_expert_num;
    int64_t shared_expert_rank_num;
    int64_t global_bs;
    int64_t quant_mode;             /* dispatch; 0 in combine */
    int64_t expert_token_nums_type; /* dispatch; 0 in combine */
    int64_t comm_quant_mode;        /* combine; 0 in dispatch */
};

struct epx_cann_call {
    enum epx_operation operation; /* DISPATCH or COMBINE */
    struct epx_cann_attributes attributes;
    const struct aclTensor *tensors[EPX_CANN_ROLE_COUNT];
    uint64_t *workspace_bytes;
    aclOpExecutor **executor;
};

#endif
