/* Door 1 from end to end, ranks as threads of this process. */
#include "epx/epx.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RANK_MAX 8

/* One rank of a scenario: cmocka's asserts belong to the main thread, so ranks note the line. */
struct rank {
    pthread_t thread;
    uint32_t index;
    uint32_t count;
    struct epx_communicator *comm;
    void (*main)(struct rank *rank);
    int wrong_line;
    enum epx_status status;
    char text[512];
};

#define RANK_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            rank->wrong_line = __LINE__;                                                                               \
            fprintf(stderr, "rank %u line %d: %s (%s)\n", rank->index, __LINE__, #condition, epx_last_error());        \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void *rank_thread(void *context)
{
    struct rank *rank = context;
    rank->main(rank);
    return NULL;
}

static void run_ranks(uint32_t count, struct epx_communicator *const *comms, struct rank *ranks,
                      void (*scenario)(struct rank *))
{
    for (uint32_t i = 0; i < count; i++) {
        ranks[i] = (struct rank){.index = i, .count = count, .comm = comms[i], .main = scenario};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_thread, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(ranks[i].thread, NULL);
        assert_int_equal(ranks[i].wrong_line, 0);
    }
}

static void run_local(uint32_t count, struct rank *ranks, void (*scenario)(struct rank *))
{
    struct epx_communicator *comms[RANK_MAX];
    assert_int_equal(epx_comm_create_local(count, NULL, comms), EPX_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(epx_comm_rank_of(comms[i]), i);
        assert_int_equal(epx_comm_size_of(comms[i]), count);
    }
    run_ranks(count, comms, ranks, scenario);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
    }
}

/* ---- The smallest world of the specification (docs/operators.md 1.6) ---- */

#define GOLDEN_TOKENS 2
#define GOLDEN_HIDDEN 5
#define GOLDEN_ROWS   8
#define GUARD         0x7B

struct golden {
    uint16_t x[GOLDEN_TOKENS][GOLDEN_HIDDEN];
    uint16_t expand_x[GOLDEN_ROWS][GOLDEN_HIDDEN];
    uint16_t sum[GOLDEN_TOKENS][GOLDEN_HIDDEN];
    int32_t ids[4];
    int32_t expand_idx[4];
    int64_t nums[4]; /* of two local experts, four when there is one rank */
    int32_t counts[4];
    float weights[4];
};

static const int32_t golden_ids[2][4] = {{0, 2, 2, 3}, {3, 0, 1, 2}};
static const int32_t golden_counts[2][4] = {{1, 2, 2, 3}, {2, 3, 4, 5}};
static const int64_t golden_nums[2][2] = {{2, 1}, {3, 2}};
static const int32_t golden_expand_idx[2][4] = {{0, 0, 1, 0}, {0, 0, 0, 0}};
/* (rank, token) of each row. */
static const int golden_rows[2][5][2] = {{{0, 0}, {1, 0}, {1, 1}}, {{0, 0}, {0, 1}, {1, 1}, {0, 1}, {1, 0}}};

static uint16_t golden_value(uint32_t rank, int token, int h)
{
    /* bf16 of small integers: exact. */
    float value = (float)(1 + rank * 20 + (uint32_t)token * 8 + (uint32_t)h);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void golden_fill(struct golden *golden, uint32_t rank)
{
    memset(golden, GUARD, sizeof *golden);
    memcpy(golden->ids, golden_ids[rank], sizeof golden->ids);
    for (int token = 0; token < GOLDEN_TOKENS; token++) {
        for (int h = 0; h < GOLDEN_HIDDEN; h++) {
            golden->x[token][h] = golden_value(rank, token, h);
        }
    }
    for (int i = 0; i < 4; i++) {
        golden->weights[i] = 0.5f;
    }
}

static struct epx_moe_config golden_config(void)
{
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = 4;
    config.hidden_elems = GOLDEN_HIDDEN;
    config.topk = 2;
    config.token_max = GOLDEN_TOKENS;
    return config;
}

static struct epx_dispatch_args golden_dispatch_args(struct golden *golden)
{
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    args.token_count = GOLDEN_TOKENS;
    args.x = golden->x;
    args.expert_ids = golden->ids;
    args.expand_x = golden->expand_x;
    args.expand_idx = golden->expand_idx;
    args.expert_token_nums = golden->nums;
    args.ep_recv_counts = golden->counts;
    return args;
}

static struct epx_combine_args golden_combine_args(struct golden *golden)
{
    struct epx_combine_args args = EPX_COMBINE_ARGS_INIT;
    args.token_count = GOLDEN_TOKENS;
    args.expand_x = golden->expand_x;
    args.expert_ids = golden->ids;
    args.expand_idx = golden->expand_idx;
    args.ep_send_counts = golden->counts;
    args.expert_scales = golden->weights;
    args.x = golden->sum;
    return args;
}

static void golden_check_dispatch(struct rank *rank, const struct golden *golden)
{
    int rows = rank->index == 0 ? 3 : 5;
    RANK_CHECK(memcmp(golden->counts, golden_counts[rank->index], sizeof golden->counts) == 0);
    RANK_CHECK(memcmp(golden->nums, golden_nums[rank->index], sizeof golden_nums[0]) == 0);
    RANK_CHECK(memcmp(golden->expand_idx, golden_expand_idx[rank->index], sizeof golden->expand_idx) == 0);
    for (int row = 0; row < GOLDEN_ROWS; row++) {
        for (int h = 0; h < GOLDEN_HIDDEN; h++) {
            const int *from = golden_rows[rank->index][row < rows ? row : 0];
            uint16_t expected = row < rows ? golden_value((uint32_t)from[0], from[1], h) : GUARD * 0x101;
            RANK_CHECK(golden->expand_x[row][h] == expected);
        }
    }
}

/* Experts that change nothing and weights that add up to 1 give the tokens back. */
static void golden_check_combine(struct rank *rank, const struct golden *golden)
{
    RANK_CHECK(memcmp(golden->sum, golden->x, sizeof golden->x) == 0);
}

static void golden_scenario(struct rank *rank, bool in_arena)
{
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    void *memory = NULL;
    RANK_CHECK((in_arena ? epx_memory_alloc(sizeof(struct golden), &memory) : EPX_OK) == EPX_OK);
    memory = in_arena ? memory : malloc(sizeof(struct golden));
    struct golden *golden = memory;
    RANK_CHECK(epx_plan_create(rank->comm, &config, &plan) == EPX_OK);
    RANK_CHECK(epx_plan_recv_row_max(plan) == GOLDEN_ROWS && epx_plan_local_expert_count(plan) == 2);
    for (int repeat = 0; repeat < 3; repeat++) {
        golden_fill(golden, rank->index);
        struct epx_dispatch_args dispatch = golden_dispatch_args(golden);
        struct epx_combine_args combine = golden_combine_args(golden);
        RANK_CHECK(epx_dispatch(plan, &dispatch) == EPX_OK);
        golden_check_dispatch(rank, golden);
        RANK_CHECK(epx_combine(plan, &combine) == EPX_OK);
        golden_check_combine(rank, golden);
    }
    RANK_CHECK(epx_plan_stats(plan, &stats) == EPX_OK);
    RANK_CHECK(stats.dispatch_rows_sent == 4 && stats.dispatch_rows_received == (rank->index == 0 ? 3 : 5));
    RANK_CHECK(stats.combine_rows_read == 4 && stats.dispatch_ns > 0 && stats.combine_ns > 0);
    epx_plan_destroy(plan);
    if (in_arena) {
        RANK_CHECK(epx_memory_free(memory) == EPX_OK);
    } else {
        free(memory);
    }
}

static void golden_arena(struct rank *rank)
{
    golden_scenario(rank, true);
}

static void golden_private(struct rank *rank)
{
    golden_scenario(rank, false);
}

static void golden_started(struct rank *rank)
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
        RANK_CHECK(epx_dispatch_start(plan, &dispatch, &requests[layer * 2]) == EPX_OK);
        RANK_CHECK(epx_combine_start(plan, &combine, &requests[layer * 2 + 1]) == EPX_OK);
    }
    for (int i = 0; i < 4; i++) {
        RANK_CHECK(epx_wait(requests[i], -1) == EPX_OK);
    }
    for (int layer = 0; layer < 2; layer++) {
        golden_check_dispatch(rank, &golden[layer]);
        golden_check_combine(rank, &golden[layer]);
    }
    epx_plan_destroy(plan);
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

/* ---- Misuse ---- */

static void misuse__null_and_garbage(void **state)
{
    struct epx_communicator *comm = NULL;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    uint64_t garbage[64];
    (void)state;
    memset(garbage, 0xA5, sizeof garbage);
    assert_int_equal(epx_comm_create_local(2, NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_local(0, NULL, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_create_from_table(NULL, 0, NULL, &comm), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_from_table("/nonexistent.json", 0, NULL, &comm), EPX_ERR_FILE);
    assert_int_equal(epx_comm_create_from_token(NULL, 1, 0, NULL, &comm), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_from_token(&shared_token, 1, 1, NULL, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_create_from_env(NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_token_create(NULL), EPX_ERR_NULL);
    config.struct_bytes = 0;
    assert_int_equal(epx_comm_create_local(1, &config, &comm), EPX_ERR_INVALID);
    config.struct_bytes = sizeof config;
    config.op_timeout_ms = -2;
    assert_int_equal(epx_comm_create_local(1, &config, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_destroy(NULL), EPX_OK);
    assert_int_equal(epx_comm_destroy((struct epx_communicator *)garbage), EPX_ERR_INVALID);
    assert_int_equal(epx_memory_alloc(1, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_memory_free(NULL), EPX_OK);
    assert_int_equal(epx_memory_free(garbage), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_wait(NULL, 0), EPX_ERR_NULL);
    assert_int_equal(epx_wait((struct epx_request *)garbage, 0), EPX_ERR_INVALID);
    assert_int_equal(epx_dispatch(NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_combine((struct epx_plan *)garbage, NULL), EPX_ERR_INVALID);
    assert_int_equal(epx_plan_stats(NULL, NULL), EPX_ERR_NULL);
    epx_plan_destroy(NULL);
    epx_plan_print(NULL, stderr);
    assert_int_equal(epx_comm_size_of(NULL), 0);
}

/* A struct of a later version: longer, with nothing set in what is new here, and then with something. */
static void misuse__versions_of_structs(void **state)
{
    struct {
        struct epx_moe_config config;
        uint64_t later;
    } longer = {.config = golden_config()};
    struct epx_communicator *comm;
    struct epx_plan *plan;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    longer.config.struct_bytes = sizeof longer;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_OK);
    epx_plan_destroy(plan);
    longer.later = 1;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_last_error(), "struct_bytes"));
    longer.config.struct_bytes = 8;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    longer.config.struct_bytes = SIZE_MAX;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    assert_int_equal(epx_plan_create(comm, NULL, &plan), EPX_ERR_NULL);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

static void misuse__plan_configs(void **state)
{
    struct epx_communicator *comm;
    struct epx_plan *plan = NULL;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    const struct {
        size_t offset;
        int64_t value;
        enum epx_status status;
    } cases[] = {
        {offsetof(struct epx_moe_config, expert_count), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, expert_count), INT64_MAX, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, hidden_elems), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, hidden_elems), -5, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, topk), 5, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, topk), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, shared_rank_count), 1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, shared_rank_count), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, token_max), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, token_max), INT64_MAX, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, recv_row_max), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, recv_row_max), INT64_MAX, EPX_ERR_SHAPE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct epx_moe_config config = golden_config();
        memcpy((char *)&config + cases[i].offset, &cases[i].value, sizeof cases[i].value);
        assert_int_equal(epx_plan_create(comm, &config, &plan), cases[i].status);
        assert_null(plan);
    }
    struct epx_moe_config smooth = golden_config();
    smooth.smooth_scales = 1;
    assert_int_equal(epx_plan_create(comm, &smooth, &plan), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

static void misuse__args_and_order(void **state)
{
    struct epx_communicator *comm;
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct golden golden;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    assert_int_equal(epx_plan_create(comm, &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    args.x = NULL;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_NULL);
    assert_string_equal(epx_last_error(), "x is null");
    args = golden_dispatch_args(&golden);
    args.token_count = GOLDEN_TOKENS + 1;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_INVALID);
    args = golden_dispatch_args(&golden);
    args.expand_x = golden.x;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_last_error(), "expandX overlaps x"));
    /* Nothing of that has spoiled the communicator. */
    args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch(plan, &args), EPX_OK);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_STATE);
    epx_plan_destroy(plan);
}

static void misuse__destroy_while_running(void **state)
{
    struct epx_communicator *comms[2];
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *request;
    struct golden golden;
    (void)state;
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    assert_int_equal(epx_plan_create(comms[0], &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch_start(plan, &args, &request), EPX_OK);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_ERR_STATE);
    assert_int_equal(epx_wait(request, 50), EPX_ERR_TIMEOUT);
    assert_non_null(strstr(epx_last_error(), "rank 1"));
    /* Its peer goes without having come. */
    assert_int_equal(epx_comm_destroy(comms[1]), EPX_OK);
    assert_int_equal(epx_wait(request, -1), EPX_ERR_PEER_LEFT);
    epx_plan_destroy(plan);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_OK);
}

static void fork__child_has_no_communicator(void **state)
{
    struct epx_communicator *comm;
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct golden golden;
    int code;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    assert_int_equal(epx_plan_create(comm, &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    pid_t child = fork();
    if (child == 0) {
        _exit(epx_dispatch(plan, &args) == EPX_ERR_STATE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    assert_int_equal(epx_dispatch(plan, &args), EPX_OK);
    epx_plan_destroy(plan);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

static void status__texts(void **state)
{
    (void)state;
    assert_string_equal(epx_version(), "0.1.0");
    assert_string_equal(epx_status_text(EPX_OK), "no error");
    assert_string_equal(epx_status_text((enum epx_status)12345), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment__refused),
        cmocka_unit_test(environment__every_launcher),
        cmocka_unit_test(golden__arena_memory),
        cmocka_unit_test(golden__private_memory),
        cmocka_unit_test(golden__started_and_waited),
        cmocka_unit_test(worlds__of_one_to_eight_ranks),
        cmocka_unit_test(token__two_threads_meet),
        cmocka_unit_test(misuse__null_and_garbage),
        cmocka_unit_test(misuse__versions_of_structs),
        cmocka_unit_test(misuse__plan_configs),
        cmocka_unit_test(misuse__args_and_order),
        cmocka_unit_test(misuse__destroy_while_running),
        cmocka_unit_test(fork__child_has_no_communicator),
        cmocka_unit_test(status__texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
