/*
 * The census of a world on several hosts: every rank says where it is and what the others need to know, and learns the
 * same of all others. Over TCP, to a centre in rank 0's process. Nothing is left behind after a kill.
 */
#ifndef EPX_COMM_CENSUS_H
#define EPX_COMM_CENSUS_H

#include "base/status.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define EPX_CENSUS_CARD_BYTES_MAX 4096u
#define EPX_CENSUS_NAME_BYTES     64u
#define EPX_CENSUS_PORT_MAX       64u
#define EPX_CENSUS_IP_BYTES       64u

struct epx_whitelist;

union epx_address { /* IPv4 or IPv6 */
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Where a world meets. Chosen by the door (rank table, root token, launcher's environment); the same on all ranks. */
struct epx_meeting {
    union epx_address root;              /* port: the first of ports */
    uint16_t ports[EPX_CENSUS_PORT_MAX]; /* the centre listens on the first that is free; others try them in turn */
    uint32_t port_count;
    char own_ip[EPX_CENSUS_IP_BYTES]; /* numeric address of this rank's host in that network; "" leaves it to routing */
};

struct epx_census_request {
    uint8_t key[32]; /* of the world; whoever does not know it is refused. Never sent: proved by a keyed digest */
    uint32_t rank;
    uint32_t rank_count;
    int64_t timeout_ms; /* < 0: never */
    const char *what;   /* for messages */
    struct epx_meeting meeting;
    uint8_t host_id[32];
    char host_name[EPX_CENSUS_NAME_BYTES];
    const void *card; /* for all others; at most EPX_CENSUS_CARD_BYTES_MAX */
    uint32_t card_bytes;
    const struct epx_whitelist *admitted; /* whom rank 0 takes; null: everybody */
};

struct epx_census_member {
    uint32_t host;
    uint32_t pid; /* as the rank knows it */
    const uint8_t *card;
    uint32_t card_bytes;
};

struct epx_census {
    uint32_t rank_count;
    uint32_t host_count;                       /* hosts in the order of their lowest ranks */
    struct epx_census_member *members;         /* by rank; the cards lie in the same allocation */
    char (*host_names)[EPX_CENSUS_NAME_BYTES]; /* by host; text, checked */
    /* Connected, non-blocking, close-on-exec, TCP_NODELAY stream sockets between leaders (lowest ranks of their
     * hosts): rank 0 has one to each other host, by host (links[0] is -1); another leader has its own to host 0 in
     * links[0]; others have null. To be closed by whoever takes them. */
    int *links;
    uint32_t link_count; /* host_count, 1 or 0 */
};

/* This rank's host: digest of boot id and network namespace, or of EPX_HOST_ID; and its name or EPX_HOST_ID, in
 * printable ASCII without spaces. */
EPX_NODISCARD enum epx_status epx_census_host(uint8_t host_id[32], char name[EPX_CENSUS_NAME_BYTES]);

/*
 * Collective; blocks. Rank 0 runs the centre on a thread while it lasts. EPX_ERR_JOIN_TIMEOUT naming the ranks that are
 * missing, or why the centre could not be reached (address and ports tried), or the host whose leader has not linked;
 * EPX_ERR_RENDEZVOUS to the rank that is refused (rank held by another live process; world size differs, both named;
 * rank 0 gone before the links were made); EPX_ERR_INVALID; EPX_ERR_NO_MEMORY; EPX_ERR_SYSTEM. After a failure *census
 * is empty.
 */
EPX_NODISCARD enum epx_status epx_census_take(const struct epx_census_request *request, struct epx_census *census);
void epx_census_fini(struct epx_census *census);

#endif
