/* The ranks of a job as processes: how each ended, signals to all of them and to what they left. */
#ifndef EPX_TOOLS_RUN_RANKS_H
#define EPX_TOOLS_RUN_RANKS_H

#include "run_guard.h"
#include "run_remote.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct run_rank {
    pid_t pid;        /* 0: not started; elsewhere that of the remote shell, then, once it has ended, its own there */
    bool elsewhere;   /* no process of this host */
    bool ended;       /* and waited for */
    bool failed;      /* by itself, not by a signal of this program */
    bool core_dumped; /* where a signal ended it */
    int signal;       /* that ended it, 0: none */
    int status;       /* as a shell would give it */
};

struct run_ranks {
    struct run_rank *ranks;
    uint32_t count;
    uint32_t running; /* ranks here and remote shells */
    struct run_guard guard;
    struct run_remotes remotes;
};

/* This program becomes the parent of whatever a rank leaves. False: errno says why. */
bool run_ranks_init(struct run_ranks *ranks, uint32_t count);
void run_ranks_fini(struct run_ranks *ranks);

void run_ranks_add(struct run_ranks *ranks, uint32_t rank, pid_t pid);

/* The same for all ranks of another host; pid is that of the remote shell. */
void run_ranks_add_remote(struct run_ranks *ranks, struct run_remote *remote, pid_t pid);

/* A rank elsewhere has ended: its pid there, status, signal and core_dumped are taken from `end`. */
void run_ranks_note_end(struct run_ranks *ranks, uint32_t rank, struct run_rank end);

/* Waits for one process that has ended, without blocking. */
enum run_reaped {
    RUN_REAPED_RANK,    /* *rank has ended */
    RUN_REAPED_OTHER,   /* a remote shell, something that a rank left, or the guard */
    RUN_REAPED_NONE,    /* all that there are go on */
    RUN_REAPED_NOTHING, /* there is no process any more */
};
enum run_reaped run_ranks_reap(struct run_ranks *ranks, uint32_t *rank);

/* To the process groups of ranks that have not ended, to each process that one has left, and to other hosts. */
void run_ranks_signal(const struct run_ranks *ranks, int number);

/* "0-3,7" of the ranks that `wanted` is true of. Cut at the end of the text with "...". */
void run_ranks_list(const struct run_ranks *ranks, bool (*wanted)(const struct run_rank *), char *text, size_t bytes);

#endif
