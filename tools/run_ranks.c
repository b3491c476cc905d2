#include "run_ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Room of one entry of a list, with what shows that it was cut. */
#define LIST_ITEM_BYTES 32

bool run_ranks_init(struct run_ranks *ranks, uint32_t count)
{
    *ranks = (struct run_ranks){.count = count, .guard = {.life = -1}};
    ranks->ranks = calloc(count, sizeof *ranks->ranks);
    return ranks->ranks != NULL && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && run_guard_init(&ranks->guard, count);
}

void run_ranks_fini(struct run_ranks *ranks)
{
    run_guard_fini(&ranks->guard);
    run_remotes_fini(&ranks->remotes);
    free(ranks->ranks);
}

void run_ranks_add(struct run_ranks *ranks, uint32_t rank, pid_t pid)
{
    ranks->ranks[rank].pid = pid;
    ranks->running++;
}

void run_ranks_add_remote(struct run_ranks *ranks, struct run_remote *remote, pid_t pid)
{
    remote->pid = pid;
    ranks->running++;
    for (uint32_t i = 0; i < remote->host->count; i++) {
        struct run_rank *rank = &ranks->ranks[remote->host->first + i];
        rank->pid = pid;
        rank->elsewhere = true;
    }
}

void run_ranks_note_end(struct run_ranks *ranks, uint32_t rank, struct run_rank end)
{
    end.elsewhere = true;
    end.ended = true;
    ranks->ranks[rank] = end;
}

static void note_end(struct run_ranks *ranks, uint32_t index, const siginfo_t *info)
{
    struct run_rank *rank = &ranks->ranks[index];
    rank->ended = true;
    rank->signal = info->si_code == CLD_EXITED ? 0 : info->si_status;
    rank->core_dumped = info->si_code == CLD_DUMPED;
    rank->status = rank->signal != 0 ? 128 + rank->signal : info->si_status;
    ranks->running--;
    run_guard_leave(&ranks->guard, index);
}

/* Whether it is the running process of a rank of this host. */
static bool is_process(const struct run_rank *rank, pid_t pid)
{
    return rank->pid == pid && !rank->elsewhere && !rank->ended;
}

static bool note_shell_end(struct run_ranks *ranks, const siginfo_t *info)
{
    for (uint32_t i = 0; i < ranks->remotes.count; i++) {
        struct run_remote *remote = &ranks->remotes.remotes[i];
        if (remote->pid == info->si_pid && !remote->ended) {
            remote->ended = true;
            remote->signal = info->si_code == CLD_EXITED ? 0 : info->si_status;
            remote->status = remote->signal != 0 ? 128 + remote->signal : info->si_status;
            ranks->running--;
            run_guard_leave(&ranks->guard, remote->host->first);
            return true;
        }
    }
    return false;
}

enum run_reaped run_ranks_reap(struct run_ranks *ranks, uint32_t *rank)
{
    siginfo_t info = {.si_pid = 0};
    /* Only looked at yet: until it is waited for below, nothing else can have its process id. */
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return errno == ECHILD ? RUN_REAPED_NOTHING : RUN_REAPED_NONE;
    }
    if (info.si_pid == 0) {
        return RUN_REAPED_NONE;
    }
    enum run_reaped found = RUN_REAPED_OTHER;
    bool is_shell = note_shell_end(ranks, &info);
    for (uint32_t i = 0; i < ranks->count && found == RUN_REAPED_OTHER && !is_shell; i++) {
        if (is_process(&ranks->ranks[i], info.si_pid)) {
            note_end(ranks, i, &info);
            *rank = i;
            found = RUN_REAPED_RANK;
        }
    }
    if (info.si_pid == ranks->guard.pid) {
        ranks->guard.pid = 0;
    }
    (void)waitpid(info.si_pid, NULL, 0);
    return found;
}

static bool is_running_rank(const struct run_ranks *ranks, pid_t pid)
{
    for (uint32_t i = 0; i < ranks->count; i++) {
        if (is_process(&ranks->ranks[i], pid)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < ranks->remotes.count; i++) {
        if (ranks->remotes.remotes[i].pid == pid && !ranks->remotes.remotes[i].ended) {
            return true;
        }
    }
    return false;
}

/* What is not a rank's own process came to this program when its parent ended. Nobody but this program waits for its
 * children, so none of these process ids can have passed to a stranger. */
static void signal_left(const struct run_ranks *ranks, int number)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(path, "re");
    int pid = 0;
    while (children != NULL && fscanf(children, "%d", &pid) == 1) {
        if (pid != ranks->guard.pid && !is_running_rank(ranks, pid)) {
            (void)kill(pid, number);
        }
    }
    if (children != NULL) {
        (void)fclose(children);
    }
}

void run_ranks_signal(const struct run_ranks *ranks, int number)
{
    for (uint32_t i = 0; i < ranks->count; i++) {
        const struct run_rank *rank = &ranks->ranks[i];
        if (rank->pid > 0 && !rank->elsewhere && !rank->ended) {
            (void)kill(-rank->pid, number);
        }
    }
    for (uint32_t i = 0; i < ranks->remotes.count; i++) {
        run_remote_signal(&ranks->remotes.remotes[i], number);
    }
    signal_left(ranks, number);
}

void run_ranks_list(const struct run_ranks *ranks, bool (*wanted)(const struct run_rank *), char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t first = 0; first < ranks->count; first++) {
        uint32_t last = first;
        if (!wanted(&ranks->ranks[first])) {
            continue;
        }
        while (last + 1 < ranks->count && wanted(&ranks->ranks[last + 1])) {
            last++;
        }
        const char *comma = used > 0 ? "," : "";
        if (bytes - used < LIST_ITEM_BYTES) {
            (void)snprintf(text + used, bytes - used, "%s...", comma);
            return;
        }
        int more = last > first ? snprintf(text + used, bytes - used, "%s%u-%u", comma, first, last)
                                : snprintf(text + used, bytes - used, "%s%u", comma, first);
        used += (size_t)more;
        first = last;
    }
}
