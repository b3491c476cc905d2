/*
 * The soak: very many pairs of dispatch and combine.
 *   epx_soak [--pairs N] [--seconds S] [--ranks W] [--period P] [--threads] [--seed N] [--output FILE.md]
 * --pairs: default 3000. --seconds: no period begins later. --period: pairs with one plan, about (default 150).
 * Exit 1 when an output was wrong, a rank hung, or what the ranks hold has grown.
 */
#include "soak/soak.h"

#include "base/sanitizer.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Without a pair in this time the ranks hang. */
#define HANG_MS (120000u * (EPX_ADDRESS_SANITIZER || EPX_THREAD_SANITIZER ? 4u : 1u))
#define LOOK_MS 20u

static void usage(const char *what)
{
    (void)fprintf(stderr,
                  "epx_soak: %s\nusage: epx_soak [--pairs N] [--seconds S] [--ranks W] [--period P] [--threads] "
                  "[--seed N] [--output FILE.md]\n",
                  what);
    exit(2);
}

static uint64_t read_number(const char *name, const char *text, uint64_t low, uint64_t high)
{
    char *end = NULL;
    uint64_t value = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != '\0' || value < low || value > high) {
        (void)fprintf(stderr, "%s is \"%s\", must be an integer in [%llu, %llu]\n", name, text != NULL ? text : "",
                      (unsigned long long)low, (unsigned long long)high);
        usage("bad number");
    }
    return value;
}

static void read_options(struct soak_options *options, int argc, char **argv)
{
    *options = (struct soak_options){.pairs = 3000, .seconds = UINT32_MAX, .rank_count = 8, .period = 150};
    options->seed = soak_now_ns() / 1000u % 1000000000u;
    options->judges_memory = !(EPX_ADDRESS_SANITIZER || EPX_THREAD_SANITIZER);
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *value = argv[i + 1];
        if (strcmp(name, "--threads") == 0) {
            options->threads = true;
            continue;
        }
        i++;
        if (strcmp(name, "--pairs") == 0) {
            options->pairs = read_number(name, value, 1, UINT64_C(1) << 40);
        } else if (strcmp(name, "--seconds") == 0) {
            options->seconds = read_number(name, value, 1, UINT32_MAX);
        } else if (strcmp(name, "--ranks") == 0) {
            options->rank_count = (uint32_t)read_number(name, value, 1, SOAK_RANK_MAX);
        } else if (strcmp(name, "--period") == 0) {
            options->period = (uint32_t)read_number(name, value, 1, 1000000);
        } else if (strcmp(name, "--seed") == 0) {
            options->seed = read_number(name, value, 0, UINT64_MAX - 1);
        } else if (strcmp(name, "--output") == 0 && value != NULL) {
            options->output = value;
        } else {
            usage(name);
        }
    }
}

/* Once more, without what the allocator has a thread: what lies in its caches counts as given, and they fill for long;
 * heaps of their own keep pages that differ from moment to moment. */
static void start_without_caches(char **argv)
{
    if (getenv("GLIBC_TUNABLES") == NULL) {
        (void)setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1", 1);
        (void)execv("/proc/self/exe", argv);
    }
}

static struct soak_board *board_create(const struct soak_options *options)
{
    struct soak_board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED || epx_token_create(&board->token) != EPX_OK) {
        perror("epx_soak");
        exit(2);
    }
    uint64_t periods = options->pairs / options->period + 1;
    board->options = *options;
    board->parent = getpid();
    board->start_ns = soak_now_ns();
    /* Periods are of random length: twice as many samples as wanted would still fit. */
    board->sample_interval = (uint32_t)(periods / (SOAK_SAMPLE_MAX / 2) + 1);
    return board;
}

/* ---- Ranks ----------------------------------------------------------------------------------------------------- */

struct rank_thread {
    pthread_t thread;
    struct soak_board *board;
    uint32_t rank;
};

static void *run_thread(void *context)
{
    struct rank_thread *rank = context;
    if (!soak_rank_main(rank->board, rank->rank)) {
        _exit(1); /* the others wait for this rank */
    }
    return NULL;
}

static bool run_threads(struct soak_board *board)
{
    struct rank_thread ranks[SOAK_RANK_MAX];
    for (uint32_t i = 0; i < board->options.rank_count; i++) {
        ranks[i] = (struct rank_thread){.board = board, .rank = i};
        if (pthread_create(&ranks[i].thread, NULL, run_thread, &ranks[i]) != 0) {
            _exit(2);
        }
    }
    for (uint32_t i = 0; i < board->options.rank_count; i++) {
        (void)pthread_join(ranks[i].thread, NULL);
    }
    return true;
}

static pid_t start_process(struct soak_board *board, uint32_t process)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("epx_soak: fork");
        exit(2);
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != board->parent) {
            _exit(2);
        }
        bool good = board->options.threads ? run_threads(board) : soak_rank_main(board, process);
        exit(good ? 0 : 1);
    }
    return pid;
}

static uint64_t pairs_done(const struct soak_board *board)
{
    uint64_t sum = 0;
    for (uint32_t rank = 0; rank < board->options.rank_count; rank++) {
        sum += atomic_load(&board->reports[rank].pairs);
    }
    return sum;
}

static void end_all(const pid_t *processes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (processes[i] > 0) {
            (void)kill(processes[i], SIGKILL);
            (void)waitpid(processes[i], NULL, 0);
        }
    }
}

static void say_where_ranks_are(const char *job)
{
    struct epx_jobs_config config = EPX_JOBS_CONFIG_INIT;
    enum epx_jobs_found found;
    config.job = job;
    (void)printf("the ranks hang\n");
    (void)epx_jobs_print(stdout, &config, &found);
}

/* Until all processes have ended well; false when one did not, or nothing moves any more. */
static bool await_all(const struct soak_board *board, pid_t *processes, uint32_t count, const char *job)
{
    uint64_t pairs = 0;
    uint64_t moved_ns = soak_now_ns();
    uint64_t look_ns = moved_ns;
    uint32_t open = count;
    bool good = true;
    while (open > 0 && good) {
        const struct timespec pause = {0, LOOK_MS * 1000000u};
        (void)nanosleep(&pause, NULL);
        for (uint32_t i = 0; i < count; i++) {
            int code = 0;
            if (processes[i] > 0 && waitpid(processes[i], &code, WNOHANG) == processes[i]) {
                processes[i] = 0;
                open--;
                good = good && code == 0;
            }
        }
        /* Time in which all of this was stopped is nobody's. */
        moved_ns += soak_now_ns() - look_ns > 100 * LOOK_MS * UINT64_C(1000000) ? soak_now_ns() - look_ns : 0;
        look_ns = soak_now_ns();
        if (pairs_done(board) != pairs) {
            pairs = pairs_done(board);
            moved_ns = look_ns;
        }
        if (look_ns > moved_ns && look_ns - moved_ns > HANG_MS * UINT64_C(1000000)) {
            say_where_ranks_are(job);
            good = false;
        }
    }
    end_all(processes, count);
    return good;
}

/* The first rank that was wrong; what the others say follows from that. */
static void print_failure(const struct soak_board *board)
{
    const struct soak_report *first = NULL;
    for (uint32_t rank = 0; rank < board->options.rank_count; rank++) {
        const struct soak_report *report = &board->reports[rank];
        uint64_t failed_ns = atomic_load(&report->failed_ns);
        if (failed_ns != 0 && (first == NULL || failed_ns < atomic_load(&first->failed_ns))) {
            first = report;
        }
    }
    if (first != NULL) {
        (void)printf("FAILED: rank %u: %s\n", (unsigned)(first - board->reports), first->text);
    }
}

int main(int argc, char **argv)
{
    struct soak_options options;
    pid_t processes[SOAK_RANK_MAX] = {0};
    static char grown[8192];
    char job[32];
    read_options(&options, argc, argv);
    start_without_caches(argv);
    FILE *output = options.output != NULL ? fopen(options.output, "we") : NULL;
    if (options.output != NULL && output == NULL) {
        perror(options.output);
        return 2;
    }
    (void)snprintf(job, sizeof job, "soak-%d", (int)getpid());
    (void)setenv("EPX_JOB", job, 1);
    if (options.threads) {
        (void)setenv("EPX_FAULT_FIRST_STEP", "4294966900", 0); /* 396 steps before 2^32 */
    }
    options.judges_entries = soak_folders_own();
    struct soak_board *board = board_create(&options);
    (void)printf("seed %llu\n", (unsigned long long)options.seed);
    uint32_t count = options.threads ? 1 : options.rank_count;
    for (uint32_t i = 0; i < count; i++) {
        processes[i] = start_process(board, i);
    }
    bool good = await_all(board, processes, count, job);
    double seconds = (double)(soak_now_ns() - board->start_ns) / 1e9;
    soak_table_print(board, count, seconds, stdout);
    if (output != NULL) {
        soak_table_print(board, count, seconds, output);
        good = fclose(output) == 0 && good;
    }
    if (!good) {
        print_failure(board);
    } else if (!soak_judge(board, count, grown, sizeof grown)) {
        (void)printf("NOT FLAT:\n%s", grown);
        good = false;
    }
    (void)munmap(board, sizeof *board);
    return good ? 0 : 1;
}
