/*
 * Many threads at once do anything with a few shared handles: live ones, destroyed ones, ones that never were. Whatever
 * they do, no call crashes or hangs, and every code is one that the interface has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include <stdatomic.h>

#define THREADS        4
#define STEPS          1500
#define SLOTS          4
#define SYNC_LIMIT_MS  20000
#define STRESS_DEVICES 2

static const struct door_sizes sizes = {.rank_count = 1, .tokens = 2, .hidden = 16, .topk = 1, .experts = 1, .rows = 4};

/* What the threads share; a slot holds a handle whatever has become of it. */
static _Atomic(void *) streams[SLOTS];
static _Atomic(void *) contexts[SLOTS];
static _Atomic(void *) events[SLOTS];
static _Atomic(void *) comms[SLOTS];
static _Atomic(void *) executors[SLOTS];
static _Atomic(void *) blocks[SLOTS];
static struct door_rank world;
static _Atomic int failures;

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly what a slot holds, sometimes nonsense. */
static void *pick(_Atomic(void *) *slots, uint32_t *random)
{
    const uint32_t choice = next_random(random) % 16;
    switch (choice) {
    case 0: return NULL;
    case 1: return (void *)(uintptr_t)0xdeadbeefcafeu;
    case 2: return &failures;
    case 3: return (void *)((uintptr_t)atomic_load(&slots[0]) + 64);
    default: return atomic_load(&slots[choice % SLOTS]);
    }
}

static void put(_Atomic(void *) *slots, uint32_t *random, void *handle)
{
    atomic_store(&slots[next_random(random) % SLOTS], handle);
}

static void expect(int code, const int *allowed, const char *what)
{
    for (int i = 0; allowed[i] != -1; i++) {
        if (code == allowed[i]) {
            return;
        }
    }
    const char *message = epx_cann_aclGetRecentErrMsg();
    fprintf(stderr, "%s gave %d: %s\n", what, code, message ? message : "no text");
    atomic_fetch_add(&failures, 1);
}

#define ACL_CODES          ((const int[]){0, 100000, 107000, 107001, 107002, 107006, 107007, 107017, 507023, -1})
#define HCCL_CODES         ((const int[]){0, 1, 2, 6, 15, 20, -1})
#define ACLNN_CODES        ((const int[]){0, 161001, 161002, 361001, 561002, 561103, -1})
#define EXPECT(kind, call) expect((int)(call), kind##_CODES, #call)

static void use_streams(uint32_t *random)
{
    aclrtStreamStatus status;
    aclrtStream stream = NULL;
    switch (next_random(random) % 7) {
    case 0:
        EXPECT(ACL, epx_cann_aclrtCreateStream(&stream));
        put(streams, random, stream);
        break;
    case 1: EXPECT(ACL, epx_cann_aclrtDestroyStream(pick(streams, random))); break;
    case 2: EXPECT(ACL, epx_cann_aclrtSynchronizeStreamWithTimeout(pick(streams, random), SYNC_LIMIT_MS)); break;
    case 3: EXPECT(ACL, epx_cann_aclrtStreamQuery(pick(streams, random), &status)); break;
    case 4: EXPECT(ACL, epx_cann_aclrtStreamAbort(pick(streams, random))); break;
    case 5: EXPECT(ACL, epx_cann_aclrtSynchronizeStream(pick(streams, random))); break;
    default: EXPECT(ACL, epx_cann_aclrtSynchronizeDevice()); break;
    }
}

static void use_devices(uint32_t *random)
{
    const int32_t device = (int32_t)(next_random(random) % STRESS_DEVICES);
    aclrtContext context = NULL;
    switch (next_random(random) % 7) {
    case 0:
        EXPECT(ACL, epx_cann_aclrtCreateContext(&context, device));
        put(contexts, random, context);
        break;
    case 1: EXPECT(ACL, epx_cann_aclrtDestroyContext(pick(contexts, random))); break;
    case 2: EXPECT(ACL, epx_cann_aclrtSetCurrentContext(pick(contexts, random))); break;
    case 3: EXPECT(ACL, epx_cann_aclrtResetDevice(device)); break;
    case 4:
        if (epx_cann_aclrtGetCurrentContext(&context) == ACL_SUCCESS) {
            put(contexts, random, context);
        }
        break;
    default: EXPECT(ACL, epx_cann_aclrtSetDevice(device)); break;
    }
}

static void use_events(uint32_t *random)
{
    float ms;
    aclrtEventRecordedStatus status;
    aclrtEvent event = NULL;
    switch (next_random(random) % 8) {
    case 0:
        EXPECT(ACL, epx_cann_aclrtCreateEvent(&event));
        put(events, random, event);
        break;
    case 1: EXPECT(ACL, epx_cann_aclrtDestroyEvent(pick(events, random))); break;
    case 2:
    case 3: EXPECT(ACL, epx_cann_aclrtRecordEvent(pick(events, random), pick(streams, random))); break;
    case 4: EXPECT(ACL, epx_cann_aclrtStreamWaitEvent(pick(streams, random), pick(events, random))); break;
    case 5: EXPECT(ACL, epx_cann_aclrtSynchronizeEvent(pick(events, random))); break;
    case 6: EXPECT(ACL, epx_cann_aclrtQueryEventStatus(pick(events, random), &status)); break;
    default: EXPECT(ACL, epx_cann_aclrtEventElapsedTime(&ms, pick(events, random), pick(events, random))); break;
    }
}

static void use_comms(uint32_t *random)
{
    int32_t device = 0;
    uint32_t number;
    char name[COMM_NAME_MAX_LENGTH];
    HcclComm comm = NULL;
    HcclResult error;
    switch (next_random(random) % 8) {
    case 0:
        EXPECT(HCCL, epx_cann_HcclCommInitAll(1, &device, &comm));
        if (comm) {
            put(comms, random, comm);
        }
        break;
    case 1: EXPECT(HCCL, epx_cann_HcclCommDestroy(pick(comms, random))); break;
    case 2: EXPECT(HCCL, epx_cann_HcclGetRankSize(pick(comms, random), &number)); break;
    case 3: EXPECT(HCCL, epx_cann_HcclGetCommName(pick(comms, random), name)); break;
    case 4: EXPECT(HCCL, epx_cann_HcclGetCommAsyncError(pick(comms, random), &error)); break;
    default: EXPECT(HCCL, epx_cann_HcclBarrier(pick(comms, random), pick(streams, random))); break;
    }
}

/* Tensors are the world's: two exchanges at once would be two writers of one tensor, so that only sizes matter. */
static void use_executors(uint32_t *random)
{
    uint64_t workspace;
    aclOpExecutor *executor = NULL;
    switch (next_random(random) % 6) {
    case 0:
        EXPECT(ACLNN, door_combine_prepare(&world, &workspace, &executor));
        put(executors, random, executor);
        break;
    case 1: EXPECT(ACLNN, epx_cann_aclDestroyAclOpExecutor(pick(executors, random))); break;
    case 2: EXPECT(ACLNN, epx_cann_aclSetAclOpExecutorRepeatable(pick(executors, random))); break;
    case 3: EXPECT(ACLNN, epx_cann_aclnnMoeDistributeCombine(NULL, 0, pick(executors, random), world.stream)); break;
    case 4: EXPECT(ACLNN, epx_cann_aclnnMoeDistributeDispatch(NULL, 0, pick(executors, random), NULL)); break;
    default:
        EXPECT(ACLNN, epx_cann_aclSetTensorAddr(pick(executors, random), next_random(random) % 16,
                                                world.tensors[DOOR_MASK], world.data[DOOR_MASK]));
        break;
    }
}

/* A stale address may be somebody else's block by now: each is freed once, and beside them only what is none. */
static void use_memory(uint32_t *random)
{
    void *block = NULL;
    void *held = NULL;
    switch (next_random(random) % 3) {
    case 0:
        EXPECT(ACL, epx_cann_aclrtMalloc(&block, 1 + next_random(random) % 5000, ACL_MEM_MALLOC_HUGE_FIRST));
        held = atomic_exchange(&blocks[next_random(random) % SLOTS], block);
        EXPECT(ACL, epx_cann_aclrtFree(held));
        break;
    case 1: EXPECT(ACL, epx_cann_aclrtFree((char *)atomic_load(&blocks[0]) + 1)); break;
    default: EXPECT(ACL, epx_cann_aclrtFreeHost(&held)); break;
    }
}

static void *thread_main(void *argument)
{
    static void (*const uses[])(uint32_t * random) = {use_streams, use_devices, use_events,
                                                      use_comms,   use_memory,  use_executors};
    uint32_t random = 12345u + 7919u * (uint32_t)(uintptr_t)argument;
    expect(epx_cann_aclrtSetDevice(0), ACL_CODES, "aclrtSetDevice");
    for (int step = 0; step < STEPS; step++) {
        uses[next_random(&random) % (sizeof uses / sizeof uses[0])](&random);
    }
    return NULL;
}

static void threads__do_anything_with_shared_handles(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int32_t device = STRESS_DEVICES; /* a device that the threads leave alone */
    assert_int_equal(epx_cann_aclrtSetDevice(device), ACL_SUCCESS);
    world = (struct door_rank){.sizes = &sizes, .device = device};
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &world.comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(world.comm, world.name), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtCreateStream(&world.stream), ACL_SUCCESS);
    door_tensors_create(&world);
    ((int32_t *)world.data[DOOR_COUNTS])[0] = 2;
    ((int32_t *)world.data[DOOR_IDX])[1] = 1;
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, thread_main, (void *)i), 0);
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    expect(epx_cann_aclrtSynchronizeStreamWithTimeout(world.stream, SYNC_LIMIT_MS), (const int[]){0, -1},
           "the last wait");
    assert_int_equal(epx_cann_aclrtDestroyStream(world.stream), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(world.comm), HCCL_SUCCESS);
    door_tensors_destroy(&world);
    for (int i = 0; i < THREADS * STEPS; i++) {
        for (device = 0; device < STRESS_DEVICES; device++) {
            assert_int_equal(epx_cann_aclrtResetDevice(device), ACL_SUCCESS);
        }
    }
    assert_int_equal(atomic_load(&failures), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads__do_anything_with_shared_handles),
    };
    setenv("EPX_JOIN_TIMEOUT", "10000", 1);
    setenv("EPX_OP_TIMEOUT", "10000", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
