/* The operators through the CANN door: ranks as threads, queued on streams, compared with plain expectations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include "base/float16.h"

/* Every rank can compute every other rank's tokens and routes from these. */
static float token_value(int64_t rank, int64_t token, int64_t element)
{
    return (float)((rank * 7 + token * 3 + element) % 13 - 6);
}

static int32_t route(const struct door_sizes *s, int64_t rank, int64_t token, int64_t k)
{
    return (int32_t)((rank * 5 + token * (k + 1) + k * 3) % s->experts);
}

/* Sums of few bits, so that nothing is rounded. */
static float weight(int64_t k)
{
    return k % 2 == 0 ? 0.5f : 0.25f;
}

static void fill_inputs(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    uint16_t *x = self->data[DOOR_X];
    int32_t *ids = self->data[DOOR_IDS];
    float *weights = self->data[DOOR_WEIGHTS];
    for (int64_t t = 0; t < s->tokens; t++) {
        for (int64_t h = 0; h < s->hidden; h++) {
            x[t * s->hidden + h] = epx_bf16_from_fp32(token_value(self->rank, t, h));
        }
        for (int64_t k = 0; k < s->topk; k++) {
            ids[t * s->topk + k] = route(s, self->rank, t, k);
            weights[t * s->topk + k] = weight(k);
        }
    }
}

/* Rows arrive by local expert, then source rank, then the token's place and k. */
static void check_dispatched(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    const int64_t local = s->experts / s->rank_count;
    const uint16_t *rows = self->data[DOOR_EXPAND_X];
    const int32_t *counts = self->data[DOOR_COUNTS];
    const int64_t *nums = self->data[DOOR_NUMS];
    int64_t row = 0;
    for (int64_t e = 0; e < local; e++) {
        const int64_t before = row;
        for (int64_t source = 0; source < s->rank_count; source++) {
            for (int64_t j = 0; j < s->tokens * s->topk; j++) {
                const int64_t t = j / s->topk;
                if (route(s, source, t, j % s->topk) != self->rank * local + e) {
                    continue;
                }
                DOOR_CHECK(self, epx_fp32_from_bf16(rows[row * s->hidden]) == token_value(source, t, 0));
                DOOR_CHECK(self, epx_fp32_from_bf16(rows[row * s->hidden + s->hidden - 1]) ==
                                     token_value(source, t, s->hidden - 1));
                row++;
            }
            DOOR_CHECK(self, counts[e * s->rank_count + source] == row);
        }
        DOOR_CHECK(self, nums[e] == row - before);
    }
}

static void check_combined(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    const uint16_t *out = self->data[DOOR_OUT];
    float sum = 0;
    for (int64_t k = 0; k < s->topk; k++) {
        sum += weight(k);
    }
    for (int64_t t = 0; t < s->tokens; t++) {
        for (int64_t h = 0; h < s->hidden; h++) {
            DOOR_CHECK(self, epx_fp32_from_bf16(out[t * s->hidden + h]) == sum * token_value(self->rank, t, h));
        }
    }
}

static void queue_both(struct door_rank *self)
{
    uint64_t workspace = 12345;
    aclOpExecutor *executor = NULL;
    DOOR_CHECK(self, door_dispatch_prepare(self, &workspace, &executor) == 0);
    DOOR_CHECK(self, workspace == 0);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatch(NULL, workspace, executor, self->stream) == 0);
    DOOR_CHECK(self, door_combine_prepare(self, &workspace, &executor) == 0);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombine(NULL, workspace, executor, self->stream) == 0);
}

static void roundtrip_body(struct door_rank *self)
{
    fill_inputs(self);
    queue_both(self);
    DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    check_dispatched(self);
    check_combined(self);
}

static struct door_sizes sizes_of(int64_t rank_count)
{
    return (struct door_sizes){.rank_count = rank_count,
                               .tokens = 5,
                               .hidden = 64,
                               .topk = rank_count == 1 ? 2 : 3,
                               .experts = 2 * rank_count,
                               .rows = 5 * rank_count * 2};
}

static void destroy_all(HcclComm *comms, int64_t count)
{
    for (int64_t r = 0; r < count; r++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[r]), HCCL_SUCCESS);
    }
}

static const int32_t all_devices[DOOR_RANKS_MAX] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static void init_all(HcclComm *comms, int64_t count)
{
    int32_t devices[DOOR_RANKS_MAX];
    memcpy(devices, all_devices, sizeof devices);
    assert_int_equal(epx_cann_HcclCommInitAll((uint32_t)count, devices, comms), HCCL_SUCCESS);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    return 0;
}

static void roundtrip__worlds_of_many_sizes(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 5, 8};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        HcclComm comms[DOOR_RANKS_MAX];
        const struct door_sizes sizes = sizes_of(counts[i]);
        init_all(comms, counts[i]);
        assert_string_equal(door_run(&sizes, comms, all_devices, roundtrip_body, NULL), "");
        destroy_all(comms, counts[i]);
    }
}

/* Without globalBs and with it, and with room for more rows than can come. */
static void roundtrip__global_bs_given(void **state)
{
    (void)state;
    HcclComm comms[DOOR_RANKS_MAX];
    struct door_sizes sizes = sizes_of(4);
    sizes.global_bs = 9 * 4;
    sizes.rows = 200;
    init_all(comms, 4);
    assert_string_equal(door_run(&sizes, comms, all_devices, roundtrip_body, NULL), "");
    destroy_all(comms, 4);
}

/* The page's program: H 7168, reserved tensors given, short epRecvCounts, tp counts of one element. */
static void roundtrip__the_pages_sizes(void **state)
{
    (void)state;
    static const char *const products[] = {"host", "A2"};
    for (size_t i = 0; i < 4; i++) {
        HcclComm comms[DOOR_RANKS_MAX];
        const struct door_sizes sizes = {
            .rank_count = 16, .tokens = 8, .hidden = 7168, .topk = 8, .experts = 16, .rows = 128, .global_bs = 128};
        setenv("EPX_PRODUCT", products[i % 2], 1);
        if (i >= 2) {
            setenv("HCCL_INTRA_PCIE_ENABLE", "1", 1);
            setenv("HCCL_INTRA_ROCE_ENABLE", "0", 1);
        }
        init_all(comms, 16);
        assert_string_equal(door_run(&sizes, comms, all_devices, roundtrip_body, NULL), "");
        destroy_all(comms, 16);
    }
    unsetenv("EPX_PRODUCT");
    unsetenv("HCCL_INTRA_PCIE_ENABLE");
    unsetenv("HCCL_INTRA_ROCE_ENABLE");
}

/* Two communicators of the same devices, their operations queued in turn on one stream. */
static void two_comms_body(struct door_rank *self)
{
    HcclComm *second = self->extra;
    char first_name[COMM_NAME_MAX_LENGTH];
    memcpy(first_name, self->name, sizeof first_name);
    fill_inputs(self);
    for (int i = 0; i < 4; i++) {
        if (i % 2 == 0) {
            memcpy(self->name, first_name, sizeof first_name);
        } else {
            epx_cann_HcclGetCommName(second[self->rank], self->name);
            DOOR_CHECK(self, strcmp(first_name, self->name) != 0);
        }
        queue_both(self);
        DOOR_CHECK(self,
                   epx_cann_HcclBarrier(i % 2 == 0 ? self->comm : second[self->rank], self->stream) == HCCL_SUCCESS);
    }
    DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    check_dispatched(self);
    check_combined(self);
}

static void roundtrip__two_communicators_on_the_same_devices(void **state)
{
    (void)state;
    HcclComm first[DOOR_RANKS_MAX];
    HcclComm second[DOOR_RANKS_MAX];
    const struct door_sizes sizes = sizes_of(4);
    init_all(first, 4);
    init_all(second, 4);
    assert_string_equal(door_run(&sizes, first, all_devices, two_comms_body, second), "");
    destroy_all(second, 4);
    destroy_all(first, 4);
}

struct joining {
    const HcclRootInfo *root;
    uint32_t rank;
    int32_t device;
    HcclComm comm;
    HcclResult result;
};

static void *join_root(void *context)
{
    struct joining *joining = context;
    epx_cann_aclrtSetDevice(joining->device);
    joining->result = epx_cann_HcclCommInitRootInfo(4, joining->root, joining->rank, &joining->comm);
    return NULL;
}

/* Ranks r and r + 2 share device and name, as the two servers of the page do on one machine. */
static void roundtrip__ranks_share_devices(void **state)
{
    (void)state;
    static const int32_t devices[4] = {0, 1, 0, 1};
    HcclRootInfo root;
    struct joining joinings[4];
    pthread_t threads[4];
    HcclComm comms[4];
    const struct door_sizes sizes = sizes_of(4);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    for (uint32_t r = 0; r < 4; r++) {
        joinings[r] = (struct joining){.root = &root, .rank = r, .device = devices[r]};
        pthread_create(&threads[r], NULL, join_root, &joinings[r]);
    }
    for (uint32_t r = 0; r < 4; r++) {
        pthread_join(threads[r], NULL);
        assert_int_equal(joinings[r].result, HCCL_SUCCESS);
        comms[r] = joinings[r].comm;
    }
    assert_string_equal(door_run(&sizes, comms, devices, roundtrip_body, NULL), "");
    destroy_all(comms, 4);
}

/* One thread drives all ranks: no phase may wait for another rank. */
static void roundtrip__one_thread_drives_all(void **state)
{
    (void)state;
    enum { RANKS = 3 };
    HcclComm comms[DOOR_RANKS_MAX];
    static struct door_rank ranks[RANKS];
    const struct door_sizes sizes = sizes_of(RANKS);
    init_all(comms, RANKS);
    for (int r = 0; r < RANKS; r++) {
        ranks[r] = (struct door_rank){.sizes = &sizes, .rank = r, .comm = comms[r]};
        epx_cann_HcclGetCommName(comms[r], ranks[r].name);
        assert_int_equal(epx_cann_aclrtSetDevice(r), ACL_SUCCESS);
        assert_int_equal(epx_cann_aclrtCreateStream(&ranks[r].stream), ACL_SUCCESS);
        door_tensors_create(&ranks[r]);
        fill_inputs(&ranks[r]);
        queue_both(&ranks[r]);
        assert_string_equal(ranks[r].failure, "");
    }
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(ranks[r].stream, 20000), ACL_SUCCESS);
        check_dispatched(&ranks[r]);
        check_combined(&ranks[r]);
        assert_string_equal(ranks[r].failure, "");
        assert_int_equal(epx_cann_aclrtDestroyStream(ranks[r].stream), ACL_SUCCESS);
        door_tensors_destroy(&ranks[r]);
    }
    destroy_all(comms, RANKS);
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
}

/* A repeatable executor, run three times before one synchronisation, with another output each time. */
static void repeatable_body(struct door_rank *self)
{
    uint64_t workspace;
    aclOpExecutor *dispatch;
    aclOpExecutor *combine;
    void *outputs[3] = {NULL, NULL, NULL};
    const size_t bytes = (size_t)(self->sizes->tokens * self->sizes->hidden) * sizeof(uint16_t);
    fill_inputs(self);
    DOOR_CHECK(self, door_dispatch_prepare(self, &workspace, &dispatch) == 0);
    DOOR_CHECK(self, door_combine_prepare(self, &workspace, &combine) == 0);
    DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(dispatch) == 0);
    DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(combine) == 0);
    for (int i = 0; i < 3; i++) {
        DOOR_CHECK(self, epx_cann_aclrtMalloc(&outputs[i], bytes, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
        DOOR_CHECK(self, epx_cann_aclSetOutputTensorAddr(combine, 0, self->tensors[DOOR_OUT], outputs[i]) == 0);
        DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatch(NULL, 0, dispatch, self->stream) == 0);
        DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombine(NULL, 0, combine, self->stream) == 0);
    }
    DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(dispatch) == 0);
    DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(combine) == 0);
    DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    check_dispatched(self);
    for (int i = 0; i < 3; i++) {
        memcpy(self->data[DOOR_OUT], outputs[i], bytes);
        check_combined(self);
        epx_cann_aclrtFree(outputs[i]);
    }
}

static void repeatable__runs_queued_together(void **state)
{
    (void)state;
    HcclComm comms[DOOR_RANKS_MAX];
    const struct door_sizes sizes = sizes_of(3);
    init_all(comms, 3);
    assert_string_equal(door_run(&sizes, comms, all_devices, repeatable_body, NULL), "");
    destroy_all(comms, 3);
}

/* A bad id on one rank: the same code and text on every rank, from every operation queued then and later. */
static void bad_id_body(struct door_rank *self)
{
    fill_inputs(self);
    if (self->rank == 1) {
        ((int32_t *)self->data[DOOR_IDS])[4] = (int32_t)self->sizes->experts;
    }
    for (int i = 0; i < 2; i++) {
        queue_both(self);
        DOOR_CHECK(self,
                   epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_ERROR_RT_AICORE_EXCEPTION);
        const char *message = epx_cann_aclGetRecentErrMsg();
        DOOR_CHECK(self, message && strstr(message, "expertIds[1][1] is 6"));
    }
}

static void failure__same_on_every_rank(void **state)
{
    (void)state;
    HcclComm comms[DOOR_RANKS_MAX];
    const struct door_sizes sizes = sizes_of(3);
    init_all(comms, 3);
    assert_string_equal(door_run(&sizes, comms, all_devices, bad_id_body, NULL), "");
    destroy_all(comms, 3);
}

/* ---- Tensor parallelism: two worlds of two ranks, rank r of one paired with rank r of the other -------------------
 */

struct tp_place {
    int64_t rank; /* in the pair */
    char name[COMM_NAME_MAX_LENGTH];
};

static aclTensor *resized(struct door_rank *self, enum door_tensor which, aclDataType type, int64_t rows,
                          int64_t columns)
{
    epx_cann_aclDestroyTensor(self->tensors[which]);
    epx_cann_aclrtFree(self->data[which]);
    return door_tensor(self, which, type, rows, columns);
}

static void tp_body(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    const struct tp_place *tp = self->extra;
    aclTensor **t = self->tensors;
    uint64_t workspace;
    aclOpExecutor *executor;
    DOOR_CHECK(self, resized(self, DOOR_COUNTS, ACL_INT32, 4, 0));
    DOOR_CHECK(self, resized(self, DOOR_TP_COUNTS, ACL_INT32, 2, 0));
    DOOR_CHECK(self, resized(self, DOOR_EXPAND_X, ACL_BF16, 2 * s->rows, s->hidden));
    fill_inputs(self);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize(
                         t[DOOR_X], t[DOOR_IDS], NULL, NULL, NULL, self->name, 2, self->rank, 2, tp->name, 2, tp->rank,
                         0, 0, 0, 0, 0, 1, t[DOOR_EXPAND_X], NULL, t[DOOR_IDX], t[DOOR_NUMS], t[DOOR_COUNTS],
                         t[DOOR_TP_COUNTS], NULL, &workspace, &executor) == 0);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executor, self->stream) == 0);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize(
                         t[DOOR_EXPAND_X], t[DOOR_IDS], t[DOOR_IDX], t[DOOR_COUNTS], t[DOOR_WEIGHTS], t[DOOR_TP_COUNTS],
                         NULL, NULL, NULL, NULL, NULL, self->name, 2, self->rank, 2, tp->name, 2, tp->rank, 0, 0, 0, 0,
                         0, 0, 0, t[DOOR_OUT], &workspace, &executor) == 0);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombine(NULL, 0, executor, self->stream) == 0);
    DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    /* The pair holds equal tokens: the peer's rows equal the own ones and follow them. */
    const int32_t *counts = self->data[DOOR_COUNTS];
    const int32_t *tp_counts = self->data[DOOR_TP_COUNTS];
    const uint16_t *rows = self->data[DOOR_EXPAND_X];
    DOOR_CHECK(self, counts[1] > 0 && counts[2] == counts[0] && counts[3] == counts[1]);
    DOOR_CHECK(self, tp_counts[0] == counts[1] && tp_counts[1] == counts[1]);
    DOOR_CHECK(self, ((const int64_t *)self->data[DOOR_NUMS])[0] == 2 * counts[1]);
    DOOR_CHECK(self, memcmp(rows, rows + counts[1] * s->hidden, (size_t)(counts[1] * s->hidden) * 2) == 0);
    /* Each row comes back as the sum of the pair's two: twice the token, of weight one half. */
    DOOR_CHECK(self, memcmp(self->data[DOOR_OUT], self->data[DOOR_X], (size_t)(s->tokens * s->hidden) * 2) == 0);
}

static void roundtrip__tensor_parallel_pairs(void **state)
{
    (void)state;
    static const struct door_sizes sizes = {
        .rank_count = 2, .tokens = 6, .hidden = 32, .topk = 1, .experts = 2, .rows = 12};
    static struct door_rank ranks[4]; /* [world * 2 + rank], on the device of the same number */
    struct tp_place places[4];
    int32_t ep_devices[2][2] = {{0, 1}, {2, 3}};
    int32_t tp_devices[2][2] = {{0, 2}, {1, 3}};
    HcclComm ep[2][2];
    HcclComm pairs[2][2];
    pthread_t threads[4];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(epx_cann_HcclCommInitAll(2, ep_devices[i], ep[i]), HCCL_SUCCESS);
        assert_int_equal(epx_cann_HcclCommInitAll(2, tp_devices[i], pairs[i]), HCCL_SUCCESS);
    }
    for (int i = 0; i < 4; i++) {
        places[i].rank = i / 2;
        epx_cann_HcclGetCommName(pairs[i % 2][i / 2], places[i].name);
        ranks[i] =
            (struct door_rank){.sizes = &sizes, .rank = i % 2, .device = i, .body = tp_body, .extra = &places[i]};
        epx_cann_HcclGetCommName(ep[i / 2][i % 2], ranks[i].name);
        pthread_create(&threads[i], NULL, door_rank_main, &ranks[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_string_equal(ranks[i].failure, "");
    }
    for (int i = 0; i < 2; i++) {
        destroy_all(ep[i], 2);
        destroy_all(pairs[i], 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roundtrip__worlds_of_many_sizes),
        cmocka_unit_test(roundtrip__global_bs_given),
        cmocka_unit_test(roundtrip__the_pages_sizes),
        cmocka_unit_test(roundtrip__two_communicators_on_the_same_devices),
        cmocka_unit_test(roundtrip__ranks_share_devices),
        cmocka_unit_test(roundtrip__one_thread_drives_all),
        cmocka_unit_test(roundtrip__tensor_parallel_pairs),
        cmocka_unit_test(repeatable__runs_queued_together),
        cmocka_unit_test(failure__same_on_every_rank),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
