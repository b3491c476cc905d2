/* The hosts of a job: which ranks each has, which of them are this machine, and where the ranks meet. */
#ifndef EPX_TOOLS_RUN_HOSTS_H
#define EPX_TOOLS_RUN_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run_host {
    char *name; /* without brackets */
    uint32_t first;
    uint32_t count; /* its ranks are consecutive */
    bool here;
};

struct run_hosts {
    struct run_host *hosts;
    uint32_t count; /* 0: no list was given, all ranks are here */
    uint32_t rank_count;
};

/* Why a list or a place is refused, as a sentence's end. */
struct run_refusal {
    char text[256];
};

/* Reads "a:8,b:8" or, with a rank count that divides, "a,b"; rank_count 0: the list says it. A name is this machine
 * when it is "localhost", its host name or one of its addresses; nothing is resolved. */
bool run_hosts_init(struct run_hosts *hosts, const char *list, uint32_t rank_count, struct run_refusal *refusal);
void run_hosts_fini(struct run_hosts *hosts);

/* Null: there is no list. */
const struct run_host *run_hosts_find(const struct run_hosts *hosts, uint32_t rank);

/* Which of the ranks of this machine a rank of it is, and how many it has. */
void run_hosts_share(const struct run_hosts *hosts, uint32_t rank, uint32_t *index, uint32_t *count);

/* The text of EPX_ROOT: an address of rank 0's host that the others reach, loopback when all are this machine, and a
 * range of ports that hardly anybody else uses. May ask the resolver. */
bool run_hosts_root(const struct run_hosts *hosts, char *root, size_t bytes, struct run_refusal *refusal);

#endif
