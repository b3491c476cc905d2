/*
 * The course of an operation between its waits: its turn, what crosses to other hosts, ENTER, moving rows, DONE. Each
 * wait may end as pending; the operation goes on later, on any thread.
 */
#ifndef EPX_MOE_STAGES_H
#define EPX_MOE_STAGES_H

#include "moe/request.h"
#include "moe/rounds.h"

/* An operation. What `run` points to is the plan's, and this operation's from its turn to the end of its rounds. */
struct epx_moe_stages {
    void *operation; /* for the functions */
    /* Waits for its turn; when it has come fills the run, publishes and begins what crosses to other hosts. */
    enum epx_status (*take_turn)(void *operation, uint64_t until_ns, bool *pending);
    enum epx_status (*move)(void *operation);
    void (*count_rows)(void *operation); /* into the statistics, after success */
    struct epx_rounds *rounds;
    struct epx_operation_stats *stats; /* of the run; its times are written here */
    const uint64_t *start_ns;
};

/* Goes on until `until_ns`. Returns whether it has ended, then with *status; *out (null: nobody asks) gets the
 * statistics of a success. */
bool epx_moe_stages_advance(const struct epx_moe_stages *stages, enum epx_moe_stage *stage, uint64_t until_ns,
                            struct epx_operation_stats *out, enum epx_status *status);

#endif
