/*
 * Worlds of several hosts inside one process: a control region for each host, ranks as threads, and a wire that is a
 * queue for each rank. Where the linker sends epx_comm_open and epx_comm_close of a program here, its worlds are spread
 * over hosts as their keys have it. Hosts agree on nothing: a failure on one is not known to the others.
 */
#ifndef EPX_TESTS_HOSTS_WORLD_H
#define EPX_TESTS_HOSTS_WORLD_H

#include "comm/comm.h"
#include "comm/hosts.h"
#include "comm/remote.h"

#include <stdbool.h>
#include <stdint.h>

#define HOSTS_RANK_MAX 16u

struct hosts_spec {
    uint64_t key; /* of the world */
    uint32_t rank;
    uint32_t rank_count;
    uint32_t server_rank_count;
    uint32_t host_of[HOSTS_RANK_MAX]; /* hosts are numbered by their lowest ranks */
    int64_t op_timeout_ms;
};

/* A rank of the world; it does not wait for others. */
struct epx_comm *hosts_open(const struct hosts_spec *spec);
void hosts_close(struct epx_comm *comm);

/* A message as `from` would send it to `to`. */
void hosts_send(uint64_t key, uint32_t from, uint32_t to, const void *header, const void *data, uint64_t bytes);

/* Takes the oldest message to `to`; false: there is none. `data` has room for EPX_WIRE_MESSAGE_BYTES_MAX. */
bool hosts_take(uint64_t key, uint32_t to, uint32_t *from, void *header, void *data, uint64_t *bytes);

/* From here on `rank` cannot be reached from `from`. */
void hosts_lose(uint64_t key, uint32_t from, uint32_t rank);

/* Messages leave the sender when it makes progress; while they are held back they do not. */
void hosts_hold(struct epx_comm *comm, bool hold);

/* Sends of the rank that are not done. */
uint32_t hosts_unsent(const struct epx_comm *comm);

#endif
