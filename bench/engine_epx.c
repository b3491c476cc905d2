/*
 * epx-bench-epx: one case through include/epx/epx.h. Records: see case.h. Own options:
 *   --round-trip 0|1       also times dispatch and combine back to back
 *   --private-memory 0|1   tensors in memory of malloc, which peers cannot read in place
 *   --two-level 0|1        the two-level exchange, a host being a server
 *   --views 0|1            the dispatch gives addresses of rows, which the experts read where they are
 *   --product N            also times a dispatch with the experts' first product, of N columns, and that product alone
 *   --memory 0|1           also prints what all ranks take of the machine's memory after the rounds:
 *     {"record":"memory","engine":…,"variant":…,"before_bytes":resident before the first call of the library,
 *      "resident_bytes":…,"page_table_bytes":…,"tensor_bytes":of tensors, what is in memory}
 */
#include "epx_case.h"
#include "library_threads.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void print_samples(const struct epx_case *options, const struct bench_world *world, const char *variant)
{
    static const char *const names[EPX_CASE_OPERATION_COUNT] = {"dispatch", "combine", "round_trip", "dispatch+product",
                                                                "product"};
    int64_t before = epx_case_rounds_before(&options->bench);
    for (int64_t round = 0; round < options->bench.rounds; round++) {
        for (int i = 0; i < EPX_CASE_OPERATION_COUNT; i++) {
            enum epx_case_operation operation = (enum epx_case_operation)i;
            if (!epx_case_times(options, operation)) {
                continue;
            }
            int64_t index = epx_case_operation_index(options, before + round, operation);
            struct bench_sample sample = {.engine = "epx",
                                          .variant = variant,
                                          .operation = names[operation],
                                          .round = round,
                                          .makespan_ns = bench_makespan_ns(world, index),
                                          .max_ns = bench_longest_ns(world, index),
                                          .cpu_ns = bench_cpu_per_rank_ns(world, index),
                                          .wire_bytes = bench_wire_bytes(world, index)};
            bench_sample_print(&sample);
        }
    }
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void add_report(struct bench_summary *summary, const struct epx_case_report *report)
{
    summary->dispatch_digest =
        bench_digest(summary->dispatch_digest, &report->dispatch_digest, sizeof report->dispatch_digest);
    summary->combine_digest =
        bench_digest(summary->combine_digest, &report->combine_digest, sizeof report->combine_digest);
    if (summary->product_digest != 0) {
        summary->product_digest =
            bench_digest(summary->product_digest, &report->product_digest, sizeof report->product_digest);
    }
    summary->wrong += report->wrong;
    summary->create_ns = larger(summary->create_ns, report->create_ns);
    summary->plan_ns = larger(summary->plan_ns, report->plan_ns);
    summary->dispatch_bytes_read += report->dispatch_bytes_read;
    summary->dispatch_bytes_written += report->dispatch_bytes_written;
    summary->combine_bytes_read += report->combine_bytes_read;
    summary->combine_bytes_written += report->combine_bytes_written;
}

static void print_summary(const struct epx_case *options, const struct bench_world *world, const char *variant)
{
    const struct epx_case_shared *shared = world->shared;
    struct bench_summary summary = {.engine = "epx",
                                    .variant = variant,
                                    .version = epx_version(),
                                    .dispatch_digest = BENCH_DIGEST_INIT,
                                    .combine_digest = BENCH_DIGEST_INIT,
                                    .product_digest = options->bench.product_columns != 0 ? BENCH_DIGEST_INIT : 0,
                                    .first_dispatch_ns = (int64_t)bench_makespan_ns(world, EPX_CASE_DISPATCH),
                                    .first_combine_ns = (int64_t)bench_makespan_ns(world, EPX_CASE_COMBINE)};
    for (int64_t rank = 0; rank < options->bench.rank_count; rank++) {
        add_report(&summary, &shared->reports[rank]);
    }
    bench_summary_print(&summary);
}

static void print_memory(const struct epx_case *options, const struct bench_world *world, const char *variant)
{
    const struct epx_case_shared *shared = world->shared;
    struct epx_case_report sum = {.wrong = 0};
    for (int64_t rank = 0; rank < options->bench.rank_count; rank++) {
        sum.before_bytes += shared->reports[rank].before_bytes;
        sum.tensor_bytes += shared->reports[rank].tensor_bytes;
        sum.memory.resident_bytes += shared->reports[rank].memory.resident_bytes;
        sum.memory.page_table_bytes += shared->reports[rank].memory.page_table_bytes;
    }
    (void)printf("{\"record\":\"memory\",\"engine\":\"epx\",\"variant\":\"%s\",\"before_bytes\":%" PRId64
                 ",\"resident_bytes\":%" PRId64 ",\"page_table_bytes\":%" PRId64 ",\"tensor_bytes\":%" PRId64 "}\n",
                 variant, sum.before_bytes, sum.memory.resident_bytes, sum.memory.page_table_bytes, sum.tensor_bytes);
}

/* ---- Command line -------------------------------------------------------------------------------------------- */

static bool read_switch(int argc, char **argv, int *at, const char *name, bool *out)
{
    if (strcmp(argv[*at], name) != 0 || *at + 1 >= argc ||
        (strcmp(argv[*at + 1], "0") != 0 && strcmp(argv[*at + 1], "1") != 0)) {
        return false;
    }
    *out = argv[*at + 1][0] == '1';
    *at += 2;
    return true;
}

static bool read_product(int argc, char **argv, int *at, struct bench_case *bench)
{
    if (strcmp(argv[*at], "--product") != 0 || *at + 1 >= argc) {
        return false;
    }
    char *end = NULL;
    errno = 0;
    long long columns = strtoll(argv[*at + 1], &end, 10);
    if (errno != 0 || end == argv[*at + 1] || *end != '\0' || columns < 0 || columns > BENCH_PRODUCT_COLUMNS_MAX) {
        return false;
    }
    bench->product_columns = columns;
    *at += 2;
    return true;
}

static bool read_options(struct epx_case *options, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        if (read_switch(argc, argv, &at, "--round-trip", &options->round_trip) ||
            read_switch(argc, argv, &at, "--private-memory", &options->private_memory) ||
            read_switch(argc, argv, &at, "--views", &options->views) ||
            read_switch(argc, argv, &at, "--two-level", &options->two_level) ||
            read_switch(argc, argv, &at, "--memory", &options->memory) ||
            read_product(argc, argv, &at, &options->bench)) {
            continue;
        }
        int taken = bench_case_option(&options->bench, argc, argv, &at);
        if (taken == 0) {
            (void)fprintf(stderr, "epx-bench-epx: cannot take '%s'\n", argv[at]);
        }
        if (taken != 1) {
            return false;
        }
    }
    if (options->bench.product_columns != 0 && !bench_product_prepare()) {
        (void)fprintf(stderr, "--product is %lld, must be 0: built without OpenBLAS\n",
                      (long long)options->bench.product_columns);
        return false;
    }
    if (options->two_level && (options->views || options->private_memory)) {
        (void)fprintf(stderr, "epx-bench-epx: --two-level is 1, must be 0 with --views and --private-memory\n");
        return false;
    }
    return bench_case_check(&options->bench);
}

int main(int argc, char **argv)
{
    struct epx_case options = {.bench = BENCH_CASE_INIT};
    if (!read_options(&options, argc, argv) || !bench_library_threads(options.bench.threads)) {
        return 2;
    }
    const struct bench_case *bench = &options.bench;
    struct bench_hosts hosts;
    if (bench->host_count > 1 && !bench_hosts_get(&hosts, bench->host_count, "epx-bench-epx")) {
        return 1;
    }
    struct bench_world world = {.bench = bench,
                                .operation_count = epx_case_operation_count(&options),
                                .shared_bytes = epx_case_shared_bytes(bench),
                                .hosts = bench->host_count > 1 ? &hosts : NULL};
    if (bench_world_map(&world) != 0) {
        return 1;
    }
    bench_inputs_weights(bench, epx_case_weights(bench, world.shared));
    if (bench_world_run(&world, epx_case_run, &options) != 0) {
        return 1;
    }
    const char *variant = options.two_level ? BENCH_TWO_LEVEL
                          : options.views   ? (options.private_memory ? "staged-views" : "views")
                                            : (options.private_memory ? "staged" : "in-place");
    print_samples(&options, &world, variant);
    if (options.memory) {
        print_memory(&options, &world, variant);
    }
    print_summary(&options, &world, variant);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
