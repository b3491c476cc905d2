#include "bootstrap_world.h"

/* ---- Worlds that come together --------------------------------------------------------------------------------- */

static void join_threads(uint32_t rank_count)
{
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(rank_count);
    run_threads(key, 0, 1, rank_count, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, rank_count);
    free_outcomes(outcomes, rank_count);
    assert_false(name_is_bound(key));
}

static void join_processes(uint32_t process_count, uint32_t rank_count)
{
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(rank_count);
    pid_t *pids = calloc(process_count, sizeof *pids);
    assert_non_null(pids);
    for (uint32_t p = 0; p < process_count; p++) {
        uint32_t step = process_count < rank_count ? process_count : 0;
        pids[p] = fork_ranks(key, p, step, rank_count, PATIENCE_MS, outcomes);
    }
    for (uint32_t p = 0; p < process_count; p++) {
        assert_int_equal(waitpid(pids[p], NULL, 0), pids[p]);
    }
    must_be_ok(outcomes, rank_count);
    free(pids);
    free_outcomes(outcomes, rank_count);
    assert_false(name_is_bound(key));
}

static void join__one_rank(void **state)
{
    (void)state;
    join_threads(1);
}

static void join__threads(void **state)
{
    (void)state;
    join_threads(2);
    join_threads(16);
    join_threads(64);
}

static void join__processes(void **state)
{
    (void)state;
    NEEDS_FORK();
    join_processes(2, 2);
    join_processes(16, 16);
}

static void join__threads_of_several_processes(void **state)
{
    (void)state;
    NEEDS_FORK();
    join_processes(4, 24);
}

/* The shells' usual limit, in each process; EPX_TEST_RANKS=288 makes it a large world. */
static void join__with_few_descriptors(void **state)
{
    (void)state;
    NEEDS_FORK();
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const char *text = getenv("EPX_TEST_RANKS");
    uint32_t rank_count = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : 40;
    struct rlimit few = {.rlim_cur = text != NULL ? 1024 : 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    join_processes(rank_count, rank_count);
    if (text != NULL) {
        join_threads(rank_count);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void join__two_worlds_at_once(void **state)
{
    (void)state;
    uint8_t keys[2][32];
    struct outcome *outcomes[2];
    struct task tasks[2][4];
    for (uint32_t w = 0; w < 2; w++) {
        make_key(keys[w]);
        outcomes[w] = make_outcomes(4);
    }
    for (uint32_t r = 0; r < 4; r++) {
        for (uint32_t w = 0; w < 2; w++) {
            start_thread(&tasks[w][r], make_request(keys[w], r, 4, PATIENCE_MS), &outcomes[w][r]);
        }
    }
    for (uint32_t w = 0; w < 2; w++) {
        for (uint32_t r = 0; r < 4; r++) {
            end_thread(&tasks[w][r]);
        }
        must_be_ok(outcomes[w], 4);
        free_outcomes(outcomes[w], 4);
    }
}

/* A full world closes its epoch: a second one with the same key meets while the first is still in use. */
static void join__same_key_again(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct epx_bootstrap_request request = make_request(key, 0, 1, PATIENCE_MS);
    struct epx_bootstrap_result first;
    struct epx_bootstrap_result second;
    assert_int_equal(epx_bootstrap_join(&request, &first), EPX_OK);
    assert_int_equal(epx_bootstrap_join(&request, &second), EPX_OK);
    assert_ptr_not_equal(first.shared, second.shared);
    memset(first.shared, 1, sizeof(struct board));
    for (size_t i = 0; i < sizeof(struct board); i++) {
        assert_int_equal(((const uint8_t *)second.shared)[i], 0);
    }
    epx_bootstrap_result_fini(&first, 1);
    epx_bootstrap_result_fini(&second, 1);
    struct outcome *outcomes = make_outcomes(4);
    run_threads(key, 0, 1, 4, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, 4);
    run_threads(key, 0, 1, 4, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

/* ---- Refusals -------------------------------------------------------------------------------------------------- */

static void join__duplicate_rank_is_refused(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    pid_t holder = fork_ranks(key, 0, 0, 3, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    wait_until_joined(key, 3, 1, 0);
    start_thread(&tasks[3], make_request(key, 0, 3, PATIENCE_MS), &outcomes[3]);
    end_thread(&tasks[3]);
    char expected[128];
    (void)snprintf(expected, sizeof expected, WHAT ": rank 0 is held by pid %d", (int)holder);
    must_fail(&outcomes[3], EPX_ERR_RENDEZVOUS, expected);
    for (uint32_t r = 1; r < 3; r++) {
        start_thread(&tasks[r], make_request(key, r, 3, PATIENCE_MS), &outcomes[r]);
    }
    for (uint32_t r = 1; r < 3; r++) {
        end_thread(&tasks[r]);
    }
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    must_be_ok(outcomes, 3);
    free_outcomes(outcomes, 4);
}

/* A rank whose holder has gone is free again, here in the same gathering. */
static void join__rank_of_a_dead_process_is_free(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    start_thread(&tasks[0], make_request(key, 0, 4, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    pid_t holder = fork_ranks(key, 1, 0, 4, PATIENCE_MS, outcomes);
    wait_until_joined(key, 4, 2, 1);
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    start_thread(&tasks[1], make_request(key, 1, 4, PATIENCE_MS), &outcomes[1]);
    start_thread(&tasks[2], make_request(key, 2, 4, PATIENCE_MS), &outcomes[2]);
    start_thread(&tasks[3], make_request(key, 3, 4, PATIENCE_MS), &outcomes[3]);
    for (uint32_t r = 0; r < 4; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

static void join__world_size_mismatch_fails_all(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[3];
    start_thread(&tasks[0], make_request(key, 0, 4, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    start_thread(&tasks[1], make_request(key, 1, 4, PATIENCE_MS), &outcomes[1]);
    wait_until_joined(key, 4, 3, 1);
    start_thread(&tasks[2], make_request(key, 2, 5, PATIENCE_MS), &outcomes[2]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&tasks[r]);
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "world size differs: rank 2 (pid ");
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "says 5, rank 0 (pid ");
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "says 4");
    }
    free_outcomes(outcomes, 3);
}

static void join__region_size_mismatch_fails_all(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task tasks[2];
    start_thread(&tasks[0], make_request(key, 0, 2, PATIENCE_MS), &outcomes[0]);
    wait_until_bound(key);
    struct epx_bootstrap_request other = make_request(key, 1, 2, PATIENCE_MS);
    other.shared_bytes = 4096;
    start_thread(&tasks[1], other, &outcomes[1]);
    for (uint32_t r = 0; r < 2; r++) {
        end_thread(&tasks[r]);
        must_fail(&outcomes[r], EPX_ERR_RENDEZVOUS, "control region size differs: rank 1");
    }
    free_outcomes(outcomes, 2);
}

static void join__bad_requests(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct epx_bootstrap_result result;
    struct epx_bootstrap_request request = make_request(key, 0, 0, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    request = make_request(key, 0, 4097, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    request = make_request(key, 3, 3, 0);
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), WHAT ": rank is 3, must be in [0, 3)");
    request.rank = 0;
    request.shared_bytes = 0;
    assert_int_equal(epx_bootstrap_join(&request, &result), EPX_ERR_INVALID);
}

/* ---- Time-outs ------------------------------------------------------------------------------------------------- */

/* Ranks 1, 4 and 5 stay away. The ranks come one after another, so the centre gives up before all the others. */
static void join__missing_ranks_are_named_by_all(void **state)
{
    (void)state;
    static const uint32_t present[] = {0, 2, 3, 6};
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[4];
    uint64_t begin = epx_clock_ns();
    for (uint32_t i = 0; i < 4; i++) {
        start_thread(&tasks[i], make_request(key, present[i], 7, 1500), &outcomes[i]);
        (void)usleep(100000);
    }
    for (uint32_t i = 0; i < 4; i++) {
        end_thread(&tasks[i]);
    }
    uint64_t span_ms = (epx_clock_ns() - begin) / 1000000u;
    assert_in_range(span_ms, 1500, 10000);
    for (uint32_t i = 0; i < 4; i++) {
        must_fail(&outcomes[i], EPX_ERR_JOIN_TIMEOUT,
                  "3 of 7 ranks have not joined " WHAT " within 1.5 s: missing ranks 1, 4-5");
    }
    free_outcomes(outcomes, 4);
    assert_false(name_is_bound(key));
}

/* Each rank keeps its own deadline: one that gives up early leaves the others waiting, even when it was the centre. */
static void join__impatient_centre_does_not_fail_the_others(void **state)
{
    (void)state;
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[3];
    struct outcome early = {.status = EPX_ERR_INTERNAL};
    start_thread(&tasks[0], make_request(key, 0, 3, 400), &early);
    wait_until_bound(key);
    start_thread(&tasks[1], make_request(key, 1, 3, PATIENCE_MS), &outcomes[1]);
    end_thread(&tasks[0]);
    must_fail(&early, EPX_ERR_JOIN_TIMEOUT, "1 of 3 ranks has not joined " WHAT " within 0.4 s: missing rank 2");
    start_thread(&tasks[2], make_request(key, 2, 3, PATIENCE_MS), &outcomes[2]);
    start_thread(&tasks[0], make_request(key, 0, 3, PATIENCE_MS), &outcomes[0]);
    for (uint32_t r = 0; r < 3; r++) {
        end_thread(&tasks[r]);
    }
    must_be_ok(outcomes, 3);
    free_outcomes(outcomes, 3);
}

static void join__stopped_centre_does_not_hold_the_others(void **state)
{
    (void)state;
    NEEDS_FORK();
    uint8_t key[32];
    make_key(key);
    struct outcome *outcomes = make_outcomes(2);
    struct task task;
    pid_t centre = fork_ranks(key, 0, 0, 2, PATIENCE_MS, outcomes);
    wait_until_bound(key);
    assert_int_equal(kill(centre, SIGSTOP), 0);
    start_thread(&task, make_request(key, 1, 2, 500), &outcomes[1]);
    end_thread(&task);
    char expected[256];
    (void)snprintf(expected, sizeof expected,
                   "1 of 2 ranks has not joined " WHAT " within 0.5 s: missing rank 0; the meeting point is held by "
                   "pid %d, which does not answer",
                   (int)centre);
    must_fail(&outcomes[1], EPX_ERR_JOIN_TIMEOUT, expected);
    assert_int_equal(kill(centre, SIGKILL), 0);
    assert_int_equal(waitpid(centre, NULL, 0), centre);
    free_outcomes(outcomes, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join__processes),
        WATCHED(join__one_rank),
        WATCHED(join__threads),
        WATCHED(join__threads_of_several_processes),
        WATCHED(join__with_few_descriptors),
        WATCHED(join__two_worlds_at_once),
        WATCHED(join__same_key_again),
        WATCHED(join__duplicate_rank_is_refused),
        WATCHED(join__rank_of_a_dead_process_is_free),
        WATCHED(join__world_size_mismatch_fails_all),
        WATCHED(join__region_size_mismatch_fails_all),
        WATCHED(join__bad_requests),
        WATCHED(join__missing_ranks_are_named_by_all),
        WATCHED(join__impatient_centre_does_not_fail_the_others),
        WATCHED(join__stopped_centre_does_not_hold_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
