/*
 * A rank table as its JSON says it, before its values have been checked: the texts of the keys, null where a key is
 * absent. What lies between rank_table_json.c, which knows JSON and no rule on values, and rank_table_check.c, which
 * knows the rules and no JSON.
 */
#ifndef EPX_COMM_RANK_TABLE_DRAFT_H
#define EPX_COMM_RANK_TABLE_DRAFT_H

#include "base/status.h"
#include "comm/rank_table.h"

#include <stdint.h>

struct epx_draft_device {
    const char *device_id;
    const char *rank_id;
    const char *device_ip;
    const char *device_port;
    const char *host_port;
    const char *super_device_id;
    const char *backup_device_ip;
    const char *backup_device_port;
    uint32_t server; /* index into servers */
    uint32_t place;  /* index in its server's "device" list */

    /* Numbers, known after the check of this device. */
    uint32_t device;
    uint32_t rank;
    uint32_t device_port_number; /* 0 when absent */
    uint32_t host_port_number;   /* 0 when absent */
    uint32_t super_device;
};

struct epx_draft_server {
    const char *server_id;
    const char *host_ip;
    uint32_t first_device; /* index into devices */
    uint32_t device_count;
    uint32_t pod; /* known after the check of the pods: index into pods, EPX_DRAFT_NO_POD when in none */
};
#define EPX_DRAFT_NO_POD UINT32_MAX

struct epx_draft_pod {
    const char *super_pod_id;
    uint32_t first_member; /* index into members */
    uint32_t member_count;
};

struct epx_draft {
    const char *name; /* the file, for messages */
    const char *version;
    const char *server_count;
    uint32_t server_list_count;
    uint32_t device_total;
    uint32_t pod_count;
    uint32_t member_total;
    struct epx_draft_server *servers;
    struct epx_draft_device *devices; /* server by server */
    struct epx_draft_pod *pods;
    const char **members; /* server ids, pod by pod */
    void *document;       /* owns every text above */
};

/* Sets the text "rank table NAME: …" with unprintable bytes replaced, returns `status`. */
enum epx_status epx_draft_fail(const char *name, enum epx_status status, const char *format, ...) EPX_PRINTF(3, 4);
#ifdef __clang_analyzer__
#define epx_draft_fail(name, status, ...) ((void)epx_draft_fail((name), (status), __VA_ARGS__), (status))
#endif

/*
 * Reads JSON text. EPX_ERR_SYNTAX, EPX_ERR_UNSUPPORTED, EPX_ERR_RANK_TABLE (an empty list, more devices than
 * EPX_COMM_RANK_MAX, an unknown status), EPX_ERR_JOIN_TIMEOUT (its status is "initializing"), EPX_ERR_NO_MEMORY. To be
 * ended with epx_draft_fini, after a failure too.
 */
EPX_NODISCARD enum epx_status epx_draft_read(struct epx_draft *draft, const char *name, const char *text,
                                             size_t text_bytes);
void epx_draft_fini(struct epx_draft *draft);

/* Checks every rule on values; notes numbers and pods in the draft. EPX_ERR_RANK_TABLE, EPX_ERR_NO_MEMORY. */
EPX_NODISCARD enum epx_status epx_draft_check(struct epx_draft *draft);

/* Checks the addresses of all devices: form, family, uniqueness, presence. Part of epx_draft_check. */
EPX_NODISCARD enum epx_status epx_draft_check_addresses(const struct epx_draft *draft);

/* Checks the super pods of a 1.2 table. Part of epx_draft_check. */
EPX_NODISCARD enum epx_status epx_draft_check_pods(struct epx_draft *draft);

/* The first address of a comma-separated list in canonical spelling ("" for an absent or empty list). `out` is 64
 * bytes. The list must have been checked. */
void epx_draft_first_address(const char *list, char out[64]);

#endif
