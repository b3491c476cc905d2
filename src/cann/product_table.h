/*
 * The limits themselves. Inside of product_*.c; product.h is what others use.
 *
 * Sources named beside the values in product_table.c. "page: <parameter>" is the interface page of the operator's first
 * version, under that parameter. "device: <stage> order <n>" is the n-th check of the device's own code at that stage:
 * interface (before any tensor is looked at), framework (dtypes), tiling A2 or tiling A3 (attributes and shapes).
 * "row <n>" is the decision of that row of docs/cann.md, where page and device differ.
 */
#ifndef EPX_CANN_PRODUCT_TABLE_H
#define EPX_CANN_PRODUCT_TABLE_H

#include "cann/product.h"

enum epx_product_buffer {
    EPX_PRODUCT_BUFFER_ANY, /* no need */
    EPX_PRODUCT_BUFFER_A2,
    EPX_PRODUCT_BUFFER_A3,
};

struct epx_product_limits {
    const char *name;
    const int64_t *world_sizes; /* null: any */
    uint32_t world_size_count;
    int64_t expert_max;
    int64_t hidden_min;
    int64_t hidden_max;
    int64_t hidden_multiple;
    int64_t token_min;
    int64_t token_max;
    int64_t topk_max;
    int64_t tp_world_max;
    bool knows_two_level;         /* the two HCCL_INTRA_ variables mean something */
    bool two_level_needs_weights; /* expertScales and expandScales are required by it */
    bool plain_return_only;       /* commQuantMode 2 with the two-level exchange only */
    bool shared_ranks;            /* sharedExpertRankNum may be other than 0 */
    bool shared_ranks_divide;     /* ... and must divide W and leave two ranks */
    bool tp_one_expert;           /* one expert a rank with TP */
    bool tp_plain_return;         /* commQuantMode 0 with TP */
    bool tp_rank_zero;            /* tpRankId must be 0 without TP */
    bool checks_group_tp;         /* its length, without TP */
    bool mask_refused;
    bool global_bs_multiple;
    int64_t global_bs_unequal; /* BS that ranks of unequal BS stand for; only it and the own count. 0: any */
    bool row_minimum;          /* expandX holds at least what equal ranks can send */
    bool exact_outputs;        /* expandIdx, expertTokenNums, tp counts: the page's size and no other */
    enum epx_product_buffer buffer;
};

const struct epx_product_limits *epx_product_limits_of(enum epx_product product);

/* Local experts, globalBs after its default, and A of one call; the arguments must have been checked. */
int64_t epx_product_local_experts(const struct epx_cann_attributes *attributes);
int64_t epx_product_global_bs(const struct epx_cann_call *call);
int64_t epx_product_row_min(const struct epx_cann_call *call);

/* Sizes of a call: rows and columns of expertIds, columns of the token rows. */
int64_t epx_product_token_count(const struct epx_cann_call *call);
int64_t epx_product_topk(const struct epx_cann_call *call);
int64_t epx_product_hidden(const struct epx_cann_call *call);

#endif
