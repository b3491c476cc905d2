#include "comm/jobs.h"

#include <inttypes.h>

#define WHAT_BYTES (EPX_HEALTH_PLACE_BYTES + 192)
/* Of a list's line; what is more ends in "...". */
#define PIDS_SHOWN 8u

static const char *life_name(enum epx_rank_life life)
{
    switch (life) {
    case EPX_RANK_JOINING: return "joining";
    case EPX_RANK_ALIVE: return "alive";
    case EPX_RANK_STOPPED: return "stopped";
    case EPX_RANK_JOINED: return "joined";
    case EPX_RANK_LEFT: return "left";
    case EPX_RANK_DIED: return "died";
    }
    return "joining";
}

static const char *state_name(const struct epx_status_page *page)
{
    if (page->failed != 0) {
        return "failed";
    }
    if (page->is_overdue) {
        return "overdue";
    }
    return page->is_healthy ? "healthy" : "lost a rank";
}

/* "in dispatch round 812 (phase ROWS), waits for rank 5" */
static void what_print(const struct epx_status_page *page, const struct epx_status_rank *rank, char *text,
                       size_t text_bytes)
{
    char place[EPX_HEALTH_PLACE_BYTES];
    epx_health_place(rank->activity, place, sizeof place);
    bool waits = rank->waits && page->late[0] != '\0';
    (void)snprintf(text, text_bytes, "%s%s%s", place, waits ? ", waits for " : "", waits ? page->late : "");
}

static void header_print(const struct epx_status_page *page, FILE *out)
{
    (void)fprintf(out, "communicator %s", page->name);
    if (page->job[0] != '\0') {
        (void)fprintf(out, " of job %s", page->job);
    }
    if (page->origin[0] != '\0') {
        (void)fprintf(out, " (%s)", page->origin);
    }
    (void)fprintf(out, ": %u ranks, %" PRIu64 " steps completed, %s\n", page->rank_count, page->step_count,
                  state_name(page));
}

static void rank_print(const struct epx_status_page *page, uint32_t number, FILE *out)
{
    const struct epx_status_rank *rank = &page->ranks[number];
    char what[WHAT_BYTES];
    what_print(page, rank, what, sizeof what);
    const char *on = rank->host[0] != '\0' ? ", on host " : "";
    (void)fprintf(out, "%6u  %9u%c  %-8s", number, rank->pid, rank->is_pid_here ? ' ' : '*', life_name(rank->life));
    if (rank->has_clock) {
        (void)fprintf(out, "%11.3f s  %s%s%s\n", (double)rank->for_ns / 1e9, what, on, rank->host);
    } else {
        (void)fprintf(out, "%13s  %s%s%s\n", "?", what, on, rank->host);
    }
}

/* What the table cannot tell, rather than something that is not so. */
static void unknowns_print(const struct epx_status_page *page, FILE *out)
{
    bool other = false;
    bool unseen = false;
    bool clocks = false;
    for (uint32_t i = 0; i < page->rank_count; i++) {
        const struct epx_status_rank *rank = &page->ranks[i];
        other = other || !rank->is_pid_here;
        unseen = unseen || (rank->is_pid_here && rank->life == EPX_RANK_JOINED);
        clocks = clocks || (!rank->has_clock && rank->life != EPX_RANK_JOINING);
    }
    if (other) {
        (void)fprintf(out,
                      "* a pid of another host or pid namespace (a container), or not yet known: it is none here, and "
                      "whether the process lives is not known\n");
    }
    if (unseen) {
        (void)fprintf(out, "joined: /proc does not show the process; whether it lives is not known\n");
    }
    if (clocks) {
        (void)fprintf(out, "?: the rank's clock is that of another time namespace\n");
    }
}

static void verdict_print(const struct epx_status_page *page, FILE *out)
{
    if (page->failed != 0) {
        (void)fprintf(out, "failed by rank %u: %s: %s\n", page->failed - 1, epx_status_phrase(page->failure),
                      page->failure_text);
    }
    if (page->blame[0] != '\0') {
        (void)fprintf(out, "%s: %s\n", page->is_overdue ? "overdue" : "waiting", page->blame);
    }
}

static void refusals_print(const struct epx_jobs *jobs, FILE *out)
{
    for (uint32_t i = 0; i < jobs->refusal_count; i++) {
        (void)fprintf(out, "process %d: %s\n", (int)jobs->refusals[i].pid, jobs->refusals[i].text);
    }
}

void epx_jobs_print_ranks(const struct epx_jobs *jobs, FILE *out)
{
    for (uint32_t i = 0; i < jobs->page_count; i++) {
        const struct epx_status_page *page = &jobs->pages[i];
        header_print(page, out);
        (void)fprintf(out, "%6s  %9s   %-8s%13s  %s\n", "rank", "pid", "process", "for", "where");
        for (uint32_t rank = 0; rank < page->rank_count; rank++) {
            rank_print(page, rank, out);
        }
        unknowns_print(page, out);
        verdict_print(page, out);
        (void)fprintf(out, "%s", i + 1 < jobs->page_count ? "\n" : "");
    }
    refusals_print(jobs, out);
}

/* The processes, each once as far as ranks of one process are neighbours. */
static void pids_print(const struct epx_status_page *page, FILE *out)
{
    uint32_t shown = 0;
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        uint32_t pid = page->ranks[rank].pid;
        if (rank > 0 && page->ranks[rank - 1].pid == pid) {
            continue;
        }
        if (shown == PIDS_SHOWN) {
            (void)fprintf(out, ",...");
            return;
        }
        (void)fprintf(out, "%s%u%s", shown > 0 ? "," : "", pid, page->ranks[rank].is_pid_here ? "" : "*");
        shown++;
    }
}

static uint64_t latest_round(const struct epx_status_page *page)
{
    uint64_t latest = 0;
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        uint64_t round = epx_activity_round(page->ranks[rank].activity);
        latest = round > latest ? round : latest;
    }
    return latest;
}

void epx_jobs_print_list(const struct epx_jobs *jobs, FILE *out)
{
    if (jobs->page_count > 0) {
        (void)fprintf(out, "%-20s %-20s %5s %10s  %-11s  %s\n", "job", "communicator", "ranks", "round", "state",
                      "pids");
    }
    for (uint32_t i = 0; i < jobs->page_count; i++) {
        const struct epx_status_page *page = &jobs->pages[i];
        (void)fprintf(out, "%-20s %-20s %5u %10" PRIu64 "  %-11s  ", page->job[0] != '\0' ? page->job : "-", page->name,
                      page->rank_count, latest_round(page), state_name(page));
        pids_print(page, out);
        (void)fprintf(out, "\n");
    }
    refusals_print(jobs, out);
}

/* Bytes of the UTF-8 character that starts here, 0 for none. */
static size_t character_bytes(const unsigned char *text)
{
    size_t bytes = text[0] < 0x80 ? 1 : text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4;
    if (text[0] > 0xF4 || (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F)) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

static void json_text(const char *text, FILE *out)
{
    (void)fputc('"', out);
    while (*text != '\0') {
        size_t bytes = character_bytes((const unsigned char *)text);
        if (bytes == 0) {
            (void)fputc('?', out);
        } else if (*text == '"' || *text == '\\') {
            (void)fprintf(out, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20) {
            (void)fprintf(out, "\\u%04x", (unsigned)*text);
        } else {
            (void)fwrite(text, 1, bytes, out);
        }
        text += bytes > 0 ? bytes : 1;
    }
    (void)fputc('"', out);
}

static void json_member(const char *name, const char *text, FILE *out)
{
    (void)fprintf(out, ",\"%s\":", name);
    json_text(text, out);
}

static void json_rank(const struct epx_status_page *page, uint32_t number, FILE *out)
{
    const struct epx_status_rank *rank = &page->ranks[number];
    uint32_t phase = epx_activity_phase(rank->activity);
    (void)fprintf(out, "%s{\"rank\":%u,\"pid\":%u,\"pid_is_of_this_namespace\":%s", number > 0 ? "," : "", number,
                  rank->pid, rank->is_pid_here ? "true" : "false");
    json_member("process", life_name(rank->life), out);
    (void)fprintf(out, ",\"round\":%" PRIu64, epx_activity_round(rank->activity));
    json_member("operation", epx_operation_name(epx_activity_operation(rank->activity)), out);
    json_member("phase", epx_phase_name(phase), out);
    (void)fprintf(out, ",\"waits\":%s,\"seconds\":", rank->waits ? "true" : "false");
    if (rank->has_clock) {
        (void)fprintf(out, "%" PRIu64 ".%09" PRIu64, rank->for_ns / 1000000000u, rank->for_ns % 1000000000u);
    } else {
        (void)fprintf(out, "null");
    }
    json_member("host", rank->host, out);
    (void)fprintf(out, "}");
}

static void json_world(const struct epx_status_page *page, FILE *out)
{
    (void)fprintf(out, "{\"rank_count\":%u,\"steps\":%" PRIu64, page->rank_count, page->step_count);
    json_member("name", page->name, out);
    json_member("job", page->job, out);
    json_member("origin", page->origin, out);
    json_member("state", state_name(page), out);
    (void)fprintf(out, ",\"healthy\":%s,\"failure\":", page->is_healthy ? "true" : "false");
    if (page->failed != 0) {
        (void)fprintf(out, "{\"rank\":%u,\"status\":%d", page->failed - 1, (int)page->failure);
        json_member("phrase", epx_status_phrase(page->failure), out);
        json_member("text", page->failure_text, out);
        (void)fprintf(out, "}");
    } else {
        (void)fprintf(out, "null");
    }
    json_member("waits_for", page->late, out);
    json_member("blame", page->blame, out);
    (void)fprintf(out, ",\"overdue\":%s,\"ranks\":[", page->is_overdue ? "true" : "false");
    for (uint32_t rank = 0; rank < page->rank_count; rank++) {
        json_rank(page, rank, out);
    }
    (void)fprintf(out, "]}");
}

void epx_jobs_print_json(const struct epx_jobs *jobs, FILE *out)
{
    (void)fprintf(out, "{\"worlds\":[");
    for (uint32_t i = 0; i < jobs->page_count; i++) {
        (void)fprintf(out, "%s", i > 0 ? "," : "");
        json_world(&jobs->pages[i], out);
    }
    (void)fprintf(out, "],\"unread\":[");
    for (uint32_t i = 0; i < jobs->refusal_count; i++) {
        (void)fprintf(out, "%s{\"pid\":%d", i > 0 ? "," : "", (int)jobs->refusals[i].pid);
        json_member("why", jobs->refusals[i].text, out);
        (void)fprintf(out, "}");
    }
    (void)fprintf(out, "]}\n");
}
