#include "cann_rank.h"

#include <stdio.h>

#define WAIT_MS 60000

/* Codes of all interfaces are 0 for success. */
static bool succeeded(const struct cann_rank *rank, const char *call, int64_t code)
{
    if (code == 0) {
        return true;
    }
    const char *text = aclGetRecentErrMsg();
    (void)fprintf(stderr, "epx-bench-cann: rank %lld: %s returned %lld: %s\n", (long long)rank->rank, call,
                  (long long)code, text != NULL ? text : "no text");
    return false;
}

/* ---- Start --------------------------------------------------------------------------------------------------- */

/* Ranks that are threads start the runtime once more each, which counts. */
static bool start_runtime(const struct cann_rank *rank)
{
    aclError code = aclInit(NULL);
    return code == ACL_ERROR_REPEAT_INITIALIZE || succeeded(rank, "aclInit", code);
}

bool cann_rank_start(struct cann_rank *rank, const struct bench_case *bench, int64_t number)
{
    uint32_t devices = 0;
    *rank = (struct cann_rank){.bench = bench, .rank = number};
    rank->local_experts = bench->expert_count / bench->rank_count;
    rank->row_max = bench->rank_count * bench->token_count *
                    (rank->local_experts < bench->topk ? rank->local_experts : bench->topk);
    return start_runtime(rank) && succeeded(rank, "aclrtGetDeviceCount", aclrtGetDeviceCount(&devices)) &&
           succeeded(rank, "aclrtSetDevice", aclrtSetDevice((int32_t)(number % devices))) &&
           succeeded(rank, "aclrtCreateStream", aclrtCreateStream(&rank->stream));
}

bool cann_rank_join(struct cann_rank *rank, const HcclRootInfo *root)
{
    return succeeded(
               rank, "HcclCommInitRootInfo",
               HcclCommInitRootInfo((uint32_t)rank->bench->rank_count, root, (uint32_t)rank->rank, &rank->comm)) &&
           succeeded(rank, "HcclGetCommName", HcclGetCommName(rank->comm, rank->group));
}

/* ---- Tensors ------------------------------------------------------------------------------------------------- */

/* columns 0: one dimension */
static bool create_tensor(struct cann_rank *rank, enum cann_tensor which, aclDataType type, int64_t rows,
                          int64_t columns)
{
    const int64_t dims[2] = {rows, columns};
    const uint64_t dim_count = columns > 0 ? 2 : 1;
    rank->bytes[which] = (size_t)(rows * (columns > 0 ? columns : 1)) * aclDataTypeSize(type);
    if (!succeeded(rank, "aclrtMalloc",
                   aclrtMalloc(&rank->data[which], rank->bytes[which], ACL_MEM_MALLOC_HUGE_FIRST))) {
        return false;
    }
    rank->tensors[which] =
        aclCreateTensor(dims, dim_count, type, NULL, 0, ACL_FORMAT_ND, dims, dim_count, rank->data[which]);
    return succeeded(rank, "aclCreateTensor", rank->tensors[which] == NULL ? 1 : 0);
}

bool cann_rank_allocate(struct cann_rank *rank)
{
    const struct bench_case *bench = rank->bench;
    const aclDataType dtype = bench->dtype == BENCH_BF16 ? ACL_BF16 : ACL_FLOAT16;
    const int64_t tokens = bench->token_count;
    const int64_t hidden = bench->hidden_elems;
    if (!create_tensor(rank, CANN_X, dtype, tokens, hidden) ||
        !create_tensor(rank, CANN_EXPERT_IDS, ACL_INT32, tokens, bench->topk) ||
        !create_tensor(rank, CANN_WEIGHTS, ACL_FLOAT, tokens, bench->topk) ||
        !create_tensor(rank, CANN_EXPAND_X, bench->quantize ? ACL_INT8 : dtype, rank->row_max, hidden) ||
        (bench->quantize && !create_tensor(rank, CANN_DYNAMIC_SCALES, ACL_FLOAT, rank->row_max, 0)) ||
        !create_tensor(rank, CANN_EXPAND_IDX, ACL_INT32, tokens * bench->topk, 0) ||
        !create_tensor(rank, CANN_TOKEN_NUMS, ACL_INT64, rank->local_experts, 0) ||
        !create_tensor(rank, CANN_EP_COUNTS, ACL_INT32, rank->local_experts * bench->rank_count, 0) ||
        !create_tensor(rank, CANN_TP_COUNTS, ACL_INT32, 1, 0) ||
        !create_tensor(rank, CANN_EXPERT_OUT, dtype, rank->row_max, hidden) ||
        !create_tensor(rank, CANN_COMBINED, dtype, tokens, hidden)) {
        return false;
    }
    bench_inputs_tokens(bench, rank->rank, rank->data[CANN_X]);
    bench_inputs_routing(bench, rank->rank, rank->data[CANN_EXPERT_IDS], rank->data[CANN_WEIGHTS]);
    return true;
}

/* ---- First phases -------------------------------------------------------------------------------------------- */

static bool provide_workspace(const struct cann_rank *rank, struct cann_operator *op, uint64_t bytes)
{
    if (bytes <= op->workspace_bytes) {
        return true;
    }
    if (op->workspace != NULL && !succeeded(rank, "aclrtFree", aclrtFree(op->workspace))) {
        return false;
    }
    op->workspace = NULL;
    op->workspace_bytes = bytes;
    return succeeded(rank, "aclrtMalloc", aclrtMalloc(&op->workspace, bytes, ACL_MEM_MALLOC_HUGE_FIRST));
}

static bool prepare_dispatch(struct cann_rank *rank, aclOpExecutor **executor)
{
    const struct bench_case *bench = rank->bench;
    aclTensor **t = rank->tensors;
    uint64_t bytes = 0;
    return succeeded(rank, "aclnnMoeDistributeDispatchGetWorkspaceSize",
                     aclnnMoeDistributeDispatchGetWorkspaceSize(
                         t[CANN_X], t[CANN_EXPERT_IDS], NULL, NULL, t[CANN_WEIGHTS], rank->group, bench->rank_count,
                         rank->rank, bench->expert_count, "", 0, 0, 0, 0, 0, bench->quantize ? 2 : 0, 0, 1,
                         t[CANN_EXPAND_X], t[CANN_DYNAMIC_SCALES], t[CANN_EXPAND_IDX], t[CANN_TOKEN_NUMS],
                         t[CANN_EP_COUNTS], t[CANN_TP_COUNTS], NULL, &bytes, executor)) &&
           provide_workspace(rank, &rank->dispatch, bytes);
}

static bool prepare_combine(struct cann_rank *rank, aclOpExecutor **executor)
{
    const struct bench_case *bench = rank->bench;
    aclTensor **t = rank->tensors;
    uint64_t bytes = 0;
    return succeeded(rank, "aclnnMoeDistributeCombineGetWorkspaceSize",
                     aclnnMoeDistributeCombineGetWorkspaceSize(
                         t[CANN_EXPERT_OUT], t[CANN_EXPERT_IDS], t[CANN_EXPAND_IDX], t[CANN_EP_COUNTS], t[CANN_WEIGHTS],
                         t[CANN_TP_COUNTS], NULL, NULL, NULL, NULL, NULL, rank->group, bench->rank_count, rank->rank,
                         bench->expert_count, "", 0, 0, 0, 0, 0, 0, 0, 0, 0, t[CANN_COMBINED], &bytes, executor)) &&
           provide_workspace(rank, &rank->combine, bytes);
}

bool cann_rank_plan(struct cann_rank *rank)
{
    return prepare_dispatch(rank, &rank->dispatch.executor) && prepare_combine(rank, &rank->combine.executor) &&
           succeeded(rank, "aclSetAclOpExecutorRepeatable", aclSetAclOpExecutorRepeatable(rank->dispatch.executor)) &&
           succeeded(rank, "aclSetAclOpExecutorRepeatable", aclSetAclOpExecutorRepeatable(rank->combine.executor));
}

/* ---- Operations ---------------------------------------------------------------------------------------------- */

bool cann_rank_dispatch(struct cann_rank *rank)
{
    struct cann_operator *op = &rank->dispatch;
    aclOpExecutor *executor = op->executor;
    if (executor == NULL && !prepare_dispatch(rank, &executor)) {
        return false;
    }
    return succeeded(rank, "aclnnMoeDistributeDispatch",
                     aclnnMoeDistributeDispatch(op->workspace, op->workspace_bytes, executor, rank->stream));
}

bool cann_rank_combine(struct cann_rank *rank)
{
    struct cann_operator *op = &rank->combine;
    aclOpExecutor *executor = op->executor;
    if (executor == NULL && !prepare_combine(rank, &executor)) {
        return false;
    }
    return succeeded(rank, "aclnnMoeDistributeCombine",
                     aclnnMoeDistributeCombine(op->workspace, op->workspace_bytes, executor, rank->stream));
}

bool cann_rank_wait(struct cann_rank *rank)
{
    return succeeded(rank, "aclrtSynchronizeStreamWithTimeout",
                     aclrtSynchronizeStreamWithTimeout(rank->stream, WAIT_MS));
}

void cann_rank_experts(struct cann_rank *rank)
{
    const struct bench_case *bench = rank->bench;
    const int64_t *counts = rank->data[CANN_TOKEN_NUMS];
    const float *scales = rank->data[CANN_DYNAMIC_SCALES];
    uint16_t *out = rank->data[CANN_EXPERT_OUT];
    size_t row_bytes = (size_t)bench->hidden_elems * (bench->quantize ? 1 : sizeof(uint16_t));
    int64_t row = 0;
    for (int64_t local = 0; local < rank->local_experts; local++) {
        for (int64_t i = 0; i < counts[local]; i++, row++) {
            bench_expert_row(bench, rank->rank * rank->local_experts + local,
                             (const char *)rank->data[CANN_EXPAND_X] + (size_t)row * row_bytes,
                             scales != NULL ? scales[row] : 1.0f, out + row * bench->hidden_elems);
        }
    }
}

/* ---- End ----------------------------------------------------------------------------------------------------- */

static bool end_operator(const struct cann_rank *rank, struct cann_operator *op)
{
    bool ended =
        op->executor == NULL || succeeded(rank, "aclDestroyAclOpExecutor", aclDestroyAclOpExecutor(op->executor));
    return ended && (op->workspace == NULL || succeeded(rank, "aclrtFree", aclrtFree(op->workspace)));
}

static bool end_tensors(struct cann_rank *rank)
{
    bool ended = true;
    for (int i = 0; i < CANN_TENSOR_COUNT; i++) {
        ended = ended && succeeded(rank, "aclDestroyTensor", aclDestroyTensor(rank->tensors[i]));
        ended = ended && (rank->data[i] == NULL || succeeded(rank, "aclrtFree", aclrtFree(rank->data[i])));
    }
    return ended;
}

bool cann_rank_end(struct cann_rank *rank)
{
    int32_t device = 0;
    return end_operator(rank, &rank->dispatch) && end_operator(rank, &rank->combine) &&
           succeeded(rank, "HcclCommDestroy", HcclCommDestroy(rank->comm)) && end_tensors(rank) &&
           succeeded(rank, "aclrtDestroyStream", aclrtDestroyStream(rank->stream)) &&
           succeeded(rank, "aclrtGetDevice", aclrtGetDevice(&device)) &&
           succeeded(rank, "aclrtResetDevice", aclrtResetDevice(device)) &&
           succeeded(rank, "aclFinalizeReference", aclFinalizeReference(NULL));
}
