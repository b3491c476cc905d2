/*
 * epx-bench-epx: one case through include/epx/epx.h. Records: see case.h. Own options:
 *   --round-trip 0|1       also times dispatch and combine back to back
 *   --private-memory 0|1   tensors in memory of malloc, which peers cannot read in place
 *   --views 0|1            the dispatch gives addresses of rows, which the experts read where they are
 */
#include "epx/epx.h"

#include "expect.h"
#include "library_threads.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000

struct engine_options {
    struct bench_case bench;
    bool round_trip;
    bool private_memory;
    bool views;
};

struct rank_report {
    uint64_t dispatch_digest;
    uint64_t combine_digest;
    int64_t wrong;
    int64_t create_ns;
    int64_t plan_ns;
    int64_t dispatch_bytes_read;
    int64_t dispatch_bytes_written;
    int64_t combine_bytes_read;
    int64_t combine_bytes_written;
};

struct shared {
    struct epx_token token;
    struct rank_report reports[];
};

struct rank {
    const struct engine_options *options;
    struct bench_member *member;
    struct shared *shared;
    struct epx_communicator *comm;
    struct epx_plan *plan;
    int64_t local_experts;
    struct epx_dispatch_args dispatch;
    const void **views; /* (A), in place of expand_x */
    struct epx_combine_args combine;
    uint16_t *x;
    uint16_t *expert_out;
};

/* Timed operations of a round. */
enum { DISPATCH, COMBINE, ROUND_TRIP };

static int64_t operations_of_round(const struct engine_options *options)
{
    return options->round_trip ? 3 : 2;
}

/* The first call, the warm-up, the rounds that count. */
static int64_t rounds_before(const struct bench_case *bench)
{
    return 1 + bench->warmup;
}

/* ---- One rank ------------------------------------------------------------------------------------------------ */

static int failed(const struct rank *rank, const char *what)
{
    (void)fprintf(stderr, "epx-bench-epx: rank %lld: %s: %s\n", (long long)rank->member->rank, what, epx_last_error());
    return 1;
}

static int join(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    config.join_timeout_ms = TIMEOUT_MS;
    config.op_timeout_ms = TIMEOUT_MS;
    config.name = "bench";
    if (rank->member->rank == 0 && epx_token_create(&rank->shared->token) != EPX_OK) {
        return failed(rank, "token");
    }
    bench_meet(rank->member);
    uint64_t start_ns = bench_now_ns();
    if (epx_comm_create_from_token(&rank->shared->token, (uint32_t)bench->rank_count, (uint32_t)rank->member->rank,
                                   &config, &rank->comm) != EPX_OK) {
        return failed(rank, "communicator");
    }
    rank->shared->reports[rank->member->rank].create_ns = (int64_t)(bench_now_ns() - start_ns);
    return 0;
}

static int plan(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    config.expert_count = bench->expert_count;
    config.hidden_elems = bench->hidden_elems;
    config.topk = bench->topk;
    config.dtype = bench->dtype == BENCH_BF16 ? EPX_BF16 : EPX_FP16;
    config.quantization = bench->quantize ? EPX_ROWS_INT8 : EPX_ROWS_PLAIN;
    config.token_max = bench->token_count;
    uint64_t start_ns = bench_now_ns();
    if (epx_plan_create(rank->comm, &config, &rank->plan) != EPX_OK) {
        return failed(rank, "plan");
    }
    rank->shared->reports[rank->member->rank].plan_ns = (int64_t)(bench_now_ns() - start_ns);
    rank->local_experts = epx_plan_local_expert_count(rank->plan);
    return 0;
}

static void *allocate(const struct rank *rank, int64_t count, size_t elem_bytes)
{
    size_t bytes = (size_t)count * elem_bytes;
    void *memory = NULL;
    if (rank->options->private_memory) {
        memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
        if (memory != NULL) {
            memset(memory, 0, bytes);
        }
        return memory;
    }
    return epx_memory_alloc(bytes, &memory) == EPX_OK ? memory : NULL;
}

static int prepare_tensors(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    int64_t elems = bench->token_count * bench->hidden_elems;
    int64_t copies = bench->token_count * bench->topk;
    int64_t rows = epx_plan_recv_row_max(rank->plan);
    int32_t *ids = allocate(rank, copies, sizeof *ids);
    float *weights = allocate(rank, copies, sizeof *weights);
    rank->x = allocate(rank, elems, sizeof *rank->x);
    rank->expert_out = allocate(rank, rows * bench->hidden_elems, sizeof *rank->expert_out);
    rank->dispatch = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    rank->dispatch.token_count = bench->token_count;
    rank->dispatch.x = rank->x;
    rank->dispatch.expert_ids = ids;
    rank->dispatch.expand_x = allocate(rank, rows * bench->hidden_elems, bench->quantize ? 1 : sizeof(uint16_t));
    rank->dispatch.dynamic_scales = allocate(rank, rows, sizeof(float));
    rank->dispatch.expand_idx = allocate(rank, copies, sizeof(int32_t));
    rank->dispatch.expert_token_nums = allocate(rank, rank->local_experts, sizeof(int64_t));
    rank->dispatch.ep_recv_counts = allocate(rank, bench->rank_count * rank->local_experts, sizeof(int32_t));
    rank->combine = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    rank->combine.token_count = bench->token_count;
    rank->combine.expand_x = rank->expert_out;
    rank->combine.expert_ids = ids;
    rank->combine.expand_idx = rank->dispatch.expand_idx;
    rank->combine.ep_send_counts = rank->dispatch.ep_recv_counts;
    rank->combine.expert_scales = weights;
    rank->combine.x = allocate(rank, elems, sizeof(uint16_t));
    rank->views = calloc((size_t)rows + 1, sizeof *rank->views);
    if (rank->views == NULL || ids == NULL || weights == NULL || rank->x == NULL || rank->expert_out == NULL ||
        rank->dispatch.expand_x == NULL || rank->dispatch.dynamic_scales == NULL || rank->dispatch.expand_idx == NULL ||
        rank->dispatch.expert_token_nums == NULL || rank->dispatch.ep_recv_counts == NULL || rank->combine.x == NULL) {
        return failed(rank, "no memory for tensors");
    }
    bench_inputs_tokens(bench, rank->member->rank, rank->x);
    bench_inputs_routing(bench, rank->member->rank, ids, weights);
    return 0;
}

static int run_dispatch_views(struct rank *rank)
{
    const struct epx_dispatch_args *like = &rank->dispatch;
    struct epx_dispatch_views_args args = EPX_DISPATCH_VIEWS_ARGS_INIT;
    args.token_count = like->token_count;
    args.x = like->x;
    args.expert_ids = like->expert_ids;
    args.rows = rank->views;
    args.dynamic_scales = like->dynamic_scales;
    args.expand_idx = like->expand_idx;
    args.expert_token_nums = like->expert_token_nums;
    args.ep_recv_counts = like->ep_recv_counts;
    return epx_dispatch_views(rank->plan, &args) == EPX_OK ? 0 : failed(rank, "dispatch of views");
}

static int run_dispatch(struct rank *rank)
{
    if (rank->options->views) {
        return run_dispatch_views(rank);
    }
    return epx_dispatch(rank->plan, &rank->dispatch) == EPX_OK ? 0 : failed(rank, "dispatch");
}

static int run_combine(struct rank *rank)
{
    return epx_combine(rank->plan, &rank->combine) == EPX_OK ? 0 : failed(rank, "combine");
}

static size_t row_bytes_of(const struct bench_case *bench)
{
    return (size_t)bench->hidden_elems * (bench->quantize ? 1 : sizeof(uint16_t));
}

static const void *received_row(const struct rank *rank, int64_t row)
{
    if (rank->options->views) {
        return rank->views[row];
    }
    return (const char *)rank->dispatch.expand_x + (size_t)row * row_bytes_of(&rank->options->bench);
}

static void run_experts(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    int64_t row = 0;
    for (int64_t local = 0; local < rank->local_experts; local++) {
        int64_t expert = rank->member->rank * rank->local_experts + local;
        for (int64_t i = 0; i < rank->dispatch.expert_token_nums[local]; i++, row++) {
            bench_expert_row(bench, expert, received_row(rank, row), rank->dispatch.dynamic_scales[row],
                             rank->expert_out + row * bench->hidden_elems);
        }
    }
}

static int run_round(struct rank *rank, int64_t round)
{
    const struct bench_case *bench = &rank->options->bench;
    size_t x_bytes = (size_t)(bench->token_count * bench->hidden_elems) * sizeof *rank->x;
    int64_t first = round * operations_of_round(rank->options);
    bench_touch(rank->x, x_bytes);
    bench_start(rank->member, first + DISPATCH);
    if (run_dispatch(rank) != 0) {
        return 1;
    }
    bench_stop(rank->member, first + DISPATCH);
    run_experts(rank);
    bench_start(rank->member, first + COMBINE);
    if (run_combine(rank) != 0) {
        return 1;
    }
    bench_stop(rank->member, first + COMBINE);
    if (!rank->options->round_trip) {
        return 0;
    }
    bench_touch(rank->x, x_bytes);
    run_experts(rank);
    bench_start(rank->member, first + ROUND_TRIP);
    if (run_dispatch(rank) != 0 || run_combine(rank) != 0) {
        return 1;
    }
    bench_stop(rank->member, first + ROUND_TRIP);
    return 0;
}

/* One more round, into tensors that were cleared, for what the results are. */
static int judge(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    struct rank_report *report = &rank->shared->reports[rank->member->rank];
    size_t row_bytes = row_bytes_of(bench);
    size_t x_bytes = (size_t)(bench->token_count * bench->hidden_elems) * sizeof *rank->x;
    memset(rank->dispatch.expand_x, 0xa5, (size_t)epx_plan_recv_row_max(rank->plan) * row_bytes);
    memset(rank->combine.x, 0xa5, x_bytes);
    if (run_dispatch(rank) != 0) {
        return 1;
    }
    int64_t rows = rank->dispatch.ep_recv_counts[bench->rank_count * rank->local_experts - 1];
    for (int64_t row = 0; rank->options->views && row < rows; row++) {
        memcpy((char *)rank->dispatch.expand_x + (size_t)row * row_bytes, rank->views[row], row_bytes);
    }
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, rank->dispatch.expand_x, (size_t)rows * row_bytes);
    if (bench->quantize) {
        digest = bench_digest(digest, rank->dispatch.dynamic_scales, (size_t)rows * sizeof(float));
    }
    report->dispatch_digest =
        bench_digest(digest, rank->dispatch.expert_token_nums, (size_t)rank->local_experts * sizeof(int64_t));
    run_experts(rank);
    if (run_combine(rank) != 0) {
        return 1;
    }
    report->combine_digest = bench_digest(BENCH_DIGEST_INIT, rank->combine.x, x_bytes);
    if (bench->check) {
        report->wrong = bench_expect_dispatch(bench, rank->member->rank, rank->dispatch.expand_x,
                                              rank->dispatch.dynamic_scales, rank->dispatch.expert_token_nums) +
                        bench_expect_combine(bench, rank->member->rank, rank->combine.x);
    }
    return 0;
}

static int leave(struct rank *rank)
{
    struct rank_report *report = &rank->shared->reports[rank->member->rank];
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    if (epx_plan_stats(rank->plan, &stats) != EPX_OK) {
        return failed(rank, "statistics");
    }
    report->dispatch_bytes_read = stats.dispatch_bytes_read;
    report->dispatch_bytes_written = stats.dispatch_bytes_written;
    report->combine_bytes_read = stats.combine_bytes_read;
    report->combine_bytes_written = stats.combine_bytes_written;
    bench_meet(rank->member); /* tensors stay until nobody is in an operation any more; they end with the process */
    epx_plan_destroy(rank->plan);
    return epx_comm_destroy(rank->comm) == EPX_OK ? 0 : failed(rank, "destroy");
}

static int run_rounds(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    if (join(rank) != 0 || plan(rank) != 0 || prepare_tensors(rank) != 0) {
        return 1;
    }
    for (int64_t round = 0; round < rounds_before(bench) + bench->rounds; round++) {
        if (run_round(rank, round) != 0) {
            return 1;
        }
    }
    return judge(rank) != 0 || leave(rank) != 0;
}

static int run_rank(struct bench_member *member, void *context)
{
    struct rank rank = {.options = context, .member = member, .shared = member->world->shared};
    int result = run_rounds(&rank);
    free(rank.views);
    return result;
}

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void print_samples(const struct engine_options *options, const struct bench_world *world, const char *variant)
{
    static const char *const names[] = {"dispatch", "combine", "round_trip"};
    int64_t count = operations_of_round(options);
    for (int64_t round = 0; round < options->bench.rounds; round++) {
        for (int64_t operation = 0; operation < count; operation++) {
            int64_t index = (rounds_before(&options->bench) + round) * count + operation;
            struct bench_sample sample = {.engine = "epx",
                                          .variant = variant,
                                          .operation = names[operation],
                                          .round = round,
                                          .makespan_ns = bench_makespan_ns(world, index),
                                          .max_ns = bench_longest_ns(world, index)};
            bench_sample_print(&sample);
        }
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
    summary->dispatch_bytes_read += report->dispatch_bytes_read;
    summary->dispatch_bytes_written += report->dispatch_bytes_written;
    summary->combine_bytes_read += report->combine_bytes_read;
    summary->combine_bytes_written += report->combine_bytes_written;
}

static void print_summary(const struct engine_options *options, const struct bench_world *world, const char *variant)
{
    const struct shared *shared = world->shared;
    struct bench_summary summary = {.engine = "epx",
                                    .variant = variant,
                                    .version = epx_version(),
                                    .dispatch_digest = BENCH_DIGEST_INIT,
                                    .combine_digest = BENCH_DIGEST_INIT,
                                    .first_dispatch_ns = (int64_t)bench_makespan_ns(world, DISPATCH),
                                    .first_combine_ns = (int64_t)bench_makespan_ns(world, COMBINE)};
    for (int64_t rank = 0; rank < options->bench.rank_count; rank++) {
        add_report(&summary, &shared->reports[rank]);
    }
    bench_summary_print(&summary);
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

static bool read_options(struct engine_options *options, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        if (read_switch(argc, argv, &at, "--round-trip", &options->round_trip) ||
            read_switch(argc, argv, &at, "--private-memory", &options->private_memory) ||
            read_switch(argc, argv, &at, "--views", &options->views)) {
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
    return bench_case_check(&options->bench);
}

int main(int argc, char **argv)
{
    struct engine_options options = {.bench = BENCH_CASE_INIT};
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
    const char *variant = options.views ? (options.private_memory ? "staged-views" : "views")
                                        : (options.private_memory ? "staged" : "in-place");
    print_samples(&options, &world, variant);
    print_summary(&options, &world, variant);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
