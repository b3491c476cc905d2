#include "memory_use.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages that one look covers. */
#define LOOK_PAGES 4096u

/* The number behind `name` in a file of lines "Name:   123 kB"; -1: there is none. */
static int64_t read_kib(const char *path, const char *name)
{
    char line[256];
    long long kib = -1;
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return -1;
    }
    while (kib < 0 && fgets(line, sizeof line, in) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoll(line + strlen(name), NULL, 10);
        }
    }
    (void)fclose(in);
    return kib;
}

bool bench_memory_use_read(struct bench_memory_use *use)
{
    int64_t resident_kib = read_kib("/proc/self/smaps_rollup", "Pss:");
    int64_t file_kib = read_kib("/proc/self/smaps_rollup", "Pss_File:"); /* from Linux 5.3 on */
    int64_t page_table_kib = read_kib("/proc/self/status", "VmPTE:");
    if (resident_kib < 0 || page_table_kib < 0) {
        (void)fprintf(stderr, "/proc/self/smaps_rollup or /proc/self/status does not tell the memory of a process\n");
        return false;
    }
    use->resident_bytes = (resident_kib - (file_kib > 0 ? file_kib : 0)) << 10;
    use->page_table_bytes = page_table_kib << 10;
    return true;
}

size_t bench_memory_present(const void *data, size_t bytes)
{
    unsigned char present[LOOK_PAGES];
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)data;
    uintptr_t end = start + bytes;
    size_t sum = 0;
    for (uintptr_t look = start - start % page_bytes; look < end; look += LOOK_PAGES * page_bytes) {
        size_t look_bytes = end - look < LOOK_PAGES * page_bytes ? end - look : LOOK_PAGES * page_bytes;
        if (mincore((void *)look, look_bytes, present) != 0) {
            continue;
        }
        for (size_t i = 0; i * page_bytes < look_bytes; i++) {
            uintptr_t first = look + i * page_bytes < start ? start : look + i * page_bytes;
            uintptr_t past = look + (i + 1) * page_bytes > end ? end : look + (i + 1) * page_bytes;
            sum += (present[i] & 1) != 0 ? past - first : 0;
        }
    }
    return sum;
}
