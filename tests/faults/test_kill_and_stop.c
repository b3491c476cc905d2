/*
 * Ranks that are killed or stopped at every named step of dispatch and combine: who notices, how soon, whom they name,
 * and that nothing is left behind. Ranks are processes; the victim stays a zombie until all others have ended.
 */
#include "epx/epx.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RANK_COUNT      4
#define ROUND_COUNT     6
#define TOKEN_COUNT     6
#define HIDDEN          96
#define TOPK            3
#define EXPERT_COUNT    8
#define ROW_MAX         (RANK_COUNT * TOKEN_COUNT * 2)
#define STOP_TIMEOUT_MS 400
#define LIMIT_MS        20000

struct rank_result {
    int status; /* of the operation that failed, EPX_OK when none did */
    char text[512];
    uint64_t ended_ns; /* when the failure was returned */
    int reused_memory_changed;
    _Atomic int ended;
};

struct board {
    struct rank_result ranks[RANK_COUNT];
    struct epx_token token;
    _Atomic int victim_ended;
};

struct trial {
    const char *point;
    const char *action;
    int passage;
    int victim;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_ms(int64_t ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&span, &span) != 0 && errno == EINTR) {
    }
}

struct tensors {
    uint16_t *x, *expand_x, *out;
    int32_t *ids, *expand_idx, *counts;
    float *weights;
    int64_t *token_nums;
};

static void *get(size_t bytes)
{
    void *memory = NULL;
    if (epx_memory_alloc(bytes, &memory) != EPX_OK) {
        (void)fprintf(stderr, "test: %s\n", epx_last_error());
        _exit(9);
    }
    return memory;
}

static void tensors_make(struct tensors *tensors, int rank)
{
    tensors->x = get(TOKEN_COUNT * HIDDEN * 2);
    tensors->ids = get(TOKEN_COUNT * TOPK * 4);
    tensors->weights = get(TOKEN_COUNT * TOPK * 4);
    tensors->expand_x = get(ROW_MAX * HIDDEN * 2);
    tensors->expand_idx = get(TOKEN_COUNT * TOPK * 4);
    tensors->token_nums = get(EXPERT_COUNT / RANK_COUNT * 8);
    tensors->counts = get(RANK_COUNT * (EXPERT_COUNT / RANK_COUNT) * 4);
    tensors->out = get(TOKEN_COUNT * HIDDEN * 2);
    for (int i = 0; i < TOKEN_COUNT * HIDDEN; i++) {
        tensors->x[i] = (uint16_t)(0x3F80 + (i * 7 + rank) % 64);
    }
    for (int i = 0; i < TOKEN_COUNT * TOPK; i++) {
        tensors->ids[i] = (i * 3 + rank) % EXPERT_COUNT;
        tensors->weights[i] = 0.25f;
    }
}

static enum epx_status run_rounds(struct epx_plan *plan, const struct tensors *tensors, const struct trial *trial,
                                  int rank)
{
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    dispatch.token_count = combine.token_count = TOKEN_COUNT;
    dispatch.x = tensors->x;
    dispatch.expert_ids = combine.expert_ids = tensors->ids;
    dispatch.expand_x = tensors->expand_x;
    combine.expand_x = tensors->expand_x;
    dispatch.expand_idx = tensors->expand_idx;
    combine.expand_idx = tensors->expand_idx;
    dispatch.expert_token_nums = tensors->token_nums;
    dispatch.ep_recv_counts = tensors->counts;
    combine.ep_send_counts = tensors->counts;
    combine.expert_scales = tensors->weights;
    combine.x = tensors->out;
    /* Points that only the last, or only a waiting rank comes by: make the victim that one. */
    bool late = (strcmp(trial->point, "round.last") == 0) == (rank == trial->victim);
    for (int round = 0; round < ROUND_COUNT; round++) {
        if (late) {
            sleep_ms(25);
        }
        enum epx_status status = epx_dispatch(plan, &dispatch);
        if (status == EPX_OK) {
            status = epx_combine(plan, &combine);
        }
        if (status != EPX_OK) {
            return status;
        }
    }
    return EPX_OK;
}

/* After a failure: the freed memory gets new content, which a victim that wakes later must not change. */
static int reuse_memory(struct board *board, struct tensors *tensors)
{
    (void)epx_memory_free(tensors->expand_x);
    (void)epx_memory_free(tensors->out);
    (void)epx_memory_free(tensors->x);
    size_t bytes = ROW_MAX * HIDDEN * 2;
    unsigned char *fresh = get(bytes);
    memset(fresh, 0xA5, bytes);
    uint64_t limit_ns = now_ns() + (uint64_t)LIMIT_MS * 1000000u;
    while (atomic_load(&board->victim_ended) == 0 && now_ns() < limit_ns) {
        sleep_ms(2);
    }
    for (size_t i = 0; i < bytes; i++) {
        if (fresh[i] != 0xA5) {
            return 1;
        }
    }
    return 0;
}

static int rank_main(struct board *board, const struct trial *trial, int rank)
{
    struct rank_result *mine = &board->ranks[rank];
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    struct epx_communicator *comm = NULL;
    struct epx_plan *plan = NULL;
    struct tensors tensors;
    char fault[64];
    char victim[16];
    (void)snprintf(fault, sizeof fault, "%s:%d:%s", trial->point, trial->passage, trial->action);
    (void)snprintf(victim, sizeof victim, "%d", trial->victim);
    (void)setenv("EPX_FAULT", fault, 1);
    (void)setenv("EPX_FAULT_RANK", victim, 1);
    config.join_timeout_ms = LIMIT_MS;
    config.op_timeout_ms = strcmp(trial->action, "stop") == 0 ? STOP_TIMEOUT_MS : LIMIT_MS;
    moe.expert_count = EXPERT_COUNT;
    moe.hidden_elems = HIDDEN;
    moe.topk = TOPK;
    moe.token_max = TOKEN_COUNT;
    moe.recv_row_max = ROW_MAX;
    if (epx_comm_create_from_token(&board->token, RANK_COUNT, (uint32_t)rank, &config, &comm) != EPX_OK ||
        epx_plan_create(comm, &moe, &plan) != EPX_OK) {
        (void)fprintf(stderr, "test: rank %d: %s\n", rank, epx_last_error());
        return 9;
    }
    tensors_make(&tensors, rank);
    mine->status = (int)run_rounds(plan, &tensors, trial, rank);
    mine->ended_ns = now_ns();
    (void)snprintf(mine->text, sizeof mine->text, "%s", epx_last_error());
    atomic_store(&mine->ended, 1);
    epx_plan_destroy(plan);
    if (mine->status != EPX_OK && rank != trial->victim) {
        mine->reused_memory_changed = reuse_memory(board, &tensors);
    }
    return epx_comm_destroy(comm) == EPX_OK ? 0 : 8;
}

static int count_names(const char *folder, const char *prefix)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count;
}

static bool wait_for(pid_t pid, int options, siginfo_t *info)
{
    uint64_t limit_ns = now_ns() + (uint64_t)LIMIT_MS * 1000000u;
    do {
        info->si_pid = 0;
        if (waitid(P_PID, (id_t)pid, info, options | WNOHANG) == 0 && info->si_pid == pid) {
            return true;
        }
        sleep_ms(1);
    } while (now_ns() < limit_ns);
    return false;
}

static bool is_killed(const siginfo_t *info)
{
    return info->si_code == CLD_KILLED && info->si_status == SIGKILL;
}

struct outcome {
    bool victim_hit; /* the fault's point was reached */
    uint64_t hit_ns;
};

/* Follows the victim until it has died, stopped or ended unharmed. */
static void watch_victim(pid_t pid, struct outcome *outcome)
{
    siginfo_t info = {0};
    assert_true(wait_for(pid, WEXITED | WSTOPPED | WNOWAIT, &info));
    outcome->hit_ns = now_ns();
    outcome->victim_hit = is_killed(&info) || info.si_code == CLD_STOPPED;
}

static void check_survivor(const struct trial *trial, const struct outcome *outcome, const struct rank_result *result,
                           int rank)
{
    char name[16];
    (void)snprintf(name, sizeof name, "rank %d", trial->victim);
    bool stopped = strcmp(trial->action, "stop") == 0;
    int expected = !outcome->victim_hit ? EPX_OK : stopped ? EPX_ERR_TIMEOUT : EPX_ERR_PEER_DEAD;
    double after_ms = ((double)result->ended_ns - (double)outcome->hit_ns) / 1e6;
    double limit_ms = stopped ? 1000.0 + STOP_TIMEOUT_MS : 1000.0;
    /* The victim may be hit after the last step that anybody waits for. */
    bool too_late = result->status == EPX_OK;
    if (!too_late && (result->status != expected || strstr(result->text, name) == NULL || after_ms > limit_ms)) {
        fail_msg("%s:%d:%s of rank %d: rank %d has status %d after %.0f ms: %s", trial->point, trial->passage,
                 trial->action, trial->victim, rank, result->status, after_ms, result->text);
    }
    assert_int_equal(result->reused_memory_changed, 0);
}

static int run_trial(const struct trial *trial)
{
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[RANK_COUNT];
    struct outcome outcome = {0};
    siginfo_t info = {0};
    int hit_ranks = 0;
    assert_true(board != MAP_FAILED);
    assert_int_equal(epx_token_create(&board->token), EPX_OK);
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        pids[rank] = fork();
        assert_true(pids[rank] >= 0);
        if (pids[rank] == 0) {
            _exit(rank_main(board, trial, rank));
        }
    }
    watch_victim(pids[trial->victim], &outcome);
    /* All survivors must have got their answer while the victim is still stopped, or a zombie. */
    uint64_t limit_ns = now_ns() + (uint64_t)LIMIT_MS * 1000000u;
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        while (rank != trial->victim && atomic_load(&board->ranks[rank].ended) == 0) {
            assert_true(now_ns() < limit_ns);
            sleep_ms(1);
        }
    }
    if (outcome.victim_hit && strcmp(trial->action, "stop") == 0) {
        assert_int_equal(kill(pids[trial->victim], SIGCONT), 0);
        assert_true(wait_for(pids[trial->victim], WEXITED | WNOWAIT, &info));
        /* Woken, it learns what the others decided. */
        if (board->ranks[(trial->victim + 1) % RANK_COUNT].status != EPX_OK) {
            assert_int_equal(board->ranks[trial->victim].status, EPX_ERR_TIMEOUT);
        }
    }
    atomic_store(&board->victim_ended, 1);
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        assert_true(wait_for(pids[rank], WEXITED, &info));
        if (rank != trial->victim) {
            assert_int_equal(info.si_code, CLD_EXITED);
            assert_int_equal(info.si_status, 0);
            check_survivor(trial, &outcome, &board->ranks[rank], rank);
            hit_ranks += board->ranks[rank].status != EPX_OK;
        }
    }
    (void)munmap(board, sizeof *board);
    return outcome.victim_hit && hit_ranks == RANK_COUNT - 1;
}

static const char *const points[] = {"round.begin", "round.publish",  "round.arrive",  "round.last",  "round.wait",
                                     "round.done",  "dispatch.route", "dispatch.rows", "combine.rows"};

static void run_campaign(const char *action)
{
    int hits = 0;
    int trials = 0;
    const char *seed_text = getenv("EPX_TEST_SEED");
    unsigned seed = seed_text != NULL ? (unsigned)atoi(seed_text) : (unsigned)(now_ns() / 1000u);
    print_message("EPX_TEST_SEED=%u\n", seed);
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        int point_hits = 0;
        for (int victim = 0; victim < RANK_COUNT; victim++) {
            struct trial trial = {points[i], action, 1 + (int)(rand_r(&seed) % 5), victim};
            point_hits += run_trial(&trial);
            trials++;
        }
        print_message("%-16s %s: %d of %d trials hit\n", points[i], action, point_hits, RANK_COUNT);
        assert_true(point_hits > 0);
        hits += point_hits;
    }
    print_message("%d trials, %d in which all others reported the victim\n", trials, hits);
}

static void kill_at_each_step__all_others_name_the_victim(void **state)
{
    (void)state;
    run_campaign("kill");
}

static void stop_at_each_step__others_time_out_and_the_woken_rank_harms_nobody(void **state)
{
    (void)state;
    run_campaign("stop");
}

static int count_own_sockets(void)
{
    char line[512];
    char target[64];
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (atoi(entry->d_name) <= STDERR_FILENO) {
            continue; /* the standard streams may be anything */
        }
        (void)snprintf(line, sizeof line, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(line, target, sizeof target - 1);
        count += length > 7 && strncmp(target, "socket:", 7) == 0;
    }
    (void)closedir(dir);
    return count;
}

static int count_children(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? 1 : 0;
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    assert_int_equal(count_names("/dev/shm", "epx"), 0);
    assert_int_equal(count_own_sockets(), 0);
    assert_int_equal(count_children(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_at_each_step__all_others_name_the_victim),
        cmocka_unit_test(stop_at_each_step__others_time_out_and_the_woken_rank_harms_nobody),
        cmocka_unit_test(nothing_is_left_behind),
    };
#ifdef EPX_FAULTS
    return cmocka_run_group_tests(tests, NULL, NULL);
#else
    (void)tests;
    (void)fprintf(stderr, "SKIPPED: built without fault points\n");
    return 77;
#endif
}
