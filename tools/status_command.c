#include "status_command.h"

#include "epx/epx.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXIT_HEALTHY = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NONE = 3,
    EXIT_DENIED = 4,
    EXIT_BROKEN = 5,
};

static int usage(FILE *out, int exit_code)
{
    (void)fprintf(out, "usage: epx status [--json] [PID | JOB | --pid PID | --job JOB]\n"
                       "  Reads the state of jobs on this host from outside, without disturbing them.\n"
                       "  PID   every communicator of the process (digits alone are a PID)\n"
                       "  JOB   every communicator of the job (EPX_JOB), as long as a process of this user has it\n"
                       "  none  a line for each communicator of this user's processes\n"
                       "  exit status: 0 found, healthy; 1 found, failed, overdue or with a rank that died; 2 wrong\n"
                       "  command line; 3 nothing found; 4 not permitted; 5 the search or the output failed\n");
    return exit_code;
}

static int wrong(const char *what, const char *argument)
{
    (void)fprintf(stderr, "epx status: %s '%s'\n", what, argument);
    return usage(stderr, EXIT_USAGE);
}

static int pid_parse(const char *text, int64_t *pid)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text) || errno != 0 || value < 1 || value > INT_MAX) {
        return 0;
    }
    *pid = value;
    return 1;
}

/* 0, or the exit status. A target is given once. */
static int target_set(struct epx_jobs_config *config, const char *text, int is_pid)
{
    if (text == NULL || text[0] == '\0' || config->pid != 0 || config->job != NULL) {
        return text == NULL || text[0] == '\0' ? wrong("no name in", "PID or JOB") : wrong("one too many:", text);
    }
    if (!is_pid) {
        config->job = text;
        return 0;
    }
    return pid_parse(text, &config->pid) ? 0 : wrong("no process id:", text);
}

static int arguments_parse(int argc, char **argv, struct epx_jobs_config *config)
{
    for (int i = 1; i < argc; i++) {
        int bad = 0;
        if (strcmp(argv[i], "--json") == 0) {
            config->json = 1;
        } else if (strcmp(argv[i], "--pid") == 0 || strcmp(argv[i], "--job") == 0) {
            int is_pid = strcmp(argv[i], "--pid") == 0;
            i++;
            bad = target_set(config, i < argc ? argv[i] : NULL, is_pid);
        } else if (argv[i][0] == '-') {
            bad = wrong("unknown option", argv[i]);
        } else {
            bad = target_set(config, argv[i], strspn(argv[i], "0123456789") == strlen(argv[i]));
        }
        if (bad != 0) {
            return bad;
        }
    }
    return 0;
}

static int nothing(const struct epx_jobs_config *config)
{
    if (config->pid != 0) {
        (void)fprintf(stderr, "epx status: no process %lld, or it has no communicator\n", (long long)config->pid);
    } else if (config->job != NULL) {
        (void)fprintf(stderr, "epx status: no process of this user has a communicator of job %s\n", config->job);
    } else {
        (void)fprintf(stderr, "epx status: no process of this user has a communicator\n");
    }
    return EXIT_NONE;
}

int status_command(int argc, char **argv)
{
    struct epx_jobs_config config = EPX_JOBS_CONFIG_INIT;
    enum epx_jobs_found found = EPX_JOBS_NONE;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        (void)usage(stdout, 0);
        return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : EXIT_BROKEN;
    }
    int bad = arguments_parse(argc, argv, &config);
    if (bad != 0) {
        return bad;
    }
    if (epx_jobs_print(stdout, &config, &found) != EPX_OK) {
        (void)fprintf(stderr, "epx status: %s\n", epx_last_error());
        return EXIT_BROKEN;
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return EXIT_BROKEN;
    }
    switch (found) {
    case EPX_JOBS_HEALTHY: return EXIT_HEALTHY;
    case EPX_JOBS_FAILED: return EXIT_FAILED;
    case EPX_JOBS_DENIED: return EXIT_DENIED;
    case EPX_JOBS_NONE: break;
    }
    return nothing(&config);
}
