#include "run_job.h"

#include "run_input.h"
#include "run_output.h"
#include "run_ranks.h"
#include "run_start.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* Between two SIGKILLs: what a killed process had started comes to light when it is gone. */
#define KILL_AGAIN_NS 20000000

#define LIST_BYTES 256

enum phase { GOING, LINGERING, ASKED, KILLED };

struct job {
    const struct run_options *options;
    struct run_ranks ranks;
    struct run_output output;
    struct run_input input;
    struct run_start start;
    sigset_t signals_before;
    int signals; /* signalfd */
    struct pollfd *watched;
    enum phase phase;
    int64_t deadline_ns; /* of the phase; 0: none */
    int asked_with;      /* the signal that asked the ranks to end */
    int came;            /* the same, if it came from outside */
    uint32_t *ended;     /* room for the ranks that end between two looks */
    bool any_failed;
    bool broken;  /* what goes wrong from now on is a consequence */
    bool alone;   /* there is no process of the job any more */
    bool hurried; /* whoever waits for the rest of the output has given up */
    int status;
};

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- Phases --------------------------------------------------------------------------------------------------- */

static bool is_running(const struct run_rank *rank)
{
    return rank->pid > 0 && !rank->ended;
}

static bool has_failed(const struct run_rank *rank)
{
    return rank->failed;
}

static void linger(struct job *job)
{
    if (job->phase == GOING) {
        job->phase = LINGERING;
        job->deadline_ns = now_ns() + job->options->linger_ns;
    }
}

static void ask(struct job *job, int number)
{
    job->phase = ASKED;
    job->asked_with = number;
    job->deadline_ns = now_ns() + job->options->kill_after_ns;
    run_ranks_signal(&job->ranks, number);
    run_ranks_signal(&job->ranks, SIGCONT); /* who is stopped cannot end */
}

static void kill_all(struct job *job)
{
    job->phase = KILLED;
    job->deadline_ns = now_ns() + KILL_AGAIN_NS;
    run_ranks_signal(&job->ranks, SIGKILL);
}

static void say_killed(struct job *job)
{
    char list[LIST_BYTES];
    run_ranks_list(&job->ranks, is_running, list, sizeof list);
    if (list[0] != '\0') {
        run_output_say(&job->output, "SIGKILL to ranks %s: they have not ended %g s after SIG%s", list,
                       (double)job->options->kill_after_ns * 1e-9, sigabbrev_np(job->asked_with));
    }
}

static void say_timeout(struct job *job)
{
    char list[LIST_BYTES];
    run_ranks_list(&job->ranks, is_running, list, sizeof list);
    run_output_say(&job->output, "timeout: ranks %s have not ended after %g s", list,
                   (double)job->options->timeout_ns * 1e-9);
}

static void pass_deadline(struct job *job)
{
    if (job->deadline_ns == 0 || now_ns() < job->deadline_ns) {
        return;
    }
    switch (job->phase) {
    case GOING:
        say_timeout(job);
        job->status = job->status != 0 ? job->status : RUN_STATUS_TIMEOUT;
        ask(job, SIGTERM);
        break;
    case LINGERING: ask(job, SIGTERM); break;
    case ASKED:
        say_killed(job);
        kill_all(job);
        break;
    case KILLED: kill_all(job); break;
    }
}

/* ---- Ends of processes ---------------------------------------------------------------------------------------- */

static void say_failure(struct job *job, uint32_t index)
{
    const struct run_rank *rank = &job->ranks.ranks[index];
    const char *name = rank->signal != 0 ? sigabbrev_np(rank->signal) : NULL;
    if (rank->signal == 0) {
        run_output_say(&job->output, "rank %u (pid %d) ended with exit status %d", index, (int)rank->pid, rank->status);
    } else if (name != NULL) {
        run_output_say(&job->output, "rank %u (pid %d) was ended by SIG%s%s", index, (int)rank->pid, name,
                       rank->core_dumped ? " (core dumped)" : "");
    } else {
        run_output_say(&job->output, "rank %u (pid %d) was ended by signal %d%s", index, (int)rank->pid, rank->signal,
                       rank->core_dumped ? " (core dumped)" : "");
    }
}

/* A rank that never came to run the program: its exit status says nothing. One such failure ends the job. */
static void judge_starts(struct job *job)
{
    struct run_start_failure failure;
    while (run_start_failed(&job->start, &failure)) {
        if (job->broken) {
            continue;
        }
        job->broken = true;
        job->status = !failure.executing        ? RUN_STATUS_BROKEN
                      : failure.error == ENOENT ? RUN_STATUS_NOT_FOUND
                                                : RUN_STATUS_NOT_EXECUTABLE;
        if (failure.executing) {
            run_output_say(&job->output, "cannot execute '%s': %s", job->options->program[0], strerror(failure.error));
        } else {
            run_output_say(&job->output, "cannot prepare rank %u: %s", failure.rank, strerror(failure.error));
        }
        kill_all(job);
    }
}

static void judge_end(struct job *job, uint32_t index)
{
    struct run_rank *rank = &job->ranks.ranks[index];
    bool by_this = job->phase >= ASKED && (rank->signal == job->asked_with || rank->signal == SIGKILL);
    if (rank->status == 0 || job->broken) {
        return;
    }
    job->status = job->status != 0 ? job->status : rank->status;
    if (by_this && rank->signal != 0) {
        return;
    }
    if (!job->any_failed) {
        run_output_take(&job->output, index); /* its last words first */
        say_failure(job, index);
        job->any_failed = true;
        linger(job);
    } else {
        rank->failed = true;
    }
}

/* Of several that ended since the last look, one that a signal ended is the cause rather than the consequence. */
static void reap(struct job *job)
{
    uint32_t *ended = job->ended;
    uint32_t count = 0;
    enum run_reaped found = RUN_REAPED_OTHER;
    while (found == RUN_REAPED_OTHER || found == RUN_REAPED_RANK) {
        found = run_ranks_reap(&job->ranks, &ended[count]);
        count += found == RUN_REAPED_RANK;
    }
    judge_starts(job);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            if ((job->ranks.ranks[ended[i]].signal == 0) == (pass == 1)) {
                judge_end(job, ended[i]);
            }
        }
    }
    if (job->ranks.running == 0) {
        run_guard_retire(&job->ranks.guard); /* also when no rank could be started */
        linger(job);                         /* what ranks have started may still go on */
    }
    job->alone = found == RUN_REAPED_NOTHING;
}

/* ---- Signals to this program ---------------------------------------------------------------------------------- */

static void take_signal(struct job *job, int number)
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
        } else if (job->came == 0 && job->phase < KILLED) {
            job->came = number;
            ask(job, number);
        } else if (number == SIGINT) {
            kill_all(job);
        }
        break;
    }
}

static void take_signals(struct job *job)
{
    struct signalfd_siginfo info;
    while (read(job->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        take_signal(job, (int)info.ssi_signo);
    }
}

static bool open_signals(struct job *job)
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

static bool start_rank(struct job *job, uint32_t rank)
{
    int streams[3] = {rank == 0 ? job->input.rank_end : job->start.no_input, -1, -1};
    bool tag = job->options->tag;
    if (tag && !run_output_connect(&job->output, rank, &streams[1])) {
        return false;
    }
    pid_t pid = run_start_rank(&job->start, rank, streams);
    int error = errno;
    if (tag) {
        (void)close(streams[1]);
        (void)close(streams[2]);
    }
    if (pid < 0) {
        errno = error;
        return false;
    }
    run_ranks_add(&job->ranks, rank, pid);
    return true;
}

static void start_ranks(struct job *job)
{
    for (uint32_t i = 0; i < job->options->rank_count; i++) {
        if (!start_rank(job, i)) {
            run_output_say(&job->output, "cannot start rank %u: %s", i, strerror(errno));
            job->broken = true;
            job->status = RUN_STATUS_BROKEN;
            kill_all(job);
            break;
        }
    }
    if (job->input.rank_end >= 0) {
        (void)close(job->input.rank_end);
        job->input.rank_end = -1;
    }
}

static int poll_ms(const struct job *job)
{
    if (job->alone || job->deadline_ns == 0) {
        return -1;
    }
    int64_t left_ms = (job->deadline_ns - now_ns() + 999999) / 1000000;
    return left_ms < 0 ? 0 : left_ms < 3600000 ? (int)left_ms : 3600000;
}

static void wait_for_something(struct job *job)
{
    nfds_t count = 2 + run_output_watch_count(&job->output);
    job->watched[0] = (struct pollfd){.fd = job->signals, .events = POLLIN};
    run_input_watch(&job->input, &job->watched[1]);
    run_output_watch(&job->output, &job->watched[2]);
    if (poll(job->watched, count, poll_ms(job)) > 0) {
        run_input_move(&job->input, &job->watched[1]);
        run_output_move(&job->output, &job->watched[2]);
    }
    take_signals(job);
}

static void follow(struct job *job)
{
    for (;;) {
        if (!job->alone) {
            reap(job);
        }
        if (job->alone) {
            run_output_drain(&job->output);
            if (job->hurried || !run_output_pending(&job->output)) {
                return;
            }
        } else {
            pass_deadline(job);
        }
        wait_for_something(job);
    }
}

static void say_others(struct job *job)
{
    char list[LIST_BYTES];
    run_ranks_list(&job->ranks, has_failed, list, sizeof list);
    if (list[0] != '\0') {
        run_output_say(&job->output, "after it failed: ranks %s", list);
    }
}

static bool init(struct job *job)
{
    uint32_t rank_count = job->options->rank_count;
    job->ended = calloc((size_t)rank_count + 1, sizeof *job->ended);
    job->watched = calloc(2 + run_output_watch_count(&job->output), sizeof *job->watched);
    return job->ended != NULL && job->watched != NULL && open_signals(job) && run_ranks_init(&job->ranks, rank_count) &&
           run_input_init(&job->input) && run_start_init(&job->start);
}

static void fini(struct job *job)
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

struct run_result run_job_run(const struct run_options *options, const struct run_processors *processors)
{
    struct job job = {.options = options, .signals = -1};
    job.ranks.guard.life = job.input.relay = job.input.rank_end = -1;
    job.start = (struct run_start){.options = options,
                                   .processors = processors,
                                   .guard = &job.ranks.guard,
                                   .signals = &job.signals_before,
                                   .failures = {-1, -1},
                                   .no_input = -1};
    if (!run_output_init(&job.output, options->rank_count, options->tag) || !init(&job)) {
        run_output_say(&job.output, "cannot start %u ranks: %s", options->rank_count, strerror(errno));
        job.status = RUN_STATUS_BROKEN;
    } else {
        job.deadline_ns = options->timeout_ns > 0 ? now_ns() + options->timeout_ns : 0;
        start_ranks(&job);
        follow(&job);
        say_others(&job);
    }
    int error = run_output_finish(&job.output);
    if (error != 0 && job.status == 0) {
        (void)fprintf(stderr, "epx run: cannot write what the ranks have written: %s\n", strerror(error));
        job.status = RUN_STATUS_BROKEN;
    }
    fini(&job);
    return (struct run_result){.status = job.status, .signal = job.status == 128 + job.came ? job.came : 0};
}
