/* The state of a job, and what its phases and the ends of its processes do to it: of run_job.c alone. */
#ifndef EPX_TOOLS_RUN_STATE_H
#define EPX_TOOLS_RUN_STATE_H

#include "run_input.h"
#include "run_job.h"
#include "run_options.h"
#include "run_output.h"
#include "run_part.h"
#include "run_ranks.h"
#include "run_start.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define RUN_LIST_BYTES 256

enum run_phase { RUN_GOING, RUN_LINGERING, RUN_ASKED, RUN_KILLED };

struct run_state {
    const struct run_options *options;
    struct run_part *part; /* null: this is the whole job */
    struct run_ranks ranks;
    struct run_output output;
    struct run_input input;
    struct run_start start;
    sigset_t signals_before;
    int signals; /* signalfd */
    struct pollfd *watched;
    enum run_phase phase;
    int64_t deadline_ns; /* of the phase; 0: none */
    int asked_with;      /* the signal that asked the ranks to end */
    int came;            /* the same, if it came from outside */
    int64_t killed_ns;   /* when the last phase began */
    uint32_t *ended;     /* the ranks that end between two looks */
    uint32_t ended_count;
    int64_t verdict_ns; /* they wait until then for a cause that another host may report; 0: they do not */
    bool any_failed;
    bool broken;  /* what goes wrong from now on is a consequence */
    bool alone;   /* there is no process of the job any more */
    bool hurried; /* whoever waits for the rest of the output has given up */
    int status;
};

int64_t run_now_ns(void);

/* Into a later phase; to linger has no effect once it has begun or ranks have been asked to end. */
void run_phase_linger(struct run_state *job);
void run_phase_ask(struct run_state *job, int number);
void run_phase_kill(struct run_state *job);

/* Goes on to the next phase when the time of this one is up. */
void run_phase_pass(struct run_state *job);

/* A rank that never came to run the program: its exit status says nothing. One such failure ends the job. is_shell: it
 * is a remote shell that could not be run. */
void run_judge_start(struct run_state *job, const struct run_start_failure *failure, bool is_shell);
void run_judge_starts(struct run_state *job);

/* The ranks in job->ended, and the remote shells that have ended. */
void run_judge_ends(struct run_state *job);

/* A report from another host, on the errors of its remote shell; `rank` is the first there, `context` the job. */
void run_judge_hear(void *context, uint32_t rank, const char *report);

/* Who failed after the first failure. */
void run_judge_others(struct run_state *job);

#endif
