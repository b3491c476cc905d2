#include "cann/hccl_config.h"

#include "base/config.h"
#include "comm/whitelist.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BASE_PORT_DEFAULT 60000
#define PORT_MAX          65535
#define RANGES_MAX        64 /* entries of one port list */
#define LIST_TEXT_BYTES   1024
#define POD_NAME_BYTES    128

static const char *variable_text(const char *name)
{
    const char *text = getenv(name);
    return text && text[0] ? text : NULL;
}

static bool parse_decimal(const char *text, int64_t minimum, int64_t maximum, int64_t *value)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    const long long parsed = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || parsed < minimum || parsed > maximum) {
        return false;
    }
    *value = parsed;
    return true;
}

static bool is_address(const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static bool is_base_port(const char *text)
{
    int64_t port;
    return parse_decimal(text, 1024, 65520, &port);
}

static bool is_family(const char *text)
{
    return strcmp(text, "AF_INET") == 0 || strcmp(text, "AF_INET6") == 0;
}

static bool is_flag(const char *text)
{
    return strcmp(text, "0") == 0 || strcmp(text, "1") == 0;
}

static bool is_truth(const char *text)
{
    return strcasecmp(text, "TRUE") == 0 || strcasecmp(text, "FALSE") == 0;
}

static bool is_pod_name(const char *text)
{
    return strlen(text) < POD_NAME_BYTES;
}

static bool parse_port_range(char *item, int64_t *first, int64_t *last)
{
    char *dash = strchr(item, '-');
    if (dash) {
        *dash = '\0';
    }
    return parse_decimal(item, 1, PORT_MAX, first) && parse_decimal(dash ? dash + 1 : item, *first, PORT_MAX, last);
}

/* "auto", or ports and ranges of ports that do not overlap. */
static bool is_port_list(const char *text)
{
    char copy[LIST_TEXT_BYTES];
    int64_t first[RANGES_MAX];
    int64_t last[RANGES_MAX];
    size_t count = 0;
    if (strcmp(text, "auto") == 0) {
        return true;
    }
    if (strlen(text) >= sizeof copy) {
        return false;
    }
    strcpy(copy, text);
    char *rest = copy;
    for (char *item = strsep(&rest, ","); item; item = strsep(&rest, ",")) {
        if (count == RANGES_MAX || !parse_port_range(item, &first[count], &last[count])) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            if (first[i] <= last[count] && first[count] <= last[i]) {
                return false;
            }
        }
        count++;
    }
    return true;
}

static bool is_fault_setting(const char *key, const char *value)
{
    int64_t seconds;
    const bool is_switch = strcmp(value, "on") == 0 || strcmp(value, "off") == 0;
    if (strcmp(key, "connection_fault_detection_time") == 0) {
        return strcmp(value, "0") == 0 || parse_decimal(value, 20, 7200, &seconds);
    }
    if (strcmp(key, "inconsistent_check") == 0) {
        return is_switch || strcmp(value, "first") == 0;
    }
    return (strcmp(key, "cluster_heartbeat") == 0 || strcmp(key, "stuck_detection") == 0) && is_switch;
}

static char *trim(char *text)
{
    text += strspn(text, " ");
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == ' ') {
        text[--length] = '\0';
    }
    return text;
}

static bool is_retry_setting(const char *level, const char *value)
{
    return level[0] == 'L' && level[1] >= '0' && level[1] <= '2' && level[2] == '\0' && is_flag(value);
}

/* "key:value,key:value" with spaces around each. */
static bool is_setting_list(const char *text, bool (*is_setting)(const char *key, const char *value))
{
    char copy[LIST_TEXT_BYTES];
    if (strlen(text) >= sizeof copy) {
        return false;
    }
    strcpy(copy, text);
    char *rest = copy;
    for (char *item = strsep(&rest, ","); item; item = strsep(&rest, ",")) {
        char *colon = strchr(item, ':');
        if (!colon) {
            return false;
        }
        *colon = '\0';
        if (!is_setting(trim(item), trim(colon + 1))) {
            return false;
        }
    }
    return true;
}

static bool is_fault_list(const char *text)
{
    return is_setting_list(text, is_fault_setting);
}

static bool is_retry_list(const char *text)
{
    return is_setting_list(text, is_retry_setting);
}

/* Forms that are checked whether the variable is used or not: a job script that sets one wrongly is told so, as on the
 * device. */
static const struct {
    const char *name;
    bool (*is_valid)(const char *text);
    const char *allowed;
} checked_variables[] = {
    {"HCCL_IF_IP", is_address, "an IPv4 or IPv6 address"},
    {"HCCL_IF_BASE_PORT", is_base_port, "a number in [1024, 65520]"},
    {"HCCL_SOCKET_FAMILY", is_family, "AF_INET or AF_INET6"},
    {"HCCL_HOST_SOCKET_PORT_RANGE", is_port_list, "auto, or ports and ranges in [1, 65535] that do not overlap"},
    {"HCCL_NPU_SOCKET_PORT_RANGE", is_port_list, "auto, or ports and ranges in [1, 65535] that do not overlap"},
    {"HCCL_WHITELIST_DISABLE", is_flag, "0 or 1"},
    {"HCCL_DFS_CONFIG", is_fault_list,
     "connection_fault_detection_time:0 or [20, 7200], cluster_heartbeat:on|off, stuck_detection:on|off, "
     "inconsistent_check:on|off|first"},
    {"HCCL_INTER_HCCS_DISABLE", is_truth, "TRUE or FALSE"},
    {"HCCL_LOGIC_SUPERPOD_ID", is_pod_name, "of at most 127 characters"},
    {"HCCL_OP_RETRY_ENABLE", is_retry_list, "L0, L1, L2, each with :0 or :1, such as L0:0,L1:1,L2:1"},
    {"HCCL_ENTRY_LOG_ENABLE", is_flag, "0 or 1"},
    {"HCCL_DIAGNOSE_ENABLE", is_flag, "0 or 1"},
};

/* Every rank reads the list, so that a wrong one is known to all, though rank 0's alone counts. */
static enum epx_status check_whitelist(void)
{
    struct epx_whitelist list;
    EPX_TRY(epx_whitelist_load(&list));
    epx_whitelist_fini(&list);
    return EPX_OK;
}

static enum epx_status check_variables(void)
{
    for (size_t i = 0; i < sizeof checked_variables / sizeof checked_variables[0]; i++) {
        const char *text = variable_text(checked_variables[i].name);
        if (text && !checked_variables[i].is_valid(text)) {
            return epx_fail(EPX_ERR_CONFIG, "%s is '%.100s', must be %s", checked_variables[i].name, text,
                            checked_variables[i].allowed);
        }
    }
    EPX_TRY(check_whitelist());
    static const enum epx_option_id options[] = {EPX_OPTION_HCCL_CONNECT_TIMEOUT, EPX_OPTION_HCCL_EXEC_TIMEOUT,
                                                 EPX_OPTION_HCCL_DETERMINISTIC, EPX_OPTION_HCCL_INTRA_PCIE_ENABLE,
                                                 EPX_OPTION_HCCL_INTRA_ROCE_ENABLE};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int64_t ignored;
        EPX_TRY(epx_option_integer(options[i], &ignored));
    }
    return EPX_OK;
}

static enum epx_status apply_limits(const HcclCommConfig *config, uint32_t version, struct epx_hccl_choice *choice)
{
    if (config->hcclBufferSize == 0) {
        return epx_fail(EPX_ERR_INVALID, "config.hcclBufferSize is 0, must be at least 1");
    }
    if (config->hcclBufferSize != HCCL_COMM_BUFFSIZE_CONFIG_NOT_SET) {
        choice->buffer_mib = config->hcclBufferSize;
    }
    if (config->hcclDeterministic != HCCL_COMM_DETERMINISTIC_CONFIG_NOT_SET && config->hcclDeterministic > 2) {
        return epx_fail(EPX_ERR_INVALID, "config.hcclDeterministic is %u, must be in [0, 2]",
                        config->hcclDeterministic);
    }
    if (version >= 7 && config->aclGraphZeroCopyEnable > 1) {
        return epx_fail(EPX_ERR_INVALID, "config.aclGraphZeroCopyEnable is %u, must be 0 or 1",
                        config->aclGraphZeroCopyEnable);
    }
    if (version >= 8 && config->hcclExecTimeOut != HCCL_COMM_EXECTIMEOUT_CONFIG_NOT_SET) {
        if (config->hcclExecTimeOut < 0) {
            return epx_fail(EPX_ERR_INVALID, "config.hcclExecTimeOut is %d, must be at least 0",
                            config->hcclExecTimeOut);
        }
        choice->op_timeout_ms = config->hcclExecTimeOut == 0 ? -1 : (int64_t)config->hcclExecTimeOut * 1000;
    }
    return EPX_OK;
}

static enum epx_status apply_config(const HcclCommConfig *config, struct epx_hccl_choice *choice)
{
    HcclCommConfigHead head;
    memcpy(&head, config->reserved, sizeof head);
    if (head.magicWord != HCCL_COMM_CONFIG_MAGIC_WORD) {
        return epx_fail(EPX_ERR_INVALID, "config was not filled by HcclCommConfigInit: its magic word is 0x%08x",
                        head.magicWord);
    }
    if (head.version == 0) {
        return epx_fail(EPX_ERR_INVALID, "config's version is 0, must be at least 1");
    }
    EPX_TRY(apply_limits(config, head.version, choice));
    if (head.version >= 2) {
        if (!memchr(config->hcclCommName, '\0', sizeof config->hcclCommName)) {
            return epx_fail(EPX_ERR_INVALID, "config.hcclCommName has more than %d characters",
                            COMM_NAME_MAX_LENGTH - 1);
        }
        memcpy(choice->name, config->hcclCommName, sizeof choice->name);
    }
    return EPX_OK;
}

enum epx_status epx_hccl_choice_read(const HcclCommConfig *config, struct epx_hccl_choice *choice)
{
    int64_t buffer_mib;
    memset(choice, 0, sizeof *choice);
    EPX_TRY(check_variables());
    EPX_TRY(epx_option_integer(EPX_OPTION_HCCL_BUFFSIZE, &buffer_mib));
    EPX_TRY(epx_option_join_timeout_ms(&choice->join_timeout_ms));
    EPX_TRY(epx_option_op_timeout_ms(&choice->op_timeout_ms));
    choice->buffer_mib = (uint32_t)buffer_mib;
    return config ? apply_config(config, choice) : EPX_OK;
}

const char *epx_hccl_own_address(void)
{
    const char *text = variable_text("HCCL_IF_IP");
    return text && is_address(text) ? text : "127.0.0.1";
}

uint32_t epx_hccl_own_port(void)
{
    int64_t port;
    const char *text = variable_text("HCCL_IF_BASE_PORT");
    return text && parse_decimal(text, 1024, 65520, &port) ? (uint32_t)port : BASE_PORT_DEFAULT;
}
