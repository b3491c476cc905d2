/*
 * Once warm, dispatch and combine neither allocate nor ask the system for anything but waiting: no malloc, no free, no
 * mapping, no file, no log line. The linker sends these calls of the library here (--wrap, see tests/CMakeLists.txt).
 */
#include "epx/epx.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RANKS       4
#define TOKENS      6
#define HIDDEN      96
#define TOPK        3
#define EXPERTS     12
#define ROWS        (RANKS * TOKENS * (TOPK + 1))
#define WARM_ROUNDS 4
#define ROUNDS      50

static _Thread_local bool watched;
static _Thread_local uint64_t calls;
static _Thread_local const char *first_call;

static void call_seen(const char *name)
{
    if (watched) {
        first_call = calls++ == 0 ? name : first_call;
    }
}

#include "wrapped_calls.h"

struct tensors {
    uint16_t x[TOKENS][HIDDEN];
    uint16_t expand_x[ROWS][HIDDEN]; /* of both operators, int8 rows in the first half of it */
    uint16_t sum[TOKENS][HIDDEN];
    float smooth[EXPERTS][HIDDEN];
    float dynamic_scales[ROWS];
    float expand_scales[ROWS];
    float weights[TOKENS * TOPK];
    int32_t ids[TOKENS * TOPK];
    int32_t expand_idx[TOKENS * TOPK];
    int32_t counts[RANKS * EXPERTS];
    int64_t nums[EXPERTS];
};

struct variant {
    const char *name;
    struct epx_moe_config config;
    bool in_arena;
    bool started; /* by *_start and epx_wait */
};

struct rank {
    pthread_t thread;
    uint32_t index;
    struct epx_communicator *comm;
    const struct variant *variant;
    uint64_t warm_calls; /* before the first round was over: shows that the calls are seen at all */
    uint64_t steady_calls;
    const char *steady_call;
    enum epx_status status;
    char text[512];
};

static struct tensors *tensors_create(const struct rank *rank)
{
    void *memory = NULL;
    if (rank->variant->in_arena) {
        if (epx_memory_alloc(sizeof(struct tensors), &memory) != EPX_OK) {
            return NULL;
        }
    } else {
        memory = calloc(1, sizeof(struct tensors));
    }
    struct tensors *tensors = memory;
    for (uint32_t i = 0; tensors != NULL && i < TOKENS * TOPK; i++) {
        tensors->ids[i] = (int32_t)((rank->index * 5 + i * 7) % (uint32_t)rank->variant->config.expert_count);
        tensors->weights[i] = 0.25f;
    }
    return tensors;
}

static void tensors_destroy(const struct rank *rank, struct tensors *tensors)
{
    if (!rank->variant->in_arena) {
        free(tensors);
    } else if (epx_memory_free(tensors) != EPX_OK) {
        abort();
    }
}

/* Both in flight at once, so that two requests are. */
static enum epx_status run_started(struct epx_plan *plan, const struct epx_dispatch_args *dispatch,
                                   const struct epx_combine_args *combine)
{
    struct epx_request *requests[2] = {NULL, NULL};
    enum epx_status status = epx_dispatch_start(plan, dispatch, &requests[0]);
    if (status == EPX_OK) {
        status = epx_combine_start(plan, combine, &requests[1]);
    }
    for (int i = 0; i < 2; i++) {
        enum epx_status ended = requests[i] != NULL ? epx_wait(&requests[i], -1) : EPX_OK;
        status = status == EPX_OK ? ended : status;
    }
    return status;
}

static enum epx_status run_round(const struct rank *rank, struct epx_plan *plan, struct tensors *tensors)
{
    const struct epx_moe_config *config = &rank->variant->config;
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    dispatch.token_count = TOKENS;
    dispatch.x = tensors->x;
    dispatch.expert_ids = tensors->ids;
    dispatch.expert_scales = tensors->weights;
    dispatch.smooth_scales = config->smooth_scales != 0 ? tensors->smooth[0] : NULL;
    dispatch.expand_x = tensors->expand_x;
    dispatch.dynamic_scales = tensors->dynamic_scales;
    dispatch.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->nums;
    dispatch.ep_recv_counts = tensors->counts;
    dispatch.expand_scales = tensors->expand_scales;
    combine.token_count = TOKENS;
    combine.expand_x = tensors->expand_x;
    combine.expert_ids = tensors->ids;
    combine.expand_idx = tensors->expand_idx;
    combine.ep_send_counts = tensors->counts;
    combine.expert_scales = tensors->weights;
    combine.x = tensors->sum;
    if (rank->variant->started) {
        return run_started(plan, &dispatch, &combine);
    }
    enum epx_status status = epx_dispatch(plan, &dispatch);
    return status == EPX_OK ? epx_combine(plan, &combine) : status;
}

static void *rank_main(void *context)
{
    struct rank *rank = context;
    struct tensors *tensors = tensors_create(rank);
    struct epx_plan *plan = NULL;
    watched = true;
    rank->status = epx_plan_create(rank->comm, &rank->variant->config, &plan);
    for (int round = 0; round < WARM_ROUNDS && rank->status == EPX_OK; round++) {
        rank->status = run_round(rank, plan, tensors);
    }
    rank->warm_calls = calls;
    calls = 0;
    for (int round = 0; round < ROUNDS && rank->status == EPX_OK; round++) {
        rank->status = run_round(rank, plan, tensors);
    }
    watched = false;
    rank->steady_calls = calls;
    rank->steady_call = first_call;
    (void)snprintf(rank->text, sizeof rank->text, "%s", epx_last_error());
    epx_plan_destroy(plan);
    tensors_destroy(rank, tensors);
    return NULL;
}

static void run_variant(const struct variant *variant)
{
    struct epx_comm_config comm_config = EPX_COMM_CONFIG_INIT;
    struct epx_communicator *comms[RANKS];
    struct rank ranks[RANKS];
    comm_config.server_rank_count = 2;
    assert_int_equal(epx_comm_create_local(RANKS, &comm_config, comms), EPX_OK);
    for (uint32_t i = 0; i < RANKS; i++) {
        ranks[i] = (struct rank){.index = i, .comm = comms[i], .variant = variant};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        if (ranks[i].status != EPX_OK) {
            fail_msg("%s: rank %u: %s", variant->name, i, ranks[i].text);
        }
        if (ranks[i].steady_calls != 0) {
            fail_msg("%s: rank %u made %llu calls in %d rounds, first %s", variant->name, i,
                     (unsigned long long)ranks[i].steady_calls, ROUNDS, ranks[i].steady_call);
        }
        assert_true(ranks[i].warm_calls > 0);
    }
}

static struct epx_moe_config base_config(void)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = EXPERTS;
    config.hidden_elems = HIDDEN;
    config.topk = TOPK;
    config.token_max = TOKENS;
    config.recv_row_max = ROWS;
    return config;
}

static void steady__plain(void **state)
{
    struct variant variant = {.name = "plain", .config = base_config(), .in_arena = true};
    (void)state;
    run_variant(&variant);
    variant.name = "plain, private memory";
    variant.in_arena = false;
    run_variant(&variant);
}

static void steady__started(void **state)
{
    struct variant variant = {.name = "started", .config = base_config(), .in_arena = true, .started = true};
    (void)state;
    run_variant(&variant);
}

static void steady__quantised(void **state)
{
    struct variant variant = {.name = "int8", .config = base_config(), .in_arena = true};
    (void)state;
    variant.config.quantization = EPX_ROWS_INT8;
    variant.config.return_quantization = EPX_RETURN_INT8;
    run_variant(&variant);
    variant.name = "int8, smooth scales, private memory";
    variant.config.smooth_scales = 1;
    variant.in_arena = false;
    run_variant(&variant);
}

static void steady__shared_ranks(void **state)
{
    struct variant variant = {.name = "shared", .config = base_config(), .in_arena = true};
    (void)state;
    variant.config.shared_rank_count = 1;
    run_variant(&variant);
}

static void steady__two_level(void **state)
{
    struct variant variant = {.name = "two-level", .config = base_config(), .in_arena = false};
    (void)state;
    variant.config.exchange = EPX_EXCHANGE_TWO_LEVEL;
    run_variant(&variant);
    variant.name = "two-level, int8";
    variant.config.quantization = EPX_ROWS_INT8;
    variant.config.return_quantization = EPX_RETURN_INT8;
    variant.in_arena = true;
    run_variant(&variant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady__plain),     cmocka_unit_test(steady__started),
        cmocka_unit_test(steady__quantised), cmocka_unit_test(steady__shared_ranks),
        cmocka_unit_test(steady__two_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
