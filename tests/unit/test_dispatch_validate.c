#include "moe/dispatch_validate.h"

#include "memory/arena.h"
#include "unit/moe_request_test.h"

enum { X, IDS, SCALES, WEIGHTS, EXPAND_X, DYNAMIC, EXPAND_IDX, NUMS, COUNTS, TP_COUNTS, EXPAND_SCALES };

static struct epx_dispatch_request request_of(uint32_t rank)
{
    struct epx_dispatch_request request = {
        .comm = test_world[rank]->comm,
        .shape = test_shape(),
        .token_count = 5,
        .tensors =
            {
                .x = test_matrix(X, EPX_DTYPE_BF16, 5, 16),
                .expert_ids = test_matrix(IDS, EPX_DTYPE_INT32, 5, 3),
                .expand_x = test_matrix(EXPAND_X, EPX_DTYPE_BF16, 40, 16),
                .expand_idx = test_vector(EXPAND_IDX, EPX_DTYPE_INT32, 15),
                .expert_token_nums = test_vector(NUMS, EPX_DTYPE_INT64, 2),
                .ep_recv_counts = test_vector(COUNTS, EPX_DTYPE_INT32, 8),
            },
    };
    return request;
}

static struct epx_dispatch_request quantized_of(uint32_t rank)
{
    struct epx_dispatch_request request = request_of(rank);
    request.shape.quantization = EPX_QUANTIZATION_DYNAMIC_INT8;
    request.tensors.expand_x.dtype = EPX_DTYPE_INT8;
    request.tensors.dynamic_scales = test_vector(DYNAMIC, EPX_DTYPE_FP32, 40);
    request.tensors.smooth_scales = test_matrix(SCALES, EPX_DTYPE_FP32, 8, 16);
    return request;
}

static enum epx_status validate(const struct epx_dispatch_request *request)
{
    struct epx_moe_world world;
    return epx_dispatch_validate(request, &world);
}

#define AT(member)        offsetof(struct epx_dispatch_request, member)
#define SHAPE(field)      AT(shape.field)
#define VIEW(view, field) AT(tensors.view.field)

static void check_all(struct epx_dispatch_request (*make)(uint32_t), const struct refusal *refusals, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct epx_dispatch_request request = make(0);
        assert_int_equal(validate(&request), EPX_OK);
        refusal_apply(&request, &refusals[i]);
        refusal_check(&refusals[i], validate(&request));
    }
}

#define CHECK_ALL(make, refusals) check_all((make), (refusals), sizeof(refusals) / sizeof((refusals)[0]))

static void validate__sizes(void **state)
{
    static const struct refusal refusals[] = {
        {SHAPE(expert_count), 8, 0, EPX_ERR_INVALID, "moeExpertNum is 0, must be in [1, 2147483647]"},
        {SHAPE(expert_count), 8, -4, EPX_ERR_INVALID, "moeExpertNum is -4"},
        {SHAPE(expert_count), 8, 10, EPX_ERR_INVALID, "moeExpertNum is 10, must be divisible by 4"},
        {SHAPE(expert_count), 8, INT64_MAX, EPX_ERR_INVALID, "moeExpertNum is 9223372036854775807"},
        {SHAPE(hidden_elems), 8, 0, EPX_ERR_INVALID, "H is 0, must be in [1, 2147483647]"},
        {SHAPE(hidden_elems), 8, 17, EPX_ERR_SHAPE, "x has 16 columns, must have 17 (H)"},
        {SHAPE(topk), 8, 0, EPX_ERR_INVALID, "K is 0, must be in [1, 8]"},
        {SHAPE(topk), 8, 9, EPX_ERR_INVALID, "K is 9, must be in [1, 8] (moeExpertNum)"},
        {SHAPE(topk), 8, 2, EPX_ERR_SHAPE, "expertIds has 3 columns, must have 2 (K)"},
        {SHAPE(shared_rank_count), 8, 4, EPX_ERR_INVALID, "sharedExpertRankNum is 4, must be in [0, 3]"},
        {SHAPE(shared_rank_count), 8, -1, EPX_ERR_INVALID, "sharedExpertRankNum is -1"},
        {SHAPE(shared_rank_count), 8, 2, EPX_ERR_INVALID, "sharedExpertNum is 0, must be 1"},
        {SHAPE(shared_expert_count), 8, 2, EPX_ERR_INVALID, "sharedExpertNum is 2, must be in [0, 1]"},
        {SHAPE(shared_expert_count), 8, 1, EPX_OK, ""},
        {SHAPE(tp_rank_count), 8, 3, EPX_ERR_INVALID, "tpWorldSize is 3, must be in [0, 2]"},
        {SHAPE(tp_rank_count), 8, 2, EPX_ERR_NULL, "groupTp is null"},
        {SHAPE(tp_rank_count), 8, 1, EPX_OK, ""},
        {SHAPE(global_token_count), 8, -1, EPX_ERR_INVALID, "globalBs is -1"},
        {SHAPE(global_token_count), 8, 19, EPX_ERR_INVALID,
         "globalBs is 19, must be 0 or at least 20 (BS 5 * epWorldSize"},
        {SHAPE(global_token_count), 8, 20, EPX_OK, ""},
        {SHAPE(global_token_count), 8, INT64_MAX, EPX_OK, ""},
        {AT(token_count), 8, -1, EPX_ERR_INVALID, "BS is -1"},
        {AT(token_count), 8, INT64_MAX, EPX_ERR_INVALID, "BS is 9223372036854775807, must be in [0, 715827882]"},
        {AT(token_count), 8, 6, EPX_ERR_SHAPE, "x has 5 rows, must have at least 6 (BS)"},
        {AT(token_count), 8, 4, EPX_ERR_SHAPE, "expertIds has 5 rows, must have 4 (BS)"},
    };
    (void)state;
    CHECK_ALL(request_of, refusals);
}

static void validate__options(void **state)
{
    static const struct refusal refusals[] = {
        {SHAPE(dtype), 4, EPX_DTYPE_FP32, EPX_ERR_DTYPE, "dtype of tokens"},
        {SHAPE(dtype), 4, -7, EPX_ERR_DTYPE, "dtype of tokens is -7"},
        {SHAPE(dtype), 4, EPX_DTYPE_FP16, EPX_ERR_DTYPE, "x has dtype bfloat16, must be float16"},
        {SHAPE(quantization), 4, 1, EPX_ERR_INVALID, "quantMode is 1, must be 0 or 2"},
        {SHAPE(quantization), 4, 2, EPX_ERR_DTYPE, "expandX has dtype bfloat16, must be int8"},
        {SHAPE(comm_quantization), 4, 1, EPX_ERR_INVALID, "commQuantMode is 1"},
        {SHAPE(algorithm), 4, 2, EPX_ERR_INVALID, "algorithm is 2"},
        {AT(token_nums_kind), 4, 2, EPX_ERR_INVALID, "expertTokenNumsType is 2"},
        {AT(token_nums_kind), 4, 1, EPX_OK, ""},
        {AT(comm), 8, 0, EPX_ERR_NULL, "groupEp is null"},
    };
    (void)state;
    CHECK_ALL(request_of, refusals);
}

static void validate__tensors(void **state)
{
    static const struct refusal refusals[] = {
        {VIEW(x, dim_count), 4, 0, EPX_ERR_NULL, "x is null"},
        {VIEW(expert_ids, dim_count), 4, 0, EPX_ERR_NULL, "expertIds is null"},
        {VIEW(expand_x, dim_count), 4, 0, EPX_ERR_NULL, "expandX is null"},
        {VIEW(expand_idx, dim_count), 4, 0, EPX_ERR_NULL, "expandIdx is null"},
        {VIEW(expert_token_nums, dim_count), 4, 0, EPX_ERR_NULL, "expertTokenNums is null"},
        {VIEW(ep_recv_counts, dim_count), 4, 0, EPX_ERR_NULL, "epRecvCounts is null"},
        {VIEW(x, dim_count), 4, 1, EPX_ERR_SHAPE, "x has 1 dimensions, must have 2"},
        {VIEW(expand_idx, dim_count), 4, 2, EPX_ERR_SHAPE, "expandIdx has 2 dimensions, must have 1"},
        {VIEW(expert_ids, dtype), 4, EPX_DTYPE_INT64, EPX_ERR_DTYPE, "expertIds has dtype int64, must be int32"},
        {VIEW(expert_token_nums, dtype), 4, EPX_DTYPE_INT32, EPX_ERR_DTYPE, "expertTokenNums has dtype int32"},
        {VIEW(expert_token_nums, dtype), 4, 1000, EPX_ERR_DTYPE, "dtype unknown"},
        {VIEW(x, shape[0]), 8, -5, EPX_ERR_SHAPE, "x has size -5 in dimension 0"},
        {VIEW(x, shape[0]), 8, 50, EPX_OK, ""},
        {VIEW(x, shape[0]), 8, INT64_MAX, EPX_ERR_SHAPE, "x: sizes and strides reach beyond"},
        {VIEW(x, stride[0]), 8, -16, EPX_ERR_SHAPE, "x has stride -16 in dimension 0"},
        {VIEW(x, stride[0]), 8, INT64_MAX, EPX_ERR_SHAPE, "x: sizes and strides reach beyond"},
        {VIEW(x, stride[0]), 8, 0, EPX_OK, ""}, /* one row for all tokens */
        {VIEW(expand_x, stride[0]), 8, 0, EPX_ERR_SHAPE, "expandX is an output and its elements overlap"},
        {VIEW(expand_x, stride[1]), 8, 0, EPX_ERR_SHAPE, "expandX is an output and its elements overlap"},
        {VIEW(expand_x, stride[0]), 8, 15, EPX_ERR_SHAPE, "expandX is an output and its elements overlap"},
        {VIEW(expand_x, stride[0]), 8, 100, EPX_OK, ""},
        {VIEW(expand_x, shape[0]), 8, 0, EPX_OK, ""}, /* what arrives is compared when it is known */
        {VIEW(expand_x, shape[1]), 8, 15, EPX_ERR_SHAPE, "expandX has 15 columns, must have 16 (H)"},
        {VIEW(expand_idx, shape[0]), 8, 14, EPX_ERR_SHAPE, "expandIdx has 14 elements, must have at least 15 (BS * K)"},
        {VIEW(expert_token_nums, shape[0]), 8, 1, EPX_ERR_SHAPE, "expertTokenNums has 1 elements"},
        {VIEW(ep_recv_counts, shape[0]), 8, 7, EPX_ERR_SHAPE, "epRecvCounts has 7 elements, must have at least 8"},
        {VIEW(ep_recv_counts, shape[0]), 8, 9, EPX_OK, ""},
        {VIEW(dynamic_scales, dim_count), 4, 7, EPX_OK, ""}, /* not used: not looked at */
        {VIEW(tp_recv_counts, dim_count), 4, 7, EPX_OK, ""},
        {VIEW(expand_scales, dim_count), 4, 7, EPX_OK, ""},
        {VIEW(expert_scales, dim_count), 4, 7, EPX_OK, ""},
        {VIEW(smooth_scales, dim_count), 4, 2, EPX_ERR_INVALID, "scales is given, must be null with quantMode 0"},
    };
    (void)state;
    CHECK_ALL(request_of, refusals);
}

static void validate__quantized(void **state)
{
    static const struct refusal refusals[] = {
        {VIEW(dynamic_scales, dim_count), 4, 0, EPX_ERR_NULL, "dynamicScales is null"},
        {VIEW(dynamic_scales, dtype), 4, EPX_DTYPE_FP16, EPX_ERR_DTYPE, "dynamicScales has dtype float16"},
        {VIEW(smooth_scales, dim_count), 4, 0, EPX_OK, ""},
        {VIEW(smooth_scales, shape[0]), 8, 7, EPX_ERR_SHAPE, "scales has 7 rows, must have at least 8 (moeExpertNum)"},
        {VIEW(smooth_scales, shape[0]), 8, 9, EPX_OK, ""},
        {VIEW(smooth_scales, shape[1]), 8, 15, EPX_ERR_SHAPE, "scales has 15 columns, must have 16 (H)"},
        {VIEW(smooth_scales, dtype), 4, EPX_DTYPE_BF16, EPX_ERR_DTYPE, "scales has dtype bfloat16"},
    };
    (void)state;
    CHECK_ALL(quantized_of, refusals);
}

static void validate__shared_expert(void **state)
{
    struct epx_dispatch_request request = quantized_of(0);
    struct epx_moe_world world;
    (void)state;
    request.shape.shared_rank_count = 2;
    request.shape.shared_expert_count = 1;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    assert_non_null(strstr(epx_error_text(), "scales has 8 rows, must have 9 (moeExpertNum + 1)"));
    request.tensors.smooth_scales.shape[0] = 10;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    request.tensors.smooth_scales.shape[0] = 9;
    /* This rank holds the shared expert: one local expert, one count a rank. */
    request.tensors.expert_token_nums.shape[0] = 1;
    request.tensors.ep_recv_counts.shape[0] = 4;
    assert_int_equal(epx_dispatch_validate(&request, &world), EPX_OK);
    assert_true(world.holds_shared);
    assert_int_equal(world.rank_experts, 4);
    request.comm = test_world[3]->comm;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    request.tensors.expert_token_nums.shape[0] = 4;
    request.tensors.ep_recv_counts.shape[0] = 16;
    assert_int_equal(epx_dispatch_validate(&request, &world), EPX_OK);
    assert_int_equal(world.first_expert, 4);
    request.shape.expert_count = 7;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "divisible by 2 (epWorldSize 4 - sharedExpertRankNum 2)"));
}

static void validate__tensor_parallel(void **state)
{
    struct epx_dispatch_request request = request_of(0);
    (void)state;
    request.shape.tp_rank_count = 2;
    request.tp_comm = test_world[0]->comm;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "groupTp has 4 ranks, must have 2"));
    request.tp_comm = test_pair[1]->comm;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    assert_non_null(strstr(epx_error_text(), "epRecvCounts has 8 elements, must have at least 16"));
    request.tensors.ep_recv_counts.shape[0] = 16;
    assert_int_equal(validate(&request), EPX_ERR_NULL);
    assert_string_equal(epx_error_text(), "tpRecvCounts is null");
    request.tensors.tp_recv_counts = test_vector(TP_COUNTS, EPX_DTYPE_INT32, 2);
    assert_int_equal(validate(&request), EPX_OK);
}

static void validate__two_level(void **state)
{
    struct epx_dispatch_request request = request_of(0);
    (void)state;
    request.shape.algorithm = EPX_ALGORITHM_TWO_LEVEL;
    request.tensors.expand_idx.dim_count = 0; /* not written */
    assert_int_equal(validate(&request), EPX_OK);
    request.tensors.expert_scales = test_matrix(WEIGHTS, EPX_DTYPE_FP32, 5, 3);
    request.tensors.expand_scales = test_vector(EXPAND_SCALES, EPX_DTYPE_FP32, 40);
    assert_int_equal(validate(&request), EPX_OK);
    request.tensors.expert_scales.shape[1] = 2;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    request.tensors.expert_scales.shape[1] = 3;
    request.tensors.expand_scales.dtype = EPX_DTYPE_INT32;
    assert_int_equal(validate(&request), EPX_ERR_DTYPE);
}

static void validate__overlap(void **state)
{
    struct epx_dispatch_request request = request_of(0);
    (void)state;
    request.tensors.expand_x.data = (char *)test_address(X) + 158;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), "expandX overlaps x in memory");
    request.tensors.expand_x.data = (char *)test_address(X) + 160;
    assert_int_equal(validate(&request), EPX_OK);
    request.tensors.expand_idx.data = request.tensors.ep_recv_counts.data;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "epRecvCounts overlaps expandIdx"));
    /* Inputs may share memory. */
    request = request_of(0);
    request.tensors.x.data = request.tensors.expert_ids.data;
    assert_int_equal(validate(&request), EPX_OK);
    /* Columns of one matrix. */
    request = request_of(0);
    request.tensors.x.stride[0] = 32;
    request.tensors.expand_x.stride[0] = 32;
    request.tensors.expand_x.data = (char *)test_address(X) + 32;
    assert_int_equal(validate(&request), EPX_OK);
    request.tensors.expand_x.data = (char *)test_address(X) + 30;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
}

static void plan__frees_what_it_took(void **state)
{
    struct epx_dispatch_request request = quantized_of(1);
    struct epx_dispatch_plan *plan = NULL;
    struct epx_dispatch_tensors none = {0};
    uint64_t bytes_before;
    uint64_t bytes_after;
    uint64_t count_before;
    uint64_t count_after;
    (void)state;
    epx_arena_usage(&bytes_before, &count_before);
    assert_int_equal(epx_dispatch_plan_create(NULL, &plan), EPX_ERR_NULL);
    assert_int_equal(epx_dispatch_plan_create(&request, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_dispatch_plan_create(&request, &plan), EPX_OK);
    assert_int_equal(epx_dispatch_plan_bind(plan, &none), EPX_OK);
    none.x.data = request.tensors.expand_x.data;
    assert_int_equal(epx_dispatch_plan_bind(plan, &none), EPX_ERR_INVALID);
    epx_dispatch_plan_destroy(plan);
    epx_dispatch_plan_destroy(NULL);
    request.tensors.x.data = NULL;
    assert_int_equal(epx_dispatch_plan_create(&request, &plan), EPX_OK);
    none.x.data = NULL;
    assert_int_equal(epx_dispatch_plan_bind(plan, &none), EPX_ERR_NULL);
    assert_string_equal(epx_error_text(), "x is null");
    epx_dispatch_plan_destroy(plan);
    epx_arena_usage(&bytes_after, &count_after);
    assert_int_equal(bytes_after, bytes_before);
    assert_int_equal(count_after, count_before);
}

/* A plan that no memory can hold is a status, and leaves nothing. */
static void plan__too_large(void **state)
{
    struct epx_dispatch_request request = quantized_of(0);
    struct epx_dispatch_plan *plan = NULL;
    int64_t tokens = 1 << 16;
    uint64_t bytes_before;
    uint64_t bytes_after;
    uint64_t count;
    (void)state;
    epx_arena_usage(&bytes_before, &count);
    request.token_count = tokens;
    request.shape.hidden_elems = INT32_MAX;
    request.tensors.x = test_matrix(X, EPX_DTYPE_BF16, tokens, INT32_MAX);
    request.tensors.expert_ids = test_matrix(IDS, EPX_DTYPE_INT32, tokens, 3);
    request.tensors.smooth_scales.dim_count = 0;
    request.tensors.expand_idx = test_vector(EXPAND_IDX, EPX_DTYPE_INT32, tokens * 3);
    request.tensors.expand_x = test_matrix(EXPAND_X, EPX_DTYPE_INT8, 40, INT32_MAX);
    request.tensors.x.data = NULL;
    request.tensors.expand_x.data = NULL;
    assert_int_equal(epx_dispatch_plan_create(&request, &plan), EPX_ERR_NO_MEMORY);
    assert_null(plan);
    epx_arena_usage(&bytes_after, &count);
    assert_int_equal(bytes_after, bytes_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validate__sizes),          cmocka_unit_test(validate__options),
        cmocka_unit_test(validate__tensors),        cmocka_unit_test(validate__quantized),
        cmocka_unit_test(validate__shared_expert),  cmocka_unit_test(validate__tensor_parallel),
        cmocka_unit_test(validate__two_level),      cmocka_unit_test(validate__overlap),
        cmocka_unit_test(plan__frees_what_it_took), cmocka_unit_test(plan__too_large),
    };
    return cmocka_run_group_tests(tests, test_comms_open, test_comms_close);
}
