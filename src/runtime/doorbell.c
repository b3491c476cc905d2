#include "runtime/doorbell.h"

#include "base/fault.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t bells_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t bells_once = PTHREAD_ONCE_INIT;
static int bells[EPX_DOORBELLS_MAX]; /* under the lock; descriptor + 1, 0: free */
static bool forks_watched;

static void before_fork(void)
{
    pthread_mutex_lock(&bells_lock);
}

static void in_parent(void)
{
    pthread_mutex_unlock(&bells_lock);
}

/* With a number that the program closed and got again for a file of its own nothing may be done. */
static bool is_timer(int bell)
{
    struct itimerspec when;
    return timerfd_gettime(bell, &when) == 0;
}

static void in_child(void)
{
    for (int i = 0; i < EPX_DOORBELLS_MAX; i++) {
        if (bells[i] != 0 && is_timer(bells[i] - 1)) {
            (void)close(bells[i] - 1);
        }
        bells[i] = 0;
    }
    pthread_mutex_init(&bells_lock, NULL);
}

static void watch_forks(void)
{
    forks_watched = pthread_atfork(before_fork, in_parent, in_child) == 0;
}

/* With the lock held: the place that has this value; -1 when there is none. */
static int find(int value)
{
    for (int i = 0; i < EPX_DOORBELLS_MAX; i++) {
        if (bells[i] == value) {
            return i;
        }
    }
    return -1;
}

int epx_doorbell_open(void)
{
    pthread_once(&bells_once, watch_forks);
    if (!forks_watched || epx_fault("doorbell.open", -1)) {
        return -1;
    }
    int bell = -1;
    pthread_mutex_lock(&bells_lock);
    int place = find(0);
    if (place >= 0) {
        bell = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    }
    if (bell >= 0) {
        bells[place] = bell + 1;
    }
    pthread_mutex_unlock(&bells_lock);
    return bell;
}

void epx_doorbell_close(int bell)
{
    pthread_mutex_lock(&bells_lock);
    int place = find(bell + 1);
    if (place >= 0) {
        bells[place] = 0;
        if (is_timer(bell)) {
            (void)close(bell);
        }
    }
    pthread_mutex_unlock(&bells_lock);
}

void epx_doorbell_ring(int bell, uint64_t delay_ns)
{
    if (delay_ns == 0) {
        delay_ns = 1; /* a time of 0 would stop the timer */
    }
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(delay_ns / 1000000000u), .tv_nsec = (long)(delay_ns % 1000000000u)}};
    (void)timerfd_settime(bell, 0, &when, NULL);
}

enum epx_doorbell_call epx_doorbell_await(int bell)
{
    uint64_t rings;
    struct pollfd slot = {.fd = bell, .events = POLLIN};
    int ready;
    do {
        ready = poll(&slot, 1, EPX_DOORBELL_PATIENCE_MS);
    } while (ready < 0 && errno == EINTR);
    if (is_timer(bell)) {
        return ready > 0 && read(bell, &rings, sizeof rings) > 0 ? EPX_DOORBELL_RANG : EPX_DOORBELL_SILENT;
    }
    pthread_mutex_lock(&bells_lock);
    int place = find(bell + 1);
    if (place >= 0) {
        bells[place] = 0;
    }
    pthread_mutex_unlock(&bells_lock);
    return EPX_DOORBELL_LOST;
}
