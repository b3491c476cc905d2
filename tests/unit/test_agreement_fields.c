#include "moe/agreement_fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Rank 0 of two, without tensor parallelism where `tp_rank` is negative. */
static struct epx_agreement agreement(const struct epx_moe_shape *shape, int tp_rank, enum epx_moe_group group)
{
    struct epx_moe_world world = {.rank_count = 2, .tp = tp_rank >= 0, .tp_rank = tp_rank >= 0 ? tp_rank : 0};
    struct epx_agreement values;
    epx_moe_agreement_init(&values, shape, &world, false, group);
    return values;
}

static bool agree(const struct epx_agreement *a, const struct epx_agreement *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The two expert-parallel groups of a tensor-parallel world may have different token counts, so also their globalBs. */
static void global_bs__compared_inside_a_group_only(void **state)
{
    struct epx_moe_shape shape = {
        .expert_count = 4, .hidden_elems = 8, .topk = 2, .tp_rank_count = 2, .global_token_count = 16};
    struct epx_moe_shape other = shape;
    (void)state;
    other.global_token_count = 32;
    struct epx_agreement mine = agreement(&shape, 0, EPX_MOE_GROUP_TP);
    struct epx_agreement theirs = agreement(&other, 1, EPX_MOE_GROUP_TP);
    assert_true(agree(&mine, &theirs));
    mine = agreement(&shape, 0, EPX_MOE_GROUP_EP);
    theirs = agreement(&other, 0, EPX_MOE_GROUP_EP);
    assert_false(agree(&mine, &theirs));
}

static void sizes__compared_in_both(void **state)
{
    const struct epx_moe_shape shape = {.expert_count = 4, .hidden_elems = 8, .topk = 2, .tp_rank_count = 2};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct epx_moe_shape other = shape;
        int64_t *const members[] = {&other.expert_count, &other.hidden_elems, &other.topk};
        *members[i] += 1;
        for (int group = EPX_MOE_GROUP_EP; group <= EPX_MOE_GROUP_TP; group++) {
            struct epx_agreement mine = agreement(&shape, 0, (enum epx_moe_group)group);
            struct epx_agreement theirs = agreement(&other, 0, (enum epx_moe_group)group);
            assert_false(agree(&mine, &theirs));
        }
    }
}

/* Forms of dispatch, and the views that an operation ends. */
static void row_views__compared(void **state)
{
    const struct epx_moe_shape shape = {.expert_count = 4, .hidden_elems = 8, .topk = 2};
    struct epx_agreement plain = agreement(&shape, -1, EPX_MOE_GROUP_EP);
    struct epx_agreement same = plain;
    struct epx_agreement other = plain;
    (void)state;
    epx_moe_agreement_set_views(&same, false, 0);
    assert_true(agree(&plain, &same));
    epx_moe_agreement_set_views(&other, true, 0);
    assert_false(agree(&plain, &other));
    epx_moe_agreement_set_views(&same, false, 7);
    epx_moe_agreement_set_views(&other, false, 7);
    assert_true(agree(&same, &other));
    epx_moe_agreement_set_views(&other, false, 9);
    assert_false(agree(&same, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(global_bs__compared_inside_a_group_only),
        cmocka_unit_test(sizes__compared_in_both),
        cmocka_unit_test(row_views__compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
