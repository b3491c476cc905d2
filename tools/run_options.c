#include "run_options.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As many as a communicator may have. */
#define RANK_MAX 4096

#define SECONDS_MAX 1000000000

#define ROOT_BYTES 128

enum {
    KEY_RANKS = 'n',
    KEY_ENV = 256,
    KEY_BIND,
    KEY_TAG,
    KEY_TIMEOUT,
    KEY_LINGER,
    KEY_KILL_AFTER,
    KEY_HOSTS,
    KEY_ROOT,
    KEY_REMOTE_EPX,
    KEY_PART
};

/* What the command line says before all of it is read. */
struct reading {
    struct run_options *options;
    uint32_t processors;
    const char *hosts;
    const char *root;
    const char *remote_epx;
};

static const struct argp_option option_list[] = {
    {"ranks", KEY_RANKS, "N", 0, "ranks to start (default: the processors that this command may use)", 1},
    {"env", KEY_ENV, "NAME=VALUE", 0, "sets a variable for all ranks; may be given several times", 1},
    {"bind", KEY_BIND, "none|core", 0,
     "core: each rank gets an equal share of the processors that this command may use (default none)", 1},
    {"tag", KEY_TAG, "true|false", OPTION_ARG_OPTIONAL,
     "each line that a rank writes begins with [rank], and lines are never mixed; else ranks write to the outputs of "
     "this command themselves (default false)",
     1},
    {"part", KEY_PART, "FIRST:COUNT:OF", OPTION_HIDDEN, NULL, 1},
    {NULL, 0, NULL, 0, "Ranks on several hosts:", 2},
    {"hosts", KEY_HOSTS, "HOST:RANKS,...", 0,
     "the hosts in the order of their ranks, for example a:8,b:8; without :RANKS, --ranks are shared out evenly", 2},
    {"root", KEY_ROOT, "ADDRESS:PORTS", 0,
     "where the ranks meet, as EPX_ROOT (default: an address of rank 0's host, and ports at random)", 2},
    {"remote-epx", KEY_REMOTE_EPX, "PATH", 0, "this program's file on the other hosts (default: as on this one)", 2},
    {NULL, 0, NULL, 0, "How a job ends, in seconds, fractions allowed:", 3},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "how long the job may take; 0: for ever (default 0)", 3},
    {"linger", KEY_LINGER, "SECONDS", 0,
     "after the first failure: time in which the other ranks end by themselves, before SIGTERM (default 2)", 3},
    {"kill-after", KEY_KILL_AFTER, "SECONDS", 0, "time between SIGTERM and SIGKILL (default 5)", 3},
    {0}};

static uint32_t read_rank_count(struct argp_state *state, const char *text)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > RANK_MAX) {
        argp_error(state, "--ranks is '%s', must be in [1, %d]", text, RANK_MAX);
    }
    return (uint32_t)value;
}

static int64_t read_seconds(struct argp_state *state, const char *name, const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value <= SECONDS_MAX)) {
        argp_error(state, "--%s is '%s', must be in [0, %d]", name, text, SECONDS_MAX);
    }
    return (int64_t)(value * 1e9);
}

/* Which of two words. */
static bool read_choice(struct argp_state *state, const char *name, const char *text, const char *no, const char *yes)
{
    if (strcmp(text, no) != 0 && strcmp(text, yes) != 0) {
        argp_error(state, "--%s is '%s', must be %s or %s", name, text, no, yes);
    }
    return strcmp(text, yes) == 0;
}

static void read_variable(struct argp_state *state, struct run_options *options, char *text)
{
    size_t name_length = strcspn(text, "=");
    if (name_length == 0 || text[name_length] != '=') {
        argp_error(state, "--env is '%s', must be NAME=VALUE", text);
    }
    if (strncmp(text, "EPX_RANK=", 9) == 0 || strncmp(text, "EPX_WORLD_SIZE=", 15) == 0) {
        argp_error(state, "--env is '%s', must not be a variable that `epx run` sets for each rank", text);
    }
    options->variables[options->variable_count++] = text;
}

static void read_part(struct argp_state *state, struct run_options *options, const char *text)
{
    unsigned first = 0;
    unsigned count = 0;
    unsigned of = 0;
    int used = 0;
    if (sscanf(text, "%5u:%5u:%5u%n", &first, &count, &of, &used) != 3 || text[used] != '\0' || count < 1 ||
        of > RANK_MAX || first > of || count > of - first) {
        argp_error(state, "--part is '%s', must be FIRST:COUNT:OF, COUNT ranks from FIRST on of at most %d", text,
                   RANK_MAX);
    }
    options->is_part = true;
    options->first_rank = first;
    options->rank_count = count;
    options->world_size = of;
}

/* A caller that sets EPX_ROOT knows where its job meets; not so one that is a rank itself. */
static bool caller_has_root(void)
{
    const char *root = getenv("EPX_ROOT");
    const char *rank = getenv("EPX_RANK");
    return root != NULL && root[0] != '\0' && (rank == NULL || rank[0] == '\0');
}

static char *own_file(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    return length > 0 ? strndup(path, (size_t)length) : NULL;
}

static void read_hosts(struct argp_state *state, const struct reading *reading)
{
    struct run_options *options = reading->options;
    struct run_refusal refusal;
    char root[ROOT_BYTES];
    const char *place = reading->root;
    if (options->is_part) {
        argp_error(state, "--hosts and --part exclude each other");
    }
    if (place != NULL && strchr(place, ':') == NULL) {
        argp_error(state, "--root is '%s', must be ADDRESS:PORT or ADDRESS:FIRST-LAST", place);
    }
    if (!run_hosts_init(&options->hosts, reading->hosts, options->rank_count, &refusal)) {
        argp_error(state, "--hosts is '%s': %s", reading->hosts, refusal.text);
    }
    options->rank_count = options->hosts.rank_count;
    if (place == NULL && !caller_has_root()) {
        if (!run_hosts_root(&options->hosts, root, sizeof root, &refusal)) {
            argp_error(state, "--hosts is '%s': %s", reading->hosts, refusal.text);
        }
        place = root;
    }
    options->root = place != NULL ? strdup(place) : NULL;
    options->remote_epx = reading->remote_epx != NULL ? strdup(reading->remote_epx) : own_file();
    if (options->remote_epx == NULL || (place != NULL && options->root == NULL)) {
        argp_failure(state, 1, errno, "cannot read the hosts");
    }
}

static void read_rest(struct argp_state *state, const struct reading *reading)
{
    struct run_options *options = reading->options;
    if (reading->hosts != NULL) {
        read_hosts(state, reading);
    } else if (reading->root != NULL || reading->remote_epx != NULL) {
        argp_error(state, "%s needs --hosts", reading->root != NULL ? "--root" : "--remote-epx");
    }
    if (options->rank_count == 0) {
        options->rank_count = reading->processors < RANK_MAX ? reading->processors : RANK_MAX;
    }
    if (!options->is_part) {
        options->world_size = options->rank_count;
    }
}

static error_t read_option(int key, char *text, struct argp_state *state)
{
    struct reading *reading = state->input;
    struct run_options *options = reading->options;
    switch (key) {
    case KEY_RANKS: options->rank_count = read_rank_count(state, text); break;
    case KEY_ENV: read_variable(state, options, text); break;
    case KEY_BIND: options->bind = read_choice(state, "bind", text, "none", "core"); break;
    case KEY_TAG: options->tag = text == NULL || read_choice(state, "tag", text, "false", "true"); break;
    case KEY_TIMEOUT: options->timeout_ns = read_seconds(state, "timeout", text); break;
    case KEY_LINGER: options->linger_ns = read_seconds(state, "linger", text); break;
    case KEY_KILL_AFTER: options->kill_after_ns = read_seconds(state, "kill-after", text); break;
    case KEY_HOSTS: reading->hosts = text; break;
    case KEY_ROOT: reading->root = text; break;
    case KEY_REMOTE_EPX: reading->remote_epx = text; break;
    case KEY_PART: read_part(state, options, text); break;
    case ARGP_KEY_END: read_rest(state, reading); break;
    case ARGP_KEY_ARG:
        options->program = &state->argv[state->next - 1];
        state->next = state->argc; /* the rest is the program's */
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "PROGRAM is missing"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

bool run_options_init(struct run_options *options, uint32_t processors, int argc, char **argv)
{
    static const struct argp parser = {
        option_list,
        read_option,
        "[--] PROGRAM [ARG...]",
        "Starts the ranks of one job, on this host or on several, each as a process that runs PROGRAM, and ends them "
        "together."
        "\vEach rank finds in its environment EPX_RANK (0 to N-1), EPX_WORLD_SIZE (N) and EPX_JOB (where the ranks "
        "meet), which is all that epx_comm_create_from_env needs. EPX_JOB is new for each run, unless the caller, "
        "not being a rank itself, has set it. A program that asks for a rank table is given it with --env "
        "EPX_RANK_TABLE=FILE.\n\n"
        "Rank 0 reads this command's standard input, the others /dev/null.\n\n"
        "With --hosts, ranks of this machine (localhost, its host name, one of its addresses) are started as without "
        "it, those of another host by this same program there, through a remote shell: EPX_RSH, words split at spaces, "
        "`ssh' by default, which gets the host and a command for a POSIX shell, and must need no password and pass "
        "standard input, output and errors. Those ranks have the working directory and the variables EPX_*, HCCL_* and "
        "ASCEND_* of this command (EPX_HOST_ID apart), and what --env says. They end with this command, and when the "
        "connection breaks. A rank 0 of another host reads /dev/null. EPX_ROOT of the caller, not being a rank itself, "
        "is kept, if --root is not given.\n\n"
        "A rank fails when its exit status is not 0 or a signal ends it. The first that fails is named on standard "
        "error; the others have --linger seconds to say what they saw, then get SIGTERM, then SIGKILL. SIGINT, "
        "SIGTERM, SIGHUP and SIGQUIT to this command go to all ranks and their children, with SIGKILL after "
        "--kill-after seconds or at a second SIGINT; SIGUSR1, SIGUSR2, SIGTSTP and SIGCONT are passed on. Nothing that "
        "a rank started outlives this command; when this command is killed itself, the process groups of ranks are "
        "killed.\n\n"
        "Exit status: 0 if that of all ranks is 0, else that of the first rank that failed (128 + N for signal N); "
        "2 wrong command line; 124 timeout; 126 PROGRAM cannot be executed; 127 there is no PROGRAM; 1 this command "
        "itself failed. A remote shell that ends before its ranks is their failure, with its exit status.\n\n"
        "Examples: epx run -n 16 --bind core --tag ./layer --steps 100\n"
        "          epx run --hosts a:8,b:8 ./layer --steps 100",
        NULL,
        NULL,
        NULL};
    struct reading reading = {.options = options, .processors = processors};
    *options = (struct run_options){.linger_ns = 2000000000, .kill_after_ns = 5000000000};
    options->variables = calloc((size_t)argc, sizeof *options->variables); /* fewer than arguments */
    if (options->variables == NULL) {
        return false;
    }
    argp_err_exit_status = 2;
    (void)argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &reading);
    return true;
}

void run_options_fini(struct run_options *options)
{
    run_hosts_fini(&options->hosts);
    free(options->remote_epx);
    free(options->root);
    free(options->variables);
}
