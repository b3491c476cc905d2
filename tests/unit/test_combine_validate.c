#include "moe/combine_validate.h"

#include "memory/arena.h"
#include "unit/moe_request_test.h"

enum { EXPAND_X, IDS, EXPAND_IDX, COUNTS, WEIGHTS, TP_COUNTS, X };

static struct epx_combine_request request_of(uint32_t rank)
{
    struct epx_combine_request request = {
        .comm = test_world[rank]->comm,
        .shape = test_shape(),
        .token_count = 5,
        .tensors =
            {
                .expand_x = test_matrix(EXPAND_X, EPX_DTYPE_BF16, 40, 16),
                .expert_ids = test_matrix(IDS, EPX_DTYPE_INT32, 5, 3),
                .expand_idx = test_vector(EXPAND_IDX, EPX_DTYPE_INT32, 15),
                .ep_send_counts = test_vector(COUNTS, EPX_DTYPE_INT32, 8),
                .expert_scales = test_matrix(WEIGHTS, EPX_DTYPE_FP32, 5, 3),
                .x = test_matrix(X, EPX_DTYPE_BF16, 5, 16),
            },
    };
    return request;
}

static enum epx_status validate(const struct epx_combine_request *request)
{
    struct epx_moe_world world;
    return epx_combine_validate(request, &world);
}

#define AT(member)        offsetof(struct epx_combine_request, member)
#define SHAPE(field)      AT(shape.field)
#define VIEW(view, field) AT(tensors.view.field)

static void validate__each_field(void **state)
{
    static const struct refusal refusals[] = {
        {AT(comm), 8, 0, EPX_ERR_NULL, "groupEp is null"},
        {AT(token_count), 8, 4, EPX_ERR_SHAPE, "expertIds has 5 rows, must have 4 (BS)"},
        {SHAPE(expert_count), 8, 6, EPX_ERR_INVALID, "moeExpertNum is 6"},
        {SHAPE(topk), 8, 9, EPX_ERR_INVALID, "K is 9, must be in [1, 8]"},
        {SHAPE(comm_quantization), 4, 2, EPX_OK, ""},
        {SHAPE(comm_quantization), 4, 3, EPX_ERR_INVALID, "commQuantMode is 3"},
        {SHAPE(global_token_count), 8, 3, EPX_ERR_INVALID, "globalBs is 3"},
        {VIEW(expand_x, dim_count), 4, 0, EPX_ERR_NULL, "expandX is null"},
        {VIEW(expert_ids, dim_count), 4, 0, EPX_ERR_NULL, "expertIds is null"},
        {VIEW(expand_idx, dim_count), 4, 0, EPX_ERR_NULL, "expandIdx is null"},
        {VIEW(ep_send_counts, dim_count), 4, 0, EPX_ERR_NULL, "epSendCounts is null"},
        {VIEW(expert_scales, dim_count), 4, 0, EPX_ERR_NULL, "expertScales is null"},
        {VIEW(x, dim_count), 4, 0, EPX_ERR_NULL, "x is null"},
        {VIEW(expand_x, dtype), 4, EPX_DTYPE_INT8, EPX_ERR_DTYPE, "expandX has dtype int8, must be bfloat16"},
        {VIEW(x, dtype), 4, EPX_DTYPE_FP16, EPX_ERR_DTYPE, "x has dtype float16, must be bfloat16"},
        {VIEW(expert_scales, dtype), 4, EPX_DTYPE_BF16, EPX_ERR_DTYPE, "expertScales has dtype bfloat16"},
        {VIEW(expand_idx, shape[0]), 8, 14, EPX_ERR_SHAPE, "expandIdx has 14 elements"},
        {VIEW(ep_send_counts, shape[0]), 8, 7, EPX_ERR_SHAPE, "epSendCounts has 7 elements, must have at least 8"},
        {VIEW(ep_send_counts, shape[0]), 8, 100, EPX_OK, ""},
        {VIEW(expert_scales, shape[1]), 8, 2, EPX_ERR_SHAPE, "expertScales has 2 columns, must have 3 (K)"},
        {VIEW(x, shape[0]), 8, 4, EPX_ERR_SHAPE, "x has 4 rows, must have at least 5 (BS)"},
        {VIEW(x, shape[1]), 8, 17, EPX_ERR_SHAPE, "x has 17 columns, must have 16 (H)"},
        {VIEW(x, stride[0]), 8, 0, EPX_ERR_SHAPE, "x is an output and its elements overlap"},
        {VIEW(expand_x, stride[0]), 8, 0, EPX_OK, ""},
        {VIEW(expand_x, shape[0]), 8, -1, EPX_ERR_SHAPE, "expandX has size -1"},
        {VIEW(tp_send_counts, dim_count), 4, 9, EPX_OK, ""},
        {VIEW(expand_scales, dim_count), 4, 9, EPX_OK, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct epx_combine_request request = request_of(0);
        assert_int_equal(validate(&request), EPX_OK);
        refusal_apply(&request, &refusals[i]);
        refusal_check(&refusals[i], validate(&request));
    }
}

static void validate__tensor_parallel(void **state)
{
    struct epx_combine_request request = request_of(0);
    (void)state;
    request.shape.tp_rank_count = 2;
    request.tp_comm = test_pair[0]->comm;
    request.tensors.ep_send_counts.shape[0] = 16;
    assert_int_equal(validate(&request), EPX_ERR_NULL);
    assert_string_equal(epx_error_text(), "tpSendCounts is null");
    request.tensors.tp_send_counts = test_vector(TP_COUNTS, EPX_DTYPE_INT32, 2);
    assert_int_equal(validate(&request), EPX_OK);
    request.tensors.ep_send_counts.shape[0] = 15;
    assert_int_equal(validate(&request), EPX_ERR_SHAPE);
    request.tensors.ep_send_counts.shape[0] = 16;
    request.shape.comm_quantization = EPX_COMM_QUANTIZATION_INT8;
    assert_int_equal(validate(&request), EPX_OK);
}

static void validate__two_level_needs_no_expand_idx(void **state)
{
    struct epx_combine_request request = request_of(0);
    (void)state;
    request.shape.algorithm = EPX_ALGORITHM_TWO_LEVEL;
    request.tensors.expand_idx.dim_count = 0;
    assert_int_equal(validate(&request), EPX_OK);
}

static void validate__overlap(void **state)
{
    struct epx_combine_request request = request_of(0);
    (void)state;
    request.tensors.x.data = request.tensors.expand_x.data;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), "x overlaps expandX in memory");
    request.tensors.x.data = (char *)request.tensors.expert_scales.data + 56;
    assert_int_equal(validate(&request), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), "x overlaps expertScales in memory");
    request.tensors.x.data = (char *)request.tensors.expert_scales.data + 60;
    assert_int_equal(validate(&request), EPX_OK);
}

static void plan__frees_what_it_took(void **state)
{
    struct epx_combine_request request = request_of(2);
    struct epx_combine_plan *plan = NULL;
    struct epx_combine_tensors none = {0};
    uint64_t bytes_before;
    uint64_t bytes_after;
    uint64_t count_before;
    uint64_t count_after;
    (void)state;
    request.tensors.x.data = NULL;
    epx_arena_usage(&bytes_before, &count_before);
    assert_int_equal(epx_combine_plan_create(NULL, &plan), EPX_ERR_NULL);
    assert_int_equal(epx_combine_plan_create(&request, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_combine_plan_create(&request, &plan), EPX_OK);
    assert_int_equal(epx_combine_plan_bind(plan, &none), EPX_ERR_NULL);
    none.x.data = test_address(X);
    assert_int_equal(epx_combine_plan_bind(plan, &none), EPX_OK);
    none.x.data = request.tensors.expand_x.data;
    assert_int_equal(epx_combine_plan_bind(plan, &none), EPX_ERR_INVALID);
    epx_combine_plan_destroy(plan);
    epx_combine_plan_destroy(NULL);
    epx_arena_usage(&bytes_after, &count_after);
    assert_int_equal(bytes_after, bytes_before);
    assert_int_equal(count_after, count_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validate__each_field),
        cmocka_unit_test(validate__tensor_parallel),
        cmocka_unit_test(validate__two_level_needs_no_expand_idx),
        cmocka_unit_test(validate__overlap),
        cmocka_unit_test(plan__frees_what_it_took),
    };
    return cmocka_run_group_tests(tests, test_comms_open, test_comms_close);
}
