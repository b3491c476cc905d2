/* What can be run: engines in the variants that were asked for, with the command line of each. */
#ifndef EPX_BENCH_BENCH_CONTENDERS_H
#define EPX_BENCH_BENCH_CONTENDERS_H

#include "bench_options.h"

#include <limits.h>

#define BENCH_CONTENDER_MAX 32
#define BENCH_WORD_MAX      64

struct bench_contender {
    enum bench_engine_kind kind;
    char variant[48]; /* "" for the floor, which runs all of its own */
    char program[PATH_MAX];
    const char *const *prefix; /* words before the number of ranks and the program; null: none */
    const char *extra[2];      /* words after the case; null: none */
    bool within_cores;         /* on one host only for as many ranks as cores */
    bool several_hosts;        /* runs on several hosts */
    bool only_several_hosts;
    bool even_hosts; /* equally many ranks on each */
    bool out;        /* failed: not run any more */
};

struct bench_contenders {
    struct bench_contender list[BENCH_CONTENDER_MAX];
    size_t count;
};

/* False when one that was asked for is not there, or none is; said on standard error. What is missing without having
 * been asked for is said there, too. */
bool bench_contenders_find(struct bench_contenders *contenders, const struct bench_options *options);

/* Finds an engine by the name of its program: in EPX_BENCH_DIR, beside the epx command, in ../libexec/epx. */
bool bench_engine_find(const char *name, char *out /* PATH_MAX */);

/* Whether a program of that name is in PATH. */
bool bench_in_path(const char *name);

/* Whether a contender can run such a point. */
bool bench_contender_fits(const struct bench_contender *contender, const struct bench_case *sizes);

struct bench_command {
    char *argv[BENCH_WORD_MAX];
    char words[BENCH_WORD_MAX][32]; /* those that had to be made */
};

void bench_contender_command(const struct bench_contender *contender, const struct bench_case *sizes, bool round_trip,
                             struct bench_command *command);

#endif
