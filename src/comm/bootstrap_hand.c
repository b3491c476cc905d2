#include "comm/bootstrap_star.h"

#include "base/fault.h"

#include <errno.h>

#define IN_FLIGHT_MAX 256u /* descriptors sent and not yet known to be received, of all ranks together */

void epx_boot_hand_roster(struct epx_boot_centre *centre, struct epx_boot_guest *guest, uint32_t first)
{
    uint32_t rank_count = centre->request->rank_count;
    if (first >= rank_count) {
        epx_boot_guest_violate(centre, guest, "asks for ranks that the world has not");
        return;
    }
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_ROSTER);
    struct epx_boot_roster *roster = &message.body.roster;
    roster->first = first;
    roster->count = rank_count - first < EPX_BOOT_ROSTER_MAX ? rank_count - first : EPX_BOOT_ROSTER_MAX;
    for (uint32_t i = 0; i < roster->count; i++) {
        roster->arenas[i] = centre->guests[centre->holders[first + i]].arena;
    }
    epx_boot_guest_send(centre, guest, &message);
}

void epx_boot_hand_want(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                        const struct epx_boot_items *items)
{
    for (uint32_t i = 0; i < items->count; i++) {
        if (items->items[i] >= centre->request->rank_count && items->items[i] != EPX_BOOT_ITEM_SHARED) {
            epx_boot_guest_violate(centre, guest, "asks for a rank that the world has not");
            return;
        }
    }
    guest->want = *items;
    guest->wants = true;
}

static int descriptor_of(const struct epx_boot_centre *centre, uint32_t item)
{
    if (item == EPX_BOOT_ITEM_SHARED) {
        return centre->shared_fd;
    }
    const struct epx_boot_guest *guest = &centre->guests[centre->holders[item]];
    return guest->arena_fd >= 0 ? guest->arena_fd
                                : epx_boot_guest_find_arena(centre, &guest->arena, true, NULL)->arena_fd;
}

static void give(struct epx_boot_centre *centre, struct epx_boot_guest *guest)
{
    struct epx_boot_message message;
    int fds[EPX_BOOT_ITEM_MAX];
    epx_boot_message_init(&message, EPX_BOOT_GIVE);
    message.body.items = guest->want;
    for (uint32_t i = 0; i < guest->want.count; i++) {
        fds[i] = descriptor_of(centre, guest->want.items[i]);
    }
    int result = epx_boot_send(guest->fd, &message, fds, guest->want.count);
    if (result == -ETOOMANYREFS) {
        centre->kernel_refuses = true;
        return;
    }
    if (result != 0) {
        epx_boot_guest_drop(centre, guest);
        return;
    }
    guest->wants = false;
    guest->in_flight = guest->want.count;
    centre->in_flight += guest->want.count;
}

void epx_boot_hand_answer(struct epx_boot_centre *centre)
{
    centre->kernel_refuses = false;
    for (uint32_t g = 0; g < centre->capacity && !centre->over && !centre->kernel_refuses; g++) {
        struct epx_boot_guest *guest = &centre->guests[g];
        if (guest->fd >= 0 && guest->wants && centre->in_flight + guest->want.count <= IN_FLIGHT_MAX) {
            give(centre, guest);
        }
    }
}

static void complete(struct epx_boot_centre *centre)
{
    centre->over = true;
    if (epx_boot_verdict_say(centre->verdict, EPX_BOOT_COMPLETED) != EPX_BOOT_COMPLETED) {
        return;
    }
    (void)epx_fault("bootstrap_complete", (int)centre->request->rank);
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_COMPLETE);
    epx_boot_guests_send(centre, &message);
}

void epx_boot_hand_mapped(struct epx_boot_centre *centre, struct epx_boot_guest *guest)
{
    if (guest->mapped) {
        epx_boot_guest_violate(centre, guest, "has mapped everything twice");
        return;
    }
    guest->mapped = true;
    centre->mapped_count++;
    if (centre->mapped_count == centre->request->rank_count) {
        complete(centre);
    }
}
