#include "bench_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Table --------------------------------------------------------------------------------------------------- */

void bench_report_head(const struct bench_environment *environment)
{
    (void)printf("# epx bench %s, %s\n# %s, %" PRId64 " cores, last level cache %" PRId64 " MiB, %" PRId64
                 " GiB of memory, %s\n#\n",
                 environment->version, environment->time, environment->processor, environment->cores,
                 environment->last_level_cache_bytes >> 20, environment->memory_bytes >> 30, environment->kernel);
    (void)printf("# %-16s %5s %5s %5s %6s %3s %4s %-5s %-5s %-12s %-26s %9s %9s %9s %8s  %-18s %-18s %s\n", "operation",
                 "hosts", "ranks", "BS", "H", "K", "E", "dtype", "quant", "with", "engine/variant", "p50 us", "p90 us",
                 "p99 us", "GB/s", "% of floor", "x over MPI", "to copying");
    (void)fflush(stdout);
}

/* What is not the default. */
static void describe(const struct bench_case *sizes, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    if (sizes->zipf > 0.0) {
        used += (size_t)snprintf(out + used, bytes - used, "zipf%.3g,", sizes->zipf);
    }
    if (sizes->cold) {
        used += (size_t)snprintf(out + used, bytes - used, "cold,");
    }
    if (sizes->threads != 0) {
        used += (size_t)snprintf(out + used, bytes - used, "t%" PRId64 ",", sizes->threads);
    }
    if (!sizes->processes) {
        used += (size_t)snprintf(out + used, bytes - used, "1proc,");
    }
    if (sizes->skew_us != 0) {
        used += (size_t)snprintf(out + used, bytes - used, "skew%" PRId64 ",", sizes->skew_us);
    }
    if (sizes->product_columns != 0) {
        used += (size_t)snprintf(out + used, bytes - used, "N%" PRId64 ",", sizes->product_columns);
    }
    if (used > 0) {
        out[used - 1] = '\0';
    } else {
        (void)snprintf(out, bytes, "-");
    }
}

/* "96 (91-99)"; "-" when it is not known. */
static void print_spread(const struct bench_spread *spread, int digits, char *out, size_t bytes)
{
    if (isnan(spread->median)) {
        (void)snprintf(out, bytes, "-");
    } else {
        (void)snprintf(out, bytes, "%.*f (%.*f-%.*f)", digits, spread->median, digits, spread->min, digits,
                       spread->max);
    }
}

static void print_line(const struct bench_point *point, const struct bench_series *series)
{
    char with[64];
    char name[2 * BENCH_NAME_BYTES];
    char floor[64];
    char mpi[64];
    char copying[64];
    const struct bench_case *sizes = &point->sizes;
    struct bench_figures figures = bench_series_figures(point, series);
    describe(sizes, with, sizeof with);
    (void)snprintf(name, sizeof name, "%s/%s", series->engine, series->variant);
    print_spread(&figures.floor_percent, 0, floor, sizeof floor);
    print_spread(&figures.mpi_times, 2, mpi, sizeof mpi);
    print_spread(&figures.to_copying, 2, copying, sizeof copying);
    (void)printf("  %-16s %5" PRId64 " %5" PRId64 " %5" PRId64 " %6" PRId64 " %3" PRId64 " %4" PRId64
                 " %-5s %-5s %-12s %-26s %9.1f %9.1f %9.1f %8.2f  %-18s %-18s %s\n",
                 series->operation, sizes->host_count, sizes->rank_count, sizes->token_count, sizes->hidden_elems,
                 sizes->topk, sizes->expert_count, sizes->dtype == BENCH_BF16 ? "bf16" : "fp16",
                 sizes->quantize ? "int8" : "none", with, name, figures.p50_ns / 1e3, figures.p90_ns / 1e3,
                 figures.p99_ns / 1e3, figures.gb_per_s, floor, mpi, copying);
}

void bench_report_point(const struct bench_point *point, bool all_variants)
{
    static const char *const operations[] = {"dispatch",         "combine", "round_trip",
                                             "dispatch+product", "product", "stream"};
    static const char *const engines[] = {"floor", "epx", "cann", "mpi", "wire"};
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        for (size_t j = 0; j < sizeof engines / sizeof engines[0]; j++) {
            bool several = strcmp(engines[j], "floor") == 0 || strcmp(engines[j], "mpi") == 0;
            const struct bench_series *best = bench_point_best(point, operations[i], engines[j]);
            for (size_t k = 0; k < point->series_count; k++) {
                const struct bench_series *series = &point->series[k];
                bool shown = strcmp(series->operation, operations[i]) == 0 && strcmp(series->engine, engines[j]) == 0;
                if (shown && (!several || all_variants || series == best)) {
                    print_line(point, series);
                }
            }
        }
    }
    if (point->repeats_refused + point->repeats_unsteady > 0) {
        (void)printf("# the floors around a repeat differed by more than 20 %%: %" PRId64
                     " repeats done again, %" PRId64 " kept all the same\n",
                     point->repeats_refused, point->repeats_unsteady);
    }
    (void)fflush(stdout);
}

void bench_report_foot(const struct bench_results *results)
{
    size_t repeats = 0;
    for (size_t i = 0; i < results->point_count; i++) {
        for (size_t j = 0; j < results->points[i].series_count; j++) {
            size_t count = results->points[i].series[j].repeat_count;
            repeats = count > repeats ? count : repeats;
        }
    }
    (void)printf(
        "#\n# us: from the first rank in to the last one out; medians over %zu repeats. GB/s: rows delivered, "
        "by p50.\n# %% of floor: speed, 100 = as fast as the same bytes without a protocol (with several hosts: as "
        "the wire); x over MPI:\n# how often faster than the best MPI setting; to copying: time, where rows are read, "
        "as a part of that "
        "of epx/in-place; each within a "
        "repeat:\n# median (least-most).\n",
        repeats);
}

static double in_us(int64_t ns)
{
    return ns < 0 ? NAN : (double)ns / 1e3;
}

void bench_report_starts(const struct bench_results *results)
{
    (void)printf("#\n# once, us     %5s %5s %-5s %-5s  %-26s %11s %11s %14s %13s\n", "ranks", "BS", "dtype", "quant",
                 "engine/variant", "create", "plan", "first dispatch", "first combine");
    for (size_t i = 0; i < results->point_count; i++) {
        const struct bench_point *point = &results->points[i];
        for (size_t j = 0; j < point->outcome_count; j++) {
            const struct bench_outcome *outcome = &point->outcomes[j];
            char name[2 * BENCH_NAME_BYTES];
            if (outcome->facts[BENCH_CREATE_NS] < 0) {
                continue;
            }
            (void)snprintf(name, sizeof name, "%s/%s", outcome->engine, outcome->variant);
            (void)printf("# %12s %5" PRId64 " %5" PRId64 " %-5s %-5s  %-26s %11.0f %11.0f %14.0f %13.0f\n", "",
                         point->sizes.rank_count, point->sizes.token_count,
                         point->sizes.dtype == BENCH_BF16 ? "bf16" : "fp16", point->sizes.quantize ? "int8" : "none",
                         name, in_us(outcome->facts[BENCH_CREATE_NS]), in_us(outcome->facts[BENCH_PLAN_NS]),
                         in_us(outcome->facts[BENCH_FIRST_DISPATCH_NS]), in_us(outcome->facts[BENCH_FIRST_COMBINE_NS]));
        }
    }
}

/* ---- CSV ----------------------------------------------------------------------------------------------------- */

/* Nothing for NaN. */
static void put_number(FILE *out, double value)
{
    (void)fprintf(out, isnan(value) ? "," : ",%.9g", value);
}

static void put_spread(FILE *out, const struct bench_spread *spread)
{
    put_number(out, spread->median);
    put_number(out, spread->min);
    put_number(out, spread->max);
}

static void put_series(FILE *out, const struct bench_point *point, const struct bench_series *series)
{
    const struct bench_case *sizes = &point->sizes;
    struct bench_figures figures = bench_series_figures(point, series);
    (void)fprintf(out,
                  "%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%s,%s,%g,%d,%" PRId64 ",%d,%" PRId64
                  ",%s,%s,%zu",
                  series->operation, sizes->rank_count, sizes->token_count, sizes->hidden_elems, sizes->topk,
                  sizes->expert_count, sizes->dtype == BENCH_BF16 ? "bf16" : "fp16", sizes->quantize ? "int8" : "none",
                  sizes->zipf, (int)sizes->cold, sizes->threads, (int)sizes->processes, sizes->skew_us, series->engine,
                  series->variant, series->repeat_count);
    put_number(out, figures.p50_ns);
    put_number(out, figures.p90_ns);
    put_number(out, figures.p99_ns);
    put_number(out, figures.gb_per_s);
    put_spread(out, &figures.floor_percent);
    put_spread(out, &figures.mpi_times);
    (void)fprintf(out, ",%" PRId64, sizes->product_columns);
    put_spread(out, &figures.to_copying);
    put_number(out, figures.cpu_ns);
    (void)fprintf(out, ",%" PRId64, sizes->host_count);
    put_number(out, figures.wire_bytes);
    put_number(out, figures.crossing_bytes);
    put_number(out, bench_percent_of_stream(point, &figures));
    (void)fprintf(out, "\n");
}

bool bench_report_csv(const char *path, const struct bench_results *results)
{
    FILE *out = fopen(path, "we");
    bool written = out != NULL;
    if (out != NULL) {
        (void)fprintf(out,
                      "operation,ranks,bs,hidden,topk,experts,dtype,quant,zipf,cold,threads,processes,skew_us,"
                      "engine,variant,repeats,p50_ns,p90_ns,p99_ns,payload_gb_per_s,percent_of_floor,"
                      "percent_of_floor_min,percent_of_floor_max,times_over_mpi,times_over_mpi_min,"
                      "times_over_mpi_max,product_columns,ratio_to_copying,ratio_to_copying_min,ratio_to_copying_max,"
                      "cpu_ns_of_a_rank,hosts,wire_bytes,crossing_bytes,percent_of_one_stream\n");
        for (size_t i = 0; i < results->point_count; i++) {
            for (size_t j = 0; j < results->points[i].series_count; j++) {
                put_series(out, &results->points[i], &results->points[i].series[j]);
            }
        }
        written = ferror(out) == 0;
        written = fclose(out) == 0 && written;
    }
    if (!written) {
        (void)fprintf(stderr, "epx bench: --csv is '%s', which cannot be written\n", path);
    }
    return written;
}
