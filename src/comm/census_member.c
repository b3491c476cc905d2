#include "comm/census_member.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "comm/bootstrap_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POLL_MOST_MS 1000

#define EXPECTED_KINDS                                                                                                 \
    (EPX_CENSUS_BIT(EPX_CENSUS_MISSING) | EPX_CENSUS_BIT(EPX_CENSUS_BEGIN) | EPX_CENSUS_BIT(EPX_CENSUS_HOSTS) |        \
     EPX_CENSUS_BIT(EPX_CENSUS_MEMBERS) | EPX_CENSUS_BIT(EPX_CENSUS_COMPLETE) | EPX_CENSUS_BIT(EPX_CENSUS_FAILURE))

enum epx_census_attempt epx_census_fail(struct epx_census_taking *taking, enum epx_status status)
{
    taking->failure = status;
    return EPX_CENSUS_FAILED;
}

static enum epx_census_attempt fail_no_memory(struct epx_census_taking *taking)
{
    return epx_census_fail(taking, epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory for the census of %u ranks",
                                            taking->request->what, taking->request->rank_count));
}

static enum epx_census_attempt violate(const struct epx_census_taking *taking, const char *reason)
{
    epx_log(EPX_LOG_WARN, "start of %s: rank %u leaves the centre: %s", taking->request->what, taking->request->rank,
            reason);
    return EPX_CENSUS_AGAIN;
}

/* ---- Frames of the centre; DONE when the attempt goes on -------------------------------------------------------- */

/* Keeps the ranks that every report has missed: at the end ranks leave one after another, but were not the reason. */
static void note_missing(struct epx_census_taking *taking, const struct epx_census_missing *report)
{
    struct epx_rank_set both = report->ranks;
    taking->all_reported = report->phase == EPX_CENSUS_CONFIRMING;
    if (taking->all_reported) {
        taking->unconfirmed = report->ranks;
        taking->knows_missing = false;
        return;
    }
    for (size_t w = 0; taking->knows_missing && w < sizeof both.words / sizeof both.words[0]; w++) {
        both.words[w] &= taking->missing.words[w];
    }
    taking->missing = epx_rank_set_count(&both) > 0 ? both : report->ranks;
    taking->knows_missing = true;
}

static enum epx_census_attempt take_missing(struct epx_census_taking *taking, const struct epx_census_reader *reader)
{
    struct epx_census_missing report;
    if (!epx_census_missing_decode(reader->body, reader->head.body_bytes, &report)) {
        return violate(taking, "a report that cannot be right");
    }
    note_missing(taking, &report);
    return EPX_CENSUS_DONE;
}

static enum epx_census_attempt take_failure(struct epx_census_taking *taking, const struct epx_census_reader *reader)
{
    struct epx_census_failure failure;
    if (!epx_census_failure_decode(reader->body, reader->head.body_bytes, &failure)) {
        return violate(taking, "a failure that cannot be right");
    }
    epx_error_text_set(failure.text);
    return epx_census_fail(taking, (enum epx_status)failure.status);
}

/* Whether the census says of this rank what it has said itself. */
static bool is_right_about_us(const struct epx_census_taking *taking)
{
    const struct epx_census_request *request = taking->request;
    const struct epx_census_member *own = &taking->draft.census.members[request->rank];
    return own->pid == (uint32_t)getpid() && own->card_bytes == request->card_bytes &&
           (own->card_bytes == 0 || memcmp(own->card, request->card, own->card_bytes) == 0);
}

static enum epx_census_attempt take_part(struct epx_census_taking *taking, int fd,
                                         const struct epx_census_reader *reader)
{
    int result = epx_census_draft_take(&taking->draft, taking->request->rank_count, &reader->head, reader->body);
    if (result == -ENOMEM) {
        return fail_no_memory(taking);
    }
    if (result != 0) {
        return violate(taking, "a part of the census that cannot be right");
    }
    if (!epx_census_draft_is_whole(&taking->draft)) {
        return EPX_CENSUS_DONE;
    }
    if (!is_right_about_us(taking)) {
        return violate(taking, "a census that is wrong about this rank");
    }
    (void)epx_fault("census_confirm", (int)taking->request->rank);
    uint8_t frame[EPX_CENSUS_HEAD_BYTES];
    return epx_census_send_frame(fd, EPX_CENSUS_CONFIRM, frame, 0) == 0 ? EPX_CENSUS_DONE : EPX_CENSUS_AGAIN;
}

static enum epx_census_attempt take_frame(struct epx_census_taking *taking, int fd,
                                          const struct epx_census_reader *reader, bool *complete)
{
    switch (reader->head.kind) {
    case EPX_CENSUS_MISSING: return take_missing(taking, reader);
    case EPX_CENSUS_FAILURE: return take_failure(taking, reader);
    case EPX_CENSUS_COMPLETE:
        *complete = epx_census_draft_is_whole(&taking->draft);
        return *complete ? EPX_CENSUS_DONE : violate(taking, "complete before the census is");
    default: return take_part(taking, fd, reader);
    }
}

/* ---- One attempt ----------------------------------------------------------------------------------------------- */

static enum epx_census_attempt listen_to_centre(struct epx_census_taking *taking, struct epx_census_reach *reach)
{
    bool complete = false;
    for (;;) {
        int result = epx_census_read(reach->fd, EXPECTED_KINDS, &reach->reader);
        enum epx_census_attempt attempt = EPX_CENSUS_DONE;
        if (result == 1) {
            attempt = take_frame(taking, reach->fd, &reach->reader, &complete);
        } else if (result == -ENOMEM) {
            attempt = fail_no_memory(taking);
        } else if (result != -EAGAIN) {
            return result == 0 ? EPX_CENSUS_AGAIN : violate(taking, epx_census_read_error(result));
        }
        if (attempt != EPX_CENSUS_DONE || complete) {
            return attempt;
        }
        /* Frames must not keep the time from passing. */
        uint64_t now = epx_clock_ns();
        if (now >= reach->deadline_ns) {
            return EPX_CENSUS_LATE;
        }
        if (result == -EAGAIN) {
            struct pollfd poll_fd = {.fd = reach->fd, .events = POLLIN};
            (void)poll(&poll_fd, 1, epx_census_poll_ms(now, reach->deadline_ns, POLL_MOST_MS));
        }
    }
}

static int say_hello(const struct epx_census_taking *taking, const struct epx_census_reach *reach)
{
    uint8_t frame[EPX_CENSUS_HEAD_BYTES + EPX_CENSUS_HELLO_MIN + EPX_CENSUS_CARD_BYTES_MAX];
    const struct epx_census_request *request = taking->request;
    struct epx_census_hello hello = {.rank = request->rank,
                                     .rank_count = request->rank_count,
                                     .pid = (uint32_t)getpid(),
                                     .link_port = taking->link_port,
                                     .instance = taking->instance,
                                     .card_bytes = request->card_bytes,
                                     .card = request->card};
    memcpy(hello.host_id, request->host_id, sizeof hello.host_id);
    memcpy(hello.host_name, request->host_name, sizeof hello.host_name);
    uint32_t bytes = epx_census_hello_encode(&hello, frame + EPX_CENSUS_HEAD_BYTES);
    int result = epx_census_reach_prove(reach, EPX_CENSUS_ROLE_MEMBER, EPX_CENSUS_HELLO, frame, bytes);
    (void)epx_fault("census_hello", (int)request->rank);
    return result;
}

enum epx_census_attempt epx_census_attempt_run(struct epx_census_taking *taking, const uint16_t *ports,
                                               uint32_t port_count, uint64_t deadline_ns)
{
    struct epx_census_reach reach = {.key = taking->request->key,
                                     .role = EPX_CENSUS_ROLE_CENTRE,
                                     .address = &taking->request->meeting.root,
                                     .own_ip = taking->request->meeting.own_ip,
                                     .ports = ports,
                                     .port_count = port_count,
                                     .deadline_ns = deadline_ns};
    enum epx_census_reached reached = epx_census_reach(&reach);
    taking->unreached = reached == EPX_CENSUS_UNREACHED_LATE;
    if (reached != EPX_CENSUS_REACHED) {
        memcpy(taking->why_not, reach.why_not, sizeof taking->why_not);
        return taking->unreached ? EPX_CENSUS_LATE : fail_no_memory(taking);
    }
    enum epx_census_attempt attempt = EPX_CENSUS_AGAIN;
    if (say_hello(taking, &reach) == 0) {
        attempt = listen_to_centre(taking, &reach);
    }
    epx_boot_close(reach.fd);
    epx_census_reader_fini(&reach.reader);
    if (attempt != EPX_CENSUS_DONE) {
        epx_census_draft_fini(&taking->draft);
    }
    return attempt;
}

/* ---- Deadline -------------------------------------------------------------------------------------------------- */

static enum epx_status fail_with_missing(const struct epx_census_taking *taking, double seconds, const char *unreached)
{
    const struct epx_census_request *request = taking->request;
    char ranks[160];
    struct epx_rank_set missing = {{0}};
    for (uint32_t r = 0; r < request->rank_count; r++) {
        if (r != request->rank && (!taking->knows_missing || epx_rank_set_has(&taking->missing, r))) {
            epx_rank_set_add(&missing, r);
        }
    }
    uint32_t count = epx_rank_set_count(&missing);
    epx_boot_format_set(missing.words, request->rank_count, ranks, sizeof ranks);
    return epx_fail(EPX_ERR_JOIN_TIMEOUT, "%u of %u ranks %s not joined %s within %.1f s: missing rank%s %s%s", count,
                    request->rank_count, count == 1 ? "has" : "have", request->what, seconds, count == 1 ? "" : "s",
                    ranks, unreached);
}

enum epx_status epx_census_fail_late(const struct epx_census_taking *taking)
{
    const struct epx_census_request *request = taking->request;
    double seconds = (double)request->timeout_ms / 1000.0;
    char unreached[sizeof taking->why_not + 64] = "";
    if (taking->unreached && !taking->knows_missing && !taking->all_reported) {
        return epx_fail(EPX_ERR_JOIN_TIMEOUT, "%s: rank 0 could not be reached within %.1f s at %s", request->what,
                        seconds, taking->why_not);
    }
    if (taking->unreached) {
        (void)snprintf(unreached, sizeof unreached, "; rank 0 can no longer be reached at %s", taking->why_not);
    }
    if (!taking->all_reported) {
        return fail_with_missing(taking, seconds, unreached);
    }
    char ranks[160];
    epx_boot_format_set(taking->unconfirmed.words, request->rank_count, ranks, sizeof ranks);
    return epx_fail(EPX_ERR_JOIN_TIMEOUT,
                    "all %u ranks have joined %s, but have not all learnt of each other within %.1f s: late ranks %s%s",
                    request->rank_count, request->what, seconds, ranks, unreached);
}
