/* Rounds that succeed: nobody passes a step early, memory is visible, order and leaving. */
#include "rank_world.h"

#include "base/clock.h"
#include "memory/arena.h"

#include <sched.h>

#define CELLS 64u

static uint64_t cell_value(uint64_t round, uint32_t rank, uint32_t cell)
{
    return round * 1000003u + rank * 257u + cell;
}

/* A wait in pieces of a random length, as a caller with a deadline of its own makes it. */
#define IN_PIECES(seed, call)                                                                                          \
    do {                                                                                                               \
        bool pending = true;                                                                                           \
        while (pending) {                                                                                              \
            uint64_t until_ns = epx_clock_ns() + random_below(&(seed), 200) * 1000u;                                   \
            RANK_CHECK((call) == EPX_OK);                                                                              \
        }                                                                                                              \
    } while (0)

/* Puts the round's values up, reads everybody's, and spoils its own as soon as the round allows. */
static void exchanging_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    uint64_t *region = NULL;
    void *memory = NULL;
    uint64_t offset = 0;
    uint32_t seed = rank + 1;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(epx_arena_alloc(CELLS * sizeof *region, 64, &memory) == EPX_OK);
    RANK_CHECK(epx_arena_offset_of(memory, CELLS * sizeof *region, &offset));
    region = memory;
    for (uint64_t n = 1; n <= world->round_count; n++) {
        struct epx_round round;
        struct epx_agreement agreement = {{1, 2, 3}};
        struct epx_publication publication = {.offset = offset, .bytes = CELLS * sizeof *region};
        uint64_t number = epx_round_reserve(comm);
        RANK_CHECK(number == n);
        for (uint32_t i = 0; i < CELLS; i++) {
            region[i] = cell_value(n, rank, i);
        }
        if (world->variant == 2) {
            IN_PIECES(seed, epx_round_begin_until(&round, comm, number, EPX_OPERATION_DISPATCH, until_ns, &pending));
        } else {
            RANK_CHECK(epx_round_begin(&round, comm, number, EPX_OPERATION_DISPATCH) == EPX_OK);
        }
        if (world->variant != 0 && random_below(&seed, 4) == 0) {
            sleep_us(random_below(&seed, 2000));
        }
        if (world->variant == 2) {
            RANK_CHECK(epx_round_publish(&round, &agreement, &publication) == EPX_OK);
            RANK_CHECK(epx_round_arrive(&round, EPX_PHASE_ENTER) == EPX_OK);
            IN_PIECES(seed, epx_round_await(&round, until_ns, &pending));
            RANK_CHECK(epx_round_agree(&round, NULL, 0) == EPX_OK);
        } else {
            RANK_CHECK(epx_round_enter(&round, &agreement, NULL, 0, &publication) == EPX_OK);
        }
        for (uint32_t peer = 0; peer < world->rank_count; peer++) {
            const void *exchange = NULL;
            uint64_t bytes = 0;
            RANK_CHECK(epx_round_peer(&round, peer, &exchange, &bytes) == EPX_OK);
            RANK_CHECK(exchange != NULL && bytes == publication.bytes);
            const uint64_t *values = exchange;
            for (uint32_t i = 0; i < CELLS; i++) {
                RANK_CHECK(values[i] == cell_value(n, peer, i));
            }
        }
        if (world->variant == 2) {
            RANK_CHECK(epx_round_arrive(&round, EPX_PHASE_DONE) == EPX_OK);
            IN_PIECES(seed, epx_round_await(&round, until_ns, &pending));
        } else {
            RANK_CHECK(epx_round_step(&round, EPX_PHASE_DONE) == EPX_OK);
        }
        epx_round_end(&round);
        memset(region, 0xFF, CELLS * sizeof *region);
        atomic_store(&world->reports[rank].rounds, n);
    }
    RANK_CHECK(epx_arena_free(memory) == EPX_OK);
    RANK_CHECK(epx_comm_failure(comm) == EPX_OK);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void expect_rounds(struct world *world)
{
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        assert_int_equal(atomic_load(&world->reports[rank].rounds), world->round_count);
    }
    world_destroy(world);
}

static void round__processes_with_delays(void **state)
{
    (void)state;
    struct world *world = world_create(4, 30000);
    world->round_count = 300;
    world->variant = 1;
    world_run(world, exchanging_rank);
    expect_rounds(world);
}

static void round__threads_with_delays(void **state)
{
    (void)state;
    struct world *world = world_create(4, 30000);
    world->round_count = 300;
    world->variant = 1;
    world_run_threads(world, exchanging_rank);
    expect_rounds(world);
}

static void round__waits_in_pieces(void **state)
{
    (void)state;
    struct world *world = world_create(5, 30000);
    world->round_count = 200;
    world->variant = 2;
    world_run(world, exchanging_rank);
    expect_rounds(world);
}

/* Between two pieces of a wait this process does nothing for longer than any deadline, as when it is stopped. */
static void pausing_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    struct epx_agreement agreement = {{1}};
    bool pending;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(epx_round_begin(&round, comm, epx_round_reserve(comm), EPX_OPERATION_DISPATCH) == EPX_OK);
    if (rank == 0) {
        RANK_CHECK(epx_round_publish(&round, &agreement, NULL) == EPX_OK);
        RANK_CHECK(epx_round_arrive(&round, EPX_PHASE_ENTER) == EPX_OK);
        RANK_CHECK(epx_round_await(&round, epx_clock_ns() + 1000000u, &pending) == EPX_OK && pending);
        sleep_us(1200000);
        RANK_CHECK(epx_round_await(&round, EPX_NEVER, &pending) == EPX_OK && !pending);
    } else {
        sleep_us(1300000);
        RANK_CHECK(epx_round_enter(&round, &agreement, NULL, 0, NULL) == EPX_OK);
    }
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_DONE) == EPX_OK);
    epx_round_end(&round);
    atomic_store(&world->reports[rank].rounds, 1);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void round__stopped_between_pieces(void **state)
{
    (void)state;
    struct world *world = world_create(2, 500);
    world->round_count = 1;
    world_run(world, pausing_rank);
    expect_rounds(world);
}

static void round__sixteen_ranks_on_two_cores(void **state)
{
    (void)state;
    cpu_set_t all;
    cpu_set_t two;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&two);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&two) < 2; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &two);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof two, &two), 0);
    struct world *world = world_create(16, 60000);
    world->round_count = 1000 / WORLD_SLOWNESS;
    world_run(world, exchanging_rank);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    expect_rounds(world);
}

static void round__one_rank(void **state)
{
    (void)state;
    struct world *world = world_create(1, 1000);
    world->round_count = 1000;
    world_run(world, exchanging_rank);
    expect_rounds(world);
}

static void round__each_way_of_waiting(void **state)
{
    (void)state;
    static const char *const ways[] = {"spin", "block", "auto"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_int_equal(setenv("EPX_WAIT", ways[i], 1), 0);
        struct world *world = world_create(2, 30000);
        world->round_count = 200;
        world_run(world, exchanging_rank);
        expect_rounds(world);
    }
    assert_int_equal(unsetenv("EPX_WAIT"), 0);
}

/* Every rank leaves when it is through, some long before others have even looked at the end of the last round. */
static void leaving_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    for (uint64_t n = 0; n < 3; n++) {
        RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    }
    if (rank % 2 == 1) {
        sleep_us(100000u * rank);
    }
    RANK_CHECK(epx_comm_failure(comm) == EPX_OK);
    if (rank != 2 || world->variant == 1) { /* else this one just ends, without a word */
        RANK_CHECK(epx_comm_close(comm) == EPX_OK);
    }
}

static void close__others_still_at_work(void **state)
{
    (void)state;
    struct world *world = world_create(4, 5000);
    world_run(world, leaving_rank);
    world_destroy(world);
    world = world_create(4, 5000);
    world->variant = 1;
    world_run_threads(world, leaving_rank);
    world_destroy(world);
}

struct ordered_call {
    struct epx_comm *comm;
    uint64_t number;
    _Atomic uint64_t *last;
    enum epx_status status;
    bool in_order;
};

static void *ordered_call_main(void *context)
{
    struct ordered_call *call = context;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    call->status = epx_round_begin(&round, call->comm, call->number, EPX_OPERATION_COMBINE);
    if (call->status == EPX_OK) {
        call->in_order = atomic_fetch_add(call->last, 1) + 1 == call->number;
        call->status = epx_round_enter(&round, &agreement, NULL, 0, NULL);
        epx_round_end(&round);
    }
    return NULL;
}

/* Rounds of one step each, every one on its own thread, started in the wrong order. */
static void disordered_rank(struct world *world, uint32_t rank)
{
    enum { CALLS = 6 };
    struct epx_comm *comm = NULL;
    pthread_t threads[CALLS];
    struct ordered_call calls[CALLS];
    _Atomic uint64_t last = 0;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    for (uint32_t i = 0; i < CALLS; i++) {
        calls[i] = (struct ordered_call){.comm = comm, .number = epx_round_reserve(comm), .last = &last};
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_ERR_STATE);
    for (uint32_t i = CALLS; i > 0; i--) {
        RANK_CHECK(pthread_create(&threads[i - 1], NULL, ordered_call_main, &calls[i - 1]) == 0);
        sleep_us(1000);
    }
    for (uint32_t i = 0; i < CALLS; i++) {
        RANK_CHECK(pthread_join(threads[i], NULL) == 0);
        RANK_CHECK(calls[i].status == EPX_OK && calls[i].in_order);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__in_the_order_of_numbers(void **state)
{
    (void)state;
    struct world *world = world_create(3, 30000);
    world_run(world, disordered_rank);
    world_destroy(world);
    world = world_create(3, 30000);
    world_run_threads(world, disordered_rank);
    world_destroy(world);
}

static bool is_mapped(const char *name)
{
    char line[512];
    bool found = false;
    FILE *file = fopen("/proc/self/maps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        found = found || strstr(line, name) != NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static void misusing_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(epx_round_begin(&round, comm, 1, EPX_OPERATION_DISPATCH) == EPX_ERR_STATE);
    RANK_CHECK(epx_round_begin(&round, comm, epx_round_reserve(comm), EPX_OPERATION_DISPATCH) == EPX_OK);
    RANK_CHECK(epx_round_enter(&round, &agreement, NULL, 0, NULL) == EPX_OK);
    epx_round_end(&round);
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_DONE) == EPX_ERR_STATE);
    RANK_CHECK(epx_round_fail(&round, EPX_ERR_COUNTS, "late") == EPX_ERR_STATE);
    epx_round_end(&round);
    RANK_CHECK(epx_comm_failure(comm) == EPX_OK);
    RANK_CHECK(is_mapped("epx-control"));
    /* A child of fork has no communicator: it can drop its copy, and the parent does not notice. */
    pid_t pid = fork();
    if (pid == 0) {
        bool refused = epx_round_begin(&round, comm, 1, EPX_OPERATION_DISPATCH) == EPX_ERR_STATE &&
                       epx_comm_abort(comm, EPX_ERR_ABORTED, "from a child") == EPX_ERR_STATE &&
                       epx_comm_failure(comm) == EPX_ERR_STATE && !is_mapped("epx-control");
        _exit(refused && epx_comm_close(comm) == EPX_OK ? 0 : 1);
    }
    int code = 0;
    RANK_CHECK(waitpid(pid, &code, 0) == pid && code == 0);
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void round__misuse(void **state)
{
    (void)state;
    struct world *world = world_create(2, 30000);
    world_run(world, misusing_rank);
    world_destroy(world);
}

static void open__bad_spec(void **state)
{
    (void)state;
    struct epx_comm *comm = NULL;
    struct epx_comm_spec spec = {.rank = 4, .rank_count = 4, .server_rank_count = 4};
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_INVALID);
    assert_string_equal(epx_error_text(), "rank is 4, must be in [0, 4)");
    spec = (struct epx_comm_spec){.rank = 0, .rank_count = 0};
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_INVALID);
    spec = (struct epx_comm_spec){.rank = 0, .rank_count = EPX_COMM_RANK_MAX + 1};
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_INVALID);
    spec = (struct epx_comm_spec){.rank = 0, .rank_count = 6, .server_rank_count = 4};
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_INVALID);
    spec = (struct epx_comm_spec){.rank = 0, .rank_count = 1};
    memset(spec.name, 'n', sizeof spec.name);
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_INVALID);
    spec.name[0] = '\0';
    assert_int_equal(setenv("EPX_WAIT", "sometimes", 1), 0);
    assert_int_equal(epx_comm_open(&spec, &comm), EPX_ERR_CONFIG);
    assert_int_equal(unsetenv("EPX_WAIT"), 0);
    assert_null(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__bad_spec),
        cmocka_unit_test(round__one_rank),
        cmocka_unit_test(round__processes_with_delays),
        cmocka_unit_test(round__threads_with_delays),
        cmocka_unit_test(round__waits_in_pieces),
        cmocka_unit_test(round__stopped_between_pieces),
        cmocka_unit_test(round__sixteen_ranks_on_two_cores),
        cmocka_unit_test(round__each_way_of_waiting),
        cmocka_unit_test(close__others_still_at_work),
        cmocka_unit_test(begin__in_the_order_of_numbers),
        cmocka_unit_test(round__misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
