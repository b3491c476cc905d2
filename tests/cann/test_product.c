/* The table of product limits: each check under each product, its code and text, and what comes first of two faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "product_scene.h"

/* ---- Cases ------------------------------------------------------------------------------------------------------- */

#define NULLPTR 161001
#define PARAM   161002
#define TILING  561002

struct product_case {
    const char *name;
    change apply;
    int64_t value;
    uint32_t refused; /* products that refuse it, with `code` and `fragment`; the others accept */
    aclnnStatus code;
    const char *fragment;
};

static const struct product_case shared_cases[] = {
    {"the page's call", nothing, 0, 0, 0, NULL},
    {"groupEp null", group_null, 0, ALL, NULLPTR, "groupEp is null"},
    {"groupEp empty", group_empty, 0, ALL, NULLPTR, "groupEp is empty"},
    {"groupEp 127", group_of, 127, 0, 0, NULL},
    {"groupTp null without TP", group_tp_null, 0, 0, 0, NULL},
    {"workspaceSize null", no_workspace, 0, ALL, NULLPTR, "workspaceSize is null"},
    {"executor null", no_executor, 0, ALL, NULLPTR, "executor is null"},
    {"mask", mask, 0, A3, TILING, "xActiveMask is given"},
    {"W 0", world, 0, ALL, TILING, "epWorldSize is 0"},
    {"W -1", world, -1, ALL, TILING, "epWorldSize is -1"},
    {"W 12", whole_world, 12, A2 | A3, TILING, "epWorldSize is 12, must be one of"},
    {"W 8", whole_world, 8, A2, TILING, "epWorldSize is 8, must be one of 16, 32, 64"},
    {"W 32", whole_world, 32, 0, 0, NULL},
    {"W 64", whole_world, 64, 0, 0, NULL},
    {"W 144", whole_world, 144, A2, TILING, "epWorldSize is 144"},
    {"W 256", whole_world, 256, A2, TILING, "epWorldSize is 256"},
    {"W 288", whole_world, 288, A2, TILING, "epWorldSize is 288"},
    {"W 24", whole_world, 24, A2 | A3, TILING, "epWorldSize is 24"},
    {"W 2^40", world, INT64_C(1) << 40, ALL, TILING, "epWorldSize"},
    {"r -1", rank, -1, ALL, TILING, "epRankId is -1, must be in [0, 16)"},
    {"r 16", rank, 16, ALL, TILING, "epRankId is 16, must be in [0, 16)"},
    {"r 15", rank, 15, 0, 0, NULL},
    {"tpWorldSize -1", tp_world, -1, ALL, TILING, "tpWorldSize is -1"},
    {"tpWorldSize 3", tp_world, 3, ALL, TILING, "tpWorldSize is 3"},
    {"tpWorldSize 1", tp_world, 1, 0, 0, NULL},
    {"tpWorldSize 1, same group", same_groups, 1, 0, 0, NULL},
    {"tpWorldSize 2, same group", same_groups, 2, ALL, TILING, NULL},
    {"TP", tp, 1, A2, TILING, "tpWorldSize is 2, must be in [0, 1]"},
    {"tpRankId 2", tp, 2, ALL, TILING, NULL},
    {"tpRankId -1", tp, -1, ALL, TILING, NULL},
    {"tpRankId 1 without TP", tp_rank_alone, 1, A3, TILING, "tpRankId is 1, must be in [0, 0]"},
    {"TP, groupTp null", tp_without_name, 0, ALL, TILING, NULL},
    {"TP, groupTp empty", tp_without_name, 1, ALL, TILING, NULL},
    {"TP, two local experts", tp_many_experts, 32, A2 | A3, TILING, NULL},
    {"TP, few counts", tp_small_counts, 31, ALL, TILING, NULL},
    {"expertShardType 1", shard_type, 1, ALL, TILING, "expertShardType is 1"},
    {"sharedExpertNum 0", shared_experts, 0, 0, 0, NULL},
    {"sharedExpertNum 2", shared_experts, 2, ALL, TILING, "sharedExpertNum is 2"},
    {"sharedExpertNum -1", shared_experts, -1, ALL, TILING, "sharedExpertNum is -1"},
    {"S 4", shared_ranks, 4, A2, TILING, "sharedExpertRankNum is 4"},
    {"S 8", shared_ranks, 8, A2, TILING, "sharedExpertRankNum is 8"},
    {"S 3", shared_ranks, 3, A2 | A3, TILING, "sharedExpertRankNum is 3"},
    {"S 15", shared_ranks, 15, A2 | A3, TILING, "sharedExpertRankNum is 15"},
    {"S 16", shared_ranks, 16, ALL, TILING, "sharedExpertRankNum is 16"},
    {"S -1", shared_ranks, -1, ALL, TILING, "sharedExpertRankNum is -1"},
    {"S 4 without shared expert", shared_ranks_without_expert, 4, ALL, TILING, NULL},
    {"S 4, A of a shared rank", shared_rank_rows, 32, A2, TILING, "sharedExpertRankNum"},
    {"E 0", experts, 0, ALL, TILING, "moeExpertNum is 0"},
    {"E -16", experts, -16, ALL, TILING, "moeExpertNum is -16"},
    {"E 17", experts, 17, ALL, TILING, "moeExpertNum is 17, must be divisible by 16"},
    {"E 528", local_experts, 33, A2 | A3, TILING, "moeExpertNum is 528, must be in [1, 512]"},
    {"E 512", local_experts, 32, 0, 0, NULL},
    {"globalBs 0", global_bs, 0, 0, 0, NULL},
    {"globalBs 127", global_bs, 127, ALL, TILING, "globalBs is 127"},
    {"globalBs -1", global_bs, -1, ALL, TILING, "globalBs is -1"},
    {"globalBs 144", global_bs_and_rows, 144, A2, TILING, "globalBs is 144, must be 0, 128"},
    {"globalBs 256 W", global_bs_and_rows, 4096, 0, 0, NULL},
    {"globalBs 130", global_bs_and_rows, 130, A2 | A3, TILING, "globalBs is 130, must be"},
    {"globalBs 4096 with rows of BS * W", global_bs, 4096, A2 | A3, TILING, "dimension 0 of expandX is 128"},
    {"globalBs max", global_bs, INT64_MAX, A2 | A3, TILING, NULL},
    {"H 0", hidden, 0, ALL, TILING, "H is 0"},
    {"H 32", hidden, 32, A3, TILING, "H is 32, must be in [7168, 7168]"},
    {"H 48", hidden, 48, A2 | A3, TILING, "H is 48"},
    {"H 7200", hidden, 7200, A2 | A3, TILING, "H is 7200"},
    {"BS 0", tokens, 0, A2 | A3, TILING, "BS is 0"},
    {"BS 256", tokens, 256, 0, 0, NULL},
    {"BS 257", tokens, 257, A2, TILING, "BS is 257, must be in [1, 256]"},
    {"BS 512", tokens, 512, A2, TILING, "BS is 512"},
    {"BS 513", tokens, 513, A2 | A3, TILING, "BS is 513"},
    {"K 0", topk, 0, ALL, TILING, "K is 0"},
    {"K 1", topk, 1, 0, 0, NULL},
    {"K 9", topk, 9, A2 | A3, TILING, "K is 9, must be in [1, 8]"},
    {"K 17 of 16 experts", topk, 17, ALL, TILING, "K is 17"},
    {"x with fewer rows", x_rows, 7, ALL, TILING, "dimension 0 of x is 7"},
    {"x and expandX of different H", expand_columns, 7136, ALL, TILING, NULL},
    {"A 127", expand_rows, 127, A2 | A3, TILING, "dimension 0 of expandX is 127, must be at least 128"},
    {"A 300", expand_rows, 300, 0, 0, NULL},
    {"expandIdx 63", idx_elems, 63, ALL, TILING, "dimension 0 of expandIdx is 63"},
    {"expandIdx 65", idx_elems, 65, A3, TILING, "dimension 0 of expandIdx is 65, must be 64"},
    {"few counts", counts_elems, 15, ALL, TILING, "is 15, must be at least 16"},
    {"counts of the page's formula", counts_elems, 16 + 2 * 128 * 8 * 2, 0, 0, NULL},
    {"expertIds of one dimension", one_dimension, EPX_CANN_ROLE_EXPERT_IDS, ALL, TILING, "expertIds has 1 dimensions"},
    {"x of three dimensions", three_dimensions, EPX_CANN_ROLE_TOKENS, ALL, TILING, "x has 3 dimensions"},
    {"expandIdx of three dimensions", three_dimensions, EPX_CANN_ROLE_EXPAND_IDX, ALL, TILING, "expandIdx has 3"},
    {"expertIds dtype", bad_dtype, EPX_CANN_ROLE_EXPERT_IDS, ALL, PARAM,
     "expertIds has dtype ACL_DOUBLE (11), must be ACL_INT32"},
    {"x dtype", bad_dtype, EPX_CANN_ROLE_TOKENS, ALL, PARAM, "x has dtype ACL_DOUBLE"},
    {"expandX dtype", bad_dtype, EPX_CANN_ROLE_EXPAND_X, ALL, PARAM, "expandX has dtype ACL_DOUBLE"},
    {"expandX FLOAT16 beside BF16", expand_x_fp16, 0, ALL, PARAM, "ACL_BF16"},
    {"expandIdx dtype", bad_dtype, EPX_CANN_ROLE_EXPAND_IDX, ALL, PARAM, "expandIdx has dtype"},
    {"counts dtype", bad_dtype, EPX_CANN_ROLE_EP_COUNTS, ALL, PARAM, "must be ACL_INT32"},
    {"tp counts dtype without TP", bad_dtype, EPX_CANN_ROLE_TP_COUNTS, 0, 0, NULL},
    {"expandX in a private format", private_format, EPX_CANN_ROLE_EXPAND_X, ALL, TILING, "format 29"},
    {"tp counts of 0 with tpWorldSize 0", tp_counts, 7, 0, 0, NULL},
    {"tp counts of 1 with tpWorldSize 1", tp_one_with_counts, 1, 0, 0, NULL},
    {"tp counts of 2 with tpWorldSize 1", tp_one_with_counts, 2, A3, TILING, "tpWorldSize 1"},
    /* Order: null before dtype before limits; names after nulls. */
    {"null and dtype", null_and_dtype, EPX_CANN_ROLE_EXPERT_IDS, ALL, NULLPTR, "expertIds is null"},
    {"dtype and W", dtype_and_world, 7, ALL, PARAM, "expertIds has dtype"},
    {"groupEp and null", group_and_null, EPX_CANN_ROLE_EP_COUNTS, ALL, NULLPTR, "Counts is null"},
    {"all null", drop_all, 0, ALL, NULLPTR, "is null"},
};

static const struct product_case dispatch_cases[] = {
    {"x null", drop, EPX_CANN_ROLE_TOKENS, ALL, NULLPTR, "x is null"},
    {"all null: x first", drop_all, 0, ALL, NULLPTR, "x is null"},
    {"expandX null", drop, EPX_CANN_ROLE_EXPAND_X, ALL, NULLPTR, "expandX is null"},
    {"expandIdx null", drop, EPX_CANN_ROLE_EXPAND_IDX, ALL, NULLPTR, "expandIdx is null"},
    {"expertTokenNums null", drop, EPX_CANN_ROLE_TOKEN_NUMS, ALL, NULLPTR, "expertTokenNums is null"},
    {"tpRecvCounts null", drop, EPX_CANN_ROLE_TP_COUNTS, ALL, NULLPTR, "tpRecvCounts is null"},
    {"epRecvCounts null", drop, EPX_CANN_ROLE_EP_COUNTS, ALL, NULLPTR, "epRecvCounts is null"},
    {"dynamicScales null", drop, EPX_CANN_ROLE_DYNAMIC_SCALES, 0, 0, NULL},
    {"expandScales null", drop, EPX_CANN_ROLE_EXPAND_SCALES, 0, 0, NULL},
    {"expertScales null", drop, EPX_CANN_ROLE_EXPERT_SCALES, 0, 0, NULL},
    {"groupEp 128", group_of, 128, ALL, NULLPTR, "groupEp is longer than 127"},
    {"groupTp 128 without TP", group_tp_of, 128, A3, NULLPTR, "groupTp is longer than 127"},
    {"quantMode 1", quant_mode, 1, ALL, TILING, "quantMode is 1, must be 0 or 2"},
    {"quantMode -1", quant_mode, -1, ALL, TILING, "quantMode is -1"},
    {"quantMode 2", quantized, 0, 0, 0, NULL},
    {"quantMode 2 with rows of BF16", quantized_plain_rows, 0, ALL, PARAM,
     "expandX has dtype ACL_BF16 (27), must be ACL_INT8"},
    {"quantMode 2 without dynamicScales", quantized_without_dynamic, 0, ALL, NULLPTR, "dynamicScales is null"},
    {"dynamicScales short", dynamic_rows, 127, A2 | A3, TILING, "dimension 0 of dynamicScales is 127"},
    {"dynamicScales dtype, unused", bad_dtype, EPX_CANN_ROLE_DYNAMIC_SCALES, 0, 0, NULL},
    {"scales of E rows", quantized_with_scales, 16, 0, 0, NULL},
    {"scales of E + sharedExpertNum rows", quantized_with_scales, 17, 0, 0, NULL},
    {"scales of 15 rows", quantized_with_scales, 15, ALL, TILING, "dimension 0 of scales is 15, must be 16"},
    {"scales of 18 rows", quantized_with_scales, 18, ALL, TILING, "dimension 0 of scales is 18"},
    {"scales without quantMode", scales_without_quant, 0, ALL, TILING,
     "scales is given, must be null with quantMode 0"},
    {"expertTokenNumsType 2", nums_type, 2, ALL, TILING, "expertTokenNumsType is 2, must be 0 or 1"},
    {"expertTokenNumsType 1", nums_type, 1, 0, 0, NULL},
    {"x with more rows", x_rows, 9, 0, 0, NULL},
    {"expertTokenNums 0", nums_elems, 0, ALL, TILING, "dimension 0 of expertTokenNums is 0"},
    {"expertTokenNums 2", nums_elems, 2, A3, TILING, "dimension 0 of expertTokenNums is 2, must be 1"},
    {"expertTokenNums dtype", bad_dtype, EPX_CANN_ROLE_TOKEN_NUMS, ALL, PARAM, "must be ACL_INT64"},
    {"expertScales of another shape, unused", weights_columns, 5, 0, 0, NULL},
    {"TP, few rows", tp_small_rows, 255, A2 | A3, TILING, NULL},
    {"TP, tpRecvCounts null", tp_counts_absent, 0, ALL, NULLPTR, "tpRecvCounts is null"},
    {"long groupEp and no dynamicScales", long_group_and_no_dynamic, 150, ALL, NULLPTR, "dynamicScales is null"},
};

static const struct product_case combine_cases[] = {
    {"all null: expandX first", drop_all, 0, ALL, NULLPTR, "expandX is null"},
    {"expertIds null", drop, EPX_CANN_ROLE_EXPERT_IDS, ALL, NULLPTR, "expertIds is null"},
    {"expandIdx null", drop, EPX_CANN_ROLE_EXPAND_IDX, ALL, NULLPTR, "expandIdx is null"},
    {"epSendCounts null", drop, EPX_CANN_ROLE_EP_COUNTS, ALL, NULLPTR, "epSendCounts is null"},
    {"expertScales null", drop, EPX_CANN_ROLE_EXPERT_SCALES, ALL, NULLPTR, "expertScales is null"},
    {"x null", drop, EPX_CANN_ROLE_TOKENS, ALL, NULLPTR, "x is null"},
    {"tpSendCounts null without TP", drop, EPX_CANN_ROLE_TP_COUNTS, 0, 0, NULL},
    {"tpSendCounts null with TP", tp_counts_absent, 0, ALL, TILING, NULL},
    {"expandScales null", drop, EPX_CANN_ROLE_EXPAND_SCALES, 0, 0, NULL},
    {"unused tensors", unused_of_any_dtype, 0, 0, 0, NULL},
    {"groupEp 128", group_of, 128, ALL, PARAM, "groupEp is longer than 127"},
    {"groupTp 128 without TP", group_tp_of, 128, A3, PARAM, "groupTp is longer than 127"},
    {"commQuantMode 1", comm_quant_mode, 1, ALL, TILING, "commQuantMode is 1, must be 0 or 2"},
    {"commQuantMode 2", comm_quant_mode, 2, A2, TILING, "commQuantMode is 2, must be 0 without the two-level"},
    {"commQuantMode 2 with TP", tp_comm_quant, 2, A2 | A3, TILING, NULL},
    {"expertScales of another shape", weights_columns, 5, ALL, TILING,
     "dimension 1 of expertScales is 5, must be 8 (K)"},
    {"expertScales dtype", bad_dtype, EPX_CANN_ROLE_EXPERT_SCALES, ALL, PARAM, "must be ACL_FLOAT"},
    {"x of another H", x_columns, 7136, ALL, TILING, "dimension 1 of x is 7136"},
    {"x with more rows", x_rows, 9, A3, TILING, "dimension 0 of x is 9, must be 8"},
};

static uint32_t run_case(const struct product_case *c, enum epx_operation operation)
{
    uint32_t failed = 0;
    for (int product = 0; product < EPX_PRODUCT_COUNT; product++) {
        struct scene scene;
        scene_init(&scene, operation);
        c->apply(&scene, c->value);
        const aclnnStatus expected = c->refused & (1u << product) ? c->code : 0;
        const aclnnStatus code = epx_cann_aclnn_status(scene_check(&scene, (enum epx_product)product));
        const bool text_fits = expected == 0 || !c->fragment || strstr(epx_error_text(), c->fragment);
        if (code != expected || !text_fits) {
            print_error("%s, %s, product %d: %d, expected %d: '%s', expected '%s'\n",
                        operation == EPX_OPERATION_DISPATCH ? "dispatch" : "combine", c->name, product, code, expected,
                        code ? epx_error_text() : "", c->fragment ? c->fragment : "");
            failed++;
        }
    }
    return failed;
}

static void dispatch__each_check(void **state)
{
    (void)state;
    uint32_t failed = 0;
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        failed += run_case(&shared_cases[i], EPX_OPERATION_DISPATCH);
    }
    for (size_t i = 0; i < sizeof dispatch_cases / sizeof dispatch_cases[0]; i++) {
        failed += run_case(&dispatch_cases[i], EPX_OPERATION_DISPATCH);
    }
    assert_int_equal(failed, 0);
}

static void combine__each_check(void **state)
{
    (void)state;
    uint32_t failed = 0;
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        failed += run_case(&shared_cases[i], EPX_OPERATION_COMBINE);
    }
    for (size_t i = 0; i < sizeof combine_cases / sizeof combine_cases[0]; i++) {
        failed += run_case(&combine_cases[i], EPX_OPERATION_COMBINE);
    }
    assert_int_equal(failed, 0);
}

static void nulls__in_the_devices_order(void **state)
{
    (void)state;
    static const enum epx_operation operations[] = {EPX_OPERATION_DISPATCH, EPX_OPERATION_COMBINE};
    static const char *const order[2][7] = {
        {"x", "expertIds", "expandX", "expandIdx", "expertTokenNums", "tpRecvCounts", "epRecvCounts"},
        {"expandX", "expertIds", "expandIdx", "epSendCounts", "expertScales", "x", NULL},
    };
    static const enum epx_cann_role roles[2][7] = {
        {EPX_CANN_ROLE_TOKENS, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_EXPAND_IDX,
         EPX_CANN_ROLE_TOKEN_NUMS, EPX_CANN_ROLE_TP_COUNTS, EPX_CANN_ROLE_EP_COUNTS},
        {EPX_CANN_ROLE_EXPAND_X, EPX_CANN_ROLE_EXPERT_IDS, EPX_CANN_ROLE_EXPAND_IDX, EPX_CANN_ROLE_EP_COUNTS,
         EPX_CANN_ROLE_EXPERT_SCALES, EPX_CANN_ROLE_TOKENS, EPX_CANN_ROLE_COUNT},
    };
    for (int o = 0; o < 2; o++) {
        for (int i = 0; i < 7 && order[o][i]; i++) {
            /* This one and all later ones are absent: this one is named. */
            struct scene scene;
            char expected[64];
            scene_init(&scene, operations[o]);
            for (int j = i; j < 7 && order[o][j]; j++) {
                drop(&scene, roles[o][j]);
            }
            snprintf(expected, sizeof expected, "%s is null", order[o][i]);
            assert_int_equal(scene_check(&scene, EPX_PRODUCT_HOST), EPX_ERR_NULL);
            assert_string_equal(epx_error_text(), expected);
        }
    }
}

/* A2 looks at shapes first, A3 at attributes. */
static void order__differs_between_products(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, EPX_OPERATION_DISPATCH);
    world_and_hidden(&scene, 7);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "H is 7169"));
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A3), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "epWorldSize is 7"));
}

static void two_level__chosen_by_two_variables(void **state)
{
    (void)state;
    static const struct {
        const char *pcie;
        const char *roce;
        bool chosen;
    } cases[] = {
        {NULL, NULL, false}, {"1", NULL, false}, {NULL, "0", false}, {"1", "1", false},
        {"0", "0", false},   {"1", "0", true},   {"01", "0", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsetenv("HCCL_INTRA_PCIE_ENABLE");
        unsetenv("HCCL_INTRA_ROCE_ENABLE");
        if (cases[i].pcie) {
            setenv("HCCL_INTRA_PCIE_ENABLE", cases[i].pcie, 1);
        }
        if (cases[i].roce) {
            setenv("HCCL_INTRA_ROCE_ENABLE", cases[i].roce, 1);
        }
        assert_int_equal(epx_product_two_level(EPX_PRODUCT_HOST), cases[i].chosen);
        assert_int_equal(epx_product_two_level(EPX_PRODUCT_A2), cases[i].chosen);
        assert_false(epx_product_two_level(EPX_PRODUCT_A3));
    }
    unsetenv("HCCL_INTRA_PCIE_ENABLE");
    unsetenv("HCCL_INTRA_ROCE_ENABLE");
}

/* With the two-level exchange the weights are required under A2, expandIdx is not looked at, INT8 returns are allowed.
 */
static void two_level__changes_what_is_used(void **state)
{
    (void)state;
    struct scene scene;
    setenv("HCCL_INTRA_PCIE_ENABLE", "1", 1);
    setenv("HCCL_INTRA_ROCE_ENABLE", "0", 1);
    static const enum epx_cann_role weights[] = {EPX_CANN_ROLE_EXPERT_SCALES, EPX_CANN_ROLE_EXPAND_SCALES};
    for (int i = 0; i < 2; i++) {
        scene_init(&scene, EPX_OPERATION_DISPATCH);
        drop(&scene, weights[i]);
        assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_ERR_INVALID);
        assert_non_null(strstr(epx_error_text(), "must be given with the two-level exchange"));
        scene_init(&scene, EPX_OPERATION_DISPATCH);
        drop(&scene, weights[i]);
        assert_int_equal(scene_check(&scene, EPX_PRODUCT_HOST), EPX_OK);
    }
    scene_init(&scene, EPX_OPERATION_COMBINE);
    drop(&scene, EPX_CANN_ROLE_EXPAND_SCALES);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_ERR_INVALID);
    scene_init(&scene, EPX_OPERATION_COMBINE);
    idx_elems(&scene, 1);
    comm_quant_mode(&scene, 2);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_OK);
    scene_init(&scene, EPX_OPERATION_DISPATCH);
    weights_columns(&scene, 5);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_ERR_SHAPE);
    /* Nor is globalBs held to the page's list, but to the bound. */
    scene_init(&scene, EPX_OPERATION_DISPATCH);
    global_bs_and_rows(&scene, 145);
    set_tensor(&scene, EPX_CANN_ROLE_EXPAND_SCALES, ACL_FLOAT, 145, 0);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_OK);
    scene_init(&scene, EPX_OPERATION_DISPATCH);
    global_bs(&scene, 127);
    assert_int_equal(scene_check(&scene, EPX_PRODUCT_A2), EPX_ERR_INVALID);
    unsetenv("HCCL_INTRA_PCIE_ENABLE");
    unsetenv("HCCL_INTRA_ROCE_ENABLE");
}

/* What a buffer must hold, computed by hand from the page's formulas. */
static void buffer__pages_formulas(void **state)
{
    (void)state;
    struct scene scene;
    aclTensor *ids;
    aclTensor *x;
    scene_init(&scene, EPX_OPERATION_DISPATCH);
    const int64_t ids_dims[2] = {256, 8};
    const int64_t x_dims[2] = {256, 7168};
    ids = epx_cann_aclCreateTensor(ids_dims, 2, ACL_INT32, NULL, 0, ACL_FORMAT_ND, ids_dims, 2, NULL);
    x = epx_cann_aclCreateTensor(x_dims, 2, ACL_BF16, NULL, 0, ACL_FORMAT_ND, x_dims, 2, NULL);
    scene.call.tensors[EPX_CANN_ROLE_EXPERT_IDS] = ids;
    scene.call.tensors[EPX_CANN_ROLE_TOKENS] = x;
    scene.call.attributes.moe_expert_num = 32; /* L 2 */
    /* A2: 2 * (256 * 16 * 2 * 7168 * 2 + 2 MiB) = 239075328 bytes, 228 MiB */
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A2, 228), EPX_OK);
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A2, 227), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "239075328"));
    assert_non_null(strstr(epx_error_text(), "238026752"));
    /* A3: 2 * 256 * 2 * (7168 + 128) * (16 * 2 + 8 + 1) + 2 MiB = 308412416 bytes, 294.125 MiB */
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A3, 295), EPX_OK);
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A3, 294), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "308412416"));
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_HOST, 1), EPX_OK);
    /* A2, two-level: 32 * 256 * (7168 * 2 + 4 * 8 * 4) + 104 MiB = 227540992 bytes, exactly 217 MiB */
    setenv("HCCL_INTRA_PCIE_ENABLE", "1", 1);
    setenv("HCCL_INTRA_ROCE_ENABLE", "0", 1);
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A2, 217), EPX_OK);
    assert_int_equal(epx_product_check_buffer(&scene.call, EPX_PRODUCT_A2, 216), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "227540992"));
    unsetenv("HCCL_INTRA_PCIE_ENABLE");
    unsetenv("HCCL_INTRA_ROCE_ENABLE");
    epx_cann_aclDestroyTensor(ids);
    epx_cann_aclDestroyTensor(x);
}

static void current__read_at_each_call(void **state)
{
    (void)state;
    enum epx_product product;
    static const char *const names[] = {"host", "A2", "A3"};
    for (int i = 0; i < 3; i++) {
        setenv("EPX_PRODUCT", names[i], 1);
        assert_int_equal(epx_product_current(&product), EPX_OK);
        assert_int_equal(product, i);
    }
    setenv("EPX_PRODUCT", "A5", 1);
    assert_int_equal(epx_product_current(&product), EPX_ERR_CONFIG);
    unsetenv("EPX_PRODUCT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch__each_check),
        cmocka_unit_test(combine__each_check),
        cmocka_unit_test(nulls__in_the_devices_order),
        cmocka_unit_test(order__differs_between_products),
        cmocka_unit_test(two_level__chosen_by_two_variables),
        cmocka_unit_test(two_level__changes_what_is_used),
        cmocka_unit_test(buffer__pages_formulas),
        cmocka_unit_test(current__read_at_each_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
