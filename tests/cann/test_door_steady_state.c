/*
 * Once warm, the calls of a serving program at the CANN door allocate and free nothing, on any thread: neither the
 * launch of a repeatable executor nor both phases of a new one. The linker sends these calls of the library here
 * (--wrap, see tests/CMakeLists.txt).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include <stdatomic.h>

#define RANKS       2
#define WARM_ROUNDS 6
#define ROUNDS      50
#define LAYERS      40 /* queued before the program waits */

static _Atomic bool watched;
static _Atomic uint64_t calls;
static _Atomic(const char *) first_call;

static void call_seen(const char *name)
{
    const char *none = NULL;
    if (atomic_load(&watched)) {
        atomic_fetch_add(&calls, 1);
        (void)atomic_compare_exchange_strong(&first_call, &none, name);
    }
}

#include "wrapped_calls.h"

struct variant {
    const char *name;
    struct door_sizes sizes;
    int layers; /* dispatches and combines before each wait */
    bool repeatable;
    bool private_memory; /* tensors that peers cannot read where they are */
    uint64_t limit;      /* calls */
};

static pthread_barrier_t meeting;
static uint64_t warm_calls;
static uint64_t steady_calls;

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

static void layer(struct door_rank *self, const struct variant *variant, struct executors executors)
{
    if (!variant->repeatable) {
        prepare(self, &executors);
    }
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executors.dispatch, self->stream) == ACL_SUCCESS);
    DOOR_CHECK(self, epx_cann_aclnnMoeDistributeCombine(NULL, 0, executors.combine, self->stream) == ACL_SUCCESS);
}

static void run_rounds(struct door_rank *self, int rounds, struct executors executors)
{
    const struct variant *variant = self->extra;
    for (int round = 0; round < rounds && self->failure[0] == '\0'; round++) {
        for (int i = 0; i < variant->layers; i++) {
            layer(self, variant, executors);
        }
        DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
    }
}

/* All ranks together: before and after it nobody is inside the library. */
static void watch(struct door_rank *self, uint64_t *counted, bool on)
{
    pthread_barrier_wait(&meeting);
    if (self->rank == 0) {
        *counted = atomic_exchange(&calls, 0);
        atomic_store(&watched, on);
    }
    pthread_barrier_wait(&meeting);
}

static void swap_memory(struct door_rank *self, enum door_tensor which, size_t bytes)
{
    void *memory = calloc(1, bytes);
    DOOR_CHECK(self, memory && epx_cann_aclSetRawTensorAddr(self->tensors[which], memory) == 0);
    DOOR_CHECK(self, epx_cann_aclrtFree(self->data[which]) == ACL_SUCCESS);
    self->data[which] = memory;
}

static void private_tensors(struct door_rank *self)
{
    const struct door_sizes *s = self->sizes;
    swap_memory(self, DOOR_X, (size_t)(s->tokens * s->hidden) * 2);
    swap_memory(self, DOOR_EXPAND_X, (size_t)(s->rows * s->hidden) * 2);
}

static void free_private_tensors(struct door_rank *self)
{
    free(self->data[DOOR_X]);
    free(self->data[DOOR_EXPAND_X]);
    self->data[DOOR_X] = NULL;
    self->data[DOOR_EXPAND_X] = NULL;
}

/* Dispatch and combine share expandX: each token's rows come back as they went. */
static void body(struct door_rank *self)
{
    const struct variant *variant = self->extra;
    struct executors executors = {NULL, NULL};
    uint64_t ignored;
    if (variant->private_memory) {
        private_tensors(self);
    }
    for (int64_t i = 0; i < self->sizes->tokens * self->sizes->topk; i++) {
        ((int32_t *)self->data[DOOR_IDS])[i] = (int32_t)((self->rank + i) % self->sizes->experts);
        ((float *)self->data[DOOR_WEIGHTS])[i] = 0.5f;
    }
    watch(self, &ignored, true);
    if (variant->repeatable) {
        prepare(self, &executors);
        DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(executors.dispatch) == 0);
        DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(executors.combine) == 0);
    }
    run_rounds(self, WARM_ROUNDS, executors);
    watch(self, &warm_calls, true);
    atomic_store(&first_call, NULL);
    run_rounds(self, ROUNDS, executors);
    watch(self, &steady_calls, false);
    if (variant->repeatable) {
        DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(executors.dispatch) == 0);
        DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(executors.combine) == 0);
    }
    if (variant->private_memory) {
        free_private_tensors(self);
    }
}

static void run_variant(struct variant *variant)
{
    int32_t devices[RANKS] = {0, 1};
    HcclComm comms[RANKS];
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitAll(RANKS, devices, comms), HCCL_SUCCESS);
    assert_int_equal(pthread_barrier_init(&meeting, NULL, RANKS), 0);
    const char *failure = door_run(&variant->sizes, comms, devices, body, variant);
    pthread_barrier_destroy(&meeting);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[i]), HCCL_SUCCESS);
    }
    if (failure[0]) {
        fail_msg("%s: %s", variant->name, failure);
    }
    assert_true(warm_calls > 0); /* calls are seen at all */
    if (steady_calls > variant->limit) {
        fail_msg("%s: %llu calls in %d rounds, first %s", variant->name, (unsigned long long)steady_calls, ROUNDS,
                 atomic_load(&first_call));
    }
}

static struct variant base_variant(const char *name)
{
    return (struct variant){
        .name = name,
        .sizes = {.rank_count = RANKS, .tokens = 4, .hidden = 64, .topk = 2, .experts = 4, .rows = 16},
        .layers = 1,
    };
}

static void steady__repeatable(void **state)
{
    (void)state;
    struct variant variant = base_variant("repeatable");
    variant.repeatable = true;
    run_variant(&variant);
    variant.name = "repeatable, private memory";
    variant.private_memory = true;
    run_variant(&variant);
}

static void steady__both_phases(void **state)
{
    (void)state;
    struct variant variant = base_variant("both phases");
    run_variant(&variant);
    variant.name = "both phases, private memory";
    variant.private_memory = true;
    run_variant(&variant);
}

/* How many operations are queued at once is a matter of timing, so that warming up may not have seen the most: until
 * then each has an object that is allocated, and each stream a longer queue. */
static void steady__many_layers_queued(void **state)
{
    (void)state;
    struct variant variant = base_variant("layers, repeatable");
    variant.layers = LAYERS;
    variant.limit = 2 * LAYERS * RANKS + 16;
    variant.repeatable = true;
    run_variant(&variant);
    variant.name = "layers, both phases";
    variant.repeatable = false;
    run_variant(&variant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady__repeatable),
        cmocka_unit_test(steady__both_phases),
        cmocka_unit_test(steady__many_layers_queued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
