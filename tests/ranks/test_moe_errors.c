/*
 * What goes wrong on one rank fails the operation on all of them: same status, same text, soon, and nothing outside the
 * tensors is written.
 */
#include "ranks/rank_world.h"

#include "memory/arena.h"
#include "moe/request.h"

#define RANKS   4
#define EXPERTS 8
#define TOPK    3
#define TOKENS  5
#define HIDDEN  24
#define ROWS    (RANKS * TOKENS * 2)
#define GUARD   64
#define FILL    0xA5

enum tensor { X, IDS, SCALES, WEIGHTS, EXPAND_X, DYNAMIC, EXPAND_IDX, NUMS, COUNTS, SUM, TENSOR_COUNT };

struct setup {
    struct world *world;
    uint32_t rank;
    struct epx_comm *comm;
    bool in_arena;
    uint8_t *storage[TENSOR_COUNT]; /* GUARD bytes, the tensor, GUARD bytes */
    size_t bytes[TENSOR_COUNT];
    struct epx_dispatch_request dispatch;
    struct epx_combine_request combine;
};

struct variant {
    const char *name;
    enum epx_status status;
    const char *text; /* the whole text, or with `part` a part of it */
    bool part;
    bool combines;                        /* the fault is one of combine; dispatch runs well before */
    uint32_t rank;                        /* where it is */
    void (*request)(struct setup *setup); /* on that rank, before the plans are made; null: none */
    void (*data)(struct setup *setup);    /* on that rank, before the operation; null: none */
};

static bool allocate(struct setup *setup, enum tensor tensor, size_t bytes)
{
    void *memory = NULL;
    size_t all = bytes + 2 * GUARD;
    if (!setup->in_arena) {
        memory = malloc(all);
    } else if (epx_arena_alloc(all, 64, &memory) != EPX_OK) {
        return false;
    }
    if (memory == NULL) {
        return false;
    }
    memset(memory, FILL, all);
    setup->storage[tensor] = memory;
    setup->bytes[tensor] = bytes;
    return true;
}

static bool guards_intact(const struct setup *setup)
{
    for (int tensor = 0; tensor < TENSOR_COUNT; tensor++) {
        for (size_t i = 0; i < GUARD; i++) {
            if (setup->storage[tensor][i] != FILL || setup->storage[tensor][GUARD + setup->bytes[tensor] + i] != FILL) {
                return false;
            }
        }
    }
    return true;
}

static void *data(const struct setup *setup, enum tensor tensor)
{
    return setup->storage[tensor] + GUARD;
}

static struct epx_view matrix(const struct setup *setup, enum tensor tensor, enum epx_dtype dtype, int64_t rows,
                              int64_t columns)
{
    struct epx_view view = {
        .data = data(setup, tensor), .dtype = dtype, .dim_count = 2, .shape = {rows, columns}, .stride = {columns, 1}};
    return view;
}

static struct epx_view vector(const struct setup *setup, enum tensor tensor, enum epx_dtype dtype, int64_t elems)
{
    struct epx_view view = {
        .data = data(setup, tensor), .dtype = dtype, .dim_count = 1, .shape = {elems}, .stride = {1}};
    return view;
}

static void fill(struct setup *setup)
{
    uint16_t *x = data(setup, X);
    int32_t *ids = data(setup, IDS);
    float *weights = data(setup, WEIGHTS);
    float *scales = data(setup, SCALES);
    for (int i = 0; i < TOKENS * HIDDEN; i++) {
        x[i] = (uint16_t)(0x3F00 + i + (int)setup->rank);
    }
    for (int i = 0; i < TOKENS * TOPK; i++) {
        ids[i] = (int32_t)((setup->rank + (uint32_t)(i / TOPK) + (uint32_t)(i % TOPK) * 2) % EXPERTS);
        weights[i] = 0.25f;
    }
    for (int i = 0; i < EXPERTS * HIDDEN; i++) {
        scales[i] = 1.0f;
    }
}

static bool setup_init(struct setup *setup, struct world *world, uint32_t rank)
{
    *setup = (struct setup){.world = world, .rank = rank, .in_arena = rank % 2 == 0};
    if (!allocate(setup, X, TOKENS * HIDDEN * 2) || !allocate(setup, IDS, TOKENS * TOPK * 4) ||
        !allocate(setup, SCALES, EXPERTS * HIDDEN * 4) || !allocate(setup, WEIGHTS, TOKENS * TOPK * 4) ||
        !allocate(setup, EXPAND_X, ROWS * HIDDEN * 2) || !allocate(setup, DYNAMIC, ROWS * 4) ||
        !allocate(setup, EXPAND_IDX, TOKENS * TOPK * 4) || !allocate(setup, NUMS, 3 * 8) ||
        !allocate(setup, COUNTS, RANKS * 3 * 4) || !allocate(setup, SUM, TOKENS * HIDDEN * 2)) {
        return false;
    }
    struct epx_moe_shape shape = {
        .expert_count = EXPERTS, .hidden_elems = HIDDEN, .topk = TOPK, .dtype = EPX_DTYPE_BF16};
    setup->dispatch.shape = shape;
    setup->dispatch.token_count = TOKENS;
    setup->dispatch.tensors.x = matrix(setup, X, EPX_DTYPE_BF16, TOKENS, HIDDEN);
    setup->dispatch.tensors.expert_ids = matrix(setup, IDS, EPX_DTYPE_INT32, TOKENS, TOPK);
    setup->dispatch.tensors.expand_x = matrix(setup, EXPAND_X, EPX_DTYPE_BF16, ROWS, HIDDEN);
    setup->dispatch.tensors.expand_idx = vector(setup, EXPAND_IDX, EPX_DTYPE_INT32, TOKENS * TOPK);
    setup->dispatch.tensors.expert_token_nums = vector(setup, NUMS, EPX_DTYPE_INT64, 2);
    setup->dispatch.tensors.ep_recv_counts = vector(setup, COUNTS, EPX_DTYPE_INT32, RANKS * 2);
    setup->combine.shape = shape;
    setup->combine.token_count = TOKENS;
    setup->combine.tensors.expand_x = setup->dispatch.tensors.expand_x;
    setup->combine.tensors.expert_ids = setup->dispatch.tensors.expert_ids;
    setup->combine.tensors.expand_idx = setup->dispatch.tensors.expand_idx;
    setup->combine.tensors.ep_send_counts = setup->dispatch.tensors.ep_recv_counts;
    setup->combine.tensors.expert_scales = matrix(setup, WEIGHTS, EPX_DTYPE_FP32, TOKENS, TOPK);
    setup->combine.tensors.x = matrix(setup, SUM, EPX_DTYPE_BF16, TOKENS, HIDDEN);
    fill(setup);
    return true;
}

static void setup_fini(struct setup *setup)
{
    for (int tensor = 0; tensor < TENSOR_COUNT; tensor++) {
        if (!setup->in_arena) {
            free(setup->storage[tensor]);
        } else if (epx_arena_free(setup->storage[tensor]) != EPX_OK) {
            abort();
        }
    }
}

/* ---- Faults ---- */

static void bad_id(struct setup *setup)
{
    ((int32_t *)data(setup, IDS))[1 * TOPK + 2] = 260;
}

static void negative_id(struct setup *setup)
{
    ((int32_t *)data(setup, IDS))[0] = -1;
}

static void few_rows(struct setup *setup)
{
    setup->dispatch.tensors.expand_x.shape[0] = 3;
}

static void more_experts(struct setup *setup)
{
    setup->dispatch.shape.expert_count = EXPERTS + RANKS;
    setup->dispatch.tensors.expert_token_nums.shape[0] = 3;
    setup->dispatch.tensors.ep_recv_counts.shape[0] = RANKS * 3;
}

static void other_hidden(struct setup *setup)
{
    setup->dispatch.shape.hidden_elems = HIDDEN / 2;
    setup->dispatch.tensors.x.shape[1] = HIDDEN / 2;
    setup->dispatch.tensors.expand_x.shape[1] = HIDDEN / 2;
}

static void other_topk(struct setup *setup)
{
    setup->dispatch.shape.topk = TOPK - 1;
    setup->dispatch.tensors.expert_ids.shape[1] = TOPK - 1;
}

static void other_global_bs(struct setup *setup)
{
    setup->dispatch.shape.global_token_count = 400;
}

static void other_dtype(struct setup *setup)
{
    setup->dispatch.shape.dtype = EPX_DTYPE_FP16;
    setup->dispatch.tensors.x.dtype = EPX_DTYPE_FP16;
    setup->dispatch.tensors.expand_x.dtype = EPX_DTYPE_FP16;
}

static void quantized(struct setup *setup)
{
    setup->dispatch.shape.quantization = EPX_QUANTIZATION_DYNAMIC_INT8;
    setup->dispatch.tensors.expand_x.dtype = EPX_DTYPE_INT8;
    setup->dispatch.tensors.dynamic_scales = vector(setup, DYNAMIC, EPX_DTYPE_FP32, ROWS);
}

static void quantized_smooth(struct setup *setup)
{
    quantized(setup);
    if (setup->rank == 1) {
        setup->dispatch.tensors.smooth_scales = matrix(setup, SCALES, EPX_DTYPE_FP32, EXPERTS, HIDDEN);
    }
}

static void two_level(struct setup *setup)
{
    setup->dispatch.shape.algorithm = EPX_ALGORITHM_TWO_LEVEL;
}

static void with_shared_ranks(struct setup *setup)
{
    setup->dispatch.shape.shared_rank_count = 2;
    setup->dispatch.shape.shared_expert_count = 1;
}

static void shared_expert_number(struct setup *setup)
{
    setup->dispatch.shape.shared_expert_count = 1;
}

static void return_int8(struct setup *setup)
{
    setup->combine.shape.comm_quantization = EPX_COMM_QUANTIZATION_INT8;
}

static void slot_beyond_block(struct setup *setup)
{
    ((int32_t *)data(setup, EXPAND_IDX))[4] = 9;
}

static void slot_negative(struct setup *setup)
{
    ((int32_t *)data(setup, EXPAND_IDX))[0] = INT32_MIN;
}

static void counts_falling(struct setup *setup)
{
    int32_t *counts = data(setup, COUNTS);
    counts[3] = counts[4] + 1;
}

static void counts_negative(struct setup *setup)
{
    ((int32_t *)data(setup, COUNTS))[0] = -1;
}

static void counts_beyond_tensor(struct setup *setup)
{
    ((int32_t *)data(setup, COUNTS))[RANKS * 2 - 1] = ROWS + 1;
}

static void counts_too_small(struct setup *setup)
{
    memset(data(setup, COUNTS), 0, RANKS * 2 * 4);
}

static void unbound(struct setup *setup)
{
    setup->dispatch.tensors.x.data = NULL;
}

static const struct variant variants[] = {
    {"bad id", EPX_ERR_EXPERT_ID, "rank 3: expertIds[1][2] is 260, must be in [0, 8)", false, false, 3, NULL, bad_id},
    {"negative id", EPX_ERR_EXPERT_ID, "rank 0: expertIds[0][0] is -1, must be in [0, 8)", false, false, 0, NULL,
     negative_id},
    {"capacity", EPX_ERR_CAPACITY, "rank 2 receives 17 rows, expandX holds 3", false, false, 2, few_rows, NULL},
    {"experts", EPX_ERR_MISMATCH, "moeExpertNum", true, false, 1, more_experts, NULL},
    {"hidden", EPX_ERR_MISMATCH, "H ", true, false, 1, other_hidden, NULL},
    {"topk", EPX_ERR_MISMATCH, "K ", true, false, 1, other_topk, NULL},
    {"globalBs", EPX_ERR_MISMATCH, "globalBs", true, false, 2, other_global_bs, NULL},
    {"dtype", EPX_ERR_MISMATCH, "float16", true, false, 1, other_dtype, NULL},
    {"quantMode", EPX_ERR_MISMATCH, "quantMode", true, false, 0, quantized, NULL},
    {"algorithm", EPX_ERR_MISMATCH, "two-level", true, false, 3, two_level, NULL},
    {"shared ranks", EPX_ERR_MISMATCH, "sharedExpertRankNum", true, false, 0, with_shared_ranks, NULL},
    {"shared experts", EPX_ERR_MISMATCH, "sharedExpertNum", true, false, 2, shared_expert_number, NULL},
    {"scales", EPX_ERR_MISMATCH, "scales", true, false, RANKS, quantized_smooth, NULL},
    {"unbound", EPX_ERR_NULL, "rank 1: a tensor of dispatch has no address", false, false, 1, unbound, NULL},
    {"combine id", EPX_ERR_EXPERT_ID, "rank 3: expertIds[1][2] is 260, must be in [0, 8)", false, true, 3, NULL,
     bad_id},
    {"commQuantMode", EPX_ERR_MISMATCH, "commQuantMode", true, true, 1, return_int8, NULL},
    {"slot", EPX_ERR_COUNTS, "rank 1: expandIdx[4] is 9, expert 4 returns 2 rows to this rank", false, true, 1, NULL,
     slot_beyond_block},
    {"negative slot", EPX_ERR_COUNTS, "rank 2: expandIdx[0] is -2147483648", true, true, 2, NULL, slot_negative},
    {"falling counts", EPX_ERR_COUNTS, "rank 0: epSendCounts[4] is ", true, true, 0, NULL, counts_falling},
    {"negative counts", EPX_ERR_COUNTS, "rank 3: epSendCounts[0] is -1, must be >= 0", false, true, 3, NULL,
     counts_negative},
    {"counts beyond", EPX_ERR_COUNTS, "rank 1: epSendCounts[7] is 41, expandX has 40 rows", false, true, 1, NULL,
     counts_beyond_tensor},
    {"counts too small", EPX_ERR_COUNTS, " returns 0 rows to this rank", true, true, 2, NULL, counts_too_small},
};

/* ---- One rank ---- */

static bool afflicted(const struct variant *variant, uint32_t rank)
{
    return variant->rank == rank || variant->rank == RANKS;
}

static void run_operation(struct setup *setup, struct epx_dispatch_plan *dispatch, struct epx_combine_plan *combine,
                          const struct variant *variant)
{
    struct world *world = setup->world;
    uint32_t rank = setup->rank;
    if (variant->combines) {
        epx_dispatch_plan_reserve(dispatch);
        RANK_CHECK(epx_dispatch_run(dispatch, NULL) == EPX_OK);
    }
    if (variant->data != NULL && afflicted(variant, rank)) {
        variant->data(setup);
    }
    /* Twice: the second operation is told the same, at once. */
    for (int i = 0; i < 2; i++) {
        enum epx_status status;
        if (variant->combines) {
            epx_combine_plan_reserve(combine);
            status = epx_combine_run(combine, NULL);
        } else {
            epx_dispatch_plan_reserve(dispatch);
            status = epx_dispatch_run(dispatch, NULL);
        }
        if (i == 0) {
            world_note_failure(world, rank, status);
        }
        RANK_CHECK((int)status == world->reports[rank].status);
        RANK_CHECK(strcmp(epx_error_text(), world->reports[rank].text) == 0);
    }
    RANK_CHECK(guards_intact(setup));
}

static void run_rank(struct world *world, uint32_t rank)
{
    const struct variant *variant = &variants[world->variant];
    struct epx_comm_spec spec = {.name = "errors",
                                 .rank = rank,
                                 .rank_count = RANKS,
                                 .server_rank_count = 2,
                                 .join_timeout_ms = 30000,
                                 .op_timeout_ms = 20000,
                                 .what = "errors"};
    struct setup setup;
    struct epx_dispatch_plan *dispatch;
    struct epx_combine_plan *combine;
    memcpy(spec.key, world->key, sizeof spec.key);
    RANK_CHECK(setup_init(&setup, world, rank));
    RANK_CHECK(epx_comm_open(&spec, &setup.comm) == EPX_OK);
    setup.dispatch.comm = setup.comm;
    setup.combine.comm = setup.comm;
    if (variant->request != NULL && afflicted(variant, rank)) {
        variant->request(&setup);
    }
    RANK_CHECK(epx_dispatch_plan_create(&setup.dispatch, &dispatch) == EPX_OK);
    RANK_CHECK(epx_combine_plan_create(&setup.combine, &combine) == EPX_OK);
    run_operation(&setup, dispatch, combine, variant);
    epx_dispatch_plan_destroy(dispatch);
    epx_combine_plan_destroy(combine);
    RANK_CHECK(epx_comm_close(setup.comm) == EPX_OK);
    setup_fini(&setup);
}

static void check_reports(const struct world *world, const struct variant *variant)
{
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct rank_report *report = &world->reports[rank];
        bool good =
            report->status == (int)variant->status && strcmp(report->text, world->reports[0].text) == 0 &&
            (variant->part ? strstr(report->text, variant->text) != NULL : strcmp(report->text, variant->text) == 0);
        if (!good) {
            fail_msg("%s: rank %u: status %d \"%s\", must be %d \"%s\"", variant->name, rank, report->status,
                     report->text, (int)variant->status, variant->text);
        }
    }
}

static void run_all(void (*run)(struct world *, world_main))
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        struct world *world = world_create(RANKS, 20000);
        world->variant = (int)i;
        run(world, run_rank);
        check_reports(world, &variants[i]);
        world_destroy(world);
    }
}

static void errors__ranks_are_threads(void **state)
{
    (void)state;
    run_all(world_run_threads);
}

static void errors__ranks_are_processes(void **state)
{
    (void)state;
    run_all(world_run);
}

/* One rank combines where the others dispatch. */
static void run_mixed(struct world *world, uint32_t rank)
{
    struct setup setup;
    struct epx_dispatch_plan *dispatch;
    struct epx_combine_plan *combine;
    RANK_CHECK(setup_init(&setup, world, rank));
    RANK_CHECK(world_open(world, rank, &setup.comm) == EPX_OK);
    setup.dispatch.comm = setup.comm;
    setup.combine.comm = setup.comm;
    memset(data(&setup, COUNTS), 0, RANKS * 2 * 4);
    RANK_CHECK(epx_dispatch_plan_create(&setup.dispatch, &dispatch) == EPX_OK);
    RANK_CHECK(epx_combine_plan_create(&setup.combine, &combine) == EPX_OK);
    enum epx_status status;
    if (rank == 2) {
        epx_combine_plan_reserve(combine);
        status = epx_combine_run(combine, NULL);
    } else {
        epx_dispatch_plan_reserve(dispatch);
        status = epx_dispatch_run(dispatch, NULL);
    }
    world_note_failure(world, rank, status);
    epx_dispatch_plan_destroy(dispatch);
    epx_combine_plan_destroy(combine);
    RANK_CHECK(epx_comm_close(setup.comm) == EPX_OK);
    setup_fini(&setup);
}

static void errors__order_of_calls(void **state)
{
    const struct variant expected = {"order", EPX_ERR_MISMATCH, "combine", true, false, 2, NULL, NULL};
    struct world *world = world_create(RANKS, 20000);
    (void)state;
    world_run_threads(world, run_mixed);
    check_reports(world, &expected);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors__ranks_are_threads),
        cmocka_unit_test(errors__ranks_are_processes),
        cmocka_unit_test(errors__order_of_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
