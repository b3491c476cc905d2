#include "soak/soak.h"

#include "memory/arena.h"

#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

static int64_t count_entries(const char *path)
{
    int64_t count = 0;
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return -1;
    }
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(folder);
    return count;
}

static int64_t count_lines(const char *path)
{
    int64_t count = 0;
    int c;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    while ((c = getc(file)) != EOF) {
        count += c == '\n';
    }
    (void)fclose(file);
    return count;
}

/* The sum of the lines "Name:   123 kB" that the names are of; -1: not all are there. */
static int64_t sum_kib(const char *path, const char *const *names, uint32_t name_count)
{
    char line[256];
    int64_t sum = 0;
    uint32_t found = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        for (uint32_t i = 0; i < name_count; i++) {
            if (strncmp(line, names[i], strlen(names[i])) == 0) {
                sum += strtoll(line + strlen(names[i]), NULL, 10);
                found++;
            }
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found == name_count ? sum : -1;
}

/* Pages of files (programs, libraries) come and go with the machine's memory, and are not the library's. */
static int64_t memory_kib(void)
{
    static const char *const shares[] = {"Pss_Anon:", "Pss_Shmem:"};
    static const char *const whole[] = {"RssAnon:", "RssShmem:"};
    int64_t kib = sum_kib("/proc/self/smaps_rollup", shares, 2);
    return kib >= 0 ? kib : sum_kib("/proc/self/status", whole, 2);
}

void soak_sample_take(struct soak_sample *sample, uint64_t pair)
{
    int64_t shared = count_entries("/dev/shm");
    int64_t temporary = count_entries("/tmp");
    uint64_t arena_bytes;
    uint64_t arena_count;
    (void)malloc_trim(0); /* what the allocator keeps for later is no growth */
    const struct mallinfo2 heap = mallinfo2();
    epx_arena_usage(&arena_bytes, &arena_count);
    sample->pair = pair;
    sample->values[SOAK_MEMORY] = memory_kib();
    sample->values[SOAK_HEAP] = (int64_t)(heap.uordblks + heap.hblkhd);
    sample->values[SOAK_ARENA] = (int64_t)arena_bytes;
    sample->values[SOAK_DESCRIPTORS] = count_entries("/proc/self/fd") - 1; /* the folder's own */
    sample->values[SOAK_THREADS] = count_entries("/proc/self/task");
    sample->values[SOAK_MAPPINGS] = count_lines("/proc/self/maps");
    sample->values[SOAK_ENTRIES] =
        shared < 0 && temporary < 0 ? -1 : (shared > 0 ? shared : 0) + (temporary > 0 ? temporary : 0);
}

bool soak_folders_own(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, NULL) == 0 && mount("none", "/tmp", "tmpfs", 0, NULL) == 0;
}
