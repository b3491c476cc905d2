#include "comm/rank_table.h"

#include "base/clock.h"
#include "base/digest.h"
#include "comm/rank_table_draft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REREAD_INTERVAL_MS 1000

/* ---- Table from a checked draft ------------------------------------------------------------------------------- */

static void fill_rank(const struct epx_draft_device *device, struct epx_rank_entry *entry)
{
    entry->device_id = device->device;
    entry->device_port = device->device_port_number;
    entry->host_port = device->host_port_number;
    epx_draft_first_address(device->device_ip, entry->device_ip);
}

/* The entry's `server` holds the index in the draft until the servers are in the order of their first rank. */
static void fill_servers(const struct epx_draft *draft, struct epx_rank_table *table)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < table->rank_count; count++) {
        const struct epx_draft_server *source = &draft->servers[table->ranks[r].server];
        struct epx_server_entry *server = &table->servers[count];
        (void)snprintf(server->id, sizeof server->id, "%s", source->server_id);
        epx_draft_first_address(source->host_ip, server->host_ip);
        server->first_rank = r;
        server->rank_count = source->device_count;
        for (uint32_t end = r + source->device_count; r < end; r++) {
            table->ranks[r].server = count;
        }
    }
}

static enum epx_status build_table(const struct epx_draft *draft, struct epx_rank_table *table)
{
    table->ranks = calloc(draft->device_total, sizeof *table->ranks);
    table->servers = calloc(draft->server_list_count, sizeof *table->servers);
    if (table->ranks == NULL || table->servers == NULL) {
        return epx_draft_fail(draft->name, EPX_ERR_NO_MEMORY, "no memory for %u ranks", draft->device_total);
    }
    (void)snprintf(table->version, sizeof table->version, "%s", draft->version);
    table->rank_count = draft->device_total;
    table->server_count = draft->server_list_count;
    for (uint32_t d = 0; d < draft->device_total; d++) {
        struct epx_rank_entry *entry = &table->ranks[draft->devices[d].rank];
        entry->server = draft->devices[d].server;
        fill_rank(&draft->devices[d], entry);
    }
    fill_servers(draft, table);
    return EPX_OK;
}

/* ---- Digest ---------------------------------------------------------------------------------------------------- */

static void digest_number(struct epx_digest_state *state, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    epx_digest_update(state, bytes, sizeof bytes);
}

/* With its terminating NUL, so that neighbouring texts cannot run together. */
static void digest_text(struct epx_digest_state *state, const char *text)
{
    epx_digest_update(state, text, strlen(text) + 1);
}

static void digest_table(struct epx_rank_table *table)
{
    struct epx_digest_state state;
    epx_digest_init(&state);
    digest_text(&state, "epx rank table");
    digest_text(&state, table->version);
    digest_number(&state, table->server_count);
    digest_number(&state, table->rank_count);
    for (uint32_t s = 0; s < table->server_count; s++) {
        digest_text(&state, table->servers[s].id);
        digest_text(&state, table->servers[s].host_ip);
        digest_number(&state, table->servers[s].rank_count);
    }
    for (uint32_t r = 0; r < table->rank_count; r++) {
        digest_number(&state, table->ranks[r].device_id);
        digest_text(&state, table->ranks[r].device_ip);
        digest_number(&state, table->ranks[r].device_port);
        digest_number(&state, table->ranks[r].host_port);
    }
    epx_digest_final(&state, table->digest);
}

/* ---- File ------------------------------------------------------------------------------------------------------ */

struct file_text {
    char *text;
    size_t bytes;
};

static enum epx_status check_path(const char *path)
{
    static const char suffix[] = ".json";
    size_t chars = strlen(path);
    if (chars < sizeof suffix || strcmp(path + chars - (sizeof suffix - 1), suffix) != 0) {
        return epx_fail(EPX_ERR_FILE, "rank table %s: the file's name must end in \"%s\"", path, suffix);
    }
    return EPX_OK;
}

/* A file that grows while it is read is taken at the size it had when it was opened. */
static enum epx_status read_open_file(const char *path, int fd, struct file_text *out)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return epx_fail_errno(EPX_ERR_FILE, errno, "rank table %s: fstat", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return epx_fail(EPX_ERR_FILE, "rank table %s: not a regular file", path);
    }
    if ((uint64_t)info.st_size > EPX_RANK_TABLE_BYTES_MAX) {
        return epx_fail(EPX_ERR_FILE, "rank table %s: has %lld bytes, at most %u are allowed", path,
                        (long long)info.st_size, EPX_RANK_TABLE_BYTES_MAX);
    }
    size_t size = (size_t)info.st_size;
    out->text = malloc(size + 1);
    if (out->text == NULL) {
        return epx_fail(EPX_ERR_NO_MEMORY, "rank table %s: no memory for %zu bytes", path, size);
    }
    while (out->bytes < size) {
        ssize_t got = read(fd, out->text + out->bytes, size - out->bytes);
        if (got < 0 && errno != EINTR) {
            return epx_fail_errno(EPX_ERR_FILE, errno, "rank table %s: read", path);
        }
        if (got == 0) {
            break;
        }
        out->bytes += got > 0 ? (size_t)got : 0;
    }
    return EPX_OK;
}

/* Resolved anew at each read: a configuration service may swap the link behind the path. */
static enum epx_status read_file(const char *path, struct file_text *out)
{
    char *resolved = realpath(path, NULL);
    if (resolved == NULL) {
        return epx_fail_errno(EPX_ERR_FILE, errno, "rank table %s", path);
    }
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    int fd = open(resolved, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = errno;
    free(resolved);
    if (fd < 0) {
        return epx_fail_errno(EPX_ERR_FILE, error, "rank table %s", path);
    }
    enum epx_status status = read_open_file(path, fd, out);
    (void)close(fd);
    return status;
}

static void sleep_until_reread(uint64_t deadline_ns)
{
    uint64_t now = epx_clock_ns();
    uint64_t span = (uint64_t)REREAD_INTERVAL_MS * 1000000u;
    if (deadline_ns < now || deadline_ns - now < span) {
        span = deadline_ns < now ? 0 : deadline_ns - now;
    }
    struct timespec pause = {.tv_sec = (time_t)(span / 1000000000u), .tv_nsec = (long)(span % 1000000000u)};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

static enum epx_status load_once(const char *path, struct epx_rank_table *table)
{
    struct file_text file = {NULL, 0};
    enum epx_status status = read_file(path, &file);
    if (status == EPX_OK) {
        status = epx_rank_table_parse(path, file.text, file.bytes, table);
    }
    free(file.text);
    return status;
}

/* ---- Entry points ---------------------------------------------------------------------------------------------- */

enum epx_status epx_rank_table_parse(const char *name, const char *text, size_t text_bytes,
                                     struct epx_rank_table *table)
{
    if (name == NULL || text == NULL || table == NULL) {
        return epx_fail(EPX_ERR_NULL, "rank table: name, text or table is null");
    }
    struct epx_draft draft;
    struct epx_rank_table built = {0};
    enum epx_status status = epx_draft_read(&draft, name, text, text_bytes);
    if (status == EPX_OK) {
        status = epx_draft_check(&draft);
    }
    if (status == EPX_OK) {
        status = build_table(&draft, &built);
    }
    epx_draft_fini(&draft);
    if (status != EPX_OK) {
        epx_rank_table_fini(&built);
        return status;
    }
    digest_table(&built);
    *table = built;
    return EPX_OK;
}

enum epx_status epx_rank_table_load(const char *path, int64_t wait_ms, struct epx_rank_table *table)
{
    if (path == NULL || table == NULL) {
        return epx_fail(EPX_ERR_NULL, "rank table: path or table is null");
    }
    EPX_TRY(check_path(path));
    uint64_t deadline_ns = epx_deadline_after_ms(wait_ms);
    enum epx_status status = load_once(path, table);
    if (status != EPX_ERR_JOIN_TIMEOUT) {
        return status;
    }
    /* Once a file has said that it is being filled, one that is cut short or gone for a moment is still being filled.
     */
    while ((status == EPX_ERR_JOIN_TIMEOUT || status == EPX_ERR_SYNTAX || status == EPX_ERR_FILE) &&
           epx_clock_ns() < deadline_ns) {
        sleep_until_reread(deadline_ns);
        status = load_once(path, table);
    }
    if (status == EPX_ERR_JOIN_TIMEOUT) {
        return epx_fail(status, "rank table %s: status is still \"initializing\" after %.1f s", path,
                        (double)wait_ms / 1000.0);
    }
    return status;
}

void epx_rank_table_fini(struct epx_rank_table *table)
{
    free(table->ranks);
    free(table->servers);
    *table = (struct epx_rank_table){0};
}
