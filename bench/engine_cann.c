/*
 * epx-bench-cann: one case through the CANN interface. Records: see case.h. Own option:
 *   --variant NAME   repeatable: executors made once; first_phase_each_call: both phases in every call;
 *                    pair: repeatable, dispatch and combine queued back to back (operation round_trip)
 * An operation is what a program waits for: from its first call to the end of the stream's synchronisation.
 */
#include "cann_rank.h"
#include "expect.h"
#include "library_threads.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum variant { REPEATABLE, FIRST_PHASE_EACH_CALL, PAIR, VARIANT_COUNT };

static const char *const variant_names[VARIANT_COUNT] = {"repeatable", "first_phase_each_call", "pair"};

/* Timed operations of a round; a pair has the one. */
enum { DISPATCH, COMBINE };

struct engine_options {
    struct bench_case bench;
    enum variant variant;
};

struct rank_report {
    uint64_t dispatch_digest;
    uint64_t combine_digest;
    int64_t wrong;
    int64_t create_ns;
    int64_t plan_ns; /* -1: nothing is planned */
};

struct shared {
    HcclRootInfo root;
    struct rank_report reports[];
};

static int64_t operations_of_round(const struct engine_options *options)
{
    return options->variant == PAIR ? 1 : 2;
}

/* The first call, the warm-up, the rounds that count. */
static int64_t rounds_before(const struct bench_case *bench)
{
    return 1 + bench->warmup;
}

/* ---- One rank ------------------------------------------------------------------------------------------------ */

struct run {
    const struct engine_options *options;
    struct bench_member *member;
    struct shared *shared;
    struct cann_rank rank;
};

static bool join(struct run *run)
{
    struct rank_report *report = &run->shared->reports[run->member->rank];
    if (!cann_rank_start(&run->rank, &run->options->bench, run->member->rank)) {
        return false;
    }
    if (run->member->rank == 0 && HcclGetRootInfo(&run->shared->root) != HCCL_SUCCESS) {
        (void)fprintf(stderr, "epx-bench-cann: rank 0: HcclGetRootInfo failed\n");
        return false;
    }
    bench_meet(run->member);
    uint64_t start_ns = bench_now_ns();
    bool joined = cann_rank_join(&run->rank, &run->shared->root);
    report->create_ns = (int64_t)(bench_now_ns() - start_ns);
    return joined;
}

static bool prepare(struct run *run)
{
    struct rank_report *report = &run->shared->reports[run->member->rank];
    report->plan_ns = -1;
    if (!cann_rank_allocate(&run->rank)) {
        return false;
    }
    if (run->options->variant == FIRST_PHASE_EACH_CALL) {
        return true;
    }
    uint64_t start_ns = bench_now_ns();
    bool planned = cann_rank_plan(&run->rank);
    report->plan_ns = (int64_t)(bench_now_ns() - start_ns);
    return planned;
}

static bool run_separate(struct run *run, int64_t round)
{
    struct cann_rank *rank = &run->rank;
    int64_t first = round * operations_of_round(run->options);
    bench_touch(rank->data[CANN_X], rank->bytes[CANN_X]);
    bench_start(run->member, first + DISPATCH);
    if (!cann_rank_dispatch(rank) || !cann_rank_wait(rank)) {
        return false;
    }
    bench_stop(run->member, first + DISPATCH);
    cann_rank_experts(rank);
    bench_start(run->member, first + COMBINE);
    if (!cann_rank_combine(rank) || !cann_rank_wait(rank)) {
        return false;
    }
    bench_stop(run->member, first + COMBINE);
    return true;
}

/* The combine's rows are the experts' of the round before. */
static bool run_pair(struct run *run, int64_t round)
{
    struct cann_rank *rank = &run->rank;
    bench_touch(rank->data[CANN_X], rank->bytes[CANN_X]);
    cann_rank_experts(rank);
    bench_start(run->member, round);
    if (!cann_rank_dispatch(rank) || !cann_rank_combine(rank) || !cann_rank_wait(rank)) {
        return false;
    }
    bench_stop(run->member, round);
    return true;
}

/* One more round, into tensors that were overwritten, for what the results are. */
static bool judge(struct run *run)
{
    const struct bench_case *bench = &run->options->bench;
    struct cann_rank *rank = &run->rank;
    struct rank_report *report = &run->shared->reports[run->member->rank];
    const int64_t *counts = rank->data[CANN_TOKEN_NUMS];
    memset(rank->data[CANN_EXPAND_X], 0xa5, rank->bytes[CANN_EXPAND_X]);
    memset(rank->data[CANN_COMBINED], 0xa5, rank->bytes[CANN_COMBINED]);
    if (!cann_rank_dispatch(rank) || !cann_rank_wait(rank)) {
        return false;
    }
    cann_rank_experts(rank);
    if (!cann_rank_combine(rank) || !cann_rank_wait(rank)) {
        return false;
    }
    size_t rows = (size_t)((const int32_t *)rank->data[CANN_EP_COUNTS])[bench->rank_count * rank->local_experts - 1];
    size_t row_bytes = rank->bytes[CANN_EXPAND_X] / (size_t)rank->row_max;
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, rank->data[CANN_EXPAND_X], rows * row_bytes);
    if (bench->quantize) {
        digest = bench_digest(digest, rank->data[CANN_DYNAMIC_SCALES], rows * sizeof(float));
    }
    report->dispatch_digest = bench_digest(digest, counts, rank->bytes[CANN_TOKEN_NUMS]);
    report->combine_digest = bench_digest(BENCH_DIGEST_INIT, rank->data[CANN_COMBINED], rank->bytes[CANN_COMBINED]);
    if (bench->check) {
        report->wrong = bench_expect_dispatch(bench, rank->rank, rank->data[CANN_EXPAND_X],
                                              rank->data[CANN_DYNAMIC_SCALES], counts) +
                        bench_expect_combine(bench, rank->rank, rank->data[CANN_COMBINED]);
    }
    return true;
}

static int run_rank(struct bench_member *member, void *context)
{
    const struct engine_options *options = context;
    struct run run = {.options = options, .member = member, .shared = member->world->shared};
    if (!join(&run) || !prepare(&run)) {
        return 1;
    }
    int64_t rounds = rounds_before(&options->bench) + options->bench.rounds;
    for (int64_t round = 0; round < rounds; round++) {
        if (!(options->variant == PAIR ? run_pair(&run, round) : run_separate(&run, round))) {
            return 1;
        }
    }
    if (!judge(&run)) {
        return 1;
    }
    bench_meet(member); /* nobody is in an operation any more */
    return cann_rank_end(&run.rank) ? 0 : 1;
}

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void print_samples(const struct engine_options *options, const struct bench_world *world)
{
    static const char *const names[] = {"dispatch", "combine"};
    int64_t count = operations_of_round(options);
    for (int64_t i = 0; i < options->bench.rounds * count; i++) {
        int64_t index = rounds_before(&options->bench) * count + i;
        const struct bench_sample sample = {.engine = "cann",
                                            .variant = variant_names[options->variant],
                                            .operation = options->variant == PAIR ? "round_trip" : names[i % count],
                                            .round = i / count,
                                            .makespan_ns = bench_makespan_ns(world, index),
                                            .max_ns = bench_longest_ns(world, index),
                                            .cpu_ns = bench_cpu_per_rank_ns(world, index)};
        bench_sample_print(&sample);
    }
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void add_report(struct bench_summary *summary, const struct rank_report *report)
{
    summary->dispatch_digest =
        bench_digest(summary->dispatch_digest, &report->dispatch_digest, sizeof report->dispatch_digest);
    summary->combine_digest =
        bench_digest(summary->combine_digest, &report->combine_digest, sizeof report->combine_digest);
    summary->wrong += report->wrong;
    summary->create_ns = larger(summary->create_ns, report->create_ns);
    summary->plan_ns = larger(summary->plan_ns, report->plan_ns);
}

static bool print_summary(const struct engine_options *options, const struct bench_world *world)
{
    const struct shared *shared = world->shared;
    bool pair = options->variant == PAIR;
    int32_t major = 0;
    int32_t minor = 0;
    int32_t patch = 0;
    char version[64];
    if (aclrtGetVersion(&major, &minor, &patch) != ACL_SUCCESS) {
        return false;
    }
    (void)snprintf(version, sizeof version, "%s, acl %d.%d.%d", aclrtGetSocName(), major, minor, patch);
    struct bench_summary summary = {.engine = "cann",
                                    .variant = variant_names[options->variant],
                                    .version = version,
                                    .dispatch_digest = BENCH_DIGEST_INIT,
                                    .combine_digest = BENCH_DIGEST_INIT,
                                    .plan_ns = -1,
                                    .first_dispatch_ns = pair ? -1 : (int64_t)bench_makespan_ns(world, DISPATCH),
                                    .first_combine_ns = pair ? -1 : (int64_t)bench_makespan_ns(world, COMBINE),
                                    .dispatch_bytes_read = -1,
                                    .dispatch_bytes_written = -1,
                                    .combine_bytes_read = -1,
                                    .combine_bytes_written = -1};
    for (int64_t rank = 0; rank < options->bench.rank_count; rank++) {
        add_report(&summary, &shared->reports[rank]);
    }
    summary.wrong = options->bench.check ? summary.wrong : -1;
    bench_summary_print(&summary);
    return true;
}

/* ---- Command line -------------------------------------------------------------------------------------------- */

static bool read_variant(const char *name, enum variant *out)
{
    for (int i = 0; i < VARIANT_COUNT; i++) {
        if (strcmp(name, variant_names[i]) == 0) {
            *out = (enum variant)i;
            return true;
        }
    }
    (void)fprintf(stderr, "--variant is '%s', must be repeatable, first_phase_each_call or pair\n", name);
    return false;
}

static bool read_options(struct engine_options *options, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        if (strcmp(argv[at], "--variant") == 0 && at + 1 < argc) {
            if (!read_variant(argv[at + 1], &options->variant)) {
                return false;
            }
            at += 2;
            continue;
        }
        int taken = bench_case_option(&options->bench, argc, argv, &at);
        if (taken == 0) {
            (void)fprintf(stderr, "epx-bench-cann: cannot take '%s'\n", argv[at]);
        }
        if (taken != 1) {
            return false;
        }
    }
    return bench_case_check(&options->bench);
}

int main(int argc, char **argv)
{
    struct engine_options options = {.bench = BENCH_CASE_INIT, .variant = REPEATABLE};
    if (!read_options(&options, argc, argv) || !bench_library_threads(options.bench.threads)) {
        return 2;
    }
    const struct bench_case *bench = &options.bench;
    struct bench_world world = {
        .bench = bench,
        .operation_count = (rounds_before(bench) + bench->rounds) * operations_of_round(&options),
        .shared_bytes = sizeof(struct shared) + (size_t)bench->rank_count * sizeof(struct rank_report)};
    if (bench_world_run(&world, run_rank, &options) != 0) {
        return 1;
    }
    print_samples(&options, &world);
    return print_summary(&options, &world) && fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
