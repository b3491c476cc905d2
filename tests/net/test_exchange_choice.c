/* Which exchange is chosen in worlds on several hosts, made up of processes of this one. */
#include "ranks/rank_world.h"

#include "comm/meeting.h"
#include "moe/exchange_choice.h"
#include "transport/wire.h"

#define RANK_COUNT 6u

/* Hosts of 3 ranks each, or of 2 and 4, or three of 2. */
static const uint32_t places[][RANK_COUNT] = {{0, 0, 0, 1, 1, 1}, {0, 0, 1, 1, 1, 1}, {0, 0, 1, 1, 2, 2}};

static enum epx_status hosts_open(const struct world *world, uint32_t rank, uint32_t server_ranks,
                                  struct epx_comm **comm)
{
    static const char *const names[] = {"north", "south", "west"};
    char place[64];
    struct epx_meeting meeting;
    unsigned first = 40000u + (unsigned)getppid() % 20000u;
    (void)setenv("EPX_HOST_ID", names[places[world->variant][rank]], 1);
    (void)snprintf(place, sizeof place, "127.0.0.1:%u-%u", first, first + 15u);
    EPX_TRY(epx_meeting_parse(place, &meeting));
    (void)snprintf(meeting.own_ip, sizeof meeting.own_ip, "127.0.0.1");
    struct epx_comm_spec spec = {
        .name = "test",
        .rank = rank,
        .rank_count = world->rank_count,
        .server_rank_count = server_ranks,
        .join_timeout_ms = 30000,
        .op_timeout_ms = world->op_timeout_ms,
        .what = "test world",
        .meeting = &meeting,
    };
    memcpy(spec.key, world->key, sizeof spec.key);
    return epx_comm_open(&spec, comm);
}

static enum epx_algorithm chosen(const struct epx_comm *comm, int64_t topk)
{
    const struct epx_moe_shape shape = {.topk = topk};
    return epx_moe_choose_algorithm(&shape, comm);
}

/* round_count: ranks of a server; stage: the least topk that has the two-level exchange, 0: none. */
static void run_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm;
    int64_t least = (int64_t)atomic_load(&world->stage);
    RANK_CHECK(hosts_open(world, rank, (uint32_t)world->round_count, &comm) == EPX_OK);
    for (int64_t topk = 1; topk <= 64; topk++) {
        enum epx_algorithm expected = least != 0 && topk >= least ? EPX_ALGORITHM_TWO_LEVEL : EPX_ALGORITHM_FULL_MESH;
        RANK_CHECK(chosen(comm, topk) == expected);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void expect(int variant, uint32_t server_ranks, uint32_t least_topk)
{
    struct world *world = world_create(RANK_COUNT, 20000);
    world->variant = variant;
    world->round_count = server_ranks;
    atomic_store(&world->stage, least_topk);
    world_start(world, run_rank);
    world_finish(world, UINT32_MAX);
    world_destroy(world);
}

/* K rows of a token, half of them of the other host: K/2 against 1 - 2^-K partials. */
static void choice__sums_of_two_hosts(void **state)
{
    (void)state;
    expect(0, 3, 4);
}

/* K/2 against 3 (1 - (5/6)^K). */
static void choice__small_servers_sum_little(void **state)
{
    (void)state;
    expect(0, 1, 11);
}

static void choice__a_server_on_two_hosts(void **state)
{
    (void)state;
    expect(0, 2, 0);
    expect(0, 6, 0);
    expect(1, 3, 0);
}

/* Two rows in three are of other hosts: 2K/3 against 2 (1 - (2/3)^K). */
static void choice__three_hosts(void **state)
{
    (void)state;
    expect(2, 2, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choice__sums_of_two_hosts),
        cmocka_unit_test(choice__small_servers_sum_little),
        cmocka_unit_test(choice__a_server_on_two_hosts),
        cmocka_unit_test(choice__three_hosts),
    };
    if (!epx_wire_available()) {
        printf("SKIPPED: no wire between hosts: %s\n", epx_wire_description());
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
