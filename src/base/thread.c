#include "base/thread.h"

#include <signal.h>

int epx_thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *), void *context)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    if (stack_bytes > 0) {
        (void)pthread_attr_setstacksize(&attributes, stack_bytes);
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the new thread inherits it */
    error = pthread_create(thread, &attributes, run, context);
    if (error == EINVAL) {
        error = pthread_create(thread, NULL, run, context);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return error;
}
