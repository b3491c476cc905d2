/*
 * A rank as a launcher starts it: makes the communicator from its environment and runs a few exchanges in which each
 * rank sends its token to the next one's expert and gets it back.
 *   epx_env_rank [VICTIM]     rank VICTIM kills itself before the last exchange
 * Exit status: 0 all right; 1 the library reports a failure, with its text on standard error; 2 a wrong result.
 */
#include <epx/epx.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIDDEN 32
#define ROUNDS 3

static void must(enum epx_status status)
{
    if (status != EPX_OK) {
        fprintf(stderr, "%s\n", epx_last_error());
        exit(1);
    }
}

static uint16_t element(uint32_t rank, int round)
{
    return (uint16_t)(0x3f80 + rank + (uint32_t)round);
}

/* What arrived is the token of the rank before, and what came back is the own one. */
static int exchange(struct epx_plan *plan, uint32_t rank, uint32_t count, int round)
{
    uint16_t x[HIDDEN];
    uint16_t back[HIDDEN] = {0};
    uint16_t expand_x[HIDDEN];
    int32_t expert = (int32_t)((rank + 1) % count);
    float scale = 1.0f;
    int32_t expand_idx = 0;
    int64_t token_nums = 0;
    int32_t *recv_counts = calloc(count, sizeof *recv_counts);
    int wrong = 0;
    for (int h = 0; h < HIDDEN; h++) {
        x[h] = element(rank, round);
    }
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    dispatch.token_count = 1;
    dispatch.x = x;
    dispatch.expert_ids = &expert;
    dispatch.expand_x = expand_x;
    dispatch.expand_idx = &expand_idx;
    dispatch.expert_token_nums = &token_nums;
    dispatch.ep_recv_counts = recv_counts;
    must(epx_dispatch(plan, &dispatch));
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    combine.token_count = 1;
    combine.expand_x = expand_x;
    combine.expert_ids = &expert;
    combine.expand_idx = &expand_idx;
    combine.ep_send_counts = recv_counts;
    combine.expert_scales = &scale;
    combine.x = back;
    must(epx_combine(plan, &combine));
    for (int h = 0; h < HIDDEN; h++) {
        wrong += expand_x[h] != element((rank + count - 1) % count, round) || back[h] != x[h];
    }
    free(recv_counts);
    return wrong;
}

int main(int argc, char **argv)
{
    struct epx_communicator *comm;
    struct epx_plan *plan;
    int wrong = 0;
    must(epx_comm_create_from_env(NULL, &comm));
    uint32_t rank = epx_comm_rank_of(comm);
    uint32_t count = epx_comm_size_of(comm);
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = count;
    config.hidden_elems = HIDDEN;
    config.topk = 1;
    config.token_max = 1;
    config.recv_row_max = 1;
    config.dtype = EPX_BF16;
    must(epx_plan_create(comm, &config, &plan));
    for (int round = 0; round < ROUNDS; round++) {
        if (round == ROUNDS - 1 && argc > 1 && (uint32_t)atoi(argv[1]) == rank) {
            (void)raise(SIGKILL);
        }
        wrong += exchange(plan, rank, count, round);
    }
    epx_plan_destroy(plan);
    must(epx_comm_destroy(comm));
    printf("rank %u of %u: %d wrong elements\n", rank, count, wrong);
    return wrong == 0 ? 0 : 2;
}
