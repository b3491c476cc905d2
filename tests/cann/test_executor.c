/* Executors: used up by one run, repeatable, looked up whatever a program passes, and never holding a communicator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include <sys/wait.h>
#include <unistd.h>

#define NULLPTR       161001
#define PARAM         161002
#define RUNTIME_ERROR 361001
#define INNER_NULLPTR 561103

static const struct door_sizes sizes = {.rank_count = 1, .tokens = 2, .hidden = 8, .topk = 1, .experts = 1, .rows = 4};
static struct door_rank world;

static int setup(void **state)
{
    (void)state;
    int32_t device = 0;
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    world = (struct door_rank){.sizes = &sizes};
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &world.comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(world.comm, world.name), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtCreateStream(&world.stream), ACL_SUCCESS);
    door_tensors_create(&world);
    assert_string_equal(world.failure, "");
    for (int i = 0; i < 2 * 8; i++) {
        ((uint16_t *)world.data[DOOR_X])[i] = (uint16_t)(0x3F80 + i);
    }
    ((float *)world.data[DOOR_WEIGHTS])[0] = 1.0f;
    ((float *)world.data[DOOR_WEIGHTS])[1] = 1.0f;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(epx_cann_aclrtDestroyStream(world.stream), ACL_SUCCESS);
    door_tensors_destroy(&world);
    if (world.comm) {
        assert_int_equal(epx_cann_HcclCommDestroy(world.comm), HCCL_SUCCESS);
    }
    return 0;
}

static aclOpExecutor *dispatch_executor(void)
{
    uint64_t workspace;
    aclOpExecutor *executor = NULL;
    assert_int_equal(door_dispatch_prepare(&world, &workspace, &executor), 0);
    assert_non_null(executor);
    return executor;
}

static aclnnStatus launch(aclOpExecutor *executor)
{
    return epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executor, world.stream);
}

static void synchronize(void)
{
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(world.stream, 10000), ACL_SUCCESS);
}

static void launch__uses_it_up(void **state)
{
    (void)state;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(launch(executor), 0);
    assert_int_equal(launch(executor), INNER_NULLPTR);
    synchronize();
    assert_int_equal(launch(executor), INNER_NULLPTR);
    assert_int_equal(epx_cann_aclSetAclOpExecutorRepeatable(executor), INNER_NULLPTR);
    assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), INNER_NULLPTR);
    assert_memory_equal(world.data[DOOR_EXPAND_X], world.data[DOOR_X], 2 * 8 * 2);
}

static void launch__null_stream_is_the_default_one(void **state)
{
    (void)state;
    memset(world.data[DOOR_EXPAND_X], 0, 2 * 8 * 2);
    assert_int_equal(epx_cann_aclnnMoeDistributeDispatch(NULL, 0, dispatch_executor(), NULL), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(NULL), ACL_SUCCESS);
    assert_memory_equal(world.data[DOOR_EXPAND_X], world.data[DOOR_X], 2 * 8 * 2);
}

static void launch__refuses_what_is_no_executor(void **state)
{
    (void)state;
    char memory[256] = "";
    aclOpExecutor *const values[] = {NULL, (aclOpExecutor *)(uintptr_t)1, (aclOpExecutor *)(uintptr_t)0xdeadbeefcafe,
                                     (aclOpExecutor *)memory, (aclOpExecutor *)UINTPTR_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(launch(values[i]), INNER_NULLPTR);
        assert_int_equal(epx_cann_aclnnMoeDistributeCombine(NULL, 0, values[i], world.stream), INNER_NULLPTR);
        assert_int_equal(epx_cann_aclSetAclOpExecutorRepeatable(values[i]), INNER_NULLPTR);
        assert_int_equal(epx_cann_aclDestroyAclOpExecutor(values[i]), INNER_NULLPTR);
        assert_int_equal(epx_cann_aclSetInputTensorAddr(values[i], 0, world.tensors[DOOR_X], memory), INNER_NULLPTR);
        assert_int_equal(epx_cann_aclSetDynamicTensorAddr(values[i], 0, 0, NULL, memory), INNER_NULLPTR);
    }
}

static void launch__of_the_other_operator(void **state)
{
    (void)state;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclnnMoeDistributeCombine(NULL, 0, executor, world.stream), PARAM);
    assert_int_equal(launch(executor), 0);
    synchronize();
}

static void launch__on_no_stream_uses_it_up(void **state)
{
    (void)state;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executor, (aclrtStream)(uintptr_t)0x77),
                     RUNTIME_ERROR);
    assert_int_equal(launch(executor), INNER_NULLPTR);
    /* Nothing was begun: the communicator works on. */
    assert_int_equal(launch(dispatch_executor()), 0);
    synchronize();
}

static void never_run__holds_no_communicator(void **state)
{
    (void)state;
    int32_t device = 0;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_HcclCommDestroy(world.comm), HCCL_SUCCESS);
    assert_int_equal(launch(executor), RUNTIME_ERROR);
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &world.comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(world.comm, world.name), HCCL_SUCCESS);
    executor = dispatch_executor();
    assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), 0);
    assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), INNER_NULLPTR);
}

static void repeatable__until_destroyed(void **state)
{
    (void)state;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclSetAclOpExecutorRepeatable(executor), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(launch(executor), 0);
    }
    assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), 0);
    assert_int_equal(launch(executor), INNER_NULLPTR);
    synchronize();
}

static void addresses__index_counts_parameters(void **state)
{
    (void)state;
    uint16_t *other_x;
    uint16_t *other_rows;
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclrtMalloc((void **)&other_x, 32, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    assert_int_equal(epx_cann_aclrtMalloc((void **)&other_rows, 64, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    for (int i = 0; i < 16; i++) {
        other_x[i] = (uint16_t)(0x4000 + i);
    }
    assert_int_equal(epx_cann_aclSetAclOpExecutorRepeatable(executor), 0);
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, world.tensors[DOOR_X], other_x), 0);
    assert_int_equal(epx_cann_aclSetTensorAddr(executor, 5, world.tensors[DOOR_EXPAND_X], other_rows), 0);
    assert_int_equal(launch(executor), 0);
    synchronize();
    assert_memory_equal(other_rows, other_x, 32);
    assert_int_equal(
        epx_cann_AclSetOutputTensorAddr(executor, 0, world.tensors[DOOR_EXPAND_X], world.data[DOOR_EXPAND_X]), 0);
    assert_int_equal(launch(executor), 0);
    synchronize();
    assert_memory_equal(world.data[DOOR_EXPAND_X], other_x, 32);
    /* Places that are none, and arguments that are missing. */
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 5, world.tensors[DOOR_X], other_x), PARAM);
    assert_int_equal(epx_cann_aclSetOutputTensorAddr(executor, 7, world.tensors[DOOR_X], other_x), PARAM);
    assert_int_equal(epx_cann_aclSetTensorAddr(executor, 12, world.tensors[DOOR_X], other_x), PARAM);
    assert_int_equal(epx_cann_aclSetTensorAddr(executor, SIZE_MAX, world.tensors[DOOR_X], other_x), PARAM);
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, NULL, other_x), NULLPTR);
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, world.tensors[DOOR_X], NULL), NULLPTR);
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, (aclTensor *)other_x, other_x), PARAM);
    assert_int_equal(epx_cann_aclSetDynamicInputTensorAddr(executor, 0, 0, NULL, other_x), NULLPTR);
    assert_int_equal(epx_cann_aclSetDynamicTensorAddr(executor, 0, 0, (aclTensorList *)other_x, other_x), PARAM);
    assert_int_equal(epx_cann_AclSetDynamicOutputTensorAddr(executor, 0, 0, (aclTensorList *)other_x, other_x), PARAM);
    /* The mask is a parameter like the others, though nobody reads it. */
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 3, world.tensors[DOOR_MASK], other_x), 0);
    assert_int_equal(epx_cann_aclDestroyAclOpExecutor(executor), 0);
    assert_int_equal(epx_cann_aclSetRawTensorAddr(world.tensors[DOOR_X], world.data[DOOR_X]), 0);
    assert_int_equal(epx_cann_aclSetRawTensorAddr(world.tensors[DOOR_EXPAND_X], world.data[DOOR_EXPAND_X]), 0);
    assert_int_equal(epx_cann_aclSetRawTensorAddr(world.tensors[DOOR_MASK], world.data[DOOR_MASK]), 0);
    epx_cann_aclrtFree(other_x);
    epx_cann_aclrtFree(other_rows);
}

/* A view's offset stays with the tensor when its storage moves. */
static void addresses__keep_the_views_offset(void **state)
{
    (void)state;
    const int64_t dims[2] = {2, 8};
    const int64_t strides[2] = {16, 1};
    const int64_t storage[1] = {64};
    uint16_t *memory;
    aclTensor *kept = world.tensors[DOOR_X];
    assert_int_equal(epx_cann_aclrtMalloc((void **)&memory, 128, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    for (int i = 0; i < 64; i++) {
        memory[i] = (uint16_t)(0x4100 + i);
    }
    world.tensors[DOOR_X] =
        epx_cann_aclCreateTensor(dims, 2, ACL_BF16, strides, 20, ACL_FORMAT_ND, storage, 1, world.data[DOOR_X]);
    assert_non_null(world.tensors[DOOR_X]);
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, world.tensors[DOOR_X], memory), 0);
    assert_int_equal(launch(executor), 0);
    synchronize();
    assert_memory_equal(world.data[DOOR_EXPAND_X], memory + 20, 16);
    assert_memory_equal((char *)world.data[DOOR_EXPAND_X] + 16, memory + 36, 16);
    epx_cann_aclDestroyTensor(world.tensors[DOOR_X]);
    world.tensors[DOOR_X] = kept;
    epx_cann_aclrtFree(memory);
}

/* An address may come after the first phase, but not after the second. */
static void addresses__missing_ones(void **state)
{
    (void)state;
    aclTensor *x = world.tensors[DOOR_X];
    assert_int_equal(epx_cann_aclSetRawTensorAddr(x, NULL), 0);
    assert_int_equal(launch(dispatch_executor()), NULLPTR);
    const char *message = epx_cann_aclGetRecentErrMsg();
    assert_non_null(message);
    assert_non_null(strstr(message, "x is null"));
    aclOpExecutor *executor = dispatch_executor();
    assert_int_equal(epx_cann_aclSetInputTensorAddr(executor, 0, x, world.data[DOOR_X]), 0);
    assert_int_equal(launch(executor), 0);
    synchronize();
}

static void expect_text(const char *fragment)
{
    const char *message = epx_cann_aclGetRecentErrMsg();
    assert_non_null(message);
    if (!strstr(message, fragment)) {
        fail_msg("'%s' does not contain '%s'", message, fragment);
    }
}

static void prepare__names_the_group_argument(void **state)
{
    (void)state;
    uint64_t workspace;
    aclOpExecutor *executor = NULL;
    struct door_rank other = world;
    struct door_sizes larger = sizes;
    snprintf(other.name, sizeof other.name, "nobody");
    assert_int_equal(door_dispatch_prepare(&other, &workspace, &executor), RUNTIME_ERROR);
    expect_text("groupEp is 'nobody': no communicator of this name and rank 0");
    larger.rank_count = 2;
    larger.experts = 2;
    other = world;
    other.sizes = &larger;
    const int64_t counts = 2;
    other.tensors[DOOR_COUNTS] =
        epx_cann_aclCreateTensor(&counts, 1, ACL_INT32, NULL, 0, ACL_FORMAT_ND, &counts, 1, world.data[DOOR_COUNTS]);
    assert_int_equal(door_combine_prepare(&other, &workspace, &executor), RUNTIME_ERROR);
    expect_text("epWorldSize is 2, must be 1, the ranks of communicator");
    epx_cann_aclDestroyTensor(other.tensors[DOOR_COUNTS]);
    assert_null(executor);
}

static void handles__tensors_may_go_after_the_first_phase(void **state)
{
    (void)state;
    aclTensor *kept[DOOR_TENSORS];
    const int64_t dims[2] = {2, 8};
    memcpy(kept, world.tensors, sizeof kept);
    world.tensors[DOOR_X] =
        epx_cann_aclCreateTensor(dims, 2, ACL_BF16, NULL, 0, ACL_FORMAT_ND, dims, 2, world.data[DOOR_X]);
    aclOpExecutor *executor = dispatch_executor();
    epx_cann_aclDestroyTensor(world.tensors[DOOR_X]);
    uint64_t workspace;
    aclOpExecutor *other = NULL;
    assert_int_equal(door_dispatch_prepare(&world, &workspace, &other), PARAM); /* destroyed: refused, not read */
    assert_null(other);
    memcpy(world.tensors, kept, sizeof kept);
    assert_int_equal(launch(executor), 0);
    synchronize();
    assert_memory_equal(world.data[DOOR_EXPAND_X], world.data[DOOR_X], 2 * 8 * 2);
}

static void fork__child_has_no_executors(void **state)
{
    (void)state;
    aclOpExecutor *executor = dispatch_executor();
    pid_t child = fork();
    if (child == 0) {
        _exit(epx_cann_aclDestroyAclOpExecutor(executor) == INNER_NULLPTR ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(launch(executor), 0);
    synchronize();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launch__uses_it_up),
        cmocka_unit_test(launch__null_stream_is_the_default_one),
        cmocka_unit_test(launch__refuses_what_is_no_executor),
        cmocka_unit_test(launch__of_the_other_operator),
        cmocka_unit_test(launch__on_no_stream_uses_it_up),
        cmocka_unit_test(never_run__holds_no_communicator),
        cmocka_unit_test(repeatable__until_destroyed),
        cmocka_unit_test(addresses__index_counts_parameters),
        cmocka_unit_test(addresses__keep_the_views_offset),
        cmocka_unit_test(addresses__missing_ones),
        cmocka_unit_test(prepare__names_the_group_argument),
        cmocka_unit_test(handles__tensors_may_go_after_the_first_phase),
        cmocka_unit_test(fork__child_has_no_executors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
