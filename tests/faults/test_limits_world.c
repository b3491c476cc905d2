/*
 * One rank of a world is under a limit of the system: it gets its error, and the others hear of it, with the rank's
 * name or the cause, instead of waiting for their deadline.
 */
#include "limits.h"

#include "epx/epx.h"

#define RANK_COUNT      3
#define LIMITED         1
#define JOIN_TIMEOUT_MS 4000
#define SOON_MS         2500
#define HIDDEN          64
#define TOKEN_COUNT     4
#define EXPERTS         RANK_COUNT

enum stage { STAGE_NONE, STAGE_BEFORE_JOIN, STAGE_BEFORE_PLAN };

struct scenario {
    const char *what;
    enum stage stage;
    bool warm; /* the limited rank's arena is open when the limit comes */
    int resource;
    rlim_t amount;
    const char *used_line;   /* of /proc/self/status: `amount` comes on top of it; null: as it is */
    int64_t join_timeout_ms; /* 0: JOIN_TIMEOUT_MS */
    const char *fault;       /* EPX_FAULT of the limited rank, whose rows lie in reserved memory */
    uint32_t limited;        /* this rank; it starts first when it is 0, and is then the one that the others meet */
};

struct world {
    struct limit_report *reports;
    struct epx_token token;
    pid_t parent;
};

static void limit_comes(const struct scenario *scenario)
{
    void *memory = NULL;
    if (scenario->warm && epx_memory_alloc(100, &memory) != EPX_OK) {
        _exit(4);
    }
    rlim_t amount = scenario->amount + (scenario->used_line != NULL ? limit_own_bytes(scenario->used_line) : 0);
    const struct rlimit limit = {amount, amount};
    if (setrlimit((__rlimit_resource_t)scenario->resource, &limit) != 0) {
        _exit(5);
    }
}

static void run_round(struct limit_report *report, struct epx_plan *plan, void *late_rows)
{
    static uint16_t x[TOKEN_COUNT * HIDDEN];
    static uint16_t rows[RANK_COUNT * TOKEN_COUNT * HIDDEN];
    static int32_t ids[TOKEN_COUNT] = {0, 1, 2, 0};
    static int32_t idx[TOKEN_COUNT];
    static int64_t nums[1];
    static int32_t counts[RANK_COUNT];
    struct epx_dispatch_args args = EPX_DISPATCH_ARGS_INIT;
    args.token_count = TOKEN_COUNT;
    args.x = x;
    args.expert_ids = ids;
    args.expand_x = late_rows != NULL ? late_rows : rows;
    args.expand_idx = idx;
    args.expert_token_nums = nums;
    args.ep_recv_counts = counts;
    (void)limit_note_epx(report, "epx_dispatch", epx_dispatch(plan, &args));
}

static void rank_main(const struct world *world, const struct scenario *scenario, uint32_t rank)
{
    struct limit_report *report = &world->reports[rank];
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    struct epx_communicator *comm = NULL;
    struct epx_plan *plan = NULL;
    void *late_rows = NULL;
    config.join_timeout_ms = scenario->join_timeout_ms != 0 ? scenario->join_timeout_ms : JOIN_TIMEOUT_MS;
    config.op_timeout_ms = 20000;
    moe.expert_count = EXPERTS;
    moe.hidden_elems = HIDDEN;
    moe.topk = 1;
    moe.token_max = TOKEN_COUNT;
    if (rank == scenario->limited && scenario->stage == STAGE_BEFORE_JOIN) {
        limit_comes(scenario);
    }
    if (rank == scenario->limited && scenario->fault != NULL) {
        (void)setenv("EPX_FAULT", scenario->fault, 1);
        if (!limit_note_epx(report, "epx_memory_reserve", epx_memory_reserve(2 * MIB, &late_rows))) {
            return;
        }
    }
    if (!limit_note_epx(report, "creation",
                        epx_comm_create_from_token(&world->token, RANK_COUNT, rank, &config, &comm))) {
        return;
    }
    if (rank == scenario->limited && scenario->stage == STAGE_BEFORE_PLAN) {
        limit_comes(scenario);
        moe.token_max = 10000000;
    }
    if (limit_note_epx(report, "epx_plan_create", epx_plan_create(comm, &moe, &plan))) {
        run_round(report, plan, late_rows);
        epx_plan_destroy(plan);
    }
    if (epx_comm_destroy(comm) != EPX_OK) {
        _exit(6);
    }
}

static pid_t rank_start(const struct world *world, const struct scenario *scenario, uint32_t rank)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        limit_child_begin(world->parent);
        rank_main(world, scenario, rank);
        _exit(0);
    }
    return pid;
}

struct outcome {
    struct limit_step last[RANK_COUNT];
    uint64_t ended_ns[RANK_COUNT];
    uint64_t took_ms; /* until the last of those without a limit had its answer */
};

static void run_world(const struct scenario *scenario, struct outcome *outcome)
{
    struct world world = {.reports = limit_reports_create(RANK_COUNT), .parent = getpid()};
    uint64_t start_ns = limit_now_ns();
    pid_t pids[RANK_COUNT];
    assert_int_equal(epx_token_create(&world.token), EPX_OK);
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        pids[rank] = rank_start(&world, scenario, rank);
        if (rank == 0) {
            limit_sleep_ms(300); /* it is the one that the others meet */
        }
    }
    outcome->took_ms = 0;
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        const struct limit_report *report = &world.reports[rank];
        limit_child_expect(pids[rank], report, scenario->what);
        assert_int_not_equal(report->count, 0);
        outcome->last[rank] = report->steps[report->count - 1];
        uint64_t took_ms = (report->ended_ns - start_ns) / 1000000u;
        if (rank != scenario->limited && took_ms > outcome->took_ms) {
            outcome->took_ms = took_ms;
        }
    }
    limit_reports_destroy(world.reports, RANK_COUNT);
}

static void expect_status(const struct scenario *scenario, const struct outcome *outcome, uint32_t rank, int status,
                          const char *named)
{
    const struct limit_step *last = &outcome->last[rank];
    if (last->code != status || strstr(last->text, named) == NULL) {
        fail_msg("%s: rank %u: %s gives %d, must be %d and name \"%s\": %s", scenario->what, rank, last->name,
                 last->code, status, named, last->text);
    }
}

static void creation__a_rank_cannot_map_its_peers(void **state)
{
    (void)state;
    const struct scenario scenario = {.what = "no address space for peers",
                                      .stage = STAGE_BEFORE_JOIN,
                                      .warm = true,
                                      .resource = RLIMIT_AS,
                                      .amount = 12 * MIB,
                                      .used_line = "VmSize:",
                                      .limited = LIMITED};
    struct outcome outcome;
    if (limit_sanitized()) {
        print_message("SKIPPED RLIMIT_AS: the sanitizer needs the address space\n");
        skip();
    }
    run_world(&scenario, &outcome);
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        expect_status(&scenario, &outcome, rank, EPX_ERR_NO_MEMORY, rank == LIMITED ? "arena" : "rank 1");
    }
    assert_true(outcome.took_ms < SOON_MS);
}

/* Whether every rank was told by the one that the others meet what it lacks. */
static bool judge_descriptors(const struct scenario *scenario, const struct outcome *outcome)
{
    bool all_told = true;
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        const struct limit_step *last = &outcome->last[rank];
        bool told = last->code == EPX_ERR_SYSTEM &&
                    (strstr(last->text, "Too many open files") != NULL || strstr(last->text, "ulimit -n") != NULL);
        /* Who was not accepted any more learns it at its deadline. */
        bool timed_out = last->code == EPX_ERR_JOIN_TIMEOUT && strstr(last->text, " 0") != NULL;
        if (last->code != EPX_OK && !told && !(timed_out && rank != 0)) {
            fail_msg("%s, %llu: rank %u has status %d: %s", scenario->what, (unsigned long long)scenario->amount, rank,
                     last->code, last->text);
        }
        assert_true((last->code == EPX_OK) == (outcome->last[0].code == EPX_OK));
        all_told = all_told && told && strstr(last->text, "rank 0") != NULL;
    }
    return all_told;
}

static void creation__the_centre_has_no_descriptors(void **state)
{
    (void)state;
    struct scenario scenario = {.what = "no descriptors for peers",
                                .stage = STAGE_BEFORE_JOIN,
                                .warm = true,
                                .resource = RLIMIT_NOFILE,
                                .join_timeout_ms = 1200,
                                .limited = 0};
    struct outcome outcome;
    uint32_t told = 0;
    for (rlim_t amount = 7; amount < 15; amount++) {
        scenario.amount = amount;
        run_world(&scenario, &outcome);
        told += judge_descriptors(&scenario, &outcome);
    }
    assert_int_not_equal(told, 0);
    scenario.amount = 64;
    run_world(&scenario, &outcome);
    (void)judge_descriptors(&scenario, &outcome);
    assert_int_equal(outcome.last[0].code, EPX_OK);
}

static void creation__a_rank_cannot_open_its_arena(void **state)
{
    (void)state;
    const struct scenario scenario = {
        .what = "no arena", .stage = STAGE_BEFORE_JOIN, .resource = RLIMIT_FSIZE, .amount = 0, .limited = LIMITED};
    struct outcome outcome;
    run_world(&scenario, &outcome);
    expect_status(&scenario, &outcome, LIMITED, EPX_ERR_NO_MEMORY, "RLIMIT_FSIZE");
    /* It never came to the meeting point: the others can know no more than that, and only at their deadline. */
    expect_status(&scenario, &outcome, 0, EPX_ERR_JOIN_TIMEOUT, "missing rank 1");
    expect_status(&scenario, &outcome, 2, EPX_ERR_JOIN_TIMEOUT, "missing rank 1");
    assert_true(outcome.took_ms < JOIN_TIMEOUT_MS + 2000);
}

static void plan__a_rank_has_no_memory_and_leaves(void **state)
{
    (void)state;
    const struct scenario scenario = {.what = "no memory for a plan",
                                      .stage = STAGE_BEFORE_PLAN,
                                      .resource = RLIMIT_FSIZE,
                                      .amount = 4 * MIB,
                                      .limited = LIMITED};
    struct outcome outcome;
    run_world(&scenario, &outcome);
    expect_status(&scenario, &outcome, LIMITED, EPX_ERR_NO_MEMORY, "RLIMIT_FSIZE");
    expect_status(&scenario, &outcome, 0, EPX_ERR_PEER_LEFT, "rank 1");
    expect_status(&scenario, &outcome, 2, EPX_ERR_PEER_LEFT, "rank 1");
    assert_true(outcome.took_ms < SOON_MS);
}

static void dispatch__a_rank_has_no_memory_for_its_rows(void **state)
{
    (void)state;
#ifndef EPX_FAULTS
    print_message("SKIPPED: built without fault points\n");
    skip();
#endif
    const struct scenario scenario = {
        .what = "no memory for rows", .stage = STAGE_NONE, .fault = "arena_need:1", .limited = LIMITED};
    struct outcome outcome;
    run_world(&scenario, &outcome);
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        expect_status(&scenario, &outcome, rank, EPX_ERR_RANK_MEMORY, "rank 1: no memory for expandX");
    }
    assert_true(outcome.took_ms < SOON_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creation__a_rank_cannot_map_its_peers),
        cmocka_unit_test(creation__the_centre_has_no_descriptors),
        cmocka_unit_test(creation__a_rank_cannot_open_its_arena),
        cmocka_unit_test(plan__a_rank_has_no_memory_and_leaves),
        cmocka_unit_test(dispatch__a_rank_has_no_memory_for_its_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
