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

static enum epx_status load(const char *path, json_t **content)
{
    int fd = -1;
    json_error_t error;
    EPX_TRY(open_regular(path, &fd));
    *content = json_loadfd(fd, JSON_DECODE_ANY, &error);
    close(fd);
    if (!*content) {
        return epx_fail(EPX_ERR_SYNTAX, "%.256s is not JSON: line %d, column %d: %.128s", path, error.line,
                        error.column, error.text);
    }
    return EPX_OK;
}

enum epx_status epx_json_file_check(const char *path)
{
    json_t *content = NULL;
    EPX_TRY(load(path, &content));
    json_decref(content);
    return EPX_OK;
}

static enum epx_status take_texts(const json_t *content, const char *path, const char *key,
                                  enum epx_status (*take)(void *context, const char *text), void *context)
{
    const json_t *list = json_object_get(content, key);
    if (!json_is_object(content) || (list && !json_is_array(list))) {
        return epx_fail(EPX_ERR_SYNTAX, "%.256s must be an object, and %s in it a list", path, key);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text) {
            return epx_fail(EPX_ERR_SYNTAX, "%.256s: %s[%zu] must be a text", path, key, i);
        }
        EPX_TRY(take(context, text));
    }
    return EPX_OK;
}

enum epx_status epx_json_file_texts(const char *path, const char *key,
                                    enum epx_status (*take)(void *context, const char *text), void *context)
{
    json_t *content = NULL;
    EPX_TRY(load(path, &content));
    enum epx_status status = take_texts(content, path, key, take, context);
    json_decref(content);
    return status;
}
