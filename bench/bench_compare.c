#include "bench_report.h"

#include <inttypes.h>
#include <stdio.h>

/* What a median must leave the other's quartiles by to have moved. */
#define SLACK 0.05

/* Rounds, warm-up and the check of results change no time that is compared. */
static bool same_case(const struct bench_case *a, const struct bench_case *b)
{
    return a->rank_count == b->rank_count && a->host_count == b->host_count && a->token_count == b->token_count &&
           a->hidden_elems == b->hidden_elems && a->topk == b->topk && a->expert_count == b->expert_count &&
           a->dtype == b->dtype && a->quantize == b->quantize && a->zipf == b->zipf && a->cold == b->cold &&
           a->threads == b->threads && a->processes == b->processes && a->seed == b->seed && a->skew_us == b->skew_us &&
           a->product_columns == b->product_columns;
}

static const struct bench_point *find_point(const struct bench_results *results, const struct bench_case *sizes)
{
    for (size_t i = 0; i < results->point_count; i++) {
        if (same_case(&results->points[i].sizes, sizes)) {
            return &results->points[i];
        }
    }
    return NULL;
}

/* Null: there is no such point, or no such series in it. */
static const struct bench_series *find_series(const struct bench_point *point, const struct bench_series *like)
{
    return point != NULL ? bench_point_find(point, like->operation, like->engine, like->variant) : NULL;
}

static void print_move(const struct bench_point *point, const struct bench_series *series,
                       const struct bench_spread *before, const struct bench_spread *after)
{
    const struct bench_case *sizes = &point->sizes;
    double change = (after->median / before->median - 1.0) * 100.0;
    (void)printf("  %-16s %5" PRId64 " ranks, %2" PRId64 " hosts, BS %5" PRId64 ", H %6" PRId64 ", K %3" PRId64
                 ", E %4" PRId64 ", %s %s  %s/%s: %.1f (%.1f-%.1f) us -> %.1f (%.1f-%.1f) us, %+.0f %% %s\n",
                 series->operation, sizes->rank_count, sizes->host_count, sizes->token_count, sizes->hidden_elems,
                 sizes->topk, sizes->expert_count, sizes->dtype == BENCH_BF16 ? "bf16" : "fp16",
                 sizes->quantize ? "int8" : "none", series->engine, series->variant, before->median / 1e3,
                 before->lower_quartile / 1e3, before->upper_quartile / 1e3, after->median / 1e3,
                 after->lower_quartile / 1e3, after->upper_quartile / 1e3, change, change > 0.0 ? "SLOWER" : "faster");
}

void bench_report_compare(const struct bench_results *before, const struct bench_results *after)
{
    size_t compared = 0;
    size_t faster = 0;
    size_t slower = 0;
    (void)printf("#\n# against epx %s of %s on %s; median (quartiles) of the repeats' medians:\n",
                 before->environment.version, before->environment.time, before->environment.processor);
    for (size_t i = 0; i < after->point_count; i++) {
        const struct bench_point *point = &after->points[i];
        const struct bench_point *old_point = find_point(before, &point->sizes);
        for (size_t j = 0; j < point->series_count; j++) {
            const struct bench_series *old_series = find_series(old_point, &point->series[j]);
            if (old_series == NULL) {
                continue;
            }
            struct bench_spread was = bench_series_figures(old_point, old_series).p50_spread_ns;
            struct bench_spread is = bench_series_figures(point, &point->series[j]).p50_spread_ns;
            compared++;
            if (bench_spread_moved(&was, &is, SLACK)) {
                print_move(point, &point->series[j], &was, &is);
                faster += is.median < was.median;
                slower += is.median > was.median;
            }
        }
    }
    (void)printf("# compared %zu series: %zu slower, %zu faster, %zu within noise\n", compared, slower, faster,
                 compared - slower - faster);
}
