#include "comm/bootstrap_attempt.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "comm/bootstrap_limit.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SEND_RETRY_NS  2000000u
#define LOOK_MS        10  /* between two looks whether it is hopeless */
#define QUERY_GRACE_MS 500 /* a rank whose time is up waits this long for the centre to say who is missing */

/* ---- Waiting --------------------------------------------------------------------------------------------------- */

void epx_boot_pause_ns(uint64_t span_ns)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)span_ns};
    (void)nanosleep(&pause, NULL);
}

enum epx_boot_attempt epx_boot_attempt_fail(struct epx_boot_joining *join, enum epx_status status)
{
    join->failure = status;
    return EPX_BOOT_ATTEMPT_FAILED;
}

/* Keeps the ranks that every report has missed: a centre that left is missing afterwards, but was not the reason. */
static void note_missing(struct epx_boot_joining *join, const struct epx_boot_missing *report)
{
    uint64_t both[EPX_BOOT_SET_WORDS];
    uint64_t any = 0;
    join->all_joined = report->phase == EPX_BOOT_MISSING_MAPPED;
    if (join->all_joined) {
        memcpy(join->unmapped, report->ranks, sizeof join->unmapped);
        return;
    }
    for (uint32_t w = 0; w < EPX_BOOT_SET_WORDS; w++) {
        both[w] = report->ranks[w] & (join->knows_missing ? join->missing[w] : UINT64_MAX);
        any |= both[w];
    }
    memcpy(join->missing, any != 0 ? both : report->ranks, sizeof both);
    join->knows_missing = true;
}

static enum epx_boot_attempt take_failure(struct epx_boot_joining *join, const struct epx_boot_failure *failure)
{
    epx_error_text_set(failure->text);
    return epx_boot_attempt_fail(join, (enum epx_status)failure->status);
}

/* What is no answer to anything. DONE when the caller is to look at the packet itself. */
static enum epx_boot_attempt take_news(struct epx_boot_joining *join, struct epx_boot_packet *packet)
{
    if (packet->message.kind == EPX_BOOT_FAILURE) {
        epx_boot_packet_close(packet);
        return take_failure(join, &packet->message.body.failure);
    }
    if (packet->message.kind == EPX_BOOT_MISSING) {
        note_missing(join, &packet->message.body.missing);
    }
    return EPX_BOOT_ATTEMPT_DONE;
}

enum epx_boot_attempt epx_boot_attempt_hope(struct epx_boot_joining *join)
{
    const struct epx_bootstrap_request *request = join->request;
    if (request->is_hopeless == NULL || !request->is_hopeless(request->context)) {
        return EPX_BOOT_ATTEMPT_DONE;
    }
    return epx_boot_attempt_fail(
        join, epx_fail(EPX_ERR_PEER_LEFT, "%s: not all of the %u ranks will come", request->what, request->rank_count));
}

static enum epx_boot_attempt wait_readable(struct epx_boot_joining *join, uint64_t deadline_ns)
{
    uint64_t now = epx_clock_ns();
    if (now >= deadline_ns) {
        return EPX_BOOT_ATTEMPT_LATE;
    }
    uint64_t span_ms = (deadline_ns - now) / 1000000u + 1;
    struct pollfd poll_fd = {.fd = join->fd, .events = POLLIN};
    uint64_t longest_ms = join->request->is_hopeless != NULL ? LOOK_MS : 1000;
    if (poll(&poll_fd, 1, (int)(span_ms < longest_ms ? span_ms : longest_ms)) > 0) {
        return EPX_BOOT_ATTEMPT_DONE;
    }
    return epx_boot_attempt_hope(join);
}

/* Waits for a message of this kind; its descriptors become the caller's. */
static enum epx_boot_attempt expect(struct epx_boot_joining *join, enum epx_boot_kind kind, uint64_t deadline_ns,
                                    struct epx_boot_packet *packet)
{
    for (;;) {
        int result = epx_boot_receive(join->fd, packet);
        enum epx_boot_attempt attempt = EPX_BOOT_ATTEMPT_DONE;
        if (result == -EMFILE) {
            return epx_boot_attempt_fail(
                join, epx_fail(EPX_ERR_SYSTEM, "%s: no descriptor left for rank %u, limit %llu (ulimit -n)",
                               join->request->what, epx_boot_rank_name(join->request, join->request->rank),
                               (unsigned long long)epx_boot_limit_now()));
        }
        if (result == -EAGAIN) {
            attempt = wait_readable(join, deadline_ns);
        } else if (result != 1) {
            return EPX_BOOT_ATTEMPT_AGAIN;
        } else {
            attempt = take_news(join, packet);
            if (attempt == EPX_BOOT_ATTEMPT_DONE && packet->message.kind == kind) {
                return EPX_BOOT_ATTEMPT_DONE;
            }
            epx_boot_packet_close(packet);
            /* Messages of other kinds must not keep the time from passing. */
            if (attempt == EPX_BOOT_ATTEMPT_DONE && epx_clock_ns() >= deadline_ns) {
                attempt = EPX_BOOT_ATTEMPT_LATE;
            }
        }
        if (attempt != EPX_BOOT_ATTEMPT_DONE) {
            return attempt;
        }
    }
}

/* A centre that has closed may have said why before: the reader of the answer finds out. */
static enum epx_boot_attempt tell(struct epx_boot_joining *join, const struct epx_boot_message *message, const int *fds,
                                  uint32_t fd_count)
{
    for (;;) {
        int result = epx_boot_send(join->fd, message, fds, fd_count);
        if (result != -EAGAIN && result != -ETOOMANYREFS && result != -ENOBUFS && result != -ENOMEM) {
            return EPX_BOOT_ATTEMPT_DONE;
        }
        if (epx_clock_ns() >= join->deadline_ns) {
            return EPX_BOOT_ATTEMPT_LATE;
        }
        epx_boot_pause_ns(SEND_RETRY_NS);
    }
}

static void tell_failure(struct epx_boot_joining *join, enum epx_status status)
{
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_FAILURE);
    message.body.failure.status = status;
    (void)strncpy(message.body.failure.text, epx_error_text(), sizeof message.body.failure.text - 1);
    (void)tell(join, &message, NULL, 0);
}

/* ---- Mapping --------------------------------------------------------------------------------------------------- */

static enum epx_boot_attempt get_roster(struct epx_boot_joining *join)
{
    uint32_t rank_count = join->request->rank_count;
    for (uint32_t first = 0; first < rank_count;) {
        struct epx_boot_message message;
        struct epx_boot_packet packet;
        epx_boot_message_init(&message, EPX_BOOT_GET_ROSTER);
        message.body.get_roster.first = first;
        enum epx_boot_attempt attempt = tell(join, &message, NULL, 0);
        if (attempt == EPX_BOOT_ATTEMPT_DONE) {
            attempt = expect(join, EPX_BOOT_ROSTER, join->deadline_ns, &packet);
        }
        if (attempt != EPX_BOOT_ATTEMPT_DONE) {
            return attempt;
        }
        epx_boot_packet_close(&packet);
        const struct epx_boot_roster *roster = &packet.message.body.roster;
        if (roster->first != first || roster->count > rank_count - first) {
            return EPX_BOOT_ATTEMPT_AGAIN;
        }
        memcpy(join->ids + first, roster->arenas, roster->count * sizeof roster->arenas[0]);
        first += roster->count;
    }
    return EPX_BOOT_ATTEMPT_DONE;
}

static bool is_wanted_already(const struct epx_boot_joining *join, const struct epx_boot_items *items, uint32_t rank)
{
    for (uint32_t i = 0; i < items->count; i++) {
        if (items->items[i] != EPX_BOOT_ITEM_SHARED &&
            memcmp(&join->ids[items->items[i]], &join->ids[rank], sizeof join->ids[rank]) == 0) {
            return true;
        }
    }
    return false;
}

/* What this rank lacks, up to a packet's worth; arenas that its process has mapped already are taken without asking. */
static void list_wants(struct epx_boot_joining *join, struct epx_boot_items *items)
{
    items->count = 0;
    if (join->shared == NULL) {
        items->items[items->count++] = EPX_BOOT_ITEM_SHARED;
    }
    for (uint32_t r = 0; r < join->request->rank_count && items->count < EPX_BOOT_ITEM_MAX; r++) {
        if (join->arenas[r] == NULL) {
            join->arenas[r] = epx_arena_attach_by_id(&join->ids[r]);
        }
        if (join->arenas[r] == NULL && !is_wanted_already(join, items, r)) {
            items->items[items->count++] = r;
        }
    }
}

static enum epx_status map_item(struct epx_boot_joining *join, uint32_t item, int fd)
{
    if (epx_fault("bootstrap_map", (int)join->request->rank)) {
        return epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory to map item %u", join->request->what, item);
    }
    if (item != EPX_BOOT_ITEM_SHARED) {
        return epx_arena_attach(fd, &join->ids[item], &join->arenas[item]);
    }
    EPX_TRY(epx_boot_verdict_map(fd, join->request->shared_bytes, &join->verdict));
    return epx_boot_shared_map(fd, join->request->shared_bytes, &join->shared);
}

static enum epx_boot_attempt map_given(struct epx_boot_joining *join, const struct epx_boot_items *wanted,
                                       struct epx_boot_packet *packet)
{
    const struct epx_boot_items *given = &packet->message.body.items;
    if (given->count != wanted->count || packet->fd_count != wanted->count ||
        memcmp(given->items, wanted->items, wanted->count * sizeof wanted->items[0]) != 0) {
        epx_log(EPX_LOG_WARN, "start of %s: the centre gives what rank %u has not asked for", join->request->what,
                epx_boot_rank_name(join->request, join->request->rank));
        return EPX_BOOT_ATTEMPT_AGAIN;
    }
    for (uint32_t i = 0; i < wanted->count; i++) {
        enum epx_status status = map_item(join, wanted->items[i], packet->fds[i]);
        if (status != EPX_OK) {
            tell_failure(join, status);
            return epx_boot_attempt_fail(join, status);
        }
    }
    return EPX_BOOT_ATTEMPT_DONE;
}

static enum epx_boot_attempt map_everything(struct epx_boot_joining *join)
{
    for (;;) {
        struct epx_boot_message message;
        struct epx_boot_packet packet;
        epx_boot_message_init(&message, EPX_BOOT_WANT);
        list_wants(join, &message.body.items);
        if (message.body.items.count == 0) {
            return EPX_BOOT_ATTEMPT_DONE;
        }
        enum epx_boot_attempt attempt = tell(join, &message, NULL, 0);
        if (attempt == EPX_BOOT_ATTEMPT_DONE) {
            attempt = expect(join, EPX_BOOT_GIVE, join->deadline_ns, &packet);
        }
        if (attempt == EPX_BOOT_ATTEMPT_DONE) {
            attempt = map_given(join, &message.body.items, &packet);
            epx_boot_packet_close(&packet);
        }
        if (attempt != EPX_BOOT_ATTEMPT_DONE) {
            return attempt;
        }
    }
}

static void unmap_everything(struct epx_boot_joining *join)
{
    for (uint32_t r = 0; r < join->request->rank_count; r++) {
        if (join->arenas[r] != NULL) {
            epx_arena_detach(join->arenas[r]);
            join->arenas[r] = NULL;
        }
    }
    if (join->shared != NULL) {
        (void)munmap(join->shared, join->request->shared_bytes);
        join->shared = NULL;
    }
}

/* ---- One attempt ----------------------------------------------------------------------------------------------- */

static enum epx_boot_attempt say_hello(struct epx_boot_joining *join)
{
    struct epx_boot_message message;
    epx_boot_message_init(&message, EPX_BOOT_HELLO);
    message.body.hello = (struct epx_boot_hello){.rank = join->request->rank,
                                                 .rank_count = join->request->rank_count,
                                                 .shared_bytes = join->request->shared_bytes,
                                                 .pid = (uint32_t)getpid(),
                                                 .arena = join->own_id};
    enum epx_boot_attempt attempt = tell(join, &message, &join->own_fd, 1);
    (void)epx_fault("bootstrap_hello", (int)join->request->rank);
    return attempt;
}

static enum epx_boot_attempt take_part(struct epx_boot_joining *join)
{
    struct epx_boot_packet packet;
    enum epx_boot_attempt attempt = say_hello(join);
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        attempt = expect(join, EPX_BOOT_ASSEMBLED, join->deadline_ns, &packet);
    }
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        epx_boot_packet_close(&packet);
        attempt = get_roster(join);
    }
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        attempt = map_everything(join);
    }
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        struct epx_boot_message message;
        epx_boot_message_init(&message, EPX_BOOT_MAPPED);
        join->told_mapped = true;
        attempt = tell(join, &message, NULL, 0);
        (void)epx_fault("bootstrap_mapped", (int)join->request->rank);
    }
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        attempt = expect(join, EPX_BOOT_COMPLETE, join->deadline_ns, &packet);
        if (attempt == EPX_BOOT_ATTEMPT_DONE) {
            epx_boot_packet_close(&packet);
        }
    }
    return attempt;
}

/* Once this rank has said that it has everything, the verdict and not the connection decides. */
static enum epx_boot_attempt settle(struct epx_boot_joining *join, enum epx_boot_attempt attempt)
{
    if (!join->told_mapped || attempt == EPX_BOOT_ATTEMPT_DONE) {
        return attempt;
    }
    enum epx_boot_verdict verdict = epx_boot_verdict_say(join->verdict, EPX_BOOT_GIVEN_UP);
    return verdict == EPX_BOOT_COMPLETED ? EPX_BOOT_ATTEMPT_DONE : attempt;
}

/* Asks who is missing; the answer, if it comes, is noted, and if none comes, that. */
static enum epx_boot_attempt query(struct epx_boot_joining *join, pid_t centre)
{
    struct epx_boot_message message;
    struct epx_boot_packet packet;
    epx_boot_message_init(&message, EPX_BOOT_QUERY);
    (void)tell(join, &message, NULL, 0);
    enum epx_boot_attempt attempt = expect(join, EPX_BOOT_MISSING, epx_deadline_after_ms(QUERY_GRACE_MS), &packet);
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        epx_boot_packet_close(&packet);
    } else if (attempt == EPX_BOOT_ATTEMPT_LATE) {
        join->silent_pid = centre;
    }
    return attempt == EPX_BOOT_ATTEMPT_FAILED ? attempt : EPX_BOOT_ATTEMPT_LATE;
}

enum epx_boot_attempt epx_boot_attempt_run(struct epx_boot_joining *join, int fd)
{
    uid_t uid = (uid_t)-1;
    pid_t pid = 0;
    if (epx_boot_peer(fd, &uid, &pid) != 0 || uid != geteuid()) {
        return epx_boot_attempt_fail(
            join, epx_fail(EPX_ERR_RENDEZVOUS, "%s: the meeting point is held by user %u (pid %d), this is user %u",
                           join->request->what, (unsigned)uid, (int)pid, (unsigned)geteuid()));
    }
    join->fd = fd;
    join->told_mapped = false;
    enum epx_boot_attempt attempt = settle(join, take_part(join));
    if (attempt == EPX_BOOT_ATTEMPT_LATE) {
        attempt = query(join, pid);
    }
    epx_boot_verdict_unmap(join->verdict);
    join->verdict = NULL;
    if (attempt != EPX_BOOT_ATTEMPT_DONE) {
        unmap_everything(join);
    }
    return attempt;
}
