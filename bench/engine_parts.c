/*
 * epx-bench-parts [RANKS…]: what an operation of the library pays beside moving rows, part by part, in nanoseconds of
 * one thread; 2, 16, 64 and 288 ranks unless said otherwise. Nothing waits here: the other ranks are made up.
 *
 * near: everything lies in the core's own caches. far: the second-level cache was swept before, as when the other ranks
 * have just written what is read, or the caller's work has taken the cache; each call is timed alone.
 */
#include "bench_stats.h"
#include "parts_world.h"
#include "round.h"

#include "base/clock.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLES 101

/* A batch of near calls takes this long at least, so that reading the clock does not count. */
#define BATCH_NS 50000u

#define WORLD_MAX 16

/* Where the system does not say how large the second-level cache is. */
#define SECOND_LEVEL_GUESS_BYTES ((size_t)2 << 20)

enum part { BUILD, COMPARE, LOOK, CLOCK, DEADLINE, ROUND_OF_ONE, ROUND, PART_COUNT };

static const char *const part_names[PART_COUNT] = {
    "agreement entry built", "entries of all ranks compared", "one look for dead ranks",        "clock read",
    "deadline made",         "round of a single rank",        "round of all, last one to come",
};

struct parts { /* a world, the one of a single rank, and what is swept */
    struct parts_world all;
    struct parts_world one;
    struct bench_sweep sweep;
};

struct figure {
    double near_ns;
    double far_ns;
};

/* What a call makes goes here, so that no compiler leaves it out. */
static volatile uint64_t sink;

/* ---- Calls --------------------------------------------------------------------------------------------------- */

static void must(enum epx_status status)
{
    if (status != EPX_OK) {
        (void)fprintf(stderr, "epx-bench-parts: %s\n", epx_error_text());
        exit(1);
    }
}

static void call(struct parts *parts, enum part part)
{
    struct epx_agreement agreement;
    switch (part) {
    case BUILD:
        parts_agreement_build(&parts->all, &agreement);
        sink = agreement.bytes[0];
        break;
    case COMPARE: must(parts_round_compare(&parts->all)); break;
    case LOOK: must(parts_look(&parts->all)); break;
    case CLOCK: sink = epx_clock_ns(); break;
    case DEADLINE: sink = epx_deadline_after_ms(1000); break;
    default: break;
    }
}

static struct parts_world *world_of(struct parts *parts, enum part part)
{
    return part == ROUND_OF_ONE ? &parts->one : &parts->all;
}

/* One call, timed alone. A round needs others who enter it, before it is timed. */
static double time_one(struct parts *parts, enum part part, bool far)
{
    struct parts_world *world = world_of(parts, part);
    bool is_round = part == ROUND_OF_ONE || part == ROUND;
    if (is_round) {
        parts_others_enter(world);
    }
    if (far) {
        bench_sweep_run(&parts->sweep);
        sink = bench_now_ns(); /* the clock itself is near */
    }
    uint64_t start_ns = bench_now_ns();
    if (is_round) {
        must(parts_round_enter(world));
        must(parts_round_leave(world));
    } else {
        call(parts, part);
    }
    return (double)(bench_now_ns() - start_ns);
}

static double time_batch(struct parts *parts, enum part part, uint64_t count)
{
    uint64_t start_ns = bench_now_ns();
    for (uint64_t i = 0; i < count; i++) {
        call(parts, part);
    }
    return (double)(bench_now_ns() - start_ns) / (double)count;
}

/* ---- Figures ------------------------------------------------------------------------------------------------- */

/* Between two readings of the clock. */
static double empty_ns(void)
{
    double values[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t start_ns = bench_now_ns();
        values[i] = (double)(bench_now_ns() - start_ns);
    }
    return bench_percentile(values, SAMPLES, 0.5);
}

static double single_ns(struct parts *parts, enum part part, bool far)
{
    double values[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        values[i] = time_one(parts, part, far);
    }
    double ns = bench_percentile(values, SAMPLES, 0.5) - empty_ns();
    return ns > 0.0 ? ns : 0.0;
}

static double batch_ns(struct parts *parts, enum part part)
{
    double values[SAMPLES];
    uint64_t count = 1;
    while (time_batch(parts, part, count) * (double)count < BATCH_NS && count < UINT64_C(1) << 20) {
        count *= 2;
    }
    for (int i = 0; i < SAMPLES; i++) {
        values[i] = time_batch(parts, part, count);
    }
    return bench_percentile(values, SAMPLES, 0.5);
}

static void measure(struct parts *parts, struct figure *figures)
{
    for (int part = 0; part < PART_COUNT; part++) {
        bool is_round = part == ROUND_OF_ONE || part == ROUND;
        if (part == COMPARE) { /* compares in the middle of a round */
            parts_others_enter(&parts->all);
            must(parts_round_enter(&parts->all));
        }
        figures[part].near_ns = is_round ? single_ns(parts, (enum part)part, false) : batch_ns(parts, (enum part)part);
        figures[part].far_ns = single_ns(parts, (enum part)part, true);
        if (part == LOOK) {
            must(parts_round_leave(&parts->all));
        }
    }
}

/* ---- Table --------------------------------------------------------------------------------------------------- */

/* What a dispatch pays: a round, its agreement, a comparison, and a look, which comes once in 20 ms of waiting at most.
 */
static struct figure sum_of(const struct figure *figures)
{
    static const enum part paid[] = {BUILD, COMPARE, LOOK, ROUND_OF_ONE};
    struct figure sum = {.near_ns = 0.0};
    for (size_t i = 0; i < sizeof paid / sizeof paid[0]; i++) {
        sum.near_ns += figures[paid[i]].near_ns;
        sum.far_ns += figures[paid[i]].far_ns;
    }
    return sum;
}

static void print_table(const uint32_t *ranks, size_t count, struct figure (*figures)[PART_COUNT])
{
    (void)printf("# epx-bench-parts %s: ns of one thread, median of %d; near / far: what is read lies in this core's "
                 "caches / does not\n# %-34s",
                 EPX_BENCH_VERSION, SAMPLES, "ranks");
    for (size_t i = 0; i < count; i++) {
        (void)printf(" %17u", ranks[i]);
    }
    (void)printf("\n");
    for (int part = 0; part < PART_COUNT; part++) {
        (void)printf("  %-34s", part_names[part]);
        for (size_t i = 0; i < count; i++) {
            (void)printf(" %8.0f /%7.0f", figures[i][part].near_ns, figures[i][part].far_ns);
        }
        (void)printf("\n");
    }
    (void)printf("  %-34s", "sum of a dispatch");
    for (size_t i = 0; i < count; i++) {
        struct figure sum = sum_of(figures[i]);
        (void)printf(" %8.0f /%7.0f", sum.near_ns, sum.far_ns);
    }
    (void)printf(
        "\n# the sum: entry built, round of a single rank, entries compared, one look. The round of all has all "
        "of these but\n# the look in one go.\n");
}

/* ---- Start --------------------------------------------------------------------------------------------------- */

/* A thread that changes its core in the middle would find nothing near. */
static void stay_on_core(void)
{
    cpu_set_t core;
    int now = sched_getcpu();
    if (now >= 0 && now < CPU_SETSIZE) {
        CPU_ZERO(&core);
        CPU_SET((size_t)now, &core);
        (void)sched_setaffinity(0, sizeof core, &core);
    }
}

static bool read_ranks(int argc, char **argv, uint32_t *ranks, size_t *count)
{
    if (argc - 1 > WORLD_MAX) {
        (void)fprintf(stderr, "epx-bench-parts: %d numbers of ranks, must be at most %d\n", argc - 1, WORLD_MAX);
        return false;
    }
    for (int i = 1; i < argc; i++) {
        char *end = NULL;
        errno = 0;
        long value = strtol(argv[i], &end, 10);
        if (errno != 0 || end == argv[i] || *end != '\0' || value < 1 || value > EPX_COMM_RANK_MAX) {
            (void)fprintf(stderr, "epx-bench-parts: the number of ranks is '%s', must be in [1, %u]\n", argv[i],
                          EPX_COMM_RANK_MAX);
            return false;
        }
        ranks[i - 1] = (uint32_t)value;
    }
    *count = argc > 1 ? (size_t)argc - 1 : *count;
    return true;
}

int main(int argc, char **argv)
{
    static struct figure figures[WORLD_MAX][PART_COUNT];
    uint32_t ranks[WORLD_MAX] = {2, 16, 64, 288};
    size_t count = 4;
    struct parts parts = {.sweep.bytes = 2 * bench_cache_bytes(2, SECOND_LEVEL_GUESS_BYTES)};
    if (!read_ranks(argc, argv, ranks, &count)) {
        return 2;
    }
    parts.sweep.memory = calloc(1, parts.sweep.bytes);
    if (parts.sweep.memory == NULL) {
        (void)fprintf(stderr, "epx-bench-parts: no memory to sweep caches with (%zu bytes)\n", parts.sweep.bytes);
        return 1;
    }
    stay_on_core();
    for (size_t i = 0; i < count; i++) {
        if (!parts_world_create(&parts.one, 1) || !parts_world_create(&parts.all, ranks[i])) {
            return 1;
        }
        measure(&parts, figures[i]);
        parts_world_destroy(&parts.one);
        parts_world_destroy(&parts.all);
    }
    free(parts.sweep.memory);
    print_table(ranks, count, figures);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
