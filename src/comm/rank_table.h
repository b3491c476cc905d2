/*
 * Rank table files: JSON, versions 1.0 and 1.2 (docs/rank-table.md). Parsing and checking only; nothing is dialled.
 */
#ifndef EPX_COMM_RANK_TABLE_H
#define EPX_COMM_RANK_TABLE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_rank_entry { /* indexed by rank */
    uint32_t server;    /* index into servers */
    uint32_t device_id;
    char device_ip[64];   /* first address, "" when absent */
    uint32_t device_port; /* 0 when absent */
    uint32_t host_port;
};

struct epx_server_entry { /* in order of first rank */
    char id[65];
    char host_ip[64]; /* "" when absent */
    uint32_t first_rank;
    uint32_t rank_count;
};

struct epx_rank_table {
    char version[8];
    uint32_t rank_count;
    uint32_t server_count;
    struct epx_rank_entry *ranks;
    struct epx_server_entry *servers;
    uint8_t digest[32]; /* of the content that matters, independent of white space and key order: ranks agree on it */
};

/* Largest device id accepted; the CANN door's limit of the chip family is checked above. */
#define EPX_RANK_TABLE_DEVICE_ID_MAX 1023u
#define EPX_RANK_TABLE_BYTES_MAX     (64u << 20)

/*
 * Reads and checks the file. While its status is "initializing" it is read again every second until `wait_ms` passed.
 * Errors: EPX_ERR_NULL, EPX_ERR_FILE (no such file, not readable, not ending in ".json"), EPX_ERR_SYNTAX (not JSON; a
 * required key missing; a value of the wrong JSON type), EPX_ERR_UNSUPPORTED (version), EPX_ERR_RANK_TABLE (any rule on
 * values), EPX_ERR_JOIN_TIMEOUT (still initializing), EPX_ERR_NO_MEMORY. The text names path, key, value and limit.
 */
EPX_NODISCARD enum epx_status epx_rank_table_load(const char *path, int64_t wait_ms, struct epx_rank_table *table);

/* Same from memory; `name` stands for the path in messages. */
EPX_NODISCARD enum epx_status epx_rank_table_parse(const char *name, const char *text, size_t text_bytes,
                                                   struct epx_rank_table *table);

void epx_rank_table_fini(struct epx_rank_table *table);

#endif
