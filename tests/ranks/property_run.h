/*
 * One rank of a random world through dispatch and combine.
 */
#ifndef EPX_TESTS_PROPERTY_RUN_H
#define EPX_TESTS_PROPERTY_RUN_H

#include "moe/request.h"
#include "ranks/property_world.h"

#define PROPERTY_RUN_MAX 2

/* The rank's communicators, and where what is wrong is said. */
struct property_rank {
    const struct world *world;
    int64_t index;
    struct epx_comm *comm;
    struct epx_comm *tp_comm; /* null without TP */
    struct property_report *report;
};

/* False: report->text has what is wrong. *failed: the operation failed as the world wants it, nothing more can run. */
bool property_run_dispatch(const struct property_rank *rank, bool *failed);
bool property_run_combine(const struct property_rank *rank, bool *failed);

/* Writes the report's text unless there is one; returns false. */
bool property_report_set(struct property_report *report, const char *format, ...) EPX_PRINTF(2, 3);

/* What both operators share. */

struct property_tensor;
struct random_source;

void property_shape_of(const struct world *world, struct epx_moe_shape *shape);

/* How often each operator is run before its outputs are looked at, at most PROPERTY_RUN_MAX. */
int property_run_count(const struct world *world);

/* BS to plan for: the rank's, or with `more_allowed` up to 3 more where globalBs has room. */
int64_t property_planned_tokens(const struct property_rank *rank, struct random_source *random, bool more_allowed);

/* Whether `status` and the thread's text are what the reference's `expected` asks for. */
bool property_status_check(const struct property_rank *rank, const char *what, enum epx_status status,
                           const struct ref_error *expected);

/* Every tensor against its image; after a failed operation the elements of outputs may be anything. */
bool property_tensors_check(const struct property_rank *rank, const char *what, const struct property_tensor *tensors,
                            int64_t count, bool failed);

#endif
