/* Door 1 from end to end. */
#include "ranks/epx_door.h"

#include <sys/wait.h>
#include <unistd.h>

static void golden_arena(struct rank *rank)
{
    golden_scenario(rank, true);
}

static void golden_private(struct rank *rank)
{
    golden_scenario(rank, false);
}

/* Waits for ever, or in pieces so short that the operation goes from this thread to the worker and back. */
static enum epx_status wait_for(struct epx_request **request, bool in_pieces)
{
    enum epx_status status;
    do {
        status = epx_wait(request, in_pieces ? 1 : -1);
    } while (status == EPX_ERR_TIMEOUT && *request != NULL);
    return status;
}

static void golden_waited(struct rank *rank, bool in_pieces)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *requests[4];
    struct golden golden[2];
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    /* Two layers in flight at once, each with tensors of its own. */
    for (int layer = 0; layer < 2; layer++) {
        golden_fill(&golden[layer], rank->index);
        struct epx_dispatch_args dispatch = golden_dispatch_args(&golden[layer]);
        struct epx_combine_args combine = golden_combine_args(&golden[layer]);
        usleep(in_pieces ? 5000 * rank->index : 0);
        RANK_CHECK(epx_dispatch_start(plan, &dispatch, &requests[layer * 2]) == EPX_OK);
        RANK_CHECK(epx_combine_start(plan, &combine, &requests[layer * 2 + 1]) == EPX_OK);
    }
    for (int i = 0; i < 4; i++) {
        RANK_CHECK(wait_for(&requests[i], in_pieces) == EPX_OK);
        usleep(in_pieces ? 5000 * rank->index : 0);
    }
    for (int layer = 0; layer < 2; layer++) {
        golden_check_dispatch(rank, &golden[layer]);
        golden_check_combine(rank, &golden[layer]);
    }
    epx_plan_destroy(plan);
}

static void golden_started(struct rank *rank)
{
    golden_waited(rank, false);
}

static void golden_in_pieces(struct rank *rank)
{
    for (int i = 0; i < 5 && rank->wrong_line == 0; i++) {
        golden_waited(rank, true);
    }
}

static void golden__arena_memory(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, golden_arena);
}

static void golden__private_memory(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, golden_private);
}

static void golden__started_and_waited(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, golden_started);
}

static void golden__started_and_waited_in_pieces(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(2, ranks, golden_in_pieces);
}

/* ---- Worlds of any size; token counts that change from run to run and differ between ranks ---- */

#define RING_TOKENS 6
#define RING_HIDDEN 40

/* Two experts a rank; every token of rank r goes to experts r + 1 and r + 2 (wrapping round), which change nothing. */
static void ring_run(struct rank *rank, struct epx_plan *plan, int64_t tokens)
{
    uint16_t x[RING_TOKENS][RING_HIDDEN];
    uint16_t sum[RING_TOKENS][RING_HIDDEN];
    uint16_t *expand_x = calloc((size_t)rank->count * RING_TOKENS * 2, sizeof *expand_x * RING_HIDDEN);
    int32_t ids[RING_TOKENS * 2];
    int32_t expand_idx[RING_TOKENS * 2];
    float weights[RING_TOKENS * 2];
    int64_t nums[2];
    int32_t counts[2 * RANK_MAX];
    for (int64_t t = 0; t < tokens; t++) {
        for (int h = 0; h < RING_HIDDEN; h++) {
            x[t][h] = golden_value(rank->index % 4, (int)t, 0);
        }
        for (uint32_t k = 0; k < 2; k++) {
            ids[t * 2 + k] = (int32_t)((rank->index + 1 + k) % (2 * rank->count));
            weights[t * 2 + k] = k == 0 ? 0.25f : 0.75f;
        }
    }
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    dispatch.token_count = tokens;
    dispatch.x = x;
    dispatch.expert_ids = ids;
    dispatch.expand_x = expand_x;
    dispatch.expand_idx = expand_idx;
    dispatch.expert_token_nums = nums;
    dispatch.ep_recv_counts = counts;
    RANK_CHECK(epx_dispatch(plan, &dispatch) == EPX_OK);
    RANK_CHECK(nums[0] == counts[rank->count - 1] && nums[0] + nums[1] == counts[2 * rank->count - 1]);
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    combine.token_count = tokens;
    combine.expand_x = expand_x;
    combine.expert_ids = ids;
    combine.expand_idx = expand_idx;
    combine.ep_send_counts = counts;
    combine.expert_scales = weights;
    combine.x = sum;
    RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
    RANK_CHECK(memcmp(x, sum, (size_t)tokens * sizeof x[0]) == 0);
    free(expand_x);
}

static void ring_scenario(struct rank *rank)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    struct epx_plan *plan;
    config.expert_count = 2 * (int64_t)rank->count;
    config.hidden_elems = RING_HIDDEN;
    config.topk = 2;
    config.token_max = RING_TOKENS;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    for (int64_t run = 0; run < 12; run++) {
        ring_run(rank, plan, (run + rank->index) % (RING_TOKENS + 1));
        if (rank->wrong_line != 0) {
            return;
        }
    }
    epx_plan_destroy(plan);
}

static void worlds__of_one_to_eight_ranks(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    for (uint32_t count = 1; count <= RANK_MAX; count++) {
        run_local(count, ranks, ring_scenario);
    }
}

/* ---- Other ways to meet ---- */

static struct epx_token shared_token;

static void meet_by_token(struct rank *rank)
{
    struct epx_communicator *comm;
    RANK_CHECK(epx_comm_create_from_token(&shared_token, rank->count, rank->index, NULL, &comm) == EPX_OK);
    RANK_CHECK(epx_comm_rank_of(comm) == rank->index);
    rank->comm = comm;
    golden_scenario(rank, true);
    RANK_CHECK(epx_comm_destroy(comm) == EPX_OK);
}

static void token__two_threads_meet(void **state)
{
    struct epx_communicator *none[RANK_MAX] = {NULL};
    struct rank ranks[RANK_MAX];
    (void)state;
    assert_int_equal(epx_token_create(&shared_token), EPX_OK);
    run_ranks(2, none, ranks, meet_by_token);
}

/* A child process that is rank `index` of two as a launcher starts it; 0 when it met its peer. */
static int launched_rank(const char *const *names, int index)
{
    struct epx_communicator *comm;
    char text[16];
    (void)snprintf(text, sizeof text, "%d", index);
    if (setenv(names[0], text, 1) != 0 || setenv(names[1], "2", 1) != 0 ||
        setenv("EPX_JOIN_TIMEOUT", "20000", 1) != 0) {
        return 2;
    }
    if (epx_comm_create_from_env(NULL, &comm) != EPX_OK) {
        fprintf(stderr, "rank %d: %s\n", index, epx_last_error());
        return 3;
    }
    struct rank rank = {.index = (uint32_t)index, .count = 2, .comm = comm};
    golden_scenario(&rank, true);
    return rank.wrong_line != 0 || epx_comm_destroy(comm) != EPX_OK ? 4 : 0;
}

static void launch_two(const char *const *names, const char *const *job)
{
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            if (job[0] != NULL && setenv(job[0], job[1], 1) != 0) {
                _exit(5);
            }
            _exit(launched_rank(names, i));
        }
    }
    for (int i = 0; i < 2; i++) {
        int code;
        assert_int_equal(waitpid(children[i], &code, 0), children[i]);
        assert_int_equal(code, 0);
    }
}

static void environment__every_launcher(void **state)
{
    static const char *const names[][2] = {{"EPX_RANK", "EPX_WORLD_SIZE"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"SLURM_PROCID", "SLURM_NTASKS"},
                                           {"RANK", "WORLD_SIZE"}};
    char pid[32];
    (void)state;
    (void)snprintf(pid, sizeof pid, "test-%d", (int)getpid());
    const char *const jobs[][2] = {
        {"EPX_JOB", pid}, {NULL, NULL}, {NULL, NULL}, {"SLURM_JOB_ID", pid}, {"TORCHELASTIC_RUN_ID", pid}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        launch_two(names[i], jobs[i]);
    }
}

static void environment__refused(void **state)
{
    struct epx_communicator *comm = NULL;
    (void)state;
    assert_int_equal(epx_comm_create_from_env(NULL, &comm), EPX_ERR_CONFIG);
    assert_non_null(strstr(epx_last_error(), "EPX_RANK"));
    setenv("EPX_RANK", "2", 1);
    setenv("EPX_WORLD_SIZE", "2", 1);
    setenv("EPX_JOB", "refused", 1);
    assert_int_equal(epx_comm_create_from_env(NULL, &comm), EPX_ERR_CONFIG);
    assert_non_null(strstr(epx_last_error(), "EPX_RANK is \"2\", must be in [0, 1]"));
    setenv("EPX_RANK", "-1", 1);
    assert_int_equal(epx_comm_create_from_env(NULL, &comm), EPX_ERR_CONFIG);
    setenv("EPX_RANK", "0", 1);
    unsetenv("EPX_JOB");
    assert_int_equal(epx_comm_create_from_env(NULL, &comm), EPX_ERR_CONFIG);
    assert_non_null(strstr(epx_last_error(), "EPX_JOB"));
    setenv("EPX_RANK_TABLE", "/nonexistent/table.json", 1);
    assert_int_equal(epx_comm_create_from_env(NULL, &comm), EPX_ERR_FILE);
    unsetenv("EPX_RANK_TABLE");
    unsetenv("EPX_RANK");
    unsetenv("EPX_WORLD_SIZE");
    assert_null(comm);
}

/* ---- Weights of the two-level exchange: rank 1 gives none, rank 2 has no tokens ---- */

static void weights_scenario(struct rank *rank)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    struct epx_plan *plan;
    const uint16_t x[2] = {1, 2};
    const int32_t ids[6] = {0, 1, 2, 2, 1, 0};
    const float weights[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    /* Copies of rank 0, then of rank 1; expert r is rank r's. */
    static const float expected[3][4] = {
        {1.0f, 6.0f, 0.0f, 0.0f}, {-1.0f, -1.0f, -1.0f, -1.0f}, {3.0f, 4.0f, 0.0f, 0.0f}};
    float got[5] = {-1.0f, -1.0f, -1.0f, -1.0f, -1.0f};
    uint16_t expand_x[5];
    int64_t nums;
    int32_t counts[3];
    config.expert_count = 3;
    config.hidden_elems = 1;
    config.topk = 3;
    config.token_max = rank->index == 2 ? 0 : 2;
    config.recv_row_max = 5;
    config.exchange = EPX_EXCHANGE_AUTO; /* one host */
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_exchange(plan) == EPX_EXCHANGE_FULL_MESH);
    epx_plan_destroy(plan);
    config.exchange = EPX_EXCHANGE_TWO_LEVEL;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_exchange(plan) == EPX_EXCHANGE_TWO_LEVEL && epx_plan_exchange(NULL) == EPX_EXCHANGE_AUTO);
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    args.token_count = config.token_max;
    args.x = x;
    args.expert_ids = ids;
    args.expert_scales = rank->index == 0 ? weights : NULL;
    args.expand_x = expand_x;
    args.expert_token_nums = &nums;
    args.ep_recv_counts = counts;
    args.expand_scales = got;
    RANK_CHECK(epx_dispatch(plan, &args) == EPX_OK);
    RANK_CHECK(nums == 4 && memcmp(got, expected[rank->index], sizeof expected[0]) == 0 && got[4] == -1.0f);
    epx_plan_destroy(plan);
}

static void two_level__weights_not_given(void **state)
{
    struct rank ranks[RANK_MAX];
    (void)state;
    run_local(3, ranks, weights_scenario);
}

static void status__texts(void **state)
{
    (void)state;
    assert_string_equal(epx_version(), "0.1.0");
    assert_string_equal(epx_status_text(EPX_OK), "no error");
    assert_string_equal(epx_status_text((enum epx_status)12345), "unknown status");
}

/* Another host's address, where no rank of this process could listen. */
static void local__needs_no_root(void **state)
{
    (void)state;
    struct epx_communicator *comms[2];
    (void)setenv("EPX_ROOT", "240.0.0.1:60000", 1);
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    (void)unsetenv("EPX_ROOT");
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_OK);
    assert_int_equal(epx_comm_destroy(comms[1]), EPX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment__refused),
        cmocka_unit_test(environment__every_launcher),
        cmocka_unit_test(golden__arena_memory),
        cmocka_unit_test(golden__private_memory),
        cmocka_unit_test(golden__started_and_waited),
        cmocka_unit_test(golden__started_and_waited_in_pieces),
        cmocka_unit_test(worlds__of_one_to_eight_ranks),
        cmocka_unit_test(token__two_threads_meet),
        cmocka_unit_test(local__needs_no_root),
        cmocka_unit_test(two_level__weights_not_given),
        cmocka_unit_test(status__texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
