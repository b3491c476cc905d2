#include "transport/wire_ucx.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An environment that was in use. A getenv of another thread may still be in it: kept for good, and used again when the
 * same is wanted, so that there are as many as different ones. */
struct environment {
    struct environment *next;
    size_t count;
    char *entries[]; /* count, then null */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Under the lock: */
static struct environment *known;
static struct environment *in_use;
static char **before;
static size_t before_count;

static bool is_set(const char *setting)
{
    size_t name_length = strcspn(setting, "=");
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, setting, name_length + 1) == 0) {
            return true;
        }
    }
    return false;
}

/* The environment and what of `settings` the user has not set. */
static struct environment *make(const char *const *settings, size_t setting_count)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL) {
        count++;
    }
    struct environment *made = calloc(1, sizeof(*made) + (count + setting_count + 1) * sizeof(char *));
    if (made == NULL) {
        return NULL;
    }
    if (count > 0) {
        memcpy(made->entries, environ, count * sizeof(char *));
    }
    for (size_t i = 0; i < setting_count; i++) {
        if (!is_set(settings[i])) {
            made->entries[count++] = (char *)(uintptr_t)settings[i];
        }
    }
    made->count = count;
    return made;
}

static struct environment *known_or(struct environment *made)
{
    for (struct environment *entry = known; entry != NULL; entry = entry->next) {
        if (entry->count == made->count &&
            memcmp(entry->entries, made->entries, made->count * sizeof(made->entries[0])) == 0) {
            free(made);
            return entry;
        }
    }
    made->next = known;
    known = made;
    return made;
}

enum epx_status epx_ucx_environment_begin(const char *const *settings, size_t count)
{
    (void)pthread_mutex_lock(&lock);
    struct environment *made = make(settings, count);
    if (made == NULL) {
        (void)pthread_mutex_unlock(&lock);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for a copy of the environment");
    }
    in_use = known_or(made);
    before = environ;
    before_count = 0;
    while (environ != NULL && environ[before_count] != NULL) {
        before_count++;
    }
    environ = in_use->entries;
    return EPX_OK;
}

/* What another thread has changed meanwhile, in a new array or in that in use, stays. */
void epx_ucx_environment_end(void)
{
    if (environ == in_use->entries &&
        (before_count == 0 || memcmp(environ, before, before_count * sizeof(environ[0])) == 0)) {
        environ = before;
    }
    (void)pthread_mutex_unlock(&lock);
}

bool epx_ucx_environment_has(const char *setting)
{
    (void)pthread_mutex_lock(&lock);
    bool found = is_set(setting);
    (void)pthread_mutex_unlock(&lock);
    return found;
}
