#include "bench_environment.h"

#include "epx/epx.h"
#include "round.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* "model name" of x86; other processors say less. */
static void read_processor(char *out, size_t bytes, const char *machine)
{
    char line[256];
    FILE *in = fopen("/proc/cpuinfo", "re");
    bench_copy_name(out, bytes, machine);
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            value[strcspn(value, "\n")] = '\0';
            bench_copy_name(out, bytes, value + 2);
            break;
        }
    }
    if (in != NULL) {
        (void)fclose(in);
    }
}

void bench_environment_read(struct bench_environment *environment)
{
    struct utsname names;
    struct tm utc;
    time_t now = time(NULL);
    memset(&names, 0, sizeof names);
    (void)uname(&names);
    bench_copy_name(environment->version, sizeof environment->version, epx_version());
    read_processor(environment->processor, sizeof environment->processor, names.machine);
    (void)snprintf(environment->kernel, sizeof environment->kernel, "%.32s %.80s", names.sysname, names.release);
    bench_copy_name(environment->host, sizeof environment->host, names.nodename);
    if (gmtime_r(&now, &utc) != NULL) {
        (void)strftime(environment->time, sizeof environment->time, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    environment->cores = bench_core_count();
    environment->last_level_cache_bytes = (int64_t)bench_last_level_bytes();
    environment->memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}
