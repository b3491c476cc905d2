#include "comm/census_centre.h"

#include "base/clock.h"
#include "base/thread.h"
#include "comm/bootstrap_limit.h"
#include "comm/census_star.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STRANGER_MAX       64u /* connections beyond one for each rank */
#define POLL_MOST_MS       1000
#define THREAD_STACK_BYTES (512u << 10)

/* ---- The loop -------------------------------------------------------------------------------------------------- */

/* Drops strangers whose time is up. When something is to be done without an event. */
static uint64_t next_deadline(struct epx_census_centre *centre)
{
    uint64_t now = epx_clock_ns();
    uint64_t next = centre->complete ? centre->complete_deadline_ns : EPX_NEVER;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_census_guest *guest = &centre->guests[g];
        if (guest->fd < 0) {
            continue;
        }
        if (!guest->joined && now >= guest->visitor.deadline_ns) {
            epx_census_guest_refuse(centre, guest, "has not said who it is in time");
        } else if (!guest->joined && guest->visitor.deadline_ns < next) {
            next = guest->visitor.deadline_ns;
        } else if (guest->joined && guest->report_due && epx_census_guest_is_idle(centre, guest) &&
                   centre->report_ns < next) {
            next = centre->report_ns;
        }
    }
    return next;
}

static void wait_for_events(struct epx_census_centre *centre, uint64_t until_ns)
{
    struct pollfd *polls = centre->polls;
    nfds_t count = 2;
    /* A stop does not end a census that is complete: its last words go out first. */
    polls[0] = (struct pollfd){.fd = centre->complete ? -1 : centre->stop_fd, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = centre->complete ? -1 : centre->listener, .events = POLLIN};
    /* Only what is there: poll refuses more entries than there may be descriptors. */
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_census_guest *guest = &centre->guests[g];
        guest->poll = 0;
        if (guest->fd >= 0) {
            short out = epx_census_guest_has_output(centre, guest) ? POLLOUT : 0;
            guest->poll = (uint32_t)count;
            polls[count++] = (struct pollfd){.fd = guest->fd, .events = (short)(POLLIN | out)};
        }
    }
    if (poll(polls, count, epx_census_poll_ms(epx_clock_ns(), until_ns, POLL_MOST_MS)) < 0) {
        int error = errno;
        for (nfds_t p = 0; p < count; p++) {
            polls[p].revents = 0;
        }
        if (error != EINTR) {
            epx_census_guests_fail(centre,
                                   epx_fail_errno(EPX_ERR_SYSTEM, error, "%s: rank 0 cannot watch %u connections",
                                                  centre->request->what, (unsigned)count));
        }
    }
}

static void handle_guest(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    const struct pollfd *event = &centre->polls[guest->poll];
    if (guest->poll == 0 || guest->fd != event->fd || event->revents == 0) {
        return;
    }
    if ((event->revents & POLLOUT) != 0) {
        epx_census_guest_flush(centre, guest);
    }
    if (guest->fd >= 0 && !centre->over && (event->revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        epx_census_gather_read(centre, guest);
    }
}

static bool all_told(const struct epx_census_centre *centre)
{
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0 && centre->guests[g].joined && centre->guests[g].out_bytes > 0) {
            return epx_clock_ns() >= centre->complete_deadline_ns;
        }
    }
    return true;
}

static void handle_events(struct epx_census_centre *centre)
{
    for (uint32_t g = 0; g < centre->capacity && !centre->over; g++) {
        handle_guest(centre, &centre->guests[g]);
    }
    if (!centre->over && !centre->complete && centre->polls[1].revents != 0) {
        epx_census_gather_accept(centre);
    }
    if (!centre->over && !centre->complete) {
        bool stop = centre->polls[0].revents != 0;
        epx_census_report(centre, stop);
        centre->over = centre->over || stop;
    }
    centre->over = centre->over || (centre->complete && all_told(centre));
}

/* Every connection is closed before the thread ends, so that ranks which were told nothing report again at once. */
static void *run(void *argument)
{
    struct epx_census_centre *centre = argument;
    while (!centre->over) {
        uint64_t until_ns = next_deadline(centre);
        wait_for_events(centre, until_ns);
        handle_events(centre);
    }
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0) {
            epx_census_guest_drop(centre, &centre->guests[g]);
        }
    }
    return NULL;
}

/* ---- Start and stop -------------------------------------------------------------------------------------------- */

static void free_centre(struct epx_census_centre *centre)
{
    if (centre->stop_fd >= 0) {
        (void)close(centre->stop_fd);
    }
    for (uint32_t r = 0; centre->records != NULL && r < centre->request->rank_count; r++) {
        free(centre->records[r].card);
    }
    free(centre->guests);
    free(centre->polls);
    free(centre->holders);
    free(centre->records);
    free(centre->frames);
    free(centre);
}

static bool allocate_places(struct epx_census_centre *centre)
{
    uint32_t rank_count = centre->request->rank_count;
    centre->capacity = rank_count + STRANGER_MAX;
    centre->guests = calloc(centre->capacity, sizeof *centre->guests);
    centre->polls = calloc(2 + (size_t)centre->capacity, sizeof *centre->polls);
    centre->holders = calloc(rank_count, sizeof *centre->holders);
    centre->records = calloc(rank_count, sizeof *centre->records);
    if (centre->guests == NULL || centre->polls == NULL || centre->holders == NULL || centre->records == NULL) {
        return false;
    }
    for (uint32_t g = 0; g < centre->capacity; g++) {
        centre->guests[g].fd = -1;
    }
    for (uint32_t r = 0; r < rank_count; r++) {
        centre->holders[r] = EPX_CENSUS_NOBODY;
    }
    return true;
}

static enum epx_status start(struct epx_census_centre *centre)
{
    const struct epx_census_request *request = centre->request;
    if (!allocate_places(centre)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to gather %u ranks", request->what, request->rank_count);
    }
    centre->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (centre->stop_fd < 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "%s: eventfd", request->what);
    }
    int error = epx_thread_start(&centre->thread, THREAD_STACK_BYTES, run, centre);
    if (error != 0) {
        return epx_fail_errno(epx_status_of_thread_error(error), error, "%s: pthread_create", request->what);
    }
    return EPX_OK;
}

enum epx_status epx_census_centre_start(const struct epx_census_taking *taking, int listener,
                                        struct epx_census_centre **out)
{
    const struct epx_census_request *request = taking->request;
    struct epx_census_centre *centre = calloc(1, sizeof *centre);
    if (centre == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to gather %u ranks", request->what, request->rank_count);
    }
    centre->request = request;
    centre->own_instance = taking->instance;
    centre->link_port = taking->link_port;
    centre->listener = listener;
    centre->stop_fd = -1;
    /* The connection of every rank, and the ranks' own ends when they are threads of this process. */
    epx_boot_limit_acquire((uint64_t)listener + 3 * (uint64_t)request->rank_count + 2 * STRANGER_MAX);
    enum epx_status status = start(centre);
    if (status != EPX_OK) {
        epx_boot_limit_release();
        free_centre(centre);
        return status;
    }
    *out = centre;
    return EPX_OK;
}

void epx_census_centre_stop(struct epx_census_centre *centre)
{
    const uint64_t one = 1;
    /* Cannot fail: the counter is written once. */
    ssize_t written = write(centre->stop_fd, &one, sizeof one);
    (void)written;
    (void)pthread_join(centre->thread, NULL);
    epx_boot_limit_release();
    free_centre(centre);
}
