/*
 * Hosts of a case that are network namespaces of this machine: each has an interface eth0, the end of a veth pair whose
 * other end is in a bridge, which lies in a namespace of its own. Namespaces have no names: they live as long as the
 * process that made them, or as one in them, so nothing is left of a program that is killed. Making and entering needs
 * root, making also the program `ip`.
 */
#ifndef EPX_BENCH_HOSTS_H
#define EPX_BENCH_HOSTS_H

#include "case.h"

#define BENCH_HOST_INTERFACE "eth0"
#define BENCH_ADDRESS_BYTES  16

struct bench_hosts {
    int64_t count;
    int namespaces[BENCH_HOST_MAX + 1]; /* descriptors; the last one, [count], has the bridge */
};

/* Makes `count` hosts, at least 2. What fails is said on standard error, with `who` before it; nothing is left then. */
bool bench_hosts_make(struct bench_hosts *hosts, int64_t count, const char *who);

/* Shows them to programs that are started from here on, while this process lives. */
bool bench_hosts_show(const struct bench_hosts *hosts);

/* Takes what another program shows, if it is enough, or makes them. */
bool bench_hosts_get(struct bench_hosts *hosts, int64_t count, const char *who);

/* The calling process, of one thread, goes to a host: to its network, to a view of /sys that shows that alone, and to
 * its share of the cores, since ranks decide by the cores that they see how to wait. What fails is said on standard
 * error. */
bool bench_hosts_enter(const struct bench_hosts *hosts, int64_t host);

/* "10.78.0.<host + 1>" */
void bench_hosts_address(int64_t host, char address[BENCH_ADDRESS_BYTES]);

/* Bytes that this host has sent through its interface since it was made; `counter` is 0 before the first call, and the
 * callee's after. */
int64_t bench_hosts_sent_bytes(int *counter);

#endif
