#include "bench_results.h"

#include "crossing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const bench_fact_names[BENCH_FACT_COUNT] = {
    [BENCH_WRONG] = "wrong",
    [BENCH_CREATE_NS] = "create_ns",
    [BENCH_PLAN_NS] = "plan_ns",
    [BENCH_FIRST_DISPATCH_NS] = "first_dispatch_ns",
    [BENCH_FIRST_COMBINE_NS] = "first_combine_ns",
    [BENCH_DISPATCH_BYTES_READ] = "dispatch_bytes_read",
    [BENCH_DISPATCH_BYTES_WRITTEN] = "dispatch_bytes_written",
    [BENCH_COMBINE_BYTES_READ] = "combine_bytes_read",
    [BENCH_COMBINE_BYTES_WRITTEN] = "combine_bytes_written",
};

/* What the ratios of row views are to. */
static const char copying_variant[] = "in-place";

static void *must_have(void *memory)
{
    if (memory == NULL) {
        (void)fprintf(stderr, "epx bench: out of memory\n");
        exit(1);
    }
    return memory;
}

/* One more element; zeroed. */
static void *append(void **array, size_t *count, size_t elem_bytes)
{
    char *memory = must_have(realloc(*array, (*count + 1) * elem_bytes));
    char *added = memory + *count * elem_bytes;
    memset(added, 0, elem_bytes);
    *array = memory;
    (*count)++;
    return added;
}

void bench_copy_name(char *out, size_t bytes, const char *text)
{
    (void)snprintf(out, bytes, "%s", text != NULL ? text : "");
}

/* ---- Building ------------------------------------------------------------------------------------------------ */

struct bench_point *bench_results_add_point(struct bench_results *results, const struct bench_case *sizes)
{
    void *points = results->points;
    struct bench_point *point = append(&points, &results->point_count, sizeof *point);
    results->points = points;
    point->sizes = *sizes;
    point->dispatch_crossing_bytes = (double)bench_crossing_bytes(sizes, BENCH_CROSSING_DISPATCH);
    point->combine_crossing_bytes = (double)bench_crossing_bytes(sizes, BENCH_CROSSING_COMBINE);
    point->two_level_crossing_bytes = (double)bench_crossing_bytes(sizes, BENCH_CROSSING_TWO_LEVEL);
    return point;
}

struct bench_series *bench_point_find(const struct bench_point *point, const char *operation, const char *engine,
                                      const char *variant)
{
    for (size_t i = 0; i < point->series_count; i++) {
        struct bench_series *series = &point->series[i];
        if (strcmp(series->operation, operation) == 0 && strcmp(series->engine, engine) == 0 &&
            strcmp(series->variant, variant) == 0) {
            return series;
        }
    }
    return NULL;
}

struct bench_series *bench_point_series(struct bench_point *point, const char *operation, const char *engine,
                                        const char *variant)
{
    struct bench_series *series = bench_point_find(point, operation, engine, variant);
    if (series != NULL) {
        return series;
    }
    void *array = point->series;
    series = append(&array, &point->series_count, sizeof *series);
    point->series = array;
    bench_copy_name(series->operation, sizeof series->operation, operation);
    bench_copy_name(series->engine, sizeof series->engine, engine);
    bench_copy_name(series->variant, sizeof series->variant, variant);
    return series;
}

struct bench_repeat *bench_series_repeat(struct bench_series *series, int64_t index)
{
    for (size_t i = 0; i < series->repeat_count; i++) {
        if (series->repeats[i].index == index) {
            return &series->repeats[i];
        }
    }
    void *array = series->repeats;
    struct bench_repeat *repeat = append(&array, &series->repeat_count, sizeof *repeat);
    series->repeats = array;
    repeat->index = index;
    repeat->floor_ns = NAN;
    repeat->mpi_ns = NAN;
    repeat->copying_ns = NAN;
    return repeat;
}

void bench_repeat_add(struct bench_repeat *repeat, const struct bench_times *times)
{
    void *array = repeat->times;
    *(struct bench_times *)append(&array, &repeat->count, sizeof *times) = *times;
    repeat->times = array;
}

struct bench_outcome *bench_point_outcome(struct bench_point *point, const char *engine, const char *variant)
{
    for (size_t i = 0; i < point->outcome_count; i++) {
        struct bench_outcome *outcome = &point->outcomes[i];
        if (strcmp(outcome->engine, engine) == 0 && strcmp(outcome->variant, variant) == 0) {
            return outcome;
        }
    }
    void *array = point->outcomes;
    struct bench_outcome *outcome = append(&array, &point->outcome_count, sizeof *outcome);
    point->outcomes = array;
    bench_copy_name(outcome->engine, sizeof outcome->engine, engine);
    bench_copy_name(outcome->variant, sizeof outcome->variant, variant);
    return outcome;
}

void bench_point_merge(struct bench_point *to, const struct bench_point *from, int64_t index)
{
    for (size_t i = 0; i < from->series_count; i++) {
        const struct bench_series *series = &from->series[i];
        struct bench_series *target = bench_point_series(to, series->operation, series->engine, series->variant);
        for (size_t j = 0; j < series->repeat_count; j++) {
            struct bench_repeat *repeat = bench_series_repeat(target, index);
            for (size_t k = 0; k < series->repeats[j].count; k++) {
                bench_repeat_add(repeat, &series->repeats[j].times[k]);
            }
        }
    }
    for (size_t i = 0; i < from->outcome_count; i++) {
        *bench_point_outcome(to, from->outcomes[i].engine, from->outcomes[i].variant) = from->outcomes[i];
    }
}

void bench_point_fini(struct bench_point *point)
{
    for (size_t i = 0; i < point->series_count; i++) {
        for (size_t j = 0; j < point->series[i].repeat_count; j++) {
            free(point->series[i].repeats[j].times);
        }
        free(point->series[i].repeats);
    }
    free(point->series);
    free(point->outcomes);
    *point = (struct bench_point){.sizes = point->sizes};
}

void bench_results_fini(struct bench_results *results)
{
    for (size_t i = 0; i < results->point_count; i++) {
        bench_point_fini(&results->points[i]);
    }
    free(results->points);
    results->points = NULL;
    results->point_count = 0;
}

/* ---- Figures ------------------------------------------------------------------------------------------------- */

/* `member` is one of struct bench_times, by its offset. */
static double percentile_of(const struct bench_repeat *repeat, size_t member, double part)
{
    double *values = must_have(malloc((repeat->count + 1) * sizeof *values));
    for (size_t i = 0; i < repeat->count; i++) {
        memcpy(&values[i], (const char *)&repeat->times[i] + member, sizeof *values);
    }
    double value = bench_percentile(values, repeat->count, part);
    free(values);
    return value;
}

double bench_repeat_percentile(const struct bench_repeat *repeat, double part)
{
    return percentile_of(repeat, offsetof(struct bench_times, makespan_ns), part);
}

/* Smallest median of the engine's variants in one repeat, or of the one that is named. */
static double best_of_repeat(const struct bench_point *point, const char *operation, const char *engine,
                             const char *variant, int64_t index)
{
    double best = NAN;
    for (size_t i = 0; i < point->series_count; i++) {
        const struct bench_series *series = &point->series[i];
        if (strcmp(series->operation, operation) != 0 || strcmp(series->engine, engine) != 0 ||
            (variant != NULL && strcmp(series->variant, variant) != 0)) {
            continue;
        }
        for (size_t j = 0; j < series->repeat_count; j++) {
            if (series->repeats[j].index == index) {
                best = fmin(best, bench_repeat_percentile(&series->repeats[j], 0.5));
            }
        }
    }
    return best;
}

/* Of another variant than the one that copies, and the reading of rows is in its time. */
static bool has_copying_twin(const struct bench_series *series)
{
    return strcmp(series->engine, "epx") == 0 && strcmp(series->variant, copying_variant) != 0 &&
           (strcmp(series->operation, "dispatch+product") == 0 || strcmp(series->operation, "product") == 0);
}

void bench_point_relate(struct bench_point *point)
{
    const char *floor = point->sizes.host_count > 1 ? "wire" : "floor";
    for (size_t i = 0; i < point->series_count; i++) {
        struct bench_series *series = &point->series[i];
        for (size_t j = 0; j < series->repeat_count; j++) {
            struct bench_repeat *repeat = &series->repeats[j];
            repeat->floor_ns = best_of_repeat(point, series->operation, floor, NULL, repeat->index);
            repeat->mpi_ns = best_of_repeat(point, series->operation, "mpi", NULL, repeat->index);
            if (has_copying_twin(series)) {
                repeat->copying_ns = best_of_repeat(point, series->operation, "epx", copying_variant, repeat->index);
            }
        }
    }
}

double bench_payload_bytes(const struct bench_case *sizes, const char *operation)
{
    double elems =
        (double)sizes->rank_count * (double)sizes->token_count * (double)sizes->topk * (double)sizes->hidden_elems;
    double dispatch = elems * (sizes->quantize ? 1.0 : 2.0);
    double combine = elems * 2.0;
    if (strcmp(operation, "stream") == 0) {
        return (double)BENCH_STREAM_BYTES;
    }
    if (strcmp(operation, "combine") == 0) {
        return combine;
    }
    return strcmp(operation, "round_trip") == 0 ? dispatch + combine : dispatch;
}

/* Of the known values among `count`. */
static struct bench_spread spread_of_known(double *values, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            values[known++] = values[i];
        }
    }
    return bench_spread_of(values, known);
}

bool bench_is_two_level(const char *variant)
{
    return strcmp(variant, BENCH_TWO_LEVEL) == 0;
}

static double crossing_bytes(const struct bench_point *point, const struct bench_series *series)
{
    const char *operation = series->operation;
    double dispatch = point->dispatch_crossing_bytes;
    double combine =
        bench_is_two_level(series->variant) ? point->two_level_crossing_bytes : point->combine_crossing_bytes;
    if (point->sizes.host_count == 1) {
        return NAN;
    }
    return strcmp(operation, "combine") == 0      ? combine
           : strcmp(operation, "round_trip") == 0 ? dispatch + combine
           : strcmp(operation, "stream") == 0     ? (double)BENCH_STREAM_BYTES
                                                  : dispatch;
}

static double mean_wire_bytes(const struct bench_repeat *repeat)
{
    double sum = 0.0;
    for (size_t i = 0; i < repeat->count; i++) {
        sum += repeat->times[i].wire_bytes;
    }
    return sum / (double)repeat->count;
}

struct bench_figures bench_series_figures(const struct bench_point *point, const struct bench_series *series)
{
    size_t count = series->repeat_count;
    double *values = must_have(malloc((8 * count + 1) * sizeof *values));
    for (size_t i = 0; i < count; i++) {
        const struct bench_repeat *repeat = &series->repeats[i];
        values[i] = bench_repeat_percentile(repeat, 0.5);
        values[count + i] = bench_repeat_percentile(repeat, 0.9);
        values[2 * count + i] = bench_repeat_percentile(repeat, 0.99);
        values[3 * count + i] = repeat->floor_ns / values[i] * 100.0;
        values[4 * count + i] = repeat->mpi_ns / values[i];
        values[5 * count + i] = values[i] / repeat->copying_ns;
        values[7 * count + i] = mean_wire_bytes(repeat);
        values[6 * count + i] = percentile_of(repeat, offsetof(struct bench_times, cpu_ns), 0.5);
    }
    struct bench_figures figures = {.p50_spread_ns = spread_of_known(values, count)};
    figures.p50_ns = figures.p50_spread_ns.median;
    figures.p90_ns = spread_of_known(values + count, count).median;
    figures.p99_ns = spread_of_known(values + 2 * count, count).median;
    figures.floor_percent = spread_of_known(values + 3 * count, count);
    figures.mpi_times = spread_of_known(values + 4 * count, count);
    figures.to_copying = spread_of_known(values + 5 * count, count);
    figures.cpu_ns = spread_of_known(values + 6 * count, count).median;
    figures.wire_bytes = spread_of_known(values + 7 * count, count).median;
    figures.crossing_bytes = crossing_bytes(point, series);
    figures.gb_per_s = bench_payload_bytes(&point->sizes, series->operation) / figures.p50_ns;
    free(values);
    return figures;
}

const struct bench_series *bench_point_best(const struct bench_point *point, const char *operation, const char *engine)
{
    const struct bench_series *best = NULL;
    double best_ns = INFINITY;
    for (size_t i = 0; i < point->series_count; i++) {
        const struct bench_series *series = &point->series[i];
        if (strcmp(series->operation, operation) != 0 || strcmp(series->engine, engine) != 0) {
            continue;
        }
        double p50_ns = bench_series_figures(point, series).p50_ns;
        if (p50_ns < best_ns) {
            best = series;
            best_ns = p50_ns;
        }
    }
    return best;
}

double bench_percent_of_stream(const struct bench_point *point, const struct bench_figures *figures)
{
    const struct bench_series *stream = bench_point_find(point, "stream", "wire", "one");
    if (stream == NULL || isnan(figures->crossing_bytes)) {
        return NAN;
    }
    struct bench_figures alone = bench_series_figures(point, stream);
    return figures->crossing_bytes / figures->p50_ns * alone.p50_ns / alone.crossing_bytes * 100.0;
}
