/*
 * epx-bench-wire: of a case on several hosts the bytes that have to cross, through bare TCP streams, in both directions
 * at once, out of and into ready memory: no routing, no rows, no messages. What an exchange over TCP can come near to.
 * Records: see case.h; variant `streams`, and `one`: the operation "stream", one stream from host 0 to host 1.
 */
#include "wire_streams.h"

#include <stdio.h>

struct engine {
    struct bench_case bench;
    struct bench_world world;
};

static int64_t operation_index(int64_t round, int operation)
{
    return round * WIRE_OPERATION_COUNT + operation;
}

static int64_t rounds_before(const struct bench_case *bench)
{
    return 1 + bench->warmup;
}

static int run_rank(struct bench_member *member, void *context)
{
    const struct engine *engine = context;
    struct wire_rank rank;
    int64_t *wrong = member->world->shared;
    if (!wire_rank_open(&rank, member)) {
        return 1;
    }
    for (int64_t round = 0; round < rounds_before(&engine->bench) + engine->bench.rounds; round++) {
        for (int operation = 0; operation < WIRE_OPERATION_COUNT; operation++) {
            bench_start(member, operation_index(round, operation));
            if (!wire_rank_run(&rank, (enum wire_operation)operation)) {
                return 1;
            }
            bench_stop(member, operation_index(round, operation));
        }
    }
    wrong[member->rank] = wire_rank_wrong(&rank, WIRE_STREAM);
    if (!wire_rank_run(&rank, WIRE_COMBINE)) {
        return 1;
    }
    wrong[member->rank] += wire_rank_wrong(&rank, WIRE_COMBINE);
    bench_meet(member); /* streams stay until nobody sends any more */
    wire_rank_close(&rank);
    return 0;
}

static void print_records(const struct engine *engine)
{
    static const char *const names[WIRE_OPERATION_COUNT] = {"dispatch", "combine", "stream"};
    const struct bench_case *bench = &engine->bench;
    const int64_t *wrong = engine->world.shared;
    struct bench_summary summary = {.engine = "wire",
                                    .variant = "streams",
                                    .version = EPX_BENCH_VERSION,
                                    .create_ns = -1,
                                    .plan_ns = -1,
                                    .first_dispatch_ns = -1,
                                    .first_combine_ns = -1,
                                    .dispatch_bytes_read = -1,
                                    .dispatch_bytes_written = -1,
                                    .combine_bytes_read = -1,
                                    .combine_bytes_written = -1};
    for (int64_t round = 0; round < bench->rounds; round++) {
        for (int operation = 0; operation < WIRE_OPERATION_COUNT; operation++) {
            int64_t index = operation_index(rounds_before(bench) + round, operation);
            const struct bench_sample sample = {.engine = "wire",
                                                .variant = operation == WIRE_STREAM ? "one" : "streams",
                                                .operation = names[operation],
                                                .round = round,
                                                .makespan_ns = bench_makespan_ns(&engine->world, index),
                                                .max_ns = bench_longest_ns(&engine->world, index),
                                                .cpu_ns = bench_cpu_per_rank_ns(&engine->world, index),
                                                .wire_bytes = bench_wire_bytes(&engine->world, index)};
            bench_sample_print(&sample);
        }
    }
    for (int64_t rank = 0; rank < bench->rank_count; rank++) {
        summary.wrong += wrong[rank];
    }
    bench_summary_print(&summary);
}

static bool read_options(struct engine *engine, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        int taken = bench_case_option(&engine->bench, argc, argv, &at);
        if (taken == 0) {
            (void)fprintf(stderr, "epx-bench-wire: cannot take '%s'\n", argv[at]);
        }
        if (taken != 1) {
            return false;
        }
    }
    if (engine->bench.host_count == 1) {
        (void)fprintf(stderr, "--hosts is 1, must be 2 or more: on one host nothing crosses\n");
        return false;
    }
    return bench_case_check(&engine->bench);
}

int main(int argc, char **argv)
{
    struct engine engine = {.bench = BENCH_CASE_INIT};
    struct bench_hosts hosts;
    const struct bench_case *bench = &engine.bench;
    if (!read_options(&engine, argc, argv)) {
        return 2;
    }
    if (!bench_hosts_get(&hosts, bench->host_count, "epx-bench-wire")) {
        return 1;
    }
    engine.world =
        (struct bench_world){.bench = bench,
                             .operation_count = operation_index(rounds_before(bench) + bench->rounds, WIRE_DISPATCH),
                             .shared_bytes = (size_t)bench->rank_count * sizeof(int64_t),
                             .hosts = &hosts};
    if (bench_world_run(&engine.world, run_rank, &engine) != 0) {
        return 1;
    }
    print_records(&engine);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
