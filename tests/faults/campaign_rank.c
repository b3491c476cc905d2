/* What a rank does: a world, rounds of all kinds until something fails, and then a world of the survivors. */
#include "faults/campaign_rounds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* All kinds of rounds are among as many, nearly always. */
#define WARM_UP_ROUNDS 16u

/* No second of rest at each exit, and refusals instead of ends. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

struct rank {
    struct campaign_board *board;
    const struct campaign_trial *trial;
    struct campaign_report *report;
    uint32_t number; /* in the first world */
    struct random_source random;
};

uint64_t campaign_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void campaign_sleep_us(uint64_t us)
{
    struct timespec span = {(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};
    while (nanosleep(&span, &span) != 0 && errno == EINTR) {
    }
}

/* ---- What is counted before and after --------------------------------------------------------------------------- */

static int32_t count_entries(const char *path)
{
    int32_t count = 0;
    DIR *folder = opendir(path);
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return count;
}

/* ---- Harm that a rank does to itself -------------------------------------------------------------------------------
 */

static void *end_soon(void *context)
{
    const struct rank *rank = context;
    campaign_sleep_us(rank->trial->delay_us);
    (void)kill(getpid(), rank->trial->stops ? SIGSTOP : SIGKILL);
    return NULL;
}

static void leave_and_be_hit(struct rank *rank, struct world *world)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_soon, rank) != 0) {
        _exit(9);
    }
    (void)world_close(world);
    (void)pthread_join(thread, NULL);
    atomic_store(&rank->report->ended, 1);
    _exit(0);
}

static uint64_t own_bytes(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmSize:", 7) == 0) {
            kib = strtoull(line + 7, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (uint64_t)kib * 1024;
}

/* Root knows no RLIMIT_NPROC: all ranks become another user, for only ranks of one user meet. */
static void become_limited(struct rank *rank)
{
    if (rank->trial->lack == CAMPAIGN_LACK_THREADS && getuid() == 0) {
        rank->report->limit_refused = setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0;
        (void)prctl(PR_SET_DUMPABLE, 1);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
}

static void take_away(struct rank *rank)
{
    struct rlimit limit;
    enum __rlimit_resource resource = RLIMIT_NPROC;
    rlim_t amount = 0;
    switch (rank->trial->lack) {
    case CAMPAIGN_LACK_SPACE:
        resource = RLIMIT_AS;
        amount = own_bytes() + rank->trial->lack_amount;
        break;
    case CAMPAIGN_LACK_FILES:
        resource = RLIMIT_NOFILE;
        amount = (rlim_t)count_entries("/proc/self/fd") - 3 + rank->trial->lack_amount;
        break;
    case CAMPAIGN_LACK_THREADS: break;
    default: return;
    }
    if (getrlimit(resource, &limit) == 0) {
        limit.rlim_cur = amount;
        rank->report->limit_refused = rank->report->limit_refused || setrlimit(resource, &limit) != 0;
    }
}

static void give_back(const struct rank *rank)
{
    struct rlimit limit;
    static const enum __rlimit_resource all[] = {RLIMIT_AS, RLIMIT_NOFILE, RLIMIT_NPROC};
    for (size_t i = 0; i < sizeof all / sizeof all[0] && rank->trial->lack != CAMPAIGN_LACK_NONE; i++) {
        if (getrlimit(all[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            (void)setrlimit(all[i], &limit);
        }
    }
}

static void maybe_take_away(struct rank *rank, bool at_create)
{
    if (rank->trial->lack > CAMPAIGN_LACK_LOG && campaign_is_victim(rank->trial, rank->number) &&
        rank->trial->lack_at_create == at_create) {
        take_away(rank);
    }
}

/* ---- The life of a rank
 * ---------------------------------------------------------------------------------------------- */

static void note(struct rank *rank, const char *call, enum epx_status status)
{
    struct campaign_report *report = rank->report;
    report->ended_ns = campaign_now_ns();
    report->status = (int)status;
    (void)snprintf(report->call, sizeof report->call, "%s", call);
    (void)snprintf(report->text, sizeof report->text, "%s", status == EPX_OK ? "" : epx_last_error());
}

static void live_first(struct rank *rank, struct world *world)
{
    const struct campaign_trial *trial = rank->trial;
    const char *call = "create";
    maybe_take_away(rank, true);
    enum epx_status status = world_open(world, &rank->board->token, trial->rank_count, rank->number, trial);
    if (status == EPX_OK) {
        (void)atomic_fetch_add(&rank->board->created, 1);
        call = "plan";
        maybe_take_away(rank, false);
        status = world_prepare(world, trial->rank_count, rank->number);
    }
    bool leaves = trial->way == CAMPAIGN_WAY_DESTROY && campaign_is_victim(trial, rank->number);
    bool is_open = trial->round_count == 0 || trial->way == CAMPAIGN_WAY_DESTROY;
    for (uint64_t round = 0; status == EPX_OK && (is_open || round < trial->round_count); round++) {
        if (leaves && round >= trial->round_count) {
            leave_and_be_hit(rank, world);
        }
        status = world_round(world, trial, &rank->random, round, &call);
        rank->report->rounds += status == EPX_OK;
    }
    note(rank, call, status);
    status = world_close(world);
    if (status != EPX_OK && rank->report->status == EPX_OK) {
        note(rank, "destroy", status);
    }
}

static void live_again(struct rank *rank, struct world *world)
{
    struct campaign_report *report = rank->report;
    const struct campaign_board *board = rank->board;
    struct campaign_trial calm = *rank->trial;
    const char *call = "create";
    uint32_t number = board->again_ranks[rank->number];
    calm.join_timeout_ms = calm.op_timeout_ms = CAMPAIGN_LIMIT_MS / 2;
    calm.skew_us = 0;
    (void)setenv("EPX_ROOT", board->again_root, rank->trial->host_count > 1);
    (void)setenv("EPX_HOST_TIMEOUT", "10000", 1);
    enum epx_status status = world_open(world, &board->again_token, board->again_count, number, &calm);
    if (status == EPX_OK) {
        status = world_prepare(world, board->again_count, number);
    }
    for (uint64_t round = 0; status == EPX_OK && round < 2; round++) {
        status = world_round(world, &calm, &rank->random, round, &call);
    }
    report->again_status = (int)status;
    (void)snprintf(report->again_text, sizeof report->again_text, "%s: %s", call,
                   status == EPX_OK ? "" : epx_last_error());
    (void)world_close(world);
}

/* Whatever stays for the rest of the process is there after this. */
static void warm_up(const struct rank *rank)
{
    struct world world = {0};
    struct campaign_trial calm = *rank->trial;
    struct random_source random = rank->random;
    const char *call = "create";
    calm.skew_us = 0;
    struct epx_token token;
    bool well = epx_token_create(&token) == EPX_OK && world_open(&world, &token, 1, 0, rank->trial) == EPX_OK &&
                world_prepare(&world, 1, 0) == EPX_OK;
    for (uint64_t round = 0; round < WARM_UP_ROUNDS && well; round++) {
        well = world_round(&world, &calm, &random, round, &call) == EPX_OK;
    }
    if (!well) {
        (void)fprintf(stderr, "campaign: rank %u, alone: %s\n", rank->number, epx_last_error());
        _exit(9);
    }
    (void)world_close(&world);
}

static void environment_set(const struct rank *rank)
{
    const struct campaign_trial *trial = rank->trial;
    char text[64];
    (void)snprintf(text, sizeof text, "%lld", (long long)trial->host_timeout_ms);
    (void)setenv("EPX_HOST_TIMEOUT", text, 1);
    (void)setenv("EPX_ARENA_MIB", "64", 1);
    (void)setenv("UCX_LOG_LEVEL", "fatal", 0);
    (void)setenv("EPX_LOG", trial->lack == CAMPAIGN_LACK_LOG ? "trace" : "error", 1);
    if (trial->host_count > 1) {
        (void)snprintf(text, sizeof text, "host-%c", 'a' + trial->host_of[rank->number]);
        (void)setenv("EPX_HOST_ID", text, 1);
        (void)setenv("EPX_ROOT", rank->board->root, 1);
    }
    if (trial->way == CAMPAIGN_WAY_POINT && campaign_is_victim(trial, rank->number)) {
        (void)snprintf(text, sizeof text, "%s:%u:%s", trial->point, trial->passage, trial->stops ? "stop" : "kill");
        (void)setenv("EPX_FAULT", text, 1);
    }
}

_Noreturn void campaign_rank_main(struct campaign_board *board, uint32_t number)
{
    struct rank rank = {.board = board, .trial = &board->trial, .report = &board->reports[number], .number = number};
    struct world world = {0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != board->parent) {
        _exit(1);
    }
    random_seed(&rank.random, random_mix(board->trial.seed, 1000 + number));
    environment_set(&rank);
    become_limited(&rank);
    if (board->trial.lack == CAMPAIGN_LACK_LOG) {
        int full = open("/dev/full", O_WRONLY);
        (void)dup2(full, STDERR_FILENO);
        (void)close(full);
    }
    bool counts = board->trial.counts_files && !campaign_is_victim(&board->trial, number) &&
                  board->trial.lack == CAMPAIGN_LACK_NONE;
    if (counts) {
        warm_up(&rank);
    }
    if (board->trial.link != CAMPAIGN_LINK_WHOLE) {
        campaign_relay_use(board, board->trial.host_of[number]);
    }
    int32_t files = count_entries("/proc/self/fd");
    int32_t threads = count_entries("/proc/self/task");
    live_first(&rank, &world);
    give_back(&rank);
    rank.report->files_more = counts ? count_entries("/proc/self/fd") - files : 0;
    rank.report->threads_more = counts ? count_entries("/proc/self/task") - threads : 0;
    atomic_store(&rank.report->ended, 1);
    while (atomic_load(&board->again) == 0) {
        campaign_sleep_us(1000);
    }
    if (board->again_ranks[number] != UINT32_MAX) {
        live_again(&rank, &world);
    }
    atomic_store(&rank.report->ended, 2);
    _exit(0);
}
