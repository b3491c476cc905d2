#include "round.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 64

/* Where the system does not say how large its last level cache is. */
#define LAST_LEVEL_GUESS_BYTES ((size_t)64 << 20)

uint64_t bench_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_cpu_ns(const struct bench_case *bench)
{
    struct timespec spent;
    if (!bench->cpu_time) {
        return 0;
    }
    (void)clock_gettime(bench->processes ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

void bench_touch(void *data, size_t bytes)
{
    volatile unsigned char *next = data;
    for (size_t i = 0; i < bytes; i += LINE_BYTES) {
        next[i] = next[i];
    }
}

int64_t bench_core_count(void)
{
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        return CPU_COUNT(&cores) > 0 ? CPU_COUNT(&cores) : 1;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? online : 1;
}

/* Of /sys rather than sysconf, which counts the caches of the whole package on some processors. */
size_t bench_cache_bytes(int index, size_t guess_bytes)
{
    char path[64];
    unsigned long kib = 0;
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    FILE *in = fopen(path, "re");
    if (in != NULL) {
        if (fscanf(in, "%luK", &kib) != 1) {
            kib = 0;
        }
        (void)fclose(in);
    }
    return kib != 0 ? (size_t)kib << 10 : guess_bytes;
}

size_t bench_last_level_bytes(void)
{
    return bench_cache_bytes(3, LAST_LEVEL_GUESS_BYTES);
}

bool bench_sweep_init(struct bench_sweep *sweep, const struct bench_case *bench, int64_t rank)
{
    *sweep = (struct bench_sweep){.memory = NULL};
    if (!bench->cold || rank >= bench_core_count()) {
        return true;
    }
    size_t bytes = bench_last_level_bytes();
    sweep->bytes = bytes + bytes / 4;
    void *memory = mmap(NULL, sweep->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        (void)fprintf(stderr, "no memory to sweep caches with (%zu bytes): %s\n", sweep->bytes, strerror(errno));
        return false;
    }
    sweep->memory = memory;
    memset(sweep->memory, 1, sweep->bytes);
    return true;
}

void bench_sweep_run(const struct bench_sweep *sweep)
{
    volatile unsigned char *next = sweep->memory;
    for (size_t i = 0; next != NULL && i < sweep->bytes; i += LINE_BYTES) {
        next[i]++;
    }
}

void bench_sweep_fini(struct bench_sweep *sweep)
{
    if (sweep->memory != NULL) {
        (void)munmap(sweep->memory, sweep->bytes);
    }
}

void bench_skew_wait(const struct bench_case *bench, int64_t rank, int64_t turn)
{
    if (bench->skew_us == 0) {
        return;
    }
    uint64_t words[3] = {bench->seed, (uint64_t)rank, (uint64_t)turn};
    uint64_t drawn = bench_digest(BENCH_DIGEST_INIT, words, sizeof words);
    uint64_t wait_ns = (drawn ^ drawn >> 29) % ((uint64_t)bench->skew_us * 1000 + 1);
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000u), .tv_nsec = (long)(wait_ns % 1000000000u)};
    (void)nanosleep(&wait, NULL);
}

static void print_known(const char *name, int64_t value)
{
    if (value >= 0) {
        (void)printf(",\"%s\":%" PRId64, name, value);
    }
}

void bench_sample_print(const struct bench_sample *sample)
{
    (void)printf("{\"record\":\"sample\",\"engine\":\"%s\",\"variant\":\"%s\",\"operation\":\"%s\",\"round\":%" PRId64
                 ",\"makespan_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64,
                 sample->engine, sample->variant, sample->operation, sample->round, sample->makespan_ns,
                 sample->max_ns);
    print_known("cpu_ns", sample->cpu_ns);
    if (sample->wire_bytes != 0) {
        print_known("wire_bytes", sample->wire_bytes);
    }
    (void)printf("}\n");
}

static void print_digest(const char *name, uint64_t digest)
{
    if (digest != 0) {
        (void)printf(",\"%s\":\"%016" PRIx64 "\"", name, digest);
    }
}

void bench_summary_print(const struct bench_summary *summary)
{
    (void)printf("{\"record\":\"summary\",\"engine\":\"%s\",\"variant\":\"%s\",\"version\":\"%s\"", summary->engine,
                 summary->variant, summary->version);
    if (summary->isa != NULL) {
        (void)printf(",\"isa\":\"%s\"", summary->isa);
    }
    print_digest("dispatch_digest", summary->dispatch_digest);
    print_digest("combine_digest", summary->combine_digest);
    print_digest("product_digest", summary->product_digest);
    print_known("wrong", summary->wrong);
    print_known("create_ns", summary->create_ns);
    print_known("plan_ns", summary->plan_ns);
    print_known("first_dispatch_ns", summary->first_dispatch_ns);
    print_known("first_combine_ns", summary->first_combine_ns);
    print_known("dispatch_bytes_read", summary->dispatch_bytes_read);
    print_known("dispatch_bytes_written", summary->dispatch_bytes_written);
    print_known("combine_bytes_read", summary->combine_bytes_read);
    print_known("combine_bytes_written", summary->combine_bytes_written);
    (void)printf("}\n");
}
