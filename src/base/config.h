/*
 * Every environment variable that epx reads, in one table: name, default, allowed values, help. `epx info` prints it.
 * A value is read and checked at each call, so that a program may set a variable before the call that uses it. Thread:
 * any, as long as nobody calls setenv meanwhile.
 */
#ifndef EPX_BASE_CONFIG_H
#define EPX_BASE_CONFIG_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum epx_option_kind {
    EPX_OPTION_INTEGER, /* decimal, minimum <= value <= maximum */
    EPX_OPTION_CHOICE,  /* one word of `choices` ("a|b|c"), in any case; its value is the word's index */
    EPX_OPTION_TEXT,
};

enum epx_option_id {
    EPX_OPTION_LOG,
    EPX_OPTION_FAULT,
    EPX_OPTION_FAULT_RANK,
    EPX_OPTION_FAULT_FIRST_STEP,
    EPX_OPTION_CPU,             /* EPX_CPU: ref|avx2|avx512|neon|auto */
    EPX_OPTION_JOB,             /* EPX_JOB: separates worlds with equal rank tables */
    EPX_OPTION_HOST_ID,         /* EPX_HOST_ID */
    EPX_OPTION_HOST_TIMEOUT_MS, /* EPX_HOST_TIMEOUT: ms, silence after which another host is lost */
    EPX_OPTION_ROOT,            /* EPX_ROOT: where ranks of several hosts meet */
    EPX_OPTION_ARENA_MIB,       /* EPX_ARENA_MIB: address space of the process's arena, 0 = from the machine's memory */
    EPX_OPTION_OP_TIMEOUT_MS,   /* EPX_OP_TIMEOUT: ms, default HCCL_EXEC_TIMEOUT */
    EPX_OPTION_JOIN_TIMEOUT_MS, /* EPX_JOIN_TIMEOUT: ms, default HCCL_CONNECT_TIMEOUT */
    EPX_OPTION_PRODUCT,         /* EPX_PRODUCT: host|A2|A3 */
    EPX_OPTION_DEVICE_COUNT,    /* EPX_DEVICE_COUNT: devices of the CANN door */
    EPX_OPTION_WAIT,            /* EPX_WAIT: auto|spin|block: how a waiting rank waits */
    EPX_OPTION_THREADS,         /* EPX_THREADS: threads that move a rank's rows */
    EPX_OPTION_THREAD_KIB,      /* EPX_THREAD_KIB: rows worth a thread */
    EPX_OPTION_STREAM_KIB,      /* EPX_STREAM_KIB: rows written past the caches from this size */
    EPX_OPTION_PART_KIB,        /* EPX_PART_KIB: rows that the ranks read together */
    EPX_OPTION_WIRE,            /* EPX_WIRE: auto|am: how UCX moves a message to another host */
    EPX_OPTION_RANK,            /* EPX_RANK, EPX_WORLD_SIZE, EPX_RANK_TABLE: set by a launcher */
    EPX_OPTION_WORLD_SIZE,
    EPX_OPTION_RANK_TABLE,
    EPX_OPTION_HCCL_BUFFSIZE,
    EPX_OPTION_HCCL_IF_IP,
    EPX_OPTION_HCCL_SOCKET_IFNAME,
    EPX_OPTION_HCCL_SOCKET_FAMILY,
    EPX_OPTION_HCCL_IF_BASE_PORT,
    EPX_OPTION_HCCL_HOST_SOCKET_PORT_RANGE,
    EPX_OPTION_HCCL_WHITELIST_DISABLE,
    EPX_OPTION_HCCL_WHITELIST_FILE,
    EPX_OPTION_HCCL_CONNECT_TIMEOUT,
    EPX_OPTION_HCCL_EXEC_TIMEOUT,
    EPX_OPTION_HCCL_DETERMINISTIC,
    EPX_OPTION_HCCL_INTRA_PCIE_ENABLE,
    EPX_OPTION_HCCL_INTRA_ROCE_ENABLE,
    EPX_OPTION_ASCEND_RT_VISIBLE_DEVICES,
    EPX_OPTION_COUNT,
};

struct epx_option {
    const char *name;
    enum epx_option_kind kind;
    const char *default_text;
    int64_t minimum;     /* INTEGER */
    int64_t maximum;     /* INTEGER */
    const char *choices; /* CHOICE */
    const char *help;
};

const struct epx_option *epx_option_describe(enum epx_option_id id);

/* The variable's text, or its default when it is unset or empty. Never null. */
const char *epx_option_text(enum epx_option_id id);

/* Whether the variable is set to a non-empty text. */
int epx_option_is_set(enum epx_option_id id);

/* EPX_ERR_CONFIG with name, value and allowed range when the text is not a valid INTEGER or CHOICE. EPX_OP_TIMEOUT and
 * EPX_JOIN_TIMEOUT have no default of their own: see the two calls below. */
EPX_NODISCARD enum epx_status epx_option_integer(enum epx_option_id id, int64_t *value);

/* EPX_OP_TIMEOUT (ms) or else HCCL_EXEC_TIMEOUT (s); *timeout_ms is -1 for "never" (a value of 0 in either). */
EPX_NODISCARD enum epx_status epx_option_op_timeout_ms(int64_t *timeout_ms);

/* EPX_JOIN_TIMEOUT (ms) or else HCCL_CONNECT_TIMEOUT (s, [120, 7200]); *timeout_ms is -1 for "never" (0 ms). */
EPX_NODISCARD enum epx_status epx_option_join_timeout_ms(int64_t *timeout_ms);

#endif
