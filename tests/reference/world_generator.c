#include "reference/world_generator.h"

#include "reference/reference_internal.h"
#include "reference/world_faults.h"
#include "reference/world_values.h"

#include <stdlib.h>
#include <string.h>

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void world_limits_draw(struct world_limits *limits, struct random_source *random, int64_t rank_max)
{
    limits->tp_count = rank_max >= 2 && random_percent(random, 20) ? 2 : 1;
    int64_t top = rank_max / limits->tp_count;
    int64_t choice = random_between(random, 0, 9);
    limits->rank_count = random_between(random, 1, min_of(top, choice < 5 ? 4 : choice < 9 ? 8 : 16));
    do {
        limits->server_rank_count = random_between(random, 1, limits->rank_count);
    } while (limits->rank_count % limits->server_rank_count != 0);
    limits->hidden_max = INT64_MAX;
    limits->elem_max = 120000;
    limits->fault_percent = 0;
}

static int64_t draw_hidden(struct random_source *random)
{
    static const int64_t edges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256};
    int64_t choice = random_between(random, 0, 99);
    if (choice < 60) {
        return random_between(random, 1, 300);
    }
    if (choice < 90) {
        return edges[random_between(random, 0, (int64_t)(sizeof edges / sizeof *edges) - 1)];
    }
    return choice < 98 ? random_between(random, 300, 1500) : 7168;
}

static void draw_shape(struct world *world, struct random_source *random, const struct world_limits *limits)
{
    struct ref_shape *shape = &world->shape;
    int64_t ranks = limits->rank_count;
    shape->rank_count = ranks;
    shape->tp_count = limits->tp_count;
    shape->server_rank_count = limits->server_rank_count;
    shape->shared_rank_count = ranks > 1 && random_percent(random, 25) ? random_between(random, 1, ranks - 1) : 0;
    int64_t local_experts = random_between(random, 1, random_percent(random, 90) ? 4 : 30);
    shape->expert_count = local_experts * (ranks - shape->shared_rank_count);
    shape->topk = random_between(random, 1, min_of(shape->expert_count, random_percent(random, 90) ? 8 : 32));
    shape->hidden = min_of(draw_hidden(random), limits->hidden_max);
    shape->format = random_percent(random, 50) ? REF_FP16 : REF_BF16;
    shape->quantize = random_percent(random, 40);
    shape->smooth = shape->quantize && random_percent(random, 50);
    shape->two_level = random_percent(random, 30);
    shape->comm_quantize = random_percent(random, 30);
    shape->token_nums = random_percent(random, 50) ? REF_TOKEN_NUMS_PREFIX : REF_TOKEN_NUMS_COUNT;
}

static void draw_token_counts(struct world *world, struct random_source *random, int64_t elem_max)
{
    const struct ref_shape *shape = &world->shape;
    int64_t per_token = world->world_size * shape->tp_count * shape->hidden * (shape->topk + 2);
    int64_t top = max_of(1, min_of(elem_max / per_token, random_percent(random, 95) ? 20 : 80));
    int64_t common = random_between(random, 0, top);
    int64_t only = random_between(random, 0, world->world_size - 1);
    int64_t mode = random_between(random, 0, 9);
    int64_t largest = 0;
    for (int64_t i = 0; i < world->world_size; i++) {
        int64_t count = common; /* 0 .. 5 */
        if (mode == 6 || mode == 7) {
            count = random_between(random, 0, top);
        } else if (mode == 8) {
            count = i == only ? top : 0;
        } else if (mode == 9) {
            count = i == only ? 0 : top;
        }
        world->tokens[i].token_count = count;
        largest = max_of(largest, count);
    }
    if (random_percent(random, 50)) {
        world->shape.global_token_count = shape->rank_count * (largest + random_between(random, 0, 3));
    }
}

static void draw_tail_room(struct world *world, struct random_source *random)
{
    const struct ref_shape *shape = &world->shape;
    int64_t largest = 0;
    for (int64_t i = 0; i < world->world_size; i++) {
        largest = max_of(largest, world->tokens[i].token_count);
    }
    int64_t global = shape->global_token_count != 0 ? shape->global_token_count : largest * shape->rank_count;
    int64_t full = 8 * global * shape->topk * (shape->rank_count / shape->server_rank_count);
    for (int64_t i = 0; i < world->world_size; i++) {
        int64_t mode = random_between(random, 0, 3);
        int64_t room = mode == 0 ? 0 : mode == 1 ? 4 * random_between(random, 0, full / 4) : full;
        world->tokens[i].tail_room_bytes = room + (mode == 3 ? 4 * random_between(random, 1, 9) : 0);
    }
}

static void draw_inputs(struct world *world, struct random_source *random)
{
    const struct ref_shape *shape = &world->shape;
    enum routing routing = (enum routing)random_between(random, 0, ROUTING_COUNT - 1);
    int64_t favourite = random_between(random, 0, shape->expert_count - 1);
    bool weights = shape->two_level ? random_percent(random, 80) : random_percent(random, 30);
    world->expand_scales_given = random_percent(random, weights ? 80 : 20);
    int64_t smooth_rows = shape->expert_count + (shape->shared_rank_count != 0 ? 1 : 0);
    for (int64_t i = 0; i < world->world_size; i++) {
        struct ref_tokens *rank = &world->tokens[i];
        int64_t copies = rank->token_count * shape->topk;
        rank->x = ref_alloc(rank->token_count * shape->hidden, sizeof *rank->x);
        for (int64_t t = 0; t < rank->token_count; t++) {
            draw_row(random, shape->format, rank->x + t * shape->hidden, shape->hidden);
        }
        rank->expert_ids = ref_alloc(copies, sizeof *rank->expert_ids);
        draw_expert_ids(random, routing, favourite, rank->expert_ids, rank->token_count, shape->topk,
                        shape->expert_count);
        if (weights) {
            rank->expert_scales = ref_alloc(copies, sizeof *rank->expert_scales);
            draw_floats(random, rank->expert_scales, copies);
        }
        if (shape->smooth) {
            rank->smooth_scales = ref_alloc(smooth_rows * shape->hidden, sizeof(float));
            draw_floats(random, rank->smooth_scales, smooth_rows * shape->hidden);
        }
        rank->row_capacity = INT64_MAX;
    }
}

static void solve_dispatch(struct world *world, struct random_source *random)
{
    ref_dispatch(&world->shape, world->tokens, world->received, &world->dispatch_error);
    for (int64_t i = 0; i < world->world_size; i++) {
        int64_t rows = world->received[i].row_count;
        world->tokens[i].row_capacity = rows + (random_percent(random, 50) ? random_between(random, 0, 5) : 0);
    }
    if (!world_spoil_tokens(world, random)) {
        return;
    }
    for (int64_t i = 0; i < world->world_size; i++) {
        ref_received_free(&world->received[i]);
    }
    ref_dispatch(&world->shape, world->tokens, world->received, &world->dispatch_error);
}

static void *copy_of(const void *source, int64_t count, size_t elem_bytes)
{
    void *copy = ref_alloc(count, elem_bytes);
    if (source != NULL && count > 0) {
        memcpy(copy, source, (size_t)count * elem_bytes);
    }
    return copy;
}

/* Combine may be asked for the rows of a block in any order, also for one row twice. */
static void shuffle_slots(struct world *world, struct random_source *random, int64_t index, int32_t *expand_idx)
{
    const struct ref_shape *shape = &world->shape;
    const int32_t *ids = world->tokens[index].expert_ids;
    for (int64_t j = 0; j < world->tokens[index].token_count * shape->topk; j++) {
        int64_t copies = 0;
        for (int64_t i = 0; i < world->tokens[index].token_count * shape->topk; i++) {
            copies += ids[i] == ids[j];
        }
        expand_idx[j] = (int32_t)random_between(random, 0, copies - 1);
    }
}

static void draw_returns(struct world *world, struct random_source *random, int64_t index, bool shuffled)
{
    const struct ref_shape *shape = &world->shape;
    const struct ref_tokens *tokens = &world->tokens[index];
    const struct ref_received *received = &world->received[index];
    int64_t copies = tokens->token_count * shape->topk;
    int64_t rows = received->row_count + random_between(random, 0, 2);
    uint16_t *expand_x = ref_alloc(rows * shape->hidden, sizeof *expand_x);
    float *weights = ref_alloc(copies, sizeof *weights);
    int32_t *expand_idx = NULL;
    for (int64_t row = 0; row < rows; row++) {
        draw_row(random, shape->format, expand_x + row * shape->hidden, shape->hidden);
    }
    draw_floats(random, weights, copies);
    if (!shape->two_level) {
        expand_idx = copy_of(received->expand_idx, copies, sizeof *expand_idx);
        if (shuffled) {
            shuffle_slots(world, random, index, expand_idx);
        }
    }
    world->returns[index] = (struct ref_returns){
        .token_count = tokens->token_count,
        .row_capacity = rows,
        .expand_x = expand_x,
        .expert_ids = copy_of(tokens->expert_ids, copies, sizeof(int32_t)),
        .expert_scales = weights,
        .expand_idx = expand_idx,
        .ep_send_counts = copy_of(received->ep_recv_counts, received->count_elems, sizeof(int32_t)),
        .tp_send_counts =
            received->tp_recv_counts == NULL ? NULL : copy_of(received->tp_recv_counts, 2, sizeof(int32_t)),
    };
}

static void solve_combine(struct world *world, struct random_source *random)
{
    bool shuffled = random_percent(random, 25);
    for (int64_t i = 0; i < world->world_size; i++) {
        draw_returns(world, random, i, shuffled);
    }
    world_spoil_returns(world, random);
    ref_combine(&world->shape, world->returns, world->x, &world->combine_error);
}

static void begin(struct world *world, int64_t world_size, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->world_size = world_size;
    world->tokens = ref_alloc(world->world_size, sizeof *world->tokens);
    world->received = ref_alloc(world->world_size, sizeof *world->received);
    world->returns = ref_alloc(world->world_size, sizeof *world->returns);
    world->x = ref_alloc(world->world_size, sizeof *world->x);
}

static void solve(struct world *world, struct random_source *random)
{
    solve_dispatch(world, random);
    if (world->dispatch_error.status == REF_OK) {
        solve_combine(world, random);
    }
}

void world_init(struct world *world, const struct world_limits *limits, uint64_t seed)
{
    struct random_source random;
    random_seed(&random, seed);
    begin(world, limits->rank_count * limits->tp_count, seed);
    draw_shape(world, &random, limits);
    draw_token_counts(world, &random, limits->elem_max);
    draw_tail_room(world, &random);
    draw_inputs(world, &random);
    if (random_percent(&random, limits->fault_percent)) {
        world->fault = world_fault_draw(&world->shape, &random);
    }
    solve(world, &random);
}

void world_init_shaped(struct world *world, const struct ref_shape *shape, const int64_t *token_counts, uint64_t seed)
{
    struct random_source random;
    random_seed(&random, seed);
    begin(world, shape->rank_count * shape->tp_count, seed);
    world->shape = *shape;
    for (int64_t i = 0; i < world->world_size; i++) {
        world->tokens[i].token_count = token_counts[i];
    }
    draw_tail_room(world, &random);
    draw_inputs(world, &random);
    solve(world, &random);
}

static void free_returns(struct ref_returns *rank)
{
    free((void *)(uintptr_t)rank->expand_x);
    free((void *)(uintptr_t)rank->expert_ids);
    free((void *)(uintptr_t)rank->expert_scales);
    free((void *)(uintptr_t)rank->expand_idx);
    free((void *)(uintptr_t)rank->ep_send_counts);
    free((void *)(uintptr_t)rank->tp_send_counts);
}

void world_fini(struct world *world)
{
    for (int64_t i = 0; i < world->world_size; i++) {
        free(world->tokens[i].x);
        free(world->tokens[i].expert_ids);
        free(world->tokens[i].expert_scales);
        free(world->tokens[i].smooth_scales);
        ref_received_free(&world->received[i]);
        free_returns(&world->returns[i]);
        free(world->x[i]);
    }
    free(world->tokens);
    free(world->received);
    free(world->returns);
    free(world->x);
    memset(world, 0, sizeof *world);
}

void world_print(const struct world *world, FILE *out)
{
    const struct ref_shape *s = &world->shape;
    fprintf(out,
            "seed=%016llx W=%lld TP=%lld server=%lld E=%lld S=%lld H=%lld K=%lld gBs=%lld %s quant=%d smooth=%d "
            "commQuant=%d twoLevel=%d numsType=%d scales=%d expandScales=%d fault=%s BS=",
            (unsigned long long)world->seed, (long long)s->rank_count, (long long)s->tp_count,
            (long long)s->server_rank_count, (long long)s->expert_count, (long long)s->shared_rank_count,
            (long long)s->hidden, (long long)s->topk, (long long)s->global_token_count,
            s->format == REF_FP16 ? "fp16" : "bf16", s->quantize, s->smooth, s->comm_quantize, s->two_level,
            s->token_nums, world->tokens[0].expert_scales != NULL, world->expand_scales_given,
            world_fault_name(world->fault));
    for (int64_t i = 0; i < world->world_size; i++) {
        fprintf(out, "%s%lld", i == 0 ? "" : ",", (long long)world->tokens[i].token_count);
    }
    const struct ref_error *error =
        world->dispatch_error.status != REF_OK ? &world->dispatch_error : &world->combine_error;
    if (error->status != REF_OK) {
        fprintf(out, " error at rank %lld[%lld][%lld] value %lld", (long long)error->rank, (long long)error->token,
                (long long)error->slot, (long long)error->value);
    }
    fprintf(out, "\n");
}
