#include "transport/wire_ucx.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define UCX_LIBRARY "libucp.so.0"

/* What UCX reads while it is loaded: nothing printed, no signal caught, no call of the program patched, no thread. */
static const char *const quiet[] = {
    "UCX_LOG_LEVEL=fatal", "UCX_HANDLE_ERRORS=none", "UCX_ERROR_SIGNALS=", "UCX_DEBUG_SIGNO=0",
    "UCX_MEM_EVENTS=n",    "UCX_MEMTYPE_CACHE=n",    "UCX_VFS_ENABLE=n",   "UCX_WARN_UNUSED_ENV_VARS=n",
};

static struct epx_ucx ucx;
static enum epx_status load_status;
static char load_text[256];
static char description[64];

static void *open_quietly(void)
{
    if (epx_ucx_environment_begin(quiet, sizeof(quiet) / sizeof(quiet[0])) != EPX_OK) {
        return NULL;
    }
    void *library = dlopen(UCX_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    epx_ucx_environment_end();
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
