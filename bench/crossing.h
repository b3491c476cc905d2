/* What a case has to send from one host to another: a function of its sizes and its routing. */
#ifndef EPX_BENCH_CROSSING_H
#define EPX_BENCH_CROSSING_H

#include "case.h"

enum bench_crossing {
    BENCH_CROSSING_DISPATCH,  /* a token goes once to each other host where one of its experts is */
    BENCH_CROSSING_COMBINE,   /* every expert's row goes back, if the token is of another host */
    BENCH_CROSSING_TWO_LEVEL, /* a combine of which one row comes back from each other host where an expert is */
};

/* Not of the two-level combine. Adds to rows (ranks, hosts), by sending rank and receiving host. */
void bench_crossing_rows(const struct bench_case *bench, enum bench_crossing crossing, int64_t *rows);

/* Of such a row; a quantised one has its scale. */
int64_t bench_crossing_row_bytes(const struct bench_case *bench, enum bench_crossing crossing);

/* Of all ranks together; 0 on one host. */
int64_t bench_crossing_bytes(const struct bench_case *bench, enum bench_crossing crossing);

#endif
