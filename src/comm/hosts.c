#include "comm/hosts.h"

#include <stdlib.h>
#include <string.h>

void epx_hosts_destroy(struct epx_hosts *hosts)
{
    if (hosts == NULL) {
        return;
    }
    free(hosts->host_of);
    free(hosts->place_of);
    free(hosts->host_first);
    free(hosts->host_ranks);
    free(hosts->pids);
    free(hosts->host_names);
    free(hosts->host_ips);
    free(hosts);
}

static bool tables_allocate(struct epx_hosts *hosts, uint32_t rank_count)
{
    hosts->host_of = calloc(rank_count, sizeof *hosts->host_of);
    hosts->place_of = calloc(rank_count, sizeof *hosts->place_of);
    hosts->host_first = calloc((size_t)hosts->host_count + 1, sizeof *hosts->host_first);
    hosts->host_ranks = calloc(rank_count, sizeof *hosts->host_ranks);
    hosts->pids = calloc(rank_count, sizeof *hosts->pids);
    hosts->host_names = calloc(hosts->host_count, sizeof *hosts->host_names);
    hosts->host_ips = calloc(hosts->host_count, sizeof *hosts->host_ips);
    return hosts->host_of != NULL && hosts->place_of != NULL && hosts->host_first != NULL &&
           hosts->host_ranks != NULL && hosts->pids != NULL && hosts->host_names != NULL && hosts->host_ips != NULL;
}

static void tables_fill(struct epx_hosts *hosts, const struct epx_census *census)
{
    uint32_t filled = 0;
    for (uint32_t host = 0; host < hosts->host_count; host++) {
        hosts->host_first[host] = filled;
        memcpy(hosts->host_names[host], census->host_names[host], sizeof hosts->host_names[host]);
        for (uint32_t rank = 0; rank < census->rank_count; rank++) {
            if (census->members[rank].host == host) {
                hosts->place_of[rank] = filled - hosts->host_first[host];
                hosts->host_ranks[filled++] = rank;
            }
        }
    }
    hosts->host_first[hosts->host_count] = filled;
    for (uint32_t rank = 0; rank < census->rank_count; rank++) {
        hosts->host_of[rank] = census->members[rank].host;
        hosts->pids[rank] = census->members[rank].pid;
    }
}

enum epx_status epx_hosts_create(const struct epx_census *census, uint32_t rank, struct epx_hosts **out)
{
    struct epx_hosts *hosts = calloc(1, sizeof *hosts);
    if (hosts != NULL) {
        hosts->host_count = census->host_count;
    }
    if (hosts == NULL || !tables_allocate(hosts, census->rank_count)) {
        epx_hosts_destroy(hosts);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for the hosts of %u ranks", census->rank_count);
    }
    tables_fill(hosts, census);
    hosts->own_host = hosts->host_of[rank];
    hosts->here_count = epx_hosts_rank_count(hosts, hosts->own_host);
    *out = hosts;
    return EPX_OK;
}
