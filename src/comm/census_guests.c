#include "comm/census_star.h"

#include "base/log.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A stranger who knocks on and on must not fill the log: from here on at level debug. */
#define WARNINGS_MAX 16u

void epx_census_guest_drop(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    epx_boot_close(guest->fd);
    guest->fd = -1;
    epx_census_reader_fini(&guest->visitor.reader);
    if (!guest->joined) {
        return;
    }
    guest->joined = false;
    centre->holders[guest->rank] = EPX_CENSUS_NOBODY;
    centre->joined_count--;
    centre->confirmed_count -= guest->confirmed;
    centre->over = centre->over || (centre->frames != NULL && !centre->complete);
    for (uint32_t g = 0; g < centre->capacity; g++) {
        centre->guests[g].report_due = true;
    }
}

void epx_census_guest_refuse(struct epx_census_centre *centre, struct epx_census_guest *guest, const char *reason)
{
    char peer[EPX_CENSUS_PEER_TEXT_BYTES];
    epx_census_peer_print(guest->fd, peer);
    enum epx_log_level level = centre->refused_count++ < WARNINGS_MAX ? EPX_LOG_WARN : EPX_LOG_DEBUG;
    if (guest->joined) {
        epx_log(level, "start of %s: rank %u at %s dropped: %s", centre->request->what, guest->rank, peer, reason);
    } else {
        epx_log(level, "start of %s: connection from %s refused: %s", centre->request->what, peer, reason);
    }
    epx_census_guest_drop(centre, guest);
}

bool epx_census_guest_is_idle(const struct epx_census_centre *centre, const struct epx_census_guest *guest)
{
    return guest->out_bytes == 0 && (guest->frames_sent == 0 || guest->frames_sent == centre->frames_bytes);
}

bool epx_census_guest_has_output(const struct epx_census_centre *centre, const struct epx_census_guest *guest)
{
    return guest->out_bytes > 0 || (guest->joined && guest->frames_sent < centre->frames_bytes);
}

void epx_census_guest_put(struct epx_census_guest *guest, enum epx_census_kind kind, uint8_t *frame, uint32_t bytes)
{
    uint32_t frame_bytes = EPX_CENSUS_HEAD_BYTES + bytes;
    if (frame_bytes > sizeof guest->out - guest->out_bytes) {
        return;
    }
    epx_census_head_encode(frame, kind, bytes);
    memcpy(guest->out + guest->out_bytes, frame, frame_bytes);
    guest->out_bytes += frame_bytes;
}

/* Zero when all of `out` has gone, or a negative errno. */
static int flush_out(struct epx_census_guest *guest)
{
    while (guest->out_sent < guest->out_bytes) {
        ssize_t sent = epx_census_send(guest->fd, guest->out + guest->out_sent, guest->out_bytes - guest->out_sent);
        if (sent < 0) {
            return (int)sent;
        }
        guest->out_sent += (uint32_t)sent;
    }
    guest->out_bytes = 0;
    guest->out_sent = 0;
    return 0;
}

void epx_census_guest_flush(struct epx_census_centre *centre, struct epx_census_guest *guest)
{
    int error = flush_out(guest);
    while (error == 0 && guest->joined && guest->frames_sent < centre->frames_bytes) {
        ssize_t sent =
            epx_census_send(guest->fd, centre->frames + guest->frames_sent, centre->frames_bytes - guest->frames_sent);
        if (sent < 0) {
            error = (int)sent;
        } else {
            guest->frames_sent += (size_t)sent;
        }
    }
    if (error != 0 && error != -EAGAIN) {
        epx_census_guest_drop(centre, guest);
    }
}

void epx_census_guest_fail(struct epx_census_centre *centre, struct epx_census_guest *guest, enum epx_status status)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_FAILURE_BYTES];
    uint32_t bytes = epx_census_failure_encode(status, epx_error_text(), frame + EPX_CENSUS_HEAD_BYTES);
    if (epx_census_guest_is_idle(centre, guest)) {
        (void)epx_census_send_frame(guest->fd, EPX_CENSUS_FAILURE, frame, bytes);
    }
    epx_census_guest_drop(centre, guest);
}

void epx_census_guests_fail(struct epx_census_centre *centre, enum epx_status status)
{
    centre->over = true;
    for (uint32_t g = 0; g < centre->capacity; g++) {
        if (centre->guests[g].fd >= 0 && centre->guests[g].joined) {
            epx_census_guest_fail(centre, &centre->guests[g], status);
        }
    }
}
