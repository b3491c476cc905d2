#include "bench_options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const bench_engine_names[BENCH_ENGINE_COUNT] = {"floor", "epx", "cann", "mpi", "wire"};

enum {
    KEY_RANKS = 256,
    KEY_HOSTS,
    KEY_BS,
    KEY_HIDDEN,
    KEY_TOPK,
    KEY_EXPERTS,
    KEY_DTYPE,
    KEY_QUANT,
    KEY_ZIPF,
    KEY_COLD,
    KEY_THREADS,
    KEY_ENGINES,
    KEY_MPI,
    KEY_CANN,
    KEY_REPEATS,
    KEY_ROUNDS,
    KEY_WARMUP,
    KEY_SEED,
    KEY_SKEW,
    KEY_LIMIT,
    KEY_QUICK,
    KEY_PROCESSES,
    KEY_ROUND_TRIP,
    KEY_PRIVATE,
    KEY_VIEWS,
    KEY_TWO_LEVEL,
    KEY_PRODUCT,
    KEY_PARTS,
    KEY_VARIANTS,
    KEY_JSON,
    KEY_CSV,
    KEY_PLOT,
    KEY_COMPARE,
    KEY_FROM
};

static const struct argp_option option_list[] = {
    {NULL, 0, NULL, 0, "The grid; LIST is values with commas, and every combination is measured:", 1},
    {"ranks", KEY_RANKS, "LIST", 0, "ranks (default 2,16)", 1},
    {"hosts", KEY_HOSTS, "LIST", 0,
     "hosts that the ranks lie on; more than 1 are network namespaces of this one, which needs root (default 1)", 1},
    {"bs", KEY_BS, "LIST", 0, "tokens of each rank (default 8,64,256)", 1},
    {"hidden", KEY_HIDDEN, "LIST", 0, "elements of a token (default 7168)", 1},
    {"topk", KEY_TOPK, "LIST", 0, "experts of a token (default 8)", 1},
    {"experts", KEY_EXPERTS, "LIST", 0, "experts, multiples of the ranks; 0: about 16 (default 0)", 1},
    {"dtype", KEY_DTYPE, "LIST", 0, "bf16, fp16 (default bf16)", 1},
    {"quant", KEY_QUANT, "LIST", 0, "rows as they are or quantised: none, int8 (default none)", 1},
    {"zipf", KEY_ZIPF, "LIST", 0, "exponent of the experts' popularity; 0: uniform (default 0)", 1},
    {"cold", KEY_COLD, "LIST", 0, "1: caches are swept before each operation (default 0)", 1},
    {"threads", KEY_THREADS, "LIST", 0, "threads of a rank; 0: the library's default (default 0)", 1},
    {NULL, 0, NULL, 0, "What is run:", 2},
    {"engines", KEY_ENGINES, "LIST", 0, "floor, epx, cann, mpi, wire (default: all that are there)", 2},
    {"mpi", KEY_MPI, "LIST", 0, "names of MPI settings (default: all that are there)", 2},
    {"cann", KEY_CANN, "LIST", 0, "variants of the CANN engine (default repeatable)", 2},
    {"private-memory", KEY_PRIVATE, NULL, 0, "also epx with tensors that peers cannot read in place", 2},
    {"views", KEY_VIEWS, NULL, 0, "also epx with row views: its dispatch copies no rows", 2},
    {"two-level", KEY_TWO_LEVEL, NULL, 0,
     "also epx with the two-level exchange, with several hosts that have equally many ranks", 2},
    {"product", KEY_PRODUCT, "N", 0,
     "also the dispatch with the experts' first matrix product, of N columns (epx; needs OpenBLAS, and processes)", 2},
    {"round-trip", KEY_ROUND_TRIP, NULL, 0, "also dispatch and combine back to back (floor, epx, mpi)", 2},
    {"processes", KEY_PROCESSES, "0|1", 0, "0: ranks are threads of one process (default 1)", 2},
    {"skew-us", KEY_SKEW, "N", 0, "each rank enters up to so much late (default 0)", 2},
    {"seed", KEY_SEED, "N", 0, "seed of tokens and routing (default 1)", 2},
    {"parts", KEY_PARTS, NULL, 0, "measure nothing of this: what an operation pays beside moving rows, by its parts",
     2},
    {NULL, 0, NULL, 0, "How often:", 3},
    {"repeats", KEY_REPEATS, "N", 0, "times that all engines are run in turn (default 9)", 3},
    {"rounds", KEY_ROUNDS, "N", 0, "timed rounds of each run; 0: 5 to 200 by the size (default 0)", 3},
    {"warmup", KEY_WARMUP, "N", 0, "rounds before them (default 5)", 3},
    {"limit", KEY_LIMIT, "S", 0, "seconds after which a run is killed (default 300)", 3},
    {"quick", KEY_QUICK, NULL, 0, "2 ranks, 3 repeats, 5 rounds, one MPI setting, where not said otherwise", 3},
    {NULL, 0, NULL, 0, "What is written:", 4},
    {"variants", KEY_VARIANTS, NULL, 0, "a line for each variant of the floor and of MPI, not for the best alone", 4},
    {"json", KEY_JSON, "FILE", 0, "every sample and the environment", 4},
    {"csv", KEY_CSV, "FILE", 0, "the table's numbers, unrounded", 4},
    {"plot", KEY_PLOT, "PREFIX", 0, "PREFIX.png and PREFIX.svg, by gnuplot", 4},
    {"compare", KEY_COMPARE, "FILE", 0, "what moved since that --json FILE, beyond noise", 4},
    {"from", KEY_FROM, "FILE", 0, "measure nothing: take the results of that --json FILE", 4},
    {0}};

static double read_number(struct argp_state *state, const char *name, const char *text, double low, double high)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= high)) {
        argp_error(state, "--%s is '%s', must be in [%.15g, %.15g]", name, text, low, high);
    }
    return value;
}

static int64_t read_integer(struct argp_state *state, const char *name, const char *text, int64_t low, int64_t high)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        argp_error(state, "--%s is '%s', must be in [%lld, %lld]", name, text, (long long)low, (long long)high);
    }
    return value;
}

static double read_name(struct argp_state *state, const char *name, const char *text, const char *const *names,
                        size_t name_count)
{
    char all[128] = "";
    for (size_t i = 0; i < name_count; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (double)i;
        }
        (void)strncat(all, i == 0 ? "" : ", ", sizeof all - strlen(all) - 1);
        (void)strncat(all, names[i], sizeof all - strlen(all) - 1);
    }
    argp_error(state, "--%s is '%s', must be one of %s", name, text, all);
    return 0.0;
}

struct list_kind {
    const char *name;
    double low;
    double high;
    bool integers;
    const char *const *names; /* null: numbers in [low, high] */
    size_t name_count;
};

static double read_item(struct argp_state *state, const struct list_kind *kind, const char *item)
{
    if (kind->names != NULL) {
        return read_name(state, kind->name, item, kind->names, kind->name_count);
    }
    if (kind->integers) {
        return (double)read_integer(state, kind->name, item, (int64_t)kind->low, (int64_t)kind->high);
    }
    return read_number(state, kind->name, item, kind->low, kind->high);
}

static void read_list(struct argp_state *state, const struct list_kind *kind, const char *text, struct bench_list *out)
{
    char *copy = strdup(text);
    char *rest = copy;
    out->count = 0;
    for (char *item = NULL; (item = strsep(&rest, ",")) != NULL;) {
        if (out->count == BENCH_LIST_MAX) {
            argp_error(state, "--%s is '%s', must be at most %d values", kind->name, text, BENCH_LIST_MAX);
        }
        out->values[out->count++] = read_item(state, kind, item);
    }
    free(copy);
}

/* False: none of these. */
static bool read_grid(int key, const char *text, struct argp_state *state, struct bench_options *options)
{
    static const char *const dtypes[] = {"fp16", "bf16"}; /* in the order of enum bench_dtype */
    static const char *const quants[] = {"none", "int8"};
    static const struct {
        int key;
        struct list_kind kind;
        size_t list;
    } lists[] = {
        {KEY_RANKS, {"ranks", 1, 4096, true, NULL, 0}, offsetof(struct bench_options, ranks)},
        {KEY_HOSTS, {"hosts", 1, BENCH_HOST_MAX, true, NULL, 0}, offsetof(struct bench_options, hosts)},
        {KEY_BS, {"bs", 1, 1 << 20, true, NULL, 0}, offsetof(struct bench_options, bs)},
        {KEY_HIDDEN, {"hidden", 1, 1 << 20, true, NULL, 0}, offsetof(struct bench_options, hidden)},
        {KEY_TOPK, {"topk", 1, 4096, true, NULL, 0}, offsetof(struct bench_options, topk)},
        {KEY_EXPERTS, {"experts", 0, 65536, true, NULL, 0}, offsetof(struct bench_options, experts)},
        {KEY_DTYPE, {"dtype", 0, 0, true, dtypes, 2}, offsetof(struct bench_options, dtype)},
        {KEY_QUANT, {"quant", 0, 0, true, quants, 2}, offsetof(struct bench_options, quant)},
        {KEY_ZIPF, {"zipf", 0, 8, false, NULL, 0}, offsetof(struct bench_options, zipf)},
        {KEY_COLD, {"cold", 0, 1, true, NULL, 0}, offsetof(struct bench_options, cold)},
        {KEY_THREADS, {"threads", 0, 1024, true, NULL, 0}, offsetof(struct bench_options, threads)},
        {KEY_ENGINES,
         {"engines", 0, 0, true, bench_engine_names, BENCH_ENGINE_COUNT},
         offsetof(struct bench_options, engines)},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (lists[i].key == key) {
            read_list(state, &lists[i].kind, text, (struct bench_list *)(void *)((char *)options + lists[i].list));
            return true;
        }
    }
    return false;
}

static void fill(struct bench_list *list, size_t count, const double *values)
{
    if (list->count == 0) {
        memcpy(list->values, values, count * sizeof *values);
        list->count = count;
    }
}

/* What was not said. */
static void complete(struct argp_state *state, struct bench_options *options)
{
    options->engines_given = options->engines.count > 0;
    fill(&options->ranks, options->quick ? 1 : 2, (const double[]){2, 16});
    fill(&options->hosts, 1, (const double[]){1});
    fill(&options->bs, options->quick ? 2 : 3, (const double[]){8, 64, 256});
    fill(&options->hidden, 1, (const double[]){7168});
    fill(&options->topk, 1, (const double[]){8});
    fill(&options->experts, 1, (const double[]){0});
    fill(&options->dtype, 1, (const double[]){BENCH_BF16});
    fill(&options->quant, 1, (const double[]){0});
    fill(&options->zipf, 1, (const double[]){0});
    fill(&options->cold, 1, (const double[]){0});
    fill(&options->threads, 1, (const double[]){0});
    fill(&options->engines, BENCH_ENGINE_COUNT,
         (const double[]){BENCH_FLOOR, BENCH_EPX, BENCH_CANN, BENCH_MPI, BENCH_WIRE});
    options->repeats = options->repeats > 0 ? options->repeats : options->quick ? 3 : 9;
    options->rounds = options->rounds >= 0 ? options->rounds : options->quick ? 5 : 0;
    if (options->from != NULL && options->json != NULL) {
        argp_error(state, "--json is '%s', but nothing is measured with --from '%s'", options->json, options->from);
    }
}

static int64_t read_product(struct argp_state *state, const char *text)
{
    int64_t columns = read_integer(state, "product", text, 0, BENCH_PRODUCT_COLUMNS_MAX);
    if (columns != 0 && !EPX_BENCH_PRODUCT) {
        argp_error(state, "--product is '%s', must be 0: this epx was built without OpenBLAS", text);
    }
    return columns;
}

static error_t read_option(int key, char *text, struct argp_state *state)
{
    struct bench_options *options = state->input;
    if (read_grid(key, text, state, options)) {
        return 0;
    }
    switch (key) {
    case KEY_MPI: options->mpi = text; break;
    case KEY_CANN: options->cann = text; break;
    case KEY_REPEATS: options->repeats = read_integer(state, "repeats", text, 1, 1000); break;
    case KEY_ROUNDS: options->rounds = read_integer(state, "rounds", text, 0, 1000000); break;
    case KEY_WARMUP: options->warmup = read_integer(state, "warmup", text, 0, 1000000); break;
    case KEY_SEED: options->seed = read_integer(state, "seed", text, 0, INT64_MAX); break;
    case KEY_SKEW: options->skew_us = read_integer(state, "skew-us", text, 0, 10000000); break;
    case KEY_LIMIT: options->limit_s = read_integer(state, "limit", text, 1, 86400); break;
    case KEY_PROCESSES: options->processes = read_integer(state, "processes", text, 0, 1) != 0; break;
    case KEY_QUICK: options->quick = true; break;
    case KEY_ROUND_TRIP: options->round_trip = true; break;
    case KEY_PRIVATE: options->private_memory = true; break;
    case KEY_VIEWS: options->views = true; break;
    case KEY_TWO_LEVEL: options->two_level = true; break;
    case KEY_PRODUCT: options->product_columns = read_product(state, text); break;
    case KEY_PARTS: options->parts = true; break;
    case KEY_VARIANTS: options->all_variants = true; break;
    case KEY_JSON: options->json = text; break;
    case KEY_CSV: options->csv = text; break;
    case KEY_PLOT: options->plot = text; break;
    case KEY_COMPARE: options->compare = text; break;
    case KEY_FROM: options->from = text; break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", text); break;
    case ARGP_KEY_END: complete(state, options); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int64_t bench_options_host_max(const struct bench_options *options)
{
    double most = 1;
    for (size_t i = 0; i < options->hosts.count; i++) {
        most = options->hosts.values[i] > most ? options->hosts.values[i] : most;
    }
    return (int64_t)most;
}

void bench_options_read(struct bench_options *options, int argc, char **argv)
{
    static const struct argp parser = {
        option_list,
        read_option,
        NULL,
        "Times dispatch and combine of all ranks of this host against the floor (the same bytes moved by the same "
        "kernels, without any protocol) and against MPI; all results are checked."
        "\vbench/README.md says what is measured and how.",
        NULL,
        NULL,
        NULL};
    *options = (struct bench_options){
        .warmup = 5, .rounds = -1, .seed = 1, .limit_s = 300, .processes = true, .cann = "repeatable"};
    argp_err_exit_status = 2;
    (void)argp_parse(&parser, argc, argv, 0, NULL, options);
}
