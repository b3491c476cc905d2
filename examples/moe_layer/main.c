/*
 * epx-demo: the main job. Writes a rank table (or takes one, and runs the ranks of one server of it), starts a process
 * for each rank, lets them run the layer, checks every element of every rank here against the single-process reference.
 * Exit status 0: all right; 1: an error or a wrong element; 2: wrong command line.
 */
#include "board.h"
#include "options.h"
#include "rank.h"
#include "report.h"
#include "verify.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char table_path[] = "/tmp/epx-demo-XXXXXX.json"; /* of the table that is written here; "" without */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void write_server(FILE *out, const struct demo_options *options, int64_t server)
{
    (void)fprintf(out, "  {\"server_id\": \"server%lld\", \"device\": [\n", (long long)server);
    for (int64_t device = 0; device < options->ranks_per_server; device++) {
        int64_t rank = server * options->ranks_per_server + device;
        /* Addresses of a block that no machine has (RFC 1112, class E), so that all ranks are expected here. */
        (void)fprintf(out,
                      "   {\"device_id\": \"%lld\", \"device_ip\": \"240.0.%lld.%lld\", \"rank_id\": \"%lld\"}%s\n",
                      (long long)device, (long long)(rank / 250), (long long)(rank % 250 + 1), (long long)rank,
                      device + 1 < options->ranks_per_server ? "," : "");
    }
    (void)fprintf(out, "  ]}%s\n", server + 1 < options->servers ? "," : "");
}

static int table_failed(bool created)
{
    (void)fprintf(stderr, "epx-demo: cannot write a rank table %s: %s\n", table_path, strerror(errno));
    if (created) {
        (void)unlink(table_path);
    }
    return -1;
}

static int write_table(const struct demo_options *options)
{
    if (options->rank_table != NULL) {
        table_path[0] = '\0';
        return 0;
    }
    int fd = mkstemps(table_path, 5);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (out == NULL) {
        return table_failed(fd >= 0);
    }
    (void)fprintf(out,
                  "{\"version\": \"1.0\", \"status\": \"completed\", \"server_count\": \"%lld\", \"server_list\": [\n",
                  (long long)options->servers);
    for (int64_t server = 0; server < options->servers; server++) {
        write_server(out, options, server);
    }
    bool written = fprintf(out, "]}\n") > 0 && ferror(out) == 0;
    return fclose(out) == 0 && written ? 0 : table_failed(true);
}

static void print_progress(const char *what, int64_t done, int64_t all)
{
    static const char *finished; /* said once where there is no line to overwrite */
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r\033[K%s %lld/%lld", what, (long long)done, (long long)all);
    } else if (done == all && finished != what) {
        (void)fprintf(stderr, "%s %lld/%lld\n", what, (long long)done, (long long)all);
        finished = what;
    }
}

static void check_progress(double part)
{
    print_progress("checking, percent", (int64_t)(part * 100.0), 100);
}

static int64_t ranks_here(const struct demo_options *options)
{
    return options->rank_end - options->rank_first;
}

static int64_t joined_count(const struct demo_options *options, const struct board *board)
{
    int64_t joined = 0;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        joined += atomic_load(&board->ranks[rank].joined);
    }
    return joined;
}

static void remove_table(void)
{
    if (table_path[0] != '\0') {
        (void)unlink(table_path);
        table_path[0] = '\0';
    }
}

static void show_progress(const struct demo_options *options, const struct board *board)
{
    int64_t joined = joined_count(options, board);
    int64_t slowest = options->rounds;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        int64_t done = atomic_load(&board->ranks[rank].rounds_done);
        slowest = done < slowest ? done : slowest;
    }
    if (joined < ranks_here(options)) {
        print_progress("ranks joined", joined, ranks_here(options));
    } else {
        print_progress("round", slowest, options->rounds);
    }
}

static int start_ranks(const struct demo_options *options, struct board *board, pid_t *pids)
{
    pid_t parent = getpid();
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        pids[rank] = fork();
        if (pids[rank] < 0) {
            (void)fprintf(stderr, "epx-demo: cannot start rank %lld: %s\n", (long long)rank, strerror(errno));
            return -1;
        }
        if (pids[rank] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) {
                _exit(1);
            }
            (void)signal(SIGINT, SIG_DFL);
            (void)signal(SIGTERM, SIG_DFL);
            exit(rank_run(options, options->rank_table != NULL ? options->rank_table : table_path, rank, board));
        }
    }
    return 0;
}

static void end_ranks(const struct demo_options *options, const pid_t *pids)
{
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        if (pids[rank] > 0) {
            (void)kill(pids[rank], SIGKILL);
        }
    }
}

/* Collects the ranks that have ended; says why one failed. Number of ranks collected. */
static int64_t collect_ranks(const struct demo_options *options, struct board *board, pid_t *pids, int64_t *failed)
{
    int64_t collected = 0;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        int status = 0;
        if (pids[rank] <= 0 || waitpid(pids[rank], &status, WNOHANG) != pids[rank]) {
            continue;
        }
        pids[rank] = 0;
        collected++;
        if (status != 0) {
            const char *text = board->ranks[rank].error;
            (*failed)++;
            (void)fprintf(stderr, "\nepx-demo: rank %lld failed: %s\n", (long long)rank,
                          text[0] != '\0' ? text : "its process was ended by a signal");
        }
    }
    return collected;
}

/* Waits for all ranks; a signal ends them. Number of ranks that failed. */
static int64_t wait_ranks(const struct demo_options *options, struct board *board, pid_t *pids)
{
    int64_t failed = 0;
    int64_t left = 0;
    for (int64_t rank = options->rank_first; rank < options->rank_end; rank++) {
        left += pids[rank] > 0;
    }
    while (left > 0) {
        if (interrupted != 0) {
            end_ranks(options, pids);
        }
        int64_t collected = collect_ranks(options, board, pids, &failed);
        left -= collected;
        if (joined_count(options, board) == ranks_here(options)) {
            remove_table(); /* so that it does not stay behind when this process is killed */
        }
        if (!options->quiet) {
            show_progress(options, board);
        }
        if (collected == 0) {
            (void)usleep(20000);
        }
    }
    return failed;
}

static int judge(const struct demo_options *options, const struct board *board)
{
    struct verdict verdict;
    if (verify_world(options, board, options->quiet ? NULL : check_progress, &verdict) != 0) {
        return 1;
    }
    if (!options->quiet) {
        if (isatty(STDERR_FILENO)) {
            (void)fprintf(stderr, "\r\033[K");
        }
        report_print(options, board);
    }
    bool right = verdict.ranks_right == ranks_here(options);
    (void)printf("verified: %lld/%lld ranks, %lld wrong elements (of %lld)\n", (long long)verdict.ranks_right,
                 (long long)ranks_here(options), (long long)verdict.wrong_elements,
                 (long long)verdict.checked_elements);
    if (verdict.wrong_dispatches != 0) {
        (void)printf("wrong dispatch on %lld ranks\n", (long long)verdict.wrong_dispatches);
    }
    if (verdict.rounds_that_differ != 0) {
        (void)printf("%lld results differ from the first\n", (long long)verdict.rounds_that_differ);
    }
    return right ? 0 : 1;
}

static void print_title(const struct demo_options *options)
{
    (void)printf("epx demo: %lld servers x %lld ranks, %lld tokens of %lld %s a rank, %lld of %lld experts a token\n"
                 "rows %s%s, return %s, %s exchange, %lld shared ranks, feed-forward %lld wide, seed %llu\n",
                 (long long)options->servers, (long long)options->ranks_per_server, (long long)options->tokens,
                 (long long)options->hidden, options->fp16 ? "fp16" : "bf16", (long long)options->topk,
                 (long long)options->experts, options->int8_rows ? "int8" : "plain",
                 options->smooth ? " with smooth scales" : "", options->int8_return ? "int8" : "plain",
                 options->two_level ? "two-level" : "full-mesh", (long long)options->shared_ranks,
                 (long long)options->ffn, (unsigned long long)options->seed);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct demo_options options;
    struct board board;
    demo_options_read(&options, argc, argv);
    if (board_create(&options, &board) != 0) {
        (void)fprintf(stderr, "epx-demo: cannot map the shared board: %s\n", strerror(errno));
        return 1;
    }
    pid_t *pids = calloc((size_t)options.rank_count, sizeof *pids);
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (pids == NULL || write_table(&options) != 0) {
        free(pids);
        board_destroy(&board);
        return 1;
    }
    if (!options.quiet) {
        print_title(&options);
    }
    if (start_ranks(&options, &board, pids) != 0) {
        interrupted = SIGTERM;
    }
    int64_t failed = wait_ranks(&options, &board, pids);
    remove_table();
    /* Nothing is left that would have to be cleaned up. */
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    int result = failed == 0 && interrupted == 0 ? judge(&options, &board) : 1;
    if (failed != 0) {
        (void)fprintf(stderr, "epx-demo: %lld of %lld ranks failed\n", (long long)failed,
                      (long long)ranks_here(&options));
    }
    free(pids);
    board_destroy(&board);
    return fflush(stdout) == 0 ? result : 1;
}
