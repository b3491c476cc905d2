#include "comm/bootstrap_centre.h"

#include "base/clock.h"
#include "base/thread.h"
#include "comm/bootstrap_limit.h"
#include "comm/bootstrap_star.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STRANGER_MAX       64u /* connections beyond one for each rank */
#define IN_FLIGHT_RETRY_MS 5   /* pause when the kernel refuses more descriptors in flight */
#define THREAD_STACK_BYTES (512u << 10)

/* ---- Questions, failures, the loop ----------------------------------------------------------------------------- */

/* Ranks that never came; when all have come and some have left, those. */
static void make_missing(const struct epx_boot_centre *centre, struct epx_boot_message *message)
{
    epx_boot_message_init(message, EPX_BOOT_MISSING);
    struct epx_boot_missing *missing = &message->body.missing;
    missing->phase = centre->assembled ? EPX_BOOT_MISSING_MAPPED : EPX_BOOT_MISSING_HELLO;
    bool any = false;
    for (uint32_t r = 0; r < centre->request->rank_count; r++) {
        uint32_t holder = centre->holders[r];
        bool done = centre->assembled ? holder != EPX_BOOT_NOBODY && centre->guests[holder].mapped
                                      : epx_boot_set_has(centre->seen, r);
        if (!done) {
            epx_boot_set_add(missing->ranks, r);
            any = true;
        }
    }
    for (uint32_t r = 0; !any && r < centre->request->rank_count; r++) {
        if (centre->holders[r] == EPX_BOOT_NOBODY) {
            epx_boot_set_add(missing->ranks, r);
        }
    }
}

static void on_failure(struct epx_boot_centre *centre, const struct epx_boot_guest *guest,
                       const struct epx_boot_failure *failure)
{
    enum epx_status status = (enum epx_status)failure->status;
    epx_boot_guests_fail(centre,
                         epx_fail(status, "%s: rank %u (pid %d): %s", centre->request->what,
                                  epx_boot_rank_name(centre->request, guest->rank), (int)guest->pid, failure->text));
}

static void on_message(struct epx_boot_centre *centre, struct epx_boot_guest *guest, struct epx_boot_packet *packet)
{
    const struct epx_boot_message *message = &packet->message;
    centre->in_flight -= guest->in_flight;
    guest->in_flight = 0;
    bool handing = guest->joined && centre->assembled && !guest->wants;
    if (message->kind == EPX_BOOT_HELLO) {
        epx_boot_gather_hello(centre, guest, packet);
    } else if (message->kind == EPX_BOOT_QUERY && guest->joined) {
        struct epx_boot_message missing;
        make_missing(centre, &missing);
        epx_boot_guest_send(centre, guest, &missing);
    } else if (message->kind == EPX_BOOT_FAILURE && guest->joined) {
        on_failure(centre, guest, &message->body.failure);
    } else if (message->kind == EPX_BOOT_GET_ROSTER && handing) {
        epx_boot_hand_roster(centre, guest, message->body.get_roster.first);
    } else if (message->kind == EPX_BOOT_WANT && handing) {
        epx_boot_hand_want(centre, guest, &message->body.items);
    } else if (message->kind == EPX_BOOT_MAPPED && handing) {
        epx_boot_hand_mapped(centre, guest);
    } else {
        epx_boot_guest_violate(centre, guest, "a message out of turn");
    }
}

static void read_guest(struct epx_boot_centre *centre, struct epx_boot_guest *guest)
{
    struct epx_boot_packet packet;
    int result = epx_boot_receive(guest->fd, &packet);
    if (result == 1) {
        on_message(centre, guest, &packet);
        epx_boot_packet_close(&packet);
    } else if (result == 0) {
        epx_boot_guest_drop(centre, guest);
    } else if (result == -EMFILE) {
        epx_boot_gather_exhausted(centre, -result);
    } else if (result != -EAGAIN) {
        epx_boot_guest_violate(centre, guest,
                               result == -EBADMSG ? "not a message of this protocol" : strerrordesc_np(-result));
    }
}

/* Milliseconds until the next connection without a hello is to be dropped, -1 when there is none. */
static int drop_silent(struct epx_boot_centre *centre)
{
    uint64_t now = epx_clock_ns();
    uint64_t next = EPX_NEVER;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_boot_guest *guest = &centre->guests[g];
        if (guest->fd < 0 || guest->joined) {
            continue;
        }
        if (now >= guest->hello_deadline_ns) {
            epx_boot_guest_violate(centre, guest, "no hello");
        } else if (guest->hello_deadline_ns < next) {
            next = guest->hello_deadline_ns;
        }
    }
    return next == EPX_NEVER ? -1 : (int)((next - now) / 1000000u) + 1;
}

static void wait_for_events(struct epx_boot_centre *centre, int timeout_ms)
{
    struct pollfd *polls = centre->polls;
    nfds_t count = 2;
    polls[0] = (struct pollfd){.fd = centre->stop_fd, .events = POLLIN};
    polls[1] =
        (struct pollfd){.fd = epx_boot_gather_free_place(centre) != NULL ? centre->listener : -1, .events = POLLIN};
    /* Only what is there: poll refuses more entries than there may be descriptors. */
    for (uint32_t g = 0; g < centre->capacity; g++) {
        centre->guests[g].poll = 0;
        if (centre->guests[g].fd >= 0) {
            centre->guests[g].poll = (uint32_t)count;
            polls[count++] = (struct pollfd){.fd = centre->guests[g].fd, .events = POLLIN};
        }
    }
    if (centre->kernel_refuses && (timeout_ms < 0 || timeout_ms > IN_FLIGHT_RETRY_MS)) {
        timeout_ms = IN_FLIGHT_RETRY_MS;
    }
    if (poll(polls, count, timeout_ms) < 0) {
        int error = errno;
        for (nfds_t p = 0; p < count; p++) {
            polls[p].revents = 0;
        }
        if (error != EINTR) {
            epx_boot_guests_fail(
                centre,
                epx_fail_errno(EPX_ERR_SYSTEM, error, "%s: rank %u cannot watch %u connections", centre->request->what,
                               epx_boot_rank_name(centre->request, centre->request->rank), (unsigned)count));
        }
    }
}

/* What this process's own rank has sent before its stop is read before the stop is obeyed: poll looks at the stop
 * first. */
static void handle_events(struct epx_boot_centre *centre)
{
    for (uint32_t g = 0; g < centre->capacity && !centre->over; g++) {
        struct epx_boot_guest *guest = &centre->guests[g];
        if (guest->poll != 0 && centre->polls[guest->poll].revents != 0 && guest->fd == centre->polls[guest->poll].fd) {
            read_guest(centre, guest);
        }
    }
    if (!centre->over && centre->listener >= 0 && centre->polls[1].revents != 0) {
        epx_boot_gather_accept(centre);
    }
    if (!centre->over) {
        epx_boot_hand_answer(centre);
    }
    if (!centre->over && centre->polls[0].revents != 0) {
        struct epx_boot_message message;
        make_missing(centre, &message);
        message.body.missing.centre_leaves = 1;
        centre->over = true;
        epx_boot_guests_send(centre, &message);
    }
}

/* Every connection is closed before the thread ends, so that ranks which were told nothing meet again at once. */
static void *run(void *argument)
{
    struct epx_boot_centre *centre = argument;
    while (!centre->over) {
        wait_for_events(centre, drop_silent(centre));
        handle_events(centre);
    }
    if (centre->listener >= 0) {
        epx_boot_close(centre->listener);
    }
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0) {
            epx_boot_guest_drop(centre, &centre->guests[g]);
        }
    }
    epx_boot_verdict_unmap(centre->verdict);
    if (centre->shared_fd >= 0) {
        (void)close(centre->shared_fd);
    }
    return NULL;
}

/* ---- Start and stop -------------------------------------------------------------------------------------------- */

static void free_centre(struct epx_boot_centre *centre)
{
    if (centre->stop_fd >= 0) {
        (void)close(centre->stop_fd);
    }
    free(centre->guests);
    free(centre->polls);
    free(centre->holders);
    free(centre);
}

static bool allocate_places(struct epx_boot_centre *centre)
{
    uint32_t rank_count = centre->request->rank_count;
    centre->capacity = rank_count + STRANGER_MAX;
    centre->guests = calloc(centre->capacity, sizeof *centre->guests);
    centre->polls = calloc(2 + (size_t)centre->capacity, sizeof *centre->polls);
    centre->holders = calloc(rank_count, sizeof *centre->holders);
    if (centre->guests == NULL || centre->polls == NULL || centre->holders == NULL) {
        return false;
    }
    for (uint32_t g = 0; g < centre->capacity; g++) {
        centre->guests[g].fd = -1;
        centre->guests[g].arena_fd = -1;
    }
    for (uint32_t r = 0; r < rank_count; r++) {
        centre->holders[r] = EPX_BOOT_NOBODY;
    }
    return true;
}

static enum epx_status start(struct epx_boot_centre *centre, int own_end)
{
    if (!allocate_places(centre)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to gather %u ranks", centre->request->what,
                        centre->request->rank_count);
    }
    centre->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (centre->stop_fd < 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "%s: eventfd", centre->request->what);
    }
    epx_boot_gather_welcome(centre, &centre->guests[0], own_end);
    int error = epx_thread_start(&centre->thread, THREAD_STACK_BYTES, run, centre);
    if (error != 0) {
        centre->guests[0].fd = -1;
        return epx_fail_errno(epx_status_of_thread_error(error), error, "%s: pthread_create", centre->request->what);
    }
    return EPX_OK;
}

enum epx_status epx_boot_centre_start(const struct epx_bootstrap_request *request, int listener, int own_end,
                                      struct epx_boot_centre **out)
{
    struct epx_boot_centre *centre = calloc(1, sizeof *centre);
    if (centre == NULL) {
        epx_boot_close(listener);
        epx_boot_close(own_end);
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to gather %u ranks", request->what, request->rank_count);
    }
    centre->request = request;
    centre->listener = listener;
    centre->stop_fd = -1;
    centre->shared_fd = -1;
    /* Connection and arena of every rank, and the ranks' own ends when they are threads of this process. */
    epx_boot_limit_acquire((uint64_t)listener + 3 * (uint64_t)request->rank_count + STRANGER_MAX);
    enum epx_status status = start(centre, own_end);
    if (status != EPX_OK) {
        epx_boot_limit_release();
        epx_boot_close(listener);
        epx_boot_close(own_end);
        free_centre(centre);
        return status;
    }
    *out = centre;
    return EPX_OK;
}

void epx_boot_centre_stop(struct epx_boot_centre *centre)
{
    const uint64_t one = 1;
    /* Cannot fail: the counter is written once. */
    ssize_t written = write(centre->stop_fd, &one, sizeof one);
    (void)written;
    (void)pthread_join(centre->thread, NULL);
    epx_boot_limit_release();
    free_centre(centre);
}
