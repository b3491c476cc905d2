/*
 * All ranks of a case as threads of this process.
 */
#ifndef EPX_TESTS_PROPERTY_CANN_THREADS_H
#define EPX_TESTS_PROPERTY_CANN_THREADS_H

#include "cann/property_cann_case.h"

void property_cann_run_threads(const struct property_case *test, enum epx_product product,
                               struct property_report *reports);

/* One line on what was drawn. */
void property_cann_threads_print(const char *program);

/* property_case_init, with combine reading dispatch's rows on some ranks. */
void property_cann_case_draw(struct property_case *test, const struct property_options *options, int64_t number);

/* Time limits, and a name for this run's rank tables: before anything else of the library. */
void property_cann_environment_set(void);

#endif
