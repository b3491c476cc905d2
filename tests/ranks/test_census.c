#include "census_world.h"

/* ---- Worlds that come together --------------------------------------------------------------------------------- */

static void run_world(const struct world *world)
{
    struct outcome *outcomes = make_outcomes(world->rank_count);
    run_threads(world, 0, PATIENCE_MS, outcomes);
    must_be_ok(outcomes, world->rank_count);
    free_outcomes(outcomes, world->rank_count);
}

static void take__one_host(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 16, 64};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct world world = make_world(counts[i]);
        run_world(&world);
    }
}

static void take__hosts_side_by_side(void **state)
{
    (void)state;
    for (uint32_t host_count = 2; host_count <= 4; host_count++) {
        struct world world = make_world(16);
        for (uint32_t r = 0; r < 16; r++) {
            world.host_tags[r] = (uint8_t)(200 - r * host_count / 16);
        }
        run_world(&world);
    }
}

static void take__hosts_of_unequal_sizes_interleaved(void **state)
{
    (void)state;
    static const uint8_t tags[] = {9, 3, 9, 9, 1, 3, 9, 7, 9, 1, 9};
    for (uint32_t rank_count = 2; rank_count <= sizeof tags; rank_count += 3) {
        struct world world = make_world(rank_count);
        memcpy(world.host_tags, tags, rank_count);
        run_world(&world);
    }
    struct world world = make_world(64);
    for (uint32_t r = 0; r < 64; r++) {
        world.host_tags[r] = (uint8_t)(r * r % 13);
    }
    run_world(&world);
}

static void take__every_rank_a_host(void **state)
{
    (void)state;
    struct world world = make_world(40);
    for (uint32_t r = 0; r < 40; r++) {
        world.host_tags[r] = (uint8_t)(40 - r);
    }
    run_world(&world);
}

static void take__processes(void **state)
{
    (void)state;
    NEEDS_FORK();
    struct world world = make_world(12);
    struct outcome *outcomes = make_outcomes(12);
    pid_t pids[12];
    for (uint32_t r = 0; r < 12; r++) {
        world.host_tags[r] = (uint8_t)(r % 3);
    }
    for (uint32_t r = 12; r-- > 0;) {
        pids[r] = fork_rank(&world, r, PATIENCE_MS, &outcomes[r]);
    }
    for (uint32_t r = 0; r < 12; r++) {
        end_process(pids[r], false);
    }
    must_be_ok(outcomes, 12);
    free_outcomes(outcomes, 12);
}

static void take__two_worlds_share_the_ports(void **state)
{
    (void)state;
    struct world first = make_world(8);
    struct world second = make_world(8);
    struct outcome *outcomes = make_outcomes(16);
    struct task tasks[16];
    memcpy(second.meeting.ports, first.meeting.ports, sizeof first.meeting.ports);
    for (uint32_t r = 0; r < 8; r++) {
        first.host_tags[r] = second.host_tags[r] = (uint8_t)(r / 3);
    }
    for (uint32_t r = 0; r < 8; r++) {
        start_thread(&tasks[r], &first, r, PATIENCE_MS, &outcomes[r]);
        start_thread(&tasks[8 + r], &second, r, PATIENCE_MS, &outcomes[8 + r]);
    }
    for (uint32_t t = 0; t < 16; t++) {
        end_thread(&tasks[t]);
    }
    must_be_ok(outcomes, 16);
    free_outcomes(outcomes, 16);
}

static void take__over_ipv6(void **state)
{
    (void)state;
    struct world world = make_world(5);
    memset(&world.meeting.root, 0, sizeof world.meeting.root);
    world.meeting.root.v6.sin6_family = AF_INET6;
    world.meeting.root.v6.sin6_addr = in6addr_loopback;
    (void)snprintf(world.meeting.own_ip, sizeof world.meeting.own_ip, "::1");
    world.host_tags[3] = 1;
    uint16_t port = 0;
    int fd = epx_census_listen(&world.meeting.root, &port);
    if (fd < 0) {
        skip();
    }
    assert_int_equal(close(fd), 0);
    run_world(&world);
}

/* ---- Ranks that do not come ------------------------------------------------------------------------------------ */

static void take__missing_ranks_are_named(void **state)
{
    (void)state;
    struct world world = make_world(6);
    struct outcome *outcomes = make_outcomes(6);
    struct task tasks[3];
    start_thread(&tasks[0], &world, 0, 3000, &outcomes[0]);
    start_thread(&tasks[1], &world, 1, 3000, &outcomes[1]);
    start_thread(&tasks[2], &world, 3, 3000, &outcomes[3]);
    for (uint32_t t = 0; t < 3; t++) {
        end_thread(&tasks[t]);
    }
    must_fail(&outcomes[0], EPX_ERR_JOIN_TIMEOUT,
              "3 of 6 ranks have not joined the test world within 3.0 s: missing ranks 2, 4-5");
    must_fail(&outcomes[1], EPX_ERR_JOIN_TIMEOUT, "missing ranks 2, 4-5");
    must_fail(&outcomes[3], EPX_ERR_JOIN_TIMEOUT, "missing ranks 2, 4-5");
    free_outcomes(outcomes, 6);
}

static void take__no_rank_0(void **state)
{
    (void)state;
    struct world world = make_world(2);
    struct outcome *outcomes = make_outcomes(2);
    char expected[128];
    for (uint32_t p = 1; p < PORT_COUNT; p++) {
        world.meeting.ports[p] = (uint16_t)(world.meeting.ports[0] + p);
    }
    run_rank(&world, 1, 300, &outcomes[1]);
    (void)snprintf(expected, sizeof expected,
                   WHAT ": rank 0 could not be reached within 0.3 s at 127.0.0.1 ports %u-%u: Connection refused",
                   world.meeting.ports[0], world.meeting.ports[3]);
    must_fail(&outcomes[1], EPX_ERR_JOIN_TIMEOUT, expected);
    free_outcomes(outcomes, 2);
}

static void take__wrong_key(void **state)
{
    (void)state;
    struct world world = make_world(2);
    struct world other = world;
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[3];
    other.key[31] ^= 1;
    start_thread(&tasks[0], &world, 0, PATIENCE_MS, &outcomes[0]);
    start_thread(&tasks[2], &other, 1, 2000, &outcomes[2]);
    end_thread(&tasks[2]);
    must_fail(&outcomes[2], EPX_ERR_JOIN_TIMEOUT, "does not have the key of this world");
    start_thread(&tasks[1], &world, 1, PATIENCE_MS, &outcomes[1]);
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    must_be_ok(outcomes, 2);
    free_outcomes(outcomes, 3);
}

static void take__wrong_size(void **state)
{
    (void)state;
    struct world world = make_world(3);
    struct world other = world;
    struct outcome *outcomes = make_outcomes(4);
    struct task tasks[3];
    other.rank_count = 5;
    start_thread(&tasks[0], &world, 0, PATIENCE_MS, &outcomes[0]);
    start_thread(&tasks[1], &world, 1, PATIENCE_MS, &outcomes[1]);
    run_rank(&other, 4, PATIENCE_MS, &outcomes[3]);
    must_fail(&outcomes[3], EPX_ERR_RENDEZVOUS, "world size differs: rank 4 (pid");
    must_fail(&outcomes[3], EPX_ERR_RENDEZVOUS, "on node0) says 5, rank 0");
    start_thread(&tasks[2], &world, 2, PATIENCE_MS, &outcomes[2]);
    for (uint32_t t = 0; t < 3; t++) {
        end_thread(&tasks[t]);
    }
    must_be_ok(outcomes, 3);
    free_outcomes(outcomes, 4);
}

static void take__duplicates_are_refused(void **state)
{
    (void)state;
    struct world world = make_world(4);
    struct outcome *outcomes = make_outcomes(6);
    struct task tasks[4];
    char expected[128];
    start_thread(&tasks[0], &world, 0, PATIENCE_MS, &outcomes[0]);
    start_thread(&tasks[1], &world, 1, PATIENCE_MS, &outcomes[1]);
    wait_until_missing(&world, 2, "rank 3");
    run_rank(&world, 1, PATIENCE_MS, &outcomes[4]);
    (void)snprintf(expected, sizeof expected, WHAT ": rank 1 is held by pid %d on node0, pid %d", (int)getpid(),
                   (int)getpid());
    must_fail(&outcomes[4], EPX_ERR_RENDEZVOUS, expected);
    run_rank(&world, 0, PATIENCE_MS, &outcomes[5]);
    must_fail(&outcomes[5], EPX_ERR_RENDEZVOUS, "rank 0 is held by pid");
    start_thread(&tasks[2], &world, 2, PATIENCE_MS, &outcomes[2]);
    start_thread(&tasks[3], &world, 3, PATIENCE_MS, &outcomes[3]);
    for (uint32_t t = 0; t < 4; t++) {
        end_thread(&tasks[t]);
    }
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 6);
}

static void take__requests_out_of_range(void **state)
{
    (void)state;
    uint8_t card[EPX_CENSUS_CARD_BYTES_MAX];
    struct world world = make_world(2);
    struct epx_census census;
#define REFUSED(change, fragment)                                                                                      \
    do {                                                                                                               \
        struct epx_census_request request = make_request(&world, 1, 100, card);                                        \
        request.change;                                                                                                \
        assert_int_equal(epx_census_take(&request, &census), EPX_ERR_INVALID);                                         \
        assert_non_null(strstr(epx_error_text(), fragment));                                                           \
    } while (0)
    REFUSED(rank = 2, "rank is 2, must be in [0, 2)");
    REFUSED(rank_count = 0, "rank_count is 0");
    REFUSED(rank_count = 4097, "rank_count is 4097");
    REFUSED(card_bytes = 4097, "card_bytes is 4097, must be in [0, 4096]");
    REFUSED(meeting.port_count = 0, "port_count is 0");
    REFUSED(meeting.port_count = 65, "port_count is 65");
    REFUSED(meeting.ports[2] = 0, "ports[2] is 0");
    REFUSED(meeting.root.any.sa_family = AF_UNIX, "address family");
    REFUSED(meeting.own_ip[0] = 'x', "own_ip");
    REFUSED(host_name[0] = '\0', "host_name");
    REFUSED(host_name[1] = '\n', "host_name");
#undef REFUSED
}

static void take__rank_0_elsewhere(void **state)
{
    (void)state;
    struct world world = make_world(2);
    struct outcome *outcomes = make_outcomes(2);
    /* An address of the reserved range, which no host has. */
    world.meeting.root.v4.sin_addr.s_addr = htonl(0xf0000001);
    run_rank(&world, 0, PATIENCE_MS, &outcomes[0]);
    must_fail(&outcomes[0], EPX_ERR_SYSTEM, "rank 0 cannot listen at 240.0.0.1 ports");
    free_outcomes(outcomes, 2);
}

/* ---- Deaths ---------------------------------------------------------------------------------------------------- */

static void take__killed_centre_is_replaced(void **state)
{
    (void)state;
    NEEDS_FORK();
    struct world world = make_world(5);
    struct outcome *outcomes = make_outcomes(5);
    pid_t pids[5];
    world.host_tags[1] = world.host_tags[2] = 5;
    pids[0] = fork_rank(&world, 0, PATIENCE_MS, &outcomes[0]);
    pids[1] = fork_rank(&world, 1, PATIENCE_MS, &outcomes[1]);
    pids[2] = fork_rank(&world, 2, PATIENCE_MS, &outcomes[2]);
    wait_until_missing(&world, 3, "rank 4");
    end_process(pids[0], true);
    pids[0] = fork_rank(&world, 0, PATIENCE_MS, &outcomes[0]);
    pids[3] = fork_rank(&world, 3, PATIENCE_MS, &outcomes[3]);
    pids[4] = fork_rank(&world, 4, PATIENCE_MS, &outcomes[4]);
    for (uint32_t r = 0; r < 5; r++) {
        end_process(pids[r], false);
    }
    must_be_ok(outcomes, 5);
    free_outcomes(outcomes, 5);
}

static void take__killed_member_is_replaced(void **state)
{
    (void)state;
    NEEDS_FORK();
    struct world world = make_world(4);
    struct outcome *outcomes = make_outcomes(4);
    pid_t pids[4];
    world.host_tags[1] = 5;
    for (uint32_t r = 0; r < 3; r++) {
        pids[r] = fork_rank(&world, r, PATIENCE_MS, &outcomes[r]);
    }
    struct epx_census_reach spare = raw_reach(&world);
    raw_hello(&world, &spare, 3, 99);
    while (raw_read(&spare) != EPX_CENSUS_BEGIN) {
    }
    end_process(pids[1], true);
    raw_end(&spare);
    pids[1] = fork_rank(&world, 1, PATIENCE_MS, &outcomes[1]);
    pids[3] = fork_rank(&world, 3, PATIENCE_MS, &outcomes[3]);
    for (uint32_t r = 0; r < 4; r++) {
        end_process(pids[r], false);
    }
    must_be_ok(outcomes, 4);
    free_outcomes(outcomes, 4);
}

static void take__nobody_succeeds_without_all_confirmed(void **state)
{
    (void)state;
    struct world world = make_world(3);
    struct outcome *outcomes = make_outcomes(3);
    struct task tasks[2];
    start_thread(&tasks[0], &world, 0, 3000, &outcomes[0]);
    start_thread(&tasks[1], &world, 1, 3000, &outcomes[1]);
    struct epx_census_reach reach = raw_reach(&world);
    raw_hello(&world, &reach, 2, 99);
    while (raw_read(&reach) != EPX_CENSUS_BEGIN) {
    }
    end_thread(&tasks[0]);
    end_thread(&tasks[1]);
    assert_int_equal(outcomes[0].status, EPX_ERR_JOIN_TIMEOUT);
    assert_int_equal(outcomes[1].status, EPX_ERR_JOIN_TIMEOUT);
    assert_true(strstr(outcomes[0].text, "late ranks 2") != NULL || strstr(outcomes[1].text, "late ranks 2") != NULL);
    raw_end(&reach);
    free_outcomes(outcomes, 3);
}

/* ---- The own host ---------------------------------------------------------------------------------------------- */

static void host__name_and_identity(void **state)
{
    (void)state;
    uint8_t first[32];
    uint8_t second[32];
    char name[EPX_CENSUS_NAME_BYTES];
    assert_int_equal(unsetenv("EPX_HOST_ID"), 0);
    assert_int_equal(epx_census_host(first, name), EPX_OK);
    assert_int_equal(epx_census_host(second, name), EPX_OK);
    assert_memory_equal(first, second, 32);
    assert_true(epx_census_name_is_valid(name));
    assert_int_equal(setenv("EPX_HOST_ID", "left\thand \xc3\xa4", 1), 0);
    assert_int_equal(epx_census_host(second, name), EPX_OK);
    assert_memory_not_equal(first, second, 32);
    assert_string_equal(name, "left?hand???");
    assert_true(epx_census_name_is_valid(name));
    char longest[200];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(setenv("EPX_HOST_ID", longest, 1), 0);
    assert_int_equal(epx_census_host(second, name), EPX_OK);
    assert_int_equal(strlen(name), EPX_CENSUS_NAME_BYTES - 1);
    assert_int_equal(unsetenv("EPX_HOST_ID"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHED(take__one_host),
        WATCHED(take__hosts_side_by_side),
        WATCHED(take__hosts_of_unequal_sizes_interleaved),
        WATCHED(take__every_rank_a_host),
        WATCHED(take__processes),
        WATCHED(take__two_worlds_share_the_ports),
        WATCHED(take__over_ipv6),
        WATCHED(take__missing_ranks_are_named),
        WATCHED(take__no_rank_0),
        WATCHED(take__wrong_key),
        WATCHED(take__wrong_size),
        WATCHED(take__duplicates_are_refused),
        WATCHED(take__requests_out_of_range),
        WATCHED(take__rank_0_elsewhere),
        WATCHED(take__killed_centre_is_replaced),
        WATCHED(take__killed_member_is_replaced),
        WATCHED(take__nobody_succeeds_without_all_confirmed),
        cmocka_unit_test(host__name_and_identity),
    };
    return cmocka_run_group_tests_name("census", tests, start_one_thread, NULL);
}
