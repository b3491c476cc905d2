/* Dispatches that are read in many parts: ranks that ask for parts of different sizes, and one that falls out. */
#include "epx/epx.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define RANKS      4
#define TOKENS     64
#define HIDDEN     1024
#define TOPK       2
#define ROWS       (RANKS * TOKENS * TOPK)
#define TIMEOUT_MS 1500
/* A stopped rank is found at the time-out; what comes on top is other work on the machine. */
#define LATE_MS 2500

struct tensors {
    uint16_t x[TOKENS][HIDDEN];
    int32_t expert_ids[TOKENS][TOPK];
    uint16_t expand_x[ROWS][HIDDEN];
    int32_t expand_idx[TOKENS * TOPK];
    int64_t expert_token_nums[1];
    int32_t ep_recv_counts[RANKS];
};

struct outcome {
    enum epx_status status;
    uint64_t took_ms;
    char text[512];
    bool right;
};

static void fill(struct tensors *tensors, uint32_t rank)
{
    for (int token = 0; token < TOKENS; token++) {
        for (int h = 0; h < HIDDEN; h++) {
            tensors->x[token][h] = (uint16_t)(rank * 10000u + (uint32_t)token * 100u + (uint32_t)h % 100u);
        }
        for (int k = 0; k < TOPK; k++) {
            tensors->expert_ids[token][k] = (int32_t)((rank + (uint32_t)token + (uint32_t)k) % RANKS);
        }
    }
}

/* Rows by source rank, token and slot, made again from the definition. */
static bool rows_are_right(const struct tensors *tensors, uint32_t rank)
{
    static struct tensors other;
    int row = 0;
    for (uint32_t source = 0; source < RANKS; source++) {
        fill(&other, source);
        for (int copy = 0; copy < TOKENS * TOPK; copy++) {
            if (other.expert_ids[copy / TOPK][copy % TOPK] == (int32_t)rank) {
                if (memcmp(tensors->expand_x[row++], other.x[copy / TOPK], sizeof other.x[0]) != 0) {
                    return false;
                }
            }
        }
        if (tensors->ep_recv_counts[source] != row) {
            return false;
        }
    }
    return true;
}

static enum epx_status dispatch_once(const struct epx_token *token, uint32_t rank, struct outcome *outcome)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    struct epx_communicator *comm = NULL;
    struct epx_plan *plan = NULL;
    void *memory = NULL;
    config.op_timeout_ms = TIMEOUT_MS;
    moe.expert_count = RANKS;
    moe.hidden_elems = HIDDEN;
    moe.topk = TOPK;
    moe.token_max = TOKENS;
    moe.recv_row_max = ROWS;
    if (epx_comm_create_from_token(token, RANKS, rank, &config, &comm) != EPX_OK ||
        epx_plan_create(comm, &moe, &plan) != EPX_OK || epx_memory_alloc(sizeof(struct tensors), &memory) != EPX_OK) {
        return EPX_ERR_INTERNAL;
    }
    struct tensors *tensors = memory;
    fill(tensors, rank);
    args.token_count = TOKENS;
    args.x = tensors->x;
    args.expert_ids = tensors->expert_ids[0];
    args.expand_x = tensors->expand_x;
    args.expand_idx = tensors->expand_idx;
    args.expert_token_nums = tensors->expert_token_nums;
    args.ep_recv_counts = tensors->ep_recv_counts;
    uint64_t start_ns = epx_clock_ns();
    enum epx_status status = epx_dispatch(plan, &args);
    outcome->took_ms = (epx_clock_ns() - start_ns) / 1000000u;
    snprintf(outcome->text, sizeof outcome->text, "%s", status == EPX_OK ? "" : epx_last_error());
    outcome->right = status == EPX_OK && rows_are_right(tensors, rank);
    return status;
}

/* Runs one dispatch of RANKS processes; `prepare` sets a rank's environment. A rank that does not end is killed. */
static void run_world(void (*prepare)(uint32_t rank), uint32_t stopped_rank, struct outcome *outcomes)
{
    struct epx_token token;
    pid_t ranks[RANKS];
    struct outcome *shared =
        mmap(NULL, RANKS * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_int_equal(epx_token_create(&token), EPX_OK);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        ranks[rank] = fork();
        assert_true(ranks[rank] >= 0);
        if (ranks[rank] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            prepare(rank);
            shared[rank].status = dispatch_once(&token, rank, &shared[rank]);
            _exit(0);
        }
    }
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if (rank != stopped_rank) {
            assert_int_equal(waitpid(ranks[rank], NULL, 0), ranks[rank]);
        }
    }
    if (stopped_rank < RANKS) {
        assert_int_equal(kill(ranks[stopped_rank], SIGKILL), 0);
        assert_int_equal(waitpid(ranks[stopped_rank], NULL, 0), ranks[stopped_rank]);
    }
    memcpy(outcomes, shared, RANKS * sizeof *outcomes);
    assert_int_equal(munmap(shared, RANKS * sizeof *shared), 0);
}

static void own_size(uint32_t rank)
{
    static const char *const sizes[RANKS] = {"1", "64", "100000", "3"};
    (void)setenv("EPX_PART_KIB", sizes[rank], 1);
}

static void other_size(uint32_t rank)
{
    own_size(RANKS - 1 - rank);
}

static void parts__of_different_sizes(void **state)
{
    (void)state;
    struct outcome outcomes[RANKS];
    for (int way = 0; way < 2; way++) {
        run_world(way == 0 ? own_size : other_size, RANKS, outcomes);
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            assert_string_equal(outcomes[rank].text, "");
            assert_int_equal(outcomes[rank].status, EPX_OK);
            assert_true(outcomes[rank].right);
        }
    }
}

#ifdef EPX_FAULTS
static void many_parts_one_falls_out(uint32_t rank, const char *fault)
{
    (void)rank;
    (void)setenv("EPX_PART_KIB", "1", 1);
    (void)setenv("EPX_FAULT", fault, 1);
    (void)setenv("EPX_FAULT_RANK", "1", 1);
    (void)setenv("EPX_LOG", "error", 1);
}

static void one_stops(uint32_t rank)
{
    many_parts_one_falls_out(rank, "dispatch.rows:10:stop");
}

static void one_is_killed(uint32_t rank)
{
    many_parts_one_falls_out(rank, "dispatch.rows:10:kill");
}

static void parts__a_rank_stops(void **state)
{
    (void)state;
    struct outcome outcomes[RANKS];
    run_world(one_stops, 1, outcomes);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if (rank != 1) {
            assert_int_equal(outcomes[rank].status, EPX_ERR_TIMEOUT);
            /* The one that stopped, and nobody who was only in the middle of its parts. */
            assert_int_equal(strncmp(outcomes[rank].text, "rank 1 (pid ", 12), 0);
            assert_true(outcomes[rank].took_ms < TIMEOUT_MS + LATE_MS);
        }
    }
}

static void parts__a_rank_is_killed(void **state)
{
    (void)state;
    struct outcome outcomes[RANKS];
    run_world(one_is_killed, RANKS, outcomes);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if (rank != 1) {
            assert_int_equal(outcomes[rank].status, EPX_ERR_PEER_DEAD);
            assert_int_equal(strncmp(outcomes[rank].text, "rank 1 (pid ", 12), 0);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts__of_different_sizes),
#ifdef EPX_FAULTS
        cmocka_unit_test(parts__a_rank_stops),
        cmocka_unit_test(parts__a_rank_is_killed),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
