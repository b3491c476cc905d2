#include "fuzz/fake_environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLE_MAX 128

char *__real_getenv(const char *name);
char *__wrap_getenv(const char *name);

static struct {
    const char *name;
    const char *text;
} variables[VARIABLE_MAX];
static size_t variable_count;

void fake_environment_set(const char *name, const char *text)
{
    size_t i = 0;
    while (i < variable_count && strcmp(variables[i].name, name) != 0) {
        i++;
    }
    if (i == VARIABLE_MAX) {
        abort();
    }
    variable_count = i == variable_count ? i + 1 : variable_count;
    variables[i].name = name;
    variables[i].text = text;
}

void fake_environment_forget(void)
{
    variable_count = 0;
}

char *fake_environment_line(const unsigned char **data, size_t *bytes)
{
    const unsigned char *end = memchr(*data, '\n', *bytes);
    size_t length = end != NULL ? (size_t)(end - *data) : *bytes;
    char *line = malloc(length + 1);
    if (line == NULL) {
        abort();
    }
    memcpy(line, *data, length);
    line[length] = '\0';
    *data += length + (end != NULL);
    *bytes -= length + (end != NULL);
    return line;
}

/* The sanitizers ask for theirs before anything else runs. */
char *__wrap_getenv(const char *name)
{
    for (size_t i = 0; i < variable_count; i++) {
        if (strcmp(variables[i].name, name) == 0) {
            return (char *)(size_t)variables[i].text;
        }
    }
    return __real_getenv(name);
}
