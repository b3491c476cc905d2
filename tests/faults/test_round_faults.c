/* A rank that dies, stops or fails at one exact place of a round. Needs a build with EPX_FAULTS. */
#include "ranks/rank_world.h"

#ifdef EPX_FAULTS

#define VICTIM 1u

static const char *fault_text;

/* Three rounds; the victim always arrives last. A failure ends them. */
static void faulty_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    enum epx_status status = EPX_OK;
    if (rank == VICTIM) {
        RANK_CHECK(setenv("EPX_FAULT", fault_text, 1) == 0);
    }
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    for (uint64_t n = 1; n <= 3 && status == EPX_OK; n++) {
        struct epx_round round;
        struct epx_agreement agreement = {{0}};
        status = epx_round_begin(&round, comm, epx_round_reserve(comm), EPX_OPERATION_DISPATCH);
        if (status == EPX_OK) {
            sleep_us(rank == VICTIM ? 40000 : 0);
            status = epx_round_enter(&round, &agreement, NULL, 0, NULL);
        }
        if (status == EPX_OK) {
            sleep_us(rank == VICTIM ? 40000 : 0);
            status = epx_round_step(&round, EPX_PHASE_DONE);
        }
        if (status == EPX_OK) {
            epx_round_end(&round);
            atomic_store(&world->reports[rank].rounds, n);
        }
    }
    if (status == EPX_OK && world->variant == 1 && rank == VICTIM) {
        status = epx_comm_abort(comm, EPX_ERR_ABORTED, "never to be read");
    }
    world_note_failure(world, rank, status);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

/* Runs the world with the fault in the victim; the others must agree. A victim that stops is woken when they are
 * through. */
static struct world *run_with_fault(const char *text, int64_t op_timeout_ms, bool stops)
{
    struct world *world = world_create(3, op_timeout_ms);
    fault_text = text;
    world_start(world, faulty_rank);
    for (uint32_t rank = 0; stops && rank < world->rank_count; rank++) {
        siginfo_t info = {0};
        if (rank != VICTIM) {
            assert_int_equal(waitid(P_PID, (id_t)world->reports[rank].pid, &info, WEXITED | WNOWAIT), 0);
        }
    }
    if (stops) {
        assert_int_equal(kill(world->reports[VICTIM].pid, SIGCONT), 0);
    }
    world_finish(world, strstr(text, ":kill") != NULL ? VICTIM : UINT32_MAX);
    assert_int_equal(world->reports[0].status, world->reports[2].status);
    assert_string_equal(world->reports[0].text, world->reports[2].text);
    assert_int_equal(world->reports[0].rounds, world->reports[2].rounds);
    return world;
}

static void expect(struct world *world, enum epx_status status, uint64_t rounds, const char *format)
{
    char text[EPX_ERROR_TEXT_BYTES];
    assert_int_equal(world->reports[0].status, status);
    assert_int_equal(world->reports[0].rounds, rounds);
    (void)snprintf(text, sizeof text, "rank 1 (pid %d) %s", (int)world->reports[VICTIM].pid, format);
    assert_memory_equal(world->reports[0].text, text, strlen(text));
    world_destroy(world);
}

static void kill__at_each_point(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        uint64_t rounds; /* that the others complete */
        const char *text;
    } cases[] = {
        {"round.begin:1:kill", 0, "died in dispatch round 1 (phase ENTER)"},
        {"round.publish:2:kill", 1, "died in dispatch round 2 (phase ENTER)"},
        {"round.arrive:1:kill", 0, "died in dispatch round 1 (phase ENTER)"},
        {"round.arrive:4:kill", 1, "died in dispatch round 2 (phase DONE)"},
        /* The step to which all had arrived completes without the one who should have said so. */
        {"round.last:3:kill", 1, "died in dispatch round 2 (phase ENTER)"},
        {"round.last:4:kill", 2, "died in dispatch round 2 (phase DONE)"},
        {"round.done:1:kill", 0, "died in dispatch round 1 (phase ENTER)"},
        {"round.done:2:kill", 1, "died in dispatch round 1 (phase DONE)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect(run_with_fault(cases[i].fault, 60000, false), EPX_ERR_PEER_DEAD, cases[i].rounds, cases[i].text);
    }
}

static void stop__at_each_point(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        uint64_t rounds;
        const char *text;
    } cases[] = {
        {"round.arrive:1:stop", 0, "has not entered dispatch round 1; ranks 0,2 have waited "},
        {"round.arrive:4:stop", 1, "has not reached phase DONE of dispatch round 2; ranks 0,2 have waited "},
        {"round.last:4:stop", 2, "has not entered dispatch round 3; ranks 0,2 have waited "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *world = run_with_fault(cases[i].fault, 400 * WORLD_SLOWNESS, true);
        /* Woken, the victim learns the same: what the others completed it completes, what they failed it fails. */
        assert_int_equal(world->reports[VICTIM].status, EPX_ERR_TIMEOUT);
        assert_string_equal(world->reports[VICTIM].text, world->reports[0].text);
        assert_int_equal(world->reports[VICTIM].rounds, world->reports[0].rounds);
        expect(world, EPX_ERR_TIMEOUT, cases[i].rounds, cases[i].text);
    }
}

static void fail__at_each_point(void **state)
{
    (void)state;
    static const char *const points[] = {"round.begin", "round.publish", "round.arrive"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        char fault[64];
        char text[64];
        (void)snprintf(fault, sizeof fault, "%s:2:fail", points[i]);
        (void)snprintf(text, sizeof text, "fault point %s", points[i]);
        struct world *world = run_with_fault(fault, 60000, false);
        for (uint32_t rank = 0; rank < world->rank_count; rank++) {
            assert_int_equal(world->reports[rank].status, EPX_ERR_INTERNAL);
            assert_string_equal(world->reports[rank].text, text);
        }
        world_destroy(world);
    }
}

/* The last to arrive never says that the step is complete: somebody else does. */
static void help__unsaid_completion(void **state)
{
    (void)state;
    struct world *world = run_with_fault("round.last:3:fail", 60000, false);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        assert_int_equal(world->reports[rank].status, EPX_OK);
        assert_int_equal(world->reports[rank].rounds, 3);
    }
    world_destroy(world);
}

/* Died with its record written but not yet published: the record counts for nothing. */
static void kill__between_record_and_word(void **state)
{
    (void)state;
    struct world *world = world_create(3, 60000);
    world->variant = 1;
    fault_text = "round.fail:1:kill";
    world_start(world, faulty_rank);
    world_finish(world, VICTIM);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        assert_int_equal(world->reports[rank].rounds, 3);
        assert_int_equal(world->reports[rank].status, EPX_OK);
    }
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill__at_each_point),           cmocka_unit_test(stop__at_each_point),
        cmocka_unit_test(fail__at_each_point),           cmocka_unit_test(help__unsaid_completion),
        cmocka_unit_test(kill__between_record_and_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    (void)printf("SKIPPED: built without EPX_FAULTS\n");
    return 77;
}

#endif
