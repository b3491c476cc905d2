#include "comm/bootstrap_star.h"

#include "base/clock.h"
#include "base/log.h"
#include "comm/bootstrap_limit.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define HELLO_TIMEOUT_MS 2000 /* a connection that has not said hello by then is dropped */

static void close_roll(struct epx_boot_centre *centre)
{
    epx_boot_close(centre->listener);
    centre->listener = -1;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0 && !centre->guests[g].joined) {
            epx_boot_guest_drop(centre, &centre->guests[g]);
        }
    }
}

static void assemble(struct epx_boot_centre *centre)
{
    centre->assembled = true;
    close_roll(centre);
    enum epx_status status = epx_boot_shared_create(centre->request->shared_bytes, &centre->shared_fd);
    if (status == EPX_OK) {
        status = epx_boot_verdict_map(centre->shared_fd, centre->request->shared_bytes, &centre->verdict);
    }
    if (status != EPX_OK) {
        epx_boot_guests_fail(centre, status);
        return;
    }
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_ASSEMBLED);
    epx_boot_guests_send(centre, &message);
}

struct epx_boot_guest *epx_boot_gather_free_place(struct epx_boot_centre *centre)
{
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd < 0) {
            return &centre->guests[g];
        }
    }
    return NULL;
}

void epx_boot_gather_welcome(struct epx_boot_centre *centre, struct epx_boot_guest *place, int fd)
{
    uid_t uid = (uid_t)-1;
    pid_t pid = 0;
    if (epx_boot_peer(fd, &uid, &pid) != 0 || uid != geteuid()) {
        epx_log(EPX_LOG_WARN, "start of %s: connection of user %u (pid %d) dropped: this is user %u",
                centre->request->what, (unsigned)uid, (int)pid, (unsigned)geteuid());
        epx_boot_close(fd);
        return;
    }
    *place = (struct epx_boot_guest){
        .fd = fd, .pid = pid, .arena_fd = -1, .hello_deadline_ns = epx_deadline_after_ms(HELLO_TIMEOUT_MS)};
}

void epx_boot_gather_exhausted(struct epx_boot_centre *centre, int error)
{
    epx_boot_guests_fail(
        centre, epx_fail_errno(EPX_ERR_SYSTEM, error,
                               "%s: rank %u (pid %d) has no descriptor left for the %u ranks it gathers, "
                               "limit %llu (ulimit -n)",
                               centre->request->what, epx_boot_rank_name(centre->request, centre->request->rank),
                               (int)getpid(), centre->request->rank_count, (unsigned long long)epx_boot_limit_now()));
}

void epx_boot_gather_accept(struct epx_boot_centre *centre)
{
    for (struct epx_boot_guest *place = epx_boot_gather_free_place(centre); place != NULL;
         place = epx_boot_gather_free_place(centre)) {
        int fd = epx_boot_accept(centre->listener);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            epx_boot_gather_exhausted(centre, -fd);
        }
        if (fd < 0) {
            return;
        }
        epx_boot_gather_welcome(centre, place, fd);
    }
}

static bool has_hung_up(const struct epx_boot_guest *guest)
{
    struct pollfd poll_fd = {.fd = guest->fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* A world that disagrees on its size can never be complete, so the disagreement fails everyone who waits. */
static bool refuse_other_world(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                               const struct epx_boot_hello *hello)
{
    const struct epx_bootstrap_request *own = centre->request;
    enum epx_status status;
    if (hello->rank_count != own->rank_count) {
        status =
            epx_fail(EPX_ERR_RENDEZVOUS, "%s: world size differs: rank %u (pid %d) says %u, rank %u (pid %d) says %u",
                     own->what, epx_boot_rank_name(own, hello->rank), (int)guest->pid, hello->rank_count,
                     epx_boot_rank_name(own, own->rank), (int)getpid(), own->rank_count);
    } else if (hello->shared_bytes != own->shared_bytes) {
        status = epx_fail(
            EPX_ERR_RENDEZVOUS,
            "%s: control region size differs: rank %u (pid %d) says %llu bytes, rank %u (pid %d) says %llu", own->what,
            epx_boot_rank_name(own, hello->rank), (int)guest->pid, (unsigned long long)hello->shared_bytes,
            epx_boot_rank_name(own, own->rank), (int)getpid(), (unsigned long long)own->shared_bytes);
    } else {
        return false;
    }
    /* Those who have connected and not been looked at yet are to hear of it, too. */
    epx_boot_gather_accept(centre);
    epx_boot_guest_refuse(centre, guest, status);
    epx_boot_guests_fail(centre, status);
    return true;
}

static bool refuse_duplicate(struct epx_boot_centre *centre, struct epx_boot_guest *guest, uint32_t rank)
{
    if (centre->holders[rank] == EPX_BOOT_NOBODY) {
        return false;
    }
    struct epx_boot_guest *holder = &centre->guests[centre->holders[rank]];
    if (has_hung_up(holder)) {
        epx_boot_guest_drop(centre, holder);
        return false;
    }
    enum epx_status status =
        epx_fail(EPX_ERR_RENDEZVOUS, "%s: rank %u is held by pid %d, pid %d cannot take it", centre->request->what,
                 epx_boot_rank_name(centre->request, rank), (int)holder->pid, (int)guest->pid);
    epx_boot_guest_refuse(centre, guest, status);
    return true;
}

void epx_boot_gather_hello(struct epx_boot_centre *centre, struct epx_boot_guest *guest, struct epx_boot_packet *packet)
{
    const struct epx_boot_hello *hello = &packet->message.body.hello;
    if (guest->joined || packet->fd_count != 1) {
        epx_boot_guest_violate(centre, guest,
                               guest->joined ? "a second hello" : "a hello without the descriptor of its arena");
        return;
    }
    if (refuse_other_world(centre, guest, hello) || refuse_duplicate(centre, guest, hello->rank)) {
        return;
    }
    const struct epx_boot_guest *holder = epx_boot_guest_find_arena(centre, &hello->arena, true, guest);
    if (holder != NULL && holder->pid != guest->pid) {
        epx_boot_guest_violate(centre, guest, "the arena of another process");
        return;
    }
    guest->rank = hello->rank;
    guest->arena = hello->arena;
    if (holder == NULL) {
        guest->arena_fd = packet->fds[0];
        packet->fd_count = 0;
    }
    guest->joined = true;
    centre->holders[hello->rank] = (uint32_t)(guest - centre->guests);
    epx_boot_set_add(centre->seen, hello->rank);
    centre->joined_count++;
    if (centre->joined_count == centre->request->rank_count) {
        assemble(centre);
    }
}
