/*
 * What a round does around the timed operations, and the records of a measuring program. Thread: each rank its own
 * objects.
 */
#ifndef EPX_BENCH_ROUND_H
#define EPX_BENCH_ROUND_H

#include "case.h"

/* CLOCK_MONOTONIC, ns: comparable between the processes of a host. */
uint64_t bench_now_ns(void);

/* Processor time, user and system, of the calling thread, or of its whole process where ranks are processes. 0 unless
 * the case asks for it. */
uint64_t bench_cpu_ns(const struct bench_case *bench);

/* Writes a byte of each cache line without changing it: the lines are then the caller's, as after a layer that has just
 * produced them. */
void bench_touch(void *data, size_t bytes);

/* What a rank writes over to empty the caches: more than the last level cache that its core can use. Only as many ranks
 * as there are cores have one. */
struct bench_sweep {
    unsigned char *memory; /* null: this rank sweeps nothing */
    size_t bytes;
};

/* Nothing to sweep unless the case is cold. False after an error, said on standard error. */
bool bench_sweep_init(struct bench_sweep *sweep, const struct bench_case *bench, int64_t rank);
void bench_sweep_run(const struct bench_sweep *sweep);
void bench_sweep_fini(struct bench_sweep *sweep);

/* Sleeps what the case's skew asks of this rank before its `turn`th operation. */
void bench_skew_wait(const struct bench_case *bench, int64_t rank, int64_t turn);

/* Size of a cache that a core can use: index 2 is the second level, 3 the last one, which it shares with others. The
 * guess where the system does not say. */
size_t bench_cache_bytes(int index, size_t guess_bytes);
size_t bench_last_level_bytes(void);

/* Processors that this process may use, at least 1. */
int64_t bench_core_count(void);

/* Records on standard output, see case.h. */
struct bench_sample {
    const char *engine;
    const char *variant;
    const char *operation;
    int64_t round;
    uint64_t makespan_ns;
    uint64_t max_ns;
    int64_t cpu_ns;     /* -1: unknown */
    int64_t wire_bytes; /* 0: unknown */
};
void bench_sample_print(const struct bench_sample *sample);

/* Of a number that is not known, -1. */
struct bench_summary {
    const char *engine;
    const char *variant;
    const char *version;
    const char *isa;          /* of the kernels; null: unknown */
    uint64_t dispatch_digest; /* 0: none */
    uint64_t combine_digest;  /* 0: none */
    uint64_t product_digest;  /* 0: none */
    int64_t wrong;
    int64_t create_ns;
    int64_t plan_ns;
    int64_t first_dispatch_ns;
    int64_t first_combine_ns;
    int64_t dispatch_bytes_read;
    int64_t dispatch_bytes_written;
    int64_t combine_bytes_read;
    int64_t combine_bytes_written;
};
void bench_summary_print(const struct bench_summary *summary);

#endif
