#include "rank.h"

#include "epx/epx.h"
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rank_state {
    const struct demo_options *options;
    struct board *board;
    int64_t rank;
    int64_t local_experts;
    int64_t recv_row_max;
    struct epx_communicator *comm;
    struct epx_plan *plan;
    struct layer_expert **experts;
    float *scratch;
    float *smooth_scales;
    struct epx_dispatch_args dispatch;
    struct epx_dispatch_views_args views; /* the same tensors, and addresses of rows */
    struct epx_combine_args combine;
    uint16_t *expert_out;
    uint16_t *first_x;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int give_up(struct rank_state *state, const char *what, const char *why)
{
    struct board_rank *mine = &state->board->ranks[state->rank];
    (void)snprintf(mine->error, sizeof mine->error, "%s: %s", what, why);
    return 1;
}

static int join(struct rank_state *state, const char *table_path)
{
    const struct demo_options *options = state->options;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.join_timeout_ms = options->timeout_s * 1000;
    config.op_timeout_ms = options->timeout_s * 1000;
    if (epx_comm_create_from_table(table_path, (uint32_t)state->rank, &config, &state->comm) != EPX_OK) {
        return give_up(state, "communicator", epx_last_error());
    }
    if (epx_comm_size_of(state->comm) != options->rank_count) {
        return give_up(state, "communicator", "the rank table has another number of ranks than --servers and --ranks");
    }
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    moe.expert_count = options->experts;
    moe.hidden_elems = options->hidden;
    moe.topk = options->topk;
    moe.shared_rank_count = options->shared_ranks;
    moe.dtype = options->fp16 ? EPX_FP16 : EPX_BF16;
    moe.quantization = options->int8_rows ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    moe.return_quantization = options->int8_return ? EPX_RETURN_INT8 : EPX_RETURN_PLAIN;
    moe.exchange = options->two_level ? EPX_EXCHANGE_TWO_LEVEL : EPX_EXCHANGE_FULL_MESH;
    moe.token_max = options->tokens;
    moe.smooth_scales = options->smooth ? 1 : 0;
    if (epx_plan_create(state->comm, &moe, &state->plan) != EPX_OK) {
        return give_up(state, "plan", epx_last_error());
    }
    state->local_experts = epx_plan_local_expert_count(state->plan);
    state->recv_row_max = epx_plan_recv_row_max(state->plan);
    atomic_store(&state->board->ranks[state->rank].joined, 1);
    return 0;
}

/* Peer-visible memory for `count` elements; null after an error. */
static void *allocate(int64_t count, size_t elem_bytes)
{
    void *memory = NULL;
    return epx_memory_alloc((size_t)count * elem_bytes, &memory) == EPX_OK ? memory : NULL;
}

/* The same for rows, of which there may be far more than arrive. */
static void *reserve(int64_t count, size_t elem_bytes)
{
    void *memory = NULL;
    return epx_memory_reserve((size_t)count * elem_bytes, &memory) == EPX_OK ? memory : NULL;
}

static int prepare_tensors(struct rank_state *state)
{
    const struct demo_options *options = state->options;
    int64_t elems = options->tokens * options->hidden;
    int64_t copies = options->tokens * options->topk;
    int64_t blocks = options->rank_count * state->local_experts;
    uint16_t *x = allocate(elems, sizeof *x);
    int32_t *ids = allocate(copies, sizeof *ids);
    float *weights = allocate(copies, sizeof *weights);
    state->dispatch = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    state->dispatch.token_count = options->tokens;
    state->dispatch.x = x;
    state->dispatch.expert_ids = ids;
    state->dispatch.expert_scales = weights;
    state->dispatch.smooth_scales = state->smooth_scales;
    state->dispatch.expand_x = reserve(state->recv_row_max * options->hidden, options->int8_rows ? 1 : 2);
    state->dispatch.dynamic_scales = allocate(state->recv_row_max, sizeof(float));
    state->dispatch.expand_idx = allocate(copies, sizeof(int32_t));
    state->dispatch.expert_token_nums = allocate(state->local_experts, sizeof(int64_t));
    state->dispatch.ep_recv_counts = allocate(blocks, sizeof(int32_t));
    state->dispatch.expand_scales = allocate(state->recv_row_max, sizeof(float));
    state->views = (struct epx_dispatch_views_args)EPX_DISPATCH_VIEWS_ARGS_INIT;
    state->views.token_count = options->tokens;
    state->views.x = x;
    state->views.expert_ids = ids;
    state->views.expert_scales = weights;
    state->views.smooth_scales = state->smooth_scales;
    state->views.rows = calloc((size_t)state->recv_row_max + 1, sizeof *state->views.rows);
    state->views.dynamic_scales = state->dispatch.dynamic_scales;
    state->views.expand_idx = state->dispatch.expand_idx;
    state->views.expert_token_nums = state->dispatch.expert_token_nums;
    state->views.ep_recv_counts = state->dispatch.ep_recv_counts;
    state->views.expand_scales = state->dispatch.expand_scales;
    state->expert_out = reserve(state->recv_row_max * options->hidden, sizeof(uint16_t));
    state->combine = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    state->combine.token_count = options->tokens;
    state->combine.expand_x = state->expert_out;
    state->combine.expert_ids = ids;
    state->combine.expand_idx = state->dispatch.expand_idx;
    state->combine.ep_send_counts = state->dispatch.ep_recv_counts;
    state->combine.expert_scales = weights;
    state->combine.x = allocate(elems, sizeof(uint16_t));
    state->first_x = malloc((size_t)elems * sizeof(uint16_t) + 1);
    if (state->combine.x == NULL || state->dispatch.expand_x == NULL || state->expert_out == NULL ||
        state->first_x == NULL || x == NULL || ids == NULL || weights == NULL || state->views.rows == NULL) {
        return give_up(state, "tensors", epx_last_error());
    }
    layer_make_inputs(options, state->rank, x, ids, weights);
    return 0;
}

static int prepare_experts(struct rank_state *state)
{
    const struct demo_options *options = state->options;
    bool shared = state->rank < options->shared_ranks;
    int64_t first = shared ? LAYER_SHARED_EXPERT : (state->rank - options->shared_ranks) * state->local_experts;
    state->scratch = malloc(layer_scratch_elems(options, state->recv_row_max) * sizeof(float) + 1);
    state->experts = calloc((size_t)state->local_experts, sizeof *state->experts);
    if (state->scratch == NULL || state->experts == NULL) {
        return give_up(state, "experts", "out of memory");
    }
    for (int64_t local = 0; local < state->local_experts; local++) {
        state->experts[local] = layer_expert_create(options);
        if (state->experts[local] == NULL) {
            return give_up(state, "experts", "out of memory");
        }
        layer_expert_make(options, first + local, state->experts[local]);
    }
    if (options->smooth) {
        int64_t rows = options->experts + (options->shared_ranks > 0 ? 1 : 0);
        state->smooth_scales = malloc((size_t)(rows * options->hidden) * sizeof(float));
        if (state->smooth_scales == NULL) {
            return give_up(state, "smooth scales", "out of memory");
        }
        layer_make_smooth_scales(options, rows, state->smooth_scales);
    }
    return 0;
}

static enum epx_status run_experts(struct rank_state *state, enum board_form form)
{
    const struct demo_options *options = state->options;
    size_t row_bytes = (size_t)options->hidden * (options->int8_rows ? 1 : 2);
    int64_t rows = state->dispatch.ep_recv_counts[options->rank_count * state->local_experts - 1];
    int64_t row = 0;
    enum epx_status status =
        epx_memory_need(state->expert_out, (size_t)(rows * options->hidden) * sizeof *state->expert_out);
    for (int64_t local = 0; status == EPX_OK && local < state->local_experts; local++) {
        const char *dense = (const char *)state->dispatch.expand_x + (size_t)row * row_bytes;
        const struct layer_rows in = {
            .count = state->dispatch.expert_token_nums[local],
            .dense = form == BOARD_COPIES ? dense : NULL,
            .views = state->views.rows + row,
            .scales = state->dispatch.dynamic_scales + row,
        };
        layer_expert_run(options, state->experts[local], &in, state->expert_out + row * options->hidden,
                         state->scratch);
        row += in.count;
    }
    return status;
}

static enum epx_status dispatch(struct rank_state *state, enum board_form form)
{
    return form == BOARD_VIEWS ? epx_dispatch_views(state->plan, &state->views)
                               : epx_dispatch(state->plan, &state->dispatch);
}

static int run_layer(struct rank_state *state, enum board_form form, int64_t round)
{
    uint64_t *phase_ns = board_phase_ns(state->options, state->board, state->rank, round, form);
    uint64_t start = now_ns();
    if (dispatch(state, form) != EPX_OK) {
        return give_up(state, "dispatch", epx_last_error());
    }
    uint64_t dispatched = now_ns();
    if (run_experts(state, form) != EPX_OK) {
        return give_up(state, "experts", epx_last_error());
    }
    uint64_t computed = now_ns();
    if (epx_combine(state->plan, &state->combine) != EPX_OK) {
        return give_up(state, "combine", epx_last_error());
    }
    uint64_t combined = now_ns();
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    (void)epx_plan_stats(state->plan, &stats);
    phase_ns[BOARD_DISPATCH] = dispatched - start;
    phase_ns[BOARD_DISPATCH_MOVE] = stats.dispatch_move_ns;
    phase_ns[BOARD_COMBINE_MOVE] = stats.combine_move_ns;
    phase_ns[BOARD_EXPERTS] = computed - dispatched;
    phase_ns[BOARD_COMBINE] = combined - computed;
    struct board_rank *mine = &state->board->ranks[state->rank];
    mine->dispatch_bytes[form] = stats.dispatch_bytes_read;
    mine->combine_bytes = stats.combine_bytes_read;
    return 0;
}

/* Of what the last dispatch gave, row by row. */
static uint64_t hash_rows(const struct rank_state *state, enum board_form form)
{
    const struct demo_options *options = state->options;
    size_t row_bytes = (size_t)options->hidden * (options->int8_rows ? 1 : 2);
    int64_t rows = state->dispatch.ep_recv_counts[options->rank_count * state->local_experts - 1];
    uint64_t hash = BOARD_HASH_START;
    for (int64_t row = 0; row < rows; row++) {
        const char *dense = (const char *)state->dispatch.expand_x + (size_t)row * row_bytes;
        hash = board_hash(hash, form == BOARD_VIEWS ? state->views.rows[row] : dense, row_bytes);
    }
    if (options->int8_rows) {
        hash = board_hash(hash, state->dispatch.dynamic_scales, (size_t)rows * sizeof(float));
    }
    return hash;
}

/* Once more, for the rows alone: no combine follows that would end the views. */
static int show_views(struct rank_state *state)
{
    if (dispatch(state, BOARD_VIEWS) != EPX_OK) {
        return give_up(state, "dispatch", epx_last_error());
    }
    state->board->ranks[state->rank].rows_hash[BOARD_VIEWS] = hash_rows(state, BOARD_VIEWS);
    return epx_views_release(state->plan) == EPX_OK ? 0 : give_up(state, "release of views", epx_last_error());
}

static void publish(struct rank_state *state)
{
    const struct demo_options *options = state->options;
    struct board_rank *mine = &state->board->ranks[state->rank];
    int64_t blocks = options->rank_count * state->local_experts;
    mine->rows = state->dispatch.ep_recv_counts[blocks - 1];
    mine->rows_hash[BOARD_COPIES] = hash_rows(state, BOARD_COPIES);
    memcpy(board_expert_rows(state->board, state->rank), state->dispatch.expert_token_nums,
           (size_t)state->local_experts * sizeof(int64_t));
    memcpy(board_recv_counts(options, state->board, state->rank), state->dispatch.ep_recv_counts,
           (size_t)blocks * sizeof(int32_t));
    memcpy(board_x(options, state->board, state->rank), state->combine.x,
           (size_t)(options->tokens * options->hidden) * sizeof(uint16_t));
    mine->finished = 1;
}

static void state_fini(struct rank_state *state)
{
    for (int64_t local = 0; state->experts != NULL && local < state->local_experts; local++) {
        layer_expert_destroy(state->experts[local]);
    }
    free(state->experts);
    free(state->scratch);
    free(state->smooth_scales);
    free(state->first_x);
    free(state->views.rows);
}

/* Every result is that of the first. */
static void compare(struct rank_state *state, bool first)
{
    size_t x_bytes = (size_t)(state->options->tokens * state->options->hidden) * sizeof(uint16_t);
    if (first) {
        memcpy(state->first_x, state->combine.x, x_bytes);
    } else if (memcmp(state->first_x, state->combine.x, x_bytes) != 0) {
        state->board->ranks[state->rank].rounds_that_differ++;
    }
}

static int run_all_rounds(struct rank_state *state)
{
    const struct demo_options *options = state->options;
    enum board_form last = options->views ? BOARD_VIEWS : BOARD_COPIES;
    for (int64_t round = 0; round < options->rounds; round++) {
        for (enum board_form form = BOARD_COPIES; form <= last; form++) {
            if (run_layer(state, form, round) != 0) {
                return 1;
            }
            compare(state, round == 0 && form == BOARD_COPIES);
        }
        atomic_store(&state->board->ranks[state->rank].rounds_done, round + 1);
    }
    if (options->views && show_views(state) != 0) {
        return 1;
    }
    publish(state);
    epx_plan_destroy(state->plan);
    return epx_comm_destroy(state->comm) == EPX_OK ? 0 : give_up(state, "destroy", epx_last_error());
}

int rank_run(const struct demo_options *options, const char *table_path, int64_t rank, struct board *board)
{
    struct rank_state state = {.options = options, .board = board, .rank = rank};
    int result = join(&state, table_path) != 0 || prepare_experts(&state) != 0 || prepare_tensors(&state) != 0;
    if (result == 0) {
        if (options->show_plan && rank == 0) {
            epx_plan_print(state.plan, stdout);
            (void)fflush(stdout);
        }
        result = run_all_rounds(&state);
    }
    state_fini(&state);
    return result;
}
