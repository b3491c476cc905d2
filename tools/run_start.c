#include "run_start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

/* Descriptors of this program itself, generously. */
#define FILES_OWN 64

/* ---- In the rank ---------------------------------------------------------------------------------------------- */

static void fail(const struct run_start *start, uint32_t rank, bool executing)
{
    struct run_start_failure failure = {.rank = rank, .error = errno, .executing = executing};
    ssize_t written = write(start->failures[1], &failure, sizeof failure);
    _exit(written == (ssize_t)sizeof failure ? 127 : 1);
}

/* The number of a rank in its job; here ranks are numbered from this program's first one on. */
static uint32_t in_job(const struct run_start *start, uint32_t rank)
{
    return start->options->first_rank + rank;
}

static bool set_environment(const struct run_start *start, uint32_t rank)
{
    char text[16];
    bool done = start->job[0] == '\0' || setenv("EPX_JOB", start->job, 1) == 0;
    done = done && (start->options->root == NULL || setenv("EPX_ROOT", start->options->root, 1) == 0);
    for (size_t i = 0; i < start->options->variable_count; i++) {
        done = done && putenv(start->options->variables[i]) == 0;
    }
    (void)snprintf(text, sizeof text, "%u", in_job(start, rank));
    done = done && setenv("EPX_RANK", text, 1) == 0;
    (void)snprintf(text, sizeof text, "%u", start->options->world_size);
    return done && setenv("EPX_WORLD_SIZE", text, 1) == 0;
}

/* As if nobody had been between the caller and the program. A shell starts what it runs in the background with SIGINT
 * and SIGQUIT ignored; this program takes them nevertheless, and so does the rank. */
static void restore_signals(const struct run_start *start)
{
    static const int numbers[] = {SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGCHLD};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)signal(numbers[i], SIG_DFL);
    }
    (void)sigprocmask(SIG_SETMASK, start->signals, NULL);
}

static bool connect_streams(const int streams[3])
{
    for (int i = 0; i < 3; i++) {
        if (streams[i] >= 0 && dup2(streams[i], i) < 0) {
            return false;
        }
    }
    return true;
}

static bool bind_rank(const struct run_start *start, uint32_t rank)
{
    uint32_t index = rank;
    uint32_t count = start->options->rank_count;
    if (start->options->hosts.count > 0) {
        run_hosts_share(&start->options->hosts, rank, &index, &count);
    }
    return !start->options->bind || run_processors_bind(start->processors, index, count);
}

/* The parent may have died before the request is made. */
static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(1);
    }
}

static void become_rank(struct run_start *start, uint32_t rank, const int streams[3], pid_t parent)
{
    const struct run_options *options = start->options;
    (void)setpgid(0, 0);
    run_guard_enter(start->guard, rank, getpid());
    die_with(parent);
    if (!bind_rank(start, rank) || !connect_streams(streams) || !set_environment(start, rank) ||
        setrlimit(RLIMIT_NOFILE, &start->files) != 0) {
        fail(start, rank, false);
    }
    restore_signals(start);
    (void)execvp(options->program[0], options->program);
    fail(start, rank, true);
}

static void become_remote(struct run_start *start, const struct run_remote *remote, const struct run_remotes *remotes,
                          const int streams[3])
{
    uint32_t first = remote->host->first;
    if (!connect_streams(streams) || setrlimit(RLIMIT_NOFILE, &start->files) != 0) {
        fail(start, first, false);
    }
    restore_signals(start);
    run_remote_become(remote, remotes);
    fail(start, first, true);
}

/* ---- In this program ------------------------------------------------------------------------------------------ */

/* A caller that sets EPX_JOB names a job that it knows by that name. But one that is itself a rank has it from its own
 * launcher, and the two jobs must not meet. */
static bool name_job(char job[RUN_JOB_BYTES])
{
    const char *given = getenv("EPX_JOB");
    const char *rank = getenv("EPX_RANK");
    uint64_t number = 0;
    job[0] = '\0';
    if (given != NULL && given[0] != '\0' && (rank == NULL || rank[0] == '\0')) {
        return true;
    }
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
        return false;
    }
    (void)snprintf(job, RUN_JOB_BYTES, "run-%d-%016llx", (int)getpid(), (unsigned long long)number);
    return true;
}

/* Room for two pipes of each rank, and for three of each host; poll takes no more entries than that either. Ranks get
 * the caller's limit back. */
static bool raise_file_limit(const struct run_start *start)
{
    struct rlimit limit = start->files;
    const struct run_hosts *hosts = &start->options->hosts;
    rlim_t wanted = (rlim_t)start->options->rank_count * 2 + (rlim_t)hosts->count * 3 + FILES_OWN;
    if ((!start->options->tag && hosts->count == 0) || limit.rlim_cur >= wanted) {
        return true;
    }
    limit.rlim_cur = wanted;
    errno = EMFILE;
    return wanted <= limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

bool run_start_init(struct run_start *start)
{
    start->failures[0] = start->failures[1] = -1;
    start->no_input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (start->no_input < 0 || getrlimit(RLIMIT_NOFILE, &start->files) != 0 ||
        !(start->options->is_part || name_job(start->job)) || pipe2(start->failures, O_CLOEXEC | O_NONBLOCK) != 0) {
        return false;
    }
    return raise_file_limit(start);
}

void run_start_fini(struct run_start *start)
{
    int files[3] = {start->failures[0], start->failures[1], start->no_input};
    for (int i = 0; i < 3; i++) {
        if (files[i] >= 0) {
            (void)close(files[i]);
        }
    }
}

pid_t run_start_rank(struct run_start *start, uint32_t rank, const int streams[3])
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become_rank(start, rank, streams, parent);
    }
    if (pid > 0) {
        (void)setpgid(pid, pid); /* whoever comes first */
    }
    return pid;
}

pid_t run_start_remote(struct run_start *start, const struct run_remote *remote, const struct run_remotes *remotes,
                       const int streams[3])
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)setsid();
        run_guard_enter(start->guard, remote->host->first, getpid());
        die_with(parent);
        become_remote(start, remote, remotes, streams);
    }
    return pid;
}

bool run_start_failed(struct run_start *start, struct run_start_failure *failure)
{
    return read(start->failures[0], failure, sizeof *failure) == (ssize_t)sizeof *failure;
}
