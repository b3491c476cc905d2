/* One rank of the demo, in a process of its own. */
#ifndef EPX_DEMO_RANK_H
#define EPX_DEMO_RANK_H

#include "board.h"

/* Joins the world of the rank table, runs all rounds, leaves its results on the board. Exit status of the process. */
int rank_run(const struct demo_options *options, const char *table_path, int64_t rank, struct board *board);

#endif
