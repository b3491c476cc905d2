#include "comm/bootstrap.h"

#include "base/clock.h"
#include "comm/bootstrap_attempt.h"
#include "comm/bootstrap_centre.h"
#include "comm/bootstrap_limit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define DESCRIPTORS_SPARE 64 /* beyond those for the ranks, should all of them be of this process */

#define BACKLOG_MAX    4096
#define PAUSE_FIRST_NS 1000000u /* between two attempts to meet; doubled up to the last */
#define PAUSE_LAST_NS  20000000u

/* ---- Meeting --------------------------------------------------------------------------------------------------- */

/* Becomes the centre, which this rank reaches through a pair of its own: its place cannot be taken. */
static int found_star(struct epx_boot_joining *join, int listener, struct epx_boot_centre **centre)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
        int error = errno;
        epx_boot_close(listener);
        return -error;
    }
    join->failure = epx_boot_centre_start(join->request, listener, ends[1], centre);
    return ends[0];
}

/* Connects to the centre; becomes it when there is none. *fd is negative when neither worked this time. */
static enum epx_boot_attempt meet(struct epx_boot_joining *join, int *fd, struct epx_boot_centre **centre)
{
    uint32_t rank_count = join->request->rank_count;
    join->failure = EPX_OK;
    *fd = epx_boot_connect(&join->name);
    if (*fd == -ECONNREFUSED) {
        int listener = epx_boot_listen(&join->name, rank_count < BACKLOG_MAX ? (int)rank_count + 64 : BACKLOG_MAX);
        if (listener >= 0) {
            *fd = found_star(join, listener, centre);
        } else if (listener != -EADDRINUSE) {
            *fd = listener;
        }
    }
    if (join->failure != EPX_OK) {
        return EPX_BOOT_ATTEMPT_FAILED;
    }
    if (*fd >= 0 || *fd == -ECONNREFUSED || *fd == -EAGAIN) {
        return *fd >= 0 ? EPX_BOOT_ATTEMPT_DONE : EPX_BOOT_ATTEMPT_AGAIN;
    }
    return epx_boot_attempt_fail(join, epx_fail_errno(EPX_ERR_SYSTEM, -*fd,
                                                      "%s: rank %u cannot reach the meeting point", join->request->what,
                                                      epx_boot_rank_name(join->request, join->request->rank)));
}

static enum epx_boot_attempt attempt_once(struct epx_boot_joining *join)
{
    struct epx_boot_centre *centre = NULL;
    int fd = -1;
    enum epx_boot_attempt attempt = meet(join, &fd, &centre);
    if (attempt == EPX_BOOT_ATTEMPT_DONE) {
        attempt = epx_boot_attempt_run(join, fd);
    }
    if (fd >= 0) {
        epx_boot_close(fd);
    }
    if (centre != NULL) {
        epx_boot_centre_stop(centre);
    }
    return attempt;
}

static enum epx_boot_attempt attempt_until_deadline(struct epx_boot_joining *join)
{
    uint64_t pause = PAUSE_FIRST_NS;
    for (;;) {
        enum epx_boot_attempt attempt = attempt_once(join);
        if (attempt != EPX_BOOT_ATTEMPT_AGAIN) {
            return attempt;
        }
        if (epx_clock_ns() >= join->deadline_ns) {
            return EPX_BOOT_ATTEMPT_LATE;
        }
        if (epx_boot_attempt_hope(join) != EPX_BOOT_ATTEMPT_DONE) {
            return EPX_BOOT_ATTEMPT_FAILED;
        }
        epx_boot_pause_ns(pause);
        pause = pause * 2 < PAUSE_LAST_NS ? pause * 2 : PAUSE_LAST_NS;
    }
}

/* By the names that they have. */
static void print_ranks(const struct epx_bootstrap_request *request, const uint64_t *set, char *text, size_t text_bytes)
{
    uint64_t named[EPX_BOOT_SET_WORDS] = {0};
    for (uint32_t r = 0; r < request->rank_count; r++) {
        if (epx_boot_set_has(set, r)) {
            epx_boot_set_add(named, epx_boot_rank_name(request, r));
        }
    }
    epx_boot_format_set(named, EPX_BOOT_SET_WORDS * 64, text, text_bytes);
}

static enum epx_status fail_late_to_join(const struct epx_boot_joining *join, double seconds)
{
    const struct epx_bootstrap_request *request = join->request;
    char ranks[256];
    char centre[96] = "";
    uint32_t count = 0;
    uint64_t missing[EPX_BOOT_SET_WORDS] = {0};
    for (uint32_t r = 0; r < request->rank_count; r++) {
        if (r != request->rank && (!join->knows_missing || epx_boot_set_has(join->missing, r))) {
            epx_boot_set_add(missing, r);
            count++;
        }
    }
    print_ranks(request, missing, ranks, sizeof ranks);
    if (join->silent_pid != 0) {
        (void)snprintf(centre, sizeof centre, "; the meeting point is held by pid %d, which does not answer",
                       (int)join->silent_pid);
    }
    return epx_fail(EPX_ERR_JOIN_TIMEOUT, "%u of %u ranks %s not joined %s within %.1f s: missing rank%s %s%s", count,
                    request->rank_count, count == 1 ? "has" : "have", request->what, seconds, count == 1 ? "" : "s",
                    ranks, centre);
}

static enum epx_status fail_late(const struct epx_boot_joining *join)
{
    const struct epx_bootstrap_request *request = join->request;
    double seconds = (double)request->timeout_ms / 1000.0;
    if (!join->all_joined) {
        return fail_late_to_join(join, seconds);
    }
    char ranks[256];
    print_ranks(request, join->unmapped, ranks, sizeof ranks);
    return epx_fail(EPX_ERR_JOIN_TIMEOUT,
                    "all %u ranks have joined %s, but have not all mapped their peers within %.1f s: late ranks %s",
                    request->rank_count, request->what, seconds, ranks);
}

static enum epx_status check_request(const struct epx_bootstrap_request *request)
{
    if (request->rank_count < 1 || request->rank_count > EPX_COMM_RANK_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s: rank_count is %u, must be in [1, %u]", request->what, request->rank_count,
                        EPX_COMM_RANK_MAX);
    }
    if (request->rank >= request->rank_count) {
        return epx_fail(EPX_ERR_INVALID, "%s: rank is %u, must be in [0, %u)", request->what, request->rank,
                        request->rank_count);
    }
    if (request->shared_bytes < 1 || request->shared_bytes > EPX_BOOT_SHARED_BYTES_MAX) {
        return epx_fail(EPX_ERR_INVALID, "%s: shared_bytes is %llu, must be in [1, %llu]", request->what,
                        (unsigned long long)request->shared_bytes, (unsigned long long)EPX_BOOT_SHARED_BYTES_MAX);
    }
    return EPX_OK;
}

static enum epx_status join_world(struct epx_boot_joining *join)
{
    uint64_t reserve_bytes;
    EPX_TRY(epx_arena_open_own());
    epx_arena_own_info(&join->own_id, &join->own_fd, &reserve_bytes);
    /* Not the centre alone: the other ranks of its process must not come before it has raised the limit. */
    epx_boot_limit_acquire((uint64_t)join->own_fd + 3 * (uint64_t)join->request->rank_count + DESCRIPTORS_SPARE);
    enum epx_boot_attempt attempt = attempt_until_deadline(join);
    epx_boot_limit_release();
    if (attempt == EPX_BOOT_ATTEMPT_FAILED) {
        return join->failure;
    }
    return attempt == EPX_BOOT_ATTEMPT_DONE ? EPX_OK : fail_late(join);
}

/* ---- Entry points ---------------------------------------------------------------------------------------------- */

enum epx_status epx_bootstrap_join(const struct epx_bootstrap_request *request, struct epx_bootstrap_result *result)
{
    EPX_TRY(check_request(request));
    struct epx_boot_joining join = {.request = request, .deadline_ns = epx_deadline_after_ms(request->timeout_ms)};
    epx_boot_name_make(request->key, &join.name);
    join.ids = calloc(request->rank_count, sizeof *join.ids);
    join.arenas = calloc(request->rank_count, sizeof *join.arenas);
    enum epx_status status =
        join.ids == NULL || join.arenas == NULL
            ? epx_fail(EPX_ERR_NO_MEMORY, "%s: no memory for %u ranks", request->what, request->rank_count)
            : join_world(&join);
    free(join.ids);
    if (status != EPX_OK) {
        free(join.arenas);
        return status;
    }
    result->shared = join.shared;
    result->shared_bytes = request->shared_bytes;
    result->arenas = join.arenas;
    return EPX_OK;
}

void epx_bootstrap_result_fini(struct epx_bootstrap_result *result, uint32_t rank_count)
{
    for (uint32_t r = 0; r < rank_count; r++) {
        epx_arena_detach(result->arenas[r]);
    }
    free(result->arenas);
    (void)munmap(result->shared, result->shared_bytes);
    *result = (struct epx_bootstrap_result){0};
}
