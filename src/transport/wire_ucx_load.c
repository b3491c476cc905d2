#include "transport/wire_ucx.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UCX_LIBRARY "libucp.so.0"

/* What UCX reads while it is loaded: nothing printed, no signal caught, no call of the program patched, no thread. */
static const char *const quiet[] = {
    "UCX_LOG_LEVEL=fatal", "UCX_HANDLE_ERRORS=none", "UCX_ERROR_SIGNALS=", "UCX_DEBUG_SIGNO=0",
    "UCX_MEM_EVENTS=n",    "UCX_MEMTYPE_CACHE=n",    "UCX_VFS_ENABLE=n",   "UCX_WARN_UNUSED_ENV_VARS=n",
};
#define QUIET_COUNT (sizeof(quiet) / sizeof(quiet[0]))

static struct epx_ucx ucx;
static enum epx_status load_status;
static char load_text[256];
static char description[64];
static char **volatile replaced; /* a getenv of another thread may still be in it: never freed */

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

/* The environment and what of `quiet` the user has not set. setenv would pull the array away under a getenv of another
 * thread; this one replaces it for a moment, whole. */
static char **quiet_environment(void)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL) {
        count++;
    }
    char **copy = calloc(count + QUIET_COUNT + 1, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    if (count > 0) {
        memcpy(copy, environ, count * sizeof(*copy));
    }
    for (size_t i = 0; i < QUIET_COUNT; i++) {
        if (!is_set(quiet[i])) {
            copy[count++] = (char *)(uintptr_t)quiet[i];
        }
    }
    return copy;
}

static void *open_quietly(void)
{
    char **copy = quiet_environment();
    if (copy == NULL) {
        return NULL;
    }
    replaced = copy;
    char **environment = environ;
    environ = copy;
    void *library = dlopen(UCX_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    environ = environment;
    return library;
}

static bool find_calls(void *library, struct epx_ucx *found)
{
    void *address = NULL;
#define FIND_CALL(name)                                                                                                \
    address = dlsym(library, #name);                                                                                   \
    if (address == NULL) {                                                                                             \
        return false;                                                                                                  \
    }                                                                                                                  \
    memcpy(&found->name, &address, sizeof(address));
    EPX_UCX_CALLS(FIND_CALL)
#undef FIND_CALL
    return true;
}

static void load(void)
{
    void *library = open_quietly();
    if (library != NULL && find_calls(library, &ucx)) {
        (void)snprintf(description, sizeof(description), "UCX %s", ucx.ucp_get_version_string());
        return;
    }
    const char *reason = dlerror();
    load_status = EPX_ERR_UNSUPPORTED;
    (void)snprintf(load_text, sizeof(load_text), "%s", reason != NULL ? reason : "no memory");
    (void)snprintf(description, sizeof(description), "none (%s cannot be loaded)", UCX_LIBRARY);
}

static void load_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, load);
}

enum epx_status epx_ucx_load(const struct epx_ucx **out)
{
    load_once();
    if (load_status != EPX_OK) {
        return epx_fail(load_status, "no connection to other hosts: UCX cannot be loaded (%s)", load_text);
    }
    *out = &ucx;
    return EPX_OK;
}

bool epx_wire_available(void)
{
    load_once();
    return load_status == EPX_OK;
}

const char *epx_wire_description(void)
{
    load_once();
    return description;
}
