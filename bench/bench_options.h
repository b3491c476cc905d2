/* The command line of `epx bench`. */
#ifndef EPX_BENCH_BENCH_OPTIONS_H
#define EPX_BENCH_BENCH_OPTIONS_H

#include "case.h"

#define BENCH_LIST_MAX 32

struct bench_list { /* of numbers, or of places in a list of names */
    double values[BENCH_LIST_MAX];
    size_t count;
};

enum bench_engine_kind { BENCH_FLOOR, BENCH_EPX, BENCH_CANN, BENCH_MPI, BENCH_WIRE, BENCH_ENGINE_COUNT };
extern const char *const bench_engine_names[BENCH_ENGINE_COUNT];

struct bench_options {
    /* The grid. */
    struct bench_list ranks, hosts, bs, hidden, topk, experts, dtype, quant, zipf, cold, threads;
    struct bench_list engines; /* enum bench_engine_kind */
    bool engines_given;
    const char *mpi;  /* names of settings, with commas; null: all */
    const char *cann; /* names of variants, with commas */
    int64_t repeats;
    int64_t rounds; /* 0: by the size of a point */
    int64_t warmup;
    int64_t seed;
    int64_t skew_us;
    int64_t limit_s; /* of one engine's run */
    bool quick;
    bool processes;
    bool round_trip;
    bool views;              /* also epx with row views */
    bool two_level;          /* also epx with the two-level exchange */
    bool private_memory;     /* also epx with memory that peers cannot read */
    int64_t product_columns; /* 0: no product */
    bool parts;              /* runs epx-bench-parts alone */
    bool all_variants;       /* a line for each in the table, not the best alone */
    const char *json;
    const char *csv;
    const char *plot;
    const char *compare;
    const char *from; /* results to show in place of measuring */
};

/* Of the points of the grid. */
int64_t bench_options_host_max(const struct bench_options *options);

/* Ends the program: with status 2 and a text that names option and value when one is wrong, 0 after --help. */
void bench_options_read(struct bench_options *options, int argc, char **argv);

#endif
