#include "bench_stats.h"

#include <math.h>
#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double percentile_of_sorted(const double *values, size_t count, double part)
{
    if (count == 0) {
        return NAN;
    }
    double place = part * (double)(count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (place - (double)below);
}

double bench_percentile(double *values, size_t count, double part)
{
    if (count > 0) {
        qsort(values, count, sizeof *values, compare_doubles);
    }
    return percentile_of_sorted(values, count, part);
}

struct bench_spread bench_spread_of(double *values, size_t count)
{
    struct bench_spread spread = {.median = bench_percentile(values, count, 0.5)};
    spread.min = percentile_of_sorted(values, count, 0.0);
    spread.max = percentile_of_sorted(values, count, 1.0);
    spread.lower_quartile = percentile_of_sorted(values, count, 0.25);
    spread.upper_quartile = percentile_of_sorted(values, count, 0.75);
    return spread;
}

static bool outside(double value, const struct bench_spread *spread, double slack)
{
    return value < spread->lower_quartile * (1.0 - slack) || value > spread->upper_quartile * (1.0 + slack);
}

bool bench_spread_moved(const struct bench_spread *before, const struct bench_spread *after, double slack)
{
    return outside(after->median, before, slack) && outside(before->median, after, slack);
}

double bench_difference(double a, double b)
{
    double smaller = a < b ? a : b;
    return fabs(a - b) / smaller;
}
