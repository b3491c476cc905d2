/*
 * Counters that wrap under ranks that sleep. Communicators begin shortly before the low half of the control word, which
 * is the futex word, comes round to 0 (2^16 steps), before their counts of steps and rounds leave 32 bits, and before
 * the word itself is full. Each step has one rank that comes when all others sleep, and a sleeper here sleeps without
 * limit: only a wake-up ends its wait.
 */
#include "base/futex.h"
#include "comm/comm_object.h"
#include "ranks/rank_world.h"

#include <inttypes.h>

#define RANKS  4u
#define ROUNDS 12u
/* Steps of the rounds before the wrap: it is in the middle of a round, and not at the first. */
#define BEFORE 10u
/* Steps are counted in 48 bits. */
#define STEP_END (UINT64_C(1) << 48)

static uint64_t first_step;
static bool sleeps_for_ever;

void __real_epx_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);
void __wrap_epx_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns);

void __wrap_epx_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    __real_epx_futex_wait(word, expected, sleeps_for_ever ? EPX_NEVER : deadline_ns);
}

/* At the step that comes now: who has arrived there counts no longer as a sleeper of the one before. */
static bool others_sleep(const struct epx_comm *comm)
{
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if (rank != comm->rank && atomic_load(&comm->control->slots[rank].arrived_step) != comm->step + 1) {
            return false;
        }
    }
    return atomic_load(&comm->control->sleepers) == RANKS - 1;
}

/* Comes to the step last, when the others sleep: in turn, so that each rank wakes the others across the wrap. */
static bool come_last(const struct epx_comm *comm)
{
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS / 2);
    while (!others_sleep(comm)) {
        if (epx_clock_ns() > deadline_ns) {
            return false;
        }
        sleep_us(100);
    }
    sleep_us(200); /* from the count to the kernel */
    return true;
}

static enum epx_status step(struct epx_round *round, enum epx_phase phase, bool *came)
{
    bool pending;
    struct epx_comm *comm = round->comm;
    if (comm->step % RANKS == comm->rank && !come_last(comm)) {
        *came = false;
    }
    EPX_TRY(epx_round_arrive(round, phase));
    return epx_round_await(round, EPX_NEVER, &pending);
}

/* A round of three steps in which each rank puts up what the others must find. */
static enum epx_status run_round(struct epx_comm *comm, uint64_t number, bool *good)
{
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    memcpy(agreement.bytes, &number, sizeof number);
    EPX_TRY(epx_round_begin(&round, comm, number, EPX_OPERATION_COMBINE));
    EPX_TRY(epx_round_publish(&round, &agreement, &(struct epx_publication){64 * (number & 0xFFFF), 0}));
    EPX_TRY(step(&round, EPX_PHASE_ENTER, good));
    EPX_TRY(epx_round_agree(&round, &(struct epx_agreement_field){.name = "number", .width = 8}, 1));
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct epx_control_entry *entry = &comm->control->slots[rank].entries[number & 1];
        *good = *good && entry->round == number && entry->step == comm->step &&
                entry->publication.offset == 64 * (number & 0xFFFF);
    }
    EPX_TRY(step(&round, EPX_PHASE_ROWS, good));
    EPX_TRY(step(&round, EPX_PHASE_DONE, good));
    epx_round_end(&round);
    return EPX_OK;
}

static void run_rounds(struct world *world, uint32_t rank)
{
    struct epx_comm *comm;
    bool good = true;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(comm->step == first_step);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        uint64_t number = epx_round_reserve(comm);
        RANK_CHECK(number == first_step + i);
        RANK_CHECK(run_round(comm, number, &good) == EPX_OK);
        RANK_CHECK(good);
        RANK_CHECK(comm->step == first_step + 3 * i);
        RANK_CHECK(epx_word_step(atomic_load(&comm->control->word.value)) >= comm->step);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

/* The word is full: a failure with the same text everywhere, and no step that is complete for some. */
static void run_full(struct world *world, uint32_t rank)
{
    struct epx_comm *comm;
    bool good = true;
    enum epx_status status = EPX_OK;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    while (status == EPX_OK && comm->step < STEP_END) {
        status = run_round(comm, epx_round_reserve(comm), &good);
        RANK_CHECK(good);
    }
    RANK_CHECK(status == EPX_ERR_PROTOCOL);
    RANK_CHECK(comm->step == STEP_END - 1);
    world_note_failure(world, rank, status);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void set_first_step(uint64_t step_count)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, step_count);
    (void)setenv("EPX_FAULT_FIRST_STEP", text, 1);
    (void)setenv("EPX_WAIT", "block", 1);
    first_step = step_count;
}

static void run(uint64_t step_count, bool by_threads, world_main rank_main)
{
    struct world *world = world_create(RANKS, WORLD_LIMIT_MS);
    set_first_step(step_count);
    sleeps_for_ever = true;
    if (by_threads) {
        world_run_threads(world, rank_main);
    } else {
        world_run(world, rank_main);
    }
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        assert_int_equal(world->reports[rank].status, world->reports[0].status);
        assert_string_equal(world->reports[rank].text, world->reports[0].text);
    }
    world_destroy(world);
}

static void run_both(uint64_t step_count)
{
    run(step_count, false, run_rounds);
    run(step_count, true, run_rounds);
}

static void wrap__futex_word(void **state)
{
    (void)state;
    run_both((UINT64_C(1) << 16) - BEFORE);
    run_both((UINT64_C(3) << 16) - BEFORE);
}

static void wrap__half_of_the_counts(void **state)
{
    (void)state;
    run_both((UINT64_C(1) << 31) - BEFORE);
    run_both((UINT64_C(1) << 32) - BEFORE);
}

static void wrap__last_steps_of_the_word(void **state)
{
    (void)state;
    run_both(STEP_END - 3 * ROUNDS - 1);
    run(STEP_END - BEFORE, false, run_full);
    run(STEP_END - BEFORE, true, run_full);
}

/* Rank 1 counts from elsewhere. */
static void open_differing(struct world *world, uint32_t rank)
{
    struct epx_comm *comm;
    set_first_step(rank == 1 ? 6 : 5);
    enum epx_status status = world_open(world, rank, &comm);
    if (status != EPX_OK) {
        world_note_failure(world, rank, status);
        return;
    }
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_ERR_PEER_LEFT);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__differing_first_steps(void **state)
{
    (void)state;
    struct world *world = world_create(2, WORLD_LIMIT_MS);
    sleeps_for_ever = false;
    world_run(world, open_differing);
    uint32_t refused = world->reports[0].status != EPX_OK ? 0 : 1;
    assert_int_equal(world->reports[refused].status, EPX_ERR_RENDEZVOUS);
    assert_non_null(strstr(world->reports[refused].text, "EPX_FAULT_FIRST_STEP"));
    assert_int_equal(world->reports[1 - refused].status, EPX_OK);
    world_destroy(world);
}

int main(void)
{
#ifndef EPX_FAULTS
    printf("SKIPPED: built without fault points\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap__futex_word),
        cmocka_unit_test(wrap__half_of_the_counts),
        cmocka_unit_test(wrap__last_steps_of_the_word),
        cmocka_unit_test(begin__differing_first_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
