/* Order statistics of samples. Thread: any. */
#ifndef EPX_BENCH_BENCH_STATS_H
#define EPX_BENCH_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

/* Value below which `part` (0 .. 1) of the values lie, between neighbours on a straight line; NaN of no values. The
 * values' order is changed. */
double bench_percentile(double *values, size_t count, double part);

struct bench_spread {
    double median;
    double min;
    double max;
    double lower_quartile;
    double upper_quartile;
};

/* NaNs of no values. The values' order is changed. */
struct bench_spread bench_spread_of(double *values, size_t count);

/* Whether each median lies outside the other's quartiles by more than `slack` (a part of 1) of the quartile. */
bool bench_spread_moved(const struct bench_spread *before, const struct bench_spread *after, double slack);

/* |a - b| as a part of the smaller. */
double bench_difference(double a, double b);

#endif
