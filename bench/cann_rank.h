/*
 * One rank as a program written for CANN has it: a device, a stream, a communicator, device memory, tensors, and the
 * two operators in their two phases. Functions say on standard error what fails, with the interface's own text. Thread:
 * one thread a rank.
 */
#ifndef EPX_BENCH_CANN_RANK_H
#define EPX_BENCH_CANN_RANK_H

#include "case.h"

#include "acl/acl.h"
#include "aclnnop/aclnn_moe_distribute_combine.h"
#include "aclnnop/aclnn_moe_distribute_dispatch.h"
#include "hccl/hccl.h"

enum cann_tensor {
    CANN_X,
    CANN_EXPERT_IDS,
    CANN_WEIGHTS,
    CANN_EXPAND_X,
    CANN_DYNAMIC_SCALES, /* with quantisation */
    CANN_EXPAND_IDX,
    CANN_TOKEN_NUMS, /* counts of local experts */
    CANN_EP_COUNTS,
    CANN_TP_COUNTS,
    CANN_EXPERT_OUT,
    CANN_COMBINED,
    CANN_TENSOR_COUNT,
};

struct cann_operator {
    aclOpExecutor *executor; /* null, or to be run again and again */
    void *workspace;
    uint64_t workspace_bytes;
};

struct cann_rank {
    const struct bench_case *bench;
    int64_t rank;
    int64_t local_experts;
    int64_t row_max; /* of expandX: what can arrive at most */
    HcclComm comm;
    char group[COMM_NAME_MAX_LENGTH];
    aclrtStream stream;
    void *data[CANN_TENSOR_COUNT];
    size_t bytes[CANN_TENSOR_COUNT];
    aclTensor *tensors[CANN_TENSOR_COUNT]; /* null where the case has none */
    struct cann_operator dispatch;
    struct cann_operator combine;
};

/* Runtime, device, stream. The rank's device is its number, as far as there are so many. */
bool cann_rank_start(struct cann_rank *rank, const struct bench_case *bench, int64_t number);

/* Collective: the communicator of all ranks that meet at `root`. */
bool cann_rank_join(struct cann_rank *rank, const HcclRootInfo *root);

/* Tensors, with the case's inputs in them. */
bool cann_rank_allocate(struct cann_rank *rank);

/* First phases, for executors that are used until the end. Without this, each call has both phases. */
bool cann_rank_plan(struct cann_rank *rank);

/* Enqueue; cann_rank_wait waits for all that is queued. */
bool cann_rank_dispatch(struct cann_rank *rank);
bool cann_rank_combine(struct cann_rank *rank);
bool cann_rank_wait(struct cann_rank *rank);

/* Fills CANN_EXPERT_OUT from what the last dispatch brought. */
void cann_rank_experts(struct cann_rank *rank);

/* Ends everything; all ranks have left their last operation. */
bool cann_rank_end(struct cann_rank *rank);

#endif
