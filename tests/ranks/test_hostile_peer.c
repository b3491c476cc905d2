/*
 * One rank, a process of its own, writes nonsense over what is its own to write: its slot of the control region, its
 * exchange regions, the header of its arena. The others must end every round in time, with some status, and unharmed.
 */
#include "rank_world.h"

#include "comm/comm_object.h"
#include "epx/epx.h"
#include "epx/objects.h"
#include "moe/exchange.h"

#include <sched.h>

#define RANKS        4u
#define HOSTILE      2u
#define ROUNDS       40
#define TOKENS       16
#define HIDDEN       64
#define TOPK         2
#define EXPERTS      8
#define ROWS         (RANKS * TOKENS * TOPK)
#define DEADLINE_MS  (1000 * WORLD_SLOWNESS)
#define PATIENCE_MS  (5 * DEADLINE_MS)
#define BURST_WRITES 64u
#define ROUTING_AT   sizeof(struct epx_exchange_header)
#define PLACES_AT    offsetof(struct epx_exchange_header, rows)

/* What the hostile rank writes to; world.variant is a sum of these. */
enum {
    ON_PROGRESS = 1,
    ON_ENTRIES = 2,
    ON_RECORD = 4,
    ON_EXCHANGE = 8, /* all of it: found out at once */
    ON_HEADER = 16,
    ON_LIFE = 32,
    ON_ROUTING = 64, /* one word now and then behind the exchange region's header: may be found out late or never */
    ON_PLACES = 128, /* one word now and then of where the rows are */
};

struct scribbler {
    struct epx_comm *comm;
    int what;
    uint32_t seed;
    _Atomic bool stopping;
};

struct tensors {
    uint16_t x[TOKENS][HIDDEN];
    uint16_t expand_x[ROWS][HIDDEN];
    uint16_t sum[TOKENS][HIDDEN];
    int32_t ids[TOKENS][TOPK];
    int32_t expand_idx[TOKENS * TOPK];
    float weights[TOKENS][TOPK];
    int64_t nums[EXPERTS / RANKS];
    int32_t counts[RANKS * (EXPERTS / RANKS)];
};

/* Small numbers pass more checks than large ones do. */
static uint64_t nonsense(struct scribbler *scribbler)
{
    uint64_t high = random_below(&scribbler->seed, UINT32_MAX);
    uint64_t low = random_below(&scribbler->seed, UINT32_MAX);
    switch (random_below(&scribbler->seed, 4)) {
    case 0: return high << 32 | low;
    case 1: return low % 64;
    case 2: return (low % 64) << 32 | (high % 64);
    default: return UINT64_MAX - low % 4;
    }
}

static void scribble_some(struct scribbler *scribbler, void *start, uint64_t bytes, uint32_t writes)
{
    volatile uint64_t *words = start;
    uint32_t count = (uint32_t)(bytes / sizeof *words);
    for (uint32_t i = 0; count > 0 && i < writes; i++) {
        words[random_below(&scribbler->seed, count)] = nonsense(scribbler);
    }
}

static void scribble(struct scribbler *scribbler, void *start, uint64_t bytes)
{
    scribble_some(scribbler, start, bytes, BURST_WRITES);
}

static void scribble_exchange(struct scribbler *scribbler, const struct epx_control_entry *entry)
{
    const struct epx_comm *comm = scribbler->comm;
    uint64_t offset = entry->publication.offset;
    uint64_t bytes = entry->publication.bytes;
    uint8_t *region = (uint8_t *)(uintptr_t)epx_comm_peer_at(comm, comm->rank, offset, bytes);
    if (region == NULL || offset % 64 != 0 || bytes <= ROUTING_AT) {
        return;
    }
    if (scribbler->what & ON_EXCHANGE) {
        scribble(scribbler, region, bytes);
    }
    if (scribbler->what & ON_ROUTING) {
        scribble_some(scribbler, region + ROUTING_AT, bytes - ROUTING_AT, 1);
    }
    if (scribbler->what & ON_PLACES) {
        scribble_some(scribbler, region + PLACES_AT, ROUTING_AT - PLACES_AT, 1);
    }
}

static void *scribbler_main(void *context)
{
    struct scribbler *scribbler = context;
    struct epx_comm *comm = scribbler->comm;
    struct epx_control_slot *slot = comm->slot;
    struct epx_arena_header *header = epx_arena_at(comm->shared.arenas[comm->rank], 0, sizeof *header);
    while (!atomic_load(&scribbler->stopping)) {
        scribble_exchange(scribbler, &slot->entries[0]);
        scribble_exchange(scribbler, &slot->entries[1]);
        if (scribbler->what & ON_PROGRESS) {
            scribble(scribbler, slot, offsetof(struct epx_control_slot, life));
        }
        if (scribbler->what & ON_LIFE) {
            atomic_store(&slot->life, (uint32_t)nonsense(scribbler));
        }
        if (scribbler->what & ON_ENTRIES) {
            scribble(scribbler, slot->entries, sizeof slot->entries);
        }
        if (scribbler->what & ON_RECORD) {
            scribble(scribbler, &slot->failure, sizeof slot->failure);
        }
        if (scribbler->what & ON_HEADER) {
            scribble(scribbler, &header->reserve_bytes, 16);
        }
        sleep_us(random_below(&scribbler->seed, 200));
    }
    return NULL;
}

static enum epx_status open_door(const struct world *world, uint32_t rank, struct epx_communicator **comm)
{
    struct epx_token token;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    memset(&token, 0, sizeof token);
    memcpy(token.bytes, world->key, sizeof world->key);
    config.op_timeout_ms = DEADLINE_MS;
    config.join_timeout_ms = 30000;
    return epx_comm_create_from_token(&token, RANKS, rank, &config, comm);
}

static struct tensors *make_tensors(uint32_t rank)
{
    struct tensors *tensors = calloc(1, sizeof *tensors);
    for (uint32_t t = 0; tensors != NULL && t < TOKENS; t++) {
        for (uint32_t k = 0; k < TOPK; k++) {
            tensors->ids[t][k] = (int32_t)((t + rank + k * 3) % EXPERTS);
            tensors->weights[t][k] = 0.5f;
        }
    }
    return tensors;
}

/* With row views: whatever was published, what is shown can be read. */
static enum epx_status run_views(struct epx_plan *plan, struct tensors *tensors)
{
    struct epx_dispatch_views_args dispatch = EPX_DISPATCH_VIEWS_ARGS_INIT;
    const void *rows[ROWS];
    dispatch.token_count = TOKENS;
    dispatch.x = tensors->x;
    dispatch.expert_ids = tensors->ids[0];
    dispatch.rows = rows;
    dispatch.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->nums;
    dispatch.ep_recv_counts = tensors->counts;
    EPX_TRY(epx_dispatch_views(plan, &dispatch));
    int32_t row_count = tensors->counts[RANKS * (EXPERTS / RANKS) - 1];
    for (int32_t row = 0; row < row_count; row++) {
        memcpy(tensors->expand_x[row], rows[row], sizeof tensors->expand_x[row]);
    }
    return EPX_OK;
}

/* Some are on the heap, where a sanitizer guards their ends; the rows to be sent are staged then. */
static enum epx_status run_copies(struct epx_plan *plan, struct tensors *tensors)
{
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    dispatch.token_count = TOKENS;
    dispatch.x = tensors->x;
    dispatch.expert_ids = tensors->ids[0];
    dispatch.expand_x = tensors->expand_x;
    dispatch.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->nums;
    dispatch.ep_recv_counts = tensors->counts;
    return epx_dispatch(plan, &dispatch);
}

static enum epx_status run_pair(struct epx_plan *plan, struct tensors *tensors, bool views)
{
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    EPX_TRY(views ? run_views(plan, tensors) : run_copies(plan, tensors));
    combine.token_count = TOKENS;
    combine.expand_x = tensors->expand_x;
    combine.expert_ids = tensors->ids[0];
    combine.expand_idx = tensors->expand_idx;
    combine.ep_send_counts = tensors->counts;
    combine.expert_scales = tensors->weights[0];
    combine.x = tensors->sum;
    return epx_combine(plan, &combine);
}

static void rank_main(struct world *world, uint32_t rank)
{
    struct epx_communicator *comm = NULL;
    struct epx_plan *plan = NULL;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    struct tensors *tensors = make_tensors(rank);
    bool views = world->stage % 2 == 0;
    config.expert_count = EXPERTS;
    config.hidden_elems = HIDDEN;
    config.topk = TOPK;
    config.token_max = TOKENS;
    RANK_CHECK(tensors != NULL);
    RANK_CHECK(open_door(world, rank, &comm) == EPX_OK);
    RANK_CHECK(epx_plan_create(comm, &config, &plan) == EPX_OK);
    struct scribbler scribbler = {.comm = comm->comm, .what = world->variant, .seed = world->stage};
    pthread_t thread;
    if (rank == HOSTILE) {
        RANK_CHECK(pthread_create(&thread, NULL, scribbler_main, &scribbler) == 0);
    }
    enum epx_status status = EPX_OK;
    for (uint32_t n = 0; status == EPX_OK && n < ROUNDS; n++) {
        uint64_t since_ns = epx_clock_ns();
        status = run_pair(plan, tensors, views);
        RANK_CHECK(rank == HOSTILE || epx_clock_ns() - since_ns < (uint64_t)PATIENCE_MS * 1000000u);
        atomic_store(&world->reports[rank].rounds, n + 1);
    }
    if (status != EPX_OK) {
        world_note_failure(world, rank, status);
        RANK_CHECK(rank == HOSTILE || run_pair(plan, tensors, views) != EPX_OK);
    }
    if (rank == HOSTILE) {
        atomic_store(&scribbler.stopping, true);
        (void)pthread_join(thread, NULL);
        return;
    }
    epx_plan_destroy(plan);
    RANK_CHECK(epx_comm_destroy(comm) == EPX_OK);
    free(tensors);
}

static void reap(pid_t pid, bool is_hostile)
{
    int code = 0;
    uint64_t deadline_ns = epx_deadline_after_ms(WORLD_LIMIT_MS);
    while (waitpid(pid, &code, WNOHANG) == 0) {
        if (epx_clock_ns() > deadline_ns) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &code, 0);
            assert_true(is_hostile);
        }
        sleep_us(500);
    }
    if (!is_hostile) {
        assert_true(WIFEXITED(code));
        assert_int_equal(WEXITSTATUS(code), 0);
    }
}

static void run_hostile(int what, uint32_t seed)
{
    struct world *world = world_create(RANKS, DEADLINE_MS);
    world->variant = what;
    world->stage = seed;
    world_start(world, rank_main);
    /* The honest ones first: they end without help. */
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        if (rank != HOSTILE) {
            reap(world->reports[rank].pid, false);
            assert_int_equal(world->reports[rank].wrong_line, 0);
        }
    }
    (void)kill(world->reports[HOSTILE].pid, SIGKILL);
    reap(world->reports[HOSTILE].pid, true);
    /* Whatever it is, all have it, or none. */
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        if (rank != HOSTILE) {
            assert_int_equal(world->reports[rank].status != EPX_OK, world->reports[0].status != EPX_OK);
        }
    }
    world_destroy(world);
}

static void hostile__everything(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        run_hostile(ON_PROGRESS | ON_ENTRIES | ON_RECORD | ON_EXCHANGE | ON_HEADER | ON_LIFE, seed);
    }
}

static void hostile__exchange_region(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 8; seed++) {
        run_hostile(ON_EXCHANGE, seed);
    }
}

static void hostile__exchange_region_and_header(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        run_hostile(ON_EXCHANGE | ON_HEADER, seed);
    }
}

static void hostile__routing_and_places(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        run_hostile(ON_ROUTING, seed);
        run_hostile(ON_PLACES, seed);
        run_hostile(ON_PLACES | ON_HEADER, seed);
    }
}

static void hostile__entries_and_header(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        run_hostile(ON_ENTRIES | ON_HEADER, seed);
    }
}

static void hostile__progress(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 4; seed++) {
        run_hostile(ON_PROGRESS | ON_RECORD, seed);
        run_hostile(ON_LIFE, seed);
    }
}

/* A rank that says it has arrived and has not: the deadline still ends the wait. */
static void lying_rank(struct world *world, uint32_t rank)
{
    struct epx_comm *comm = NULL;
    RANK_CHECK(world_open(world, rank, &comm) == EPX_OK);
    RANK_CHECK(world_round(comm, EPX_OPERATION_BARRIER) == EPX_OK);
    if (rank == 1) {
        atomic_store(&comm->slot->arrived_step, UINT64_MAX);
        while (epx_comm_failure(comm) == EPX_OK) {
            sleep_us(1000);
        }
    } else {
        RANK_CHECK(world_round(comm, EPX_OPERATION_BARRIER) == EPX_ERR_PROTOCOL);
        world_note_failure(world, rank, EPX_ERR_PROTOCOL);
    }
    RANK_CHECK(epx_comm_close(comm) == EPX_OK);
}

static void hostile__arrival_that_never_was(void **state)
{
    (void)state;
    static const char *const ways[] = {"auto", "spin"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_int_equal(setenv("EPX_WAIT", ways[i], 1), 0);
        struct world *world = world_create(2, 300);
        world_run(world, lying_rank);
        assert_string_equal(world->reports[0].text,
                            "all 2 ranks say that they have arrived at step 4, 1 arrivals are missing");
        world_destroy(world);
    }
    assert_int_equal(unsetenv("EPX_WAIT"), 0);
}

int main(void)
{
#if defined(__SANITIZE_THREAD__)
    (void)fprintf(stderr, "SKIPPED: it consists of data races\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__arrival_that_never_was),
        cmocka_unit_test(hostile__progress),
        cmocka_unit_test(hostile__entries_and_header),
        cmocka_unit_test(hostile__exchange_region),
        cmocka_unit_test(hostile__exchange_region_and_header),
        cmocka_unit_test(hostile__routing_and_places),
        cmocka_unit_test(hostile__everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
