/* Starts ranks as processes of this host, and remote shells for those of other hosts. All that a rank is to know is in
 * its environment. */
#ifndef EPX_TOOLS_RUN_START_H
#define EPX_TOOLS_RUN_START_H

#include "run_guard.h"
#include "run_options.h"
#include "run_processors.h"
#include "run_remote.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define RUN_JOB_BYTES 64

struct run_start {
    const struct run_options *options;
    const struct run_processors *processors;
    struct run_guard *guard;
    const sigset_t *signals; /* the mask that this program began with */
    struct rlimit files;     /* the limit of descriptors that this program began with */
    int failures[2];         /* pipe of struct run_start_failure */
    int no_input;            /* /dev/null */
    char job[RUN_JOB_BYTES]; /* new name of the job; empty: the caller's */
};

/* A rank that could not come to run its program. */
struct run_start_failure {
    uint32_t rank;
    int error;
    bool executing; /* else what comes before it */
};

/* False: errno says why. */
bool run_start_init(struct run_start *start);
void run_start_fini(struct run_start *start);

/* The process id, which is also that of its process group; -1: errno says why. streams: input, output, errors; -1:
 * those of this program. */
pid_t run_start_rank(struct run_start *start, uint32_t rank, const int streams[3]);

/* The same for a remote shell. It has no terminal, so it cannot wait for a password. */
pid_t run_start_remote(struct run_start *start, const struct run_remote *remote, const struct run_remotes *remotes,
                       const int streams[3]);

/* The next failure that is known by now; false: none. Never blocks. */
bool run_start_failed(struct run_start *start, struct run_start_failure *failure);

#endif
