#include "run_state.h"

#include <string.h>
#include <time.h>

/* Between two SIGKILLs: what a killed process had started comes to light when it is gone. */
#define KILL_AGAIN_NS 20000000

/* After SIGKILL to the ranks of another host: time for its last words. */
#define SHELL_LAST_NS 3000000000

int64_t run_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool is_running(const struct run_rank *rank)
{
    return rank->pid > 0 && !rank->ended;
}

void run_phase_linger(struct run_state *job)
{
    if (job->phase == RUN_GOING) {
        job->phase = RUN_LINGERING;
        job->deadline_ns = run_now_ns() + job->options->linger_ns;
    }
}

void run_phase_ask(struct run_state *job, int number)
{
    job->phase = RUN_ASKED;
    job->asked_with = number;
    job->deadline_ns = run_now_ns() + job->options->kill_after_ns;
    run_ranks_signal(&job->ranks, number);
    run_ranks_signal(&job->ranks, SIGCONT); /* who is stopped cannot end */
}

void run_phase_kill(struct run_state *job)
{
    job->killed_ns = job->phase == RUN_KILLED ? job->killed_ns : run_now_ns();
    job->phase = RUN_KILLED;
    job->deadline_ns = run_now_ns() + KILL_AGAIN_NS;
    run_ranks_signal(&job->ranks, SIGKILL);
    run_remotes_kill(&job->ranks.remotes, run_now_ns() - job->killed_ns > SHELL_LAST_NS);
}

static void say_killed(struct run_state *job)
{
    char list[RUN_LIST_BYTES];
    run_ranks_list(&job->ranks, is_running, list, sizeof list);
    if (list[0] != '\0' && job->part == NULL) {
        run_output_say(&job->output, "SIGKILL to ranks %s: they have not ended %g s after SIG%s", list,
                       (double)job->options->kill_after_ns * 1e-9, sigabbrev_np(job->asked_with));
    }
}

static void say_timeout(struct run_state *job)
{
    char list[RUN_LIST_BYTES];
    run_ranks_list(&job->ranks, is_running, list, sizeof list);
    run_output_say(&job->output, "timeout: ranks %s have not ended after %g s", list,
                   (double)job->options->timeout_ns * 1e-9);
}

void run_phase_pass(struct run_state *job)
{
    if (job->deadline_ns == 0 || run_now_ns() < job->deadline_ns) {
        return;
    }
    switch (job->phase) {
    case RUN_GOING:
        say_timeout(job);
        job->status = job->status != 0 ? job->status : RUN_STATUS_TIMEOUT;
        run_phase_ask(job, SIGTERM);
        break;
    case RUN_LINGERING: run_phase_ask(job, SIGTERM); break;
    case RUN_ASKED:
        say_killed(job);
        run_phase_kill(job);
        break;
    case RUN_KILLED: run_phase_kill(job); break;
    }
}
