#include "memory/arena_watch.h"

#include "base/clock.h"
#include "base/futex.h"
#include "base/text_file.h"
#include "base/thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The thread calls next to nothing, but may run what the program does at its exit. A program with much thread-local
 * storage, or a machine with a larger minimum, may need more: then the default. */
#define STACK_BYTES 262144

#define ALONE_CHECK_NS 1000000000u
#define STAT_BYTES     1024

enum watch_stage { STAGE_STARTING = 0, STAGE_OWNING = 1, STAGE_FAILED = 2 };

/*
 * What the kernel walks at the thread's end: a list of one node, whose futex word lies futex_offset bytes away. On a
 * page that no peer has, so that none can send the kernel elsewhere. Yet a shared mapping: private pages of a process
 * that was killed for lack of memory may be reaped before its threads have ended, and its death would go unmarked.
 */
struct watch_list {
    struct robust_list_head head;
    struct robust_list node;
};

static struct {
    struct watch_list *list;
    _Atomic uint32_t *life;
    _Atomic uint32_t stage;
    int error_number; /* when failed */
} watch;

/*
 * Whether the main thread and all others have ended. A process ends with its last thread, by exit(0); this thread is
 * the last of one whose main thread has called pthread_exit, and then must do what the last one does.
 */
static bool is_alone(void)
{
    char text[STAT_BYTES];
    if (!epx_text_file_read("/proc/self/stat", text, sizeof text)) {
        return false;
    }
    const char *state = strrchr(text, ')'); /* what is before it is the program's name, with anything in it */
    char letter = 0;
    unsigned threads = 0;
    /* The main thread counts as long as there are others, as a zombie. */
    return state != NULL &&
           sscanf(state, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %u", &letter,
                  &threads) == 2 &&
           letter == 'Z' && threads == 2;
}

static void *watch_main(void *unused)
{
    (void)unused;
    struct watch_list *list = watch.list;
    list->head.list.next = &list->node;
    list->head.futex_offset = (long)((intptr_t)watch.life - (intptr_t)&list->node);
    list->head.list_op_pending = NULL;
    list->node.next = &list->head.list;
    if (syscall(SYS_set_robust_list, &list->head, sizeof list->head) != 0) {
        watch.error_number = errno;
        atomic_store_explicit(&watch.stage, STAGE_FAILED, memory_order_release);
        epx_futex_wake_all(&watch.stage);
        return NULL;
    }
    atomic_store_explicit(watch.life, (uint32_t)syscall(SYS_gettid), memory_order_release);
    atomic_store_explicit(&watch.stage, STAGE_OWNING, memory_order_release);
    epx_futex_wake_all(&watch.stage);
    for (;;) {
        epx_futex_wait(&watch.stage, STAGE_OWNING, epx_clock_ns() + ALONE_CHECK_NS);
        if (is_alone()) {
            exit(0);
        }
    }
    return NULL;
}

static struct watch_list *list_create(void)
{
    struct watch_list *list =
        mmap(NULL, sizeof *list, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (list == MAP_FAILED) {
        return NULL;
    }
    if (madvise(list, sizeof *list, MADV_DONTFORK) != 0) {
        int error_number = errno;
        (void)munmap(list, sizeof *list);
        errno = error_number;
        return NULL;
    }
    return list;
}

/* Waits until the thread owns the word, or has ended without. */
static int thread_await(pthread_t thread)
{
    uint32_t stage;
    while ((stage = atomic_load_explicit(&watch.stage, memory_order_acquire)) == STAGE_STARTING) {
        epx_futex_wait(&watch.stage, STAGE_STARTING, EPX_NEVER);
    }
    if (stage == STAGE_FAILED) {
        (void)pthread_join(thread, NULL);
        return watch.error_number;
    }
    (void)pthread_detach(thread);
    return 0;
}

enum epx_status epx_arena_watch_start(_Atomic uint32_t *life)
{
    watch.life = life;
    watch.list = list_create();
    if (watch.list == NULL) {
        return epx_fail_errno(EPX_ERR_NO_MEMORY, errno, "no page for the arena's watch thread");
    }
    atomic_store_explicit(&watch.stage, STAGE_STARTING, memory_order_relaxed);
    pthread_t thread;
    int error_number = epx_thread_start(&thread, STACK_BYTES, watch_main, NULL);
    enum epx_status status = EPX_OK;
    if (error_number != 0) {
        status = epx_fail_errno(epx_status_of_thread_error(error_number), error_number,
                                "the arena's watch thread cannot be created");
    } else if ((error_number = thread_await(thread)) != 0) {
        status = epx_fail_errno(EPX_ERR_SYSTEM, error_number, "set_robust_list failed");
    }
    if (status != EPX_OK) {
        (void)munmap(watch.list, sizeof *watch.list);
    }
    return status;
}
