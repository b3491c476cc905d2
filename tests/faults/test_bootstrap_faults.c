/* Deaths and failures at chosen points of the start. Needs a build with EPX_FAULTS. */
#include "comm/bootstrap.h"

#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS 4
/* Of the rank after the victim: the others have not all mapped everything when the victim gets there. */
#define SLOW "bootstrap_map:1:sleep=200"

struct outcome { /* shared with the children */
    enum epx_status status;
    char text[EPX_ERROR_TEXT_BYTES];
};

/* Runs a world of RANKS processes. Rank `victim` has the fault; it starts first and so is the centre. The next one is
 * slow. */
static void run_world(uint32_t victim, const char *fault, int64_t timeout_ms, struct outcome *outcomes)
{
    struct epx_bootstrap_request request = {
        .rank_count = RANKS, .shared_bytes = 4096, .timeout_ms = timeout_ms, .what = "the test world"};
    const uint64_t key[2] = {epx_clock_ns(), (uint64_t)getpid()};
    memcpy(request.key, key, sizeof key);
    pid_t pids[RANKS];
    for (uint32_t i = 0; i < RANKS; i++) {
        uint32_t rank = (victim + i) % RANKS;
        pids[rank] = fork();
        if (pids[rank] == 0) {
            struct epx_bootstrap_result result;
            request.rank = rank;
            if (i <= 1) {
                (void)setenv("EPX_FAULT", i == 0 ? fault : SLOW, 1);
            }
            outcomes[rank].status = epx_bootstrap_join(&request, &result);
            (void)snprintf(outcomes[rank].text, sizeof outcomes[rank].text, "%s", epx_error_text());
            _exit(0);
        }
        (void)usleep(i == 0 ? 300000 : 0);
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(waitpid(pids[r], NULL, 0), pids[r]);
    }
}

static struct outcome *make_outcomes(void)
{
    void *memory =
        mmap(NULL, RANKS * sizeof(struct outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    struct outcome *outcomes = memory;
    for (uint32_t r = 0; r < RANKS; r++) {
        outcomes[r].status = EPX_ERR_INTERNAL; /* of a rank that dies */
    }
    return outcomes;
}

/* The verdict stands before anyone is told: the centre's death in between leaves no rank in doubt. */
static void join__centre_dies_between_verdict_and_news(void **state)
{
    (void)state;
    struct outcome *outcomes = make_outcomes();
    run_world(1, "bootstrap_complete:1:kill", 20000, outcomes);
    assert_int_equal(outcomes[1].status, EPX_ERR_INTERNAL);
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r != 1 && outcomes[r].status != EPX_OK) {
            fail_msg("rank %u: %s", r, outcomes[r].text);
        }
    }
    (void)munmap(outcomes, RANKS * sizeof(struct outcome));
}

/* A rank that dies after its last word to the centre may have completed the world: then all others must have it. */
static void expect_death(const char *fault, bool may_complete)
{
    struct outcome *outcomes = make_outcomes();
    run_world(2, fault, 1500, outcomes);
    bool completed = may_complete && outcomes[0].status == EPX_OK;
    for (uint32_t r = 0; r < RANKS; r++) {
        if (completed && r != 2) {
            assert_int_equal(outcomes[r].status, EPX_OK);
        } else if (r != 2 &&
                   (outcomes[r].status != EPX_ERR_JOIN_TIMEOUT || strstr(outcomes[r].text, "missing rank") == NULL)) {
            fail_msg("rank %u: status %d, %s", r, (int)outcomes[r].status, outcomes[r].text);
        }
    }
    (void)munmap(outcomes, RANKS * sizeof(struct outcome));
}

static void join__rank_dies_on_its_way(void **state)
{
    (void)state;
    expect_death("bootstrap_hello:1:kill", false);
    expect_death("bootstrap_mapped:1:kill", true);
}

static void join__lack_of_memory_is_told_to_all(void **state)
{
    (void)state;
    struct outcome *outcomes = make_outcomes();
    run_world(3, "bootstrap_map:2:fail", 20000, outcomes);
    for (uint32_t r = 0; r < RANKS; r++) {
        if (outcomes[r].status != EPX_ERR_NO_MEMORY || strstr(outcomes[r].text, "no memory to map item") == NULL) {
            fail_msg("rank %u: status %d, %s", r, (int)outcomes[r].status, outcomes[r].text);
        }
    }
    (void)munmap(outcomes, RANKS * sizeof(struct outcome));
}

int main(void)
{
#ifdef EPX_FAULTS
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join__centre_dies_between_verdict_and_news),
        cmocka_unit_test(join__rank_dies_on_its_way),
        cmocka_unit_test(join__lack_of_memory_is_told_to_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#else
    (void)join__centre_dies_between_verdict_and_news;
    (void)join__rank_dies_on_its_way;
    (void)join__lack_of_memory_is_told_to_all;
    return 77;
#endif
}
