/*
 * What a run of `epx bench` knows: grid points, of each the series that its engines measured, of each series the
 * repeats, and the numbers that are made of them.
 */
#ifndef EPX_BENCH_BENCH_RESULTS_H
#define EPX_BENCH_BENCH_RESULTS_H

#include "bench_stats.h"
#include "case.h"

#define BENCH_NAME_BYTES 48

struct bench_times { /* of one timed operation */
    double makespan_ns;
    double max_ns;     /* largest of the ranks' own */
    double cpu_ns;     /* processor time of a rank; NaN: unknown */
    double wire_bytes; /* that all hosts sent; NaN: unknown */
};

struct bench_repeat {
    int64_t index; /* which of the point's repeats */
    struct bench_times *times;
    size_t count;
    double floor_ns;   /* median of the floor's best variant around this repeat; NaN: unknown */
    double mpi_ns;     /* median of the best MPI setting in this repeat; NaN: none */
    double copying_ns; /* median of the epx that copies rows, of operations in which rows are read; NaN: none */
};

struct bench_series { /* one operation of one variant of one engine */
    char operation[BENCH_NAME_BYTES];
    char engine[BENCH_NAME_BYTES];
    char variant[BENCH_NAME_BYTES];
    struct bench_repeat *repeats;
    size_t repeat_count;
};

enum bench_fact { /* numbers of an engine's summary record */
                  BENCH_WRONG,
                  BENCH_CREATE_NS,
                  BENCH_PLAN_NS,
                  BENCH_FIRST_DISPATCH_NS,
                  BENCH_FIRST_COMBINE_NS,
                  BENCH_DISPATCH_BYTES_READ,
                  BENCH_DISPATCH_BYTES_WRITTEN,
                  BENCH_COMBINE_BYTES_READ,
                  BENCH_COMBINE_BYTES_WRITTEN,
                  BENCH_FACT_COUNT
};
extern const char *const bench_fact_names[BENCH_FACT_COUNT];

struct bench_outcome { /* an engine's latest summary record */
    char engine[BENCH_NAME_BYTES];
    char variant[BENCH_NAME_BYTES];
    char version[BENCH_NAME_BYTES];
    char isa[BENCH_NAME_BYTES];
    char dispatch_digest[BENCH_NAME_BYTES];
    char combine_digest[BENCH_NAME_BYTES];
    char product_digest[BENCH_NAME_BYTES]; /* "": none */
    int64_t facts[BENCH_FACT_COUNT];       /* -1: unknown */
};

struct bench_point {
    struct bench_case sizes;
    struct bench_series *series;
    size_t series_count;
    struct bench_outcome *outcomes;
    size_t outcome_count;
    double dispatch_crossing_bytes; /* that have to go from host to host; 0 on one */
    double combine_crossing_bytes;
    double two_level_crossing_bytes; /* of the combine of that variant */
    int64_t repeats_refused;         /* floors around them differed too much, so they were done again */
    int64_t repeats_unsteady;        /* the same, but kept, because enough had been done again */
};

struct bench_environment {
    char version[BENCH_NAME_BYTES];
    char processor[128];
    char kernel[128];
    char host[128];
    char time[32]; /* UTC, ISO 8601 */
    int64_t cores; /* that the program may use */
    int64_t last_level_cache_bytes;
    int64_t memory_bytes;
};

struct bench_results {
    struct bench_environment environment;
    struct bench_point *points;
    size_t point_count;
};

/* All of these end the program when there is no memory. */
struct bench_point *bench_results_add_point(struct bench_results *results, const struct bench_case *sizes);
struct bench_series *bench_point_series(struct bench_point *point, const char *operation, const char *engine,
                                        const char *variant);                         /* finds or adds */
struct bench_repeat *bench_series_repeat(struct bench_series *series, int64_t index); /* finds or adds */
void bench_repeat_add(struct bench_repeat *repeat, const struct bench_times *times);
struct bench_outcome *bench_point_outcome(struct bench_point *point, const char *engine, const char *variant);
void bench_results_fini(struct bench_results *results);

/* Null: there is none. */
struct bench_series *bench_point_find(const struct bench_point *point, const char *operation, const char *engine,
                                      const char *variant);

/* Adds every repeat of `from` to repeat `index` of `to`, and the outcomes. */
void bench_point_merge(struct bench_point *to, const struct bench_point *from, int64_t index);
void bench_point_fini(struct bench_point *point);

/* Fills floor_ns, mpi_ns and copying_ns of every repeat from the series of the point. */
void bench_point_relate(struct bench_point *point);

double bench_repeat_percentile(const struct bench_repeat *repeat, double part); /* of the makespans */

struct bench_figures { /* of one series */
    double p50_ns;     /* medians over the repeats */
    double p90_ns;
    double p99_ns;
    double gb_per_s;                   /* payload by p50 */
    struct bench_spread floor_percent; /* speed in percent of the floor's; over repeats */
    struct bench_spread mpi_times;     /* how often faster than MPI; over repeats */
    struct bench_spread to_copying;    /* time as a part of that of the epx that copies rows; over repeats */
    double wire_bytes;                 /* of an operation: the mean of a repeat's, median of repeats; NaN: unknown */
    double crossing_bytes;             /* what of them had to cross; NaN: one host */
    double cpu_ns;                     /* of a rank: median of the repeats' medians */
    struct bench_spread p50_spread_ns; /* of the repeats' medians */
};
struct bench_figures bench_series_figures(const struct bench_point *point, const struct bench_series *series);

/* How fast what had to cross did, in percent of one bare TCP stream; NaN: unknown. */
double bench_percent_of_stream(const struct bench_point *point, const struct bench_figures *figures);

/* Bytes of the rows that the operation must deliver, over all ranks. */
bool bench_is_two_level(const char *variant);
double bench_payload_bytes(const struct bench_case *sizes, const char *operation);

/* The one with the smallest p50 of the engine and operation, null: none. */
const struct bench_series *bench_point_best(const struct bench_point *point, const char *operation, const char *engine);

void bench_copy_name(char *out, size_t bytes, const char *text);

#endif
