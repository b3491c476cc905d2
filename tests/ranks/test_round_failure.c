/* Rounds that fail: the same status and text on every rank, soon, and for good. */
#include "rank_world.h"

#include "memory/arena.h"

#include <inttypes.h>

#define NOBODY UINT32_MAX

/* How soon a death, a departure or an abort must be known everywhere. */
#define SOON_NS (UINT64_C(1000000000) * WORLD_SLOWNESS)

/* Rounds until one fails. Then everything later fails as well, with the same text. */
static void toiling_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    uint32_t seed = rank + world->key[0];
    enum epx_status status = EPX_OK;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    for (uint64_t n = 1; status == EPX_OK; n++) {
        status = world_round(comm, n % 2 == 1 ? EPX_OPERATION_DISPATCH : EPX_OPERATION_COMBINE);
        if (status == EPX_OK) {
            atomic_store(&world->reports[rank].rounds, n);
        }
        if (random_below(&seed, 16) == 0) {
            sleep_us(random_below(&seed, 3000));
        }
    }
    world_note_failure(world, rank, status);
    for (int i = 0; i < 3; i++) {
        epx_error_text_set("");
        RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == status);
        RANK_CHECK(strcmp(epx_error_text(), world->reports[rank].text) == 0);
    }
    RANK_CHECK(epx_comm_failure(comm) == status);
    RANK_CHECK(epx_comm_abort(comm, EPX_ERR_ABORTED, "too late") == status);
    RANK_CHECK(strcmp(epx_error_text(), world->reports[rank].text) == 0);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

/* All ranks but `except` have failed with one status and text, and completed the same number of rounds; the rank that
 * is excepted has completed as many, or died before it could say so. Returns the text. */
static const char *expect_failure(const struct world *world, uint32_t except, enum epx_status status)
{
    uint32_t first = except == 0 ? 1 : 0;
    const struct rank_report *reference = &world->reports[first];
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        if (rank == except) {
            assert_true(world->reports[rank].rounds <= reference->rounds);
            continue;
        }
        assert_int_equal(world->reports[rank].status, status);
        assert_string_equal(world->reports[rank].text, reference->text);
        assert_int_equal(world->reports[rank].rounds, reference->rounds);
    }
    return reference->text;
}

static void expect_soon(const struct world *world, uint32_t except, uint64_t since_ns)
{
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        if (rank != except) {
            assert_true(world->reports[rank].failed_ns < since_ns + SOON_NS);
        }
    }
}

static void expect_prefix(const char *text, const char *prefix)
{
    if (strncmp(text, prefix, strlen(prefix)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", text, prefix);
    }
}

static void kill__at_random_moments(void **state)
{
    (void)state;
    uint32_t seed = (uint32_t)getpid();
    for (uint32_t i = 0; i < 12; i++) {
        struct world *world = world_create(4, 60000);
        uint32_t victim = random_below(&seed, world->rank_count);
        char prefix[96];
        world_start(world, toiling_rank);
        world_await(&world->reports[victim].rounds, 1 + random_below(&seed, 20));
        sleep_us(random_below(&seed, 20000));
        uint64_t killed_ns = epx_clock_ns();
        assert_int_equal(kill(world->reports[victim].pid, SIGKILL), 0);
        world_finish(world, victim);
        (void)snprintf(prefix, sizeof prefix, "rank %u (pid %d) died ", victim, (int)world->reports[victim].pid);
        expect_prefix(expect_failure(world, victim, EPX_ERR_PEER_DEAD), prefix);
        expect_soon(world, victim, killed_ns);
        world_destroy(world);
    }
}

/* Stopped past the deadline: the others say who was late; woken, it learns the same. */
static void stop__past_the_deadline(void **state)
{
    (void)state;
    struct world *world = world_create(4, 500 * WORLD_SLOWNESS);
    char prefix[128];
    world_start(world, toiling_rank);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        world_await(&world->reports[rank].rounds, 3);
    }
    assert_int_equal(kill(world->reports[2].pid, SIGSTOP), 0);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        siginfo_t info = {0};
        if (rank != 2) {
            assert_int_equal(waitid(P_PID, (id_t)world->reports[rank].pid, &info, WEXITED | WNOWAIT), 0);
        }
    }
    assert_int_equal(kill(world->reports[2].pid, SIGCONT), 0);
    world_finish(world, NOBODY);
    const char *text = expect_failure(world, NOBODY, EPX_ERR_TIMEOUT);
    (void)snprintf(prefix, sizeof prefix, "rank 2 (pid %d) has not ", (int)world->reports[2].pid);
    expect_prefix(text, prefix);
    assert_non_null(strstr(text, "; ranks 0-1,3 have waited "));
    world_destroy(world);
}

/* Rank 1 never begins round 2; the line of blame is asked for while the others wait, and comes again as the error. */
struct blame_watch {
    struct epx_comm *comm;
    char text[EPX_ERROR_TEXT_BYTES];
};

static void *blame_watch_main(void *context)
{
    struct blame_watch *watch = context;
    sleep_us(250000 * WORLD_SLOWNESS);
    epx_comm_blame(watch->comm, watch->text, sizeof watch->text);
    return NULL;
}

static void late_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct blame_watch watch = {0};
    pthread_t thread;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    epx_comm_blame(comm, watch.text, sizeof watch.text);
    RANK_CHECK(watch.text[0] == '\0');
    RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
    watch.comm = comm;
    RANK_CHECK(pthread_create(&thread, NULL, blame_watch_main, &watch) == 0);
    if (rank == 1) {
        while (epx_comm_failure(comm) == EPX_OK) {
            sleep_us(1000);
        }
    }
    world_note_failure(world, rank, world_round(comm, EPX_OPERATION_COMBINE));
    RANK_CHECK(pthread_join(thread, NULL) == 0);
    memcpy(world->reports[rank].blame, watch.text, sizeof watch.text);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void expect_late(struct world *world, pid_t pid)
{
    char prefix[160];
    int length = snprintf(prefix, sizeof prefix,
                          "rank 1 (pid %d) has not entered combine round 2; ranks 0,2-3 have waited ", (int)pid);
    const char *text = expect_failure(world, NOBODY, EPX_ERR_TIMEOUT);
    expect_prefix(text, prefix);
    double waited_s = strtod(text + length, NULL);
    assert_true(waited_s >= 0.5 * WORLD_SLOWNESS && waited_s < 1.5 * WORLD_SLOWNESS);
    for (uint32_t rank = 0; rank < world->rank_count; rank++) {
        if (rank == 1) {
            assert_string_equal(world->reports[rank].blame, "");
        } else {
            expect_prefix(world->reports[rank].blame, prefix);
        }
    }
    world_destroy(world);
}

static void timeout__line_of_blame(void **state)
{
    (void)state;
    struct world *world = world_create(4, 500 * WORLD_SLOWNESS);
    world_run(world, late_rank);
    expect_late(world, world->reports[1].pid);
}

/* One rank leaves after two rounds, the others want a third. */
static void deserting_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    atomic_store(&world->reports[rank].rounds, 2);
    if (rank == 3) {
        sleep_us(50000);
        world->reports[rank].failed_ns = epx_clock_ns();
    } else {
        enum epx_status status = world_round(comm, EPX_OPERATION_DISPATCH);
        world_note_failure(world, rank, status);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
    /* Its process lives on: leaving is not dying. */
    while (rank == 3 && world->variant == 0 && atomic_load(&world->stage) == 0) {
        sleep_us(1000);
    }
    if (rank == 0) {
        atomic_store(&world->stage, 1);
    }
}

static void close__too_early(void **state)
{
    (void)state;
    for (int variant = 0; variant < 2; variant++) {
        struct world *world = world_create(4, 60000);
        char expected[160];
        world->variant = variant;
        world_run(world, deserting_rank);
        (void)snprintf(expected, sizeof expected,
                       "rank 3 (pid %d) left the communicator after combine round 2; dispatch round 3 needs it",
                       (int)world->reports[3].pid);
        assert_string_equal(expect_failure(world, 3, EPX_ERR_PEER_LEFT), expected);
        expect_soon(world, 3, world->reports[3].failed_ns);
        world_destroy(world);
    }
}

struct aborting_call {
    struct epx_comm *comm;
    enum epx_status status;
    const char *text;
};

static void *aborting_call_main(void *context)
{
    struct aborting_call *call = context;
    sleep_us(30000);
    call->status = epx_comm_abort(call->comm, EPX_ERR_ABORTED, call->text);
    return NULL;
}

/* Two threads of rank 2 abort while all others wait for it; one of the causes wins, everywhere. */
static void aborting_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
    atomic_store(&world->reports[rank].rounds, 1);
    if (rank == 2) {
        pthread_t threads[2];
        struct aborting_call calls[2] = {{.comm = comm, .text = "first thread"},
                                         {.comm = comm, .text = "other thread"}};
        for (int i = 0; i < 2; i++) {
            RANK_CHECK(pthread_create(&threads[i], NULL, aborting_call_main, &calls[i]) == 0);
        }
        for (int i = 0; i < 2; i++) {
            RANK_CHECK(pthread_join(threads[i], NULL) == 0);
            RANK_CHECK(calls[i].status == EPX_ERR_ABORTED);
        }
    }
    enum epx_status status = world_round(comm, EPX_OPERATION_COMBINE);
    world_note_failure(world, rank, status);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void abort__from_other_threads(void **state)
{
    (void)state;
    for (int threads = 0; threads < 2; threads++) {
        struct world *world = world_create(4, 60000);
        if (threads != 0) {
            world_run_threads(world, aborting_rank);
        } else {
            world_run(world, aborting_rank);
        }
        const char *text = expect_failure(world, NOBODY, EPX_ERR_ABORTED);
        assert_true(strcmp(text, "first thread") == 0 || strcmp(text, "other thread") == 0);
        world_destroy(world);
    }
}

/* variant 0: an argument differs; 1: the operation; 2: a rank fails by itself; 3: a bad publication. */
static void disagreeing_rank(struct world *world, uint32_t rank)
{
    static const struct epx_agreement_field fields[] = {{.name = "hidden_elems", .offset = 0, .width = 4}};
    struct epx_comm *comm = NULL;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    struct epx_publication publication = {.offset = 0, .bytes = 64};
    uint32_t hidden = world->variant == 0 && rank == 3 ? 4096 : 7168;
    bool combines = world->variant == 1 && rank != 0;
    memcpy(agreement.bytes, &hidden, sizeof hidden);
    if (world->variant == 3 && rank == 1) {
        publication.offset = UINT64_MAX - 63;
        publication.bytes = 128;
    }
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_BARRIER) == EPX_OK);
    RANK_CHECK(epx_round_begin(&round, comm, epx_round_reserve(comm),
                               combines ? EPX_OPERATION_COMBINE : EPX_OPERATION_DISPATCH) == EPX_OK);
    enum epx_status status = epx_round_enter(&round, &agreement, fields, 1, &publication);
    if (status == EPX_OK && world->variant == 2 && rank == 2) {
        status =
            epx_round_fail(&round, EPX_ERR_EXPERT_ID, "expertIds[%d][%d] is %d, must be in [0, %d)", 17, 3, 260, 256);
    }
    for (uint32_t peer = 0; status == EPX_OK && peer < world->rank_count; peer++) {
        const void *exchange = NULL;
        uint64_t bytes = 0;
        status = epx_round_peer(&round, peer, &exchange, &bytes);
    }
    if (status == EPX_OK) {
        status = epx_round_step(&round, EPX_PHASE_DONE);
    }
    world_note_failure(world, rank, status);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void fail__same_cause_everywhere(void **state)
{
    (void)state;
    static const struct {
        enum epx_status status;
        const char *text;
    } expected[] = {
        {EPX_ERR_MISMATCH, "hidden_elems differs: rank 0 has 7168, rank 3 has 4096"},
        {EPX_ERR_MISMATCH, "operation differs in round 2: rank 0 runs dispatch, ranks 1-3 run combine"},
        {EPX_ERR_EXPERT_ID, "expertIds[17][3] is 260, must be in [0, 256)"},
        {EPX_ERR_PROTOCOL, "rank 1 published an exchange region of 128 bytes at offset 18446744073709551552 that is "
                           "not in its arena"},
    };
    for (int variant = 0; variant < 4; variant++) {
        struct world *world = world_create(4, 60000);
        world->variant = variant;
        world_run(world, disagreeing_rank);
        assert_string_equal(expect_failure(world, NOBODY, expected[variant].status), expected[variant].text);
        world_destroy(world);
    }
}

/* Rank 0 runs round 1 and has rounds 2 and 3 waiting on other threads; rank 1 aborts instead of coming. */
struct queued_call {
    struct epx_comm *comm;
    uint64_t number;
    enum epx_status status;
    uint64_t ended_ns;
};

static void *queued_call_main(void *context)
{
    struct queued_call *call = context;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    call->status = epx_round_begin(&round, call->comm, call->number, EPX_OPERATION_DISPATCH);
    if (call->status == EPX_OK) {
        call->status = epx_round_enter(&round, &agreement, NULL, 0, NULL);
        epx_round_end(&round);
    }
    call->ended_ns = epx_clock_ns();
    return NULL;
}

static void queueing_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    if (rank == 1) {
        sleep_us(100000);
        world->reports[rank].failed_ns = epx_clock_ns();
        RANK_CHECK(epx_comm_abort(comm, EPX_ERR_ABORTED, "enough") == EPX_ERR_ABORTED);
        RANK_CHECK(epx_comm_close(comm) == EPX_OK);
        return;
    }
    pthread_t threads[3];
    struct queued_call calls[3];
    for (int i = 0; i < 3; i++) {
        calls[i] = (struct queued_call){.comm = comm, .number = epx_round_reserve(comm)};
        RANK_CHECK(pthread_create(&threads[i], NULL, queued_call_main, &calls[i]) == 0);
    }
    for (int i = 0; i < 3; i++) {
        RANK_CHECK(pthread_join(threads[i], NULL) == 0);
        RANK_CHECK(calls[i].status == EPX_ERR_ABORTED);
        world->reports[0].failed_ns = calls[i].ended_ns;
    }
    RANK_CHECK(epx_comm_failure(comm) == EPX_ERR_ABORTED);
    RANK_CHECK(strcmp(epx_error_text(), "enough") == 0);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__queued_rounds_end_at_once(void **state)
{
    (void)state;
    struct world *world = world_create(2, -1);
    world_run(world, queueing_rank);
    assert_true(world->reports[0].failed_ns < world->reports[1].failed_ns + SOON_NS);
    world_destroy(world);
}

/* A round whose predecessor never begins: its deadline ends it. */
static void stuck_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    uint64_t first = epx_round_reserve(comm);
    uint64_t second = epx_round_reserve(comm);
    RANK_CHECK(epx_round_begin(&round, comm, second, EPX_OPERATION_COMBINE) == EPX_ERR_TIMEOUT);
    world_note_failure(world, rank, EPX_ERR_TIMEOUT);
    RANK_CHECK(epx_comm_close(comm) == EPX_ERR_STATE);
    RANK_CHECK(epx_round_begin(&round, comm, first, EPX_OPERATION_COMBINE) == EPX_ERR_TIMEOUT);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__deadline_of_the_turn(void **state)
{
    (void)state;
    struct world *world = world_create(1, 300);
    world_run(world, stuck_rank);
    assert_string_equal(world->reports[0].text, "combine round 2 of rank 0 has waited 0.3 s for its round 1");
    world_destroy(world);
}

/* The same, by a caller that comes back after a fifth of the deadline each time. */
static void polling_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    enum epx_status status = EPX_OK;
    bool pending = true;
    uint64_t piece_ns = (uint64_t)world->op_timeout_ms * 1000000u / 5;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    uint64_t first = epx_round_reserve(comm);
    uint64_t second = epx_round_reserve(comm);
    uint64_t give_up_ns = epx_clock_ns() + 50 * piece_ns + SOON_NS;
    while (pending && epx_clock_ns() < give_up_ns) {
        status =
            epx_round_begin_until(&round, comm, second, EPX_OPERATION_COMBINE, epx_clock_ns() + piece_ns, &pending);
    }
    RANK_CHECK(!pending && status == EPX_ERR_TIMEOUT);
    world_note_failure(world, rank, status);
    RANK_CHECK(epx_round_begin(&round, comm, first, EPX_OPERATION_COMBINE) == EPX_ERR_TIMEOUT);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__deadline_of_the_turn_in_pieces(void **state)
{
    (void)state;
    struct world *world = world_create(1, 300);
    world_run(world, polling_rank);
    expect_prefix(world->reports[0].text, "combine round 2 of rank 0 has waited ");
    world_destroy(world);
}

/* One thread runs a round whose three steps each take two thirds of the deadline; another has the next one ready. */
static void patient_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    struct epx_agreement agreement = {{0}};
    pthread_t thread;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    uint64_t first = epx_round_reserve(comm);
    struct queued_call next = {.comm = comm, .number = epx_round_reserve(comm)};
    RANK_CHECK(epx_round_begin(&round, comm, first, EPX_OPERATION_DISPATCH) == EPX_OK);
    RANK_CHECK(pthread_create(&thread, NULL, queued_call_main, &next) == 0);
    uint64_t pause_us = rank == 1 ? (uint64_t)world->op_timeout_ms * 2000 / 3 : 0;
    sleep_us(pause_us);
    RANK_CHECK(epx_round_enter(&round, &agreement, NULL, 0, NULL) == EPX_OK);
    sleep_us(pause_us);
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_ROWS) == EPX_OK);
    sleep_us(pause_us);
    RANK_CHECK(epx_round_step(&round, EPX_PHASE_DONE) == EPX_OK);
    epx_round_end(&round);
    RANK_CHECK(pthread_join(thread, NULL) == 0);
    RANK_CHECK(next.status == EPX_OK);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__running_rounds_may_take_their_time(void **state)
{
    (void)state;
    struct world *world = world_create(2, 600 * WORLD_SLOWNESS);
    world_run(world, patient_rank);
    world_destroy(world);
}

/* No round runs on rank 0: its second one has been begun, its first one waits for something else. */
static void unready_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    struct epx_round round;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_DISPATCH) == EPX_OK);
    if (rank == 1) {
        if (world->variant == 1) {
            RANK_CHECK(epx_comm_close(comm) == EPX_OK);
            return;
        }
        (void)kill(getpid(), SIGKILL);
    }
    uint64_t first = epx_round_reserve(comm);
    uint64_t second = epx_round_reserve(comm);
    enum epx_status expected = world->variant == 1 ? EPX_ERR_PEER_LEFT : EPX_ERR_PEER_DEAD;
    RANK_CHECK(epx_round_begin(&round, comm, second, EPX_OPERATION_COMBINE) == expected);
    world_note_failure(world, rank, expected);
    RANK_CHECK(epx_round_begin(&round, comm, first, EPX_OPERATION_COMBINE) == expected);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void begin__watches_for_deaths(void **state)
{
    (void)state;
    static const char *const ends[] = {"died after dispatch round 1; combine round 3 needs it",
                                       "left the communicator after dispatch round 1; combine round 3 needs it"};
    for (int variant = 0; variant < 2; variant++) {
        char expected[128];
        struct world *world = world_create(2, -1);
        world->variant = variant;
        world_start(world, unready_rank);
        (void)snprintf(expected, sizeof expected, "rank 1 (pid %d) %s", (int)world->reports[1].pid, ends[variant]);
        world_finish(world, variant == 0 ? 1 : UINT32_MAX);
        assert_string_equal(world->reports[0].text, expected);
        world_destroy(world);
    }
}

/* Two ranks that are stopped together, one in its wait, one on its way there. */
static void frozen_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    if (rank == 1) {
        sleep_us(50000);
        atomic_store(&world->reports[rank].rounds, 1);
        /* Not a sleep until a time: it is to be interrupted and begin anew. */
        for (uint32_t i = 0; i < 30 * WORLD_SLOWNESS; i++) {
            sleep_us(10000);
        }
    }
    RANK_CHECK(world_round(comm, EPX_OPERATION_COMBINE) == EPX_OK);
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void timeout__not_for_the_time_in_which_all_were_stopped(void **state)
{
    (void)state;
    static const char *const ways[] = {"auto", "spin"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_int_equal(setenv("EPX_WAIT", ways[i], 1), 0);
        struct world *world = world_create(2, 1000 * WORLD_SLOWNESS);
        world_start(world, frozen_rank);
        world_await(&world->reports[1].rounds, 1);
        assert_int_equal(kill(world->reports[0].pid, SIGSTOP), 0);
        assert_int_equal(kill(world->reports[1].pid, SIGSTOP), 0);
        sleep_us(1500000 * WORLD_SLOWNESS);
        assert_int_equal(kill(world->reports[0].pid, SIGCONT), 0);
        assert_int_equal(kill(world->reports[1].pid, SIGCONT), 0);
        world_finish(world, UINT32_MAX);
        world_destroy(world);
    }
    assert_int_equal(unsetenv("EPX_WAIT"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill__at_random_moments),
        cmocka_unit_test(stop__past_the_deadline),
        cmocka_unit_test(timeout__line_of_blame),
        cmocka_unit_test(close__too_early),
        cmocka_unit_test(abort__from_other_threads),
        cmocka_unit_test(fail__same_cause_everywhere),
        cmocka_unit_test(begin__queued_rounds_end_at_once),
        cmocka_unit_test(begin__deadline_of_the_turn),
        cmocka_unit_test(begin__deadline_of_the_turn_in_pieces),
        cmocka_unit_test(begin__watches_for_deaths),
        cmocka_unit_test(begin__running_rounds_may_take_their_time),
        cmocka_unit_test(timeout__not_for_the_time_in_which_all_were_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
