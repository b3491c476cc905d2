#include "memory/arena_fork.h"

#include "memory/arena_own.h"
#include "memory/arena_registry.h"

#include <pthread.h>

static pthread_once_t register_once = PTHREAD_ONCE_INIT;
static int register_error;

static void before_fork(void)
{
    (void)epx_arena_own_lock();
    epx_arena_registry_lock();
}

static void in_parent(void)
{
    epx_arena_registry_unlock();
    epx_arena_own_unlock();
}

static void in_child(void)
{
    epx_arena_registry_forget();
    epx_arena_own_forget();
}

static void register_handlers(void)
{
    register_error = pthread_atfork(before_fork, in_parent, in_child);
}

enum epx_status epx_arena_prepare_forks(void)
{
    (void)pthread_once(&register_once, register_handlers);
    if (register_error != 0) {
        return epx_fail_errno(EPX_ERR_NO_MEMORY, register_error, "fork handlers cannot be registered");
    }
    return EPX_OK;
}
