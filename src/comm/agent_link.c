#include "comm/agent_link.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_BYTES = 2 * sizeof(struct epx_agent_message) };

enum epx_status epx_agent_link_init(struct epx_agent_link *link, int fd, uint32_t host, uint64_t now_ns)
{
    *link = (struct epx_agent_link){.fd = fd, .host = host, .heard_ns = now_ns};
    link->in = malloc(IN_BYTES);
    link->out = malloc(EPX_AGENT_OUT_BYTES);
    if (link->in == NULL || link->out == NULL) {
        epx_agent_link_fini(link);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a connection to another host");
    }
    return EPX_OK;
}

static void link_close(struct epx_agent_link *link)
{
    if (link->fd >= 0) {
        (void)shutdown(link->fd, SHUT_RDWR); /* a forked child may hold a copy */
        (void)close(link->fd);
        link->fd = -1;
    }
}

void epx_agent_link_fini(struct epx_agent_link *link)
{
    link_close(link);
    free(link->in);
    free(link->out);
    link->in = NULL;
    link->out = NULL;
}

void epx_agent_link_lose(struct epx_agent_link *link, const char *reason)
{
    if (link->fd >= 0) {
        link->reason = reason;
        link_close(link);
    }
}

static void lose_by_error(struct epx_agent_link *link, int error)
{
    /* strerror is not safe among threads; this one, GNU's, may leave the buffer alone and return a text of its own. */
    char buffer[sizeof link->reason_text];
    (void)snprintf(link->reason_text, sizeof link->reason_text, "%s", strerror_r(error, buffer, sizeof buffer));
    epx_agent_link_lose(link, link->reason_text);
}

void epx_agent_link_flush(struct epx_agent_link *link)
{
    size_t sent = 0;
    while (link->fd >= 0 && sent < link->out_used) {
        ssize_t count = send(link->fd, link->out + sent, link->out_used - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            /* What the peer said before is still to be read, and the end of it says that the link is gone. */
            link->is_deaf = true;
            sent = link->out_used;
        }
    }
    memmove(link->out, link->out + sent, link->out_used - sent);
    link->out_used -= sent;
}

void epx_agent_link_send(struct epx_agent_link *link, const struct epx_agent_message *message)
{
    size_t bytes = epx_agent_message_bytes(message);
    if (link->fd < 0 || link->is_deaf) {
        return;
    }
    if (bytes > EPX_AGENT_OUT_BYTES - link->out_used) {
        epx_agent_link_lose(link, "it takes no more messages");
        return;
    }
    memcpy(link->out + link->out_used, message, bytes);
    link->out_used += bytes;
    epx_agent_link_flush(link);
}

void epx_agent_link_read(struct epx_agent_link *link, uint64_t now_ns)
{
    while (link->fd >= 0 && link->in_used < IN_BYTES) {
        ssize_t count = recv(link->fd, link->in + link->in_used, IN_BYTES - link->in_used, MSG_DONTWAIT);
        if (count > 0) {
            link->in_used += (size_t)count;
            link->heard_ns = now_ns;
            link->heard = true;
        } else if (count == 0) {
            epx_agent_link_lose(link, "connection closed by it");
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            lose_by_error(link, errno);
        }
    }
}

bool epx_agent_link_take(struct epx_agent_link *link, uint32_t rank_count, struct epx_agent_message *message)
{
    int64_t bytes = epx_agent_message_decode(link->in, link->in_used, rank_count, message);
    if (bytes < 0) {
        link->in_used = 0;
        epx_agent_link_lose(link, "it sent what is no message");
    }
    if (bytes <= 0) {
        return false;
    }
    memmove(link->in, link->in + bytes, link->in_used - (size_t)bytes);
    link->in_used -= (size_t)bytes;
    return true;
}

void epx_agent_link_linger(struct epx_agent_link *link, uint64_t until_ns)
{
    epx_agent_link_flush(link);
    while (link->fd >= 0 && !link->said_bye && epx_clock_ns() < until_ns) {
        struct pollfd poll_fd = {.fd = link->fd, .events = (short)(POLLIN | (link->out_used > 0 ? POLLOUT : 0))};
        if (link->out_used == 0) {
            (void)shutdown(link->fd, SHUT_WR);
        }
        uint64_t now_ns = epx_clock_ns();
        (void)poll(&poll_fd, 1, until_ns > now_ns ? (int)((until_ns - now_ns) / 1000000u) + 1 : 0);
        link->in_used = 0; /* nothing that still comes matters */
        epx_agent_link_read(link, now_ns);
        epx_agent_link_flush(link);
    }
}
