/* Records of engines, and files of results. What fails is said on standard error. */
#ifndef EPX_BENCH_BENCH_JSON_H
#define EPX_BENCH_BENCH_JSON_H

#include "bench_results.h"

/* Adds what `count` bytes of an engine's output say to repeat 0 of the point. False when a line is no record, or there
 * is no summary among them. */
bool bench_json_take_records(struct bench_point *point, const char *output, size_t count);

/* Every sample and the environment. */
bool bench_json_write(const char *path, const struct bench_results *results);

/* Reads what bench_json_write wrote. */
bool bench_json_read(const char *path, struct bench_results *results);

#endif
