/*
 * The smallest whole program on epx/epx.h: one exchange of an MoE layer between 4 ranks. They are processes when
 * `epx run -n 4 epx-hello` starts it (it looks for EPX_RANK), else threads of one process: only the communicator is
 * made in another way.
 *
 * There are 8 experts, two on each rank. Each rank has two tokens of 16 elements and sends each to two experts. Expert
 * e multiplies what it is given by e + 1, and the two results of a token are averaged.
 */
#include <epx/epx.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANKS         4
#define EXPERTS       8
#define LOCAL_EXPERTS (EXPERTS / RANKS)
#define TOKENS        2
#define HIDDEN        16
#define TOPK          2

/* Enough rows whatever the tokens choose: every copy of every rank. */
#define ROWS (RANKS * TOKENS * TOPK)

/* What one rank works on. It lies in memory that the other ranks can read in place. */
struct tensors {
    uint16_t x[TOKENS][HIDDEN];        /* tokens, bfloat16 */
    int32_t expert_ids[TOKENS][TOPK];  /* where each goes */
    float expert_scales[TOKENS][TOPK]; /* and with which weight it comes back */
    uint16_t expand_x[ROWS][HIDDEN];   /* tokens that came to this rank's experts, then the experts' results */
    int32_t expand_idx[TOKENS * TOPK];
    int64_t expert_token_nums[LOCAL_EXPERTS];
    int32_t ep_recv_counts[RANKS * LOCAL_EXPERTS];
    uint16_t out[TOKENS][HIDDEN]; /* sums */
};

struct rank {
    pthread_t thread;
    uint32_t index;
    struct epx_communicator *comm;
};

static void must(enum epx_status status, const char *what)
{
    if (status != EPX_OK) {
        fprintf(stderr, "%s: %s (%s)\n", what, epx_status_text(status), epx_last_error());
        exit(1);
    }
}

/* A bfloat16 is the upper half of a float; the numbers here are small, so nothing is lost. */
static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float token_value(uint32_t rank, int token)
{
    return (float)(1 + (int)rank * TOKENS + token);
}

static void fill(struct tensors *tensors, uint32_t rank)
{
    for (int token = 0; token < TOKENS; token++) {
        for (int h = 0; h < HIDDEN; h++) {
            tensors->x[token][h] = to_bf16(token_value(rank, token));
        }
        for (int k = 0; k < TOPK; k++) {
            tensors->expert_ids[token][k] = ((int)rank * 3 + token + 4 * k) % EXPERTS;
            tensors->expert_scales[token][k] = 1.0f / TOPK;
        }
    }
}

/* The rows of local expert 0 come first, then those of local expert 1; expert_token_nums says how many each has. */
static void run_experts(struct tensors *tensors, uint32_t rank)
{
    int64_t row = 0;
    for (int local = 0; local < LOCAL_EXPERTS; local++) {
        int expert = (int)rank * LOCAL_EXPERTS + local;
        float factor = (float)(expert + 1);
        for (int64_t i = 0; i < tensors->expert_token_nums[local]; i++, row++) {
            for (int h = 0; h < HIDDEN; h++) {
                tensors->expand_x[row][h] = to_bf16(from_bf16(tensors->expand_x[row][h]) * factor);
            }
        }
    }
}

static void exchange(struct epx_plan *plan, struct tensors *tensors, uint32_t rank)
{
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    dispatch.token_count = TOKENS;
    dispatch.x = tensors->x;
    dispatch.expert_ids = tensors->expert_ids[0];
    dispatch.expand_x = tensors->expand_x;
    dispatch.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->expert_token_nums;
    dispatch.ep_recv_counts = tensors->ep_recv_counts;
    must(epx_dispatch(plan, &dispatch), "dispatch");

    run_experts(tensors, rank);

    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    combine.token_count = TOKENS;
    combine.expand_x = tensors->expand_x;
    combine.expert_ids = tensors->expert_ids[0];
    combine.expand_idx = tensors->expand_idx;
    combine.ep_send_counts = tensors->ep_recv_counts;
    combine.expert_scales = tensors->expert_scales[0];
    combine.x = tensors->out;
    must(epx_combine(plan, &combine), "combine");
}

static void report(const struct tensors *tensors, uint32_t rank)
{
    for (int token = 0; token < TOKENS; token++) {
        const int32_t *experts = tensors->expert_ids[token];
        float expected = token_value(rank, token) * (float)(experts[0] + 1 + experts[1] + 1) / TOPK;
        for (int h = 0; h < HIDDEN; h++) {
            if (from_bf16(tensors->out[token][h]) != expected) {
                fprintf(stderr, "rank %u token %d: %g, must be %g\n", rank, token,
                        (double)from_bf16(tensors->out[token][h]), (double)expected);
                exit(1);
            }
        }
        printf("rank %u token %d: %g by experts %d and %d is %g\n", rank, token, (double)token_value(rank, token),
               experts[0], experts[1], (double)expected);
    }
}

static void *rank_main(void *context)
{
    struct rank *rank = context;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = EXPERTS;
    config.hidden_elems = HIDDEN;
    config.topk = TOPK;
    config.token_max = TOKENS;
    config.recv_row_max = ROWS;
    config.dtype = EPX_BF16;
    struct epx_plan *plan;
    must(epx_plan_create(rank->comm, &config, &plan), "plan");
    void *memory;
    must(epx_memory_alloc(sizeof(struct tensors), &memory), "memory");
    struct tensors *tensors = memory;

    fill(tensors, rank->index);
    exchange(plan, tensors, rank->index); /* a program runs a plan many times */
    report(tensors, rank->index);

    epx_plan_destroy(plan);
    must(epx_memory_free(memory), "free");
    must(epx_comm_destroy(rank->comm), "destroy");
    return NULL;
}

static void run_as_process(void)
{
    struct rank rank;
    must(epx_comm_create_from_env(NULL, &rank.comm), "communicator");
    if (epx_comm_size_of(rank.comm) != RANKS) {
        fprintf(stderr, "there are %u ranks, must be %d\n", epx_comm_size_of(rank.comm), RANKS);
        exit(1);
    }
    rank.index = epx_comm_rank_of(rank.comm);
    rank_main(&rank);
}

static void run_as_threads(void)
{
    struct epx_communicator *comms[RANKS];
    struct rank ranks[RANKS];
    must(epx_comm_create_local(RANKS, NULL, comms), "communicators");
    for (uint32_t i = 0; i < RANKS; i++) {
        ranks[i] = (struct rank){.index = i, .comm = comms[i]};
        if (pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]) != 0) {
            fprintf(stderr, "no thread for rank %u\n", i);
            exit(1);
        }
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
}

int main(void)
{
    if (getenv("EPX_RANK") != NULL) {
        run_as_process();
    } else {
        run_as_threads();
    }
    return 0;
}
