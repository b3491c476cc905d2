#include "bench_process.h"

#include "round.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 200

/* What a launcher may take to end its ranks when it is asked to. */
#define GRACE_MS 2000

static volatile sig_atomic_t interrupted;

struct engine_process {
    pid_t pid;
    int output;
    int errors; /* memory file */
};

static void on_signal(int number)
{
    interrupted = number;
}

void bench_process_prepare(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)signal(SIGCHLD, SIG_DFL); /* ignored by the caller, it would hide how engines end */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int bench_process_interrupted(void)
{
    return interrupted;
}

/* ---- Start --------------------------------------------------------------------------------------------------- */

static void become_engine(char *const argv[], int output, int errors, pid_t parent)
{
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    int input = open("/dev/null", O_RDONLY);
    if (getppid() == parent && input >= 0 && dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
        dup2(errors, STDERR_FILENO) >= 0) {
        (void)execvp(argv[0], argv);
        (void)dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
    }
    _exit(127);
}

static bool start(char *const argv[], struct engine_process *engine)
{
    int pipe_ends[2] = {-1, -1};
    pid_t parent = getpid();
    engine->errors = memfd_create("epx-bench-errors", MFD_CLOEXEC);
    if (engine->errors < 0 || pipe2(pipe_ends, O_CLOEXEC) != 0) {
        return false;
    }
    engine->output = pipe_ends[0];
    engine->pid = fork();
    if (engine->pid == 0) {
        become_engine(argv, pipe_ends[1], engine->errors, parent);
    }
    (void)close(pipe_ends[1]);
    if (engine->pid > 0) {
        (void)setpgid(engine->pid, engine->pid); /* whoever comes first */
    }
    return engine->pid > 0;
}

/* ---- End ----------------------------------------------------------------------------------------------------- */

/* Ends and collects every child that is left: what the engine's own processes left was given to this one. */
static void end_adopted(void)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int turn = 0; turn < 50; turn++) {
        FILE *children = fopen(path, "re");
        int pid = 0;
        while (children != NULL && fscanf(children, "%d", &pid) == 1) {
            (void)kill(pid, SIGKILL);
        }
        if (children != NULL) {
            (void)fclose(children);
        }
        pid_t collected = 0;
        while ((collected = waitpid(-1, NULL, WNOHANG)) > 0) {
        }
        if (collected < 0) {
            return;
        }
        (void)usleep(10000);
    }
}

static bool wait_ms(pid_t pid, int *status, int limit_ms)
{
    for (int waited = 0; waited <= limit_ms; waited += 10) {
        if (waitpid(pid, status, WNOHANG) == pid) {
            return true;
        }
        (void)usleep(10000);
    }
    return false;
}

/* `asked`: it is ending by itself, having closed its output. */
static int end_engine(const struct engine_process *engine, bool asked)
{
    int status = 0;
    if (!asked) {
        (void)kill(-engine->pid, SIGTERM);
    }
    if (!wait_ms(engine->pid, &status, GRACE_MS)) {
        (void)kill(-engine->pid, SIGKILL);
        (void)waitpid(engine->pid, &status, 0);
    }
    (void)kill(-engine->pid, SIGKILL);
    end_adopted();
    return status;
}

/* How it ended, and the last of what it said. */
static void explain(const struct engine_process *engine, int status, struct bench_output *out)
{
    int used = 0;
    if (WIFSIGNALED(status)) {
        used = snprintf(out->why, sizeof out->why, "ended by signal %d", WTERMSIG(status));
    } else {
        used = snprintf(out->why, sizeof out->why, "ended with status %d", WEXITSTATUS(status));
    }
    off_t bytes = lseek(engine->errors, 0, SEEK_END);
    off_t room = (off_t)sizeof out->why - used - 3;
    off_t first = bytes > room ? bytes - room : 0;
    if (bytes > 0) {
        (void)memcpy(out->why + used, ": ", 2);
        ssize_t got = pread(engine->errors, out->why + used + 2, (size_t)room, first);
        used += got > 0 ? 2 + (int)got : 0;
    }
    while (used > 0 && (out->why[used - 1] == '\n' || out->why[used - 1] == ' ')) {
        used--;
    }
    out->why[used] = '\0';
}

/* ---- Output -------------------------------------------------------------------------------------------------- */

/* True: there may be more. */
static bool read_output(int fd, struct bench_output *out)
{
    char *memory = realloc(out->text, out->bytes + 65536 + 1);
    if (memory == NULL) {
        return false;
    }
    out->text = memory;
    ssize_t got = read(fd, out->text + out->bytes, 65536);
    out->bytes += got > 0 ? (size_t)got : 0;
    out->text[out->bytes] = '\0';
    return got > 0 || (got < 0 && errno == EINTR);
}

static enum bench_end follow(const struct engine_process *engine, double limit_s, void (*tick)(void *), void *context,
                             struct bench_output *out)
{
    uint64_t deadline_ns = bench_now_ns() + (uint64_t)(limit_s * 1e9);
    struct pollfd watched = {.fd = engine->output, .events = POLLIN};
    while (interrupted == 0 && bench_now_ns() < deadline_ns) {
        int ready = poll(&watched, 1, TICK_MS);
        if (ready > 0 && !read_output(engine->output, out)) {
            return BENCH_ENDED;
        }
        if (tick != NULL) {
            tick(context);
        }
    }
    return interrupted != 0 ? BENCH_INTERRUPTED : BENCH_HUNG;
}

enum bench_end bench_process_run(char *const argv[], double limit_s, void (*tick)(void *), void *context,
                                 struct bench_output *out)
{
    struct engine_process engine = {.pid = -1, .output = -1, .errors = -1};
    enum bench_end end = BENCH_FAILED;
    *out = (struct bench_output){.text = NULL};
    if (start(argv, &engine)) {
        end = follow(&engine, limit_s, tick, context, out);
        int status = end_engine(&engine, end == BENCH_ENDED);
        if (end == BENCH_HUNG) {
            (void)snprintf(out->why, sizeof out->why, "killed: not done after %.0f s", limit_s);
        } else if (status != 0 && end == BENCH_ENDED) {
            explain(&engine, status, out);
            end = BENCH_FAILED;
        }
    } else {
        (void)snprintf(out->why, sizeof out->why, "cannot be started: %s", strerror(errno));
    }
    if (engine.output >= 0) {
        (void)close(engine.output);
    }
    if (engine.errors >= 0) {
        (void)close(engine.errors);
    }
    return end;
}
