/*
 * A small world behind the CANN door for tests: ranks as threads, each with its device, stream and tensors of one
 * dispatch and combine. Failures inside a rank's thread are recorded, since cmocka's asserts belong to the main thread.
 */
#ifndef EPX_TESTS_DOOR_WORLD_H
#define EPX_TESTS_DOOR_WORLD_H

#include "cann/exports_acl.h"
#include "cann/exports_aclnn.h"
#include "cann/exports_hccl.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOOR_RANKS_MAX 16

struct door_sizes {
    int64_t rank_count;
    int64_t tokens;
    int64_t hidden;
    int64_t topk;
    int64_t experts;
    int64_t rows; /* A */
    int64_t quant_mode;
    int64_t global_bs;
};

enum door_tensor {
    DOOR_X,
    DOOR_IDS,
    DOOR_WEIGHTS,
    DOOR_MASK,
    DOOR_EXPAND_X,
    DOOR_DYNAMIC,
    DOOR_IDX,
    DOOR_NUMS,
    DOOR_COUNTS,
    DOOR_TP_COUNTS,
    DOOR_EXPAND_SCALES,
    DOOR_OUT,
    DOOR_TENSORS,
};

struct door_rank {
    const struct door_sizes *sizes;
    int64_t rank;
    int32_t device;
    HcclComm comm;
    char name[COMM_NAME_MAX_LENGTH];
    aclrtStream stream;
    void *data[DOOR_TENSORS];
    aclTensor *tensors[DOOR_TENSORS];
    void (*body)(struct door_rank *self);
    void *extra;
    char failure[256]; /* "" when all went well */
};

#define DOOR_CHECK(self, condition)                                                                                    \
    do {                                                                                                               \
        if (!(condition) && (self)->failure[0] == '\0') {                                                              \
            const char *door_message_ = epx_cann_aclGetRecentErrMsg();                                                 \
            snprintf((self)->failure, sizeof(self)->failure, "rank %lld, line %d: %.100s (%.120s)",                    \
                     (long long)(self)->rank, __LINE__, #condition, door_message_ ? door_message_ : "");               \
        }                                                                                                              \
    } while (0)

static inline aclTensor *door_tensor(struct door_rank *self, enum door_tensor which, aclDataType type, int64_t rows,
                                     int64_t columns)
{
    const int64_t dims[2] = {rows, columns};
    const uint64_t dim_count = columns > 0 ? 2 : 1;
    const size_t bytes = (size_t)(rows * (columns > 0 ? columns : 1)) * epx_cann_aclDataTypeSize(type);
    if (epx_cann_aclrtMalloc(&self->data[which], bytes > 0 ? bytes : 1, ACL_MEM_MALLOC_HUGE_FIRST) != ACL_SUCCESS) {
        return NULL;
    }
    memset(self->data[which], 0, bytes);
    self->tensors[which] =
        epx_cann_aclCreateTensor(dims, dim_count, type, NULL, 0, ACL_FORMAT_ND, dims, dim_count, self->data[which]);
    return self->tensors[which];
}

static inline void door_tensors_create(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    const int64_t local = s->experts / s->rank_count;
    DOOR_CHECK(self, door_tensor(self, DOOR_X, ACL_BF16, s->tokens, s->hidden));
    DOOR_CHECK(self, door_tensor(self, DOOR_IDS, ACL_INT32, s->tokens, s->topk));
    DOOR_CHECK(self, door_tensor(self, DOOR_WEIGHTS, ACL_FLOAT, s->tokens, s->topk));
    DOOR_CHECK(self, door_tensor(self, DOOR_MASK, ACL_BOOL, s->tokens, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_EXPAND_X, s->quant_mode ? ACL_INT8 : ACL_BF16, s->rows, s->hidden));
    DOOR_CHECK(self, door_tensor(self, DOOR_DYNAMIC, ACL_FLOAT, s->rows, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_IDX, ACL_INT32, s->tokens * s->topk, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_NUMS, ACL_INT64, local, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_COUNTS, ACL_INT32, local * s->rank_count, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_TP_COUNTS, ACL_INT32, 1, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_EXPAND_SCALES, ACL_FLOAT, s->rows, 0));
    DOOR_CHECK(self, door_tensor(self, DOOR_OUT, ACL_BF16, s->tokens, s->hidden));
}

static inline void door_tensors_destroy(struct door_rank *self)
{
    for (int i = 0; i < DOOR_TENSORS; i++) {
        epx_cann_aclDestroyTensor(self->tensors[i]);
        if (self->data[i]) {
            epx_cann_aclrtFree(self->data[i]);
        }
    }
}

static inline aclnnStatus door_dispatch_prepare(struct door_rank *self, uint64_t *workspace, aclOpExecutor **executor)
{
    const struct door_sizes *s = self->sizes;
    aclTensor **t = self->tensors;
    return epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize(
        t[DOOR_X], t[DOOR_IDS], NULL, t[DOOR_MASK], t[DOOR_WEIGHTS], self->name, s->rank_count, self->rank, s->experts,
        "", 0, 0, 0, 0, 0, s->quant_mode, s->global_bs, 1, t[DOOR_EXPAND_X], t[DOOR_DYNAMIC], t[DOOR_IDX], t[DOOR_NUMS],
        t[DOOR_COUNTS], t[DOOR_TP_COUNTS], t[DOOR_EXPAND_SCALES], workspace, executor);
}

static inline aclnnStatus door_combine_prepare(struct door_rank *self, uint64_t *workspace, aclOpExecutor **executor)
{
    const struct door_sizes *s = self->sizes;
    aclTensor **t = self->tensors;
    return epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize(
        t[DOOR_EXPAND_X], t[DOOR_IDS], t[DOOR_IDX], t[DOOR_COUNTS], t[DOOR_WEIGHTS], t[DOOR_TP_COUNTS], t[DOOR_MASK],
        t[DOOR_DYNAMIC], t[DOOR_WEIGHTS], t[DOOR_TP_COUNTS], t[DOOR_EXPAND_SCALES], self->name, s->rank_count,
        self->rank, s->experts, "", 0, 0, 0, 0, 0, s->global_bs, 0, 0, 0, t[DOOR_OUT], workspace, executor);
}

static inline void *door_rank_main(void *context)
{
    struct door_rank *self = context;
    DOOR_CHECK(self, epx_cann_aclrtSetDevice(self->device) == ACL_SUCCESS);
    DOOR_CHECK(self, epx_cann_aclrtCreateStream(&self->stream) == ACL_SUCCESS);
    door_tensors_create(self);
    if (self->failure[0] == '\0') {
        self->body(self);
    }
    if (self->stream) {
        DOOR_CHECK(self, epx_cann_aclrtDestroyStream(self->stream) == ACL_SUCCESS);
    }
    door_tensors_destroy(self);
    return NULL;
}

/* Runs `body` on a thread for each rank of a communicator; returns the first failure, "" for none. Static text. */
static inline const char *door_run(const struct door_sizes *sizes, HcclComm *comms, const int32_t *devices,
                                   void (*body)(struct door_rank *self), void *extra)
{
    static char failure[256];
    static struct door_rank ranks[DOOR_RANKS_MAX];
    pthread_t threads[DOOR_RANKS_MAX];
    failure[0] = '\0';
    memset(ranks, 0, sizeof ranks);
    for (int64_t r = 0; r < sizes->rank_count; r++) {
        ranks[r] = (struct door_rank){
            .sizes = sizes, .rank = r, .device = devices[r], .comm = comms[r], .body = body, .extra = extra};
        epx_cann_HcclGetCommName(comms[r], ranks[r].name);
        pthread_create(&threads[r], NULL, door_rank_main, &ranks[r]);
    }
    for (int64_t r = 0; r < sizes->rank_count; r++) {
        pthread_join(threads[r], NULL);
    }
    for (int64_t r = sizes->rank_count - 1; r >= 0; r--) {
        if (ranks[r].failure[0]) {
            memcpy(failure, ranks[r].failure, sizeof failure);
        }
    }
    return failure;
}

#endif
