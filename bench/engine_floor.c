/*
 * epx-bench-floor: the bytes of a case moved by the library's kernels and nothing else: sizes and row lists are known
 * beforehand, nobody checks anything, and a bare barrier stands at both ends of an operation, because no exchange is
 * over before nobody reads anybody's tensors any more. Records: see case.h. Own option: --round-trip 0|1.
 *
 * Variants of dispatch; all of them run in turn, a few rounds each, among the same ranks:
 *   pull      the receiver copies with plain stores
 *   pull_nt   with stores that bypass the cache
 *   push_nt   the sender goes over its tokens once and writes their copies so
 * With quantisation the sender first makes int8 rows in its own memory. In the combine each rank sums rows where they
 * lie in their owners' memory: gather after pull, gather_nt, which writes past the cache, after the others. With
 * --threads N a rank is N workers, which share its rows; with 0 as many as there are cores for it, at most 8, while
 * there is enough to move for each.
 */
#include "expect.h"
#include "floor_moves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const variant_names[FLOOR_VARIANT_COUNT] = {"pull", "pull_nt", "push_nt"};
static const char *const combine_names[FLOOR_VARIANT_COUNT] = {"gather", "gather_nt", "gather_nt"};

enum operation { DISPATCH, COMBINE, ROUND_TRIP };

#define WORKER_MAX       8
#define WORKER_BYTES_MIN (256 << 10)

struct engine {
    struct bench_case bench;
    bool round_trip;
    struct floor_layout layout;
    struct bench_world world;
    int64_t worker_count;        /* of each rank */
    struct rank_report *reports; /* (W, FLOOR_VARIANT_COUNT), shared */
    char *tensors;               /* shared */
};

struct rank_report {
    uint64_t dispatch_digest;
    uint64_t combine_digest;
    int64_t wrong;
};

/* ---- Rounds -------------------------------------------------------------------------------------------------- */

/* Untimed rounds share the place of one. */
#define UNTIMED 0
#define FIRST   1

/* Rounds of a variant in a row. The one before them is not counted: it finds lines where another variant's kind of
 * stores left them. */
#define BLOCK_ROUNDS 5

static int64_t operation_index(const struct engine *engine, int64_t round, enum floor_variant variant,
                               enum operation what)
{
    return (round * FLOOR_VARIANT_COUNT + (int64_t)variant) * (engine->round_trip ? 3 : 2) + (int64_t)what;
}

static void run_round(const struct engine *engine, const struct floor_member *rank, int64_t round,
                      enum floor_variant variant)
{
    floor_touch(rank);
    bench_start(rank->member, operation_index(engine, round, variant, DISPATCH));
    floor_dispatch(rank, variant);
    bench_stop(rank->member, operation_index(engine, round, variant, DISPATCH));
    floor_experts(rank);
    bench_start(rank->member, operation_index(engine, round, variant, COMBINE));
    floor_combine(rank, variant != FLOOR_PULL);
    bench_stop(rank->member, operation_index(engine, round, variant, COMBINE));
    if (engine->round_trip) {
        floor_touch(rank);
        floor_experts(rank);
        bench_start(rank->member, operation_index(engine, round, variant, ROUND_TRIP));
        floor_dispatch(rank, variant);
        floor_combine(rank, variant != FLOOR_PULL);
        bench_stop(rank->member, operation_index(engine, round, variant, ROUND_TRIP));
    }
}

static void run_block(const struct engine *engine, const struct floor_member *rank, int64_t first,
                      enum floor_variant variant)
{
    const struct bench_case *bench = rank->layout->bench;
    int64_t untimed = first == 0 ? 1 + bench->warmup : 1;
    for (int64_t i = 0; i < untimed; i++) {
        run_round(engine, rank, UNTIMED, variant);
    }
    for (int64_t round = first; round < first + BLOCK_ROUNDS && round < bench->rounds; round++) {
        run_round(engine, rank, FIRST + round, variant);
    }
}

static void clear_results(const struct floor_member *rank)
{
    const struct floor_layout *layout = rank->layout;
    const struct bench_case *bench = layout->bench;
    memset(rank->tensors + rank->mine->expand_x, 0xa5, (size_t)rank->mine->row_count * layout->row_bytes);
    memset(rank->tensors + rank->mine->y, 0xa5, (size_t)(bench->token_count * bench->hidden_elems) * sizeof(uint16_t));
}

static void report_results(const struct engine *engine, const struct floor_member *rank, enum floor_variant variant)
{
    const struct floor_layout *layout = rank->layout;
    const struct bench_case *bench = layout->bench;
    const struct floor_rank *mine = rank->mine;
    struct rank_report *report = &engine->reports[rank->index * FLOOR_VARIANT_COUNT + (int64_t)variant];
    const char *expand_x = rank->tensors + mine->expand_x;
    const float *scales = (const float *)(const void *)(rank->tensors + mine->row_scales);
    const uint16_t *y = (const uint16_t *)(const void *)(rank->tensors + mine->y);
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, expand_x, (size_t)mine->row_count * layout->row_bytes);
    if (bench->quantize) {
        digest = bench_digest(digest, scales, (size_t)mine->row_count * sizeof *scales);
    }
    report->dispatch_digest =
        bench_digest(digest, mine->expert_rows, (size_t)layout->local_experts * sizeof *mine->expert_rows);
    report->combine_digest =
        bench_digest(BENCH_DIGEST_INIT, y, (size_t)(bench->token_count * bench->hidden_elems) * sizeof *y);
    if (bench->check) {
        report->wrong = bench_expect_dispatch(bench, rank->index, expand_x, scales, mine->expert_rows) +
                        bench_expect_combine(bench, rank->index, y);
    }
}

/* One more round, into tensors that were cleared, for what the results are. */
static void judge(const struct engine *engine, const struct floor_member *rank, enum floor_variant variant)
{
    if (rank->worker == 0) {
        clear_results(rank);
    }
    bench_meet(rank->member);
    floor_dispatch(rank, variant);
    floor_experts(rank);
    bench_meet(rank->member);
    floor_combine(rank, variant != FLOOR_PULL);
    if (rank->worker == 0) {
        report_results(engine, rank, variant);
    }
    bench_meet(rank->member);
}

static int run_rank(struct bench_member *member, void *context)
{
    struct engine *engine = context;
    const struct bench_case *bench = &engine->bench;
    struct floor_member rank = {.layout = &engine->layout,
                                .worker_count = engine->worker_count,
                                .member = member,
                                .index = member->rank / engine->worker_count,
                                .worker = member->rank % engine->worker_count,
                                .kernels = epx_kernels(),
                                .tensors = engine->tensors,
                                .summands = malloc((size_t)bench->topk * sizeof *rank.summands)};
    rank.mine = &engine->layout.ranks[rank.index];
    if (rank.summands == NULL) {
        (void)fprintf(stderr, "epx-bench-floor: no memory for rank %lld\n", (long long)rank.index);
        return 1;
    }
    if (rank.worker == 0) {
        bench_inputs_tokens(bench, rank.index, (uint16_t *)(void *)(rank.tensors + rank.mine->x));
    }
    for (int64_t first = 0; first < bench->rounds; first += BLOCK_ROUNDS) {
        for (int variant = 0; variant < FLOOR_VARIANT_COUNT; variant++) {
            run_block(engine, &rank, first, (enum floor_variant)variant);
        }
    }
    for (int variant = 0; variant < FLOOR_VARIANT_COUNT; variant++) {
        judge(engine, &rank, (enum floor_variant)variant);
    }
    free(rank.summands);
    return 0;
}

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void print_sample(const struct engine *engine, int64_t round, enum floor_variant variant, enum operation what)
{
    static const char *const names[] = {"dispatch", "combine", "round_trip"};
    int64_t index = operation_index(engine, FIRST + round, variant, what);
    struct bench_sample sample = {.engine = "floor",
                                  .variant = (what == COMBINE ? combine_names : variant_names)[variant],
                                  .operation = names[what],
                                  .round = what == COMBINE ? round * FLOOR_VARIANT_COUNT + (int64_t)variant : round,
                                  .makespan_ns = bench_makespan_ns(&engine->world, index),
                                  .max_ns = bench_longest_ns(&engine->world, index),
                                  .cpu_ns = bench_cpu_per_rank_ns(&engine->world, index)};
    bench_sample_print(&sample);
}

static void print_summary(const struct engine *engine, enum floor_variant variant)
{
    const struct bench_case *bench = &engine->bench;
    int64_t copies = bench->rank_count * bench->token_count * bench->topk;
    int64_t tokens_bytes = bench->rank_count * bench->token_count * bench->hidden_elems * (int64_t)sizeof(uint16_t);
    struct bench_summary summary = {.engine = "floor",
                                    .variant = variant_names[variant],
                                    .version = EPX_BENCH_VERSION,
                                    .isa = epx_kernels()->isa,
                                    .dispatch_digest = BENCH_DIGEST_INIT,
                                    .combine_digest = BENCH_DIGEST_INIT,
                                    .create_ns = -1,
                                    .plan_ns = -1,
                                    .first_dispatch_ns = -1,
                                    .first_combine_ns = -1,
                                    .dispatch_bytes_read = -1,
                                    .dispatch_bytes_written = copies * (int64_t)engine->layout.row_bytes,
                                    .combine_bytes_read = copies * bench->hidden_elems * (int64_t)sizeof(uint16_t),
                                    .combine_bytes_written = tokens_bytes};
    for (int64_t rank = 0; rank < bench->rank_count; rank++) {
        const struct rank_report *report = &engine->reports[rank * FLOOR_VARIANT_COUNT + (int64_t)variant];
        summary.dispatch_digest = bench_digest(summary.dispatch_digest, &report->dispatch_digest, sizeof(uint64_t));
        summary.combine_digest = bench_digest(summary.combine_digest, &report->combine_digest, sizeof(uint64_t));
        summary.wrong += report->wrong;
    }
    bench_summary_print(&summary);
}

static void print_records(const struct engine *engine)
{
    for (int64_t round = 0; round < engine->bench.rounds; round++) {
        for (int variant = 0; variant < FLOOR_VARIANT_COUNT; variant++) {
            for (int what = DISPATCH; what <= (engine->round_trip ? ROUND_TRIP : COMBINE); what++) {
                print_sample(engine, round, (enum floor_variant)variant, (enum operation)what);
            }
        }
    }
    for (int variant = 0; variant < FLOOR_VARIANT_COUNT; variant++) {
        print_summary(engine, (enum floor_variant)variant);
    }
}

/* ---- Command line -------------------------------------------------------------------------------------------- */

static bool read_options(struct engine *engine, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        if (strcmp(argv[at], "--round-trip") == 0 && at + 1 < argc &&
            (strcmp(argv[at + 1], "0") == 0 || strcmp(argv[at + 1], "1") == 0)) {
            engine->round_trip = argv[at + 1][0] == '1';
            at += 2;
            continue;
        }
        int taken = bench_case_option(&engine->bench, argc, argv, &at);
        if (taken == 0) {
            (void)fprintf(stderr, "epx-bench-floor: cannot take '%s'\n", argv[at]);
        }
        if (taken != 1) {
            return false;
        }
    }
    return bench_case_check(&engine->bench);
}

static int64_t count_workers(const struct bench_case *bench)
{
    int64_t rank_bytes = bench->token_count * bench->topk * bench->hidden_elems * (int64_t)sizeof(uint16_t);
    int64_t useful = rank_bytes / WORKER_BYTES_MIN;
    int64_t workers = bench_core_count() / bench->rank_count;
    if (bench->threads != 0) {
        return bench->threads;
    }
    workers = workers < WORKER_MAX ? workers : WORKER_MAX;
    workers = workers < useful ? workers : useful;
    return workers > 1 ? workers : 1;
}

int main(int argc, char **argv)
{
    struct engine engine = {.bench = BENCH_CASE_INIT};
    if (!read_options(&engine, argc, argv)) {
        return 2;
    }
    const struct bench_case *bench = &engine.bench;
    if (!floor_layout_create(&engine.layout, bench)) {
        return 1;
    }
    size_t report_bytes = (size_t)bench->rank_count * FLOOR_VARIANT_COUNT * sizeof *engine.reports;
    engine.worker_count = count_workers(bench);
    engine.world =
        (struct bench_world){.bench = bench,
                             .member_count = bench->rank_count * engine.worker_count,
                             .operation_count = operation_index(&engine, FIRST + bench->rounds, FLOOR_PULL, DISPATCH),
                             .shared_bytes = engine.layout.shared_bytes + report_bytes};
    if (bench_world_map(&engine.world) != 0) {
        return 1;
    }
    engine.tensors = engine.world.shared;
    engine.reports = (struct rank_report *)(void *)(engine.tensors + engine.layout.shared_bytes);
    if (bench_world_run(&engine.world, run_rank, &engine) != 0) {
        return 1;
    }
    print_records(&engine);
    floor_layout_destroy(&engine.layout);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
