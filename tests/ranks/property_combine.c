#include "ranks/property_run.h"
#include "ranks/property_tensor.h"

#include <string.h>

enum slot {
    EXPAND_X,
    EXPERT_IDS,
    EXPAND_IDX,
    EP_SEND_COUNTS,
    EXPERT_SCALES,
    TP_SEND_COUNTS,
    EXPAND_SCALES,
    X,
    SLOT_COUNT,
};

struct combine_test {
    const struct property_rank *rank;
    const struct ref_returns *returns;
    struct random_source random;
    enum property_memory memory;
    bool by_binding; /* run through bindings, all in flight */
    int run_count;   /* equal on all ranks */
    int64_t planned; /* BS of the plan; more than the run's only by binding */
    int64_t count_elems;
    struct property_tensor tensors[SLOT_COUNT];
};

static void layout_matrix(struct combine_test *test, enum slot slot, const char *name, enum epx_dtype dtype,
                          int64_t rows, int64_t columns, bool dense)
{
    property_tensor_layout(&test->tensors[slot], &test->random, name, dtype, 2, rows, columns, dense, slot == X);
}

static void layout_vector(struct combine_test *test, enum slot slot, const char *name, enum epx_dtype dtype,
                          int64_t elems, bool dense)
{
    property_tensor_layout(&test->tensors[slot], &test->random, name, dtype, 1, elems, 1, dense, false);
}

static void layout(struct combine_test *test, bool dense)
{
    const struct world *world = test->rank->world;
    const struct ref_shape *shape = &world->shape;
    struct random_source *random = &test->random;
    int64_t token_count = test->planned;
    int64_t more = random_between(random, 0, 3);
    enum epx_dtype dtype = shape->format == REF_FP16 ? EPX_DTYPE_FP16 : EPX_DTYPE_BF16;
    layout_matrix(test, EXPAND_X, "expand_x", dtype, test->returns->row_capacity, shape->hidden, dense);
    layout_matrix(test, EXPERT_IDS, "expert_ids", EPX_DTYPE_INT32, token_count, shape->topk, dense);
    layout_matrix(test, EXPERT_SCALES, "expert_scales", EPX_DTYPE_FP32, token_count, shape->topk, dense);
    layout_matrix(test, X, "x", dtype, token_count + more, shape->hidden, dense);
    if (!shape->two_level || random_percent(random, 50)) {
        layout_vector(test, EXPAND_IDX, "expand_idx", EPX_DTYPE_INT32, token_count * shape->topk + more, dense);
    }
    layout_vector(test, EP_SEND_COUNTS, "ep_send_counts", EPX_DTYPE_INT32, test->count_elems + more, dense);
    if (shape->tp_count == 2 || random_percent(random, 50)) {
        layout_vector(test, TP_SEND_COUNTS, "tp_send_counts", EPX_DTYPE_INT32, 2 + more, dense);
    }
    if (random_percent(random, 50)) {
        layout_vector(test, EXPAND_SCALES, "expand_scales", EPX_DTYPE_FP32, test->returns->row_capacity, dense);
    }
}

static bool allocate(struct combine_test *test)
{
    const struct ref_shape *shape = &test->rank->world->shape;
    const struct ref_returns *returns = test->returns;
    struct property_tensor *tensors = test->tensors;
    int64_t copies = returns->token_count * shape->topk;
    for (int i = 0; i < SLOT_COUNT; i++) {
        if (property_tensor_allocate(&tensors[i], &test->random, test->memory) != EPX_OK) {
            return property_report_set(test->rank->report, "combine: %s", epx_error_text());
        }
    }
    property_tensor_fill(&tensors[EXPAND_X], returns->expand_x, returns->row_capacity * shape->hidden);
    property_tensor_fill(&tensors[EXPERT_IDS], returns->expert_ids, copies);
    property_tensor_fill(&tensors[EXPERT_SCALES], returns->expert_scales, copies);
    property_tensor_fill(&tensors[EP_SEND_COUNTS], returns->ep_send_counts, test->count_elems);
    if (returns->expand_idx != NULL) {
        property_tensor_fill(&tensors[EXPAND_IDX], returns->expand_idx, copies);
    }
    if (returns->tp_send_counts != NULL) {
        property_tensor_fill(&tensors[TP_SEND_COUNTS], returns->tp_send_counts, 2);
    }
    return true;
}

static void views_of(const struct combine_test *test, struct epx_combine_tensors *views)
{
    views->expand_x = test->tensors[EXPAND_X].view;
    views->expert_ids = test->tensors[EXPERT_IDS].view;
    views->expand_idx = test->tensors[EXPAND_IDX].view;
    views->ep_send_counts = test->tensors[EP_SEND_COUNTS].view;
    views->expert_scales = test->tensors[EXPERT_SCALES].view;
    views->tp_send_counts = test->tensors[TP_SEND_COUNTS].view;
    views->expand_scales = test->tensors[EXPAND_SCALES].view;
    views->x = test->tensors[X].view;
}

static void release(struct combine_test *test)
{
    for (int i = 0; i < SLOT_COUNT; i++) {
        property_tensor_free(&test->tensors[i]);
    }
}

/* All runs in flight; the second finds what the first left. */
static bool run_bindings(struct combine_test *test, struct epx_combine_plan *plan)
{
    struct epx_combine_binding bindings[PROPERTY_RUN_MAX];
    struct epx_combine_tensors views;
    views_of(test, &views);
    for (int i = 0; i < test->run_count; i++) {
        if (epx_combine_binding_init(plan, test->returns->token_count, &views, &bindings[i]) != EPX_OK) {
            return property_report_set(test->rank->report, "combine binding: %s", epx_error_text());
        }
        epx_combine_binding_reserve(plan, &bindings[i]);
    }
    /* All runs come before any complaint: a number that was reserved must be begun. */
    bool good = true;
    for (int i = 0; i < test->run_count; i++) {
        enum epx_status status = epx_combine_binding_run(plan, &bindings[i], NULL);
        good = property_status_check(test->rank, "combine binding", status, &test->rank->world->combine_error) && good;
    }
    return good;
}

static bool run_plan(struct combine_test *test, struct epx_combine_plan *plan)
{
    for (int i = 0; i < test->run_count; i++) {
        epx_combine_plan_reserve(plan);
        enum epx_status status = epx_combine_run(plan, NULL);
        if (!property_status_check(test->rank, "combine", status, &test->rank->world->combine_error)) {
            return false;
        }
    }
    return true;
}

static bool run_bound(struct combine_test *test, struct epx_combine_plan *plan, bool *failed)
{
    const struct world *world = test->rank->world;
    if (test->by_binding) {
        if (!run_bindings(test, plan)) {
            return false;
        }
    } else if (!run_plan(test, plan)) {
        return false;
    }
    *failed = world->combine_error.status != REF_OK;
    if (!*failed) {
        property_tensor_expect(&test->tensors[X], 0, world->x[test->rank->index],
                               test->returns->token_count * world->shape.hidden, NULL);
    }
    return property_tensors_check(test->rank, "combine", test->tensors, SLOT_COUNT, *failed);
}

/* Once more with the plan, other memory and other bytes in the output. */
static bool run_again(struct combine_test *test, struct epx_combine_plan *plan)
{
    struct epx_combine_tensors views;
    bool failed;
    release(test);
    if (!allocate(test)) {
        return false;
    }
    views_of(test, &views);
    if (!test->by_binding && epx_combine_plan_bind(plan, &views) != EPX_OK) {
        return property_report_set(test->rank->report, "combine bind: %s", epx_error_text());
    }
    return run_bound(test, plan, &failed);
}

static bool plan_and_run(struct combine_test *test, bool again, bool *failed)
{
    const struct property_rank *rank = test->rank;
    struct epx_combine_request request = {
        .comm = rank->comm,
        .tp_comm = rank->tp_comm,
        .token_count = test->planned,
    };
    struct epx_combine_plan *plan;
    bool bind_later = random_percent(&test->random, 40);
    property_shape_of(rank->world, &request.shape);
    if (!bind_later && !allocate(test)) {
        return false;
    }
    views_of(test, &request.tensors);
    if (epx_combine_plan_create(&request, &plan) != EPX_OK) {
        return property_report_set(rank->report, "combine plan: %s", epx_error_text());
    }
    bool good = true;
    if (bind_later) {
        good = allocate(test);
        views_of(test, &request.tensors);
        if (good && !test->by_binding && epx_combine_plan_bind(plan, &request.tensors) != EPX_OK) {
            good = property_report_set(rank->report, "combine bind: %s", epx_error_text());
        }
    }
    good = good && run_bound(test, plan, failed);
    good = good && (*failed || !again || run_again(test, plan));
    epx_combine_plan_destroy(plan);
    return good;
}

bool property_run_combine(const struct property_rank *rank, bool *failed)
{
    struct combine_test test = {.rank = rank,
                                .returns = &rank->world->returns[rank->index],
                                .count_elems = rank->world->received[rank->index].count_elems};
    random_seed(&test.random, random_mix(rank->world->seed, 2000 + (uint64_t)rank->index));
    test.memory = (enum property_memory)random_between(&test.random, 0, 2);
    test.run_count = property_run_count(rank->world);
    test.by_binding = random_percent(&test.random, 40);
    test.planned = property_planned_tokens(rank, &test.random, test.by_binding);
    layout(&test, random_percent(&test.random, 50));
    bool good = plan_and_run(&test, rank->world->seed % 3 == 1, failed);
    release(&test);
    return good;
}
