#include "run_job.h"

#include "run_state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Whoever holds the leash of a part says itself when its ranks are to be killed; should that not come, so much later.
 */
#define PART_MARGIN_NS 5000000000

static void reap(struct run_state *job)
{
    enum run_reaped found = RUN_REAPED_OTHER;
    while (found == RUN_REAPED_OTHER || found == RUN_REAPED_RANK) {
        found = run_ranks_reap(&job->ranks, &job->ended[job->ended_count]);
        job->ended_count += found == RUN_REAPED_RANK;
    }
    run_judge_starts(job);
    run_judge_ends(job);
    if (job->ranks.running == 0) {
        run_guard_retire(&job->ranks.guard); /* also when no rank could be started */
        run_phase_linger(job);               /* what ranks have started may still go on */
    }
    job->alone = found == RUN_REAPED_NOTHING;
}

/* What is asked of a part. */
static void obey(struct run_state *job, int number)
{
    switch (number) {
    case SIGTSTP:
    case SIGCONT:
    case SIGUSR1:
    case SIGUSR2: run_ranks_signal(&job->ranks, number); break;
    case SIGINT:
    case SIGTERM:
    case SIGHUP:
    case SIGQUIT:
        job->hurried = job->hurried || job->alone;
        if (!job->alone && job->phase < RUN_KILLED) {
            run_phase_ask(job, number);
            job->deadline_ns += job->part->cut ? 0 : PART_MARGIN_NS;
        }
        break;
    case SIGKILL: run_phase_kill(job); break;
    default: break;
    }
}

/* ---- Signals to this program ---------------------------------------------------------------------------------- */

static void take_signal(struct run_state *job, int number)
{
    switch (number) {
    case SIGCHLD: break;
    case SIGTSTP:
        run_ranks_signal(&job->ranks, SIGTSTP);
        (void)raise(SIGSTOP);
        break;
    case SIGCONT:
    case SIGUSR1:
    case SIGUSR2: run_ranks_signal(&job->ranks, number); break;
    default:
        if (job->alone) {
            job->hurried = true;
        } else if (job->came == 0 && job->phase < RUN_KILLED) {
            job->came = number;
            run_phase_ask(job, number);
        } else if (number == SIGINT) {
            run_phase_kill(job);
        }
        break;
    }
}

static void take_signals(struct run_state *job)
{
    struct signalfd_siginfo info;
    while (read(job->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        take_signal(job, (int)info.ssi_signo);
    }
}

static bool open_signals(struct run_state *job)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action;
        bool may_be_ignored = numbers[i] == SIGHUP || numbers[i] == SIGTSTP; /* nohup; a shell without job control */
        if (may_be_ignored && sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN) {
            continue;
        }
        (void)signal(numbers[i], SIG_DFL);
        (void)sigaddset(&set, numbers[i]);
    }
    if (sigprocmask(SIG_BLOCK, &set, &job->signals_before) != 0) {
        return false;
    }
    job->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return job->signals >= 0;
}

/* ---- Course --------------------------------------------------------------------------------------------------- */

static void close_both(const int ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            (void)close(ends[i]);
        }
    }
}

static bool start_remote(struct run_state *job, struct run_remote *remote)
{
    struct run_remotes *remotes = &job->ranks.remotes;
    int streams[3] = {-1, -1, -1};
    if (!run_remote_leash(remote, remotes, &streams[0])) {
        return false;
    }
    bool connected =
        run_output_connect_shell(&job->output, remote->host->first, job->options->tag, remotes->word, &streams[1]);
    pid_t pid = connected ? run_start_remote(&job->start, remote, remotes, streams) : -1;
    int error = errno;
    (void)close(streams[0]);
    close_both(&streams[1]);
    if (pid > 0) {
        run_ranks_add_remote(&job->ranks, remote, pid);
    }
    errno = error;
    return pid > 0;
}

static bool start_rank(struct run_state *job, uint32_t rank)
{
    bool has_input = rank == 0 && job->part == NULL;
    int streams[3] = {has_input ? job->input.rank_end : job->start.no_input, -1, -1};
    if (job->options->tag && !run_output_connect(&job->output, rank, &streams[1])) {
        return false;
    }
    pid_t pid = run_start_rank(&job->start, rank, streams);
    int error = errno;
    close_both(&streams[1]);
    if (pid > 0) {
        run_ranks_add(&job->ranks, rank, pid);
    }
    errno = error;
    return pid > 0;
}

static void start_ranks(struct run_state *job)
{
    for (uint32_t i = 0; i < job->options->rank_count; i++) {
        struct run_remote *remote = run_remotes_find(&job->ranks.remotes, i);
        if (remote == NULL ? !start_rank(job, i) : i == remote->host->first && !start_remote(job, remote)) {
            struct run_start_failure failure = {.rank = i, .error = errno};
            run_judge_start(job, &failure, remote != NULL);
            break;
        }
    }
    if (job->input.rank_end >= 0) {
        (void)close(job->input.rank_end);
        job->input.rank_end = -1;
    }
}

static int poll_ms(const struct run_state *job)
{
    int64_t until_ns = job->deadline_ns;
    if (job->verdict_ns != 0 && (until_ns == 0 || job->verdict_ns < until_ns)) {
        until_ns = job->verdict_ns;
    }
    if (job->alone || until_ns == 0) {
        return -1;
    }
    int64_t left_ms = (until_ns - run_now_ns() + 999999) / 1000000;
    return left_ms < 0 ? 0 : left_ms < 3600000 ? (int)left_ms : 3600000;
}

static void wait_for_something(struct run_state *job)
{
    nfds_t count = 2 + run_output_watch_count(&job->output);
    job->watched[0] = (struct pollfd){.fd = job->signals, .events = POLLIN};
    if (job->part != NULL) {
        run_part_watch(job->part, &job->watched[1]);
    } else {
        run_input_watch(&job->input, &job->watched[1]);
    }
    run_output_watch(&job->output, &job->watched[2]);
    if (poll(job->watched, count, poll_ms(job)) > 0) {
        if (job->part != NULL) {
            obey(job, run_part_heard(job->part, &job->watched[1]));
        } else {
            run_input_move(&job->input, &job->watched[1]);
        }
        run_output_move(&job->output, &job->watched[2]);
    }
    take_signals(job);
}

static void follow(struct run_state *job)
{
    for (;;) {
        if (!job->alone) {
            reap(job);
        }
        if (job->alone) {
            run_output_drain(&job->output);
            run_judge_ends(job);
            if (job->hurried || !run_output_pending(&job->output)) {
                return;
            }
        } else {
            run_phase_pass(job);
        }
        wait_for_something(job);
    }
}

/* Only a rank 0 of this host has this program's input. */
static bool init_input(struct run_state *job)
{
    const struct run_host *host = run_hosts_find(&job->options->hosts, 0);
    return job->part != NULL || (host != NULL && !host->here) || run_input_init(&job->input);
}

static bool init(struct run_state *job)
{
    const struct run_options *options = job->options;
    uint32_t rank_count = options->rank_count;
    bool piped = options->tag || options->hosts.count > 0;
    if (!run_output_init(&job->output, options->first_rank, rank_count, piped)) {
        return false;
    }
    job->output.told = run_judge_hear;
    job->output.context = job;
    job->ended = calloc((size_t)rank_count + 1, sizeof *job->ended);
    job->watched = calloc(2 + run_output_watch_count(&job->output), sizeof *job->watched);
    return job->ended != NULL && job->watched != NULL && open_signals(job) && run_ranks_init(&job->ranks, rank_count) &&
           init_input(job) && run_start_init(&job->start) &&
           run_remotes_init(&job->ranks.remotes, options, job->start.job);
}

static void fini(struct run_state *job)
{
    run_start_fini(&job->start);
    run_input_fini(&job->input);
    run_ranks_fini(&job->ranks);
    run_output_fini(&job->output);
    if (job->signals >= 0) {
        (void)close(job->signals);
    }
    free(job->watched);
    free(job->ended);
}

struct run_result run_job_run(const struct run_options *options, const struct run_processors *processors,
                              struct run_part *part)
{
    struct run_state job = {.options = options, .part = part, .signals = -1};
    job.ranks.guard.life = job.input.relay = job.input.rank_end = -1;
    job.start = (struct run_start){.options = options,
                                   .processors = processors,
                                   .guard = &job.ranks.guard,
                                   .signals = &job.signals_before,
                                   .failures = {-1, -1},
                                   .no_input = -1};
    if (!init(&job)) {
        run_output_say(&job.output, "cannot start %u ranks: %s", options->rank_count, strerror(errno));
        job.status = RUN_STATUS_BROKEN;
    } else {
        job.deadline_ns = options->timeout_ns > 0 ? run_now_ns() + options->timeout_ns : 0;
        if (part != NULL) {
            run_output_report(&job.output, part->word, " ready");
        }
        start_ranks(&job);
        follow(&job);
        run_judge_others(&job);
        if (part != NULL) {
            run_output_report(&job.output, part->word, " done");
        }
    }
    int error = run_output_finish(&job.output);
    if (error != 0 && job.status == 0) {
        (void)fprintf(stderr, "epx run: cannot write what the ranks have written: %s\n", strerror(error));
        job.status = RUN_STATUS_BROKEN;
    }
    fini(&job);
    return (struct run_result){.status = job.status, .signal = job.status == 128 + job.came ? job.came : 0};
}
