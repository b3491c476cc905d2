/* Plans are shared by first phases that differ in addresses only, kept for the next one, and end with their
 * communicator; objects to be used again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "door_world.h"

#include "cann/hccl_registry.h"
#include "cann/hccl_state.h"
#include "cann/moe_plan.h"
#include "cann/spare_list.h"

#define HIDDEN 8
#define ROWS   8
#define IDLE   4 /* unused plans that are kept for a communicator */

#define ARENA_MIB 32

static HcclComm handle;
static const struct epx_cann_comm *comm;
static uint16_t memory[2][ROWS * HIDDEN];

static void comm_create(void)
{
    int32_t device = 0;
    assert_int_equal(epx_cann_aclrtSetDevice(device), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &handle), HCCL_SUCCESS);
    assert_int_equal(epx_hccl_registry_acquire(handle, &comm), EPX_OK);
}

static void comm_destroy(void)
{
    epx_cann_comm_release(comm);
    assert_int_equal(epx_cann_HcclCommDestroy(handle), HCCL_SUCCESS);
}

static int setup(void **state)
{
    (void)state;
    comm_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    comm_destroy();
    return 0;
}

static struct epx_view view_of(enum epx_dtype dtype, int64_t rows, int64_t columns)
{
    const bool flat = columns == 0;
    return (struct epx_view){.dtype = dtype,
                             .dim_count = flat ? 1 : 2,
                             .shape = {rows, flat ? 0 : columns},
                             .stride = {flat ? 1 : columns, flat ? 0 : 1}};
}

/* A dispatch of one rank, one expert, without addresses. */
static struct epx_cann_planned planned_of(int64_t tokens)
{
    struct epx_cann_planned planned;
    memset(&planned, 0, sizeof planned);
    planned.operation = EPX_OPERATION_DISPATCH;
    planned.comm = comm;
    planned.request.dispatch = (struct epx_dispatch_request){
        .comm = comm->comm,
        .shape = {.expert_count = 1, .hidden_elems = HIDDEN, .topk = 1, .dtype = EPX_DTYPE_BF16},
        .token_count = tokens,
        .token_nums_kind = EPX_TOKEN_NUMS_COUNT,
        .tensors = {.x = view_of(EPX_DTYPE_BF16, tokens, HIDDEN),
                    .expert_ids = view_of(EPX_DTYPE_INT32, tokens, 1),
                    .expand_x = view_of(EPX_DTYPE_BF16, ROWS, HIDDEN),
                    .expand_idx = view_of(EPX_DTYPE_INT32, tokens, 0),
                    .expert_token_nums = view_of(EPX_DTYPE_INT64, 1, 0),
                    .ep_recv_counts = view_of(EPX_DTYPE_INT32, 1, 0)},
    };
    return planned;
}

static struct epx_cann_plan *acquire(const struct epx_cann_planned *planned)
{
    struct epx_cann_plan *plan = NULL;
    assert_int_equal(epx_cann_plan_acquire(planned, &plan), EPX_OK);
    assert_non_null(plan);
    return plan;
}

static void acquire__shares_what_differs_in_addresses_only(void **state)
{
    (void)state;
    struct epx_cann_planned planned = planned_of(2);
    struct epx_cann_plan *first = acquire(&planned);
    planned.request.dispatch.tensors.x.data = memory[0];
    planned.offset_bytes[EPX_CANN_ROLE_TOKENS] = 4;
    struct epx_cann_plan *second = acquire(&planned);
    assert_ptr_equal(first, second);
    epx_cann_plan_release(first);
    planned.request.dispatch.tensors.x.data = memory[1];
    assert_ptr_equal(acquire(&planned), second); /* still in use */
    epx_cann_plan_release(second);
    epx_cann_plan_release(second);
    assert_ptr_equal(acquire(&planned), second); /* kept */
    epx_cann_plan_release(second);
}

static void acquire__tells_apart(void **state)
{
    (void)state;
    const struct epx_cann_planned base = planned_of(2);
    struct epx_cann_planned others[6];
    struct epx_cann_plan *plans[6];
    struct epx_cann_plan *plan = acquire(&base);
    for (int i = 0; i < 6; i++) {
        others[i] = base;
    }
    others[0] = planned_of(3);
    others[1].request.dispatch.token_nums_kind = EPX_TOKEN_NUMS_PREFIX;
    others[2].request.dispatch.tensors.expand_x.shape[0] = ROWS - 1;
    others[3].request.dispatch.tensors.x.stride[0] = HIDDEN + 1;
    others[4].request.dispatch.shape.global_token_count = 2;
    others[5].request.dispatch.tensors.expand_scales = view_of(EPX_DTYPE_FP32, ROWS, 0);
    for (int i = 0; i < 6; i++) {
        plans[i] = acquire(&others[i]);
        for (int other = 0; other < i; other++) {
            assert_ptr_not_equal(plans[i], plans[other]);
        }
        assert_ptr_not_equal(plans[i], plan);
        assert_ptr_equal(acquire(&others[i]), plans[i]);
        epx_cann_plan_release(plans[i]);
    }
    for (int i = 0; i < 6; i++) {
        epx_cann_plan_release(plans[i]);
    }
    epx_cann_plan_release(plan);
}

/* An option counts from the next first phase, as without shared plans. */
static void acquire__reads_the_options(void **state)
{
    (void)state;
    const struct epx_cann_planned planned = planned_of(2);
    struct epx_cann_plan *unused = NULL;
    struct epx_cann_plan *plan = acquire(&planned);
    assert_int_equal(setenv("EPX_THREADS", "3", 1), 0);
    struct epx_cann_plan *other = acquire(&planned);
    assert_ptr_not_equal(other, plan);
    assert_int_equal(setenv("EPX_THREADS", "many", 1), 0);
    assert_int_equal(epx_cann_plan_acquire(&planned, &unused), EPX_ERR_CONFIG);
    assert_null(unused);
    assert_int_equal(unsetenv("EPX_THREADS"), 0);
    assert_ptr_equal(acquire(&planned), plan);
    epx_cann_plan_release(plan);
    epx_cann_plan_release(plan);
    epx_cann_plan_release(other);
}

/* The request is judged whether or not there is a plan. */
static void acquire__checks_addresses_too(void **state)
{
    (void)state;
    struct epx_cann_planned planned = planned_of(2);
    struct epx_cann_plan *unused = NULL;
    struct epx_cann_plan *plan = acquire(&planned);
    planned.request.dispatch.tensors.x.data = memory[0];
    planned.request.dispatch.tensors.expand_x.data = memory[0];
    assert_int_equal(epx_cann_plan_acquire(&planned, &unused), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "expandX overlaps x"));
    assert_null(unused);
    epx_cann_plan_release(plan);
}

/* No address of one first phase is used in another's run. */
static void bind__has_no_address_of_others(void **state)
{
    (void)state;
    struct epx_cann_planned planned = planned_of(2);
    static int64_t numbers[8];
    static int32_t counts[8];
    union epx_cann_binding binding;
    struct epx_dispatch_tensors *tensors = &planned.request.dispatch.tensors;
    tensors->x.data = memory[0];
    tensors->expert_ids.data = &counts[0];
    tensors->expand_x.data = memory[1];
    tensors->expand_idx.data = &counts[2];
    tensors->expert_token_nums.data = numbers;
    tensors->ep_recv_counts.data = &counts[4];
    struct epx_cann_plan *plan = acquire(&planned);
    assert_int_equal(epx_cann_plan_bind(plan, &planned, &binding), EPX_OK);
    assert_ptr_equal(binding.dispatch.tensors.x.data, memory[0]);
    tensors->x.data = NULL;
    assert_ptr_equal(acquire(&planned), plan);
    assert_int_equal(epx_cann_plan_bind(plan, &planned, &binding), EPX_ERR_NULL);
    assert_non_null(strstr(epx_error_text(), "x is null"));
    epx_cann_plan_release(plan);
    epx_cann_plan_release(plan);
}

/* The ones used last are kept. All are held at once first, so that none is at the other's address. */
static void release__keeps_a_few(void **state)
{
    (void)state;
    struct epx_cann_plan *plans[IDLE + 2];
    struct epx_cann_plan *again[IDLE + 2];
    struct epx_cann_planned planned;
    for (int i = 0; i < IDLE + 2; i++) {
        planned = planned_of(i + 1);
        plans[i] = acquire(&planned);
    }
    for (int i = 0; i < IDLE + 2; i++) {
        epx_cann_plan_release(plans[i]);
    }
    for (int i = IDLE + 1; i >= 2; i--) {
        planned = planned_of(i + 1);
        again[i] = acquire(&planned);
        assert_ptr_equal(again[i], plans[i]);
    }
    for (int i = 2; i < IDLE + 2; i++) {
        epx_cann_plan_release(again[i]);
    }
}

static void forget__ends_plans_with_their_communicator(void **state)
{
    (void)state;
    struct epx_cann_planned planned = planned_of(2);
    struct epx_cann_comm_place place;
    struct epx_cann_comm_place other_place;
    struct epx_cann_comm_place tp_place;
    struct epx_cann_plan *used = acquire(&planned);
    epx_cann_plan_comms(used, &place, &tp_place);
    assert_int_equal(tp_place.serial, 0);
    comm_destroy();
    comm_create();
    planned = planned_of(2);
    struct epx_cann_plan *fresh = acquire(&planned);
    epx_cann_plan_comms(fresh, &other_place, &tp_place);
    assert_int_not_equal(place.serial, other_place.serial);
    assert_ptr_not_equal(fresh, used);
    epx_cann_plan_release(used); /* the last user of a plan whose communicator is gone */
    epx_cann_plan_release(fresh);
}

/* A plan that takes more than half of the arena. */
static struct epx_cann_planned large_planned_of(int64_t more_tokens)
{
    const int64_t tokens = ARENA_MIB * 640 + more_tokens;
    struct epx_cann_planned planned = planned_of(tokens);
    planned.request.dispatch.shape.hidden_elems = 1024;
    planned.request.dispatch.shape.quantization = EPX_QUANTIZATION_DYNAMIC_INT8;
    planned.request.dispatch.tensors.x = view_of(EPX_DTYPE_BF16, tokens, 1024);
    planned.request.dispatch.tensors.expand_x = view_of(EPX_DTYPE_INT8, ROWS, 1024);
    planned.request.dispatch.tensors.dynamic_scales = view_of(EPX_DTYPE_FP32, ROWS, 0);
    return planned;
}

static void acquire__gives_up_idle_plans_for_memory(void **state)
{
    (void)state;
    struct epx_cann_plan *plans[3];
    struct epx_cann_plan *unused = NULL;
    struct epx_cann_planned planned;
    for (int i = 0; i < 3; i++) {
        planned = large_planned_of(i);
        plans[i] = acquire(&planned);
        if (i < 2) {
            epx_cann_plan_release(plans[i]);
        }
    }
    /* One in use is not given up. */
    planned.request.dispatch.shape.global_token_count = planned.request.dispatch.token_count;
    assert_int_equal(epx_cann_plan_acquire(&planned, &unused), EPX_ERR_NO_MEMORY);
    assert_null(unused);
    epx_cann_plan_release(plans[2]);
}

static void malloc__gives_up_idle_plans_for_memory(void **state)
{
    (void)state;
    const size_t bytes = (size_t)ARENA_MIB * 640 * 1024;
    struct epx_cann_planned planned = large_planned_of(0);
    struct epx_cann_plan *plan = acquire(&planned);
    void *pointer = NULL;
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, bytes, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_RT_MEMORY_ALLOCATION);
    epx_cann_plan_release(plan);
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, bytes, ACL_MEM_MALLOC_HUGE_FIRST), ACL_SUCCESS);
    assert_int_equal(epx_cann_aclrtFree(pointer), ACL_SUCCESS);
}

/* The copy of a tensor that peers cannot read in place. */
static void bind__gives_up_idle_plans_for_memory(void **state)
{
    (void)state;
    const int64_t tokens = ARENA_MIB * 320;
    const size_t bytes = (size_t)tokens * 1024 * sizeof(uint16_t);
    struct epx_cann_planned planned = planned_of(tokens);
    planned.request.dispatch.shape.hidden_elems = 1024;
    planned.request.dispatch.tensors.x = view_of(EPX_DTYPE_BF16, tokens, 1024);
    planned.request.dispatch.tensors.expand_x = view_of(EPX_DTYPE_BF16, ROWS, 1024);
    struct epx_cann_plan *plan = acquire(&planned); /* without addresses: no copy yet */
    struct epx_cann_planned large = large_planned_of(0);
    epx_cann_plan_release(acquire(&large));
    struct epx_dispatch_tensors *tensors = &planned.request.dispatch.tensors;
    uint8_t *const other = calloc(1, 2 * bytes);
    assert_non_null(other);
    tensors->x.data = other;
    tensors->expert_ids.data = other + bytes;
    tensors->expand_idx.data = other + bytes + (size_t)tokens * sizeof(int32_t);
    tensors->expand_x = (struct epx_view){.data = other + bytes + 2 * (size_t)tokens * sizeof(int32_t),
                                          .dtype = EPX_DTYPE_BF16,
                                          .dim_count = 2,
                                          .shape = {ROWS, 1024},
                                          .stride = {1024, 1}};
    static int64_t token_nums[1];
    static int32_t counts[1];
    tensors->expert_token_nums.data = token_nums;
    tensors->ep_recv_counts.data = counts;
    union epx_cann_binding binding;
    assert_int_equal(epx_cann_plan_bind(plan, &planned, &binding), EPX_OK);
    epx_cann_plan_release(plan);
    free(other);
}

static atomic_bool forks_are_over;

static void *use_the_list(void *unused)
{
    while (!atomic_load(&forks_are_over)) {
        (void)epx_cann_plans_give_up();
    }
    return unused;
}

/* The child of a process whose other thread has the list's lock just then. */
static void fork__child_has_the_lock(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_the_list, NULL), 0);
    for (int i = 0; i < 200; i++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)alarm(10);
            epx_cann_plans_forget(1);
            _exit(0);
        }
        int result = 0;
        assert_int_equal(waitpid(pid, &result, 0), pid);
        assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    }
    atomic_store(&forks_are_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void spares__up_to_the_limit(void **state)
{
    (void)state;
    struct object {
        void *content[4];
    } objects[3];
    struct epx_spare_list list = {.object_bytes = sizeof objects[0], .limit = 2};
    assert_null(epx_spare_take(&list));
    assert_true(epx_spare_give(&list, &objects[0]));
    assert_true(epx_spare_give(&list, &objects[1]));
    assert_false(epx_spare_give(&list, &objects[2]));
    assert_ptr_equal(epx_spare_take(&list), &objects[1]);
    assert_true(epx_spare_give(&list, &objects[2]));
    assert_ptr_equal(epx_spare_take(&list), &objects[2]);
    assert_ptr_equal(epx_spare_take(&list), &objects[0]);
    assert_null(epx_spare_take(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acquire__shares_what_differs_in_addresses_only),
        cmocka_unit_test(acquire__tells_apart),
        cmocka_unit_test(acquire__reads_the_options),
        cmocka_unit_test(acquire__checks_addresses_too),
        cmocka_unit_test(bind__has_no_address_of_others),
        cmocka_unit_test(release__keeps_a_few),
        cmocka_unit_test(forget__ends_plans_with_their_communicator),
        cmocka_unit_test(acquire__gives_up_idle_plans_for_memory),
        cmocka_unit_test(malloc__gives_up_idle_plans_for_memory),
        cmocka_unit_test(bind__gives_up_idle_plans_for_memory),
        cmocka_unit_test(fork__child_has_the_lock),
        cmocka_unit_test(spares__up_to_the_limit),
    };
    setenv("EPX_ARENA_MIB", "32", 1);
    return cmocka_run_group_tests(tests, setup, teardown);
}
