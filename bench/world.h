/*
 * The ranks of a measuring program on one host: processes or threads that share one mapping, meet in bare barriers and
 * time operations. "Bare": no deadline and no look at the others' health; a rank that fails ends the program.
 */
#ifndef EPX_BENCH_WORLD_H
#define EPX_BENCH_WORLD_H

#include "case.h"
#include "hosts.h"
#include "round.h"

#include <stdatomic.h>

/* The fields that all ranks write lie in cache lines of their own. */
struct bench_barrier {
    _Alignas(128) _Atomic uint32_t arrived; /* of all generations */
    _Alignas(128) _Atomic uint32_t generation;
    _Alignas(128) _Atomic uint32_t sleepers;
};

struct bench_span { /* of one operation of one member */
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t cpu_ns;    /* of bench_cpu_ns */
    int64_t wire_bytes; /* that the member's host sent: the first member's of each host */
};

struct bench_world {
    const struct bench_case *bench;
    int64_t operation_count;         /* that each member times */
    int64_t member_count;            /* 0: the case's ranks; more: a rank is several members */
    size_t shared_bytes;             /* for the program's own use, zeroed */
    const struct bench_hosts *hosts; /* null: this program knows one host alone */

    /* Set by bench_world_map; mapped until the program ends. */
    struct bench_barrier *barrier;
    struct bench_span *spans; /* (operation_count, members) */
    void *shared;
    bool spin; /* there is a core for every member */
};

struct bench_member { /* one rank's view */
    struct bench_world *world;
    int64_t rank; /* place among the members */
    uint32_t generation;
    int64_t turn; /* operations entered so far, for the skew */
    struct bench_sweep sweep;
    int sent_counter;   /* of bench_hosts_sent_bytes */
    int64_t sent_bytes; /* before the operation */
};

/* Runs one rank; 0 on success. Says on standard error what fails. */
typedef int (*bench_member_main)(struct bench_member *member, void *context);

/* Makes the shared memory, for programs that fill it before the ranks start. 0 on success; what fails is said on
 * standard error. */
int bench_world_map(struct bench_world *world);

/* Starts the ranks (makes the shared memory if it is not there), waits for their end. 0 when all returned 0. `context`
 * is everybody's: ranks that are processes have a copy of it. */
int bench_world_run(struct bench_world *world, bench_member_main run, void *context);

/* Meets all ranks. What they wrote before is seen by all after it. */
void bench_meet(struct bench_member *member);

/* Sweeps caches if the case asks for it, meets, waits for this rank's skew, starts operation `index`. */
void bench_start(struct bench_member *member, int64_t index);

/* Ends it, and meets: nobody works on while an operation is still timed. */
void bench_stop(struct bench_member *member, int64_t index);

/* First in to last out, and the longest of the members' own times. */
uint64_t bench_makespan_ns(const struct bench_world *world, int64_t index);
uint64_t bench_longest_ns(const struct bench_world *world, int64_t index);

/* What the hosts sent meanwhile; 0 on one host. */
int64_t bench_wire_bytes(const struct bench_world *world, int64_t index);

/* Processor time of a rank, the mean of all; while it waits, too. -1 unless the case asks for it. */
int64_t bench_cpu_per_rank_ns(const struct bench_world *world, int64_t index);

#endif
