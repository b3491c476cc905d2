#include "verify.h"

#include "layer.h"
#include "reference/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world {
    const struct demo_options *options;
    const struct board *board;
    struct ref_shape shape;
    struct ref_tokens *tokens;
    struct ref_received *received;
    struct ref_returns *returns;
    uint16_t **expert_out;
    uint16_t **x;
    float *smooth_scales;
};

static void *get(size_t count, size_t bytes)
{
    void *memory = calloc(count + 1, bytes);
    if (memory == NULL) {
        (void)fprintf(stderr, "epx-demo: the check runs out of memory\n");
        exit(1);
    }
    return memory;
}

static void describe(struct world *world)
{
    const struct demo_options *options = world->options;
    world->shape = (struct ref_shape){
        .rank_count = options->rank_count,
        .tp_count = 1,
        .server_rank_count = options->ranks_per_server,
        .expert_count = options->experts,
        .shared_rank_count = options->shared_ranks,
        .hidden = options->hidden,
        .topk = options->topk,
        .format = options->fp16 ? REF_FP16 : REF_BF16,
        .quantize = options->int8_rows,
        .smooth = options->smooth,
        .comm_quantize = options->int8_return,
        .two_level = options->two_level,
        .token_nums = REF_TOKEN_NUMS_COUNT,
    };
}

static void make_tokens(struct world *world)
{
    const struct demo_options *options = world->options;
    int64_t smooth_rows = options->experts + (options->shared_ranks > 0 ? 1 : 0);
    if (options->smooth) {
        world->smooth_scales = get((size_t)(smooth_rows * options->hidden), sizeof(float));
        layer_make_smooth_scales(options, smooth_rows, world->smooth_scales);
    }
    for (int64_t rank = 0; rank < options->rank_count; rank++) {
        struct ref_tokens *tokens = &world->tokens[rank];
        tokens->token_count = options->tokens;
        tokens->row_capacity = INT32_MAX;
        tokens->x = get((size_t)(options->tokens * options->hidden), sizeof(uint16_t));
        tokens->expert_ids = get((size_t)(options->tokens * options->topk), sizeof(int32_t));
        tokens->expert_scales = get((size_t)(options->tokens * options->topk), sizeof(float));
        tokens->smooth_scales = world->smooth_scales;
        layer_make_inputs(options, rank, tokens->x, tokens->expert_ids, tokens->expert_scales);
    }
}

static void run_experts(struct world *world, int64_t rank, struct layer_expert *expert)
{
    const struct demo_options *options = world->options;
    const struct ref_received *received = &world->received[rank];
    int64_t first = rank < options->shared_ranks ? LAYER_SHARED_EXPERT
                                                 : (rank - options->shared_ranks) * received->local_expert_count;
    float *scratch = get(layer_scratch_elems(options, received->row_count), sizeof(float));
    world->expert_out[rank] = get((size_t)(received->row_count * options->hidden), sizeof(uint16_t));
    int64_t row = 0;
    for (int64_t local = 0; local < received->local_expert_count; local++) {
        int64_t rows = received->expert_token_nums[local];
        const struct layer_rows in = {
            .count = rows,
            .dense = (const char *)received->expand_x + (size_t)(row * options->hidden) * (options->int8_rows ? 1 : 2),
            .scales = options->int8_rows ? received->dynamic_scales + row : NULL,
        };
        layer_expert_make(options, first + local, expert);
        layer_expert_run(options, expert, &in, world->expert_out[rank] + row * options->hidden, scratch);
        row += rows;
    }
    free(scratch);
}

static void bring_back(struct world *world)
{
    for (int64_t rank = 0; rank < world->options->rank_count; rank++) {
        world->returns[rank] = (struct ref_returns){
            .token_count = world->tokens[rank].token_count,
            .row_capacity = world->received[rank].row_count,
            .expand_x = world->expert_out[rank],
            .expert_ids = world->tokens[rank].expert_ids,
            .expert_scales = world->tokens[rank].expert_scales,
            .expand_idx = world->received[rank].expand_idx,
            .ep_send_counts = world->received[rank].ep_recv_counts,
        };
    }
}

static bool dispatch_is_right(const struct world *world, int64_t rank)
{
    const struct demo_options *options = world->options;
    const struct ref_received *received = &world->received[rank];
    size_t row_bytes = (size_t)options->hidden * (options->int8_rows ? 1 : 2);
    uint64_t hash = board_hash(BOARD_HASH_START, received->expand_x, (size_t)received->row_count * row_bytes);
    if (options->int8_rows) {
        hash = board_hash(hash, received->dynamic_scales, (size_t)received->row_count * sizeof(float));
    }
    const struct board_rank *given = &world->board->ranks[rank];
    bool hashes_right =
        hash == given->rows_hash[BOARD_COPIES] && (!options->views || hash == given->rows_hash[BOARD_VIEWS]);
    return hashes_right && received->row_count == world->board->ranks[rank].rows &&
           memcmp(received->ep_recv_counts, board_recv_counts(options, world->board, rank),
                  (size_t)received->count_elems * sizeof(int32_t)) == 0 &&
           memcmp(received->expert_token_nums, board_expert_rows(world->board, rank),
                  (size_t)received->local_expert_count * sizeof(int64_t)) == 0;
}

static void judge_rank(const struct world *world, int64_t rank, struct verdict *verdict)
{
    const struct demo_options *options = world->options;
    int64_t elems = options->tokens * options->hidden;
    const uint16_t *given = board_x(options, world->board, rank);
    int64_t wrong = 0;
    for (int64_t i = 0; i < elems; i++) {
        wrong += given[i] != world->x[rank][i];
    }
    bool dispatch_right = dispatch_is_right(world, rank);
    verdict->checked_elements += elems;
    verdict->wrong_elements += wrong;
    verdict->wrong_dispatches += dispatch_right ? 0 : 1;
    verdict->rounds_that_differ += world->board->ranks[rank].rounds_that_differ;
    verdict->ranks_right += wrong == 0 && dispatch_right && world->board->ranks[rank].rounds_that_differ == 0;
}

static void world_free(struct world *world)
{
    for (int64_t rank = 0; rank < world->options->rank_count; rank++) {
        free(world->tokens[rank].x);
        free(world->tokens[rank].expert_ids);
        free(world->tokens[rank].expert_scales);
        ref_received_free(&world->received[rank]);
        free(world->expert_out[rank]);
        free(world->x[rank]);
    }
    free(world->smooth_scales);
    free(world->tokens);
    free(world->received);
    free(world->returns);
    free(world->expert_out);
    free(world->x);
}

static int compute_world(struct world *world, void (*progress)(double part))
{
    const struct demo_options *options = world->options;
    struct ref_error error = {0};
    struct layer_expert *expert = layer_expert_create(options);
    if (expert == NULL || ref_dispatch(&world->shape, world->tokens, world->received, &error) != REF_OK) {
        (void)fprintf(stderr, "epx-demo: the reference's dispatch failed (status %d)\n", (int)error.status);
        layer_expert_destroy(expert);
        return -1;
    }
    for (int64_t rank = 0; rank < options->rank_count; rank++) {
        run_experts(world, rank, expert);
        if (progress != NULL) {
            progress((double)(rank + 1) / (double)(options->rank_count + 1));
        }
    }
    layer_expert_destroy(expert);
    bring_back(world);
    if (ref_combine(&world->shape, world->returns, world->x, &error) != REF_OK) {
        (void)fprintf(stderr, "epx-demo: the reference's combine failed (status %d)\n", (int)error.status);
        return -1;
    }
    return 0;
}

int verify_world(const struct demo_options *options, const struct board *board, void (*progress)(double part),
                 struct verdict *verdict)
{
    size_t ranks = (size_t)options->rank_count;
    struct world world = {.options = options, .board = board};
    world.tokens = get(ranks, sizeof *world.tokens);
    world.received = get(ranks, sizeof *world.received);
    world.returns = get(ranks, sizeof *world.returns);
    world.expert_out = get(ranks, sizeof *world.expert_out);
    world.x = get(ranks, sizeof *world.x);
    describe(&world);
    make_tokens(&world);
    *verdict = (struct verdict){0};
    int result = compute_world(&world, progress);
    for (int64_t rank = options->rank_first; result == 0 && rank < options->rank_end; rank++) {
        judge_rank(&world, rank, verdict);
    }
    world_free(&world);
    if (progress != NULL) {
        progress(1.0);
    }
    return result;
}
