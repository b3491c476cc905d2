/* What the demo shows at the end. */
#ifndef EPX_DEMO_REPORT_H
#define EPX_DEMO_REPORT_H

#include "board.h"

/* Rows per rank and expert with a bar, bytes moved, time of each phase. */
void report_print(const struct demo_options *options, const struct board *board);

#endif
