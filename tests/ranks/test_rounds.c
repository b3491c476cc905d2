/* The two rounds of an operation with tensor parallelism: what is said of a group that has failed already. */
#include "moe/rounds.h"
#include "ranks/rank_world.h"

/* Ranks 0 and 1 are one expert-parallel group, 2 and 3 the other; 0 and 2, 1 and 3 are tensor-parallel peers. */
#define RANK_COUNT 4u

enum { FINDS = 0, PASSES_ON = 1 }; /* variants: what rank 1 does after its group has failed */

struct pair {
    struct epx_comm *ep;
    struct epx_comm *tp;
    struct epx_rounds rounds;
};

static enum epx_status open_one(const struct world *world, uint8_t group, uint32_t rank, struct epx_comm **comm)
{
    struct epx_comm_spec spec = {.name = "test",
                                 .rank = rank,
                                 .rank_count = 2,
                                 .join_timeout_ms = 30000,
                                 .op_timeout_ms = 30000,
                                 .what = "test"};
    memcpy(spec.key, world->key, sizeof spec.key);
    spec.key[31] = group;
    return epx_comm_open(&spec, comm);
}

static enum epx_status open_pair(const struct world *world, uint32_t rank, struct pair *pair)
{
    EPX_TRY(open_one(world, (uint8_t)(rank / 2), rank % 2, &pair->ep));
    return open_one(world, (uint8_t)(2 + rank % 2), rank / 2, &pair->tp);
}

static enum epx_status begin(struct pair *pair)
{
    bool pending = false;
    const struct epx_agreement agreement = {{0}};
    const struct epx_rounds_place place = {
        .comm = pair->ep,
        .tp_comm = pair->tp,
        .round = epx_round_reserve(pair->ep),
        .tp_round = epx_round_reserve(pair->tp),
        .operation = EPX_OPERATION_DISPATCH,
    };
    EPX_TRY(epx_rounds_begin(&pair->rounds, &place, EPX_NEVER, &pending));
    return epx_rounds_enter(&pair->rounds, EPX_MOE_GROUP_EP, &agreement, NULL);
}

static void await_stage(struct world *world, uint32_t stage)
{
    uint64_t deadline_ns = epx_deadline_after_ms(20000);
    while (atomic_load(&world->stage) < stage && epx_clock_ns() < deadline_ns) {
        sleep_us(200);
    }
}

/* When all have begun, rank 0 fails; then rank 1 acts; its peer 3 learns of it from rank 1 alone, as 2 comes last. */
static enum epx_status act(struct world *world, uint32_t rank, struct epx_rounds *rounds)
{
    const struct epx_agreement agreement = {{0}};
    await_stage(world, RANK_COUNT);
    if (rank == 0) {
        return epx_rounds_fail(rounds, EPX_ERR_CAPACITY, "the cause");
    }
    if (rank == 1) {
        await_stage(world, RANK_COUNT + 1);
        if (world->variant == FINDS) {
            return epx_rounds_fail(rounds, EPX_ERR_PROTOCOL, "what is left of memory that rank 0 has freed");
        }
    }
    if (rank == 2) {
        await_stage(world, RANK_COUNT + 2);
    }
    return epx_rounds_enter(rounds, EPX_MOE_GROUP_TP, &agreement, NULL);
}

static void run(struct world *world, uint32_t rank)
{
    struct pair pair;
    RANK_CHECK(open_pair(world, rank, &pair) == EPX_OK);
    RANK_CHECK(begin(&pair) == EPX_OK);
    (void)atomic_fetch_add(&world->stage, 1);
    const enum epx_status status = act(world, rank, &pair.rounds);
    if (rank == 0 || rank == 3) {
        (void)atomic_fetch_add(&world->stage, 1);
    }
    RANK_CHECK(status == EPX_ERR_CAPACITY);
    RANK_CHECK(strcmp(epx_error_text(), "the cause") == 0);
    RANK_CHECK(epx_comm_failure(pair.tp) == EPX_ERR_CAPACITY);
    RANK_CHECK(epx_comm_close(pair.ep) == EPX_OK && epx_comm_close(pair.tp) == EPX_OK);
}

static void run_variant(int variant)
{
    struct world *world = world_create(RANK_COUNT, 30000);
    world->variant = variant;
    world_run(world, run);
    atomic_store(&world->stage, 0);
    world_run_threads(world, run);
    world_destroy(world);
}

static void failed__what_was_found_afterwards_is_no_cause(void **state)
{
    (void)state;
    run_variant(FINDS);
}

static void failed__the_peer_of_the_other_group_gets_no_rows(void **state)
{
    (void)state;
    run_variant(PASSES_ON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed__what_was_found_afterwards_is_no_cause),
        cmocka_unit_test(failed__the_peer_of_the_other_group_gets_no_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
