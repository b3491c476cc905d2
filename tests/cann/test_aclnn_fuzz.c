/*
 * First phases with arguments that are null, of wrong dtype or shape, negative or huge: never a crash, always a
 * documented code, outputs set on success only. The seed is printed; EPX_FUZZ_SEED repeats it, EPX_FUZZ_ROUNDS says how
 * many calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cann/exports_acl.h"
#include "cann/exports_aclnn.h"
#include "cann/exports_hccl.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RANKS          16
#define TENSORS_MAX    12
#define ATTRIBUTES_MAX 13
#define DEFAULT_ROUNDS 20000
#define UNTOUCHED      ((aclOpExecutor *)(uintptr_t)0x5a5a)

static uint64_t random_state;

static uint64_t random_bits(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t limit)
{
    return random_bits() % limit;
}

struct tensor_spec {
    bool present;
    aclDataType type;
    aclFormat format;
    int64_t dims[3];
    int64_t strides[3];
    bool has_strides;
    int64_t offset;
    uint64_t dim_count;
};

/* Tensors and attributes in the order of the parameters. */
struct call {
    bool dispatch;
    struct tensor_spec tensors[TENSORS_MAX];
    size_t tensor_count;
    int64_t attributes[ATTRIBUTES_MAX];
    size_t attribute_count;
    const char *group;
    const char *group_tp;
    bool outputs_null;
};

static HcclComm comms[RANKS];
static char group_name[COMM_NAME_MAX_LENGTH];

static struct tensor_spec dense(aclDataType type, int64_t rows, int64_t columns)
{
    return (struct tensor_spec){.present = true,
                                .type = type,
                                .format = ACL_FORMAT_ND,
                                .dims = {rows, columns, 1},
                                .dim_count = columns ? 2 : 1};
}

/* W 16, BS 2, K 2, E 16, H 7168: valid under each product. */
static struct call valid_call(bool dispatch)
{
    const struct tensor_spec none = {.present = false};
    struct call call = {.dispatch = dispatch, .group = group_name, .group_tp = ""};
    if (dispatch) {
        const struct tensor_spec tensors[] = {dense(ACL_BF16, 2, 7168),
                                              dense(ACL_INT32, 2, 2),
                                              none,
                                              none,
                                              dense(ACL_FLOAT, 2, 2),
                                              dense(ACL_BF16, 32, 7168),
                                              dense(ACL_FLOAT, 32, 0),
                                              dense(ACL_INT32, 4, 0),
                                              dense(ACL_INT64, 1, 0),
                                              dense(ACL_INT32, 16, 0),
                                              dense(ACL_INT32, 1, 0),
                                              dense(ACL_FLOAT, 32, 0)};
        /* W, r, E, tpW, tpR, shard, shared experts, shared ranks, quant, globalBs, nums type */
        const int64_t attributes[] = {RANKS, (int64_t)random_below(RANKS), 16, 0, 0, 0, 1, 0, 0, 0, 0};
        memcpy(call.tensors, tensors, sizeof tensors);
        memcpy(call.attributes, attributes, sizeof attributes);
        call.tensor_count = 12;
        call.attribute_count = 11;
        return call;
    }
    const struct tensor_spec tensors[] = {dense(ACL_BF16, 32, 7168),
                                          dense(ACL_INT32, 2, 2),
                                          dense(ACL_INT32, 4, 0),
                                          dense(ACL_INT32, 16, 0),
                                          dense(ACL_FLOAT, 2, 2),
                                          dense(ACL_INT32, 1, 0),
                                          none,
                                          none,
                                          none,
                                          none,
                                          dense(ACL_FLOAT, 32, 0),
                                          dense(ACL_BF16, 2, 7168)};
    /* W, r, E, tpW, tpR, shard, shared experts, shared ranks, globalBs, outDtype, comm quant, list type */
    const int64_t attributes[] = {RANKS, (int64_t)random_below(RANKS), 16, 0, 0, 0, 1, 0, 0, 0, 0, 0};
    memcpy(call.tensors, tensors, sizeof tensors);
    memcpy(call.attributes, attributes, sizeof attributes);
    call.tensor_count = 12;
    call.attribute_count = 12;
    return call;
}

static int64_t odd_number(void)
{
    static const int64_t numbers[] = {0,
                                      1,
                                      -1,
                                      2,
                                      3,
                                      7,
                                      8,
                                      16,
                                      31,
                                      32,
                                      127,
                                      128,
                                      255,
                                      512,
                                      513,
                                      65536,
                                      INT32_MAX,
                                      INT32_MIN,
                                      (int64_t)INT32_MAX + 1,
                                      (int64_t)UINT32_MAX + 1,
                                      INT64_MAX,
                                      INT64_MIN,
                                      INT64_MAX / 2,
                                      INT64_MAX - 1,
                                      INT64_C(1) << 40,
                                      (INT64_C(1) << 32) + 16};
    if (random_below(4) == 0) {
        return (int64_t)random_bits();
    }
    return numbers[random_below(sizeof numbers / sizeof numbers[0])];
}

static void change_tensor(struct tensor_spec *tensor)
{
    static const aclDataType types[] = {ACL_FLOAT, ACL_FLOAT16, ACL_INT8, ACL_INT32,     ACL_INT64,
                                        ACL_BOOL,  ACL_BF16,    ACL_INT4, ACL_COMPLEX64, ACL_STRING};
    static const aclFormat formats[] = {ACL_FORMAT_ND, ACL_FORMAT_NCHW, ACL_FORMAT_FRACTAL_NZ, ACL_FORMAT_UNDEFINED};
    switch (random_below(8)) {
    case 0: tensor->present = !tensor->present; break;
    case 1: tensor->type = types[random_below(sizeof types / sizeof types[0])]; break;
    case 2: tensor->format = formats[random_below(sizeof formats / sizeof formats[0])]; break;
    case 3: tensor->dim_count = random_below(4); break;
    case 4: tensor->offset = odd_number(); break;
    case 5:
        tensor->has_strides = true;
        for (int i = 0; i < 3; i++) {
            tensor->strides[i] = random_below(2) ? 0 : odd_number();
        }
        break;
    default: tensor->dims[random_below(3)] = odd_number(); break;
    }
}

static void change(struct call *call)
{
    static char long_name[300];
    static const char *const names[] = {NULL, "", "nobody", group_name, long_name};
    memset(long_name, 'x', sizeof long_name - 1);
    switch (random_below(10)) {
    case 0: call->group = names[random_below(5)]; break;
    case 1: call->group_tp = names[random_below(5)]; break;
    case 2: call->outputs_null = true; break;
    case 3:
    case 4:
    case 5: call->attributes[random_below(call->attribute_count)] = odd_number(); break;
    default: change_tensor(&call->tensors[random_below(call->tensor_count)]); break;
    }
}

/* The storage is as large as the view reaches where that can be said, else of one element. */
static aclTensor *make(const struct tensor_spec *spec)
{
    int64_t storage = 1;
    if (!spec->present) {
        return NULL;
    }
    for (uint64_t i = 0; i < spec->dim_count; i++) {
        if (spec->has_strides || __builtin_mul_overflow(storage, spec->dims[i], &storage) || storage < 0) {
            storage = INT64_MAX;
        }
    }
    return epx_cann_aclCreateTensor(spec->dims, spec->dim_count, spec->type, spec->has_strides ? spec->strides : NULL,
                                    spec->offset, spec->format, &storage, 1, NULL);
}

static aclnnStatus run(const struct call *call, uint64_t *workspace, aclOpExecutor **executor)
{
    aclTensor *t[TENSORS_MAX];
    const int64_t *a = call->attributes;
    aclnnStatus code;
    for (size_t i = 0; i < call->tensor_count; i++) {
        t[i] = make(&call->tensors[i]);
    }
    if (call->dispatch) {
        code = epx_cann_aclnnMoeDistributeDispatchGetWorkspaceSize(
            t[0], t[1], t[2], t[3], t[4], call->group, a[0], a[1], a[2], call->group_tp, a[3], a[4], a[5], a[6], a[7],
            a[8], a[9], a[10], t[5], t[6], t[7], t[8], t[9], t[10], t[11], workspace, executor);
    } else {
        code = epx_cann_aclnnMoeDistributeCombineGetWorkspaceSize(
            t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], call->group, a[0], a[1], a[2],
            call->group_tp, a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], t[11], workspace, executor);
    }
    for (size_t i = 0; i < call->tensor_count; i++) {
        epx_cann_aclDestroyTensor(t[i]);
    }
    return code;
}

static bool documented(aclnnStatus code)
{
    static const aclnnStatus codes[] = {0, 161001, 161002, 361001, 561002, 561103, 207001};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (code == codes[i]) {
            return true;
        }
    }
    return false;
}

static void check_result(const struct call *call, aclnnStatus code, uint64_t workspace, aclOpExecutor *executor)
{
    const char *message = epx_cann_aclGetRecentErrMsg();
    if (!documented(code)) {
        fail_msg("code %d: %s", code, message ? message : "");
    }
    if (code == 0) {
        assert_false(call->outputs_null);
        assert_ptr_not_equal(executor, UNTOUCHED);
        assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), 0);
    } else {
        assert_non_null(message);
        assert_int_equal(workspace, 77);
        assert_ptr_equal(executor, UNTOUCHED);
    }
}

static void first_phases__any_arguments(void **state)
{
    (void)state;
    static const char *const products[] = {"host", "A2", "A3"};
    const char *seed_text = getenv("EPX_FUZZ_SEED");
    const char *rounds_text = getenv("EPX_FUZZ_ROUNDS");
    random_state = seed_text ? strtoull(seed_text, NULL, 0) : (uint64_t)time(NULL);
    const long rounds = rounds_text ? atol(rounds_text) : DEFAULT_ROUNDS;
    long accepted[3] = {0, 0, 0};
    print_message("EPX_FUZZ_SEED=%llu, %ld calls\n", (unsigned long long)random_state, rounds);
    for (long i = 0; i < rounds; i++) {
        const size_t product = random_below(3);
        struct call call = valid_call(random_below(2) == 0);
        uint64_t workspace = 77;
        aclOpExecutor *executor = UNTOUCHED;
        setenv("EPX_PRODUCT", products[product], 1);
        for (uint64_t n = random_below(4); n > 0; n--) {
            change(&call);
        }
        const aclnnStatus code =
            run(&call, call.outputs_null ? NULL : &workspace, call.outputs_null ? NULL : &executor);
        check_result(&call, code, workspace, executor);
        accepted[product] += code == 0;
    }
    /* A quarter of the calls is unchanged: a product that accepts fewer refuses valid ones. */
    for (size_t product = 0; product < 3; product++) {
        assert_true(accepted[product] > rounds / 3 / 5);
    }
    unsetenv("EPX_PRODUCT");
}

static int setup(void **state)
{
    (void)state;
    int32_t devices[RANKS];
    for (int i = 0; i < RANKS; i++) {
        devices[i] = i;
    }
    /* Sizes that are valid but huge shall end as "no memory", not fill the machine. */
    setenv("EPX_ARENA_MIB", "64", 1);
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitAll(RANKS, devices, comms), HCCL_SUCCESS);
    return epx_cann_HcclGetCommName(comms[0], group_name) == HCCL_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[i]), HCCL_SUCCESS);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(first_phases__any_arguments)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
