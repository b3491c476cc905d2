#include "run_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WHO_BYTES 384

/* Ranks notice the death of another one at once; so long may its report take to come from another host. */
#define REPORT_NS 300000000

/* "host b: ", or nothing when there is no list of hosts. */
static const char *where(const struct run_state *job, uint32_t index, char text[WHO_BYTES])
{
    const struct run_host *host = run_hosts_find(&job->options->hosts, index);
    text[0] = '\0';
    if (host != NULL) {
        (void)snprintf(text, WHO_BYTES, "host %.250s: ", host->name);
    }
    return text;
}

static void say_end(struct run_state *job, const char *who, const struct run_rank *end)
{
    const char *name = end->signal != 0 ? sigabbrev_np(end->signal) : NULL;
    const char *core = end->core_dumped ? " (core dumped)" : "";
    if (end->signal == 0) {
        run_output_say(&job->output, "%s ended with exit status %d", who, end->status);
    } else if (name != NULL) {
        run_output_say(&job->output, "%s was ended by SIG%s%s", who, name, core);
    } else {
        run_output_say(&job->output, "%s was ended by signal %d%s", who, end->signal, core);
    }
}

static void say_failure(struct run_state *job, uint32_t index)
{
    const struct run_rank *rank = &job->ranks.ranks[index];
    char who[WHO_BYTES];
    size_t used = strlen(where(job, index, who));
    (void)snprintf(who + used, sizeof who - used, "rank %u (pid %d)", index, (int)rank->pid);
    say_end(job, who, rank);
}

static void say_start_failure(struct run_state *job, const struct run_start_failure *failure, bool is_shell)
{
    char text[WHO_BYTES];
    const char *host = where(job, failure->rank, text);
    if (job->part != NULL) {
        run_output_report(&job->output, job->part->word, " cannot %u %d %d", job->options->first_rank + failure->rank,
                          failure->error, failure->executing);
    } else if (failure->executing) {
        run_output_say(&job->output, "%scannot execute '%s': %s", host,
                       is_shell ? job->ranks.remotes.words[0] : job->options->program[0], strerror(failure->error));
    } else {
        run_output_say(&job->output, "%scannot prepare rank %u: %s", host, failure->rank, strerror(failure->error));
    }
}

void run_judge_start(struct run_state *job, const struct run_start_failure *failure, bool is_shell)
{
    if (job->broken) {
        return;
    }
    job->broken = true;
    job->status = !failure->executing        ? RUN_STATUS_BROKEN
                  : failure->error == ENOENT ? RUN_STATUS_NOT_FOUND
                                             : RUN_STATUS_NOT_EXECUTABLE;
    say_start_failure(job, failure, is_shell);
    run_phase_kill(job);
}

void run_judge_starts(struct run_state *job)
{
    struct run_start_failure failure;
    while (run_start_failed(&job->start, &failure)) {
        run_judge_start(job, &failure, run_remotes_find(&job->ranks.remotes, failure.rank) != NULL);
    }
}

/* Those of a rank elsewhere have come before the report of its end. */
static void take_last_words(struct run_state *job, uint32_t index)
{
    if (!job->ranks.ranks[index].elsewhere) {
        (void)run_output_take(&job->output, index);
    }
}

static void report_end(struct run_state *job, uint32_t index)
{
    const struct run_rank *rank = &job->ranks.ranks[index];
    take_last_words(job, index);
    run_output_report(&job->output, job->part->word, " end %u %d %d %d %d", job->options->first_rank + index,
                      (int)rank->pid, rank->status, rank->signal, rank->core_dumped);
}

static void judge_end(struct run_state *job, uint32_t index)
{
    struct run_rank *rank = &job->ranks.ranks[index];
    bool by_this = job->phase >= RUN_ASKED && (rank->signal == job->asked_with || rank->signal == SIGKILL);
    if (job->part != NULL) {
        report_end(job, index);
    }
    if (rank->status == 0 || job->broken) {
        return;
    }
    job->status = job->status != 0 ? job->status : rank->status;
    if (by_this && rank->signal != 0) {
        return;
    }
    rank->failed = job->any_failed;
    job->any_failed = true;
    if (job->part != NULL) {
        return; /* whoever has the report decides how long the others may go on */
    }
    if (!rank->failed) {
        take_last_words(job, index);
        say_failure(job, index);
    }
    run_phase_linger(job);
}

/* The ranks that a remote shell had when it ended have failed with it. */
static void judge_shell(struct run_state *job, struct run_remote *remote)
{
    const struct run_host *host = remote->host;
    struct run_rank end = {.pid = remote->pid, .signal = remote->signal, .status = remote->status};
    bool by_this =
        job->phase >= RUN_ASKED && (end.signal == SIGKILL || end.signal == job->asked_with || !remote->ready);
    uint32_t left = 0;
    char who[WHO_BYTES];
    end.failed = job->any_failed && !by_this && !job->broken;
    for (uint32_t i = host->first; i < host->first + host->count; i++) {
        if (!job->ranks.ranks[i].ended) {
            run_ranks_note_end(&job->ranks, i, end);
            left++;
        }
    }
    if (left == 0 || job->broken) {
        return;
    }
    int status = by_this ? 128 + job->asked_with : end.status != 0 ? end.status : RUN_STATUS_BROKEN;
    job->status = job->status != 0 ? job->status : status;
    if (!by_this && !job->any_failed) {
        (void)snprintf(who, sizeof who, "host %.250s: the remote shell of ranks %u-%u (pid %d)", host->name,
                       host->first, host->first + host->count - 1, (int)remote->pid);
        say_end(job, who, &end);
    }
    if (!by_this) {
        job->any_failed = true;
        run_phase_linger(job);
    }
}

/* Whether what has ended so far may be the consequence of something that is not known yet. */
static bool is_cause_awaited(struct run_state *job)
{
    bool any = false;
    if (job->part != NULL || job->ranks.remotes.count == 0 || job->any_failed || job->broken || job->alone ||
        job->phase >= RUN_ASKED) {
        return false;
    }
    for (uint32_t i = 0; i < job->ended_count; i++) {
        const struct run_rank *rank = &job->ranks.ranks[job->ended[i]];
        if (rank->signal != 0) {
            return false;
        }
        any = any || rank->status != 0;
    }
    if (any && job->verdict_ns == 0) {
        job->verdict_ns = run_now_ns() + REPORT_NS;
    }
    return any && run_now_ns() < job->verdict_ns;
}

static void judge_ranks(struct run_state *job, bool by_signal)
{
    for (uint32_t i = 0; i < job->ended_count; i++) {
        if ((job->ranks.ranks[job->ended[i]].signal != 0) == by_signal) {
            judge_end(job, job->ended[i]);
        }
    }
}

/* A shell that has ended is judged when all that it has said is known. */
static void hear_shells(struct run_state *job)
{
    for (uint32_t i = 0; i < job->ranks.remotes.count; i++) {
        struct run_remote *remote = &job->ranks.remotes.remotes[i];
        remote->heard = remote->ended && run_output_take(&job->output, remote->host->first);
    }
}

/* Of several that ended since the last look, one that a signal ended is the cause rather than the consequence, and then
 * a host that is gone. */
void run_judge_ends(struct run_state *job)
{
    hear_shells(job);
    if (is_cause_awaited(job)) {
        return;
    }
    job->verdict_ns = 0;
    judge_ranks(job, true);
    for (uint32_t i = 0; i < job->ranks.remotes.count; i++) {
        struct run_remote *remote = &job->ranks.remotes.remotes[i];
        if (remote->heard && !remote->settled) {
            remote->settled = true;
            judge_shell(job, remote);
        }
    }
    judge_ranks(job, false);
    job->ended_count = 0;
}

void run_judge_hear(void *context, uint32_t rank, const char *report)
{
    struct run_state *job = context;
    struct run_remote *remote = run_remotes_find(&job->ranks.remotes, rank);
    struct run_start_failure failure = {0};
    struct run_rank end = {0};
    uint32_t index = 0;
    int yes = 0;
    if (strcmp(report, " ready") == 0) {
        remote->ready = true;
    } else if (strcmp(report, " done") == 0) {
        run_remote_let_go(remote);
    } else if (sscanf(report, " end %u %d %d %d %d", &index, &end.pid, &end.status, &end.signal, &yes) == 5 &&
               run_remotes_find(&job->ranks.remotes, index) == remote && !job->ranks.ranks[index].ended) {
        end.core_dumped = yes != 0;
        run_ranks_note_end(&job->ranks, index, end);
        job->ended[job->ended_count++] = index;
    } else if (sscanf(report, " cannot %u %d %d", &failure.rank, &failure.error, &yes) == 3 &&
               run_remotes_find(&job->ranks.remotes, failure.rank) == remote) {
        failure.executing = yes != 0;
        run_judge_start(job, &failure, false);
    }
}

static bool has_failed(const struct run_rank *rank)
{
    return rank->failed;
}

void run_judge_others(struct run_state *job)
{
    char list[RUN_LIST_BYTES];
    run_ranks_list(&job->ranks, has_failed, list, sizeof list);
    if (list[0] != '\0' && job->part == NULL) {
        run_output_say(&job->output, "after it failed: ranks %s", list);
    }
}
