/* Results for people and for spreadsheets. */
#ifndef EPX_BENCH_BENCH_REPORT_H
#define EPX_BENCH_BENCH_REPORT_H

#include "bench_results.h"

/* The table on standard output: its head, then the lines of each point as it is done, then what they mean. */
void bench_report_head(const struct bench_environment *environment);
void bench_report_point(const struct bench_point *point, bool all_variants);
void bench_report_foot(const struct bench_results *results);

/* Start-up times of the engines, which the table leaves out. */
void bench_report_starts(const struct bench_results *results);

/* What crossed between hosts; nothing where all points are on one. */
void bench_report_hosts(const struct bench_results *results);

/* False: cannot be written, said on standard error. */
bool bench_report_csv(const char *path, const struct bench_results *results);

/* What moved between two runs beyond noise, on standard output: both medians outside the other's quartiles by more than
 * 5 %. */
void bench_report_compare(const struct bench_results *before, const struct bench_results *after);

#endif
