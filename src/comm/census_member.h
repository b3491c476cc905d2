/*
 * A rank on its way through the census: one attempt over one connection to a centre.
 */
#ifndef EPX_COMM_CENSUS_MEMBER_H
#define EPX_COMM_CENSUS_MEMBER_H

#include "comm/census_draft.h"
#include "comm/census_reach.h"

enum epx_census_attempt {
    EPX_CENSUS_DONE,
    EPX_CENSUS_AGAIN,  /* the centre is gone: look for it again */
    EPX_CENSUS_LATE,   /* the deadline has passed */
    EPX_CENSUS_FAILED, /* `failure` and the thread's error text say why */
};

struct epx_census_taking {
    const struct epx_census_request *request;
    uint64_t instance;
    uint64_t deadline_ns;
    uint32_t link_port; /* of rank 0: its listener for links; others 0 */
    enum epx_status failure;
    bool unreached; /* the last attempt has not found the centre: */
    char why_not[256];
    bool knows_missing;
    struct epx_rank_set missing; /* ranks missing in every report so far */
    bool all_reported;           /* says the last report; then those that have not confirmed: */
    struct epx_rank_set unconfirmed;
    struct epx_census_draft draft; /* whole after DONE */
};

/* Notes the status, whose text has been set, and returns FAILED. */
enum epx_census_attempt epx_census_fail(struct epx_census_taking *taking, enum epx_status status);

/* Runs an attempt to its end: finds the centre at one of these ports and reports to it. */
enum epx_census_attempt epx_census_attempt_run(struct epx_census_taking *taking, const uint16_t *ports,
                                               uint32_t port_count, uint64_t deadline_ns);

/* Fails with the text of a deadline that has passed. */
enum epx_status epx_census_fail_late(const struct epx_census_taking *taking);

#endif
