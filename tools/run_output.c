#include "run_output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 65536

/* A longer line comes in pieces of so many bytes; of twice as many from a remote shell, so that the pieces that were
 * made there stay whole. */
#define LINE_BYTES_MAX (1u << 20)

/* Ranks wait while an output has so much to take. */
#define PENDING_BYTES_MAX (1u << 20)

/* A write of so many bytes does not block on a pipe that poll calls writable. */
#define WRITE_BYTES 4096
#define WRITE_TURNS 16

#define PREFIX_BYTES_MAX 16

/* Longer reports are none. */
#define REPORT_BYTES_MAX 128

/* ---- Outputs of this program --------------------------------------------------------------------------------- */

static bool same_file(int one, int other)
{
    struct stat first;
    struct stat second;
    return fstat(one, &first) == 0 && fstat(other, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

static void append(struct run_sink *sink, const char *bytes, size_t count)
{
    if (sink->error != 0) {
        return;
    }
    if (sink->begin > 0 && sink->end + count > sink->room) {
        memmove(sink->bytes, sink->bytes + sink->begin, sink->end - sink->begin);
        sink->end -= sink->begin;
        sink->begin = 0;
    }
    if (sink->end + count > sink->room) {
        size_t room = (sink->end + count) * 2;
        char *memory = realloc(sink->bytes, room);
        if (memory == NULL) {
            sink->error = ENOMEM;
            return;
        }
        sink->bytes = memory;
        sink->room = room;
    }
    memcpy(sink->bytes + sink->end, bytes, count);
    sink->end += count;
}

/* What `sink` takes without blocking, up to a limit that lets others have their turn. */
static void write_some(struct run_sink *sink)
{
    struct pollfd watched = {.fd = sink->fd, .events = POLLOUT};
    for (int turn = 0; turn < WRITE_TURNS && sink->begin < sink->end && poll(&watched, 1, 0) > 0; turn++) {
        size_t count = sink->end - sink->begin;
        ssize_t written = write(sink->fd, sink->bytes + sink->begin, count < WRITE_BYTES ? count : WRITE_BYTES);
        if (written >= 0) {
            sink->begin += (size_t)written;
        } else if (errno != EAGAIN && errno != EINTR) {
            sink->error = errno;
            sink->begin = sink->end = 0;
        }
    }
}

/* ---- Outputs of ranks ---------------------------------------------------------------------------------------- */

/* Tells a report at the end of a line, which a rank may have begun; the bytes before it. */
static size_t tell_report(const struct run_source *source, const char *line, size_t bytes)
{
    const struct run_output *output = source->output;
    char text[REPORT_BYTES_MAX];
    const char *report = memmem(line, bytes, source->word, strlen(source->word));
    if (report == NULL) {
        return bytes;
    }
    const char *begin = report + strlen(source->word);
    size_t length = (size_t)(line + bytes - begin);
    if (length < sizeof text) {
        memcpy(text, begin, length);
        text[length] = '\0';
        output->told(output->context, source->rank, text);
    }
    return (size_t)(report - line);
}

static void append_line(struct run_source *source, const char *line, size_t bytes)
{
    char prefix[PREFIX_BYTES_MAX];
    if (source->word != NULL) {
        size_t rest = tell_report(source, line, bytes);
        if (rest == 0 && bytes > 0) {
            return;
        }
        bytes = rest;
    }
    if (!source->plain) {
        int length = snprintf(prefix, sizeof prefix, "[%u] ", source->rank);
        append(source->sink, prefix, (size_t)length);
    }
    append(source->sink, line, bytes);
    append(source->sink, "\n", 1);
}

static void append_rest(struct run_source *source)
{
    if (source->used > 0) {
        append_line(source, source->line, source->used);
        source->used = 0;
    }
}

/* All that is whole among the first `used` bytes; of the bytes before `seen` none ends a line. */
static void append_whole_lines(struct run_source *source, size_t seen)
{
    char *begin = source->line;
    char *from = source->line + seen;
    char *end = source->line + source->used;
    for (char *newline = NULL; (newline = memchr(from, '\n', (size_t)(end - from))) != NULL;) {
        append_line(source, begin, (size_t)(newline - begin));
        begin = from = newline + 1;
    }
    source->used = (size_t)(end - begin);
    memmove(source->line, begin, source->used);
    if (source->used >= (source->plain ? 2 : 1) * LINE_BYTES_MAX) {
        append_rest(source);
    }
}

static void close_source(struct run_source *source)
{
    append_rest(source);
    (void)close(source->fd);
    source->fd = -1;
    free(source->line);
    source->line = NULL;
    source->room = 0;
}

static bool make_room(struct run_source *source)
{
    if (source->room - source->used >= READ_BYTES) {
        return true;
    }
    size_t room = source->used * 2 + READ_BYTES;
    char *memory = realloc(source->line, room);
    if (memory == NULL) {
        source->sink->error = ENOMEM;
        return false;
    }
    source->line = memory;
    source->room = room;
    return true;
}

/* True: there may be more. */
static bool read_some(struct run_source *source)
{
    if (source->sink->error != 0 || !make_room(source)) {
        close_source(source); /* the rank learns that nobody reads it */
        return false;
    }
    ssize_t got = read(source->fd, source->line + source->used, READ_BYTES);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (got <= 0) {
        close_source(source);
        return false;
    }
    size_t seen = source->used;
    source->used += (size_t)got;
    append_whole_lines(source, seen);
    return true;
}

static bool is_full(const struct run_sink *sink)
{
    return sink->end - sink->begin >= PENDING_BYTES_MAX;
}

static bool open_source(struct run_source *source, int *end)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0) {
        return false;
    }
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    source->fd = pair[0];
    *end = pair[1];
    return true;
}

static void say(struct run_output *output, const char *prefix, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
static void say(struct run_output *output, const char *prefix, const char *format, va_list arguments)
{
    char text[1024] = "";
    size_t used = (size_t)snprintf(text, sizeof text / 2, "%s", prefix);
    used = used < sizeof text / 2 ? used : 0;
    (void)vsnprintf(text + used, sizeof text - used - 1, format, arguments);
    (void)strcat(text, "\n");
    if (output->sources != NULL) {
        append(&output->sinks[1], text, strlen(text));
    } else {
        (void)fputs(text, stderr);
    }
}

/* ---- Entry points -------------------------------------------------------------------------------------------- */

bool run_output_init(struct run_output *output, uint32_t first_rank, uint32_t rank_count, bool piped)
{
    *output = (struct run_output){.sinks = {{.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}}};
    if (!piped) {
        return true;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    output->sources = calloc(rank_count, 2 * sizeof *output->sources);
    if (output->sources == NULL) {
        return false;
    }
    output->source_count = rank_count * 2;
    /* Two queues for one file would mix in the middle of lines. */
    struct run_sink *sinks[2] = {&output->sinks[0], &output->sinks[1]};
    if (same_file(STDOUT_FILENO, STDERR_FILENO)) {
        sinks[0] = &output->sinks[1];
    }
    for (uint32_t i = 0; i < output->source_count; i++) {
        output->sources[i] =
            (struct run_source){.fd = -1, .rank = first_rank + i / 2, .output = output, .sink = sinks[i % 2]};
    }
    return true;
}

void run_output_fini(struct run_output *output)
{
    for (uint32_t i = 0; i < output->source_count; i++) {
        if (output->sources[i].fd >= 0) {
            close_source(&output->sources[i]);
        }
    }
    free(output->sources);
    free(output->sinks[0].bytes);
    free(output->sinks[1].bytes);
}

bool run_output_connect(struct run_output *output, uint32_t rank, int ends[2])
{
    ends[0] = ends[1] = -1;
    if (!open_source(&output->sources[rank * 2], &ends[0])) {
        return false;
    }
    if (!open_source(&output->sources[rank * 2 + 1], &ends[1])) {
        (void)close(ends[0]);
        return false;
    }
    return true;
}

bool run_output_connect_shell(struct run_output *output, uint32_t rank, bool tag, const char *word, int ends[2])
{
    struct run_source *sources = &output->sources[rank * 2];
    sources[0].plain = sources[1].plain = true;
    sources[1].word = word;
    ends[0] = ends[1] = -1;
    return tag ? run_output_connect(output, rank, ends) : open_source(&sources[1], &ends[1]);
}

bool run_output_take(struct run_output *output, uint32_t rank)
{
    bool all = true;
    for (uint32_t i = rank * 2; i < rank * 2 + 2 && i < output->source_count; i++) {
        struct run_source *source = &output->sources[i];
        bool more = true;
        while (more && source->fd >= 0 && !is_full(source->sink)) {
            more = read_some(source);
        }
        all = all && (!more || source->fd < 0);
    }
    return all;
}

void run_output_say(struct run_output *output, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(output, "epx run: ", format, arguments);
    va_end(arguments);
}

void run_output_report(struct run_output *output, const char *word, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(output, word, format, arguments);
    va_end(arguments);
}

size_t run_output_watch_count(const struct run_output *output)
{
    return 2 + output->source_count;
}

void run_output_watch(const struct run_output *output, struct pollfd *watched)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct run_sink *sink = &output->sinks[i];
        watched[i] = (struct pollfd){.fd = sink->begin < sink->end ? sink->fd : -1, .events = POLLOUT};
    }
    for (uint32_t i = 0; i < output->source_count; i++) {
        const struct run_source *source = &output->sources[i];
        watched[2 + i] = (struct pollfd){.fd = is_full(source->sink) ? -1 : source->fd, .events = POLLIN};
    }
}

void run_output_move(struct run_output *output, const struct pollfd *watched)
{
    for (uint32_t i = 0; i < 2; i++) {
        if (watched[i].revents != 0) {
            write_some(&output->sinks[i]);
        }
    }
    for (uint32_t i = 0; i < output->source_count; i++) {
        struct run_source *source = &output->sources[i];
        if (watched[2 + i].revents != 0 && source->fd >= 0) {
            (void)read_some(source);
        }
    }
}

void run_output_drain(struct run_output *output)
{
    for (uint32_t i = 0; i < output->source_count; i++) {
        struct run_source *source = &output->sources[i];
        bool more = true;
        while (more && source->fd >= 0 && !is_full(source->sink)) {
            more = read_some(source);
        }
        if (!more && source->fd >= 0) {
            close_source(source);
        }
    }
}

bool run_output_pending(const struct run_output *output)
{
    return output->sinks[0].begin < output->sinks[0].end || output->sinks[1].begin < output->sinks[1].end;
}

int run_output_finish(struct run_output *output)
{
    int error = 0;
    for (uint32_t i = 0; i < 2; i++) {
        write_some(&output->sinks[i]);
        error = error != 0 ? error : output->sinks[i].error;
    }
    return error;
}
