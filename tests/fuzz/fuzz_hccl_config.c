/* Any bytes as the HCCL_ variables, lines of one letter, which chooses the variable, and its text, and what follows a
 * line that begins with ! as an HcclCommConfig: what a communicator is made with, or a refusal with a text. */
#include "cann/hccl_config.h"
#include "fuzz/fake_environment.h"
#include "hccl/hccl_comm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const names[] = {"HCCL_IF_IP",
                                    "HCCL_IF_BASE_PORT",
                                    "HCCL_SOCKET_FAMILY",
                                    "HCCL_HOST_SOCKET_PORT_RANGE",
                                    "HCCL_NPU_SOCKET_PORT_RANGE",
                                    "HCCL_WHITELIST_DISABLE",
                                    "HCCL_DFS_CONFIG",
                                    "HCCL_INTER_HCCS_DISABLE",
                                    "HCCL_LOGIC_SUPERPOD_ID",
                                    "HCCL_OP_RETRY_ENABLE",
                                    "HCCL_ENTRY_LOG_ENABLE",
                                    "HCCL_DIAGNOSE_ENABLE",
                                    "HCCL_CONNECT_TIMEOUT",
                                    "HCCL_EXEC_TIMEOUT",
                                    "HCCL_DETERMINISTIC",
                                    "HCCL_INTRA_PCIE_ENABLE",
                                    "HCCL_INTRA_ROCE_ENABLE",
                                    "HCCL_BUFFSIZE",
                                    "EPX_OP_TIMEOUT_MS",
                                    "EPX_JOIN_TIMEOUT_MS"};

#define NAMES    (sizeof names / sizeof names[0])
#define LINE_MAX 12

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* One with head and defaults, and then the bytes over it. */
static void config_make(HcclCommConfig *config, const uint8_t *data, size_t bytes)
{
    HcclCommConfigInit(config);
    memcpy(config, data, bytes < sizeof *config ? bytes : sizeof *config);
}

static void try_read(const HcclCommConfig *config)
{
    struct epx_hccl_choice choice;
    epx_error_text_set("");
    if (epx_hccl_choice_read(config, &choice) != EPX_OK) {
        require(epx_error_text()[0] != '\0');
        return;
    }
    require(memchr(choice.name, '\0', sizeof choice.name) != NULL);
    require(choice.buffer_mib > 0 && (choice.join_timeout_ms == -1 || choice.join_timeout_ms > 0));
    require(choice.op_timeout_ms == -1 || choice.op_timeout_ms > 0);
    require(epx_hccl_own_address()[0] != '\0' && epx_hccl_own_port() >= 1024 && epx_hccl_own_port() <= 65535);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *lines[LINE_MAX];
    size_t line_count = 0;
    HcclCommConfig config;
    bool has_config = false;
    for (size_t i = 0; i < NAMES; i++) {
        fake_environment_set(names[i], NULL);
    }
    fake_environment_set("HCCL_WHITELIST_FILE", NULL);
    while (bytes > 0 && line_count < LINE_MAX && !has_config) {
        char *line = fake_environment_line(&data, &bytes);
        lines[line_count++] = line;
        has_config = line[0] == '!';
        if (line[0] != '\0') {
            fake_environment_set(names[(uint8_t)(line[0] - 'a') % NAMES], line + 1);
        }
    }
    if (has_config) {
        config_make(&config, data, bytes);
    }
    try_read(has_config ? &config : NULL);
    fake_environment_forget();
    while (line_count > 0) {
        free(lines[--line_count]);
    }
    return 0;
}
