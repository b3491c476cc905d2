/* What a rank does: periods of pairs with one plan, in communicators that live for some periods. */
#include "soak/soak.h"

#include "comm/comm_object.h"
#include "epx/objects.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HIDDEN_MAX 1024
#define TOKEN_MAX  8
/* No wait of a healthy world takes as long, on whatever machine. */
#define WAIT_MS_MAX 300000

struct rank {
    struct soak_board *board;
    struct soak_report *report;
    uint32_t number;
    struct random_source random;     /* draws that all ranks make alike */
    struct random_source own_random; /* this rank's alone */
    struct epx_communicator *comm;
    uint64_t first_step; /* of the communicator */
    int64_t server_rank_count;
    int64_t periods_left; /* of its life */
    uint64_t period;
};

uint64_t soak_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static bool wrong(struct rank *rank, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(rank->report->text, sizeof rank->report->text, format, args);
    va_end(args);
    atomic_store(&rank->report->failed_ns, soak_now_ns());
    return false;
}

/* ---- Communicators --------------------------------------------------------------------------------------------- */

/* Steps from which a wrap of the word's low half, or of what a narrower count would be, comes soon. */
static uint64_t draw_first_step(struct random_source *random)
{
    uint64_t before = (uint64_t)random_between(random, 1, 400);
    switch (random_between(random, 0, 5)) {
    case 0: return (UINT64_C(1) << 16) - before;
    case 1: return (UINT64_C(1) << 31) - before;
    case 2: return (UINT64_C(1) << 32) - before;
    case 3: return ((uint64_t)random_between(random, 2, 1 << 20) << 16) - before;
    default: return 0;
    }
}

/* What a communicator reads when it is made. Threads of one process have one environment, which main has set. */
static void environment_draw(struct rank *rank)
{
    static const char *const waits[] = {"auto", "auto", "block"};
    /* setenv would keep every value that there ever was. */
    static char wait_text[32];
    static char step_text[64];
    const char *wait = waits[random_between(&rank->random, 0, 2)];
    uint64_t first_step = draw_first_step(&rank->random);
    if (!rank->board->options.threads) {
        (void)snprintf(wait_text, sizeof wait_text, "EPX_WAIT=%s", wait);
        (void)snprintf(step_text, sizeof step_text, "EPX_FAULT_FIRST_STEP=%llu", (unsigned long long)first_step);
        (void)putenv(wait_text);
        (void)putenv(step_text);
    }
}

static bool comm_close(struct rank *rank, struct epx_communicator *comm)
{
    if (comm == NULL) {
        return true;
    }
    uint64_t last_step = comm->comm->step;
    rank->report->steps += last_step - rank->first_step;
    rank->report->low_wraps += (last_step >> 16) - (rank->first_step >> 16);
    rank->report->half_wraps += (last_step >> 32) - (rank->first_step >> 32);
    return epx_comm_destroy(comm) == EPX_OK || wrong(rank, "epx_comm_destroy: %s", epx_last_error());
}

static bool comm_renew(struct rank *rank)
{
    const struct soak_options *options = &rank->board->options;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_communicator *old = rank->comm;
    bool overlaps = random_percent(&rank->random, 30);
    rank->comm = NULL;
    /* Some live long enough to pass 2^16 steps by themselves. */
    rank->periods_left = random_between(&rank->random, 1, random_percent(&rank->random, 5) ? 150 : 8);
    do {
        rank->server_rank_count = random_between(&rank->random, 1, options->rank_count);
    } while (options->rank_count % rank->server_rank_count != 0);
    environment_draw(rank);
    if (!overlaps && !comm_close(rank, old)) {
        return false;
    }
    config.server_rank_count = (uint32_t)rank->server_rank_count;
    config.join_timeout_ms = config.op_timeout_ms = WAIT_MS_MAX;
    if (epx_comm_create_from_token(&rank->board->token, options->rank_count, rank->number, &config, &rank->comm) !=
        EPX_OK) {
        return wrong(rank, "epx_comm_create_from_token: %s", epx_last_error());
    }
    if (overlaps && !comm_close(rank, old)) {
        return false;
    }
    rank->first_step = rank->comm->comm->step;
    rank->report->communicators++;
    return true;
}

/* ---- Periods --------------------------------------------------------------------------------------------------- */

static uint64_t draw_period_end(struct rank *rank, uint64_t pair)
{
    const struct soak_options *options = &rank->board->options;
    uint64_t length = (uint64_t)random_between(&rank->random, options->period / 2 + 1, options->period * 3 / 2 + 1);
    return length < options->pairs - pair ? pair + length : options->pairs;
}

static bool run_pairs(struct rank *rank, struct pair_run *run, uint64_t pair, uint64_t end)
{
    while (pair < end) {
        struct pair_choice choice = pair_choice_draw(&rank->random, &rank->own_random, run->set);
        if (!pair_run_pair(run, &choice)) {
            return wrong(rank, "pair %llu of period %llu: %s", (unsigned long long)pair,
                         (unsigned long long)rank->period, run->text);
        }
        pair++;
        atomic_store_explicit(&rank->report->pairs, pair, memory_order_relaxed);
    }
    return true;
}

static bool run_period(struct rank *rank, uint64_t pair, uint64_t end)
{
    struct pair_set *set = calloc(1, sizeof *set);
    struct pair_run *run = calloc(1, sizeof *run);
    const struct pair_limits limits = {
        .rank_count = rank->board->options.rank_count,
        .server_rank_count = rank->server_rank_count,
        .hidden_max = HIDDEN_MAX,
        .token_max = TOKEN_MAX,
        .largest = rank->period == 0,
    };
    bool good = set != NULL && run != NULL;
    uint64_t seed = random_bits(&rank->random);
    if (!good) {
        (void)wrong(rank, "no memory");
    } else {
        pair_set_init(set, &limits, (uint32_t)random_between(&rank->random, 2, PAIR_WORLD_MAX), seed);
        good = pair_run_init(run, set, rank->comm, rank->number, seed);
        good = good ? run_pairs(rank, run, pair, end)
                    : wrong(rank, "period %llu: %s", (unsigned long long)rank->period, run->text);
        rank->report->hash ^= random_mix(run->hash, rank->period);
        rank->report->plans++;
        pair_run_fini(run);
        pair_set_fini(set);
    }
    free(run);
    free(set);
    return good;
}

/* ---- Between periods ------------------------------------------------------------------------------------------- */

static bool any_failed(const struct soak_board *board)
{
    for (uint32_t rank = 0; rank < board->options.rank_count; rank++) {
        if (atomic_load(&board->reports[rank].failed_ns) != 0) {
            return true;
        }
    }
    return false;
}

/* All ranks come here; the last one looks at the time. False: another rank has failed. */
static bool meet(struct soak_board *board)
{
    uint32_t meeting = atomic_load(&board->meeting);
    if (atomic_fetch_add(&board->arrived, 1) + 1 == board->options.rank_count) {
        if ((soak_now_ns() - board->start_ns) / 1000000000u >= board->options.seconds) {
            atomic_store(&board->stops, 1);
        }
        atomic_store(&board->arrived, 0);
        (void)atomic_fetch_add(&board->meeting, 1);
        return true;
    }
    while (atomic_load(&board->meeting) == meeting) {
        const struct timespec pause = {0, 100000};
        if (any_failed(board)) {
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

/* When no rank has a plan, and before any goes on. */
static bool sample(struct rank *rank, uint64_t pair)
{
    struct soak_board *board = rank->board;
    uint32_t number = board->sample_count;
    if (rank->period % board->sample_interval != 0 || number >= SOAK_SAMPLE_MAX) {
        return true;
    }
    if (!board->options.threads || rank->number == 0) {
        soak_sample_take(&board->samples[rank->number][number], pair);
    }
    if (!meet(board)) {
        return false;
    }
    if (rank->number == 0) {
        board->sample_count = number + 1;
    }
    return meet(board);
}

bool soak_rank_main(struct soak_board *board, uint32_t number)
{
    struct rank rank = {.board = board, .report = &board->reports[number], .number = number};
    uint64_t pair = 0;
    /* The pages are mapped here before the first sample: they are no growth. */
    memset(board->samples[number], 0, sizeof board->samples[number]);
    random_seed(&rank.random, random_mix(board->options.seed, 1));
    random_seed(&rank.own_random, random_mix(board->options.seed, 1000 + number));
    while (pair < board->options.pairs && atomic_load(&board->stops) == 0) {
        uint64_t end = draw_period_end(&rank, pair);
        if (rank.periods_left-- == 0 && !comm_renew(&rank)) {
            return false;
        }
        if (!run_period(&rank, pair, end) || !meet(board) || !sample(&rank, end)) {
            return false;
        }
        pair = end;
        rank.period++;
    }
    return comm_close(&rank, rank.comm);
}
