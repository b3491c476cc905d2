/* The hccl functions: what each returns for good and bad arguments, and how communicators are found and end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cann/collective.h"
#include "cann/exports_acl.h"
#include "cann/exports_hccl.h"
#include "cann/hccl_state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GARBAGE ((HcclComm)(uintptr_t)0xdeadbeef)

static char table_path[] = "/tmp/epx-test-hccl-XXXXXX.json";

static void write_table(const char *text)
{
    FILE *file = fopen(table_path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A table of one server whose rank r has device first_device + r. */
static void write_one_server(int rank_count, int first_device)
{
    char text[4096];
    int used = snprintf(text, sizeof text,
                        "{\"status\":\"completed\",\"version\":\"1.0\",\"server_count\":\"1\",\"server_list\":[{"
                        "\"server_id\":\"s0\",\"device\":[");
    for (int r = 0; r < rank_count; r++) {
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "%s{\"device_id\":\"%d\",\"rank_id\":\"%d\",\"device_ip\":\"\"}", r ? "," : "",
                         first_device + r, r);
    }
    snprintf(text + used, sizeof text - (size_t)used, "]}]}");
    write_table(text);
}

static void assert_message(const char *fragment)
{
    const char *message = epx_cann_aclGetRecentErrMsg();
    assert_non_null(message);
    if (!strstr(message, fragment)) {
        fail_msg("message '%s' does not contain '%s'", message, fragment);
    }
}

static int setup(void **state)
{
    (void)state;
    setenv("EPX_JOIN_TIMEOUT", "2000", 1);
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
    return 0;
}

static HcclComm one_rank(void)
{
    int32_t device = 0;
    HcclComm comm = NULL;
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &comm), HCCL_SUCCESS);
    return comm;
}

/* ---- Creation ---------------------------------------------------------------------------------------------------- */

static void init_all__gives_ranks_in_order(void **state)
{
    (void)state;
    int32_t devices[4] = {3, 1, 2, 0};
    HcclComm comms[4];
    char names[4][COMM_NAME_MAX_LENGTH];
    assert_int_equal(epx_cann_HcclCommInitAll(4, devices, comms), HCCL_SUCCESS);
    for (uint32_t r = 0; r < 4; r++) {
        uint32_t rank;
        uint32_t size;
        assert_int_equal(epx_cann_HcclGetRankId(comms[r], &rank), HCCL_SUCCESS);
        assert_int_equal(epx_cann_HcclGetRankSize(comms[r], &size), HCCL_SUCCESS);
        assert_int_equal(epx_cann_HcclGetCommName(comms[r], names[r]), HCCL_SUCCESS);
        assert_int_equal(rank, r);
        assert_int_equal(size, 4);
        assert_string_equal(names[r], names[0]);
    }
    HcclComm found;
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(names[0], &found), HCCL_SUCCESS);
    assert_ptr_equal(found, comms[3]); /* the current device is 0 */
    for (uint32_t r = 0; r < 4; r++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[r]), HCCL_SUCCESS);
    }
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(names[0], &found), HCCL_E_NOT_FOUND);
}

static void init_all__refuses(void **state)
{
    (void)state;
    int32_t same[2] = {1, 1};
    int32_t outside[2] = {0, 4096};
    int32_t negative[1] = {-1};
    HcclComm comms[2] = {GARBAGE, GARBAGE};
    assert_int_equal(epx_cann_HcclCommInitAll(2, NULL, comms), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitAll(2, same, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitAll(0, same, comms), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommInitAll(2, same, comms), HCCL_E_PARA);
    assert_message("devices[0] and devices[1] are both 1");
    assert_null(comms[0]);
    assert_null(comms[1]);
    assert_int_equal(epx_cann_HcclCommInitAll(2, outside, comms), HCCL_E_PARA);
    assert_message("devices[1] is 4096");
    assert_int_equal(epx_cann_HcclCommInitAll(1, negative, comms), HCCL_E_PARA);
}

static void *without_device(void *context)
{
    int32_t device = 0;
    HcclComm comm;
    HcclRootInfo root;
    HcclResult *results = context;
    results[0] = epx_cann_HcclCommInitAll(1, &device, &comm);
    results[1] = epx_cann_HcclGetRootInfo(&root);
    results[2] = epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm);
    results[3] = epx_cann_HcclCommGetHandleWithName("x", &comm);
    return NULL;
}

static void creation__needs_a_current_device(void **state)
{
    (void)state;
    HcclResult results[4];
    pthread_t thread;
    write_one_server(1, 0);
    pthread_create(&thread, NULL, without_device, results);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(results[i], HCCL_E_RUNTIME);
    }
}

static void root_info__refuses(void **state)
{
    (void)state;
    HcclRootInfo root;
    HcclRootInfo other;
    HcclComm comm = NULL;
    assert_int_equal(epx_cann_HcclGetRootInfo(NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetRootInfo(&other), HCCL_SUCCESS);
    assert_memory_not_equal(&root, &other, sizeof root);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, NULL, 0, &comm), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &root, 0, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(0, &root, 0, &comm), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(2, &root, 2, &comm), HCCL_E_PARA);
    assert_message("rank is 2, must be in [0, 2)");
    for (size_t i = 0; i < 200; i += 13) { /* inside magic, version, key, name and checksum alike */
        other = root;
        other.internal[i] ^= 1;
        assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &other, 0, &comm), HCCL_E_PARA);
        assert_message("rootInfo");
    }
    memset(&other, 0xff, sizeof other);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &other, 0, &comm), HCCL_E_PARA);
    assert_null(comm);
}

static void root_info__name_carries_address_port_device(void **state)
{
    (void)state;
    HcclRootInfo root;
    HcclComm comm;
    char name[COMM_NAME_MAX_LENGTH];
    setenv("HCCL_IF_IP", "10.1.2.3", 1);
    setenv("HCCL_IF_BASE_PORT", "50000", 1);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    unsetenv("HCCL_IF_IP");
    unsetenv("HCCL_IF_BASE_PORT");
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &root, 0, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_memory_equal(name, "10.1.2.3_50000_0_", 17);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

/* The information says where its ranks meet, whatever their own environment says; a world of one process needs none. */
static void root_info__carries_the_place(void **state)
{
    (void)state;
    HcclRootInfo root;
    HcclComm comm;
    int32_t device = 0;
    char name[COMM_NAME_MAX_LENGTH];
    setenv("EPX_ROOT", "127.0.0.1:41234-41265", 1);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    setenv("EPX_ROOT", "240.0.0.1:1", 1);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &root, 0, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_memory_equal(name, "127.0.0.1_41234_0_", 18);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    unsetenv("EPX_ROOT");
    assert_int_not_equal(epx_cann_HcclCommInitRootInfo(1, &root, 0, &comm), HCCL_SUCCESS);
    assert_message("cannot listen at 240.0.0.1");
    setenv("EPX_ROOT", "nowhere", 1);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_E_PARA);
    assert_message("EPX_ROOT");
    unsetenv("EPX_ROOT");
}

static void root_info__absent_peer_times_out(void **state)
{
    (void)state;
    HcclRootInfo root;
    HcclComm comm = NULL;
    setenv("EPX_JOIN_TIMEOUT", "100", 1);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(2, &root, 0, &comm), HCCL_E_TIMEOUT);
    assert_message("1");
    assert_null(comm);
    setenv("EPX_JOIN_TIMEOUT", "2000", 1);
}

static void cluster_info__refuses(void **state)
{
    (void)state;
    HcclComm comm = NULL;
    write_one_server(2, 0);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(NULL, 0, &comm), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitClusterInfoConfig(table_path, 0, NULL, &comm), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo("/nonexistent/table.json", 0, &comm), HCCL_E_INTERNAL);
    assert_message("/nonexistent/table.json");
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 2, &comm), HCCL_E_PARA);
    assert_message("rank is 2");
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 1, &comm), HCCL_E_UNAVAIL);
    assert_message("gives rank 1 device 1, the current device is 0");
    write_table("{\"status\":\"completed\",");
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_E_INTERNAL);
    write_table("{\"status\":\"completed\",\"version\":\"9.9\",\"server_list\":[]}");
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_E_INTERNAL);
    assert_null(comm);
}

static void cluster_info__device_range_of_the_product(void **state)
{
    (void)state;
    HcclComm comm = NULL;
    setenv("EPX_DEVICE_COUNT", "4", 1);
    write_one_server(5, 0);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_E_INTERNAL);
    assert_message("device_id of rank 4 is 4, must be in [0, 3]");
    setenv("EPX_DEVICE_COUNT", "64", 1);
    setenv("EPX_PRODUCT", "A2", 1);
    write_one_server(17, 0);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_E_INTERNAL);
    assert_message("device_id of rank 16 is 16, must be in [0, 15]");
    unsetenv("EPX_PRODUCT");
    unsetenv("EPX_DEVICE_COUNT");
    assert_null(comm);
}

/* Programs count the devices that they see; a rank table, and a root's name, those of the machine. */
static void cluster_info__visible_devices_keep_their_number(void **state)
{
    (void)state;
    HcclRootInfo root;
    HcclComm comm = NULL;
    char name[COMM_NAME_MAX_LENGTH];
    setenv("ASCEND_RT_VISIBLE_DEVICES", "2,5", 1);
    assert_int_equal(epx_cann_aclrtSetDevice(1), ACL_SUCCESS);
    write_one_server(1, 1);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_E_UNAVAIL);
    assert_message("gives rank 0 device 1, the current device is 1, number 5 of ASCEND_RT_VISIBLE_DEVICES");
    write_one_server(1, 5);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitRootInfo(1, &root, 0, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_memory_equal(name, "127.0.0.1_60000_5_", 18);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtResetDevice(1), ACL_SUCCESS);
    unsetenv("ASCEND_RT_VISIBLE_DEVICES");
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
}

static void cluster_info__one_table_many_times(void **state)
{
    (void)state;
    HcclComm first;
    HcclComm second;
    char name[COMM_NAME_MAX_LENGTH];
    const struct epx_cann_comm *held;
    write_one_server(1, 0);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &first), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommInitClusterInfo(table_path, 0, &second), HCCL_SUCCESS);
    assert_ptr_not_equal(first, second);
    assert_int_equal(epx_cann_HcclGetCommName(second, name), HCCL_SUCCESS);
    assert_string_equal(name, "hccl_world_group");
    /* The newest of a name is meant; the other one after it. */
    HcclComm found;
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(name, &found), HCCL_SUCCESS);
    assert_ptr_equal(found, second);
    assert_int_equal(epx_cann_HcclCommDestroy(second), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(name, &found), HCCL_SUCCESS);
    assert_ptr_equal(found, first);
    assert_int_equal(epx_cann_comm_acquire("groupEp", name, 0, &held), EPX_OK);
    assert_int_equal(epx_cann_HcclCommDestroy(first), HCCL_E_AGAIN);
    epx_cann_comm_release(held);
    assert_int_equal(epx_cann_HcclCommDestroy(first), HCCL_SUCCESS);
    assert_int_equal(epx_cann_comm_acquire("groupEp", name, 0, &held), EPX_ERR_NOT_FOUND);
}

/* ---- Queries and the end ----------------------------------------------------------------------------------------- */

static void queries__refuse(void **state)
{
    (void)state;
    uint32_t number;
    char name[COMM_NAME_MAX_LENGTH];
    HcclResult result;
    HcclCommStatus status;
    HcclComm comm = one_rank();
    assert_int_equal(epx_cann_HcclGetRankId(NULL, &number), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetRankId(comm, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetRankId(GARBAGE, &number), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclGetRankSize(NULL, &number), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetRankSize(comm, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetRankSize(GARBAGE, &number), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclGetCommName(NULL, name), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetCommName(comm, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetCommName(GARBAGE, name), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclGetCommAsyncError(comm, &result), HCCL_SUCCESS);
    assert_int_equal(result, HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommAsyncError(comm, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetCommAsyncError(GARBAGE, &result), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommGetStatus(comm, &status), HCCL_SUCCESS);
    assert_int_equal(status, HCCL_COMM_STATUS_READY);
    assert_int_equal(epx_cann_HcclCommGetStatus(NULL, &status), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommGetStatus(comm, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(NULL, &comm), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommGetHandleWithName("nobody", NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

static void destroy__any_pointer(void **state)
{
    (void)state;
    char memory[64] = "no communicator";
    HcclComm comm = one_rank();
    assert_int_equal(epx_cann_HcclCommDestroy(NULL), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(GARBAGE), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommDestroy(memory), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommDestroy((HcclComm)(uintptr_t)1), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_E_PARA);
    HcclComm next = one_rank();
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_E_PARA); /* not the one made since */
    assert_int_equal(epx_cann_HcclCommDestroy(next), HCCL_SUCCESS);
}

static void fork__child_has_no_communicators(void **state)
{
    (void)state;
    HcclComm comm = one_rank();
    pid_t child = fork();
    if (child == 0) {
        uint32_t rank;
        const bool right =
            epx_cann_HcclGetRankId(comm, &rank) == HCCL_E_PARA && epx_cann_HcclCommDestroy(comm) == HCCL_E_PARA;
        _exit(right ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    uint32_t rank;
    assert_int_equal(epx_cann_HcclGetRankId(comm, &rank), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

/* One barrier in a world of its own; the process's exit code. */
static int begin_anew(void)
{
    int32_t device = 0;
    HcclComm comm = NULL;
    aclrtStream stream = NULL;
    alarm(10); /* a lock that nobody will open */
    const bool right =
        epx_cann_aclrtSetDevice(0) == ACL_SUCCESS && epx_cann_HcclCommInitAll(1, &device, &comm) == HCCL_SUCCESS &&
        epx_cann_aclrtCreateStream(&stream) == ACL_SUCCESS && epx_cann_HcclBarrier(comm, stream) == HCCL_SUCCESS &&
        epx_cann_aclrtSynchronizeStream(stream) == ACL_SUCCESS && epx_cann_HcclCommDestroy(comm) == HCCL_SUCCESS;
    return right ? 0 : 1;
}

static void reserve_and_fork(void *context)
{
    pid_t *child = context;
    *child = fork();
    if (*child == 0) {
        _exit(begin_anew());
    }
}

static bool run_nothing(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    (void)context;
    *status = EPX_OK;
    return true;
}

static void finish_nothing(void *context)
{
    (void)context;
}

/* A fork comes at any moment, also while an operation is being queued. */
static void fork__while_an_operation_is_queued(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("SKIPPED: the sanitizer starts no thread in the child of a process with threads\n");
    skip();
#endif
    pid_t child = -1;
    int status = -1;
    bool taken = false;
    HcclComm comm = one_rank();
    char name[COMM_NAME_MAX_LENGTH];
    struct epx_cann_collective collective = {
        .context = &child, .reserve = reserve_and_fork, .run = run_nothing, .finish = finish_nothing};
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_int_equal(epx_cann_comm_acquire("groupEp", name, 0, &collective.comm), EPX_OK);
    assert_int_equal(epx_cann_collective_submit(NULL, &collective, &taken), EPX_OK);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(NULL), ACL_SUCCESS);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

/* ---- Barrier ----------------------------------------------------------------------------------------------------- */

static void barrier__queues_and_completes(void **state)
{
    (void)state;
    int32_t devices[2] = {0, 1};
    HcclComm comms[2];
    aclrtStream streams[2];
    assert_int_equal(epx_cann_HcclCommInitAll(2, devices, comms), HCCL_SUCCESS);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(epx_cann_aclrtSetDevice(devices[r]), ACL_SUCCESS);
        assert_int_equal(epx_cann_aclrtCreateStream(&streams[r]), ACL_SUCCESS);
    }
    assert_int_equal(epx_cann_HcclBarrier(NULL, streams[0]), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclBarrier(comms[0], NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclBarrier(GARBAGE, streams[0]), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclBarrier(comms[0], (aclrtStream)(uintptr_t)0x1234), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclBarrier(comms[0], streams[1]), HCCL_E_PARA);
    assert_message("device 1");
    for (int i = 0; i < 3; i++) {
        /* One thread drives both: queueing must not wait for the other rank. */
        assert_int_equal(epx_cann_HcclBarrier(comms[0], streams[0]), HCCL_SUCCESS);
        assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(streams[0], 30), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
        assert_int_equal(epx_cann_HcclCommDestroy(comms[0]), HCCL_E_AGAIN);
        assert_int_equal(epx_cann_HcclBarrier(comms[1], streams[1]), HCCL_SUCCESS);
        assert_int_equal(epx_cann_aclrtSynchronizeStream(streams[0]), ACL_SUCCESS);
        assert_int_equal(epx_cann_aclrtSynchronizeStream(streams[1]), ACL_SUCCESS);
    }
    for (int r = 0; r < 2; r++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[r]), HCCL_SUCCESS);
        assert_int_equal(epx_cann_aclrtDestroyStream(streams[r]), ACL_SUCCESS);
    }
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
}

static void barrier__peer_that_left_is_an_error(void **state)
{
    (void)state;
    int32_t devices[2] = {0, 1};
    HcclComm comms[2];
    aclrtStream stream;
    HcclResult async_error;
    HcclCommStatus status;
    assert_int_equal(epx_cann_HcclCommInitAll(2, devices, comms), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comms[1]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclBarrier(comms[0], stream), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), ACL_ERROR_RT_SOCKET_CLOSE);
    assert_int_equal(epx_cann_HcclGetCommAsyncError(comms[0], &async_error), HCCL_SUCCESS);
    assert_int_equal(async_error, HCCL_E_REMOTE);
    assert_int_equal(epx_cann_HcclCommGetStatus(comms[0], &status), HCCL_SUCCESS);
    assert_int_equal(status, HCCL_COMM_STATUS_INVALID);
    assert_int_equal(epx_cann_HcclCommDestroy(comms[0]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), ACL_SUCCESS);
}

static void barrier__dropped_by_abort_tells_the_peer(void **state)
{
    (void)state;
    int32_t devices[2] = {0, 1};
    HcclComm comms[2];
    aclrtStream streams[2];
    assert_int_equal(epx_cann_HcclCommInitAll(2, devices, comms), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtCreateStream(&streams[0]), ACL_SUCCESS);
    assert_int_equal(epx_cann_aclrtSetDevice(1), ACL_SUCCESS);
    assert_int_equal(epx_cann_aclrtCreateStream(&streams[1]), ACL_SUCCESS);
    /* The first of rank 0 runs and waits, the second is dropped while it is queued. */
    assert_int_equal(epx_cann_HcclBarrier(comms[0], streams[0]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(streams[0], 50), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
    assert_int_equal(epx_cann_HcclBarrier(comms[0], streams[0]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtStreamAbort(streams[0]), ACL_SUCCESS);
    assert_int_equal(epx_cann_HcclBarrier(comms[1], streams[1]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclBarrier(comms[1], streams[1]), HCCL_SUCCESS);
    assert_int_not_equal(epx_cann_aclrtSynchronizeStream(streams[1]), ACL_SUCCESS);
    assert_message("rank 0: an operation was taken off its stream");
    assert_int_not_equal(epx_cann_aclrtSynchronizeStream(streams[0]), ACL_SUCCESS);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[r]), HCCL_SUCCESS);
        assert_int_equal(epx_cann_aclrtDestroyStream(streams[r]), ACL_SUCCESS);
    }
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
}

/* ---- Sub-communicators ------------------------------------------------------------------------------------------- */

struct sub_member {
    HcclComm parent;
    int32_t device;
    uint32_t sub_rank;
    HcclComm sub;
    HcclResult result;
};

static uint32_t odd_ranks[2] = {3, 1};

static void *make_sub(void *context)
{
    struct sub_member *member = context;
    HcclCommConfig config;
    HcclCommConfigInit(&config);
    epx_cann_aclrtSetDevice(member->device);
    const bool inside = member->sub_rank != UINT32_MAX;
    member->sub = GARBAGE;
    member->result =
        epx_cann_HcclCreateSubCommConfig(&member->parent, 2, inside ? odd_ranks : NULL, inside ? 5 : 0xFFFFFFFF,
                                         inside ? member->sub_rank : 0, &config, &member->sub);
    return NULL;
}

static void sub_comm__members_and_others(void **state)
{
    (void)state;
    int32_t devices[4] = {0, 1, 2, 3};
    HcclComm comms[4];
    struct sub_member members[4];
    pthread_t threads[4];
    char parent_name[COMM_NAME_MAX_LENGTH];
    char expected[COMM_NAME_MAX_LENGTH + 16];
    char name[COMM_NAME_MAX_LENGTH];
    assert_int_equal(epx_cann_HcclCommInitAll(4, devices, comms), HCCL_SUCCESS);
    for (uint32_t r = 0; r < 4; r++) {
        members[r] = (struct sub_member){.parent = comms[r],
                                         .device = devices[r],
                                         .sub_rank = r == 3   ? 0
                                                     : r == 1 ? 1
                                                              : UINT32_MAX};
        pthread_create(&threads[r], NULL, make_sub, &members[r]);
    }
    for (uint32_t r = 0; r < 4; r++) {
        pthread_join(threads[r], NULL);
        assert_int_equal(members[r].result, HCCL_SUCCESS);
    }
    assert_null(members[0].sub);
    assert_null(members[2].sub);
    epx_cann_HcclGetCommName(comms[0], parent_name);
    snprintf(expected, sizeof expected, "%s_sub_5", parent_name);
    for (uint32_t r = 1; r < 4; r += 2) {
        uint32_t rank;
        uint32_t size;
        assert_int_equal(epx_cann_HcclGetCommName(members[r].sub, name), HCCL_SUCCESS);
        assert_string_equal(name, expected);
        assert_int_equal(epx_cann_HcclGetRankId(members[r].sub, &rank), HCCL_SUCCESS);
        assert_int_equal(epx_cann_HcclGetRankSize(members[r].sub, &size), HCCL_SUCCESS);
        assert_int_equal(rank, members[r].sub_rank);
        assert_int_equal(size, 2);
    }
    make_sub(&members[1]); /* the same number again */
    assert_int_equal(members[1].result, HCCL_E_PARA);
    epx_cann_HcclCommDestroy(members[3].sub);
    for (uint32_t r = 0; r < 4; r++) {
        assert_int_equal(epx_cann_HcclCommDestroy(comms[r]), HCCL_SUCCESS);
    }
    assert_int_equal(epx_cann_HcclCommGetHandleWithName(expected, &comms[0]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comms[0]), HCCL_SUCCESS);
    assert_int_equal(epx_cann_aclrtSetDevice(0), ACL_SUCCESS);
}

static void sub_comm__refuses(void **state)
{
    (void)state;
    HcclComm comm = one_rank();
    HcclComm none = NULL;
    HcclComm garbage = GARBAGE;
    HcclComm sub = NULL;
    HcclComm second;
    uint32_t own[1] = {0};
    uint32_t outside[1] = {1};
    HcclCommConfig config;
    HcclCommConfigInit(&config);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(NULL, 1, own, 1, 0, &config, &sub), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&none, 1, own, 1, 0, &config, &sub), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, NULL, 1, 0, &config, &sub), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, own, 1, 0, NULL, &sub), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, own, 1, 0, &config, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&garbage, 1, own, 1, 0, &config, &sub), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 0, own, 1, 0, &config, &sub), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 2, own, 1, 0, &config, &sub), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, own, 1, 1, &config, &sub), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, outside, 1, 0, &config, &sub), HCCL_E_PARA);
    assert_message("rankIds[0] is 1");
    assert_null(sub);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&comm, 1, own, 1, 0, &config, &sub), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCreateSubCommConfig(&sub, 1, own, 2, 0, &config, &second), HCCL_E_PARA);
    assert_message("sub-communicator itself");
    assert_int_equal(epx_cann_HcclCommDestroy(sub), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_all__gives_ranks_in_order),
        cmocka_unit_test(init_all__refuses),
        cmocka_unit_test(creation__needs_a_current_device),
        cmocka_unit_test(root_info__refuses),
        cmocka_unit_test(root_info__name_carries_address_port_device),
        cmocka_unit_test(root_info__carries_the_place),
        cmocka_unit_test(root_info__absent_peer_times_out),
        cmocka_unit_test(cluster_info__refuses),
        cmocka_unit_test(cluster_info__device_range_of_the_product),
        cmocka_unit_test(cluster_info__visible_devices_keep_their_number),
        cmocka_unit_test(cluster_info__one_table_many_times),
        cmocka_unit_test(queries__refuse),
        cmocka_unit_test(destroy__any_pointer),
        cmocka_unit_test(fork__child_has_no_communicators),
        cmocka_unit_test(fork__while_an_operation_is_queued),
        cmocka_unit_test(barrier__queues_and_completes),
        cmocka_unit_test(barrier__peer_that_left_is_an_error),
        cmocka_unit_test(barrier__dropped_by_abort_tells_the_peer),
        cmocka_unit_test(sub_comm__members_and_others),
        cmocka_unit_test(sub_comm__refuses),
    };
    close(mkstemps(table_path, 5));
    int failed = cmocka_run_group_tests(tests, setup, NULL);
    unlink(table_path);
    return failed;
}
