/*
 * epx-bench-mpi-openmpi, epx-bench-mpi-mpich: one case through the pipeline that MPI users write. To be started by
 * mpirun with one process a rank; --threads and --processes mean nothing here. Records: see case.h. Own options:
 *   --variant NAME     what the records call the library's settings (mpi_settings.h)
 *   --round-trip 0|1   also times dispatch and combine back to back
 */
#include "expect.h"
#include "hosts.h"
#include "kernel/kernel.h"
#include "mpi_exchange.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Timed operations of a round. */
enum operation { DISPATCH, COMBINE, ROUND_TRIP };

struct engine {
    struct bench_case bench;
    const char *variant;
    bool round_trip;
    int rank;
    int sent_counter; /* of bench_hosts_sent_bytes */
    uint16_t *x;
    int32_t *expert_ids;
    float *weights;
    struct mpi_exchange exchange;
    struct bench_sweep sweep;
    struct bench_span *spans;     /* (rounds, operations of a round): this rank's */
    struct bench_summary summary; /* rank 0's */
};

static int64_t operations_of_round(const struct engine *engine)
{
    return engine->round_trip ? 3 : 2;
}

/* The first call, the warm-up, the rounds that count. */
static int64_t rounds_before(const struct engine *engine)
{
    return 1 + engine->bench.warmup;
}

static int64_t operation_count(const struct engine *engine)
{
    return (rounds_before(engine) + engine->bench.rounds) * operations_of_round(engine);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        (void)fprintf(stderr, "epx-bench-mpi: no memory for %zu elements of %zu bytes\n", count, size);
        MPI_Abort(MPI_COMM_WORLD, 1);
        abort();
    }
    return memory;
}

/* ---- Rounds -------------------------------------------------------------------------------------------------- */

/* By the first rank of each of several hosts; with the two barriers' messages. */
static int64_t sent_bytes(struct engine *engine)
{
    bool speaks = engine->bench.host_count > 1 &&
                  (engine->rank == 0 ||
                   bench_case_host(&engine->bench, engine->rank - 1) != bench_case_host(&engine->bench, engine->rank));
    return speaks ? bench_hosts_sent_bytes(&engine->sent_counter) : 0;
}

static void run_timed(struct engine *engine, int64_t turn, enum operation operation)
{
    struct bench_span *span = &engine->spans[turn];
    bench_sweep_run(&engine->sweep);
    int64_t sent_before = sent_bytes(engine);
    mpi_exchange_meet(engine->exchange.yields);
    bench_skew_wait(&engine->bench, engine->rank, turn);
    span->cpu_ns = bench_cpu_ns(&engine->bench);
    span->start_ns = bench_now_ns();
    if (operation != COMBINE) {
        mpi_exchange_dispatch(&engine->exchange);
    }
    if (operation != DISPATCH) {
        mpi_exchange_combine(&engine->exchange);
    }
    span->end_ns = bench_now_ns();
    span->cpu_ns = bench_cpu_ns(&engine->bench) - span->cpu_ns;
    mpi_exchange_meet(engine->exchange.yields);
    span->wire_bytes = sent_bytes(engine) - sent_before;
}

static void run_experts(struct engine *engine)
{
    struct mpi_exchange *exchange = &engine->exchange;
    int64_t row = 0;
    for (int l = 0; l < exchange->local_experts; l++) {
        for (int64_t i = 0; i < exchange->expert_rows[l]; i++, row++) {
            bench_expert_row(&engine->bench, (int64_t)engine->rank * exchange->local_experts + l,
                             exchange->expand_x + (size_t)row * exchange->received_row_bytes,
                             exchange->scales != NULL ? exchange->scales[row] : 1.0f,
                             exchange->expert_out + row * engine->bench.hidden_elems);
        }
    }
}

static void touch_tokens(struct engine *engine)
{
    bench_touch(engine->x, (size_t)(engine->bench.token_count * engine->bench.hidden_elems) * sizeof *engine->x);
}

static void run_rounds(struct engine *engine)
{
    for (int64_t turn = 0; turn < operation_count(engine); turn += operations_of_round(engine)) {
        touch_tokens(engine);
        run_timed(engine, turn + DISPATCH, DISPATCH);
        run_experts(engine);
        run_timed(engine, turn + COMBINE, COMBINE);
        if (engine->round_trip) {
            touch_tokens(engine);
            run_experts(engine);
            run_timed(engine, turn + ROUND_TRIP, ROUND_TRIP);
        }
    }
}

/* ---- Results ------------------------------------------------------------------------------------------------- */

static int64_t largest(uint64_t mine)
{
    uint64_t all = 0;
    MPI_Reduce(&mine, &all, 1, MPI_UINT64_T, MPI_MAX, 0, MPI_COMM_WORLD);
    return (int64_t)all;
}

/* Of the ranks' digests, at rank 0. */
static uint64_t digest_of_all(const struct engine *engine, uint64_t mine)
{
    size_t count = (size_t)engine->bench.rank_count;
    uint64_t *digests = allocate(count, sizeof mine);
    MPI_Gather(&mine, 1, MPI_UINT64_T, digests, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, digests, count * sizeof mine);
    free(digests);
    return digest;
}

static uint64_t digest_received(const struct mpi_exchange *exchange)
{
    size_t rows = (size_t)exchange->row_count;
    uint64_t digest = bench_digest(BENCH_DIGEST_INIT, exchange->expand_x, rows * exchange->received_row_bytes);
    if (exchange->scales != NULL) {
        digest = bench_digest(digest, exchange->scales, rows * sizeof *exchange->scales);
    }
    return bench_digest(digest, exchange->expert_rows, (size_t)exchange->local_experts * sizeof *exchange->expert_rows);
}

/* One more round, into buffers that were overwritten, for what the results are. */
static void judge(struct engine *engine)
{
    const struct bench_case *bench = &engine->bench;
    struct mpi_exchange *exchange = &engine->exchange;
    size_t y_bytes = (size_t)bench->token_count * exchange->returned_row_bytes;
    memset(exchange->expand_x, 0xa5, (size_t)exchange->row_count * exchange->received_row_bytes);
    memset(exchange->y, 0xa5, y_bytes);
    mpi_exchange_dispatch(exchange);
    run_experts(engine);
    mpi_exchange_combine(exchange);
    engine->summary.dispatch_digest = digest_of_all(engine, digest_received(exchange));
    engine->summary.combine_digest = digest_of_all(engine, bench_digest(BENCH_DIGEST_INIT, exchange->y, y_bytes));
    int64_t wrong = 0;
    if (bench->check) {
        wrong =
            bench_expect_dispatch(bench, engine->rank, exchange->expand_x, exchange->scales, exchange->expert_rows) +
            bench_expect_combine(bench, engine->rank, exchange->y);
    }
    MPI_Reduce(&wrong, &engine->summary.wrong, 1, MPI_INT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    engine->summary.wrong = bench->check ? engine->summary.wrong : -1;
}

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void print_samples(const struct engine *engine, const struct bench_world *world)
{
    static const char *const names[] = {"dispatch", "combine", "round_trip"};
    int64_t count = operations_of_round(engine);
    for (int64_t i = 0; i < engine->bench.rounds * count; i++) {
        int64_t index = rounds_before(engine) * count + i;
        const struct bench_sample sample = {.engine = "mpi",
                                            .variant = engine->variant,
                                            .operation = names[i % count],
                                            .round = i / count,
                                            .makespan_ns = bench_makespan_ns(world, index),
                                            .max_ns = bench_longest_ns(world, index),
                                            .cpu_ns = bench_cpu_per_rank_ns(world, index),
                                            .wire_bytes = bench_wire_bytes(world, index)};
        bench_sample_print(&sample);
    }
}

static void report_samples(struct engine *engine)
{
    int64_t ranks = engine->bench.rank_count;
    struct bench_world world = {.bench = &engine->bench, .operation_count = operation_count(engine)};
    world.spans = allocate((size_t)(world.operation_count * ranks), sizeof *world.spans);
    for (int64_t i = 0; i < world.operation_count; i++) {
        MPI_Gather(&engine->spans[i], sizeof *engine->spans, MPI_BYTE, &world.spans[i * ranks], sizeof *engine->spans,
                   MPI_BYTE, 0, MPI_COMM_WORLD);
    }
    if (engine->rank == 0) {
        print_samples(engine, &world);
        engine->summary.first_dispatch_ns = (int64_t)bench_makespan_ns(&world, DISPATCH);
        engine->summary.first_combine_ns = (int64_t)bench_makespan_ns(&world, COMBINE);
    }
    free(world.spans);
}

/* What comes before the first comma or the end of the line; JSON's own characters as blanks. */
static const char *library_version(void)
{
    static char version[MPI_MAX_LIBRARY_VERSION_STRING + 1];
    int length = 0;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, ",\n")] = '\0';
    for (char *at = version; *at != '\0'; at++) {
        *at = (char)(*at < ' ' || *at == '"' || *at == '\\' ? ' ' : *at);
    }
    return version;
}

static void report_summary(struct engine *engine)
{
    struct bench_summary *summary = &engine->summary;
    summary->engine = "mpi";
    summary->variant = engine->variant;
    summary->version = library_version();
    summary->isa = epx_kernels()->isa;
    summary->dispatch_bytes_read = -1;
    summary->dispatch_bytes_written = -1;
    summary->combine_bytes_read = -1;
    summary->combine_bytes_written = -1;
    if (engine->rank == 0) {
        bench_summary_print(summary);
    }
}

/* ---- Command line -------------------------------------------------------------------------------------------- */

/* Takes an own option and its value. */
static bool read_own_option(struct engine *engine, int argc, char **argv, int *at)
{
    if (*at + 1 >= argc) {
        return false;
    }
    const char *value = argv[*at + 1];
    if (strcmp(argv[*at], "--variant") == 0) {
        engine->variant = value;
    } else if (strcmp(argv[*at], "--round-trip") == 0 && (strcmp(value, "0") == 0 || strcmp(value, "1") == 0)) {
        engine->round_trip = value[0] == '1';
    } else {
        return false;
    }
    *at += 2;
    return true;
}

static bool read_options(struct engine *engine, int argc, char **argv)
{
    for (int at = 1; at < argc;) {
        if (read_own_option(engine, argc, argv, &at)) {
            continue;
        }
        int taken = bench_case_option(&engine->bench, argc, argv, &at);
        if (taken == 0) {
            (void)fprintf(stderr, "epx-bench-mpi: cannot take '%s'\n", argv[at]);
        }
        if (taken != 1) {
            return false;
        }
    }
    return bench_case_check(&engine->bench);
}

/* Before the library starts: it asks then what networks there are. What is set in the environment stays. */
static bool enter_host(const struct bench_case *bench)
{
    const char *number = getenv("PMI_RANK"); /* MPICH's launcher sets it */
    char *end = NULL;
    char cliques[32];
    struct bench_hosts hosts;
    int64_t rank = number != NULL ? strtoll(number, &end, 10) : -1;
    if (bench->host_count == 1) {
        return true;
    }
    if (rank < 0 || rank >= bench->rank_count || bench->rank_count % bench->host_count != 0) {
        (void)fprintf(stderr,
                      "epx-bench-mpi: --hosts is %lld, must be 1 but with MPICH and equally many ranks on each\n",
                      (long long)bench->host_count);
        return false;
    }
    (void)snprintf(cliques, sizeof cliques, "%lld", (long long)bench->host_count);
    return bench_hosts_get(&hosts, bench->host_count, "epx-bench-mpi") &&
           bench_hosts_enter(&hosts, bench_case_host(bench, rank)) && setenv("UCX_TLS", "tcp,self", 0) == 0 &&
           setenv("UCX_NET_DEVICES", BENCH_HOST_INTERFACE, 0) == 0 &&
           setenv("MPIR_CVAR_NUM_CLIQUES", cliques, 1) == 0 && setenv("MPIR_CVAR_CLIQUES_BY_BLOCK", "1", 1) == 0;
}

static bool start(struct engine *engine, int argc, char **argv)
{
    int size = 0;
    uint64_t start_ns = bench_now_ns();
    MPI_Init(&argc, &argv);
    engine->summary.create_ns = largest(bench_now_ns() - start_ns);
    MPI_Comm_rank(MPI_COMM_WORLD, &engine->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (engine->bench.rank_count != size) {
        (void)fprintf(stderr, "epx-bench-mpi: --ranks is %lld, must be the %d that mpirun started\n",
                      (long long)engine->bench.rank_count, size);
        return false;
    }
    return true;
}

static void prepare(struct engine *engine)
{
    const struct bench_case *bench = &engine->bench;
    size_t copies = (size_t)(bench->token_count * bench->topk);
    engine->x = allocate((size_t)(bench->token_count * bench->hidden_elems), sizeof *engine->x);
    engine->expert_ids = allocate(copies, sizeof *engine->expert_ids);
    engine->weights = allocate(copies, sizeof *engine->weights);
    engine->spans = allocate((size_t)operation_count(engine), sizeof *engine->spans);
    bench_inputs_tokens(bench, engine->rank, engine->x);
    bench_inputs_routing(bench, engine->rank, engine->expert_ids, engine->weights);
    if (!bench_sweep_init(&engine->sweep, bench, engine->rank)) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    const struct mpi_tokens tokens = {engine->x, engine->expert_ids, engine->weights};
    mpi_exchange_meet(engine->exchange.yields);
    uint64_t start_ns = bench_now_ns();
    mpi_exchange_create(&engine->exchange, bench, &tokens);
    engine->summary.plan_ns = largest(bench_now_ns() - start_ns);
}

/* MPICH over UCX's TCP can hang in its end: a rank whose endpoints are closed waits for the others without serving
 * theirs. So ranks on several hosts only tell the launcher that they are through. */
static int end(const struct engine *engine)
{
    static const char through[] = "cmd=finalize\n"; /* of the launcher's protocol, PMI-1 */
    const char *launcher = getenv("PMI_FD");
    int result = fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
    if (engine->bench.host_count == 1 || launcher == NULL) {
        MPI_Finalize();
        return result;
    }
    mpi_exchange_meet(true);
    char answer[64];
    int socket = (int)strtol(launcher, NULL, 10);
    bool told =
        write(socket, through, sizeof through - 1) == sizeof through - 1 && read(socket, answer, sizeof answer) > 0;
    _exit(told ? result : 1);
}

int main(int argc, char **argv)
{
    struct engine engine = {.bench = BENCH_CASE_INIT, .variant = "default"};
    if (!read_options(&engine, argc, argv)) {
        return 2;
    }
    engine.exchange.yields = engine.bench.host_count > 1 && bench_core_count() < engine.bench.rank_count;
    if (!enter_host(&engine.bench)) {
        return 2;
    }
    if (!start(&engine, argc, argv)) {
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    prepare(&engine);
    run_rounds(&engine);
    judge(&engine);
    report_samples(&engine);
    report_summary(&engine);
    mpi_exchange_destroy(&engine.exchange);
    bench_sweep_fini(&engine.sweep);
    free(engine.spans);
    free(engine.weights);
    free(engine.expert_ids);
    free(engine.x);
    return end(&engine);
}
