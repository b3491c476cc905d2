#include "moe/agreement_fields.h"

#include <stddef.h>
#include <string.h>

static const char *const dtype_names[] = {"float16", "bfloat16"};
static const char *const given_names[] = {"not given", "given"};
static const char *const form_names[] = {"copies", "views"};
static const char *const algorithm_names[] = {"full mesh", "two-level"};

#define FIELD(text, member)                                                                                            \
    {                                                                                                                  \
        .name = (text), .offset = (uint8_t)offsetof(struct epx_moe_agreement, member),                                 \
        .width = (uint8_t)sizeof(((struct epx_moe_agreement *)0)->member)                                              \
    }
#define NAMED_FIELD(text, member, names)                                                                               \
    {                                                                                                                  \
        .name = (text), .offset = (uint8_t)offsetof(struct epx_moe_agreement, member),                                 \
        .width = (uint8_t)sizeof(((struct epx_moe_agreement *)0)->member), .value_names = (names),                     \
        .value_name_count = (uint32_t)(sizeof(names) / sizeof((names)[0]))                                             \
    }

/* In the order in which a mismatch is looked for: what explains others comes first. */
static const struct epx_agreement_field fields[] = {
    FIELD("epWorldSize", rank_count),
    FIELD("moeExpertNum", expert_count),
    FIELD("sharedExpertRankNum", shared_rank_count),
    FIELD("sharedExpertNum", shared_expert_count),
    FIELD("H", hidden_elems),
    FIELD("K", topk),
    FIELD("globalBs", global_token_count),
    FIELD("tpWorldSize", tp_rank_count),
    FIELD("tpRankId", tp_rank),
    FIELD("epRankId", ep_rank),
    NAMED_FIELD("dtype of x", dtype, dtype_names),
    FIELD("quantMode", quantization),
    NAMED_FIELD("scales", smooth_scales, given_names),
    FIELD("commQuantMode", comm_quantization),
    NAMED_FIELD("algorithm", algorithm, algorithm_names),
    FIELD("server size", server_rank_count),
    NAMED_FIELD("form of dispatch", row_views, form_names),
    FIELD("dispatch round whose row views end", views_round),
};

const struct epx_agreement_field *epx_moe_agreement_fields(uint32_t *count)
{
    *count = (uint32_t)(sizeof fields / sizeof fields[0]);
    return fields;
}

void epx_moe_agreement_init(struct epx_agreement *agreement, const struct epx_moe_shape *shape,
                            const struct epx_moe_world *world, bool smooth, enum epx_moe_group group)
{
    struct epx_moe_agreement values = {
        .expert_count = shape->expert_count,
        .hidden_elems = shape->hidden_elems,
        .topk = shape->topk,
        .global_token_count = group == EPX_MOE_GROUP_EP ? shape->global_token_count : 0,
        .rank_count = (uint32_t)world->rank_count,
        .shared_rank_count = (uint32_t)shape->shared_rank_count,
        .server_rank_count = world->two_level ? (uint32_t)world->server_ranks : 0,
        .ep_rank = group == EPX_MOE_GROUP_TP ? (uint32_t)world->rank : 0,
        .shared_expert_count = (uint8_t)shape->shared_expert_count,
        .dtype = (uint8_t)shape->dtype,
        .quantization = (uint8_t)shape->quantization,
        .comm_quantization = (uint8_t)shape->comm_quantization,
        .algorithm = (uint8_t)shape->algorithm,
        .tp_rank_count = world->tp ? 2 : 0,
        .tp_rank = group == EPX_MOE_GROUP_EP ? (uint8_t)world->tp_rank : 0,
        .smooth_scales = smooth ? 1 : 0,
    };
    memcpy(agreement->bytes, &values, sizeof values);
}

void epx_moe_agreement_set_views(struct epx_agreement *agreement, bool row_views, uint64_t views_round)
{
    struct epx_moe_agreement values;
    memcpy(&values, agreement->bytes, sizeof values);
    values.row_views = row_views ? 1 : 0;
    values.views_round = (uint32_t)views_round;
    memcpy(agreement->bytes, &values, sizeof values);
}
