#include "bench_json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of the files; a reader refuses others. */
#define FORMAT_NUMBER 1

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static int64_t number_of(const json_t *object, const char *name, int64_t missing)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : missing;
}

/* ---- Records ------------------------------------------------------------------------------------------------- */

static void take_outcome(struct bench_point *point, const json_t *record)
{
    struct bench_outcome *outcome = bench_point_outcome(point, text_of(record, "engine"), text_of(record, "variant"));
    bench_copy_name(outcome->version, sizeof outcome->version, text_of(record, "version"));
    bench_copy_name(outcome->isa, sizeof outcome->isa, text_of(record, "isa"));
    bench_copy_name(outcome->dispatch_digest, sizeof outcome->dispatch_digest, text_of(record, "dispatch_digest"));
    bench_copy_name(outcome->combine_digest, sizeof outcome->combine_digest, text_of(record, "combine_digest"));
    bench_copy_name(outcome->product_digest, sizeof outcome->product_digest, text_of(record, "product_digest"));
    for (int i = 0; i < BENCH_FACT_COUNT; i++) {
        outcome->facts[i] = number_of(record, bench_fact_names[i], -1);
    }
}

static bool take_record(struct bench_point *point, const json_t *record, bool *summary)
{
    const char *kind = text_of(record, "record");
    if (strcmp(kind, "summary") == 0) {
        take_outcome(point, record);
        *summary = true;
        return true;
    }
    int64_t makespan_ns = number_of(record, "makespan_ns", -1);
    if (strcmp(kind, "sample") != 0 || makespan_ns < 0) {
        return false;
    }
    struct bench_series *series =
        bench_point_series(point, text_of(record, "operation"), text_of(record, "engine"), text_of(record, "variant"));
    int64_t cpu_ns = number_of(record, "cpu_ns", -1);
    int64_t wire_bytes = number_of(record, "wire_bytes", -1);
    const struct bench_times times = {.makespan_ns = (double)makespan_ns,
                                      .max_ns = (double)number_of(record, "max_ns", makespan_ns),
                                      .cpu_ns = cpu_ns < 0 ? NAN : (double)cpu_ns,
                                      .wire_bytes = wire_bytes < 0 ? NAN : (double)wire_bytes};
    bench_repeat_add(bench_series_repeat(series, 0), &times);
    return true;
}

bool bench_json_take_records(struct bench_point *point, const char *output, size_t count)
{
    bool summary = false;
    const char *end = output + count;
    for (const char *line = output; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t bytes = (size_t)((newline != NULL ? newline : end) - line);
        json_t *record = bytes > 0 ? json_loadb(line, bytes, 0, NULL) : NULL;
        bool taken = bytes == 0 || (record != NULL && take_record(point, record, &summary));
        json_decref(record);
        if (!taken) {
            (void)fprintf(stderr, "epx bench: an engine printed what is no record: %.*s\n",
                          (int)(bytes < 200 ? bytes : 200), line);
            return false;
        }
        line += bytes + 1;
    }
    if (!summary) {
        (void)fprintf(stderr, "epx bench: an engine ended without a summary\n");
    }
    return summary;
}

/* ---- Writing ------------------------------------------------------------------------------------------------- */

/* NaN is null. */
static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

/* One member of the times, by its offset; null for NaN. */
static json_t *times_json(const struct bench_repeat *repeat, size_t member)
{
    json_t *array = json_array();
    for (size_t i = 0; i < repeat->count; i++) {
        double value = 0.0;
        memcpy(&value, (const char *)&repeat->times[i] + member, sizeof value);
        (void)json_array_append_new(array, isnan(value) ? json_null() : json_integer((json_int_t)value));
    }
    return array;
}

static json_t *spread_json(const struct bench_spread *spread)
{
    if (isnan(spread->median)) {
        return json_null();
    }
    return json_pack("{s:f, s:f, s:f}", "median", spread->median, "min", spread->min, "max", spread->max);
}

static json_t *repeat_json(const struct bench_repeat *repeat)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "index", (json_int_t)repeat->index, "floor_ns",
                     real_or_null(repeat->floor_ns), "mpi_ns", real_or_null(repeat->mpi_ns), "copying_ns",
                     real_or_null(repeat->copying_ns), "makespan_ns",
                     times_json(repeat, offsetof(struct bench_times, makespan_ns)), "max_ns",
                     times_json(repeat, offsetof(struct bench_times, max_ns)), "cpu_ns",
                     times_json(repeat, offsetof(struct bench_times, cpu_ns)), "wire_bytes",
                     times_json(repeat, offsetof(struct bench_times, wire_bytes)));
}

static json_t *series_json(const struct bench_point *point, const struct bench_series *series)
{
    struct bench_figures figures = bench_series_figures(point, series);
    json_t *repeats = json_array();
    for (size_t i = 0; i < series->repeat_count; i++) {
        (void)json_array_append_new(repeats, repeat_json(&series->repeats[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "operation",
                     series->operation, "engine", series->engine, "variant", series->variant, "p50_ns",
                     real_or_null(figures.p50_ns), "p90_ns", real_or_null(figures.p90_ns), "p99_ns",
                     real_or_null(figures.p99_ns), "payload_gb_per_s", real_or_null(figures.gb_per_s),
                     "percent_of_floor", spread_json(&figures.floor_percent), "times_over_mpi",
                     spread_json(&figures.mpi_times), "ratio_to_copying", spread_json(&figures.to_copying),
                     "cpu_ns_of_a_rank", real_or_null(figures.cpu_ns), "wire_bytes", real_or_null(figures.wire_bytes),
                     "crossing_bytes", real_or_null(figures.crossing_bytes), "repeats", repeats);
}

static json_t *outcome_json(const struct bench_outcome *outcome)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "engine", outcome->engine, "variant", outcome->variant,
                               "version", outcome->version, "isa", outcome->isa, "dispatch_digest",
                               outcome->dispatch_digest, "combine_digest", outcome->combine_digest);
    if (outcome->product_digest[0] != '\0') {
        (void)json_object_set_new(object, "product_digest", json_string(outcome->product_digest));
    }
    for (int i = 0; i < BENCH_FACT_COUNT; i++) {
        if (outcome->facts[i] >= 0) {
            (void)json_object_set_new(object, bench_fact_names[i], json_integer(outcome->facts[i]));
        }
    }
    return object;
}

static json_t *sizes_json(const struct bench_case *sizes)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:f, s:b, s:I, s:b, s:I, s:I, s:I, s:I, s:I}", "ranks",
                     (json_int_t)sizes->rank_count, "hosts", (json_int_t)sizes->host_count, "bs",
                     (json_int_t)sizes->token_count, "hidden", (json_int_t)sizes->hidden_elems, "topk",
                     (json_int_t)sizes->topk, "experts", (json_int_t)sizes->expert_count, "dtype",
                     sizes->dtype == BENCH_BF16 ? "bf16" : "fp16", "quant", sizes->quantize ? "int8" : "none", "zipf",
                     sizes->zipf, "cold", (int)sizes->cold, "threads", (json_int_t)sizes->threads, "processes",
                     (int)sizes->processes, "warmup", (json_int_t)sizes->warmup, "rounds", (json_int_t)sizes->rounds,
                     "seed", (json_int_t)sizes->seed, "skew_us", (json_int_t)sizes->skew_us, "product_columns",
                     (json_int_t)sizes->product_columns);
}

static json_t *point_json(const struct bench_point *point)
{
    json_t *series = json_array();
    json_t *outcomes = json_array();
    for (size_t i = 0; i < point->series_count; i++) {
        (void)json_array_append_new(series, series_json(point, &point->series[i]));
    }
    for (size_t i = 0; i < point->outcome_count; i++) {
        (void)json_array_append_new(outcomes, outcome_json(&point->outcomes[i]));
    }
    return json_pack("{s:o, s:I, s:I, s:o, s:o}", "case", sizes_json(&point->sizes), "repeats_refused",
                     (json_int_t)point->repeats_refused, "repeats_unsteady", (json_int_t)point->repeats_unsteady,
                     "results", series, "outcomes", outcomes);
}

static json_t *environment_json(const struct bench_environment *environment)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "version", environment->version, "processor",
                     environment->processor, "kernel", environment->kernel, "host", environment->host, "time",
                     environment->time, "cores", (json_int_t)environment->cores, "last_level_cache_bytes",
                     (json_int_t)environment->last_level_cache_bytes, "memory_bytes",
                     (json_int_t)environment->memory_bytes);
}

bool bench_json_write(const char *path, const struct bench_results *results)
{
    json_t *points = json_array();
    for (size_t i = 0; i < results->point_count; i++) {
        (void)json_array_append_new(points, point_json(&results->points[i]));
    }
    json_t *root = json_pack("{s:i, s:o, s:o}", "epx_bench_format", FORMAT_NUMBER, "environment",
                             environment_json(&results->environment), "points", points);
    bool written = root != NULL && json_dump_file(root, path, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    if (!written) {
        (void)fprintf(stderr, "epx bench: --json is '%s', which cannot be written\n", path);
    }
    json_decref(root);
    return written;
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

static void read_sizes(const json_t *object, struct bench_case *sizes)
{
    *sizes = (struct bench_case)BENCH_CASE_INIT;
    sizes->rank_count = number_of(object, "ranks", 1);
    sizes->host_count = number_of(object, "hosts", 1);
    sizes->token_count = number_of(object, "bs", 1);
    sizes->hidden_elems = number_of(object, "hidden", 1);
    sizes->topk = number_of(object, "topk", 1);
    sizes->expert_count = number_of(object, "experts", 1);
    sizes->dtype = strcmp(text_of(object, "dtype"), "bf16") == 0 ? BENCH_BF16 : BENCH_FP16;
    sizes->quantize = strcmp(text_of(object, "quant"), "int8") == 0;
    sizes->zipf = json_number_value(json_object_get(object, "zipf"));
    sizes->cold = json_is_true(json_object_get(object, "cold"));
    sizes->threads = number_of(object, "threads", 0);
    sizes->processes = json_is_true(json_object_get(object, "processes"));
    sizes->warmup = number_of(object, "warmup", 0);
    sizes->rounds = number_of(object, "rounds", 1);
    sizes->seed = (uint64_t)number_of(object, "seed", 1);
    sizes->skew_us = number_of(object, "skew_us", 0);
    sizes->product_columns = number_of(object, "product_columns", 0);
}

static void read_repeat(const json_t *object, struct bench_series *series)
{
    struct bench_repeat *repeat = bench_series_repeat(series, number_of(object, "index", 0));
    const json_t *makespans = json_object_get(object, "makespan_ns");
    const json_t *longest = json_object_get(object, "max_ns");
    const json_t *cpus = json_object_get(object, "cpu_ns");
    const json_t *wires = json_object_get(object, "wire_bytes");
    for (size_t i = 0; i < json_array_size(makespans); i++) {
        const json_t *cpu = json_array_get(cpus, i);
        const json_t *wire = json_array_get(wires, i);
        const struct bench_times times = {.makespan_ns = json_number_value(json_array_get(makespans, i)),
                                          .max_ns = json_number_value(json_array_get(longest, i)),
                                          .cpu_ns = json_is_number(cpu) ? json_number_value(cpu) : NAN,
                                          .wire_bytes = json_is_number(wire) ? json_number_value(wire) : NAN};
        bench_repeat_add(repeat, &times);
    }
}

static void read_point(const json_t *object, struct bench_results *results)
{
    struct bench_case sizes;
    read_sizes(json_object_get(object, "case"), &sizes);
    struct bench_point *point = bench_results_add_point(results, &sizes);
    point->repeats_refused = number_of(object, "repeats_refused", 0);
    point->repeats_unsteady = number_of(object, "repeats_unsteady", 0);
    size_t i = 0;
    const json_t *entry = NULL;
    json_array_foreach(json_object_get(object, "results"), i, entry)
    {
        struct bench_series *series =
            bench_point_series(point, text_of(entry, "operation"), text_of(entry, "engine"), text_of(entry, "variant"));
        const json_t *repeats = json_object_get(entry, "repeats");
        for (size_t j = 0; j < json_array_size(repeats); j++) {
            read_repeat(json_array_get(repeats, j), series);
        }
    }
    json_array_foreach(json_object_get(object, "outcomes"), i, entry)
    {
        take_outcome(point, entry);
    }
    bench_point_relate(point);
}

static void read_environment(const json_t *object, struct bench_environment *environment)
{
    bench_copy_name(environment->version, sizeof environment->version, text_of(object, "version"));
    bench_copy_name(environment->processor, sizeof environment->processor, text_of(object, "processor"));
    bench_copy_name(environment->kernel, sizeof environment->kernel, text_of(object, "kernel"));
    bench_copy_name(environment->host, sizeof environment->host, text_of(object, "host"));
    bench_copy_name(environment->time, sizeof environment->time, text_of(object, "time"));
    environment->cores = number_of(object, "cores", 0);
    environment->last_level_cache_bytes = number_of(object, "last_level_cache_bytes", 0);
    environment->memory_bytes = number_of(object, "memory_bytes", 0);
}

bool bench_json_read(const char *path, struct bench_results *results)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL) {
        (void)fprintf(stderr, "epx bench: cannot read %s: %s (line %d)\n", path, error.text, error.line);
        return false;
    }
    int64_t format = number_of(root, "epx_bench_format", -1);
    if (format != FORMAT_NUMBER) {
        (void)fprintf(stderr, "epx bench: %s is not a file of `epx bench --json` (epx_bench_format must be %d)\n", path,
                      FORMAT_NUMBER);
        json_decref(root);
        return false;
    }
    read_environment(json_object_get(root, "environment"), &results->environment);
    const json_t *points = json_object_get(root, "points");
    for (size_t i = 0; i < json_array_size(points); i++) {
        read_point(json_array_get(points, i), results);
    }
    json_decref(root);
    return true;
}
