/*
 * The other hosts of a job. On each, a remote shell runs this program with --part, which sees to the ranks there
 * (run_part.h). Its standard input is a leash: first a letter with what is nobody else's to read, then a byte for each
 * signal to the ranks, and its end is theirs. Between its ranks' errors come its reports.
 */
#ifndef EPX_TOOLS_RUN_REMOTE_H
#define EPX_TOOLS_RUN_REMOTE_H

#include "run_options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RUN_WORD_BYTES 40

struct run_remote {
    const struct run_host *host;
    char *command; /* for the remote shell */
    int leash;     /* -1: closed */
    pid_t pid;     /* of the shell, which is also that of its process group; 0: not started */
    bool ready;    /* the part there has its letter */
    bool ended;    /* the shell, and waited for */
    bool heard;    /* and all that it has said is known */
    bool settled;  /* and the ranks that were left then are judged */
    int signal;    /* that ended the shell, 0: none */
    int status;    /* as a shell would give it */
};

struct run_remotes {
    struct run_remote *remotes;
    uint32_t count;
    char word[RUN_WORD_BYTES]; /* what reports begin with; new for each job */
    char *letter;
    size_t letter_bytes;
    char *shell;  /* EPX_RSH */
    char **words; /* of it; room for host and command at its end */
    size_t word_count;
};

/* job: the name of the job; empty: the caller's. False: errno says why. */
bool run_remotes_init(struct run_remotes *remotes, const struct run_options *options, const char *job);
void run_remotes_fini(struct run_remotes *remotes);

/* Null: the rank is one of this machine. */
struct run_remote *run_remotes_find(const struct run_remotes *remotes, uint32_t rank);

/* A leash with the letter on it; *end is the shell's input, to be closed once it has it. False: errno says why. */
bool run_remote_leash(struct run_remote *remote, const struct run_remotes *remotes, int *end);
void run_remote_let_go(struct run_remote *remote);

/* In the shell's process to be: becomes the shell. Returns when that is impossible, errno says why. */
void run_remote_become(const struct run_remote *remote, const struct run_remotes *remotes);

/* A signal to the ranks there; also to the shell itself while nobody there can have heard of it. */
void run_remote_signal(struct run_remote *remote, int number);

/* SIGKILL to the shells that have not ended: to all, or to those whose other end nobody is at yet. */
void run_remotes_kill(const struct run_remotes *remotes, bool all);

#endif
