/* Starts the ranks of a trial, does the harm, and waits: for the survivors, for their next world, for all to be gone.
 */
#include "faults/campaign.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT_COUNT 4u
/* A rank that went to its end while survivors meet again is waited for this long. */
#define LINK_PAUSE_US 600000u

struct processes {
    pid_t ranks[CAMPAIGN_RANK_MAX];
    uint32_t gone; /* reaped, a bit a rank */
    pid_t relay;
    pid_t load[8];
};

static pid_t start(void)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("campaign: fork");
        exit(2);
    }
    return pid;
}

static void keep_busy(pid_t parent)
{
    volatile unsigned long turns = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) {
        turns = turns + 1;
    }
    _exit(0);
}

/* Ports of loopback that nobody uses just now, in a row; a port that is taken is passed over by whoever listens. */
static void choose_root(char *root, size_t root_bytes)
{
    static uint32_t turn;
    uint32_t first = 20000u + ((uint32_t)getpid() * 37u + turn * PORT_COUNT) % 12000u;
    turn++;
    (void)snprintf(root, root_bytes, "127.0.0.1:%u-%u", first, first + PORT_COUNT - 1);
}

static bool is_survivor(const struct campaign_trial *trial, uint32_t rank)
{
    return trial->lack != CAMPAIGN_LACK_NONE || !campaign_is_victim(trial, rank);
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

static bool await_until(const _Atomic uint32_t *value, uint32_t wanted, uint64_t until_ns)
{
    while (atomic_load(value) < wanted) {
        if (campaign_now_ns() >= until_ns) {
            return false;
        }
        campaign_sleep_us(500);
    }
    return true;
}

/* Whether a rank has ended, by a signal or else; leaves it a zombie. */
static bool has_ended(pid_t pid, bool or_stopped, siginfo_t *info)
{
    *info = (siginfo_t){0};
    return waitid(P_PID, (id_t)pid, info, WEXITED | WNOHANG | WNOWAIT | (or_stopped ? WSTOPPED : 0)) == 0 &&
           info->si_pid == pid;
}

static void await_survivors(const struct campaign_board *board, const struct processes *processes, uint32_t stage,
                            struct campaign_outcome *outcome)
{
    uint64_t until_ns = campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000);
    siginfo_t info;
    for (uint32_t rank = 0; rank < board->trial.rank_count; rank++) {
        while (is_survivor(&board->trial, rank) && atomic_load(&board->reports[rank].ended) < stage) {
            if (has_ended(processes->ranks[rank], false, &info)) {
                outcome->crashed |= atomic_load(&board->reports[rank].ended) < stage ? 1u << rank : 0;
                break;
            }
            if (campaign_now_ns() >= until_ns) {
                outcome->hung |= 1u << rank;
                break;
            }
            campaign_sleep_us(500);
        }
    }
}

/* ---- Harm ----------------------------------------------------------------------------------------------------------
 */

/* Of ranks that hit themselves: until it has happened, or all of them have gone on to their end. */
static void watch_victims(const struct campaign_board *board, const struct processes *processes,
                          struct campaign_outcome *outcome)
{
    const struct campaign_trial *trial = &board->trial;
    uint64_t until_ns = campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000);
    uint32_t open = trial->victims;
    while (open != 0 && campaign_now_ns() < until_ns) {
        for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
            siginfo_t info;
            if ((open >> rank & 1u) == 0) {
                continue;
            }
            if (has_ended(processes->ranks[rank], true, &info)) {
                outcome->hit_ns = campaign_now_ns();
                outcome->hit |= info.si_code != CLD_EXITED ? 1u << rank : 0;
                open &= ~(1u << rank);
            } else if (atomic_load(&board->reports[rank].ended) != 0) {
                open &= ~(1u << rank);
            }
        }
        campaign_sleep_us(200);
    }
}

static void hit_from_outside(const struct campaign_board *board, const struct processes *processes,
                             struct campaign_outcome *outcome)
{
    const struct campaign_trial *trial = &board->trial;
    if (trial->way == CAMPAIGN_WAY_ROUNDS) {
        uint64_t until_ns = campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000);
        (void)await_until(&board->created, trial->rank_count, until_ns);
    }
    campaign_sleep_us(trial->delay_us);
    outcome->hit_ns = campaign_now_ns();
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        if (campaign_is_victim(trial, rank)) {
            (void)kill(processes->ranks[rank], trial->stops ? SIGSTOP : SIGKILL);
            outcome->hit |= 1u << rank;
        }
    }
}

static void harm_links(struct campaign_board *board, struct campaign_outcome *outcome)
{
    const struct campaign_trial *trial = &board->trial;
    uint64_t until_ns = campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000);
    (void)await_until(&board->created, trial->rank_count, until_ns);
    campaign_sleep_us(trial->delay_us);
    outcome->hit_ns = campaign_now_ns();
    if (trial->link == CAMPAIGN_LINK_CUT || trial->link == CAMPAIGN_LINK_BREAK) {
        atomic_store(&board->relay.mode, trial->link == CAMPAIGN_LINK_CUT ? CAMPAIGN_LINK_CUT : CAMPAIGN_LINK_WHOLE);
        (void)atomic_fetch_add(&board->relay.cuts, 1);
        return;
    }
    atomic_store(&board->relay.mode, trial->link);
    if (trial->link == CAMPAIGN_LINK_PAUSE) {
        campaign_sleep_us(LINK_PAUSE_US);
        atomic_store(&board->relay.mode, CAMPAIGN_LINK_WHOLE);
    }
}

static void do_harm(struct campaign_board *board, const struct processes *processes, struct campaign_outcome *outcome)
{
    if (board->trial.link != CAMPAIGN_LINK_WHOLE) {
        harm_links(board, outcome);
        return;
    }
    switch (board->trial.way) {
    case CAMPAIGN_WAY_CREATE:
    case CAMPAIGN_WAY_ROUNDS: hit_from_outside(board, processes, outcome); break;
    case CAMPAIGN_WAY_POINT:
    case CAMPAIGN_WAY_DESTROY: watch_victims(board, processes, outcome); break;
    default: break;
    }
}

static void wake_victims(const struct campaign_board *board, const struct processes *processes)
{
    for (uint32_t rank = 0; rank < board->trial.rank_count; rank++) {
        if (board->trial.stops && campaign_is_victim(&board->trial, rank)) {
            (void)kill(processes->ranks[rank], SIGCONT);
        }
    }
}

/* ---- The world of the survivors, and the end ------------------------------------------------------------------------
 */

static void survivors_meet(struct campaign_board *board, const struct processes *processes,
                           struct campaign_outcome *outcome)
{
    board->again_count = 0;
    for (uint32_t rank = 0; rank < CAMPAIGN_RANK_MAX; rank++) {
        bool meets = rank < board->trial.rank_count && is_survivor(&board->trial, rank) &&
                     ((outcome->hung | outcome->crashed) >> rank & 1u) == 0;
        board->again_ranks[rank] = meets ? board->again_count++ : UINT32_MAX;
    }
    choose_root(board->again_root, sizeof board->again_root);
    if (epx_token_create(&board->again_token) != EPX_OK) {
        (void)fprintf(stderr, "campaign: %s\n", epx_last_error());
        exit(2);
    }
    atomic_store(&board->relay.mode, CAMPAIGN_LINK_WHOLE);
    atomic_store(&board->again, 1);
    await_survivors(board, processes, 2, outcome);
}

static void reap(const struct campaign_trial *trial, struct processes *processes, struct campaign_outcome *outcome)
{
    uint64_t until_ns = campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000);
    for (uint32_t rank = 0; rank < trial->rank_count; rank++) {
        siginfo_t info;
        if ((outcome->hung >> rank & 1u) != 0) {
            (void)kill(processes->ranks[rank], SIGKILL);
        }
        while (!has_ended(processes->ranks[rank], false, &info)) {
            if (campaign_now_ns() >= until_ns) {
                outcome->hung |= 1u << rank;
                (void)kill(processes->ranks[rank], SIGKILL);
            }
            campaign_sleep_us(500);
        }
        bool was_killed = info.si_code == CLD_KILLED && info.si_status == SIGKILL;
        bool ended_well = info.si_code == CLD_EXITED && info.si_status == 0;
        bool may_be_killed = campaign_is_victim(trial, rank) && trial->lack == CAMPAIGN_LACK_NONE;
        if (!ended_well && !(was_killed && (may_be_killed || (outcome->hung >> rank & 1u) != 0))) {
            outcome->crashed |= 1u << rank;
        }
        (void)waitpid(processes->ranks[rank], NULL, 0);
    }
}

static void end_process(pid_t pid)
{
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
}

/* Children of children come to this process when their parent has ended; there must be none. */
static void look_for_remains(struct campaign_outcome *outcome)
{
    siginfo_t info = {0};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        (void)snprintf(outcome->left, sizeof outcome->left, "a process was left behind: pid %d", (int)info.si_pid);
    }
    DIR *folder = opendir("/dev/shm");
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (strncmp(entry->d_name, "epx", 3) == 0) {
            (void)snprintf(outcome->left, sizeof outcome->left, "left behind: /dev/shm/%.80s", entry->d_name);
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
}

void campaign_world_run(struct campaign_board *board, struct campaign_outcome *outcome)
{
    const struct campaign_trial *trial = &board->trial;
    struct processes processes = {0};
    *outcome = (struct campaign_outcome){0};
    board->parent = getpid();
    choose_root(board->root, sizeof board->root);
    if (trial->link != CAMPAIGN_LINK_WHOLE && (processes.relay = start()) == 0) {
        campaign_relay_main(board);
    }
    if (processes.relay != 0 &&
        !await_until(&board->relay.ready, 1, campaign_now_ns() + CAMPAIGN_LIMIT_MS * UINT64_C(1000000))) {
        (void)fprintf(stderr, "campaign: no relay\n");
        exit(2);
    }
    for (uint32_t i = 0; i < trial->load; i++) {
        if ((processes.load[i] = start()) == 0) {
            keep_busy(board->parent);
        }
    }
    for (uint32_t i = 0; i < trial->rank_count; i++) {
        uint32_t rank = (i + (uint32_t)(trial->seed >> 8)) % trial->rank_count;
        if ((processes.ranks[rank] = start()) == 0) {
            campaign_rank_main(board, rank);
        }
    }
    do_harm(board, &processes, outcome);
    await_survivors(board, &processes, 1, outcome);
    if (trial->wakes_early) {
        wake_victims(board, &processes);
    }
    survivors_meet(board, &processes, outcome);
    wake_victims(board, &processes);
    reap(trial, &processes, outcome);
    end_process(processes.relay);
    for (uint32_t i = 0; i < trial->load; i++) {
        end_process(processes.load[i]);
    }
    look_for_remains(outcome);
}
