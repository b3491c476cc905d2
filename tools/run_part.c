#include "run_part.h"

#include "run_remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than any environment has. */
#define LETTER_BYTES_MAX (16u << 20)

/* Byte by byte: what follows the letter stays in the pipe. */
static bool read_letter(struct run_part *part, size_t *bytes)
{
    size_t room = 0;
    size_t texts = 0;
    bool at_begin = true; /* of a text */
    *bytes = 0;
    for (;;) {
        if (*bytes == room) {
            room = room * 2 + 4096;
            char *memory = room < LETTER_BYTES_MAX ? realloc(part->letter, room) : NULL;
            if (memory == NULL) {
                return false;
            }
            part->letter = memory;
        }
        ssize_t got = read(STDIN_FILENO, part->letter + *bytes, 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        bool is_end = part->letter[(*bytes)++] == '\0';
        if (is_end && at_begin && texts >= 2) {
            return true;
        }
        texts += is_end;
        at_begin = is_end;
    }
}

bool run_part_init(struct run_part *part, struct run_options *options)
{
    size_t bytes = 0;
    size_t count = 0;
    *part = (struct run_part){.letter = NULL};
    (void)signal(SIGPIPE, SIG_IGN);
    if (!read_letter(part, &bytes) || strlen(part->letter) >= RUN_WORD_BYTES) {
        (void)fprintf(stderr, "epx run: --part is for `epx run --hosts`, whose standard input has not come through\n");
        return false;
    }
    char *directory = part->letter + strlen(part->letter) + 1;
    part->word = part->letter;
    char **variables = calloc(bytes, sizeof *variables);
    if (variables == NULL) {
        (void)fprintf(stderr, "epx run: no memory\n");
        return false;
    }
    for (char *text = directory + strlen(directory) + 1; *text != '\0'; text += strlen(text) + 1) {
        variables[count++] = text;
    }
    free(options->variables);
    options->variables = variables;
    options->variable_count = count;
    if (directory[0] != '\0' && chdir(directory) != 0) {
        (void)fprintf(stderr, "epx run: cannot change to the caller's directory '%s': %s\n", directory,
                      strerror(errno));
        return false;
    }
    return true;
}

void run_part_fini(struct run_part *part)
{
    free(part->letter);
    *part = (struct run_part){.letter = NULL};
}

void run_part_watch(const struct run_part *part, struct pollfd *watched)
{
    *watched = (struct pollfd){.fd = part->cut ? -1 : STDIN_FILENO, .events = POLLIN};
}

int run_part_heard(struct run_part *part, const struct pollfd *watched)
{
    unsigned char number = 0;
    if (part->cut || watched->revents == 0) {
        return 0;
    }
    ssize_t got = read(STDIN_FILENO, &number, 1);
    if (got == 1) {
        return number;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    part->cut = true;
    return SIGTERM;
}
