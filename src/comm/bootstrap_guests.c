#include "comm/bootstrap_star.h"

#include "base/log.h"

#include <string.h>
#include <unistd.h>

static bool same_arena(const struct epx_arena_id *a, const struct epx_arena_id *b)
{
    return a->words[0] == b->words[0] && a->words[1] == b->words[1];
}

struct epx_boot_guest *epx_boot_guest_find_arena(const struct epx_boot_centre *centre, const struct epx_arena_id *id,
                                                 bool with_fd, const struct epx_boot_guest *except)
{
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_boot_guest *guest = &centre->guests[g];
        if (guest->fd >= 0 && guest->joined && guest != except && (guest->arena_fd >= 0 || !with_fd) &&
            same_arena(&guest->arena, id)) {
            return guest;
        }
    }
    return NULL;
}

/* Ranks of one process share one descriptor; it passes to another of them when its holder leaves. */
static void release_arena(struct epx_boot_centre *centre, struct epx_boot_guest *guest)
{
    if (guest->arena_fd < 0) {
        return;
    }
    struct epx_boot_guest *heir = epx_boot_guest_find_arena(centre, &guest->arena, false, guest);
    if (heir != NULL) {
        heir->arena_fd = guest->arena_fd;
    } else {
        (void)close(guest->arena_fd);
    }
    guest->arena_fd = -1;
}

void epx_boot_guest_drop(struct epx_boot_centre *centre, struct epx_boot_guest *guest)
{
    epx_boot_close(guest->fd);
    guest->fd = -1;
    release_arena(centre, guest);
    centre->in_flight -= guest->in_flight;
    if (guest->joined) {
        centre->holders[guest->rank] = EPX_BOOT_NOBODY;
        centre->joined_count--;
        centre->over = centre->over || centre->assembled;
    }
}

void epx_boot_guest_send(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                         const struct epx_boot_message *message)
{
    if (epx_boot_send(guest->fd, message, NULL, 0) != 0) {
        epx_boot_guest_drop(centre, guest);
    }
}

void epx_boot_guests_send(struct epx_boot_centre *centre, const struct epx_boot_message *message)
{
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0) {
            epx_boot_guest_send(centre, &centre->guests[g], message);
        }
    }
}

/* The calling thread's error text goes with it. */
static void make_failure(struct epx_boot_message *message, enum epx_status status)
{
    epx_boot_message_init(message, EPX_BOOT_FAILURE);
    message->body.failure.status = status;
    (void)strncpy(message->body.failure.text, epx_error_text(), sizeof message->body.failure.text - 1);
}

void epx_boot_guests_fail(struct epx_boot_centre *centre, enum epx_status status)
{
    struct epx_boot_message message;
    make_failure(&message, status);
    centre->over = true;
    epx_boot_guests_send(centre, &message);
}

void epx_boot_guest_refuse(struct epx_boot_centre *centre, struct epx_boot_guest *guest, enum epx_status status)
{
    struct epx_boot_message message;
    make_failure(&message, status);
    (void)epx_boot_send(guest->fd, &message, NULL, 0);
    epx_boot_guest_drop(centre, guest);
}

void epx_boot_guest_violate(struct epx_boot_centre *centre, struct epx_boot_guest *guest, const char *reason)
{
    if (guest->joined) {
        epx_log(EPX_LOG_WARN, "start of %s: rank %u (pid %d) dropped: %s", centre->request->what,
                epx_boot_rank_name(centre->request, guest->rank), (int)guest->pid, reason);
    } else {
        epx_log(EPX_LOG_WARN, "start of %s: connection of pid %d dropped: %s", centre->request->what, (int)guest->pid,
                reason);
    }
    epx_boot_guest_drop(centre, guest);
}
