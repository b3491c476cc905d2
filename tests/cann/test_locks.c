/*
 * Locks that an operation takes once warm, at both doors: its stream's, and the one that keeps its communicator's
 * rounds in order. Nothing that ranks of one process share is among them. The linker sends the library's calls of
 * pthread_mutex_lock here (--wrap, see tests/CMakeLists.txt).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include "cann/acl_objects.h"
#include "cann/acl_state.h"
#include "cann/hccl_registry.h"
#include "cann/hccl_state.h"
#include "comm/comm_object.h"
#include "epx/objects.h"
#include "runtime/stream_object.h"

#include <stdatomic.h>

#define RANKS       2
#define WARM_ROUNDS 20
#define ROUNDS      200
#define OPERATIONS  (2 * ROUNDS * RANKS)

/* A round's turn is taken and given back. */
#define ORDER_LOCKS 2.0
/* Submission, wait, and twice on the way back from the task; a worker that is called takes as many for itself. */
#define STREAM_LOCKS 8.0
/* A stream's worker may run an operation for the first time: it has not asked yet where tensors lie in the arena. */
#define FIRST_LOOKS (8u * RANKS)

enum lock_kind { LOCK_ORDER, LOCK_STREAM, LOCK_OTHER, LOCK_KINDS };

struct known_lock {
    const pthread_mutex_t *mutex;
    enum lock_kind kind;
};

static struct known_lock known[2 * RANKS];
static _Atomic uint32_t known_count;
static _Atomic bool watched;
static _Atomic uint64_t taken[LOCK_KINDS];
static _Atomic(const void *) other_caller;
static pthread_barrier_t meeting;

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

static void know(const pthread_mutex_t *mutex, enum lock_kind kind)
{
    known[atomic_fetch_add(&known_count, 1)] = (struct known_lock){mutex, kind};
}

static enum lock_kind kind_of(const pthread_mutex_t *mutex)
{
    for (uint32_t i = 0; i < atomic_load(&known_count); i++) {
        if (known[i].mutex == mutex) {
            return known[i].kind;
        }
    }
    return LOCK_OTHER;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (atomic_load(&watched)) {
        enum lock_kind kind = kind_of(mutex);
        (void)atomic_fetch_add(&taken[kind], 1);
        if (kind == LOCK_OTHER) {
            atomic_store(&other_caller, __builtin_return_address(0));
        }
    }
    return __real_pthread_mutex_lock(mutex);
}

/* All ranks together: before and after it nobody is inside the library. */
static void watch(uint32_t rank, bool on)
{
    pthread_barrier_wait(&meeting);
    if (rank == 0) {
        atomic_store(&watched, on);
    }
    pthread_barrier_wait(&meeting);
}

static void begin(void)
{
    atomic_store(&known_count, 0);
    atomic_store(&other_caller, NULL);
    for (int kind = 0; kind < LOCK_KINDS; kind++) {
        atomic_store(&taken[kind], 0);
    }
    assert_int_equal(pthread_barrier_init(&meeting, NULL, RANKS), 0);
}

static void expect_locks(const char *name, bool has_stream)
{
    double each[LOCK_KINDS];
    for (int kind = 0; kind < LOCK_KINDS; kind++) {
        each[kind] = (double)atomic_load(&taken[kind]) / OPERATIONS;
    }
    print_message("%s: %.2f locks an operation for the order of rounds, %.2f of its stream, %.3f others\n", name,
                  each[LOCK_ORDER], each[LOCK_STREAM], each[LOCK_OTHER]);
    if (atomic_load(&taken[LOCK_OTHER]) > (has_stream ? FIRST_LOOKS : 0)) {
        fail_msg("%s: %llu other locks in %d operations, the last at %p (expect_locks is at %p)", name,
                 (unsigned long long)atomic_load(&taken[LOCK_OTHER]), OPERATIONS, atomic_load(&other_caller),
                 (const void *)(uintptr_t)expect_locks);
    }
    assert_true(each[LOCK_ORDER] == ORDER_LOCKS); /* and so locks are seen at all */
    assert_true(each[LOCK_STREAM] <= (has_stream ? STREAM_LOCKS : 0.0));
    pthread_barrier_destroy(&meeting);
}

/* ---- Door 1 ------------------------------------------------------------------------------------------------------ */

#define TOKENS  8
#define HIDDEN  64
#define TOPK    2
#define EXPERTS 4
#define ROWS    (RANKS * TOKENS * TOPK)

struct rank {
    pthread_t thread;
    uint32_t index;
    struct epx_communicator *comm;
    struct epx_plan *plan;
    struct epx_dispatch_args dispatch;
    struct epx_combine_args combine;
    bool started;
    bool in_arena;
    bool failed;
};

/* Each tensor is an allocation of its own, as programs have them. */
static void *tensor(struct rank *rank, size_t bytes)
{
    void *memory = NULL;
    if (!rank->in_arena) {
        memory = calloc(1, bytes);
    } else if (epx_memory_alloc(bytes, &memory) != EPX_OK) {
        memory = NULL;
    }
    rank->failed = rank->failed || memory == NULL;
    return memory;
}

static void drop(const struct rank *rank, const void *memory)
{
    if (!rank->in_arena) {
        free((void *)(uintptr_t)memory);
    } else if (epx_memory_free((void *)(uintptr_t)memory) != EPX_OK) {
        abort();
    }
}

static void make_tensors(struct rank *rank)
{
    int32_t *ids = tensor(rank, TOKENS * TOPK * sizeof *ids);
    for (uint32_t i = 0; ids != NULL && i < TOKENS * TOPK; i++) {
        ids[i] = (int32_t)((rank->index + i) % EXPERTS);
    }
    rank->dispatch = (struct epx_dispatch_args)EPX_DISPATCH_ARGS_INIT;
    rank->dispatch.token_count = TOKENS;
    rank->dispatch.x = tensor(rank, TOKENS * HIDDEN * 2);
    rank->dispatch.expert_ids = ids;
    rank->dispatch.expert_scales = tensor(rank, TOKENS * TOPK * sizeof(float));
    rank->dispatch.expand_x = tensor(rank, ROWS * HIDDEN * 2);
    rank->dispatch.expand_idx = tensor(rank, TOKENS * TOPK * sizeof(int32_t));
    rank->dispatch.expert_token_nums = tensor(rank, EXPERTS * sizeof(int64_t));
    rank->dispatch.ep_recv_counts = tensor(rank, RANKS * EXPERTS * sizeof(int32_t));
    rank->combine = (struct epx_combine_args)EPX_COMBINE_ARGS_INIT;
    rank->combine.token_count = TOKENS;
    rank->combine.expand_x = rank->dispatch.expand_x;
    rank->combine.expert_ids = ids;
    rank->combine.expand_idx = rank->dispatch.expand_idx;
    rank->combine.ep_send_counts = rank->dispatch.ep_recv_counts;
    rank->combine.expert_scales = rank->dispatch.expert_scales;
    rank->combine.x = tensor(rank, TOKENS * HIDDEN * 2);
}

static void drop_tensors(const struct rank *rank)
{
    drop(rank, rank->dispatch.x);
    drop(rank, rank->dispatch.expert_ids);
    drop(rank, rank->dispatch.expert_scales);
    drop(rank, rank->dispatch.expand_x);
    drop(rank, rank->dispatch.expand_idx);
    drop(rank, rank->dispatch.expert_token_nums);
    drop(rank, rank->dispatch.ep_recv_counts);
    drop(rank, rank->combine.x);
}

static bool run_pair(const struct rank *rank)
{
    struct epx_request *request = NULL;
    if (!rank->started) {
        return epx_dispatch(rank->plan, &rank->dispatch) == EPX_OK && epx_combine(rank->plan, &rank->combine) == EPX_OK;
    }
    return epx_dispatch_start(rank->plan, &rank->dispatch, &request) == EPX_OK && epx_wait(&request, -1) == EPX_OK &&
           epx_combine_start(rank->plan, &rank->combine, &request) == EPX_OK && epx_wait(&request, -1) == EPX_OK;
}

static void run_pairs(struct rank *rank, int count)
{
    for (int i = 0; i < count && !rank->failed; i++) {
        rank->failed = !run_pair(rank);
    }
}

static void *rank_main(void *context)
{
    struct rank *rank = context;
    run_pairs(rank, WARM_ROUNDS);
    know(&rank->comm->comm->queue_lock, LOCK_ORDER);
    if (rank->started) {
        know(&rank->comm->stream->lock, LOCK_STREAM);
    }
    watch(rank->index, true);
    run_pairs(rank, ROUNDS);
    watch(rank->index, false);
    return NULL;
}

static void run_local(const char *name, bool started, bool in_arena)
{
    struct epx_comm_config comm_config = EPX_COMM_CONFIG_INIT;
    struct epx_moe_config config = EPX_MOE_CONFIG_INIT;
    struct epx_communicator *comms[RANKS];
    struct rank ranks[RANKS];
    begin();
    config.expert_count = EXPERTS;
    config.hidden_elems = HIDDEN;
    config.topk = TOPK;
    config.token_max = TOKENS;
    config.recv_row_max = ROWS;
    assert_int_equal(epx_comm_create_local(RANKS, &comm_config, comms), EPX_OK);
    for (uint32_t i = 0; i < RANKS; i++) {
        ranks[i] = (struct rank){.index = i, .comm = comms[i], .started = started, .in_arena = in_arena};
        assert_int_equal(epx_plan_create(comms[i], &config, &ranks[i].plan), EPX_OK);
        make_tensors(&ranks[i]);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
        assert_false(ranks[i].failed);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        epx_plan_destroy(ranks[i].plan);
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
        drop_tensors(&ranks[i]);
    }
    expect_locks(name, started);
}

static void locks__door_1(void **state)
{
    (void)state;
    run_local("epx_dispatch, epx_combine", false, true);
    run_local("the same, private memory", false, false);
}

static void locks__door_1_started(void **state)
{
    (void)state;
    run_local("epx_dispatch_start, epx_combine_start", true, true);
}

/* ---- Door 2 ------------------------------------------------------------------------------------------------------ */

struct executors {
    aclOpExecutor *dispatch;
    aclOpExecutor *combine;
};

static void prepare(struct door_rank *self, struct executors *executors)
{
    uint64_t workspace;
    DOOR_CHECK(self, door_dispatch_prepare(self, &workspace, &executors->dispatch) == ACL_SUCCESS);
    DOOR_CHECK(self, door_combine_prepare(self, &workspace, &executors->combine) == ACL_SUCCESS);
}

static void run_layers(struct door_rank *self, int count, const struct executors *repeatable)
{
    for (int i = 0; i < count && self->failure[0] == '\0'; i++) {
        struct executors once;
        const struct executors *executors = repeatable;
        if (executors == NULL) {
            prepare(self, &once);
            executors = &once;
        }
        DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executors->dispatch, self->stream) == 0);
        DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombine(NULL, 0, executors->combine, self->stream) == 0);
        DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    }
}

static void know_door(struct door_rank *self)
{
    const struct epx_cann_comm *comm;
    struct epx_cann_stream *stream;
    DOOR_CHECK(self, epx_hccl_registry_acquire(self->comm, &comm) == EPX_OK);
    DOOR_CHECK(self, epx_cann_stream_find(self->stream, &stream) == EPX_OK);
    if (self->failure[0] == '\0') {
        know(&comm->comm->queue_lock, LOCK_ORDER);
        know(&stream->engine->lock, LOCK_STREAM);
        epx_cann_comm_release(comm);
        epx_cann_stream_release(stream->engine);
    }
}

static void door_body(struct door_rank *self)
{
    const bool *repeatable = self->extra;
    struct executors executors;
    for (int64_t i = 0; i < self->sizes->tokens * self->sizes->topk; i++) {
        ((int32_t *)self->data[DOOR_IDS])[i] = (int32_t)((self->rank + i) % self->sizes->experts);
    }
    if (*repeatable) {
        prepare(self, &executors);
        DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(executors.dispatch) == 0);
        DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(executors.combine) == 0);
    }
    run_layers(self, WARM_ROUNDS, *repeatable ? &executors : NULL);
    know_door(self);
    watch((uint32_t)self->rank, true);
    run_layers(self, ROUNDS, *repeatable ? &executors : NULL);
    watch((uint32_t)self->rank, false);
    if (*repeatable) {
        DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(executors.dispatch) == 0);
        DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(executors.combine) == 0);
    }
}

static void run_door(const char *name, bool repeatable)
{
    struct door_sizes sizes = {
        .rank_count = RANKS, .tokens = TOKENS, .hidden = HIDDEN, .topk = TOPK, .experts = EXPERTS, .rows = ROWS};
    int32_t devices[RANKS] = {0, 1};
    HcclComm comms[RANKS];
    begin();
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitAll(RANKS, devices, comms), HCCL_SUCCESS);
    const char *failure = door_run(&sizes, comms, devices, door_body, &repeatable);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[i]), HCCL_SUCCESS);
    }
    if (failure[0]) {
        fail_msg("%s: %s", name, failure);
    }
    expect_locks(name, true);
}

static void locks__door_2(void **state)
{
    (void)state;
    run_door("CANN, repeatable executors", true);
    run_door("CANN, both phases", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locks__door_1),
        cmocka_unit_test(locks__door_1_started),
        cmocka_unit_test(locks__door_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
