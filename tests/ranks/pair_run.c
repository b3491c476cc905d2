#include "ranks/pair_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What outputs hold before a pair: no value that the worlds draw on purpose. */
#define POISON 0xA5

__attribute__((format(printf, 2, 3))) static bool wrong(struct pair_run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(run->text, sizeof run->text, format, args);
    va_end(args);
    return false;
}

static const struct ref_tokens *tokens_of(const struct pair_run *run, uint32_t world)
{
    return &run->set->worlds[world].tokens[run->rank];
}

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

/* Null: run->text says why. Not even a tensor without elements is null. */
static void *take(struct pair_run *run, int64_t count, size_t elem_bytes)
{
    enum pair_memory memory = (enum pair_memory)random_between(&run->random, 0, PAIR_MEMORY_COUNT - 1);
    size_t bytes = (count > 0 ? (size_t)count : 1) * elem_bytes;
    memory = run->set->largest ? PAIR_MEMORY_ALLOCATED : memory;
    void *address = NULL;
    enum epx_status status = EPX_OK;
    if (run->taken_count == PAIR_TAKEN_MAX) {
        (void)wrong(run, "more than %u tensors", PAIR_TAKEN_MAX);
        return NULL;
    }
    if (memory == PAIR_MEMORY_PRIVATE) {
        address = malloc(bytes);
    } else if (memory == PAIR_MEMORY_ALLOCATED) {
        status = epx_memory_alloc(bytes, &address);
    } else {
        status = epx_memory_reserve(bytes, &address);
        status = status == EPX_OK ? epx_memory_need(address, bytes) : status;
    }
    if (address == NULL || status != EPX_OK) {
        (void)wrong(run, "%zu bytes: %s", bytes, status == EPX_OK ? "malloc" : epx_last_error());
        return NULL;
    }
    run->taken[run->taken_count++] = (struct pair_taken){address, memory};
    return address;
}

static int64_t smooth_elems(const struct ref_shape *shape)
{
    return (shape->expert_count + (shape->shared_rank_count > 0 ? 1 : 0)) * shape->hidden;
}

static bool take_inputs(struct pair_run *run)
{
    const struct ref_shape *shape = &run->set->shape;
    struct pair_inputs *inputs = &run->inputs;
    int64_t copies = run->set->token_max * shape->topk;
    inputs->x = take(run, run->set->token_max * shape->hidden, sizeof(uint16_t));
    inputs->ids = take(run, copies, sizeof(int32_t));
    inputs->scales = take(run, copies, sizeof(float));
    inputs->smooth = take(run, shape->smooth ? smooth_elems(shape) : 0, sizeof(float));
    inputs->returns = take(run, run->row_max * shape->hidden, sizeof(uint16_t));
    inputs->slots = take(run, copies, sizeof(int32_t));
    inputs->weights = take(run, copies, sizeof(float));
    return run->text[0] == '\0';
}

static bool take_outputs(struct pair_run *run)
{
    const struct ref_shape *shape = &run->set->shape;
    int64_t copies = run->set->token_max * shape->topk;
    run->rows = take(run, run->row_max * shape->hidden, shape->quantize ? 1 : 2);
    run->views = take(run, run->row_max, sizeof(void *));
    run->dynamic_scales = take(run, run->row_max, sizeof(float));
    run->expand_idx = take(run, copies, sizeof(int32_t));
    run->token_nums = take(run, run->local_experts, sizeof(int64_t));
    run->counts = take(run, shape->rank_count * run->local_experts, sizeof(int32_t));
    run->expand_scales = take(run, run->row_max, sizeof(float));
    run->x = take(run, run->set->token_max * shape->hidden, sizeof(uint16_t));
    return run->text[0] == '\0';
}

static void poison_outputs(struct pair_run *run)
{
    const struct ref_shape *shape = &run->set->shape;
    size_t copies = (size_t)(run->set->token_max * shape->topk);
    memset(run->rows, POISON, (size_t)(run->row_max * shape->hidden) * (shape->quantize ? 1 : 2));
    memset(run->views, 0, (size_t)run->row_max * sizeof(void *));
    memset(run->dynamic_scales, POISON, (size_t)run->row_max * sizeof(float));
    memset(run->expand_idx, POISON, copies * sizeof(int32_t));
    memset(run->token_nums, POISON, (size_t)run->local_experts * sizeof(int64_t));
    memset(run->counts, POISON, (size_t)(shape->rank_count * run->local_experts) * sizeof(int32_t));
    memset(run->expand_scales, POISON, (size_t)run->row_max * sizeof(float));
    memset(run->x, POISON, (size_t)(run->set->token_max * shape->hidden) * sizeof(uint16_t));
}

static void fill(void *memory, const void *source, int64_t count, size_t elem_bytes)
{
    if (source != NULL && count > 0) {
        memcpy(memory, source, (size_t)count * elem_bytes);
    }
}

static void fill_dispatch(struct pair_run *run, uint32_t world)
{
    const struct ref_shape *shape = &run->set->shape;
    const struct ref_tokens *tokens = tokens_of(run, world);
    int64_t copies = tokens->token_count * shape->topk;
    fill(run->inputs.x, tokens->x, tokens->token_count * shape->hidden, sizeof(uint16_t));
    fill(run->inputs.ids, tokens->expert_ids, copies, sizeof(int32_t));
    fill(run->inputs.scales, tokens->expert_scales, copies, sizeof(float));
    fill(run->inputs.smooth, tokens->smooth_scales, smooth_elems(shape), sizeof(float));
}

/* x stays while row views are out. */
static void poison_dispatch(struct pair_run *run, enum pair_way way)
{
    const struct ref_shape *shape = &run->set->shape;
    size_t copies = (size_t)(run->set->token_max * shape->topk);
    if (way == PAIR_WAY_COPIES) {
        memset(run->inputs.x, POISON, (size_t)(run->set->token_max * shape->hidden) * sizeof(uint16_t));
    }
    memset(run->inputs.ids, POISON, copies * sizeof(int32_t));
    memset(run->inputs.scales, POISON, copies * sizeof(float));
    memset(run->inputs.smooth, POISON, (size_t)(shape->smooth ? smooth_elems(shape) : 0) * sizeof(float));
}

static void fill_combine(struct pair_run *run, uint32_t world)
{
    const struct ref_shape *shape = &run->set->shape;
    const struct ref_returns *returns = &run->set->worlds[world].returns[run->rank];
    int64_t copies = returns->token_count * shape->topk;
    int64_t rows = returns->row_capacity < run->row_max ? returns->row_capacity : run->row_max;
    fill(run->inputs.ids, returns->expert_ids, copies, sizeof(int32_t));
    fill(run->inputs.slots, returns->expand_idx, copies, sizeof(int32_t));
    fill(run->inputs.weights, returns->expert_scales, copies, sizeof(float));
    fill(run->inputs.returns, returns->expand_x, rows * shape->hidden, sizeof(uint16_t));
}

static void poison_combine(struct pair_run *run)
{
    const struct ref_shape *shape = &run->set->shape;
    size_t copies = (size_t)(run->set->token_max * shape->topk);
    memset(run->inputs.x, POISON, (size_t)(run->set->token_max * shape->hidden) * sizeof(uint16_t));
    memset(run->inputs.ids, POISON, copies * sizeof(int32_t));
    memset(run->inputs.slots, POISON, copies * sizeof(int32_t));
    memset(run->inputs.weights, POISON, copies * sizeof(float));
    memset(run->inputs.returns, POISON, (size_t)(run->row_max * shape->hidden) * sizeof(uint16_t));
    memset(run->counts, POISON, (size_t)(shape->rank_count * run->local_experts) * sizeof(int32_t));
}

/* ---- Comparing ------------------------------------------------------------------------------------------------- */

static uint64_t hash_add(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    for (size_t done = 0; done < bytes; done += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, from + done, bytes - done < sizeof word ? bytes - done : sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return hash;
}

static bool same(struct pair_run *run, const char *name, const void *got, const void *want, size_t bytes)
{
    const uint8_t *left = got;
    const uint8_t *right = want;
    size_t at = 0;
    run->hash = hash_add(run->hash, got, bytes);
    if (bytes == 0 || memcmp(got, want, bytes) == 0) {
        return true;
    }
    while (left[at] == right[at]) {
        at++;
    }
    return wrong(run, "%s: byte %zu of %zu is %#x, must be %#x", name, at, bytes, left[at], right[at]);
}

/* What lies beyond an output's valid elements keeps what it held. */
static bool kept(struct pair_run *run, const char *name, const void *data, int64_t first, int64_t count,
                 size_t elem_bytes)
{
    const uint8_t *from = data;
    for (size_t at = (size_t)first * elem_bytes; at < (size_t)count * elem_bytes; at++) {
        if (from[at] != POISON) {
            return wrong(run, "%s: byte %zu, beyond what is valid, is %#x, must be %#x", name, at, from[at], POISON);
        }
    }
    return true;
}

static bool views_same(struct pair_run *run, const struct ref_received *received)
{
    const struct ref_shape *shape = &run->set->shape;
    size_t elem_bytes = shape->quantize ? 1 : 2;
    size_t row_bytes = (size_t)shape->hidden * elem_bytes;
    for (int64_t row = 0; row < received->row_count; row++) {
        const uint8_t *want = (const uint8_t *)received->expand_x + (size_t)row * row_bytes;
        if (run->views[row] == NULL || (uintptr_t)run->views[row] % elem_bytes != 0 ||
            !same(run, "row view", run->views[row], want, row_bytes)) {
            return wrong(run, "row view %lld of %lld (%p) does not show its row", (long long)row,
                         (long long)received->row_count, run->views[row]);
        }
    }
    return true;
}

static bool rows_same(struct pair_run *run, const struct ref_received *received)
{
    const struct ref_shape *shape = &run->set->shape;
    size_t row_bytes = (size_t)shape->hidden * (shape->quantize ? 1 : 2);
    /* Row by row, so that the hash is that of views. */
    for (int64_t row = 0; row < received->row_count; row++) {
        size_t at = (size_t)row * row_bytes;
        if (!same(run, "expand_x", run->rows + at, (const uint8_t *)received->expand_x + at, row_bytes)) {
            return false;
        }
    }
    return kept(run, "expand_x", run->rows, received->row_count, run->row_max, row_bytes);
}

static bool dispatch_same(struct pair_run *run, const struct pair_choice *choice)
{
    const struct ref_shape *shape = &run->set->shape;
    const struct ref_received *received = &run->set->worlds[choice->world].received[run->rank];
    size_t rows = (size_t)received->row_count;
    size_t copies = (size_t)(tokens_of(run, choice->world)->token_count * shape->topk);
    bool good = same(run, "ep_recv_counts", run->counts, received->ep_recv_counts, (size_t)received->count_elems * 4) &&
                same(run, "expert_token_nums", run->token_nums, received->expert_token_nums,
                     (size_t)received->local_expert_count * 8);
    if (good && received->expand_idx != NULL) {
        good = same(run, "expand_idx", run->expand_idx, received->expand_idx, copies * 4);
    }
    if (good && received->dynamic_scales != NULL) {
        good = same(run, "dynamic_scales", run->dynamic_scales, received->dynamic_scales, rows * 4);
    }
    if (good && received->expand_scales != NULL && run->set->worlds[choice->world].expand_scales_given) {
        good = same(run, "expand_scales", run->expand_scales, received->expand_scales, rows * 4);
    }
    return good && (choice->way == PAIR_WAY_COPIES ? rows_same(run, received) : views_same(run, received));
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

static bool check(struct pair_run *run, const char *call, enum epx_status status)
{
    return status == EPX_OK || wrong(run, "%s: status %d: %s", call, (int)status, epx_last_error());
}

static bool dispatch_copies(struct pair_run *run, const struct pair_choice *choice)
{
    const struct world *world = &run->set->worlds[choice->world];
    const struct pair_inputs *inputs = &run->inputs;
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    struct epx_request *request = NULL;
    args.token_count = tokens_of(run, choice->world)->token_count;
    args.x = inputs->x;
    args.expert_ids = inputs->ids;
    args.expert_scales = tokens_of(run, choice->world)->expert_scales != NULL ? inputs->scales : NULL;
    args.smooth_scales = run->set->shape.smooth ? inputs->smooth : NULL;
    args.expand_x = run->rows;
    args.dynamic_scales = run->dynamic_scales;
    args.expand_idx = run->expand_idx;
    args.expert_token_nums = run->token_nums;
    args.ep_recv_counts = run->counts;
    args.expand_scales = world->expand_scales_given ? run->expand_scales : NULL;
    if (!choice->started) {
        return check(run, "epx_dispatch", epx_dispatch(run->plan, &args));
    }
    return check(run, "epx_dispatch_start", epx_dispatch_start(run->plan, &args, &request)) &&
           check(run, "epx_wait for a dispatch", epx_wait(&request, -1));
}

static bool dispatch_views(struct pair_run *run, const struct pair_choice *choice)
{
    const struct world *world = &run->set->worlds[choice->world];
    const struct pair_inputs *inputs = &run->inputs;
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    struct epx_request *request = NULL;
    args.token_count = tokens_of(run, choice->world)->token_count;
    args.x = inputs->x;
    args.expert_ids = inputs->ids;
    args.expert_scales = tokens_of(run, choice->world)->expert_scales != NULL ? inputs->scales : NULL;
    args.smooth_scales = run->set->shape.smooth ? inputs->smooth : NULL;
    args.rows = run->views;
    args.dynamic_scales = run->dynamic_scales;
    args.expand_idx = run->expand_idx;
    args.expert_token_nums = run->token_nums;
    args.ep_recv_counts = run->counts;
    args.expand_scales = world->expand_scales_given ? run->expand_scales : NULL;
    if (!choice->started) {
        return check(run, "epx_dispatch_views", epx_dispatch_views(run->plan, &args));
    }
    return check(run, "epx_dispatch_views_start", epx_dispatch_views_start(run->plan, &args, &request)) &&
           check(run, "epx_wait for a dispatch of views", epx_wait(&request, -1));
}

static bool combine(struct pair_run *run, const struct pair_choice *choice)
{
    const struct pair_inputs *inputs = &run->inputs;
    struct epx_combine_args args = EPX_COMBINE_ARGS_INIT;
    struct epx_request *request = NULL;
    args.token_count = tokens_of(run, choice->world)->token_count;
    args.expand_x = inputs->returns;
    args.expert_ids = inputs->ids;
    args.expand_idx = inputs->slots;
    args.ep_send_counts = run->counts;
    args.expert_scales = inputs->weights;
    args.x = run->x;
    if (!choice->started) {
        return check(run, "epx_combine", epx_combine(run->plan, &args));
    }
    return check(run, "epx_combine_start", epx_combine_start(run->plan, &args, &request)) &&
           check(run, "epx_wait for a combine", epx_wait(&request, -1));
}

bool pair_run_pair(struct pair_run *run, const struct pair_choice *choice)
{
    const struct world *world = &run->set->worlds[choice->world];
    int64_t elems = tokens_of(run, choice->world)->token_count * run->set->shape.hidden;
    poison_outputs(run);
    fill_dispatch(run, choice->world);
    if (choice->way == PAIR_WAY_COPIES ? !dispatch_copies(run, choice) : !dispatch_views(run, choice)) {
        return false;
    }
    poison_dispatch(run, choice->way);
    if (!dispatch_same(run, choice)) {
        return false;
    }
    if (choice->way == PAIR_WAY_RELEASED && !check(run, "epx_views_release", epx_views_release(run->plan))) {
        return false;
    }
    fill_combine(run, choice->world);
    if (!combine(run, choice)) {
        return false;
    }
    poison_combine(run);
    return same(run, "x", run->x, world->x[run->rank], (size_t)elems * 2) &&
           kept(run, "x", run->x, elems, run->set->token_max * run->set->shape.hidden, 2);
}

static bool make_plan(struct pair_run *run, struct epx_communicator *comm)
{
    const struct ref_shape *shape = &run->set->shape;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = shape->expert_count;
    config.hidden_elems = shape->hidden;
    config.topk = shape->topk;
    config.shared_rank_count = shape->shared_rank_count;
    config.dtype = shape->format == REF_FP16 ? EPX_FP16 : EPX_BF16;
    config.quantization = shape->quantize ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    config.return_quantization = shape->comm_quantize ? EPX_RETURN_INT8 : EPX_RETURN_PLAIN;
    config.exchange = shape->two_level ? EPX_EXCHANGE_TWO_LEVEL : EPX_EXCHANGE_FULL_MESH;
    config.token_max = run->set->token_max;
    config.recv_row_max = run->row_max;
    config.smooth_scales = shape->smooth ? 1 : 0;
    return check(run, "epx_plan_create", epx_plan_create(comm, &config, &run->plan));
}

bool pair_run_init(struct pair_run *run, const struct pair_set *set, struct epx_communicator *comm, int64_t rank,
                   uint64_t seed)
{
    *run = (struct pair_run){.set = set, .rank = rank, .row_max = 1};
    random_seed(&run->random, random_mix(seed, 100 + (uint64_t)rank));
    run->local_experts = ref_local_expert_count(&set->shape, rank);
    for (uint32_t i = 0; i < set->world_count; i++) {
        int64_t rows = set->worlds[i].received[rank].row_count;
        run->row_max = rows > run->row_max ? rows : run->row_max;
    }
    if (set->largest) {
        run->row_max = set->shape.rank_count * set->token_max * set->shape.topk; /* all tokens' to one rank */
    }
    return make_plan(run, comm) && take_outputs(run) && take_inputs(run);
}

void pair_run_fini(struct pair_run *run)
{
    epx_plan_destroy(run->plan);
    run->plan = NULL;
    for (uint32_t i = 0; i < run->taken_count; i++) {
        if (run->taken[i].memory == PAIR_MEMORY_PRIVATE) {
            free(run->taken[i].address);
        } else {
            (void)epx_memory_free(run->taken[i].address);
        }
    }
    run->taken_count = 0;
}

struct pair_choice pair_choice_draw(struct random_source *random, struct random_source *own_random,
                                    const struct pair_set *set)
{
    struct pair_choice choice = {.world = (uint32_t)random_between(random, 0, (int64_t)set->world_count - 1)};
    int64_t way = random_between(random, 0, 9);
    choice.way = way < 6 ? PAIR_WAY_COPIES : way < 9 ? PAIR_WAY_VIEWS : PAIR_WAY_RELEASED;
    choice.started = random_percent(own_random, 20);
    return choice;
}
