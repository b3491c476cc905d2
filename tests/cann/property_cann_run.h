/*
 * One rank of a random world through the operators of the CANN door: both first phases, both second phases, one
 * synchronisation, in one of many orders.
 */
#ifndef EPX_TESTS_PROPERTY_CANN_RUN_H
#define EPX_TESTS_PROPERTY_CANN_RUN_H

#include "cann/property_cann_case.h"
#include "cann/property_cann_tensor.h"

#define PROPERTY_CANN_PARAM_MAX  12
#define PROPERTY_CANN_REPEAT_MAX 3

/* An operator's tensors in the order of its parameters. */
enum property_cann_dispatch_param {
    DISPATCH_X,
    DISPATCH_EXPERT_IDS,
    DISPATCH_SCALES,
    DISPATCH_MASK,
    DISPATCH_EXPERT_SCALES,
    DISPATCH_EXPAND_X,
    DISPATCH_DYNAMIC_SCALES,
    DISPATCH_EXPAND_IDX,
    DISPATCH_TOKEN_NUMS,
    DISPATCH_EP_COUNTS,
    DISPATCH_TP_COUNTS,
    DISPATCH_EXPAND_SCALES,
    DISPATCH_PARAM_COUNT,
    DISPATCH_INPUT_COUNT = DISPATCH_EXPAND_X,
};

enum property_cann_combine_param {
    COMBINE_EXPAND_X,
    COMBINE_EXPERT_IDS,
    COMBINE_EXPAND_IDX,
    COMBINE_EP_COUNTS,
    COMBINE_EXPERT_SCALES,
    COMBINE_TP_COUNTS,
    COMBINE_MASK,
    COMBINE_ACTIVATION_SCALE,
    COMBINE_WEIGHT_SCALE,
    COMBINE_GROUP_LIST,
    COMBINE_EXPAND_SCALES,
    COMBINE_X,
    COMBINE_PARAM_COUNT,
    COMBINE_INPUT_COUNT = COMBINE_X,
};

struct property_cann_operation {
    struct property_cann_tensor own[PROPERTY_CANN_PARAM_MAX];
    struct property_cann_tensor *params[PROPERTY_CANN_PARAM_MAX]; /* own, or another operation's output */
    int param_count;
    int input_count;
};

/* What is drawn of how the operations are run. */
struct property_cann_plan {
    int repeats;             /* equal on all ranks, as is alternate */
    bool alternate;          /* dispatch and combine in turn, or else all dispatches first */
    bool repeatable;         /* one executor for all runs of an operation */
    bool moves;              /* ... and other addresses in every second run */
    bool ahead;              /* all first phases before any second one */
    bool combine_first;      /* ... that of combine before that of dispatch */
    bool drops_handles;      /* tensors are destroyed after the first phases */
    bool synchronizes_often; /* after each operation */
    bool two_streams;
    bool event; /* ... and one orders them */
    bool combine_waited_first;
    bool default_stream;
    bool with_timeout;
    bool elsewhere;       /* queued while another device is current */
    bool keeps_executors; /* repeatable ones are destroyed after the synchronisation */
};

struct property_cann_run {
    struct property_cann_place *place;
    const struct world *world;
    struct random_source random;
    bool one_driver; /* its thread drives other ranks as well */
    bool combine_reads_dispatch;
    struct property_cann_plan plan;
    struct property_cann_operation dispatch;
    struct property_cann_operation combine;
    aclrtStream streams[2]; /* dispatch's, combine's */
    aclrtEvent event;
    aclOpExecutor *executors[2 * PROPERTY_CANN_REPEAT_MAX];
};

/* In this order; each false with what is wrong in the place's report. Between the second and the third no other rank
 * may be waited for. fini always. */
bool property_cann_run_init(struct property_cann_run *run, struct property_cann_place *place, const struct world *world,
                            bool one_driver);
bool property_cann_run_queue(struct property_cann_run *run);
bool property_cann_run_wait(struct property_cann_run *run);
bool property_cann_run_check(struct property_cann_run *run);
void property_cann_run_fini(struct property_cann_run *run);

/* All of it for one rank, which leaves its communicators where that ends its peers' waiting; false as above. */
bool property_cann_run_alone(struct property_cann_place *place, const struct world *world);
/* The same for all ranks, by one thread. */
void property_cann_run_together(struct property_cann_place *places, int64_t count, const struct world *world);

/* Whether the rank's combine reads the rows that dispatch wrote, and the change to the world that this asks for. */
bool property_cann_rows_chained(const struct world *world, int64_t index);
void property_cann_chain_rows(struct world *world);

/* ---- What the operators differ in; property_cann_dispatch.c and _combine.c --------------------------------------- */

/* Draws own tensors and params. Combine after dispatch. */
void property_cann_dispatch_layout(struct property_cann_run *run);
void property_cann_combine_layout(struct property_cann_run *run);

/* Inputs after the memory is there; outputs as the world has them. */
void property_cann_dispatch_fill(struct property_cann_run *run);
void property_cann_combine_fill(struct property_cann_run *run);
void property_cann_dispatch_expect(struct property_cann_run *run);
void property_cann_combine_expect(struct property_cann_run *run);

/* First phases. */
aclnnStatus property_cann_dispatch_prepare(struct property_cann_run *run, aclOpExecutor **executor);
aclnnStatus property_cann_combine_prepare(struct property_cann_run *run, aclOpExecutor **executor);

/* ---- Between the files ------------------------------------------------------------------------------------------- */

/* Arguments of both operators that the shape does not fix; equal on all ranks but for the last two. */
int64_t property_cann_shared_expert_num(const struct world *world);
int64_t property_cann_tp_world_size(const struct world *world);
const char *property_cann_group_tp(struct property_cann_run *run);
int64_t property_cann_tp_rank_id(struct property_cann_run *run);

/* Rows of a tensor that must hold `rows`: under a product at least what equal ranks can send. */
int64_t property_cann_rows(const struct property_cann_run *run, int64_t rows);
/* Up to `most` elements more than needed, where the product leaves it open. */
int64_t property_cann_more(struct property_cann_run *run, int64_t most);
bool property_cann_dense(struct property_cann_run *run);

/* A tensor that the operation ignores: none, or anything. */
void property_cann_ignored(struct property_cann_run *run, struct property_cann_tensor *tensor, const char *name,
                           bool required);
/* tpRecvCounts and tpSendCounts without TP. */
void property_cann_ignored_tp_counts(struct property_cann_run *run, struct property_cann_tensor *tensor,
                                     const char *name, bool required);

/* How many storages of outputs the runs write. */
int property_cann_storage_count(const struct property_cann_run *run);

#endif
