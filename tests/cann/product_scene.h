/*
 * A call of a first phase as data, and the changes that cases make to it: each is a function of the scene and of the
 * case's value. Included by one program.
 */
#ifndef EPX_TESTS_PRODUCT_SCENE_H
#define EPX_TESTS_PRODUCT_SCENE_H

#include "cann/exports_acl.h"
#include "cann/product.h"
#include "cann/status_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST (1u << EPX_PRODUCT_HOST)
#define A2   (1u << EPX_PRODUCT_A2)
#define A3   (1u << EPX_PRODUCT_A3)
#define ALL  (HOST | A2 | A3)

#define ABSENT ((aclDataType)-2)

/* A call as data: what a case changes, before handles are made of it. */
struct scene {
    struct epx_cann_call call;
    aclDataType types[EPX_CANN_ROLE_COUNT]; /* ABSENT: null */
    int64_t dims[EPX_CANN_ROLE_COUNT][3];
    uint32_t dim_counts[EPX_CANN_ROLE_COUNT];
    aclFormat formats[EPX_CANN_ROLE_COUNT];
};

static uint64_t workspace_bytes;
static aclOpExecutor *executor;

static void set_tensor(struct scene *scene, enum epx_cann_role role, aclDataType type, int64_t rows, int64_t columns)
{
    scene->types[role] = type;
    scene->dims[role][0] = rows;
    scene->dims[role][1] = columns;
    scene->dim_counts[role] = columns == 0 ? 1 : 2;
}

/* The page's program, W 16, E 16, BS 8, K 8, H 7168, which is valid under every product but for its mask. */
static void scene_init(struct scene *scene, enum epx_operation operation)
{
    const bool dispatch = operation == EPX_OPERATION_DISPATCH;
    memset(scene, 0, sizeof *scene);
    scene->call = (struct epx_cann_call){
        .operation = operation,
        .attributes = {.group_ep = "ep",
                       .ep_world_size = 16,
                       .ep_rank_id = 3,
                       .moe_expert_num = 16,
                       .group_tp = "",
                       .shared_expert_num = 1,
                       .global_bs = 128},
        .workspace_bytes = &workspace_bytes,
        .executor = &executor,
    };
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        scene->types[role] = ABSENT;
        scene->formats[role] = ACL_FORMAT_ND;
    }
    set_tensor(scene, EPX_CANN_ROLE_TOKENS, ACL_BF16, 8, 7168);
    set_tensor(scene, EPX_CANN_ROLE_EXPERT_IDS, ACL_INT32, 8, 8);
    set_tensor(scene, EPX_CANN_ROLE_EXPERT_SCALES, ACL_FLOAT, 8, 8);
    set_tensor(scene, EPX_CANN_ROLE_EXPAND_X, ACL_BF16, 128, 7168);
    set_tensor(scene, EPX_CANN_ROLE_EXPAND_IDX, ACL_INT32, 64, 0);
    set_tensor(scene, EPX_CANN_ROLE_EP_COUNTS, ACL_INT32, 16, 0);
    set_tensor(scene, EPX_CANN_ROLE_TP_COUNTS, ACL_INT32, 1, 0);
    set_tensor(scene, EPX_CANN_ROLE_EXPAND_SCALES, ACL_FLOAT, 128, 0);
    if (dispatch) {
        set_tensor(scene, EPX_CANN_ROLE_DYNAMIC_SCALES, ACL_FLOAT, 128, 0);
        set_tensor(scene, EPX_CANN_ROLE_TOKEN_NUMS, ACL_INT64, 1, 0);
    }
}

static enum epx_status scene_check(struct scene *scene, enum epx_product product)
{
    aclTensor *tensors[EPX_CANN_ROLE_COUNT] = {NULL};
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        if (scene->types[role] != ABSENT) {
            tensors[role] =
                epx_cann_aclCreateTensor(scene->dims[role], scene->dim_counts[role], scene->types[role], NULL, 0,
                                         scene->formats[role], scene->dims[role], scene->dim_counts[role], NULL);
            assert_non_null(tensors[role]);
        }
        scene->call.tensors[role] = tensors[role];
    }
    enum epx_status status = epx_product_check_call(&scene->call, product);
    if (status == EPX_OK) {
        status = epx_product_check_limits(&scene->call, product);
    }
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        epx_cann_aclDestroyTensor(tensors[role]);
    }
    return status;
}

/* ---- Changes: v is the case's value ------------------------------------------------------------------------------ */

typedef void (*change)(struct scene *scene, int64_t v);

static char long_name[200];

static void nothing(struct scene *s, int64_t v)
{
    (void)s;
    (void)v;
}
static void drop(struct scene *s, int64_t role)
{
    s->types[role] = ABSENT;
}
static void drop_all(struct scene *s, int64_t v)
{
    (void)v;
    for (int role = 0; role < EPX_CANN_ROLE_COUNT; role++) {
        s->types[role] = ABSENT;
    }
}
static void bad_dtype(struct scene *s, int64_t role)
{
    s->types[role] = ACL_DOUBLE;
}
static void expand_x_fp16(struct scene *s, int64_t v)
{
    (void)v;
    s->types[EPX_CANN_ROLE_EXPAND_X] = ACL_FLOAT16;
}
static void quantized(struct scene *s, int64_t v)
{
    (void)v;
    s->call.attributes.quant_mode = 2;
    s->types[EPX_CANN_ROLE_EXPAND_X] = ACL_INT8;
}
static void quantized_plain_rows(struct scene *s, int64_t v)
{
    (void)v;
    s->call.attributes.quant_mode = 2;
}
static void quantized_without_dynamic(struct scene *s, int64_t v)
{
    quantized(s, v);
    drop(s, EPX_CANN_ROLE_DYNAMIC_SCALES);
}
static void quantized_with_scales(struct scene *s, int64_t rows)
{
    quantized(s, 0);
    set_tensor(s, EPX_CANN_ROLE_SMOOTH_SCALES, ACL_FLOAT, rows, 7168);
}
static void scales_without_quant(struct scene *s, int64_t v)
{
    (void)v;
    set_tensor(s, EPX_CANN_ROLE_SMOOTH_SCALES, ACL_FLOAT, 16, 7168);
}
static void no_workspace(struct scene *s, int64_t v)
{
    (void)v;
    s->call.workspace_bytes = NULL;
}
static void no_executor(struct scene *s, int64_t v)
{
    (void)v;
    s->call.executor = NULL;
}
static void group_null(struct scene *s, int64_t v)
{
    (void)v;
    s->call.attributes.group_ep = NULL;
}
static void group_empty(struct scene *s, int64_t v)
{
    (void)v;
    s->call.attributes.group_ep = "";
}
static void group_of(struct scene *s, int64_t length)
{
    memset(long_name, 'g', (size_t)length);
    long_name[length] = '\0';
    s->call.attributes.group_ep = long_name;
}
static void group_tp_of(struct scene *s, int64_t length)
{
    memset(long_name, 't', (size_t)length);
    long_name[length] = '\0';
    s->call.attributes.group_tp = long_name;
}
static void group_tp_null(struct scene *s, int64_t v)
{
    (void)v;
    s->call.attributes.group_tp = NULL;
}
static void same_groups(struct scene *s, int64_t tp_world)
{
    s->call.attributes.group_tp = "ep";
    s->call.attributes.tp_world_size = tp_world;
    s->dims[EPX_CANN_ROLE_TP_COUNTS][0] = tp_world;
}
static void world(struct scene *s, int64_t v)
{
    s->call.attributes.ep_world_size = v;
    s->call.attributes.ep_rank_id = 0;
}
/* Everything that follows W, so that only W itself can be refused. */
static void whole_world(struct scene *s, int64_t v)
{
    world(s, v);
    s->call.attributes.moe_expert_num = v;
    s->call.attributes.global_bs = 0;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = 8 * v;
    s->dims[EPX_CANN_ROLE_DYNAMIC_SCALES][0] = 8 * v;
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = 8 * v;
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = v;
}
static void rank(struct scene *s, int64_t v)
{
    s->call.attributes.ep_rank_id = v;
}
static void tp_world(struct scene *s, int64_t v)
{
    s->call.attributes.tp_world_size = v;
}
static void tp(struct scene *s, int64_t rank_id)
{
    s->call.attributes.tp_world_size = 2;
    s->call.attributes.tp_rank_id = rank_id;
    s->call.attributes.group_tp = "tp";
    s->dims[EPX_CANN_ROLE_TP_COUNTS][0] = 2;
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = 32;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = 256;
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = 256;
}
static void tp_without_name(struct scene *s, int64_t v)
{
    tp(s, 0);
    s->call.attributes.group_tp = v ? "" : NULL;
}
static void tp_many_experts(struct scene *s, int64_t v)
{
    tp(s, 0);
    s->call.attributes.moe_expert_num = v;
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = 2 * v;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = 512;
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = 512;
    s->dims[EPX_CANN_ROLE_TOKEN_NUMS][0] = v / 16;
}
static void tp_small_rows(struct scene *s, int64_t rows)
{
    tp(s, 0);
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = rows;
}
static void tp_small_counts(struct scene *s, int64_t count)
{
    tp(s, 0);
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = count;
}
static void tp_counts_absent(struct scene *s, int64_t v)
{
    (void)v;
    tp(s, 0);
    drop(s, EPX_CANN_ROLE_TP_COUNTS);
}
static void tp_comm_quant(struct scene *s, int64_t v)
{
    tp(s, 0);
    s->call.attributes.comm_quant_mode = v;
}
static void tp_one_with_counts(struct scene *s, int64_t count)
{
    s->call.attributes.tp_world_size = 1;
    s->dims[EPX_CANN_ROLE_TP_COUNTS][0] = count;
}
static void tp_rank_alone(struct scene *s, int64_t v)
{
    s->call.attributes.tp_rank_id = v;
}
static void tp_counts(struct scene *s, int64_t count)
{
    s->dims[EPX_CANN_ROLE_TP_COUNTS][0] = count;
}
static void shard_type(struct scene *s, int64_t v)
{
    s->call.attributes.expert_shard_type = v;
}
static void shared_experts(struct scene *s, int64_t v)
{
    s->call.attributes.shared_expert_num = v;
}
/* S shared ranks with one expert on each other rank. */
static void shared_ranks(struct scene *s, int64_t v)
{
    s->call.attributes.shared_expert_rank_num = v;
    s->call.attributes.moe_expert_num = 16 - v > 0 ? 16 - v : 1;
    s->call.attributes.ep_rank_id = 15;
    s->dims[EPX_CANN_ROLE_EXPERT_IDS][1] = 1;
    s->dims[EPX_CANN_ROLE_EXPERT_SCALES][1] = 1;
    s->dims[EPX_CANN_ROLE_EXPAND_IDX][0] = 8;
}
static void shared_ranks_without_expert(struct scene *s, int64_t v)
{
    shared_ranks(s, v);
    s->call.attributes.shared_expert_num = 0;
}
/* On a shared rank A is gBs / S = 32; on it, rows 31 are too few. */
static void shared_rank_rows(struct scene *s, int64_t rows)
{
    shared_ranks(s, 4);
    s->call.attributes.ep_rank_id = 0;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = rows;
}
static void experts(struct scene *s, int64_t v)
{
    s->call.attributes.moe_expert_num = v;
}
/* L local experts, with all that follows. */
static void local_experts(struct scene *s, int64_t local)
{
    s->call.attributes.moe_expert_num = 16 * local;
    s->dims[EPX_CANN_ROLE_TOKEN_NUMS][0] = local;
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = 16 * local;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = 128 * (local < 8 ? local : 8);
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = s->dims[EPX_CANN_ROLE_EXPAND_X][0];
}
static void quant_mode(struct scene *s, int64_t v)
{
    s->call.attributes.quant_mode = v;
}
static void comm_quant_mode(struct scene *s, int64_t v)
{
    s->call.attributes.comm_quant_mode = v;
}
static void nums_type(struct scene *s, int64_t v)
{
    s->call.attributes.expert_token_nums_type = v;
}
static void global_bs(struct scene *s, int64_t v)
{
    s->call.attributes.global_bs = v;
}
/* globalBs larger than BS * W, with the rows it asks for. */
static void global_bs_and_rows(struct scene *s, int64_t v)
{
    s->call.attributes.global_bs = v;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = v;
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = v;
}
static void hidden(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_TOKENS][1] = v;
    s->dims[EPX_CANN_ROLE_EXPAND_X][1] = v;
}
static void tokens(struct scene *s, int64_t v)
{
    s->call.attributes.global_bs = 0;
    s->dims[EPX_CANN_ROLE_TOKENS][0] = v;
    s->dims[EPX_CANN_ROLE_EXPERT_IDS][0] = v;
    s->dims[EPX_CANN_ROLE_EXPERT_SCALES][0] = v;
    s->dims[EPX_CANN_ROLE_EXPAND_IDX][0] = v * 8;
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = v * 16;
    s->dims[EPX_CANN_ROLE_EXPAND_SCALES][0] = v * 16;
}
static void topk(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EXPERT_IDS][1] = v;
    s->dims[EPX_CANN_ROLE_EXPERT_SCALES][1] = v;
    s->dims[EPX_CANN_ROLE_EXPAND_IDX][0] = 8 * v;
}
static void mask(struct scene *s, int64_t v)
{
    (void)v;
    set_tensor(s, EPX_CANN_ROLE_MASK, ACL_BOOL, 8, 0);
}
static void unused_of_any_dtype(struct scene *s, int64_t v)
{
    (void)v;
    set_tensor(s, EPX_CANN_ROLE_IGNORED_0, ACL_DOUBLE, 3, 0);
    set_tensor(s, EPX_CANN_ROLE_IGNORED_1, ACL_STRING, 3, 0);
    set_tensor(s, EPX_CANN_ROLE_IGNORED_2, ACL_INT32, 1, 0);
    set_tensor(s, EPX_CANN_ROLE_EXPAND_SCALES, ACL_INT8, 5, 7);
}
static void x_rows(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_TOKENS][0] = v;
}
static void expand_rows(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EXPAND_X][0] = v;
}
static void expand_columns(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EXPAND_X][1] = v;
}
static void x_columns(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_TOKENS][1] = v;
}
static void idx_elems(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EXPAND_IDX][0] = v;
}
static void nums_elems(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_TOKEN_NUMS][0] = v;
}
static void counts_elems(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EP_COUNTS][0] = v;
}
static void dynamic_rows(struct scene *s, int64_t v)
{
    quantized(s, 0);
    s->dims[EPX_CANN_ROLE_DYNAMIC_SCALES][0] = v;
}
static void weights_columns(struct scene *s, int64_t v)
{
    s->dims[EPX_CANN_ROLE_EXPERT_SCALES][1] = v;
}
static void one_dimension(struct scene *s, int64_t role)
{
    s->dim_counts[role] = 1;
}
static void three_dimensions(struct scene *s, int64_t role)
{
    s->dims[role][1] = 1;
    s->dims[role][2] = 1;
    s->dim_counts[role] = 3;
}
static void private_format(struct scene *s, int64_t role)
{
    s->formats[role] = ACL_FORMAT_FRACTAL_NZ;
}
/* Two faults at once. */
static void null_and_dtype(struct scene *s, int64_t role)
{
    bad_dtype(s, EPX_CANN_ROLE_TOKENS);
    drop(s, role);
}
static void dtype_and_world(struct scene *s, int64_t v)
{
    bad_dtype(s, EPX_CANN_ROLE_EXPERT_IDS);
    world(s, v);
}
static void world_and_hidden(struct scene *s, int64_t v)
{
    world(s, v);
    hidden(s, 7169);
}
static void group_and_null(struct scene *s, int64_t role)
{
    group_empty(s, 0);
    drop(s, role);
}
static void long_group_and_no_dynamic(struct scene *s, int64_t v)
{
    group_of(s, v);
    quantized_without_dynamic(s, 0);
}

#endif
