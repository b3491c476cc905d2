#include "world.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* With more ranks than cores: looks before a rank offers its core to another, and offers before it sleeps. */
#define PAUSE_COUNT 20
#define YIELD_COUNT 64

struct member_thread {
    pthread_t thread;
    struct bench_world *world;
    int64_t rank;
    bench_member_main run;
    void *context;
};

static int64_t member_count_of(const struct bench_world *world)
{
    return world->member_count != 0 ? world->member_count : world->bench->rank_count;
}

/* ---- Barrier ------------------------------------------------------------------------------------------------- */

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool generation_came(struct bench_barrier *barrier, uint32_t wanted)
{
    return (int32_t)(atomic_load_explicit(&barrier->generation, memory_order_acquire) - wanted) >= 0;
}

static void wait_awake(const struct bench_world *world, uint32_t wanted)
{
    for (int64_t look = 0; world->spin || look < PAUSE_COUNT; look++) {
        if (generation_came(world->barrier, wanted)) {
            return;
        }
        pause_core();
    }
    for (int64_t look = 0; look < YIELD_COUNT && !generation_came(world->barrier, wanted); look++) {
        (void)sched_yield();
    }
}

static void wait_asleep(struct bench_barrier *barrier, uint32_t wanted)
{
    if (generation_came(barrier, wanted)) {
        return;
    }
    atomic_fetch_add(&barrier->sleepers, 1);
    while (!generation_came(barrier, wanted)) {
        (void)syscall(SYS_futex, &barrier->generation, FUTEX_WAIT, wanted - 1, NULL, NULL, 0);
    }
    atomic_fetch_sub(&barrier->sleepers, 1);
}

void bench_meet(struct bench_member *member)
{
    const struct bench_world *world = member->world;
    struct bench_barrier *barrier = world->barrier;
    uint32_t member_count = (uint32_t)member_count_of(world);
    uint32_t wanted = ++member->generation;
    if (atomic_fetch_add(&barrier->arrived, 1) + 1 == wanted * member_count) {
        atomic_store(&barrier->generation, wanted);
        if (atomic_load(&barrier->sleepers) != 0) {
            (void)syscall(SYS_futex, &barrier->generation, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        }
        return;
    }
    wait_awake(world, wanted);
    wait_asleep(barrier, wanted);
}

/* ---- Timing -------------------------------------------------------------------------------------------------- */

static struct bench_span *span_of(const struct bench_world *world, int64_t index)
{
    return world->spans + index * member_count_of(world);
}

/* The first rank of a host speaks for it, where there are several; nobody is in an operation. */
static int64_t sent_bytes(struct bench_member *member)
{
    const struct bench_case *bench = member->world->bench;
    bool speaks = bench->host_count > 1 && (member->rank == 0 || bench_case_host(bench, member->rank - 1) !=
                                                                     bench_case_host(bench, member->rank));
    return speaks ? bench_hosts_sent_bytes(&member->sent_counter) : 0;
}

void bench_start(struct bench_member *member, int64_t index)
{
    const struct bench_world *world = member->world;
    bench_sweep_run(&member->sweep);
    member->sent_bytes = sent_bytes(member);
    bench_meet(member);
    bench_skew_wait(world->bench, member->rank, member->turn++);
    struct bench_span *span = &span_of(world, index)[member->rank];
    span->cpu_ns = bench_cpu_ns(world->bench);
    span->start_ns = bench_now_ns();
}

void bench_stop(struct bench_member *member, int64_t index)
{
    struct bench_span *span = &span_of(member->world, index)[member->rank];
    span->end_ns = bench_now_ns();
    span->cpu_ns = bench_cpu_ns(member->world->bench) - span->cpu_ns;
    bench_meet(member);
    span->wire_bytes = sent_bytes(member) - member->sent_bytes;
}

uint64_t bench_makespan_ns(const struct bench_world *world, int64_t index)
{
    const struct bench_span *spans = span_of(world, index);
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    for (int64_t rank = 0; rank < member_count_of(world); rank++) {
        first = spans[rank].start_ns < first ? spans[rank].start_ns : first;
        last = spans[rank].end_ns > last ? spans[rank].end_ns : last;
    }
    return last - first;
}

uint64_t bench_longest_ns(const struct bench_world *world, int64_t index)
{
    const struct bench_span *spans = span_of(world, index);
    uint64_t longest = 0;
    for (int64_t rank = 0; rank < member_count_of(world); rank++) {
        uint64_t spent = spans[rank].end_ns - spans[rank].start_ns;
        longest = spent > longest ? spent : longest;
    }
    return longest;
}

int64_t bench_wire_bytes(const struct bench_world *world, int64_t index)
{
    const struct bench_span *spans = span_of(world, index);
    int64_t sum = 0;
    for (int64_t member = 0; member < member_count_of(world); member++) {
        sum += spans[member].wire_bytes;
    }
    return sum;
}

int64_t bench_cpu_per_rank_ns(const struct bench_world *world, int64_t index)
{
    const struct bench_span *spans = span_of(world, index);
    uint64_t sum = 0;
    for (int64_t member = 0; member < member_count_of(world); member++) {
        sum += spans[member].cpu_ns;
    }
    return world->bench->cpu_time ? (int64_t)sum / world->bench->rank_count : -1;
}

/* ---- Ranks --------------------------------------------------------------------------------------------------- */

static size_t round_to_page(size_t bytes)
{
    return (bytes + 4095) & ~(size_t)4095;
}

/* One memfd rather than an anonymous mapping, because that is what peers' memory is in an exchange. */
int bench_world_map(struct bench_world *world)
{
    size_t barrier_bytes = round_to_page(sizeof *world->barrier);
    size_t span_bytes = round_to_page((size_t)(world->operation_count * member_count_of(world)) * sizeof *world->spans);
    size_t bytes = barrier_bytes + span_bytes + round_to_page(world->shared_bytes);
    int fd = memfd_create("epx-bench", MFD_CLOEXEC);
    char *memory = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    int error = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (memory == MAP_FAILED) {
        (void)fprintf(stderr, "no shared memory (%zu bytes): %s\n", bytes, strerror(error));
        return 1;
    }
    world->barrier = (struct bench_barrier *)(void *)memory;
    world->spans = (struct bench_span *)(void *)(memory + barrier_bytes);
    world->shared = memory + barrier_bytes + span_bytes;
    world->spin = bench_core_count() >= member_count_of(world);
    memset(world->spans, 0, span_bytes); /* no page faults while timing */
    return 0;
}

static int run_member(struct bench_world *world, int64_t rank, bench_member_main run, void *context)
{
    struct bench_member member = {.world = world, .rank = rank};
    if (world->hosts != NULL && !bench_hosts_enter(world->hosts, bench_case_host(world->bench, rank))) {
        return 1;
    }
    if (!bench_sweep_init(&member.sweep, world->bench, rank)) {
        return 1;
    }
    int result = run(&member, context);
    bench_sweep_fini(&member.sweep);
    return result;
}

static void end_processes(const pid_t *pids, int64_t count)
{
    for (int64_t rank = 0; rank < count; rank++) {
        if (pids[rank] > 0) {
            (void)kill(pids[rank], SIGKILL);
        }
    }
}

static int64_t rank_of_process(const pid_t *pids, int64_t count, pid_t pid)
{
    int64_t rank = 0;
    while (rank < count && pids[rank] != pid) {
        rank++;
    }
    return rank;
}

/* The first rank that fails ends the others: they would wait for it for ever. */
static int wait_processes(pid_t *pids, int64_t count)
{
    int result = 0;
    int status = 0;
    pid_t pid = 0;
    while ((pid = wait(&status)) > 0 || errno == EINTR) {
        int64_t rank = pid > 0 ? rank_of_process(pids, count, pid) : count;
        if (rank == count) {
            continue;
        }
        pids[rank] = 0;
        if (status == 0) {
            continue;
        }
        if (result == 0 && WIFSIGNALED(status)) {
            (void)fprintf(stderr, "rank %lld was ended by signal %d\n", (long long)rank, WTERMSIG(status));
        }
        result = 1;
        end_processes(pids, count);
    }
    return result;
}

static int run_processes(struct bench_world *world, bench_member_main run, void *context)
{
    int64_t count = member_count_of(world);
    pid_t *pids = calloc((size_t)count, sizeof *pids);
    pid_t parent = getpid();
    int failed = pids == NULL;
    (void)signal(SIGCHLD, SIG_DFL); /* ignored by the caller, it would hide how ranks end */
    for (int64_t rank = 0; failed == 0 && rank < count; rank++) {
        pids[rank] = fork();
        if (pids[rank] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(getppid() != parent || run_member(world, rank, run, context) != 0);
        }
        if (pids[rank] < 0) {
            (void)fprintf(stderr, "cannot start rank %lld: %s\n", (long long)rank, strerror(errno));
            end_processes(pids, rank);
            failed = 1;
        }
    }
    failed = (pids != NULL && wait_processes(pids, count) != 0) || failed != 0;
    free(pids);
    return failed;
}

static void *thread_main(void *argument)
{
    struct member_thread *thread = argument;
    if (run_member(thread->world, thread->rank, thread->run, thread->context) != 0) {
        _exit(1); /* the others would wait for this rank for ever */
    }
    return NULL;
}

static int run_threads(struct bench_world *world, bench_member_main run, void *context)
{
    int64_t count = member_count_of(world);
    struct member_thread *threads = calloc((size_t)count, sizeof *threads);
    if (threads == NULL) {
        (void)fprintf(stderr, "no memory for %lld threads\n", (long long)count);
        return 1;
    }
    for (int64_t rank = 0; rank < count; rank++) {
        threads[rank] = (struct member_thread){.world = world, .rank = rank, .run = run, .context = context};
        int error = pthread_create(&threads[rank].thread, NULL, thread_main, &threads[rank]);
        if (error != 0) {
            (void)fprintf(stderr, "no thread for rank %lld: %s\n", (long long)rank, strerror(error));
            _exit(1);
        }
    }
    for (int64_t rank = 0; rank < count; rank++) {
        (void)pthread_join(threads[rank].thread, NULL);
    }
    free(threads);
    return 0;
}

int bench_world_run(struct bench_world *world, bench_member_main run, void *context)
{
    if (world->bench->host_count > 1 && world->hosts == NULL) {
        (void)fprintf(stderr, "--hosts is %lld, must be 1: this program knows one host\n",
                      (long long)world->bench->host_count);
        return 1;
    }
    if (world->shared == NULL && bench_world_map(world) != 0) {
        return 1;
    }
    return world->bench->processes ? run_processes(world, run, context) : run_threads(world, run, context);
}
