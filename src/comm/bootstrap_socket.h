/*
 * Sockets of the rendezvous: abstract names, packets with descriptors, no blocking. Thread: any.
 */
#ifndef EPX_COMM_BOOTSTRAP_SOCKET_H
#define EPX_COMM_BOOTSTRAP_SOCKET_H

#include "comm/bootstrap_wire.h"

#include <stdint.h>
#include <sys/types.h>

/* Name of the meeting point: a digest of user id, key and EPX_JOB. */
struct epx_boot_name {
    char text[80]; /* without the leading NUL of the abstract address */
};
void epx_boot_name_make(const uint8_t key[32], struct epx_boot_name *name);

/* A descriptor, or a negative errno: -EADDRINUSE when another holds the name. */
int epx_boot_listen(const struct epx_boot_name *name, int backlog);

/* A descriptor, or a negative errno: -ECONNREFUSED when nobody listens, -EAGAIN when the listener's queue is full. */
int epx_boot_connect(const struct epx_boot_name *name);

/* A descriptor, or a negative errno: -EAGAIN when nobody waits. */
int epx_boot_accept(int listener);

/* Who made the other end. Zero or a negative errno. */
int epx_boot_peer(int fd, uid_t *uid, pid_t *pid);

/* Sends one message with `fd_count` (at most EPX_BOOT_ITEM_MAX) descriptors. Zero or a negative errno: -EAGAIN (the
 * peer does not read), -ETOOMANYREFS (too many descriptors of this user are in flight): try again later. */
int epx_boot_send(int fd, const struct epx_boot_message *message, const int *fds, uint32_t fd_count);

struct epx_boot_packet {
    struct epx_boot_message message;
    uint32_t fd_count;
    int fds[EPX_BOOT_ITEM_MAX]; /* the receiver's to close; see epx_boot_packet_close */
};

/*
 * Receives one message. 1: *packet is filled. 0: the peer has closed. Negative errno: -EAGAIN (nothing there yet),
 * -EBADMSG (not a message), -EMFILE (no room for its descriptors); *packet holds no descriptors then.
 */
int epx_boot_receive(int fd, struct epx_boot_packet *packet);

void epx_boot_packet_close(struct epx_boot_packet *packet);

/* Shuts down and closes: the peer sees the end even if a forked child holds a copy of the descriptor. */
void epx_boot_close(int fd);

/* "3, 7-8": the ranks below rank_count of a set; cut with "…" when it does not fit. */
void epx_boot_format_set(const uint64_t *set, uint32_t rank_count, char *text, size_t text_bytes);

static inline bool epx_boot_set_has(const uint64_t *set, uint32_t rank)
{
    return (set[rank / 64] >> (rank % 64) & 1) != 0;
}

static inline void epx_boot_set_add(uint64_t *set, uint32_t rank)
{
    set[rank / 64] |= (uint64_t)1 << (rank % 64);
}

#endif
