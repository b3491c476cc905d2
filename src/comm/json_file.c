#include "comm/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

/* O_NONBLOCK, so that a path that names a pipe does not hold the program. */
static enum epx_status open_regular(const char *path, int *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return epx_fail_errno(EPX_ERR_FILE, errno, "cannot read %.256s", path);
    }
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(fd);
        return epx_fail(EPX_ERR_FILE, "cannot read %.256s: it is no regular file", path);
    }
    *out = fd;
    return EPX_OK;
}

enum epx_status epx_json_file_check(const char *path)
{
    int fd = -1;
    json_error_t error;
    EPX_TRY(open_regular(path, &fd));
    json_t *content = json_loadfd(fd, JSON_DECODE_ANY, &error);
    close(fd);
    if (!content) {
        return epx_fail(EPX_ERR_SYNTAX, "%.256s is not JSON: line %d, column %d: %.128s", path, error.line,
                        error.column, error.text);
    }
    json_decref(content);
    return EPX_OK;
}
