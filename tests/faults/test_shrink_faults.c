/* Ranks that die or stop at one exact place while the survivors of an earlier loss agree on who goes on. Needs a build
 * with EPX_FAULTS. */
#include "ranks/shrink_world.h"

#ifdef EPX_FAULTS

#define RANKS 5u
#define FIRST 0u /* is killed by the test */

/* What goes wrong in each rank while it shrinks; null: nothing. */
static const char *const *faults;

/* A rank with a fault comes last, so that it is the one to decide. */
static void faulty(struct world *world, uint32_t rank)
{
    struct shrink_rank self = {0};
    bool right = false;
    RANK_CHECK(faults[rank] == NULL || setenv("EPX_FAULT", faults[rank], 1) == 0);
    RANK_CHECK(shrink_join(world, rank, &self) == EPX_OK);
    enum epx_status status = shrink_rounds(world, &self, UINT64_MAX, &right);
    RANK_CHECK(right && status == EPX_ERR_PEER_DEAD);
    sleep_us(faults[rank] != NULL ? 60000 : 0);
    /* A member that has died when all had met is found by the first round. */
    while (status == EPX_ERR_PEER_DEAD) {
        status = shrink_go_on(&self, 300 * WORLD_SLOWNESS);
        status = status == EPX_OK ? shrink_rounds(world, &self, 5, &right) : status;
        RANK_CHECK(right);
    }
    world_note_failure(world, rank, status);
    RANK_CHECK(status == EPX_OK || status == EPX_ERR_PEER_LEFT);
    RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
}

static uint32_t ranks_with(const char *action)
{
    uint32_t set = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        set |= (uint32_t)(faults[rank] != NULL && strstr(faults[rank], action) != NULL) << rank;
    }
    return set;
}

/* All ranks without a fault must end in a communicator without those that die or stop. */
static void run_with(const char *const *ranks_faults)
{
    struct world *world = shrink_world_create(RANKS, 60000);
    faults = ranks_faults;
    uint32_t killed = 1u << FIRST | ranks_with(":kill");
    uint32_t stopped = ranks_with(":stop");
    uint32_t members = ((1u << RANKS) - 1) & ~killed & ~stopped;
    world_start(world, faulty);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        world_await(&world->reports[rank].rounds, 1);
    }
    uint64_t lost_ns = epx_clock_ns();
    assert_int_equal(kill(world->reports[FIRST].pid, SIGKILL), 0);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        siginfo_t info = {0};
        if ((members >> rank & 1) != 0) {
            assert_int_equal(waitid(P_PID, (id_t)world->reports[rank].pid, &info, WEXITED | WNOWAIT), 0);
        }
    }
    double ms = (double)(epx_clock_ns() - lost_ns) / 1e6;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if ((stopped >> rank & 1) != 0) {
            assert_int_equal(kill(world->reports[rank].pid, SIGCONT), 0);
        }
    }
    shrink_finish(world, killed);
    shrink_expect_members(world, members);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if ((killed >> rank & 1) == 0) {
            assert_int_equal(world->reports[rank].status, (stopped >> rank & 1) != 0 ? EPX_ERR_PEER_LEFT : EPX_OK);
        }
        for (uint32_t other = 0; (members >> rank & 1) != 0 && other < RANKS; other++) {
            assert_int_equal(shrink_notes->fates[rank][other], (killed >> other & 1) != 0    ? EPX_FATE_DEAD
                                                               : (stopped >> other & 1) != 0 ? EPX_FATE_SILENT
                                                                                             : EPX_FATE_MEMBER);
        }
    }
    (void)printf("all over %.0f ms after the first death\n", ms);
    shrink_world_destroy(world);
}

static void kill__at_each_point(void **state)
{
    (void)state;
    static const char *const points[] = {"shrink.wish:1:kill", "shrink.decide:1:kill", "shrink.meet:1:kill"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (uint32_t victim = 1; victim < RANKS; victim++) {
            const char *ranks_faults[RANKS] = {NULL};
            ranks_faults[victim] = points[i];
            run_with(ranks_faults);
        }
    }
}

/* Having come to the meeting, which cannot be held now, and having mapped everything: the dead may then be a member. */
static void kill__while_they_meet(void **state)
{
    (void)state;
    static const char *const points[] = {"bootstrap_hello:2:kill", "bootstrap_mapped:2:kill"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        const char *const ranks_faults[RANKS] = {NULL, NULL, points[i], NULL, NULL};
        run_with(ranks_faults);
    }
}

static void kill__in_one_generation_after_the_other(void **state)
{
    (void)state;
    static const char *const twice[RANKS] = {NULL, "shrink.meet:1:kill", "shrink.meet:2:kill", NULL, NULL};
    static const char *const thrice[RANKS] = {NULL, "shrink.meet:1:kill", "shrink.wish:2:kill", "shrink.meet:2:kill",
                                              NULL};
    static const char *const at_once[RANKS] = {NULL, "shrink.wish:1:kill", "shrink.wish:1:kill", "shrink.wish:1:kill",
                                               NULL};
    run_with(twice);
    run_with(thrice);
    run_with(at_once);
}

static void stop__at_each_point(void **state)
{
    (void)state;
    /* As it comes, as it decides, and as a member of a generation that the others then give up. */
    static const char *const points[] = {"shrink.wish:1:stop", "shrink.decide:1:stop", "shrink.meet:1:stop"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        const char *const ranks_faults[RANKS] = {NULL, NULL, NULL, points[i], NULL};
        run_with(ranks_faults);
    }
}

/* Slow, but neither dead nor stopped: nobody is lost, even when the meeting is given up and held again. */
static void sleep__at_each_point(void **state)
{
    (void)state;
    char late[] = "shrink.meet:1:sleep=????";
    (void)snprintf(late, sizeof late, "shrink.meet:1:sleep=%u", 400 * WORLD_SLOWNESS);
    const char *points[] = {"shrink.wish:1:sleep=50", "shrink.decide:1:sleep=50", late};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        const char *const ranks_faults[RANKS] = {NULL, NULL, NULL, points[i], NULL};
        run_with(ranks_faults);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill__at_each_point),
        cmocka_unit_test(kill__while_they_meet),
        cmocka_unit_test(kill__in_one_generation_after_the_other),
        cmocka_unit_test(stop__at_each_point),
        cmocka_unit_test(sleep__at_each_point),
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
