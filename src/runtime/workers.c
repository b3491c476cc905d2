#include "runtime/workers.h"

#include "base/log.h"
#include "base/placement.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define WORKER_STACK_BYTES (256u << 10)

/* On the stack of the thread that runs it, in the list until its last part has been taken. */
struct job {
    struct job *next;
    void (*run)(void *context, uint32_t part);
    void *context;
    uint32_t part_count;
    uint32_t taken;
    uint32_t finished;
    pthread_cond_t all_finished;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct job *oldest; /* jobs with parts that nobody has taken */
    pthread_t threads[EPX_WORKERS_MAX - 1];
    uint32_t thread_count;
    uint32_t idle_count;
    struct epx_cpu_mask homes; /* of all who asked for workers */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* The threads stay with the parent. */
static void reset_in_child(void)
{
    (void)pthread_mutex_init(&pool.lock, NULL);
    (void)pthread_cond_init(&pool.work, NULL);
    pool.oldest = NULL;
    pool.thread_count = 0;
    pool.idle_count = 0;
    memset(&pool.homes, 0, sizeof pool.homes);
}

static void register_fork(void)
{
    if (pthread_atfork(NULL, NULL, reset_in_child) != 0) {
        epx_log(EPX_LOG_WARN, "fork handlers cannot be registered: worker threads will be missing in forked children");
    }
}

static void job_unlink(const struct job *job)
{
    struct job **link = &pool.oldest;
    while (*link != job) {
        link = &(*link)->next;
    }
    *link = job->next;
}

/* Takes a part and runs it; with the lock held before and after. */
static void job_run_part(struct job *job)
{
    uint32_t part = job->taken++;
    if (job->taken == job->part_count) {
        job_unlink(job);
    }
    (void)pthread_mutex_unlock(&pool.lock);
    job->run(job->context, part);
    (void)pthread_mutex_lock(&pool.lock);
    job->finished++;
    if (job->finished == job->part_count) {
        (void)pthread_cond_signal(&job->all_finished);
    }
}

static void *worker_main(void *argument)
{
    (void)argument;
    (void)pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.oldest == NULL) {
            pool.idle_count++;
            (void)pthread_cond_wait(&pool.work, &pool.lock);
            pool.idle_count--;
        }
        job_run_part(pool.oldest);
    }
    return NULL;
}

static bool worker_start(pthread_t *thread)
{
    if (epx_thread_start(thread, WORKER_STACK_BYTES, worker_main, NULL) != 0) {
        return false;
    }
    (void)pthread_detach(*thread);
    (void)pthread_setname_np(*thread, "epx-worker");
    return true;
}

/* A worker that cannot be moved stays where its creator may run. */
static void worker_place(pthread_t thread)
{
    (void)pthread_setaffinity_np(thread, sizeof pool.homes, pool.homes.sets);
}

/* The calling thread's mask and home; both empty when they cannot be had. */
static void find_home(uint32_t thread_count, struct epx_cpu_mask *mask, struct epx_cpu_mask *home)
{
    int cpu = sched_getcpu();
    (void)epx_cpu_mask_of_thread(0, mask);
    epx_cpu_map_home(epx_cpu_map_machine(), mask, cpu < 0 ? EPX_CPU_MAX : (uint32_t)cpu, thread_count, home);
}

/* Moves the workers that there are when the pool gets one home more; with the lock held. */
static void add_home(const struct epx_cpu_mask *home)
{
    struct epx_cpu_mask before = pool.homes;
    epx_cpu_mask_join(&pool.homes, home);
    if (!epx_cpu_mask_equal(&pool.homes, &before)) {
        for (uint32_t i = 0; i < pool.thread_count; i++) {
            worker_place(pool.threads[i]);
        }
    }
}

void epx_workers_prepare(uint32_t helper_count)
{
    struct epx_cpu_mask mask;
    struct epx_cpu_mask home;
    if (helper_count == 0) {
        return;
    }
    (void)pthread_once(&fork_once, register_fork);
    find_home(helper_count + 1, &mask, &home);
    helper_count = helper_count < EPX_WORKERS_MAX ? helper_count : EPX_WORKERS_MAX - 1;
    (void)pthread_mutex_lock(&pool.lock);
    add_home(&home);
    while (pool.thread_count < helper_count && worker_start(&pool.threads[pool.thread_count])) {
        if (!epx_cpu_mask_equal(&mask, &pool.homes)) { /* what it has inherited */
            worker_place(pool.threads[pool.thread_count]);
        }
        pool.thread_count++;
    }
    if (pool.thread_count < helper_count) {
        epx_log(EPX_LOG_WARN, "%u worker threads instead of %u: no more can be started", pool.thread_count,
                helper_count);
    }
    (void)pthread_mutex_unlock(&pool.lock);
}

uint32_t epx_workers_count(void)
{
    (void)pthread_mutex_lock(&pool.lock);
    uint32_t count = pool.thread_count;
    (void)pthread_mutex_unlock(&pool.lock);
    return count;
}

void epx_workers_run(uint32_t part_count, void (*run)(void *context, uint32_t part), void *context)
{
    if (part_count <= 1) {
        for (uint32_t part = 0; part < part_count; part++) {
            run(context, part);
        }
        return;
    }
    struct job job = {.run = run, .context = context, .part_count = part_count};
    int cancel_state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); /* the job lies on this stack */
    (void)pthread_cond_init(&job.all_finished, NULL);
    (void)pthread_mutex_lock(&pool.lock);
    struct job **end = &pool.oldest;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = &job;
    uint32_t wanted = part_count - 1 < pool.idle_count ? part_count - 1 : pool.idle_count;
    for (uint32_t i = 0; i < wanted; i++) {
        (void)pthread_cond_signal(&pool.work);
    }
    while (job.taken < job.part_count) {
        job_run_part(&job);
    }
    while (job.finished < job.part_count) {
        (void)pthread_cond_wait(&job.all_finished, &pool.lock);
    }
    (void)pthread_mutex_unlock(&pool.lock);
    (void)pthread_cond_destroy(&job.all_finished);
    (void)pthread_setcancelstate(cancel_state, NULL);
}
