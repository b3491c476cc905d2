#include "epx/epx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EXPERTS 6
#define TOKENS  3
#define TOPK    2

/* Four ranks, of which the first has the shared expert; two experts each of the others. */
static const int32_t ids[TOKENS * TOPK] = {0, 3, 1, 5, 2, 3};

static struct epx_experts_lost_args made_up(const enum epx_rank_fate *fates)
{
    struct epx_experts_lost_args args = EPX_EXPERTS_LOST_ARGS_INIT;
    args.rank_count = 4;
    args.shared_rank_count = 1;
    args.expert_count = EXPERTS;
    args.fates = fates;
    args.token_count = TOKENS;
    args.topk = TOPK;
    args.expert_ids = ids;
    return args;
}

static void experts_lost__of_one_rank(void **state)
{
    (void)state;
    const enum epx_rank_fate fates[4] = {EPX_FATE_MEMBER, EPX_FATE_MEMBER, EPX_FATE_SILENT, EPX_FATE_MEMBER};
    const uint8_t experts_expected[EXPERTS] = {0, 0, 1, 1, 0, 0};
    const uint8_t copies_expected[TOKENS * TOPK] = {0, 1, 0, 0, 1, 1};
    uint8_t experts[EXPERTS];
    uint8_t copies[TOKENS * TOPK];
    struct epx_experts_lost_args args = made_up(fates);
    args.experts = experts;
    args.copies = copies;
    assert_int_equal(epx_experts_lost(&args), EPX_OK);
    assert_memory_equal(experts, experts_expected, sizeof experts);
    assert_memory_equal(copies, copies_expected, sizeof copies);
    assert_int_equal(args.expert_lost_count, 2);
    assert_int_equal(args.copy_lost_count, 3);
    assert_int_equal(args.token_lost_count, 2);
}

static void experts_lost__shared_rank_has_none(void **state)
{
    (void)state;
    const enum epx_rank_fate fates[4] = {EPX_FATE_DEAD, EPX_FATE_MEMBER, EPX_FATE_MEMBER, EPX_FATE_MEMBER};
    struct epx_experts_lost_args args = made_up(fates);
    args.expert_lost_count = args.copy_lost_count = args.token_lost_count = -1;
    assert_int_equal(epx_experts_lost(&args), EPX_OK);
    assert_int_equal(args.expert_lost_count + args.copy_lost_count + args.token_lost_count, 0);
}

static void experts_lost__all_fates_but_member(void **state)
{
    (void)state;
    const enum epx_rank_fate fates[4] = {EPX_FATE_MEMBER, EPX_FATE_DEAD, EPX_FATE_LEFT, EPX_FATE_EXCLUDED};
    struct epx_experts_lost_args args = made_up(fates);
    assert_int_equal(epx_experts_lost(&args), EPX_OK);
    assert_int_equal(args.expert_lost_count, EXPERTS);
    assert_int_equal(args.copy_lost_count, TOKENS * TOPK);
    assert_int_equal(args.token_lost_count, TOKENS);
    args.token_count = 0;
    args.expert_ids = NULL;
    assert_int_equal(epx_experts_lost(&args), EPX_OK);
    assert_int_equal(args.expert_lost_count, EXPERTS);
    assert_int_equal(args.copy_lost_count, 0);
}

static void experts_lost__bad_arguments(void **state)
{
    (void)state;
    enum epx_rank_fate fates[4] = {EPX_FATE_MEMBER};
    int32_t bad_ids[TOKENS * TOPK];
    const struct epx_experts_lost_args good = made_up(fates);
    struct epx_experts_lost_args args = good;
    assert_int_equal(epx_experts_lost(NULL), EPX_ERR_NULL);
    args.struct_bytes = 8;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    args.expert_count = 7;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    args.shared_rank_count = 4;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    args.rank_count = 0;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    args.fates = NULL;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_NULL);
    args = good;
    args.expert_ids = NULL;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_NULL);
    args = good;
    args.topk = 7;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    args.token_count = INT64_MAX;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    args = good;
    memcpy(bad_ids, ids, sizeof ids);
    bad_ids[3] = EXPERTS;
    args.expert_ids = bad_ids;
    args.copy_lost_count = 77;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
    assert_string_equal(epx_last_error(), "expertIds[1][1] is 6, must be in [0, 6)");
    assert_int_equal(args.copy_lost_count, 77);
    memset(&fates[2], 0x55, sizeof fates[2]);
    args = good;
    assert_int_equal(epx_experts_lost(&args), EPX_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_lost__of_one_rank),
        cmocka_unit_test(experts_lost__shared_rank_has_none),
        cmocka_unit_test(experts_lost__all_fates_but_member),
        cmocka_unit_test(experts_lost__bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
