/*
 * Standard input of rank 0. Its process group is not the terminal's foreground one, so it may not read a terminal
 * itself: this program reads it, while it is in the foreground, and hands it on. Anything else is handed over as it is.
 */
#ifndef EPX_TOOLS_RUN_INPUT_H
#define EPX_TOOLS_RUN_INPUT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

struct run_input {
    int rank_end; /* what rank 0 reads, to be closed once it has it; -1: this program's own input */
    int relay;    /* where a terminal's input goes, -1: nowhere */
    char bytes[4096];
    size_t begin;
    size_t end;
};

/* False: errno says why. */
bool run_input_init(struct run_input *input);
void run_input_fini(struct run_input *input);

/* One entry; then, after poll, does what can be done. */
void run_input_watch(const struct run_input *input, struct pollfd *watched);
void run_input_move(struct run_input *input, const struct pollfd *watched);

#endif
