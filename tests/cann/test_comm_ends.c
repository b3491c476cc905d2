/* Threads that plan, queue and wait while another destroys their communicator and makes the next: each operation runs,
 * or is refused; a communicator with an operation is not destroyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

#include <stdatomic.h>
#include <unistd.h>

#define USERS  3
#define ENDS   200
#define NAME   "ends"
#define AGAIN  HCCL_E_AGAIN
#define REFUSE 361001 /* the communicator is gone since it was planned */

static const struct door_sizes sizes = {.rank_count = 1, .tokens = 2, .hidden = 8, .topk = 1, .experts = 1, .rows = 4};
static _Atomic uint32_t ends;
static _Atomic uint32_t runs;
static _Atomic uint32_t users_ready;
static atomic_bool ending; /* users pause between operations, each for another time */

static void use_once(struct door_rank *self, aclOpExecutor **kept)
{
    uint64_t workspace;
    aclOpExecutor *executor = NULL;
    if (door_dispatch_prepare(self, &workspace, &executor) == 0) {
        aclnnStatus status = epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executor, self->stream);
        DOOR_CHECK(self, status == 0 || status == REFUSE);
        (void)atomic_fetch_add(&runs, status == 0 ? 1 : 0);
    }
    /* One that outlives communicators. */
    if (*kept == NULL && door_dispatch_prepare(self, &workspace, kept) == 0) {
        DOOR_CHECK(self, epx_cann_aclSetAclOpExecutorRepeatable(*kept) == 0);
    }
    if (*kept != NULL) {
        aclnnStatus status = epx_cann_aclnnMoeDistributeDispatch(NULL, 0, *kept, self->stream);
        DOOR_CHECK(self, status == 0 || status == REFUSE);
        if (status == REFUSE) {
            DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(*kept) == 0);
            *kept = NULL;
        }
    }
    DOOR_CHECK(self, epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 20000) == ACL_SUCCESS);
}

static void *user_main(void *context)
{
    struct door_rank *self = context;
    aclOpExecutor *kept = NULL;
    DOOR_CHECK(self, epx_cann_aclrtSetDevice(0) == ACL_SUCCESS);
    DOOR_CHECK(self, epx_cann_aclrtCreateStream(&self->stream) == ACL_SUCCESS);
    door_tensors_create(self);
    (void)atomic_fetch_add(&users_ready, 1);
    while (self->failure[0] == '\0' && atomic_load(&ends) < ENDS) {
        use_once(self, &kept);
        if (atomic_load(&ending)) {
            (void)usleep(100 * (useconds_t)(1 + (uintptr_t)self / sizeof *self % USERS));
        }
    }
    if (kept != NULL) {
        DOOR_CHECK(self, epx_cann_aclDestroyAclOpExecutor(kept) == 0);
    }
    DOOR_CHECK(self, epx_cann_aclrtDestroyStream(self->stream) == ACL_SUCCESS);
    door_tensors_destroy(self);
    return NULL;
}

static HcclComm make(void)
{
    HcclComm comm = NULL;
    HcclRootInfo root;
    HcclCommConfig config;
    HcclCommConfigInit(&config);
    memcpy(config.hcclCommName, NAME, sizeof NAME);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitRootInfoConfig(1, &root, 0, &config, &comm), HCCL_SUCCESS);
    return comm;
}

static void end(HcclComm comm)
{
    HcclResult result = epx_cann_HcclCommDestroy(comm);
    atomic_store(&ending, true);
    while (result == AGAIN) {
        result = epx_cann_HcclCommDestroy(comm);
    }
    atomic_store(&ending, false);
    assert_int_equal(result, HCCL_SUCCESS);
}

static void destroy__under_operations(void **state)
{
    (void)state;
    struct door_rank users[USERS];
    pthread_t threads[USERS];
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    HcclComm comm = make();
    for (int i = 0; i < USERS; i++) {
        users[i] = (struct door_rank){.sizes = &sizes, .name = NAME};
        assert_int_equal(pthread_create(&threads[i], NULL, user_main, &users[i]), 0);
    }
    while (atomic_load(&users_ready) < USERS) {
        sched_yield();
    }
    while (atomic_load(&ends) < ENDS) {
        uint32_t before = atomic_load(&runs);
        end(comm);
        comm = make();
        (void)atomic_fetch_add(&ends, 1);
        /* Somebody comes to use it, unless all have failed. */
        for (int i = 0; i < 100 && atomic_load(&runs) == before; i++) {
            sched_yield();
        }
    }
    for (int i = 0; i < USERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_string_equal(users[i].failure, "");
    }
    assert_true(atomic_load(&runs) > 0);
    end(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destroy__under_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
