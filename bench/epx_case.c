#include "epx_case.h"

#include "expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rank {
    const struct epx_case *options;
    struct bench_member *member;
    struct epx_case_shared *shared;
    struct epx_case_report *report;
    struct epx_rank own;
    struct bench_product product;
};

/* ---- Operations ---------------------------------------------------------------------------------------------- */

bool epx_case_times(const struct epx_case *options, enum epx_case_operation operation)
{
    switch (operation) {
    case EPX_CASE_ROUND_TRIP: return options->round_trip;
    case EPX_CASE_DISPATCH_PRODUCT:
    case EPX_CASE_PRODUCT: return options->bench.product_columns != 0;
    default: return true;
    }
}

static int64_t operations_before(const struct epx_case *options, int end)
{
    int64_t count = 0;
    for (int operation = 0; operation < end; operation++) {
        count += epx_case_times(options, (enum epx_case_operation)operation);
    }
    return count;
}

int64_t epx_case_operation_index(const struct epx_case *options, int64_t round, enum epx_case_operation operation)
{
    return round * operations_before(options, EPX_CASE_OPERATION_COUNT) + operations_before(options, (int)operation);
}

int64_t epx_case_rounds_before(const struct bench_case *bench)
{
    return 1 + bench->warmup;
}

int64_t epx_case_operation_count(const struct epx_case *options)
{
    int64_t rounds = epx_case_rounds_before(&options->bench) + options->bench.rounds;
    return rounds * operations_before(options, EPX_CASE_OPERATION_COUNT);
}

static size_t reports_bytes(const struct bench_case *bench)
{
    size_t bytes = sizeof(struct epx_case_shared) + (size_t)bench->rank_count * sizeof(struct epx_case_report);
    return (bytes + 63) & ~(size_t)63;
}

size_t epx_case_shared_bytes(const struct bench_case *bench)
{
    return reports_bytes(bench) + (size_t)(bench->hidden_elems * bench->product_columns) * sizeof(float);
}

float *epx_case_weights(const struct bench_case *bench, void *shared)
{
    return (float *)(void *)((char *)shared + reports_bytes(bench));
}

/* ---- Rounds -------------------------------------------------------------------------------------------------- */

/* Ranks that are threads share one process, of which the first one speaks. */
static bool speaks_of_memory(const struct rank *rank)
{
    return rank->options->memory && (rank->options->bench.processes || rank->own.rank == 0);
}

/* Of all ranks at once: nobody moves on before everybody has looked. */
static int look_at_memory(struct rank *rank)
{
    bench_meet(rank->member);
    if (speaks_of_memory(rank) && !bench_memory_use_read(&rank->report->memory)) {
        return 1;
    }
    bench_meet(rank->member);
    return 0;
}

/* Below those that sockets get without asking. */
#define ROOT_PORTS "19000-19015"

/* What a launcher would tell ranks on several hosts. */
static bool tell_hosts(const struct bench_case *bench, int64_t rank)
{
    char address[BENCH_ADDRESS_BYTES];
    char root[BENCH_ADDRESS_BYTES + sizeof ROOT_PORTS];
    char name[32];
    if (bench->host_count == 1) {
        return true;
    }
    bench_hosts_address(0, address);
    (void)snprintf(root, sizeof root, "%s:" ROOT_PORTS, address);
    (void)snprintf(name, sizeof name, "bench-host%lld", (long long)bench_case_host(bench, rank));
    return setenv("EPX_ROOT", root, 1) == 0 && setenv("EPX_HOST_ID", name, 1) == 0;
}

static int start(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    if (!tell_hosts(bench, rank->own.rank) || (rank->options->memory && look_at_memory(rank) != 0)) {
        return 1;
    }
    rank->report->before_bytes = rank->report->memory.resident_bytes;
    if (rank->own.rank == 0 && epx_token_create(&rank->shared->token) != EPX_OK) {
        return epx_rank_failed(&rank->own, "token");
    }
    bench_meet(rank->member);
    uint64_t start_ns = bench_now_ns();
    if (epx_rank_join(&rank->own, &rank->shared->token) != 0) {
        return 1;
    }
    uint64_t joined_ns = bench_now_ns();
    if (epx_rank_plan(&rank->own) != 0) {
        return 1;
    }
    rank->report->create_ns = (int64_t)(joined_ns - start_ns);
    rank->report->plan_ns = (int64_t)(bench_now_ns() - joined_ns);
    bool ready = epx_rank_allocate(&rank->own) == 0;
    return !ready ||
           (bench->product_columns != 0 &&
            !bench_product_init(&rank->product, bench, epx_case_weights(bench, rank->shared), rank->own.row_max));
}

static int run_operation(struct rank *rank, enum epx_case_operation operation)
{
    if (operation != EPX_CASE_COMBINE && operation != EPX_CASE_PRODUCT && epx_rank_dispatch(&rank->own) != 0) {
        return 1;
    }
    if (operation == EPX_CASE_DISPATCH_PRODUCT || operation == EPX_CASE_PRODUCT) {
        struct bench_product_rows rows = epx_rank_product_rows(&rank->own);
        bench_product_run(&rank->product, &rows);
    }
    return operation == EPX_CASE_COMBINE || operation == EPX_CASE_ROUND_TRIP ? epx_rank_combine(&rank->own) : 0;
}

static int run_timed(struct rank *rank, int64_t round, enum epx_case_operation operation)
{
    int64_t index = epx_case_operation_index(rank->options, round, operation);
    bench_start(rank->member, index);
    if (run_operation(rank, operation) != 0) {
        return 1;
    }
    bench_stop(rank->member, index);
    return 0;
}

static size_t x_bytes_of(const struct bench_case *bench)
{
    return (size_t)(bench->token_count * bench->hidden_elems) * sizeof(uint16_t);
}

/* The experts' output again; row views have ended, but what was made of them is there. */
static int renew_experts(struct rank *rank)
{
    int64_t elems = epx_rank_row_count(&rank->own) * rank->options->bench.hidden_elems;
    if (!rank->options->views) {
        return epx_rank_experts(&rank->own);
    }
    bench_touch(rank->own.expert_out, (size_t)elems * sizeof *rank->own.expert_out);
    return 0;
}

static int run_round(struct rank *rank, int64_t round)
{
    const struct epx_case *options = rank->options;
    bench_touch(rank->own.x, x_bytes_of(&options->bench));
    if (run_timed(rank, round, EPX_CASE_DISPATCH) != 0 || epx_rank_experts(&rank->own) != 0 ||
        run_timed(rank, round, EPX_CASE_COMBINE) != 0) {
        return 1;
    }
    if (options->round_trip) {
        bench_touch(rank->own.x, x_bytes_of(&options->bench));
        if (renew_experts(rank) != 0 || run_timed(rank, round, EPX_CASE_ROUND_TRIP) != 0) {
            return 1;
        }
    }
    if (options->bench.product_columns != 0) {
        bench_touch(rank->own.x, x_bytes_of(&options->bench));
        return run_timed(rank, round, EPX_CASE_DISPATCH_PRODUCT) != 0 ||
               run_timed(rank, round, EPX_CASE_PRODUCT) != 0 || epx_rank_release(&rank->own) != 0;
    }
    return 0;
}

/* ---- Results ------------------------------------------------------------------------------------------------- */

/* In a dispatch of its own, into products that were cleared. */
static int judge_product(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    size_t elems = (size_t)(epx_rank_row_count(&rank->own) * bench->product_columns);
    if (rank->product.out == NULL) {
        return 1; /* start() made it for every point with a product */
    }
    memset(rank->product.out, 0xa5, elems * sizeof *rank->product.out);
    if (run_operation(rank, EPX_CASE_DISPATCH_PRODUCT) != 0) {
        return 1;
    }
    struct bench_product_rows rows = epx_rank_product_rows(&rank->own);
    rank->report->product_digest = bench_product_digest(&rank->product, &rows);
    rank->report->wrong += bench->check ? bench_product_check(&rank->product, &rows) : 0;
    return epx_rank_release(&rank->own);
}

static void judge_dispatch(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    const struct epx_dispatch_args *made = &rank->own.dispatch;
    size_t row_bytes = epx_rank_row_bytes(&rank->own);
    int64_t rows = epx_rank_row_count(&rank->own);
    for (int64_t row = 0; rank->options->views && row < rows; row++) {
        memcpy((char *)made->expand_x + (size_t)row * row_bytes, epx_rank_row(&rank->own, row), row_bytes);
    }
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, made->expand_x, (size_t)rows * row_bytes);
    if (bench->quantize) {
        digest = bench_digest(digest, made->dynamic_scales, (size_t)rows * sizeof(float));
    }
    rank->report->dispatch_digest =
        bench_digest(digest, made->expert_token_nums, (size_t)rank->own.local_experts * sizeof(int64_t));
    if (bench->check) {
        rank->report->wrong +=
            bench_expect_dispatch(bench, rank->own.rank, made->expand_x, made->dynamic_scales, made->expert_token_nums);
    }
}

/* One more round, into tensors that were cleared as far as the rounds before wrote them, for what the results are. */
static int64_t expect_combine(const struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    const uint16_t *x = rank->own.combine.x;
    return rank->options->two_level ? bench_expect_two_level(bench, rank->own.rank, x)
                                    : bench_expect_combine(bench, rank->own.rank, x);
}

static int judge(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    size_t rows = (size_t)epx_rank_row_count(&rank->own);
    if ((bench->product_columns != 0 && judge_product(rank) != 0) ||
        epx_rank_need(&rank->own, rank->own.dispatch.expand_x, rows * epx_rank_row_bytes(&rank->own)) != 0) {
        return 1;
    }
    memset(rank->own.dispatch.expand_x, 0xa5, rows * epx_rank_row_bytes(&rank->own));
    memset(rank->own.combine.x, 0xa5, x_bytes_of(bench));
    if (epx_rank_dispatch(&rank->own) != 0) {
        return 1;
    }
    judge_dispatch(rank);
    if (epx_rank_experts(&rank->own) != 0 || epx_rank_combine(&rank->own) != 0) {
        return 1;
    }
    rank->report->combine_digest = bench_digest(BENCH_DIGEST_INIT, rank->own.combine.x, x_bytes_of(bench));
    rank->report->wrong += bench->check ? expect_combine(rank) : 0;
    return 0;
}

static int leave(struct rank *rank)
{
    struct epx_stats stats = {.struct_bytes = sizeof stats};
    if (epx_plan_stats(rank->own.plan, &stats) != EPX_OK) {
        return epx_rank_failed(&rank->own, "statistics");
    }
    rank->report->dispatch_bytes_read = stats.dispatch_bytes_read;
    rank->report->dispatch_bytes_written = stats.dispatch_bytes_written;
    rank->report->combine_bytes_read = stats.combine_bytes_read;
    rank->report->combine_bytes_written = stats.combine_bytes_written;
    bench_meet(rank->member); /* tensors stay until nobody is in an operation any more */
    return epx_rank_end(&rank->own);
}

static int run_rounds(struct rank *rank)
{
    const struct bench_case *bench = &rank->options->bench;
    if (start(rank) != 0) {
        return 1;
    }
    for (int64_t round = 0; round < epx_case_rounds_before(bench) + bench->rounds; round++) {
        if (run_round(rank, round) != 0) {
            return 1;
        }
    }
    if (rank->options->memory) {
        if (look_at_memory(rank) != 0) {
            return 1;
        }
        rank->report->tensor_bytes = epx_rank_tensor_bytes(&rank->own);
    }
    return judge(rank) != 0 || leave(rank) != 0;
}

int epx_case_run(struct bench_member *member, void *context)
{
    const struct epx_case *options = context;
    struct rank rank = {.options = options,
                        .member = member,
                        .shared = member->world->shared,
                        .own = {.bench = &options->bench,
                                .rank = member->rank,
                                .private_memory = options->private_memory,
                                .views = options->views,
                                .two_level = options->two_level}};
    rank.report = &rank.shared->reports[member->rank];
    int result = run_rounds(&rank);
    bench_product_fini(&rank.product);
    free(rank.own.row_views);
    return result;
}
