/*
 * Inputs with strides of 0: one row, or one element, for all. Results are those of dense copies of the same values.
 */
#include "ranks/rank_world.h"

#include "moe/request.h"

#define RANKS   2u
#define TOKENS  3
#define HIDDEN  5
#define TOPK    2
#define EXPERTS 4
#define ROWS    (RANKS * TOKENS * TOPK)
#define COUNTS  (RANKS * (EXPERTS / RANKS))

struct inputs {
    uint16_t x[TOKENS][HIDDEN];
    int32_t ids[TOKENS][TOPK];
    float smooth[EXPERTS][HIDDEN];
    float weights[TOKENS][TOPK];
    uint16_t rows[ROWS][HIDDEN];
};

struct outputs {
    int8_t expand_x[ROWS][HIDDEN];
    uint16_t plain[ROWS][HIDDEN];
    float dynamic_scales[ROWS];
    int32_t expand_idx[TOKENS * TOPK];
    int64_t nums[EXPERTS / RANKS];
    int32_t counts[COUNTS];
    uint16_t sum[TOKENS][HIDDEN];
};

/* Element [i][j] is that of [i * row_step][j * column_step]. */
struct steps {
    int64_t row;
    int64_t column;
};

static struct epx_view matrix(void *data, enum epx_dtype dtype, int64_t rows, int64_t columns,
                              const struct steps *steps)
{
    struct epx_view view = {.data = data, .dtype = dtype, .dim_count = 2, .shape = {rows, columns}};
    view.stride[0] = steps->row * columns;
    view.stride[1] = steps->column;
    return view;
}

static struct epx_view vector(void *data, enum epx_dtype dtype, int64_t elems)
{
    return (struct epx_view){.data = data, .dtype = dtype, .dim_count = 1, .shape = {elems}, .stride = {1}};
}

static void fill(struct inputs *inputs, const struct steps *steps, uint32_t rank)
{
    for (int64_t i = 0; i < (int64_t)ROWS; i++) {
        for (int64_t j = 0; j < HIDDEN; j++) {
            int64_t from = i * steps->row * 7 + j * steps->column * 3 + (int64_t)rank;
            uint16_t value = (uint16_t)(0x3F80 + from);
            inputs->rows[i][j] = value;
            if (i < TOKENS) {
                inputs->x[i][j] = value;
            }
            if (i < EXPERTS) {
                inputs->smooth[i][j] = 0.5f + (float)(from % 5);
            }
            if (i < TOKENS && j < TOPK) {
                inputs->ids[i][j] = (int32_t)(from % EXPERTS);
                inputs->weights[i][j] = 0.25f * (float)(1 + from % 3);
            }
        }
    }
}

static enum epx_status run_dispatch(struct epx_comm *comm, struct inputs *inputs, struct outputs *outputs,
                                    const struct steps *steps, bool quantised)
{
    static const struct steps dense = {1, 1};
    struct epx_dispatch_plan *plan;
    struct epx_dispatch_request request = {.comm = comm, .token_count = TOKENS};
    struct epx_dispatch_tensors *tensors = &request.tensors;
    request.shape.expert_count = EXPERTS;
    request.shape.hidden_elems = HIDDEN;
    request.shape.topk = TOPK;
    request.shape.dtype = EPX_DTYPE_BF16;
    tensors->x = matrix(inputs->x, EPX_DTYPE_BF16, TOKENS, HIDDEN, steps);
    tensors->expert_ids = matrix(inputs->ids, EPX_DTYPE_INT32, TOKENS, TOPK, steps);
    if (quantised) {
        request.shape.quantization = EPX_QUANTIZATION_DYNAMIC_INT8;
        tensors->smooth_scales = matrix(inputs->smooth, EPX_DTYPE_FP32, EXPERTS, HIDDEN, steps);
        tensors->dynamic_scales = vector(outputs->dynamic_scales, EPX_DTYPE_FP32, ROWS);
    }
    void *rows = quantised ? (void *)outputs->expand_x : (void *)outputs->plain;
    tensors->expand_x = matrix(rows, quantised ? EPX_DTYPE_INT8 : EPX_DTYPE_BF16, ROWS, HIDDEN, &dense);
    tensors->expand_idx = vector(outputs->expand_idx, EPX_DTYPE_INT32, TOKENS * TOPK);
    tensors->expert_token_nums = vector(outputs->nums, EPX_DTYPE_INT64, EXPERTS / RANKS);
    tensors->ep_recv_counts = vector(outputs->counts, EPX_DTYPE_INT32, COUNTS);
    EPX_TRY(epx_dispatch_plan_create(&request, &plan));
    epx_dispatch_plan_reserve(plan);
    enum epx_status status = epx_dispatch_run(plan, NULL);
    epx_dispatch_plan_destroy(plan);
    return status;
}

static enum epx_status run_combine(struct epx_comm *comm, struct inputs *inputs, struct outputs *outputs,
                                   const struct steps *steps)
{
    static const struct steps dense = {1, 1};
    struct epx_combine_plan *plan;
    struct epx_combine_request request = {.comm = comm, .token_count = TOKENS};
    struct epx_combine_tensors *tensors = &request.tensors;
    request.shape.expert_count = EXPERTS;
    request.shape.hidden_elems = HIDDEN;
    request.shape.topk = TOPK;
    request.shape.dtype = EPX_DTYPE_BF16;
    tensors->expand_x = matrix(inputs->rows, EPX_DTYPE_BF16, ROWS, HIDDEN, steps);
    tensors->expert_ids = matrix(inputs->ids, EPX_DTYPE_INT32, TOKENS, TOPK, steps);
    tensors->expand_idx = vector(outputs->expand_idx, EPX_DTYPE_INT32, TOKENS * TOPK);
    tensors->ep_send_counts = vector(outputs->counts, EPX_DTYPE_INT32, COUNTS);
    tensors->expert_scales = matrix(inputs->weights, EPX_DTYPE_FP32, TOKENS, TOPK, steps);
    tensors->x = matrix(outputs->sum, EPX_DTYPE_BF16, TOKENS, HIDDEN, &dense);
    EPX_TRY(epx_combine_plan_create(&request, &plan));
    epx_combine_plan_reserve(plan);
    enum epx_status status = epx_combine_run(plan, NULL);
    epx_combine_plan_destroy(plan);
    return status;
}

static enum epx_status run_all(struct epx_comm *comm, struct inputs *inputs, struct outputs *outputs,
                               const struct steps *steps)
{
    memset(outputs, 0x5A, sizeof *outputs);
    EPX_TRY(run_dispatch(comm, inputs, outputs, steps, false));
    EPX_TRY(run_dispatch(comm, inputs, outputs, steps, true));
    return run_combine(comm, inputs, outputs, steps);
}

static void run_rank(struct world *world, uint32_t rank)
{
    static const struct steps kinds[] = {{0, 1}, {1, 0}, {0, 0}};
    static const struct steps dense = {1, 1};
    struct epx_comm *comm;
    struct inputs on_stack;
    struct outputs expected;
    struct outputs outputs;
    void *in_arena;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(epx_arena_alloc(sizeof(struct inputs), 64, &in_arena) == EPX_OK);
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        fill(&on_stack, &kinds[kind], rank);
        memcpy(in_arena, &on_stack, sizeof on_stack);
        RANK_CHECK(run_all(comm, &on_stack, &expected, &dense) == EPX_OK);
        RANK_CHECK(run_all(comm, &on_stack, &outputs, &kinds[kind]) == EPX_OK);
        RANK_CHECK(memcmp(&outputs, &expected, sizeof outputs) == 0);
        RANK_CHECK(run_all(comm, in_arena, &outputs, &kinds[kind]) == EPX_OK);
        RANK_CHECK(memcmp(&outputs, &expected, sizeof outputs) == 0);
    }
    RANK_CHECK(epx_arena_free(in_arena) == EPX_OK);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void broadcast__like_dense_copies(void **state)
{
    struct world *world = world_create(RANKS, 30000);
    (void)state;
    world_run(world, run_rank);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(broadcast__like_dense_copies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
