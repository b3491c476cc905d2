#include "comm/completion.h"
#include "ranks/property_run.h"
#include "ranks/property_tensor.h"

#include <string.h>

enum slot {
    X,
    EXPERT_IDS,
    SMOOTH_SCALES,
    EXPERT_SCALES,
    EXPAND_X,
    DYNAMIC_SCALES,
    EXPAND_IDX,
    EXPERT_TOKEN_NUMS,
    EP_RECV_COUNTS,
    TP_RECV_COUNTS,
    EXPAND_SCALES,
    ROW_VIEWS,
    SLOT_COUNT,
};

struct dispatch_test {
    const struct property_rank *rank;
    struct random_source random;
    enum property_memory memory;
    bool row_views;       /* rows are shown, not copied; equal on all ranks */
    bool by_binding;      /* run through bindings, all in flight */
    int run_count;        /* equal on all ranks */
    int64_t planned;      /* BS of the plan; more than the run's only by binding */
    uint64_t views_round; /* of the last run */
    struct property_tensor tensors[SLOT_COUNT];
};

static void layout_inputs(struct dispatch_test *test, bool dense)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    const struct ref_tokens *tokens = &test->rank->world->tokens[test->rank->index];
    struct random_source *random = &test->random;
    enum epx_dtype dtype = shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
    int64_t more = random_between(random, 0, 2);
    property_tensor_layout(&test->tensors[X], random, "x", dtype, 2, test->planned + more, shape->hidden, dense, false);
    property_tensor_layout(&test->tensors[EXPERT_IDS], random, "expert_ids", EPX_DTYPE_INT32, 2, test->planned,
                           shape->topk, dense, false);
    if (tokens->expert_scales != NULL) {
        property_tensor_layout(&test->tensors[EXPERT_SCALES], random, "expert_scales", EPX_DTYPE_FP32, 2, test->planned,
                               shape->topk, dense, false);
    }
    if (shape->smooth) {
        int64_t rows = shape->expert_count + (shape->shared_rank_count > 0 ? 1 : random_between(random, 0, 2));
        property_tensor_layout(&test->tensors[SMOOTH_SCALES], random, "smooth_scales", EPX_DTYPE_FP32, 2, rows,
                               shape->hidden, dense, false);
    }
}

static int64_t count_elems(const struct ref_shape *shape, int64_t rank)
{
    return shape->rank_count * ref_local_expert_count(shape, rank) * shape->tp_count;
}

static void layout_vector(struct dispatch_test *test, enum slot slot, const char *name, enum epx_dtype dtype,
                          int64_t elems, bool dense)
{
    property_tensor_layout(&test->tensors[slot], &test->random, name, dtype, 1, elems, 1, dense, true);
}

static void layout_outputs(struct dispatch_test *test, bool dense)
{
    const struct world *world = test->rank->world;
    const struct ref_shape *shape = &world->shape;
    const struct ref_tokens *tokens = &world->tokens[test->rank->index];
    struct random_source *random = &test->random;
    int64_t group_rank = test->rank->index % shape->rank_count;
    int64_t rows = tokens->row_capacity;
    enum epx_dtype dtype = shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
    int64_t more = random_between(random, 0, 3);
    int64_t counts = count_elems(shape, group_rank) + (shape->two_level ? tokens->tail_room_bytes / 4 : more);
    property_tensor_layout(&test->tensors[EXPAND_X], random, "expand_x", shape->quantize ? EPX_DTYPE_INT8 : dtype, 2,
                           rows, shape->hidden, dense, true);
    if (shape->quantize || random_percent(random, 30)) {
        layout_vector(test, DYNAMIC_SCALES, "dynamic_scales", EPX_DTYPE_FP32, rows + more, dense);
    }
    if (test->row_views) {
        layout_vector(test, ROW_VIEWS, "row_views", EPX_DTYPE_INT64, rows + more, dense);
    }
    layout_vector(test, EXPAND_IDX, "expand_idx", EPX_DTYPE_INT32, test->planned * shape->topk + more, dense);
    layout_vector(test, EXPERT_TOKEN_NUMS, "expert_token_nums", EPX_DTYPE_INT64,
                  ref_local_expert_count(shape, group_rank) + more, dense);
    layout_vector(test, EP_RECV_COUNTS, "ep_recv_counts", EPX_DTYPE_INT32, counts, dense || shape->two_level);
    if (shape->tp_count == 2 || random_percent(random, 50)) {
        layout_vector(test, TP_RECV_COUNTS, "tp_recv_counts", EPX_DTYPE_INT32, 2 + more, dense);
    }
    if (world->expand_scales_given) {
        layout_vector(test, EXPAND_SCALES, "expand_scales", EPX_DTYPE_FP32, rows + more, dense);
    }
}

static void fill_inputs(struct dispatch_test *test)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    const struct ref_tokens *tokens = &test->rank->world->tokens[test->rank->index];
    int64_t copies = tokens->token_count * shape->topk;
    property_tensor_fill(&test->tensors[X], tokens->x, tokens->token_count * shape->hidden);
    property_tensor_fill(&test->tensors[EXPERT_IDS], tokens->expert_ids, copies);
    if (tokens->expert_scales != NULL) {
        property_tensor_fill(&test->tensors[EXPERT_SCALES], tokens->expert_scales, copies);
    }
    if (shape->smooth) {
        int64_t rows = shape->expert_count + (shape->shared_rank_count > 0 ? 1 : 0);
        property_tensor_fill(&test->tensors[SMOOTH_SCALES], tokens->smooth_scales, rows * shape->hidden);
    }
}

/* The bytes behind the addresses; where the addresses lead is the library's to choose, so that is what must be there.
 */
static bool expect_row_views(struct dispatch_test *test)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    const struct ref_received *received = &test->rank->world->received[test->rank->index];
    struct property_tensor *tensor = &test->tensors[ROW_VIEWS];
    size_t elem_bytes = shape->quantize ? sizeof(int8_t) : sizeof(uint16_t);
    size_t row_bytes = (size_t)shape->hidden * elem_bytes;
    for (int64_t row = 0; row < received->row_count; row++) {
        const uint8_t *place = (const uint8_t *)tensor->view.data + row * tensor->view.stride[0] * 8;
        const uint8_t *address;
        memcpy(&address, place, sizeof address);
        property_tensor_expect(tensor, row, place, 1, NULL);
        if ((uintptr_t)address % elem_bytes != 0 ||
            memcmp(address, (const uint8_t *)received->expand_x + (size_t)row * row_bytes, row_bytes) != 0) {
            return property_report_set(test->rank->report, "dispatch: row %lld is not what its view shows",
                                       (long long)row);
        }
    }
    return true;
}

static bool expect_outputs(struct dispatch_test *test)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    const struct ref_received *received = &test->rank->world->received[test->rank->index];
    const struct ref_tokens *tokens = &test->rank->world->tokens[test->rank->index];
    struct property_tensor *tensors = test->tensors;
    if (!test->row_views) {
        property_tensor_expect(&tensors[EXPAND_X], 0, received->expand_x, received->row_count * shape->hidden, NULL);
    }
    property_tensor_expect(&tensors[EXPERT_TOKEN_NUMS], 0, received->expert_token_nums, received->local_expert_count,
                           NULL);
    property_tensor_expect(&tensors[EP_RECV_COUNTS], 0, received->ep_recv_counts, received->count_elems, NULL);
    if (received->tail != NULL) {
        property_tensor_expect(&tensors[EP_RECV_COUNTS], received->count_elems, received->tail,
                               received->tail_bytes / 4, received->tail_written);
    }
    if (received->dynamic_scales != NULL) {
        property_tensor_expect(&tensors[DYNAMIC_SCALES], 0, received->dynamic_scales, received->row_count, NULL);
    }
    if (received->expand_idx != NULL) {
        property_tensor_expect(&tensors[EXPAND_IDX], 0, received->expand_idx, tokens->token_count * shape->topk, NULL);
    }
    if (received->tp_recv_counts != NULL) {
        property_tensor_expect(&tensors[TP_RECV_COUNTS], 0, received->tp_recv_counts, 2, NULL);
    }
    if (received->expand_scales != NULL && tensors[EXPAND_SCALES].view.dim_count != 0) {
        property_tensor_expect(&tensors[EXPAND_SCALES], 0, received->expand_scales, received->row_count, NULL);
    }
    return !test->row_views || expect_row_views(test);
}

static void views_of(const struct dispatch_test *test, struct epx_dispatch_tensors *views)
{
    views->x = test->tensors[X].view;
    views->expert_ids = test->tensors[EXPERT_IDS].view;
    views->smooth_scales = test->tensors[SMOOTH_SCALES].view;
    views->expert_scales = test->tensors[EXPERT_SCALES].view;
    views->expand_x = test->tensors[EXPAND_X].view;
    views->dynamic_scales = test->tensors[DYNAMIC_SCALES].view;
    views->expand_idx = test->tensors[EXPAND_IDX].view;
    views->expert_token_nums = test->tensors[EXPERT_TOKEN_NUMS].view;
    views->ep_recv_counts = test->tensors[EP_RECV_COUNTS].view;
    views->tp_recv_counts = test->tensors[TP_RECV_COUNTS].view;
    views->expand_scales = test->tensors[EXPAND_SCALES].view;
    views->row_views = (struct epx_view){0}; /* a binding's alone */
}

static void release(struct dispatch_test *test)
{
    for (int i = 0; i < SLOT_COUNT; i++) {
        property_tensor_free(&test->tensors[i]);
    }
}

static bool allocate(struct dispatch_test *test)
{
    for (int i = 0; i < SLOT_COUNT; i++) {
        if (property_tensor_allocate(&test->tensors[i], &test->random, test->memory) != EPX_OK) {
            return property_report_set(test->rank->report, "dispatch: %s", epx_error_text());
        }
    }
    fill_inputs(test);
    return true;
}

/* Of views nothing is moved but addresses and scales, and once a row what no peer could read where it was. */
static bool views_stats_check(const struct dispatch_test *test, const struct epx_operation_stats *stats)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    int64_t tokens = test->rank->world->tokens[test->rank->index].token_count;
    int64_t rows = test->rank->world->received[test->rank->index].row_count;
    int64_t made = shape->smooth && !shape->two_level
                       ? tokens * shape->topk + (shape->shared_rank_count > 0 ? tokens : 0)
                       : tokens;
    int64_t read = made * shape->hidden * 2;
    int64_t written = shape->quantize ? made * (shape->hidden + 4) : read;
    int64_t moved_read = shape->quantize ? rows * 4 : 0;
    int64_t moved_written = moved_read + rows * 8;
    bool in_place = !shape->quantize && stats->bytes_read == moved_read && stats->bytes_written == moved_written;
    if (!in_place && (stats->bytes_read != read + moved_read || stats->bytes_written != written + moved_written)) {
        return property_report_set(test->rank->report, "row views: stats say %lld bytes read, %lld written",
                                   (long long)stats->bytes_read, (long long)stats->bytes_written);
    }
    return true;
}

static bool stats_check(const struct dispatch_test *test, const struct epx_operation_stats *stats)
{
    const struct world *world = test->rank->world;
    int64_t token_count = world->tokens[test->rank->index].token_count;
    int64_t sent = token_count * world->shape.topk + (world->shape.shared_rank_count > 0 ? token_count : 0);
    int64_t received = world->received[test->rank->index].row_count;
    if (stats->rows_sent != sent || stats->rows_received != received) {
        return property_report_set(
            test->rank->report, "dispatch: stats say %lld rows sent, %lld received, must be %lld, %lld",
            (long long)stats->rows_sent, (long long)stats->rows_received, (long long)sent, (long long)received);
    }
    return !test->row_views || views_stats_check(test, stats);
}

/* After this, and not before, peers may free what this rank was shown. */
static bool release_views(struct dispatch_test *test, struct epx_dispatch_plan *plan)
{
    const struct property_rank *rank = test->rank;
    if (epx_dispatch_views_release(plan, test->views_round, epx_round_reserve(rank->comm)) != EPX_OK) {
        return property_report_set(rank->report, "release of row views: %s", epx_error_text());
    }
    return true;
}

/* All runs in flight; the second finds what the first left. */
static bool run_bindings(struct dispatch_test *test, struct epx_dispatch_plan *plan, struct epx_operation_stats *stats)
{
    const struct ref_error *expected = &test->rank->world->dispatch_error;
    int64_t token_count = test->rank->world->tokens[test->rank->index].token_count;
    struct epx_dispatch_binding bindings[PROPERTY_RUN_MAX];
    struct epx_dispatch_tensors views;
    views_of(test, &views);
    views.row_views = test->tensors[ROW_VIEWS].view;
    for (int i = 0; i < test->run_count; i++) {
        if (epx_dispatch_binding_init(plan, token_count, &views, &bindings[i]) != EPX_OK) {
            return property_report_set(test->rank->report, "dispatch binding: %s", epx_error_text());
        }
        epx_dispatch_binding_reserve(plan, &bindings[i]);
        test->views_round = bindings[i].round;
    }
    /* All runs come before any complaint: a number that was reserved must be begun. */
    bool good = true;
    for (int i = 0; i < test->run_count; i++) {
        enum epx_status status = epx_dispatch_binding_run(plan, &bindings[i], stats);
        good = property_status_check(test->rank, "dispatch binding", status, expected) && good;
    }
    return good;
}

static bool run_plan(struct dispatch_test *test, struct epx_dispatch_plan *plan, struct epx_operation_stats *stats)
{
    for (int i = 0; i < test->run_count; i++) {
        epx_dispatch_plan_reserve(plan);
        enum epx_status status = epx_dispatch_run(plan, stats);
        if (!property_status_check(test->rank, "dispatch", status, &test->rank->world->dispatch_error)) {
            return false;
        }
    }
    return true;
}

static bool run_bound(struct dispatch_test *test, struct epx_dispatch_plan *plan, bool *failed)
{
    const struct ref_error *expected = &test->rank->world->dispatch_error;
    struct epx_operation_stats stats = {0};
    if (test->by_binding) {
        if (!run_bindings(test, plan, &stats)) {
            return false;
        }
    } else if (!run_plan(test, plan, &stats)) {
        return false;
    }
    *failed = expected->status != REF_OK;
    return (*failed || expect_outputs(test)) &&
           property_tensors_check(test->rank, "dispatch", test->tensors, SLOT_COUNT, *failed) &&
           (*failed || stats_check(test, &stats)) && (*failed || !test->row_views || release_views(test, plan));
}

/* Once more with the plan, other memory and other bytes in the outputs. */
static bool run_again(struct dispatch_test *test, struct epx_dispatch_plan *plan)
{
    struct epx_dispatch_tensors views;
    bool failed;
    release(test);
    if (!allocate(test)) {
        return false;
    }
    views_of(test, &views);
    if (!test->by_binding && epx_dispatch_plan_bind(plan, &views) != EPX_OK) {
        return property_report_set(test->rank->report, "dispatch bind: %s", epx_error_text());
    }
    return run_bound(test, plan, &failed);
}

static bool plan_and_run(struct dispatch_test *test, bool again, bool *failed)
{
    const struct property_rank *rank = test->rank;
    struct epx_dispatch_request request = {
        .comm = rank->comm,
        .tp_comm = rank->tp_comm,
        .token_count = test->planned,
        .token_nums_kind =
            rank->world->shape.token_nums == REF_TOKEN_NUMS_PREFIX ? EPX_TOKEN_NUMS_PREFIX : EPX_TOKEN_NUMS_COUNT,
    };
    struct epx_dispatch_plan *plan;
    bool bind_later = random_percent(&test->random, 40);
    property_shape_of(rank->world, &request.shape);
    if (!bind_later && !allocate(test)) {
        return false;
    }
    views_of(test, &request.tensors);
    if (epx_dispatch_plan_create(&request, &plan) != EPX_OK) {
        return property_report_set(rank->report, "dispatch plan: %s", epx_error_text());
    }
    bool good = true;
    if (bind_later) {
        good = allocate(test);
        views_of(test, &request.tensors);
        if (good && !test->by_binding && epx_dispatch_plan_bind(plan, &request.tensors) != EPX_OK) {
            good = property_report_set(rank->report, "dispatch bind: %s", epx_error_text());
        }
    }
    good = good && run_bound(test, plan, failed);
    good = good && (*failed || !again || run_again(test, plan));
    epx_dispatch_plan_destroy(plan);
    return good;
}

bool property_run_dispatch(const struct property_rank *rank, bool *failed)
{
    struct dispatch_test test = {.rank = rank};
    random_seed(&test.random, random_mix(rank->world->seed, 1000 + (uint64_t)rank->index));
    test.memory = (enum property_memory)random_between(&test.random, 0, 2);
    test.run_count = property_run_count(rank->world);
    test.row_views = rank->world->shape.tp_count == 1 && (rank->world->seed >> 16) % 3 == 0;
    test.by_binding = random_percent(&test.random, 40) || test.row_views;
    test.planned = property_planned_tokens(rank, &test.random, test.by_binding);
    bool dense = random_percent(&test.random, 50);
    layout_inputs(&test, dense);
    layout_outputs(&test, dense);
    bool good = plan_and_run(&test, rank->world->seed % 3 == 0, failed);
    release(&test);
    return good;
}
