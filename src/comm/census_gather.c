#include "comm/census_star.h"

#include "base/clock.h"
#include "base/log.h"
#include "comm/bootstrap_limit.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PROOF_TIMEOUT_MS 2000 /* a connection that has not proved itself by then is dropped */
#define COMPLETE_SPAN_MS 2000 /* the last word is short: whoever cannot take it by then is gone */
#define ACCEPT_MAX       64   /* connections taken before those that are there are served */

/* ---- Connections ----------------------------------------------------------------------------------------------- */

static struct epx_census_guest *find_oldest_stranger(struct epx_census_centre *centre)
{
    struct epx_census_guest *oldest = NULL;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_census_guest *guest = &centre->guests[g];
        if (guest->fd >= 0 && !guest->joined &&
            (oldest == NULL || guest->visitor.deadline_ns < oldest->visitor.deadline_ns)) {
            oldest = guest;
        }
    }
    return oldest;
}

/* A free place, or that of the stranger who has been there longest. */
static struct epx_census_guest *make_place(struct epx_census_centre *centre)
{
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd < 0) {
            return &centre->guests[g];
        }
    }
    struct epx_census_guest *oldest = find_oldest_stranger(centre);
    if (oldest != NULL) {
        epx_census_guest_refuse(centre, oldest, "gives way to a later one");
    }
    return oldest;
}

/* Fails the census on every rank when the ranks alone need more descriptors than there are. */
static void exhausted(struct epx_census_centre *centre, int error)
{
    struct epx_census_guest *oldest = find_oldest_stranger(centre);
    if (oldest != NULL) {
        epx_census_guest_refuse(centre, oldest, "no descriptor left");
        return;
    }
    epx_census_guests_fail(centre,
                           epx_fail_errno(EPX_ERR_SYSTEM, error,
                                          "%s: rank 0 (pid %d) has no descriptor left for the %u ranks it gathers, "
                                          "limit %llu (ulimit -n)",
                                          centre->request->what, (int)getpid(), centre->request->rank_count,
                                          (unsigned long long)epx_boot_limit_now()));
}

void epx_census_gather_accept(struct epx_census_centre *centre)
{
    for (int i = 0; i < ACCEPT_MAX && !centre->over; i++) {
        int fd = epx_census_accept(centre->listener, centre->request->admitted);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            exhausted(centre, -fd);
        }
        if (fd < 0) {
            return;
        }
        struct epx_census_guest *place = make_place(centre);
        if (place == NULL) {
            epx_boot_close(fd);
            return;
        }
        memset(place, 0, offsetof(struct epx_census_guest, out));
        place->fd = fd;
        place->visitor.deadline_ns = epx_deadline_after_ms(PROOF_TIMEOUT_MS);
    }
}

/* ---- Hello ----------------------------------------------------------------------------------------------------- */

static void refuse_hello(struct epx_census_centre *centre, struct epx_census_guest *guest, enum epx_status status)
{
    epx_log(EPX_LOG_WARN, "refused: %s", epx_error_text());
    epx_census_guest_fail(centre, guest, status);
}

static bool refuse_other_size(struct epx_census_centre *centre, struct epx_census_guest *guest,
                              const struct epx_census_hello *hello)
{
    const struct epx_census_request *own = centre->request;
    if (hello->rank_count == own->rank_count) {
        return false;
    }
    refuse_hello(centre, guest,
                 epx_fail(EPX_ERR_RENDEZVOUS,
                          "%s: world size differs: rank %u (pid %u on %s) says %u, rank 0 (pid %d on %s) says %u",
                          own->what, hello->rank, hello->pid, hello->host_name, hello->rank_count, (int)getpid(),
                          own->host_name, own->rank_count));
    return true;
}

/* A rank whose earlier connection has broken takes its place again, and a new process that of one that is gone. Rank 0
 * is the centre's own from the beginning. */
static bool refuse_duplicate(struct epx_census_centre *centre, struct epx_census_guest *guest,
                             const struct epx_census_hello *hello)
{
    const struct epx_census_record *record = &centre->records[hello->rank];
    uint32_t pid = record->pid;
    const char *host_name = record->host_name;
    uint32_t holder = centre->holders[hello->rank];
    if (hello->rank == 0 && hello->instance != centre->own_instance) {
        pid = (uint32_t)getpid();
        host_name = centre->request->host_name;
    } else if (holder == EPX_CENSUS_NOBODY) {
        return false;
    } else if (centre->guests[holder].instance == hello->instance ||
               epx_census_has_hung_up(centre->guests[holder].fd)) {
        epx_census_guest_drop(centre, &centre->guests[holder]);
        return false;
    }
    refuse_hello(centre, guest,
                 epx_fail(EPX_ERR_RENDEZVOUS, "%s: rank %u is held by pid %u on %s, pid %u on %s cannot take it",
                          centre->request->what, hello->rank, pid, host_name, hello->pid, hello->host_name));
    return true;
}

static bool keep_record(struct epx_census_record *record, const struct epx_census_hello *hello)
{
    uint8_t *card = hello->card_bytes > 0 ? malloc(hello->card_bytes) : NULL;
    if (card == NULL && hello->card_bytes > 0) {
        return false;
    }
    if (card != NULL) {
        memcpy(card, hello->card, hello->card_bytes);
    }
    free(record->card);
    *record = (struct epx_census_record){.pid = hello->pid, .card_bytes = hello->card_bytes, .card = card};
    memcpy(record->host_id, hello->host_id, sizeof record->host_id);
    memcpy(record->host_name, hello->host_name, sizeof record->host_name);
    return true;
}

static void fail_no_memory(struct epx_census_centre *centre)
{
    epx_census_guests_fail(centre, epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory for the census of %u ranks",
                                            centre->request->what, centre->request->rank_count));
}

/* Everyone has reported: the census goes out, to each guest as fast as it takes it. */
static void assemble(struct epx_census_centre *centre)
{
    uint8_t run[EPX_CENSUS_RUN_BYTES];
    if (getrandom(run, sizeof run, 0) != (ssize_t)sizeof run) {
        epx_census_guests_fail(centre, epx_fail_errno(EPX_ERR_SYSTEM, errno, "%s: getrandom", centre->request->what));
        return;
    }
    if (!epx_census_frames_make(centre->records, centre->request->rank_count, centre->link_port, run, &centre->frames,
                                &centre->frames_bytes)) {
        fail_no_memory(centre);
        return;
    }
    for (uint32_t g = 0; g < centre->capacity && !centre->over; g++) {
        if (centre->guests[g].fd >= 0 && centre->guests[g].joined) {
            epx_census_guest_flush(centre, &centre->guests[g]);
        }
    }
}

static void take_hello(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    struct epx_census_hello hello;
    const struct epx_census_reader *reader = &guest->visitor.reader;
    if (!epx_census_hello_decode(reader->body, reader->head.body_bytes, &hello)) {
        epx_census_guest_refuse(centre, guest, "a hello that cannot be right");
        return;
    }
    if (refuse_other_size(centre, guest, &hello) || refuse_duplicate(centre, guest, &hello) || centre->over) {
        return;
    }
    if (!keep_record(&centre->records[hello.rank], &hello)) {
        fail_no_memory(centre);
        return;
    }
    guest->joined = true;
    guest->rank = hello.rank;
    guest->instance = hello.instance;
    epx_census_reader_fini(&guest->visitor.reader);
    centre->holders[hello.rank] = (uint32_t)(guest - centre->guests);
    epx_rank_set_add(&centre->seen, hello.rank);
    centre->joined_count++;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        centre->guests[g].report_due = true;
    }
    if (centre->joined_count == centre->request->rank_count) {
        assemble(centre);
    }
}

/* ---- Frames of guests ------------------------------------------------------------------------------------------ */

static void complete(struct epx_census_centre *centre)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES];
    centre->complete = true;
    centre->complete_deadline_ns = epx_deadline_after_ms(COMPLETE_SPAN_MS);
    for (uint32_t g = 0; g < centre->capacity; g++) {
        struct epx_census_guest *guest = &centre->guests[g];
        if (guest->fd >= 0 && guest->joined) {
            epx_census_guest_put(guest, EPX_CENSUS_COMPLETE, frame, 0);
            epx_census_guest_flush(centre, guest);
        }
    }
}

static void read_member(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    int result = epx_census_read(guest->fd, EPX_CENSUS_BIT(EPX_CENSUS_CONFIRM), &guest->visitor.reader);
    if (result == 0) {
        epx_census_guest_drop(centre, guest);
    } else if (result < 0 && result != -EAGAIN) {
        epx_census_guest_refuse(centre, guest, epx_census_read_error(result));
    } else if (result == 1 &&
               (guest->confirmed || centre->frames == NULL || guest->frames_sent < centre->frames_bytes)) {
        epx_census_guest_refuse(centre, guest, "a confirmation of nothing");
    } else if (result == 1) {
        guest->confirmed = true;
        centre->confirmed_count++;
        if (centre->confirmed_count == centre->request->rank_count) {
            complete(centre);
        }
    }
}

void epx_census_gather_read(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    if (guest->joined) {
        read_member(centre, guest);
        return;
    }
    const struct epx_census_door door = {.key = centre->request->key,
                                         .role = EPX_CENSUS_ROLE_CENTRE,
                                         .visitor_role = EPX_CENSUS_ROLE_MEMBER,
                                         .expected = EPX_CENSUS_HELLO};
    int result = epx_census_visitor_read(guest->fd, &door, &guest->visitor);
    if (result == 1) {
        take_hello(centre, guest);
    } else if (result == 0) {
        /* A rank of another world that tries the ports in turn. */
        epx_census_guest_drop(centre, guest);
    } else if (result != -EAGAIN) {
        epx_census_guest_refuse(centre, guest, epx_census_read_error(result));
    }
}
