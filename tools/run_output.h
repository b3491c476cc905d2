/*
 * What ranks write, line by line: each line begins with the rank in brackets. Nothing here blocks: what the outputs do
 * not take at once is kept, and ranks are not read while there is much of it. The messages of `epx run` itself go the
 * same way, so that they mix with no line.
 */
#ifndef EPX_TOOLS_RUN_OUTPUT_H
#define EPX_TOOLS_RUN_OUTPUT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One of this program's outputs. */
struct run_sink {
    int fd;
    int error; /* of the first write that failed; nothing is written after that */
    char *bytes;
    size_t begin; /* bytes before it are written */
    size_t end;
    size_t room;
};

struct run_output;

/* Output or error output of one rank, or of the remote shell that has started several. */
struct run_source {
    int fd; /* -1: closed */
    uint32_t rank;
    bool plain;       /* lines of a remote shell: they have their ranks already, where they are to have them */
    const char *word; /* what reports among its lines begin with; null: there are none */
    struct run_output *output;
    struct run_sink *sink;
    char *line; /* what has no end yet */
    size_t used;
    size_t room;
};

struct run_output {
    struct run_sink sinks[2];
    struct run_source *sources; /* rank * 2: output, rank * 2 + 1: errors; null: ranks write by themselves */
    uint32_t source_count;
    void (*told)(void *context, uint32_t rank, const char *report); /* of the source of a rank */
    void *context;
};

/* piped: outputs of ranks or of remote shells are to come through this program. False: no memory. */
bool run_output_init(struct run_output *output, uint32_t first_rank, uint32_t rank_count, bool piped);
void run_output_fini(struct run_output *output);

/* Two pipes for a rank; ends[] is what becomes its output and errors, to be closed by the caller once the rank has
 * them. False: errno says why. */
bool run_output_connect(struct run_output *output, uint32_t rank, int ends[2]);

/* The same for a remote shell, by the first of its ranks: of its errors alone, ends[0] is -1, unless `tag`. */
bool run_output_connect_shell(struct run_output *output, uint32_t rank, bool tag, const char *word, int ends[2]);

/* Takes what the rank has written so far. False: there may be more, for which there is no room now. */
bool run_output_take(struct run_output *output, uint32_t rank);

/* A line of this program, on its error output. */
void run_output_say(struct run_output *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A report to who reads this program's errors. */
void run_output_report(struct run_output *output, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fills watched[] with run_output_watch_count entries; then, after poll, does what can be done. */
size_t run_output_watch_count(const struct run_output *output);
void run_output_watch(const struct run_output *output, struct pollfd *watched);
void run_output_move(struct run_output *output, const struct pollfd *watched);

/* When no rank is there any more: takes what is left of their outputs, as far as there is room for it. */
void run_output_drain(struct run_output *output);

/* Whether something is left to write. */
bool run_output_pending(const struct run_output *output);

/* Writes what this program said since, without waiting. The error of an output that took not everything, 0: none. */
int run_output_finish(struct run_output *output);

#endif
