/*
 * A part of a job whose other ranks somebody else sees to, as `epx run --hosts` starts it on another host. Its standard
 * input is the leash, its reports go to standard error: run_remote.h.
 */
#ifndef EPX_TOOLS_RUN_PART_H
#define EPX_TOOLS_RUN_PART_H

#include "run_options.h"

#include <poll.h>
#include <stdbool.h>

struct run_part {
    char *letter;     /* the options' variables are in it */
    const char *word; /* what reports begin with, in the letter */
    bool cut;         /* the leash has come to its end */
};

/* Reads the letter, goes to its directory, and makes its variables those of the options. False: it has been said why.
 */
bool run_part_init(struct run_part *part, struct run_options *options);
void run_part_fini(struct run_part *part);

/* One entry; then, after poll, the signal that the ranks are to get, 0: none. The end of the leash is SIGTERM. */
void run_part_watch(const struct run_part *part, struct pollfd *watched);
int run_part_heard(struct run_part *part, const struct pollfd *watched);

#endif
