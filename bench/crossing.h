/* What a case has to send from one host to another: a function of its sizes and its routing. */
#ifndef EPX_BENCH_CROSSING_H
#define EPX_BENCH_CROSSING_H

#include "case.h"

/* Of the dispatch: a token goes once to each other host where one of its experts is. Of the combine: every expert's row
 * goes back, if the token is of another host. Adds to rows (ranks, hosts), by sending rank and receiving host. */
void bench_crossing_rows(const struct bench_case *bench, bool combine, int64_t *rows);

/* Of such a row; a quantised one has its scale. */
int64_t bench_crossing_row_bytes(const struct bench_case *bench, bool combine);

/* Of all ranks together; 0 on one host. */
int64_t bench_crossing_bytes(const struct bench_case *bench, bool combine);

#endif
