/* Survivors of a loss make a new communicator and exchange tokens on it. */
#include "epx/objects.h"
#include "ranks/shrink_world.h"

/* ---- Ranks that are killed -------------------------------------------------------------------------------------- */

/* world->variant: ranks that are left at the end. */
static void survivor(struct world *world, uint32_t rank)
{
    struct shrink_rank self = {0};
    bool right = false;
    RANK_CHECK(shrink_join(world, rank, &self) == EPX_OK);
    while (self.count > (uint32_t)world->variant) {
        enum epx_status status = shrink_rounds(world, &self, UINT64_MAX, &right);
        RANK_CHECK(right && (status == EPX_ERR_PEER_DEAD || status == EPX_ERR_PEER_LEFT));
        RANK_CHECK(shrink_go_on(&self, 30000) == EPX_OK);
    }
    RANK_CHECK(shrink_rounds(world, &self, 5, &right) == EPX_OK && right);
    RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
}

/* From the last death to the end of the first exchange without the dead. */
static double recovery_ms(const struct world *world, uint32_t members, uint64_t lost_ns)
{
    uint64_t last_ns = lost_ns;
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        uint64_t ready_ns = atomic_load(&shrink_notes->ready_ns[rank]);
        last_ns = (members >> rank & 1) != 0 && ready_ns > last_ns ? ready_ns : last_ns;
    }
    return (double)(last_ns - lost_ns) / 1e6;
}

/* Kills `kills` ranks, each some time after the one before. */
static double kill_some(uint32_t rank_count, uint32_t kills, uint32_t *seed)
{
    struct world *world = shrink_world_create(rank_count, 60000);
    uint32_t members = (1u << rank_count) - 1;
    uint64_t lost_ns = 0;
    world->variant = (int)(rank_count - kills);
    world_start(world, survivor);
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        world_await(&world->reports[rank].rounds, 1);
    }
    for (uint32_t i = 0; i < kills; i++) {
        uint32_t victim;
        do {
            victim = random_below(seed, rank_count);
        } while ((members >> victim & 1) == 0);
        sleep_us(random_below(seed, 60000));
        assert_int_equal(kill(world->reports[victim].pid, SIGKILL), 0);
        lost_ns = epx_clock_ns();
        members &= ~(1u << victim);
    }
    shrink_finish(world, ((1u << rank_count) - 1) & ~members);
    shrink_expect_members(world, members);
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        for (uint32_t other = 0; (members >> rank & 1) != 0 && other < rank_count; other++) {
            assert_int_equal(shrink_notes->fates[rank][other],
                             (members >> other & 1) != 0 ? EPX_FATE_MEMBER : EPX_FATE_DEAD);
        }
    }
    double ms = recovery_ms(world, members, lost_ns);
    shrink_world_destroy(world);
    return ms;
}

static void shrink__killed_at_any_moment(void **state)
{
    (void)state;
    uint32_t seed = 20260801;
    for (uint32_t rank_count = 2; rank_count <= 8; rank_count++) {
        double worst = 0;
        for (uint32_t repeat = 0; repeat < 4; repeat++) {
            uint32_t kills = 1 + repeat % 3 < rank_count ? 1 + repeat % 3 : rank_count - 1;
            double ms = kill_some(rank_count, kills, &seed);
            worst = ms > worst ? ms : worst;
        }
        (void)printf("%u ranks: an exchange without the dead at most %.1f ms after the last death\n", rank_count,
                     worst);
    }
}

/* ---- A rank that is stopped ------------------------------------------------------------------------------------- */

#define STOPPED 1u

static void stopped_or_not(struct world *world, uint32_t rank)
{
    struct shrink_rank self = {0};
    bool right = false;
    RANK_CHECK(shrink_join(world, rank, &self) == EPX_OK);
    enum epx_status status = shrink_rounds(world, &self, UINT64_MAX, &right);
    RANK_CHECK(right && status == EPX_ERR_TIMEOUT);
    if (rank != STOPPED) {
        RANK_CHECK(shrink_go_on(&self, 200 * WORLD_SLOWNESS) == EPX_OK);
        RANK_CHECK(shrink_rounds(world, &self, 5, &right) == EPX_OK && right);
    } else {
        for (int repeat = 0; repeat < 2; repeat++) {
            RANK_CHECK(shrink_go_on(&self, 0) == EPX_ERR_PEER_LEFT);
            RANK_CHECK(strstr(epx_last_error(), "go on without rank 1") != NULL);
        }
        /* What failed has failed for this rank, too, and stays so. */
        RANK_CHECK(shrink_rounds(world, &self, 1, &right) == EPX_ERR_TIMEOUT);
    }
    RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
}

static void shrink__stopped_is_left_out(void **state)
{
    (void)state;
    struct world *world = shrink_world_create(4, 300 * WORLD_SLOWNESS);
    world_start(world, stopped_or_not);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        world_await(&world->reports[rank].rounds, 1);
    }
    assert_int_equal(kill(world->reports[STOPPED].pid, SIGSTOP), 0);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        siginfo_t info = {0};
        if (rank != STOPPED) {
            assert_int_equal(waitid(P_PID, (id_t)world->reports[rank].pid, &info, WEXITED | WNOWAIT), 0);
        }
    }
    assert_int_equal(kill(world->reports[STOPPED].pid, SIGCONT), 0);
    shrink_finish(world, 0);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        assert_int_equal(shrink_notes->fates[rank][STOPPED], rank != STOPPED ? EPX_FATE_SILENT : EPX_FATE_MEMBER);
        assert_int_equal(shrink_notes->member_count[rank], rank != STOPPED ? 3 : 4);
    }
    shrink_world_destroy(world);
}

/* ---- Ranks as threads ------------------------------------------------------------------------------------------- */

/* Ranks leave one after the other, from the last on, until two are there. */
static void leaves_in_turn(struct world *world, uint32_t rank)
{
    struct shrink_rank self = {0};
    bool right = false;
    RANK_CHECK(shrink_join(world, rank, &self) == EPX_OK);
    while (self.count > 2) {
        RANK_CHECK(shrink_rounds(world, &self, 3, &right) == EPX_OK && right);
        if (epx_comm_rank_of(self.comm) == self.count - 1) {
            break;
        }
        enum epx_status status = shrink_rounds(world, &self, 1, &right);
        RANK_CHECK(status == EPX_ERR_PEER_LEFT);
        RANK_CHECK(shrink_go_on(&self, 30000) == EPX_OK);
        RANK_CHECK(shrink_notes->fates[rank][self.count] == EPX_FATE_LEFT);
    }
    RANK_CHECK(shrink_rounds(world, &self, self.count == 2 ? 5 : 0, &right) == EPX_OK && right);
    RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
}

static void shrink__threads_that_leave(void **state)
{
    (void)state;
    struct world *world = shrink_world_create(5, 60000);
    world_run_threads(world, leaves_in_turn);
    shrink_world_destroy(world);
}

/* ---- On purpose ------------------------------------------------------------------------------------------------- */

/* Ranks 1 and 4 are left out of a healthy communicator of three servers; rank 0 alone says so of 1, rank 2 of 4. */
static void excludes(struct world *world, uint32_t rank)
{
    struct shrink_rank self = {0};
    bool right = false;
    const uint32_t others[] = {1, 4};
    enum epx_rank_fate fates[6];
    uint32_t old_ranks[6];
    struct epx_shrink_config config = EPX_SHRINK_CONFIG_INIT;
    struct epx_shrink_report report = EPX_SHRINK_REPORT_INIT;
    struct epx_communicator *next = NULL;
    RANK_CHECK(shrink_join(world, rank, &self) == EPX_OK);
    RANK_CHECK(shrink_rounds(world, &self, 3, &right) == EPX_OK && right);
    report.fates = fates;
    report.old_ranks = old_ranks;
    config.timeout_ms = 30000;
    config.exclude = rank == 0 ? &others[0] : rank == 2 ? &others[1] : NULL;
    config.exclude_count = config.exclude != NULL;
    if (config.exclude == NULL) {
        RANK_CHECK(shrink_rounds(world, &self, 1, &right) == EPX_ERR_ABORTED);
        RANK_CHECK(strstr(epx_last_error(), "goes on without rank") != NULL);
    }
    enum epx_status status = epx_comm_shrink(self.comm, &config, &next, &report);
    if (rank == 1 || rank == 4) {
        RANK_CHECK(status == EPX_ERR_PEER_LEFT && next == NULL);
    } else {
        RANK_CHECK(status == EPX_OK && report.rank_count == 4 && report.lost_count == 2);
        RANK_CHECK(fates[1] == EPX_FATE_EXCLUDED && fates[4] == EPX_FATE_EXCLUDED && fates[5] == EPX_FATE_MEMBER);
        RANK_CHECK(old_ranks[0] == 0 && old_ranks[1] == 2 && old_ranks[2] == 3 && old_ranks[3] == 5);
        RANK_CHECK(old_ranks[epx_comm_rank_of(next)] == rank);
        RANK_CHECK(epx_comm_shrink(self.comm, &config, &next, NULL) == EPX_ERR_STATE);
        RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
        self.comm = next;
        self.count = report.rank_count;
        RANK_CHECK(shrink_rounds(world, &self, 3, &right) == EPX_OK && right);
    }
    RANK_CHECK(epx_comm_destroy(self.comm) == EPX_OK);
}

static void shrink__excluded_on_purpose(void **state)
{
    (void)state;
    struct world *world = shrink_world_create(6, 60000);
    world_run_threads(world, excludes);
    shrink_world_destroy(world);
    world = shrink_world_create(6, 60000);
    world_start(world, excludes);
    shrink_finish(world, 0);
    shrink_world_destroy(world);
}

/* Servers of two ranks: of those that are left, all have one rank, or some have two. */
static void serves(struct world *world, uint32_t rank)
{
    struct epx_token token = {{0}};
    struct epx_comm_config comm_config = EPX_COMM_CONFIG_INIT;
    const uint32_t others[] = {1, 2, 4};
    struct epx_shrink_config config = EPX_SHRINK_CONFIG_INIT;
    struct epx_communicator *comm = NULL;
    struct epx_communicator *next = NULL;
    memcpy(token.bytes, world->key, sizeof world->key);
    comm_config.server_rank_count = 2;
    RANK_CHECK(epx_comm_create_from_token(&token, world->rank_count, rank, &comm_config, &comm) == EPX_OK);
    config.timeout_ms = 30000;
    config.exclude = others;
    config.exclude_count = (uint32_t)world->variant;
    bool out = false;
    for (uint32_t i = 0; i < config.exclude_count; i++) {
        out = out || others[i] == rank;
    }
    if (!out) {
        uint32_t expected = world->variant == 1 ? 0 : 1;
        RANK_CHECK(epx_comm_shrink(comm, &config, &next, NULL) == EPX_OK);
        RANK_CHECK(epx_comm_server_rank_count(next->comm) == expected);
        RANK_CHECK(epx_comm_destroy(next) == EPX_OK);
    }
    RANK_CHECK(epx_comm_destroy(comm) == EPX_OK);
}

static void shrink__servers(void **state)
{
    (void)state;
    for (int excluded = 1; excluded <= 3; excluded += 2) {
        struct world *world = shrink_world_create(6, 60000);
        world->variant = excluded;
        world_run_threads(world, serves);
        shrink_world_destroy(world);
    }
}

static void shrink__misuse(void **state)
{
    (void)state;
    struct epx_communicator *comm = NULL;
    struct epx_communicator *next = NULL;
    struct epx_shrink_config config = EPX_SHRINK_CONFIG_INIT;
    struct epx_shrink_report report = EPX_SHRINK_REPORT_INIT;
    uint32_t other = 0;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    assert_int_equal(epx_comm_shrink(NULL, NULL, &next, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_comm_shrink(comm, NULL, NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_comm_shrink(comm, NULL, &next, NULL), EPX_ERR_STATE);
    assert_string_equal(epx_last_error(), "communicator epx has not failed, and no rank is to be excluded");
    config.exclude_count = 1;
    assert_int_equal(epx_comm_shrink(comm, &config, &next, NULL), EPX_ERR_NULL);
    config.exclude = &other;
    assert_int_equal(epx_comm_shrink(comm, &config, &next, NULL), EPX_ERR_INVALID);
    assert_string_equal(epx_last_error(), "exclude[0] is 0, must be in [0, 1) and not the own rank 0");
    other = 1;
    assert_int_equal(epx_comm_shrink(comm, &config, &next, NULL), EPX_ERR_INVALID);
    config.timeout_ms = -2;
    assert_int_equal(epx_comm_shrink(comm, &config, &next, NULL), EPX_ERR_INVALID);
    report.struct_bytes = 0;
    assert_int_equal(epx_comm_shrink(comm, NULL, &next, &report), EPX_ERR_INVALID);
    assert_null(next);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shrink__killed_at_any_moment),
        cmocka_unit_test(shrink__stopped_is_left_out),
        cmocka_unit_test(shrink__threads_that_leave),
        cmocka_unit_test(shrink__excluded_on_purpose),
        cmocka_unit_test(shrink__servers),
        cmocka_unit_test(shrink__misuse), /* last: threads of a library before a fork are beyond ThreadSanitizer */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
