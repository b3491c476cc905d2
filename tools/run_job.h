/*
 * A job from its first rank to its last process. It goes through phases, forward only:
 *   going      until a rank fails, the last one ends, time is up, or a signal comes;
 *   lingering  what is left may end by itself (after a failure, or when what ranks started goes on without them);
 *   asked      all have got SIGTERM, or the signal that came;
 *   killed     all get SIGKILL, until there is no process any more.
 */
#ifndef EPX_TOOLS_RUN_JOB_H
#define EPX_TOOLS_RUN_JOB_H

#include "run_options.h"
#include "run_part.h"
#include "run_processors.h"

/* Exit statuses of `epx run` itself. */
enum { RUN_STATUS_BROKEN = 1, RUN_STATUS_TIMEOUT = 124, RUN_STATUS_NOT_EXECUTABLE = 126, RUN_STATUS_NOT_FOUND = 127 };

struct run_result {
    int status;
    int signal; /* sent to this program, and `status` is that of a rank that it ended; 0: none */
};

/* part: null, or what says how a part of a job is led. */
struct run_result run_job_run(const struct run_options *options, const struct run_processors *processors,
                              struct run_part *part);

#endif
