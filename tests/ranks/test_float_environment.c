/* Results do not depend on how the calling thread has set its floating-point unit, and leave it as it is. */
#include "epx_door.h"

#define HIDDEN 64
#define TOPK   2
#define TOKENS 3

/* Flushes subnormal operands and results, and rounds upwards. */
static uint64_t unusual_set(void)
{
#if defined(__x86_64__)
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1F80u | 0x8040u | 0x4000u);
    return before;
#else
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0x1480000)));
    return before;
#endif
}

/* Restores, and returns what was set. */
static uint64_t unusual_end(uint64_t before)
{
#if defined(__x86_64__)
    uint32_t now = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((uint32_t)before);
    return now & ~UINT32_C(0x3F); /* without the flags of what has happened */
#else
    uint64_t now;
    __asm__ volatile("mrs %0, fpcr" : "=r"(now));
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
    return now;
#endif
}

struct tensors {
    uint16_t x[TOKENS][HIDDEN];
    int32_t expert_ids[TOKENS][TOPK];
    float expert_scales[TOKENS][TOPK];
    int8_t expand_int8[TOKENS * TOPK][HIDDEN];
    float dynamic_scales[TOKENS * TOPK];
    uint16_t expand_x[TOKENS * TOPK][HIDDEN];
    int32_t expand_idx[TOKENS * TOPK];
    int64_t expert_token_nums[TOPK];
    int32_t ep_recv_counts[TOPK];
    uint16_t out[TOKENS][HIDDEN];
};

static void fill(struct tensors *tensors)
{
    memset(tensors, 0, sizeof *tensors);
    for (int token = 0; token < TOKENS; token++) {
        for (int h = 0; h < HIDDEN; h++) {
            /* Subnormal numbers, and numbers whose products are inexact. */
            tensors->x[token][h] = (uint16_t)(token == 0 ? h + 1 : 0x3F01 + 3 * h + token);
        }
        for (int k = 0; k < TOPK; k++) {
            tensors->expert_ids[token][k] = k;
            tensors->expert_scales[token][k] = k == 0 ? 0.3f : 0.7f;
        }
    }
}

static void exchange(struct rank *rank, struct tensors *tensors, bool quantized, bool started)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    struct epx_request *request = NULL;
    struct epx_plan *plan = NULL;
    config.expert_count = TOPK;
    config.hidden_elems = HIDDEN;
    config.topk = TOPK;
    config.token_max = TOKENS;
    config.quantization = quantized ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    dispatch.token_count = TOKENS;
    dispatch.x = tensors->x;
    dispatch.expert_ids = tensors->expert_ids[0];
    dispatch.expand_x = quantized ? (void *)tensors->expand_int8 : (void *)tensors->expand_x;
    dispatch.dynamic_scales = tensors->dynamic_scales;
    dispatch.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->expert_token_nums;
    dispatch.ep_recv_counts = tensors->ep_recv_counts;
    combine.token_count = TOKENS;
    combine.expand_x = tensors->expand_x;
    combine.expert_ids = tensors->expert_ids[0];
    combine.expand_idx = tensors->expand_idx;
    combine.ep_send_counts = tensors->ep_recv_counts;
    combine.expert_scales = tensors->expert_scales[0];
    combine.x = tensors->out;
    if (started) {
        RANK_CHECK(epx_dispatch_start(plan, &dispatch, &request) == EPX_OK && epx_wait(&request, -1) == EPX_OK);
        RANK_CHECK(epx_combine_start(plan, &combine, &request) == EPX_OK && epx_wait(&request, -1) == EPX_OK);
    } else {
        RANK_CHECK(epx_dispatch(plan, &dispatch) == EPX_OK && epx_combine(plan, &combine) == EPX_OK);
    }
    epx_plan_destroy(plan);
}

static void compare(struct rank *rank)
{
    static struct tensors usual;
    static struct tensors unusual;
    for (int way = 0; way < 4; way++) {
        bool quantized = way % 2 != 0;
        bool started = way / 2 != 0;
        fill(&usual);
        fill(&unusual);
        exchange(rank, &usual, quantized, started);
        uint64_t before = unusual_set();
        exchange(rank, &unusual, quantized, started);
        uint64_t after = unusual_end(before);
        uint64_t again = unusual_set();
        uint64_t wanted = unusual_end(again);
        RANK_CHECK(after == wanted);
        RANK_CHECK(memcmp(&usual, &unusual, sizeof usual) == 0);
        RANK_CHECK(quantized || usual.out[0][5] != 0);
    }
}

static void exchange__same_bits_whatever_the_thread_has_set(void **state)
{
    (void)state;
    struct epx_communicator *comms[1];
    struct rank ranks[1];
    assert_int_equal(epx_comm_create_local(1, NULL, comms), EPX_OK);
    run_ranks(1, comms, ranks, compare);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange__same_bits_whatever_the_thread_has_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
