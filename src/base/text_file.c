#include "base/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool epx_text_file_read(const char *path, char *text, size_t text_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t used = 0;
    bool good = true;
    while (good && used < text_bytes - 1) {
        ssize_t got = read(fd, text + used, text_bytes - 1 - used);
        if (got == 0) {
            break;
        }
        if (got > 0) {
            used += (size_t)got;
        } else {
            good = errno == EINTR;
        }
    }
    (void)close(fd);
    text[used] = '\0';
    return good;
}

bool epx_text_number_of(const char *text, const char *name, uint64_t *value)
{
    size_t name_length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, name_length) == 0 && (line[name_length] == ' ' || line[name_length] == '\t')) {
            const char *number = line + name_length + strspn(line + name_length, " \t");
            if (*number < '0' || *number > '9') {
                return false;
            }
            *value = strtoull(number, NULL, 10);
            return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}
