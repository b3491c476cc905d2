/* What the hccl functions take from the environment and from a program's configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cann/exports_acl.h"
#include "cann/exports_hccl.h"
#include "cann/hccl_state.h"

#include <stdlib.h>
#include <string.h>

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

#define SUPERPOD_ID_127                                                                                                \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"             \
    "012345678901234567890123456"

static void environment__illegal_values(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *value;
        HcclResult result;
    } cases[] = {
        {"HCCL_BUFFSIZE", "0", HCCL_E_PARA},
        {"HCCL_BUFFSIZE", "12x", HCCL_E_PARA},
        {"HCCL_BUFFSIZE", "12345678901", HCCL_E_PARA},
        {"HCCL_BUFFSIZE", "1", HCCL_SUCCESS},
        {"HCCL_CONNECT_TIMEOUT", "119", HCCL_E_PARA},
        {"HCCL_CONNECT_TIMEOUT", "7201", HCCL_E_PARA},
        {"HCCL_EXEC_TIMEOUT", "2147483648", HCCL_E_PARA},
        {"HCCL_EXEC_TIMEOUT", "-1", HCCL_E_PARA},
        {"HCCL_EXEC_TIMEOUT", "0", HCCL_SUCCESS},
        {"HCCL_DETERMINISTIC", "maybe", HCCL_E_PARA},
        {"HCCL_DETERMINISTIC", "strict", HCCL_SUCCESS},
        {"HCCL_INTRA_PCIE_ENABLE", "2", HCCL_E_PARA},
        {"HCCL_INTRA_ROCE_ENABLE", "yes", HCCL_E_PARA},
        {"HCCL_IF_IP", "300.1.1.1", HCCL_E_PARA},
        {"HCCL_IF_IP", "::1", HCCL_SUCCESS},
        {"HCCL_IF_BASE_PORT", "1023", HCCL_E_PARA},
        {"HCCL_IF_BASE_PORT", "65521", HCCL_E_PARA},
        {"HCCL_SOCKET_FAMILY", "INET", HCCL_E_PARA},
        {"HCCL_SOCKET_FAMILY", "AF_INET6", HCCL_SUCCESS},
        {"HCCL_HOST_SOCKET_PORT_RANGE", "60000-59999", HCCL_E_PARA},
        {"HCCL_HOST_SOCKET_PORT_RANGE", "60000-60010,60010", HCCL_E_PARA},
        {"HCCL_HOST_SOCKET_PORT_RANGE", "60000,60050-60100", HCCL_SUCCESS},
        {"HCCL_HOST_SOCKET_PORT_RANGE", "auto", HCCL_SUCCESS},
        {"HCCL_NPU_SOCKET_PORT_RANGE", "0", HCCL_E_PARA},
        {"HCCL_NPU_SOCKET_PORT_RANGE", "1,,2", HCCL_E_PARA},
        {"HCCL_WHITELIST_DISABLE", "2", HCCL_E_PARA},
        {"HCCL_DFS_CONFIG", "connection_fault_detection_time:19", HCCL_E_PARA},
        {"HCCL_DFS_CONFIG", "cluster_heartbeat:perhaps", HCCL_E_PARA},
        {"HCCL_DFS_CONFIG", "heart:on", HCCL_E_PARA},
        {"HCCL_DFS_CONFIG", "cluster_heartbeat:on, inconsistent_check:first", HCCL_SUCCESS},
        {"HCCL_INTER_HCCS_DISABLE", "1", HCCL_E_PARA},
        {"HCCL_INTER_HCCS_DISABLE", "FALSE", HCCL_SUCCESS},
        {"HCCL_ENTRY_LOG_ENABLE", "on", HCCL_E_PARA},
        {"HCCL_ENTRY_LOG_ENABLE", "1", HCCL_SUCCESS},
        {"HCCL_DIAGNOSE_ENABLE", "-1", HCCL_E_PARA},
        {"HCCL_OP_RETRY_ENABLE", "L0:0,L1:2,L2:0", HCCL_E_PARA},
        {"HCCL_OP_RETRY_ENABLE", "L3:0", HCCL_E_PARA},
        {"HCCL_OP_RETRY_ENABLE", "1", HCCL_E_PARA},
        {"HCCL_OP_RETRY_ENABLE", "L0:0, L1:1, L2:1", HCCL_SUCCESS},
        {"HCCL_LOGIC_SUPERPOD_ID", SUPERPOD_ID_127 "x", HCCL_E_PARA},
        {"HCCL_LOGIC_SUPERPOD_ID", SUPERPOD_ID_127, HCCL_SUCCESS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t device = 0;
        HcclComm comm = NULL;
        setenv(cases[i].name, cases[i].value, 1);
        HcclResult result = epx_cann_HcclCommInitAll(1, &device, &comm);
        unsetenv(cases[i].name);
        if (result != cases[i].result) {
            fail_msg("%s=%s gave %d, not %d", cases[i].name, cases[i].value, (int)result, (int)cases[i].result);
        }
        if (result == HCCL_SUCCESS) {
            assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
        } else {
            assert_message(cases[i].name);
        }
    }
}

/* The list of addresses is read when it is switched on, and only then. */
static void environment__whitelist_file(void **state)
{
    (void)state;
    int32_t device = 0;
    HcclComm comm = NULL;
    setenv("HCCL_WHITELIST_FILE", "/nonexistent/list.json", 1);
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    setenv("HCCL_WHITELIST_DISABLE", "0", 1);
    assert_int_equal(epx_cann_HcclCommInitAll(1, &device, &comm), HCCL_E_PARA);
    assert_message("HCCL_WHITELIST_FILE");
    unsetenv("HCCL_WHITELIST_FILE");
    unsetenv("HCCL_WHITELIST_DISABLE");
}

static HcclResult init_with(HcclCommConfig *config, HcclComm *comm)
{
    HcclRootInfo root;
    assert_int_equal(epx_cann_HcclGetRootInfo(&root), HCCL_SUCCESS);
    return epx_cann_HcclCommInitRootInfoConfig(1, &root, 0, config, comm);
}

static void config__rules(void **state)
{
    (void)state;
    HcclCommConfig config;
    HcclComm comm = NULL;
    memset(&config, 0, sizeof config);
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    assert_message("magic");
    HcclCommConfigInit(&config);
    config.hcclBufferSize = 0;
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    assert_message("hcclBufferSize is 0");
    HcclCommConfigInit(&config);
    config.hcclDeterministic = 3;
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    HcclCommConfigInit(&config);
    config.aclGraphZeroCopyEnable = 2;
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    HcclCommConfigInit(&config);
    config.hcclExecTimeOut = -5;
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    HcclCommConfigInit(&config);
    memset(config.hcclCommName, 'n', sizeof config.hcclCommName);
    assert_int_equal(init_with(&config, &comm), HCCL_E_PARA);
    assert_message("hcclCommName");
    assert_null(comm);
}

static void config__fields_count_from_their_version(void **state)
{
    (void)state;
    HcclCommConfig config;
    HcclCommConfigHead head;
    HcclComm comm = NULL;
    char name[COMM_NAME_MAX_LENGTH];
    HcclCommConfigInit(&config);
    memcpy(&head, config.reserved, sizeof head);
    head.version = 1;
    memcpy(config.reserved, &head, sizeof head);
    config.aclGraphZeroCopyEnable = 9;
    memcpy(config.hcclCommName, "unheard", 8);
    assert_int_equal(init_with(&config, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_string_not_equal(name, "unheard");
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
}

static void config__name_and_buffer_size(void **state)
{
    (void)state;
    HcclCommConfig config;
    HcclComm comm;
    HcclComm second = NULL;
    char name[COMM_NAME_MAX_LENGTH];
    const struct epx_cann_comm *held;
    HcclCommConfigInit(&config);
    memcpy(config.hcclCommName, "mine", 5);
    config.hcclBufferSize = 77;
    assert_int_equal(init_with(&config, &comm), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclGetCommName(comm, name), HCCL_SUCCESS);
    assert_string_equal(name, "mine");
    assert_int_equal(epx_cann_comm_acquire("groupEp", "mine", 0, &held), EPX_OK);
    assert_int_equal(held->buffer_mib, 77);
    epx_cann_comm_release(held);
    assert_int_equal(init_with(&config, &second), HCCL_E_PARA);
    assert_message("'mine'");
    assert_null(second);
    assert_int_equal(epx_cann_HcclCommDestroy(comm), HCCL_SUCCESS);
    assert_int_equal(init_with(&config, &second), HCCL_SUCCESS);
    assert_int_equal(epx_cann_HcclCommDestroy(second), HCCL_SUCCESS);
}

static void set_config__range(void **state)
{
    (void)state;
    HcclConfigValue value = {.value = 2};
    assert_int_equal(epx_cann_HcclSetConfig(HCCL_DETERMINISTIC, value), HCCL_SUCCESS);
    value.value = 0;
    assert_int_equal(epx_cann_HcclGetConfig(HCCL_DETERMINISTIC, &value), HCCL_SUCCESS);
    assert_int_equal(value.value, 2);
    assert_int_equal(epx_cann_HcclGetConfig(HCCL_DETERMINISTIC, NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_HcclGetConfig(HCCL_CONFIG_RESERVED, &value), HCCL_E_PARA);
    value.value = 3;
    assert_int_equal(epx_cann_HcclSetConfig(HCCL_DETERMINISTIC, value), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclSetConfig(HCCL_CONFIG_RESERVED, value), HCCL_E_PARA);
    assert_int_equal(epx_cann_HcclGetCommConfigCapability(), HCCL_COMM_CONFIG_RESERVED);
}

static void error_string__every_code(void **state)
{
    (void)state;
    assert_string_equal(epx_cann_HcclGetErrorString(HCCL_SUCCESS), "no error");
    assert_string_equal(epx_cann_HcclGetErrorString(HCCL_E_PARA), "parameter error");
    assert_string_equal(epx_cann_HcclGetErrorString(HCCL_E_TIMEOUT), "timeout");
    for (int code = 0; code <= HCCL_E_OOM; code++) {
        assert_string_not_equal(epx_cann_HcclGetErrorString((HcclResult)code), "unknown error");
    }
    assert_string_equal(epx_cann_HcclGetErrorString((HcclResult)99999), "unknown error");
    assert_string_equal(epx_cann_HcclGetErrorString((HcclResult)-1), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment__illegal_values),
        cmocka_unit_test(environment__whitelist_file),
        cmocka_unit_test(config__rules),
        cmocka_unit_test(config__fields_count_from_their_version),
        cmocka_unit_test(config__name_and_buffer_size),
        cmocka_unit_test(set_config__range),
        cmocka_unit_test(error_string__every_code),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
