#include "comm/bootstrap_limit.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/resource.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t user_count;
static bool raised;
static struct rlimit original;

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    (void)pthread_mutex_lock(&mutex);
}

static void in_parent(void)
{
    (void)pthread_mutex_unlock(&mutex);
}

/* The child starts no communicator that its parent's threads were starting. */
static void in_child(void)
{
    if (raised) {
        (void)setrlimit(RLIMIT_NOFILE, &original);
    }
    raised = false;
    user_count = 0;
    (void)pthread_mutex_unlock(&mutex);
}

static void watch_forks(void)
{
    (void)pthread_atfork(before_fork, in_parent, in_child);
}

static void raise_to(uint64_t needed)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) {
        return;
    }
    if (!raised) {
        original = limit;
    }
    limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
    raised = setrlimit(RLIMIT_NOFILE, &limit) == 0 || raised;
}

void epx_boot_limit_acquire(uint64_t needed)
{
    (void)pthread_once(&watch_once, watch_forks);
    (void)pthread_mutex_lock(&mutex);
    user_count++;
    raise_to(needed);
    (void)pthread_mutex_unlock(&mutex);
}

void epx_boot_limit_release(void)
{
    (void)pthread_mutex_lock(&mutex);
    user_count--;
    if (user_count == 0 && raised) {
        (void)setrlimit(RLIMIT_NOFILE, &original);
        raised = false;
    }
    (void)pthread_mutex_unlock(&mutex);
}

uint64_t epx_boot_limit_now(void)
{
    struct rlimit limit = {0, 0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}
