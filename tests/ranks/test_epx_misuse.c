/* Door 1 used wrongly: a status each, and nothing spoiled. */
#include "ranks/epx_door.h"

#include <sys/wait.h>
#include <unistd.h>

static void misuse__null_and_garbage(void **state)
{
    struct epx_communicator *comm = NULL;
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_token token = {{0}};
    struct epx_request *request = NULL;
    uint64_t garbage[64];
    (void)state;
    memset(garbage, 0xA5, sizeof garbage);
    assert_int_equal(epx_comm_create_local(2, NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_local(0, NULL, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_create_from_table(NULL, 0, NULL, &comm), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_from_table("/nonexistent.json", 0, NULL, &comm), EPX_ERR_FILE);
    assert_int_equal(epx_comm_create_from_token(NULL, 1, 0, NULL, &comm), EPX_ERR_NULL);
    assert_int_equal(epx_comm_create_from_token(&token, 1, 1, NULL, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_create_from_env(NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_token_create(NULL), EPX_ERR_NULL);
    config.struct_bytes = 0;
    assert_int_equal(epx_comm_create_local(1, &config, &comm), EPX_ERR_INVALID);
    config.struct_bytes = sizeof config;
    config.op_timeout_ms = -2;
    assert_int_equal(epx_comm_create_local(1, &config, &comm), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_destroy(NULL), EPX_OK);
    assert_int_equal(epx_comm_destroy((struct epx_communicator *)garbage), EPX_ERR_INVALID);
    assert_int_equal(epx_memory_alloc(1, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_memory_free(NULL), EPX_OK);
    assert_int_equal(epx_memory_free(garbage), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_wait(NULL, 0), EPX_ERR_NULL);
    assert_int_equal(epx_wait(&request, 0), EPX_ERR_NULL);
    request = (struct epx_request *)garbage;
    assert_int_equal(epx_wait(&request, 0), EPX_ERR_INVALID);
    assert_ptr_equal(request, garbage);
    assert_int_equal(epx_dispatch(NULL, NULL), EPX_ERR_NULL);
    assert_int_equal(epx_combine((struct epx_plan *)garbage, NULL), EPX_ERR_INVALID);
    assert_int_equal(epx_plan_stats(NULL, NULL), EPX_ERR_NULL);
    epx_plan_destroy(NULL);
    epx_plan_print(NULL, stderr);
    assert_int_equal(epx_comm_size_of(NULL), 0);
}

/* A struct of a later version: longer, with nothing set in what is new here, and then with something. */
static void misuse__versions_of_structs(void **state)
{
    struct {
        struct epx_moe_config config;
        uint64_t later;
    } longer = {.config = golden_config()};
    struct epx_communicator *comm;
    struct epx_plan *plan;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    longer.config.struct_bytes = sizeof longer;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_OK);
    epx_plan_destroy(plan);
    longer.later = 1;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_last_error(), "struct_bytes"));
    longer.config.struct_bytes = 8;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    longer.config.struct_bytes = SIZE_MAX;
    assert_int_equal(epx_plan_create(comm, &longer.config, &plan), EPX_ERR_INVALID);
    assert_int_equal(epx_plan_create(comm, NULL, &plan), EPX_ERR_NULL);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

static void misuse__plan_configs(void **state)
{
    struct epx_communicator *comm;
    struct epx_plan *plan = NULL;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    const struct {
        size_t offset;
        int64_t value;
        enum epx_status status;
    } cases[] = {
        {offsetof(struct epx_moe_config, expert_count), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, expert_count), INT64_MAX, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, hidden_elems), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, hidden_elems), -5, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, topk), 5, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, topk), 0, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, shared_rank_count), 1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, shared_rank_count), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, token_max), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, token_max), INT64_MAX, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, recv_row_max), -1, EPX_ERR_INVALID},
        {offsetof(struct epx_moe_config, recv_row_max), INT64_MAX, EPX_ERR_SHAPE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct epx_moe_config config = golden_config();
        memcpy((char *)&config + cases[i].offset, &cases[i].value, sizeof cases[i].value);
        assert_int_equal(epx_plan_create(comm, &config, &plan), cases[i].status);
        assert_null(plan);
    }
    struct epx_moe_config smooth = golden_config();
    smooth.smooth_scales = 1;
    assert_int_equal(epx_plan_create(comm, &smooth, &plan), EPX_ERR_INVALID);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

static void misuse__args_and_order(void **state)
{
    struct epx_communicator *comm;
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct golden golden;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    assert_int_equal(epx_plan_create(comm, &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    args.x = NULL;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_NULL);
    assert_string_equal(epx_last_error(), "x is null");
    args = golden_dispatch_args(&golden);
    args.token_count = GOLDEN_TOKENS + 1;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_INVALID);
    args = golden_dispatch_args(&golden);
    args.expand_x = golden.x;
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_last_error(), "expandX overlaps x"));
    /* Nothing of that has spoiled the communicator. */
    args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch(plan, &args), EPX_OK);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
    assert_int_equal(epx_dispatch(plan, &args), EPX_ERR_STATE);
    epx_plan_destroy(plan);
}

static void misuse__destroy_while_running(void **state)
{
    struct epx_communicator *comms[2];
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *request;
    struct golden golden;
    (void)state;
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    assert_int_equal(epx_plan_create(comms[0], &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch_start(plan, &args, &request), EPX_OK);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_ERR_STATE);
    assert_int_equal(epx_wait(&request, 50), EPX_ERR_TIMEOUT);
    assert_non_null(strstr(epx_last_error(), "rank 1"));
    /* Its peer goes without having come. */
    assert_int_equal(epx_comm_destroy(comms[1]), EPX_OK);
    assert_int_equal(epx_wait(&request, -1), EPX_ERR_PEER_LEFT);
    assert_null(request);
    epx_plan_destroy(plan);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_OK);
}

/* The operation's own deadline and the wait's have the same status; what is left of the request tells them apart. */
static void wait__two_deadlines(void **state)
{
    struct epx_comm_config comm_config = EPX_COMM_CONFIG_INIT;
    struct epx_communicator *comms[2];
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *request;
    struct golden golden;
    (void)state;
    comm_config.op_timeout_ms = 200;
    assert_int_equal(epx_comm_create_local(2, &comm_config, comms), EPX_OK);
    assert_int_equal(epx_plan_create(comms[0], &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch_start(plan, &args, &request), EPX_OK);
    assert_int_equal(epx_wait(&request, 0), EPX_ERR_TIMEOUT);
    assert_non_null(request);
    assert_int_equal(epx_wait(&request, 60000), EPX_ERR_TIMEOUT);
    assert_null(request);
    epx_plan_destroy(plan);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(epx_comm_destroy(comms[i]), EPX_OK);
    }
}

/* A request that has not finished at the fork: the child is told so, and does not wait for what it has not got. */
static void fork__child_waits_for_nothing(void **state)
{
    struct epx_communicator *comms[2];
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct epx_request *request;
    struct golden golden;
    int code;
    (void)state;
    assert_int_equal(epx_comm_create_local(2, NULL, comms), EPX_OK);
    assert_int_equal(epx_plan_create(comms[0], &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    assert_int_equal(epx_dispatch_start(plan, &args, &request), EPX_OK);
    assert_int_equal(epx_wait(&request, 10), EPX_ERR_TIMEOUT);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(epx_wait(&request, 100) == EPX_ERR_STATE && epx_wait(&request, -1) == EPX_ERR_STATE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    assert_int_equal(epx_comm_destroy(comms[1]), EPX_OK);
    assert_int_equal(epx_wait(&request, -1), EPX_ERR_PEER_LEFT);
    epx_plan_destroy(plan);
    assert_int_equal(epx_comm_destroy(comms[0]), EPX_OK);
}

static void fork__child_has_no_communicator(void **state)
{
    struct epx_communicator *comm;
    struct epx_moe_config config = golden_config();
    struct epx_plan *plan;
    struct golden golden;
    int code;
    (void)state;
    assert_int_equal(epx_comm_create_local(1, NULL, &comm), EPX_OK);
    assert_int_equal(epx_plan_create(comm, &config, &plan), EPX_OK);
    golden_fill(&golden, 0);
    struct epx_dispatch_args args = golden_dispatch_args(&golden);
    pid_t child = fork();
    if (child == 0) {
        _exit(epx_dispatch(plan, &args) == EPX_ERR_STATE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    assert_int_equal(epx_dispatch(plan, &args), EPX_OK);
    epx_plan_destroy(plan);
    assert_int_equal(epx_comm_destroy(comm), EPX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse__null_and_garbage),      cmocka_unit_test(misuse__versions_of_structs),
        cmocka_unit_test(misuse__plan_configs),          cmocka_unit_test(misuse__args_and_order),
        cmocka_unit_test(misuse__destroy_while_running), cmocka_unit_test(fork__child_has_no_communicator),
        cmocka_unit_test(wait__two_deadlines),           cmocka_unit_test(fork__child_waits_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
