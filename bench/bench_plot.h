/* Results as a picture. */
#ifndef EPX_BENCH_BENCH_PLOT_H
#define EPX_BENCH_BENCH_PLOT_H

#include "bench_results.h"

/* Draws `prefix`.png and `prefix`.svg with gnuplot. False without gnuplot or when it fails, said on standard error. */
bool bench_plot(const char *prefix, const struct bench_results *results);

#endif
