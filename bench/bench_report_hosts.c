#include "bench_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* "-" for NaN. */
static void put_cell(int width, int digits, double value)
{
    if (isnan(value)) {
        (void)printf(" %*s", width, "-");
    } else {
        (void)printf(" %*.*f", width, digits, value);
    }
}

static void put_series(const struct bench_point *point, const struct bench_series *series)
{
    char name[2 * BENCH_NAME_BYTES];
    const struct bench_case *sizes = &point->sizes;
    struct bench_figures figures = bench_series_figures(point, series);
    (void)snprintf(name, sizeof name, "%s/%s", series->engine, series->variant);
    (void)printf("# %-16s %5" PRId64 " %5" PRId64 " %5" PRId64 " %6" PRId64 " %-5s %-5s %-26s %9.1f", series->operation,
                 sizes->host_count, sizes->rank_count, sizes->token_count, sizes->hidden_elems,
                 sizes->dtype == BENCH_BF16 ? "bf16" : "fp16", sizes->quantize ? "int8" : "none", name,
                 figures.p50_ns / 1e3);
    put_cell(11, 3, figures.crossing_bytes / 1e6);
    put_cell(11, 3, figures.wire_bytes / 1e6);
    put_cell(10, 2, (figures.wire_bytes / figures.crossing_bytes - 1.0) * 100.0);
    put_cell(8, 2, figures.crossing_bytes / figures.p50_ns);
    put_cell(12, 0, figures.floor_percent.median);
    put_cell(8, 0, bench_percent_of_stream(point, &figures));
    put_cell(10, 2, figures.mpi_times.median);
    (void)printf("\n");
}

void bench_report_hosts(const struct bench_results *results)
{
    bool any = false;
    for (size_t i = 0; i < results->point_count; i++) {
        const struct bench_point *point = &results->points[i];
        if (point->sizes.host_count > 1 && !any) {
            any = true;
            (void)printf("#\n# %-16s %5s %5s %5s %6s %-5s %-5s %-26s %9s %11s %11s %10s %8s %12s %8s %10s\n",
                         "between hosts", "hosts", "ranks", "BS", "H", "dtype", "quant", "engine/variant", "p50 us",
                         "MB to cross", "MB on wire", "overhead %", "GB/s", "% of streams", "% of one", "x over MPI");
        }
        for (size_t j = 0; point->sizes.host_count > 1 && j < point->series_count; j++) {
            put_series(point, &point->series[j]);
        }
    }
    if (any) {
        (void)printf("# to cross: a token's row to each other host where it has an expert, an expert's row back. on "
                     "wire: what all hosts'\n# interfaces sent in the same time, with headers, acknowledgements and "
                     "what was sent again. GB/s: of what had to cross,\n# by p50; of streams: against the same bytes "
                     "through bare TCP streams, as many as ranks; of one: against one such\n# stream alone.\n");
    }
}
