/*
 * Rounds of a world on two hosts, made up of processes of this one: what goes wrong on one of them has the same status
 * and text on both.
 */
#include "ranks/rank_world.h"

#include "comm/meeting.h"
#include "transport/wire.h"

#define RANK_COUNT  5u
#define TIMEOUT_MS  20000
#define LATE_MS     400
#define ROUNDS_GOOD 3
#define CULPRIT     3u /* of host 1, whose leader is rank 1 */

static const uint32_t host_of[RANK_COUNT] = {0, 1, 0, 1, 1};

static enum epx_status hosts_open(const struct world *world, uint32_t rank, struct epx_comm **comm)
{
    char place[64];
    struct epx_meeting meeting;
    /* Ports that other tests of this machine hardly use; a port that is taken is passed over. */
    unsigned first = 40000u + (unsigned)getppid() % 20000u;
    (void)setenv("EPX_HOST_ID", host_of[rank] == 0 ? "north" : "south", 1);
    (void)snprintf(place, sizeof place, "127.0.0.1:%u-%u", first, first + 15u);
    EPX_TRY(epx_meeting_parse(place, &meeting));
    (void)snprintf(meeting.own_ip, sizeof meeting.own_ip, "127.0.0.1");
    struct epx_comm_spec spec = {
        .name = "test",
        .rank = rank,
        .rank_count = world->rank_count,
        .join_timeout_ms = 30000,
        .op_timeout_ms = world->op_timeout_ms,
        .what = "test world",
        .meeting = &meeting,
    };
    memcpy(spec.key, world->key, sizeof spec.key);
    return epx_comm_open(&spec, comm);
}

enum variant { ALL_WELL, MISMATCH, LATE, ABORT, KILL, LEAVE };

/* What the culprit does instead of the round in which the world ends. */
static enum epx_status misbehave(struct world *world, struct epx_comm *comm)
{
    switch (world->variant) {
    case MISMATCH: return world_round(comm, EPX_OPERATION_COMBINE);
    case LATE:
        while (epx_comm_failure(comm) == EPX_OK) {
            sleep_us(1000);
        }
        return world_round(comm, EPX_OPERATION_DISPATCH);
    case ABORT: return epx_comm_abort(comm, EPX_ERR_INTERNAL, "enough of this");
    case KILL: (void)raise(SIGKILL); break;
    default: break;
    }
    return EPX_OK;
}

static void run_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm;
    enum epx_status status = EPX_OK;
    uint32_t culprit = (uint32_t)world->round_count; /* UINT32_MAX: nobody */
    RANK_CHECK(hosts_open(world, rank, &comm) == EPX_OK);
    for (int i = 0; i < ROUNDS_GOOD; i++) {
        RANK_CHECK(world_round(comm, i == 1 ? EPX_OPERATION_COMBINE : EPX_OPERATION_DISPATCH) == EPX_OK);
    }
    if (rank == culprit) {
        status = misbehave(world, comm);
    } else {
        status = world_round(comm, EPX_OPERATION_DISPATCH);
    }
    if (status != EPX_OK) {
        world_note_failure(world, rank, status);
        /* It is final. */
        RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == status);
        RANK_CHECK(strcmp(epx_error_text(), world->reports[rank].text) == 0);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static struct world *run(enum variant variant, uint32_t culprit, int64_t timeout_ms)
{
    struct world *world = world_create(RANK_COUNT, timeout_ms);
    world->variant = (int)variant;
    world->round_count = culprit;
    world_start(world, run_rank);
    world_finish(world, variant == KILL ? culprit : UINT32_MAX);
    return world;
}

/* All but `except` have failed with the status, and with the text of the first of them. */
static const char *assert_same(const struct world *world, enum epx_status status, uint32_t except)
{
    const struct rank_report *first = &world->reports[except == 0 ? 1 : 0];
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        if (rank != except) {
            assert_int_equal(world->reports[rank].status, status);
            assert_string_equal(world->reports[rank].text, first->text);
        }
    }
    return first->text;
}

static void net__rounds_succeed(void **state)
{
    (void)state;
    struct world *world = run(ALL_WELL, UINT32_MAX, TIMEOUT_MS);
    for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
        assert_int_equal(world->reports[rank].status, EPX_OK);
    }
    world_destroy(world);
}

static void net__another_operation_has_one_text(void **state)
{
    (void)state;
    struct world *world = run(MISMATCH, CULPRIT, TIMEOUT_MS);
    assert_string_equal(assert_same(world, EPX_ERR_MISMATCH, UINT32_MAX),
                        "operation differs in round 4: ranks 0-2,4 run dispatch, rank 3 runs combine");
    world_destroy(world);
}

static void net__the_late_rank_is_named(void **state)
{
    char name[64];
    (void)state;
    for (uint32_t culprit = 0; culprit < RANK_COUNT; culprit += 2) {
        struct world *world = run(LATE, culprit, LATE_MS);
        const char *text = assert_same(world, EPX_ERR_TIMEOUT, UINT32_MAX);
        (void)snprintf(name, sizeof name, "rank %u (host ", culprit);
        if (strncmp(text, name, strlen(name)) != 0 || strstr(text, "has not entered dispatch round 4") == NULL) {
            fail_msg("rank %u was late, the text is \"%s\"", culprit, text);
        }
        world_destroy(world);
    }
}

static void net__an_abort_reaches_all(void **state)
{
    (void)state;
    for (uint32_t culprit = 0; culprit < RANK_COUNT; culprit++) {
        struct world *world = run(ABORT, culprit, TIMEOUT_MS);
        assert_string_equal(assert_same(world, EPX_ERR_INTERNAL, UINT32_MAX), "enough of this");
        world_destroy(world);
    }
}

/* A leader takes its host's voice with it: then each host says in its own words who is gone. */
static void net__a_death_is_known_to_all(void **state)
{
    char name[64];
    (void)state;
    for (uint32_t culprit = 0; culprit < RANK_COUNT; culprit++) {
        struct world *world = run(KILL, culprit, TIMEOUT_MS);
        (void)snprintf(name, sizeof name, "rank %u (host ", culprit);
        for (uint32_t rank = 0; rank < RANK_COUNT; rank++) {
            const struct rank_report *report = &world->reports[rank];
            if (rank != culprit && (report->status != EPX_ERR_PEER_DEAD || strstr(report->text, name) == NULL)) {
                fail_msg("rank %u died, rank %u says %d, \"%s\"", culprit, rank, report->status, report->text);
            }
        }
        world_destroy(world);
    }
}

static void net__a_departure_fails_the_next_round(void **state)
{
    (void)state;
    struct world *world = run(LEAVE, CULPRIT, TIMEOUT_MS);
    enum epx_status status = (enum epx_status)world->reports[0].status;
    const char *text = assert_same(world, status, CULPRIT);
    assert_true(status == EPX_ERR_PEER_LEFT || status == EPX_ERR_PEER_DEAD);
    assert_non_null(strstr(text, "rank 3 (host "));
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(net__rounds_succeed),          cmocka_unit_test(net__another_operation_has_one_text),
        cmocka_unit_test(net__the_late_rank_is_named),  cmocka_unit_test(net__an_abort_reaches_all),
        cmocka_unit_test(net__a_death_is_known_to_all), cmocka_unit_test(net__a_departure_fails_the_next_round),
    };
    if (!epx_wire_available()) {
        printf("SKIPPED: no wire between hosts: %s\n", epx_wire_description());
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
