#include "run_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static void watch(const struct run_guard *guard, int life)
{
    sigset_t all;
    char byte;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)setsid();
    (void)prctl(PR_SET_NAME, "epx-run-guard");
    (void)close(guard->life);
    while (read(life, &byte, 1) > 0) {
    }
    for (uint32_t i = 0; i < guard->rank_count; i++) {
        pid_t group = __atomic_load_n(&guard->groups[i], __ATOMIC_RELAXED);
        if (group > 0) {
            (void)kill(-group, SIGKILL);
        }
    }
    _exit(0);
}

bool run_guard_init(struct run_guard *guard, uint32_t rank_count)
{
    int ends[2];
    *guard = (struct run_guard){.life = -1, .rank_count = rank_count};
    void *memory = mmap(NULL, rank_count * sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    guard->groups = memory;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    guard->life = ends[1];
    guard->pid = fork();
    if (guard->pid == 0) {
        watch(guard, ends[0]);
    }
    (void)close(ends[0]);
    return guard->pid > 0;
}

void run_guard_enter(struct run_guard *guard, uint32_t rank, pid_t group)
{
    __atomic_store_n(&guard->groups[rank], group, __ATOMIC_RELAXED);
}

void run_guard_leave(struct run_guard *guard, uint32_t rank)
{
    run_guard_enter(guard, rank, 0);
}

void run_guard_retire(struct run_guard *guard)
{
    if (guard->life >= 0) {
        (void)close(guard->life);
        guard->life = -1;
    }
}

void run_guard_fini(struct run_guard *guard)
{
    run_guard_retire(guard);
    if (guard->groups != NULL) {
        (void)munmap(guard->groups, guard->rank_count * sizeof(pid_t));
    }
    *guard = (struct run_guard){.life = -1};
}
