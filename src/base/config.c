#include "base/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Longest timeout, in ms: HCCL_EXEC_TIMEOUT's longest in seconds. */
#define TIMEOUT_MAX_MS 2147483647000

/* A KiB count whose bytes fit an int64. */
#define SIZE_MAX_KIB 9007199254740991

/* An INTEGER text may have this many digits even if its maximum has fewer: leading zeros are no error. */
#define DIGITS_MIN 10

static const struct epx_option options[EPX_OPTION_COUNT] = {
    [EPX_OPTION_LOG] = {.name = "EPX_LOG",
                        .kind = EPX_OPTION_CHOICE,
                        .default_text = "warn",
                        .choices = "none|error|warn|info|debug|trace",
                        .help = "what is logged to standard error"},
    [EPX_OPTION_FAULT] = {.name = "EPX_FAULT",
                          .kind = EPX_OPTION_TEXT,
                          .default_text = "",
                          .help =
                              "<point>:<n>[:fail|kill|stop|sleep=<ms>]: a fault at the n-th passage of a point; only "
                              "in builds with fault points"},
    [EPX_OPTION_FAULT_RANK] = {.name = "EPX_FAULT_RANK",
                               .kind = EPX_OPTION_INTEGER,
                               .default_text = "-1",
                               .minimum = -1,
                               .maximum = 4095,
                               .help = "the rank that EPX_FAULT is for, -1 for every rank"},
    [EPX_OPTION_FAULT_FIRST_STEP] = {.name = "EPX_FAULT_FIRST_STEP",
                                     .kind = EPX_OPTION_INTEGER,
                                     .default_text = "0",
                                     .minimum = 0,
                                     .maximum = 281474976710655,
                                     .help = "steps and rounds that a new communicator counts as done, equal on all "
                                             "ranks; only in builds with fault points"},
    [EPX_OPTION_CPU] = {.name = "EPX_CPU",
                        .kind = EPX_OPTION_CHOICE,
                        .default_text = "auto",
                        .choices = "ref|avx2|avx512|neon|auto",
                        .help = "instruction set of the kernels; auto takes the best that the processor has"},
    [EPX_OPTION_JOB] = {.name = "EPX_JOB",
                        .kind = EPX_OPTION_TEXT,
                        .default_text = "",
                        .help = "name of the job: separates worlds with equal rank tables"},
    [EPX_OPTION_HOST_ID] = {.name = "EPX_HOST_ID",
                            .kind = EPX_OPTION_TEXT,
                            .default_text = "",
                            .help = "identity of the host, in place of boot id and network namespace"},
    [EPX_OPTION_HOST_TIMEOUT_MS] = {.name = "EPX_HOST_TIMEOUT",
                                    .kind = EPX_OPTION_INTEGER,
                                    .default_text = "5000",
                                    .minimum = 100,
                                    .maximum = 3600000,
                                    .help = "ms without a sign of life after which another host of the world is lost"},
    [EPX_OPTION_ROOT] = {.name = "EPX_ROOT",
                         .kind = EPX_OPTION_TEXT,
                         .default_text = "",
                         .help = "where ranks of several hosts meet, an address of rank 0's host: ADDRESS:PORT or "
                                 "ADDRESS:FIRST-LAST; unset: from the rank table, else all ranks are on this host"},
    [EPX_OPTION_ARENA_MIB] = {.name = "EPX_ARENA_MIB",
                              .kind = EPX_OPTION_INTEGER,
                              .default_text = "0",
                              .minimum = 0,
                              .maximum = 16777216,
                              .help = "MiB of address space for the memory that peers can map, 0: from the machine's "
                                      "memory; every rank of the host maps it"},
    [EPX_OPTION_OP_TIMEOUT_MS] = {.name = "EPX_OP_TIMEOUT",
                                  .kind = EPX_OPTION_INTEGER,
                                  .default_text = "",
                                  .minimum = 0,
                                  .maximum = TIMEOUT_MAX_MS,
                                  .help =
                                      "ms an operation waits for a late rank, 0: for ever; unset: HCCL_EXEC_TIMEOUT"},
    [EPX_OPTION_JOIN_TIMEOUT_MS] = {.name = "EPX_JOIN_TIMEOUT",
                                    .kind = EPX_OPTION_INTEGER,
                                    .default_text = "",
                                    .minimum = 0,
                                    .maximum = TIMEOUT_MAX_MS,
                                    .help = "ms the creation of a communicator waits for the other ranks, 0: for ever; "
                                            "unset: HCCL_CONNECT_TIMEOUT"},
    [EPX_OPTION_PRODUCT] = {.name = "EPX_PRODUCT",
                            .kind = EPX_OPTION_CHOICE,
                            .default_text = "host",
                            .choices = "host|A2|A3",
                            .help = "whose limits and behaviour the CANN interface has"},
    [EPX_OPTION_DEVICE_COUNT] = {.name = "EPX_DEVICE_COUNT",
                                 .kind = EPX_OPTION_INTEGER,
                                 .default_text = "16",
                                 .minimum = 1,
                                 .maximum = 1024,
                                 .help = "devices that the CANN interface shows"},
    [EPX_OPTION_WAIT] = {.name = "EPX_WAIT",
                         .kind = EPX_OPTION_CHOICE,
                         .default_text = "auto",
                         .choices = "auto|spin|block",
                         .help = "how a rank waits; auto spins when there is a processor for every rank of the host"},
    [EPX_OPTION_THREADS] = {.name = "EPX_THREADS",
                            .kind = EPX_OPTION_INTEGER,
                            .default_text = "0",
                            .minimum = 0,
                            .maximum = 64,
                            .help = "threads that move the rows of a rank, its own included; 0: the cores that it may "
                                    "use divided by the ranks that share them, at most 8; ranks of one process share "
                                    "its workers"},
    [EPX_OPTION_THREAD_KIB] = {.name = "EPX_THREAD_KIB",
                               .kind = EPX_OPTION_INTEGER,
                               .default_text = "512",
                               .minimum = 1,
                               .maximum = SIZE_MAX_KIB,
                               .help = "KiB of rows that are worth the wake-up of a thread"},
    [EPX_OPTION_STREAM_KIB] = {.name = "EPX_STREAM_KIB",
                               .kind = EPX_OPTION_INTEGER,
                               .default_text = "-1",
                               .minimum = -1,
                               .maximum = SIZE_MAX_KIB,
                               .help =
                                   "KiB of received rows of all ranks beyond which rows are written past the "
                                   "caches; -1: a quarter of the last-level cache, for a dispatch of ranks with a core "
                                   "each half of it"},
    [EPX_OPTION_PART_KIB] = {.name = "EPX_PART_KIB",
                             .kind = EPX_OPTION_INTEGER,
                             .default_text = "2048",
                             .minimum = 1,
                             .maximum = SIZE_MAX_KIB,
                             .help = "KiB of token rows that all ranks of a dispatch read before they go on to the "
                                     "next; what stays in the shared cache; best equal on all ranks"},
    [EPX_OPTION_WIRE] = {.name = "EPX_WIRE",
                         .kind = EPX_OPTION_CHOICE,
                         .default_text = "auto",
                         .choices = "auto|am",
                         .help = "how messages go to other hosts; am: UCX's active messages, which auto takes"},
    [EPX_OPTION_RANK] = {.name = "EPX_RANK",
                         .kind = EPX_OPTION_INTEGER,
                         .default_text = "0",
                         .minimum = 0,
                         .maximum = 4095,
                         .help = "this process's rank; set by a launcher"},
    [EPX_OPTION_WORLD_SIZE] = {.name = "EPX_WORLD_SIZE",
                               .kind = EPX_OPTION_INTEGER,
                               .default_text = "1",
                               .minimum = 1,
                               .maximum = 4096,
                               .help = "number of ranks; set by a launcher"},
    [EPX_OPTION_RANK_TABLE] = {.name = "EPX_RANK_TABLE",
                               .kind = EPX_OPTION_TEXT,
                               .default_text = "",
                               .help = "path of the rank table; set by a launcher"},
    [EPX_OPTION_HCCL_BUFFSIZE] = {.name = "HCCL_BUFFSIZE",
                                  .kind = EPX_OPTION_INTEGER,
                                  .default_text = "200",
                                  .minimum = 1,
                                  .maximum = 4294967295,
                                  .help = "MB of a communicator's window; checked against an operation's sizes, not "
                                          "allocated"},
    [EPX_OPTION_HCCL_IF_IP] = {.name = "HCCL_IF_IP",
                               .kind = EPX_OPTION_TEXT,
                               .default_text = "",
                               .help = "address of this host where the ranks of root information meet; unset: by "
                                       "HCCL_SOCKET_IFNAME, else all ranks are on this host"},
    [EPX_OPTION_HCCL_SOCKET_IFNAME] = {.name = "HCCL_SOCKET_IFNAME",
                                       .kind = EPX_OPTION_TEXT,
                                       .default_text = "",
                                       .help = "network interfaces one of which gives that address: eth,enp (names "
                                               "begin so), =eth0,eth1 (names), ^eth and ^=eth0 (all others)"},
    [EPX_OPTION_HCCL_SOCKET_FAMILY] = {.name = "HCCL_SOCKET_FAMILY",
                                       .kind = EPX_OPTION_CHOICE,
                                       .default_text = "AF_INET",
                                       .choices = "AF_INET|AF_INET6",
                                       .help = "which address of such an interface; unset: IPv4, else IPv6"},
    [EPX_OPTION_HCCL_IF_BASE_PORT] = {.name = "HCCL_IF_BASE_PORT",
                                      .kind = EPX_OPTION_INTEGER,
                                      .default_text = "60000",
                                      .minimum = 1024,
                                      .maximum = 65520,
                                      .help = "first of the 32 ports of which rank 0's host takes one, for a world of "
                                              "several hosts"},
    [EPX_OPTION_HCCL_HOST_SOCKET_PORT_RANGE] = {.name = "HCCL_HOST_SOCKET_PORT_RANGE",
                                                .kind = EPX_OPTION_TEXT,
                                                .default_text = "",
                                                .help = "in place of these, a list: 60000,60050-60100; at most 64 are "
                                                        "used"},
    [EPX_OPTION_HCCL_WHITELIST_DISABLE] = {.name = "HCCL_WHITELIST_DISABLE",
                                           .kind = EPX_OPTION_CHOICE,
                                           .default_text = "1",
                                           .choices = "0|1",
                                           .help = "0: rank 0 of a world of several hosts takes only hosts that "
                                                   "HCCL_WHITELIST_FILE names, and its own"},
    [EPX_OPTION_HCCL_WHITELIST_FILE] = {.name = "HCCL_WHITELIST_FILE",
                                        .kind = EPX_OPTION_TEXT,
                                        .default_text = "",
                                        .help = "path of a JSON file: {\"host_ip\": [\"10.1.2.3\", ...]}"},
    [EPX_OPTION_HCCL_CONNECT_TIMEOUT] = {.name = "HCCL_CONNECT_TIMEOUT",
                                         .kind = EPX_OPTION_INTEGER,
                                         .default_text = "120",
                                         .minimum = 120,
                                         .maximum = 7200,
                                         .help = "s the creation of a communicator waits for the other ranks"},
    [EPX_OPTION_HCCL_EXEC_TIMEOUT] = {.name = "HCCL_EXEC_TIMEOUT",
                                      .kind = EPX_OPTION_INTEGER,
                                      .default_text = "1836",
                                      .minimum = 0,
                                      .maximum = 2147483647,
                                      .help = "s an operation waits for a late rank, 0: for ever"},
    [EPX_OPTION_HCCL_DETERMINISTIC] = {.name = "HCCL_DETERMINISTIC",
                                       .kind = EPX_OPTION_CHOICE,
                                       .default_text = "false",
                                       .choices = "false|true|strict",
                                       .help = "checked and reported; results are always deterministic"},
    [EPX_OPTION_HCCL_INTRA_PCIE_ENABLE] = {.name = "HCCL_INTRA_PCIE_ENABLE",
                                           .kind = EPX_OPTION_CHOICE,
                                           .default_text = "0",
                                           .choices = "0|1",
                                           .help = "1, with HCCL_INTRA_ROCE_ENABLE at 0: two-level exchange"},
    [EPX_OPTION_HCCL_INTRA_ROCE_ENABLE] = {.name = "HCCL_INTRA_ROCE_ENABLE",
                                           .kind = EPX_OPTION_CHOICE,
                                           .default_text = "1",
                                           .choices = "0|1",
                                           .help = "0, with HCCL_INTRA_PCIE_ENABLE at 1: two-level exchange"},
    [EPX_OPTION_ASCEND_RT_VISIBLE_DEVICES] = {.name = "ASCEND_RT_VISIBLE_DEVICES",
                                              .kind = EPX_OPTION_TEXT,
                                              .default_text = "",
                                              .help =
                                                  "comma list of the devices that the CANN interface shows, in this "
                                                  "order; unset: all"},
};

static size_t digit_count(int64_t value)
{
    size_t digits = 1;
    while (value >= 10) {
        value /= 10;
        digits++;
    }
    return digits;
}

/* Digits only, with one '-' in front where negative values are allowed: no space, no '+', no other base. */
static bool parse_integer(const struct epx_option *option, const char *text, int64_t *value)
{
    size_t digits_max = digit_count(option->maximum);
    if (digits_max < DIGITS_MIN) {
        digits_max = DIGITS_MIN;
    }
    bool negative = text[0] == '-' && option->minimum < 0;
    const char *digits = negative ? text + 1 : text;
    size_t length = strlen(digits);
    if (length == 0 || length > digits_max || strspn(digits, "0123456789") != length) {
        return false;
    }
    errno = 0;
    long long parsed = strtoll(text, NULL, 10);
    if (errno != 0 || parsed < option->minimum || parsed > option->maximum) {
        return false;
    }
    *value = parsed;
    return true;
}

/* Case does not matter: scripts write HCCL_DETERMINISTIC=TRUE and =true alike. */
static bool parse_choice(const char *choices, const char *text, int64_t *value)
{
    size_t length = strlen(text);
    int64_t index = 0;
    for (const char *choice = choices; *choice != '\0'; index++) {
        size_t choice_length = strcspn(choice, "|");
        if (choice_length == length && strncasecmp(choice, text, length) == 0) {
            *value = index;
            return true;
        }
        choice += choice_length + (choice[choice_length] == '|');
    }
    return false;
}

const struct epx_option *epx_option_describe(enum epx_option_id id)
{
    return &options[id];
}

const char *epx_option_text(enum epx_option_id id)
{
    return epx_option_is_set(id) ? getenv(options[id].name) : options[id].default_text;
}

int epx_option_is_set(enum epx_option_id id)
{
    const char *text = getenv(options[id].name);
    return text != NULL && text[0] != '\0';
}

enum epx_status epx_option_integer(enum epx_option_id id, int64_t *value)
{
    const struct epx_option *option = &options[id];
    const char *text = epx_option_text(id);
    switch (option->kind) {
    case EPX_OPTION_INTEGER:
        if (parse_integer(option, text, value)) {
            return EPX_OK;
        }
        return epx_fail(EPX_ERR_CONFIG, "%s is \"%s\", must be an integer in [%lld, %lld]", option->name, text,
                        (long long)option->minimum, (long long)option->maximum);
    case EPX_OPTION_CHOICE:
        if (parse_choice(option->choices, text, value)) {
            return EPX_OK;
        }
        return epx_fail(EPX_ERR_CONFIG, "%s is \"%s\", must be one of %s", option->name, text, option->choices);
    case EPX_OPTION_TEXT: break;
    }
    return epx_fail(EPX_ERR_INTERNAL, "%s is a text and has no number", option->name);
}

/* `own_id` counts ms, `other_id` seconds and is read when the own one is unset. */
static enum epx_status read_timeout_ms(enum epx_option_id own_id, enum epx_option_id other_id, int64_t *timeout_ms)
{
    int64_t value = 0;
    if (epx_option_is_set(own_id)) {
        EPX_TRY(epx_option_integer(own_id, &value));
    } else {
        EPX_TRY(epx_option_integer(other_id, &value));
        value *= 1000;
    }
    *timeout_ms = value == 0 ? -1 : value;
    return EPX_OK;
}

enum epx_status epx_option_op_timeout_ms(int64_t *timeout_ms)
{
    return read_timeout_ms(EPX_OPTION_OP_TIMEOUT_MS, EPX_OPTION_HCCL_EXEC_TIMEOUT, timeout_ms);
}

enum epx_status epx_option_join_timeout_ms(int64_t *timeout_ms)
{
    return read_timeout_ms(EPX_OPTION_JOIN_TIMEOUT_MS, EPX_OPTION_HCCL_CONNECT_TIMEOUT, timeout_ms);
}
