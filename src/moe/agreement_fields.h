/*
 * The arguments of dispatch and combine that must be equal on all ranks, as the 64 bytes that comm/agreement compares.
 */
#ifndef EPX_MOE_AGREEMENT_FIELDS_H
#define EPX_MOE_AGREEMENT_FIELDS_H

#include "comm/completion.h"
#include "moe/shape.h"

#include <stdbool.h>
#include <stdint.h>

/* Little endian on every machine that shares memory with us. */
struct epx_moe_agreement {
    int64_t expert_count;
    int64_t hidden_elems;
    int64_t topk;
    int64_t global_token_count; /* compared inside an expert-parallel group, else 0: the groups may differ in BS */
    uint32_t rank_count;
    uint32_t shared_rank_count;
    uint32_t server_rank_count; /* of the two-level algorithm, else 0 */
    uint32_t ep_rank;           /* compared between tensor-parallel peers, else 0 */
    uint8_t shared_expert_count;
    uint8_t dtype;
    uint8_t quantization;
    uint8_t comm_quantization;
    uint8_t algorithm;
    uint8_t tp_rank_count;
    uint8_t tp_rank; /* compared inside an expert-parallel group, else 0 */
    uint8_t smooth_scales;
    uint8_t row_views;    /* of a dispatch: whether rows are shown instead of copied */
    uint8_t reserved[3];  /* 0 */
    uint32_t views_round; /* low half of the round of the dispatch whose row views end; 0: none do */
};

_Static_assert(sizeof(struct epx_moe_agreement) == sizeof(struct epx_agreement), "the agreement has 64 bytes");

/* Which communicator the agreement is for. */
enum epx_moe_group {
    EPX_MOE_GROUP_EP,
    EPX_MOE_GROUP_TP,
};

/* What this rank brings. `smooth` is whether smooth scales are given and used. */
void epx_moe_agreement_init(struct epx_agreement *agreement, const struct epx_moe_shape *shape,
                            const struct epx_moe_world *world, bool smooth, enum epx_moe_group group);

/* Adds what an operation has to do with row views: whether it is a dispatch that gives them, and the round of the one
 * whose views it ends (0: none). Without this call: neither. */
void epx_moe_agreement_set_views(struct epx_agreement *agreement, bool row_views, uint64_t views_round);

/* Names, places and value texts of the fields above. Static. */
const struct epx_agreement_field *epx_moe_agreement_fields(uint32_t *count);

#endif
