#include "comm/bootstrap_socket.h"

#include "base/config.h"
#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_KIND (SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC)

void epx_boot_name_make(const uint8_t key[32], struct epx_boot_name *name)
{
    struct epx_digest_state state;
    uint8_t digest[EPX_DIGEST_BYTES];
    const uint64_t uid = geteuid();
    const char *job = epx_option_text(EPX_OPTION_JOB);
    epx_digest_init(&state);
    epx_digest_update(&state, &uid, sizeof uid);
    epx_digest_update(&state, key, 32);
    epx_digest_update(&state, job, strlen(job));
    epx_digest_final(&state, digest);
    size_t used = (size_t)snprintf(name->text, sizeof name->text, "epx-");
    for (size_t i = 0; i < sizeof digest; i++) {
        used += (size_t)snprintf(name->text + used, sizeof name->text - used, "%02x", digest[i]);
    }
}

static socklen_t make_address(const struct epx_boot_name *name, struct sockaddr_un *address)
{
    size_t chars = strlen(name->text);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path + 1, name->text, chars);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + chars);
}

int epx_boot_listen(const struct epx_boot_name *name, int backlog)
{
    struct sockaddr_un address;
    socklen_t bytes = make_address(name, &address);
    int fd = socket(AF_UNIX, SOCKET_KIND, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&address, bytes) != 0 || listen(fd, backlog) != 0) {
        int error = errno;
        (void)close(fd);
        return -error;
    }
    return fd;
}

int epx_boot_connect(const struct epx_boot_name *name)
{
    struct sockaddr_un address;
    socklen_t bytes = make_address(name, &address);
    int fd = socket(AF_UNIX, SOCKET_KIND, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, bytes) != 0) {
        int error = errno;
        (void)close(fd);
        return -error;
    }
    return fd;
}

int epx_boot_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

int epx_boot_peer(int fd, uid_t *uid, pid_t *pid)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        return -errno;
    }
    *uid = peer.uid;
    *pid = peer.pid;
    return 0;
}

union control { /* aligned room for EPX_BOOT_ITEM_MAX descriptors */
    struct cmsghdr header;
    char bytes[CMSG_SPACE(EPX_BOOT_ITEM_MAX * sizeof(int))];
};

int epx_boot_send(int fd, const struct epx_boot_message *message, const int *fds, uint32_t fd_count)
{
    union control control;
    struct iovec data = {.iov_base = (void *)(uintptr_t)message, .iov_len = epx_boot_message_bytes(message->kind)};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd_count > 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

static void take_descriptors(struct msghdr *header, struct epx_boot_packet *packet)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item != NULL; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && packet->fd_count < EPX_BOOT_ITEM_MAX; i++) {
            memcpy(&packet->fds[packet->fd_count++], CMSG_DATA(item) + i * sizeof(int), sizeof(int));
        }
    }
}

int epx_boot_receive(int fd, struct epx_boot_packet *packet)
{
    /* One byte more than the longest message, so that a longer packet is seen as such. */
    uint8_t bytes[sizeof(struct epx_boot_message) + 1];
    union control control;
    struct iovec data = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    int resets = 0;
    packet->fd_count = 0;
    /* A peer that closes without having read everything leaves one ECONNRESET before what it has sent. */
    do {
        got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    if (got < 0) {
        return errno == ECONNRESET || errno == EPIPE ? 0 : -errno;
    }
    take_descriptors(&header, packet);
    if (got == 0) {
        epx_boot_packet_close(packet);
        return 0;
    }
    if ((header.msg_flags & MSG_CTRUNC) != 0) {
        bool too_many_sent = packet->fd_count == EPX_BOOT_ITEM_MAX;
        epx_boot_packet_close(packet);
        return too_many_sent ? -EBADMSG : -EMFILE;
    }
    if (!epx_boot_message_decode(bytes, (size_t)got, &packet->message)) {
        epx_boot_packet_close(packet);
        return -EBADMSG;
    }
    return 1;
}

void epx_boot_packet_close(struct epx_boot_packet *packet)
{
    for (uint32_t i = 0; i < packet->fd_count; i++) {
        (void)close(packet->fds[i]);
    }
    packet->fd_count = 0;
}

void epx_boot_close(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
    (void)close(fd);
}

void epx_boot_format_set(const uint64_t *set, uint32_t rank_count, char *text, size_t text_bytes)
{
    static const char ellipsis[] = ", …";
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t first = 0; first < rank_count; first++) {
        if (!epx_boot_set_has(set, first)) {
            continue;
        }
        uint32_t last = first;
        while (last + 1 < rank_count && epx_boot_set_has(set, last + 1)) {
            last++;
        }
        char item[32];
        const char *comma = used > 0 ? ", " : "";
        int chars = first == last ? snprintf(item, sizeof item, "%s%u", comma, first)
                                  : snprintf(item, sizeof item, "%s%u-%u", comma, first, last);
        if (used + (size_t)chars + sizeof ellipsis > text_bytes) {
            (void)snprintf(text + used, text_bytes - used, "%s", ellipsis);
            return;
        }
        memcpy(text + used, item, (size_t)chars + 1);
        used += (size_t)chars;
        first = last;
    }
}
