#include "base/process.h"

#include "base/text_file.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define STAT_TEXT_BYTES 1024
#define PATH_BYTES      64
/* Fields of /proc/<pid>/stat after the command's name, counted from the state, which is number 0. */
#define THREADS_FIELD 17
#define START_FIELD   19

static uint64_t number_at(const char *fields, int index)
{
    for (int i = 0; i < index && fields != NULL; i++) {
        fields = strchr(fields, ' ');
        fields = fields != NULL ? fields + 1 : NULL;
    }
    return fields != NULL ? strtoull(fields, NULL, 10) : 0;
}

static enum epx_process_state state_of(char letter)
{
    switch (letter) {
    case 'Z':
    case 'X':
    case 'x': return EPX_PROCESS_GONE;
    case 'T':
    case 't': return EPX_PROCESS_STOPPED;
    default: return EPX_PROCESS_LIVES;
    }
}

/* "4711 (name, with any characters) S 1 …" */
static bool stat_parse(const char *text, struct epx_process *process)
{
    const char *field = strrchr(text, ')');
    if (field == NULL || field[1] != ' ' || field[2] == '\0') {
        return false;
    }
    field += 2;
    process->state = state_of(*field);
    process->start_ticks = number_at(field, START_FIELD);
    /* The first thread has ended and others have not. */
    if (process->state == EPX_PROCESS_GONE && number_at(field, THREADS_FIELD) > 1) {
        process->state = EPX_PROCESS_LIVES;
    }
    return true;
}

bool epx_process_read(pid_t pid, struct epx_process *process)
{
    char path[PATH_BYTES];
    char text[STAT_TEXT_BYTES];
    *process = (struct epx_process){.state = EPX_PROCESS_UNKNOWN};
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (epx_text_file_read(path, text, sizeof text) && stat_parse(text, process)) {
        return true;
    }
    /* Without /proc, or where it hides other users' processes. Signal 0 is sent to nobody. */
    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
        process->state = EPX_PROCESS_GONE;
        return true;
    }
    return false;
}

uint32_t epx_process_namespace(const char *kind)
{
    char path[PATH_BYTES];
    struct stat info;
    (void)snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    return stat(path, &info) == 0 ? (uint32_t)info.st_ino : 0;
}
