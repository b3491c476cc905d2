#include "ranks/skew_world.h"

#include "base/sanitizer.h"
#include "comm/comm_object.h"
#include "comm/step.h"
#include "ranks/pair_run.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RANK_MAX   6
#define HOST_MAX   3
#define HIDDEN_MAX 256
#define TOKEN_MAX  6
#define PAIRS      2 /* of a run: the second finds what the first left */
#define PORT_COUNT 4u
#define LIMIT_S    (120u * (EPX_ADDRESS_SANITIZER || EPX_THREAD_SANITIZER ? 4u : 1u))
#define SHOWN_MAX  5u

static const char *const form_names[] = {"threads", "processes", "hosts"};

struct report { /* of a rank */
    uint64_t hash;
    bool well;
    char text[PAIR_TEXT_BYTES + 64];
};

struct run { /* what a seed, a repeat and a form make; the ranks read it alone */
    uint64_t seed;
    uint32_t repeat;
    enum skew_form form;
    uint32_t rank_count;
    uint32_t server_rank_count;
    uint32_t host_of[RANK_MAX];
    uint64_t delay_us; /* longest; 0: nobody is late */
    struct epx_token token;
    char root[64];
    const struct pair_set *set;
};

static struct run run;
static struct report *reports;

/* ---- Delays ---------------------------------------------------------------------------------------------------- */

/* At each place one rank is not late, one is as late as can be, and the others are between; who is who goes round with
 * the place and the repeat. */
static void be_late(uint32_t rank, uint64_t place)
{
    if (run.delay_us == 0 || run.rank_count < 2) {
        return;
    }
    uint64_t level = (rank + random_mix(run.seed, place) % run.rank_count + run.repeat) % run.rank_count;
    uint64_t us = run.delay_us * level / (run.rank_count - 1);
    struct timespec span = {(time_t)(us / 1000000u), (long)(us % 1000000u) * 1000};
    while (nanosleep(&span, &span) != 0) {
    }
}

enum epx_status __real_epx_step_arrive(struct epx_comm *comm, bool is_last);
enum epx_status __wrap_epx_step_arrive(struct epx_comm *comm, bool is_last);
enum epx_status __real_epx_step_await(struct epx_comm *comm, uint64_t until_ns, uint64_t *waited_ns, bool *pending);
enum epx_status __wrap_epx_step_await(struct epx_comm *comm, uint64_t until_ns, uint64_t *waited_ns, bool *pending);

enum epx_status __wrap_epx_step_arrive(struct epx_comm *comm, bool is_last)
{
    be_late(comm->rank, 2 * comm->step);
    return __real_epx_step_arrive(comm, is_last);
}

enum epx_status __wrap_epx_step_await(struct epx_comm *comm, uint64_t until_ns, uint64_t *waited_ns, bool *pending)
{
    enum epx_status status = __real_epx_step_await(comm, until_ns, waited_ns, pending);
    if (status == EPX_OK && !*pending) {
        be_late(comm->rank, 2 * comm->step + 1);
    }
    return status;
}

#ifdef EPX_FAULTS
bool __real_epx_fault(const char *point, int rank);
bool __wrap_epx_fault(const char *point, int rank);

/* Inside the parts of a round, too; not where a rank comes by more than once in one wait. */
bool __wrap_epx_fault(const char *point, int rank)
{
    static const char *const places[] = {"round.begin",   "round.publish", "round.last", "dispatch.route",
                                         "dispatch.rows", "combine.rows",  "remote.send"};
    static _Atomic uint64_t passages[RANK_MAX];
    for (uint64_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (strcmp(point, places[i]) == 0 && rank >= 0 && rank < RANK_MAX) {
            be_late((uint32_t)rank, 1000000 * (i + 1) + atomic_fetch_add(&passages[rank], 1));
        }
    }
    return __real_epx_fault(point, rank);
}
#endif

/* ---- Ranks ----------------------------------------------------------------------------------------------------- */

static bool run_pairs(struct pair_run *pairs, uint32_t rank)
{
    struct random_source random;
    struct random_source own_random;
    random_seed(&random, random_mix(run.seed, 1));
    random_seed(&own_random, random_mix(random_mix(run.seed, run.repeat), 1000 + rank));
    for (uint32_t i = 0; i < PAIRS; i++) {
        struct pair_choice choice = pair_choice_draw(&random, &own_random, run.set);
        if (!pair_run_pair(pairs, &choice)) {
            return false;
        }
    }
    return true;
}

static void rank_main(uint32_t rank)
{
    struct report *report = &reports[rank];
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_communicator *comm = NULL;
    struct pair_run *pairs = calloc(1, sizeof *pairs);
    config.server_rank_count = run.server_rank_count;
    config.join_timeout_ms = config.op_timeout_ms = LIMIT_S * 1000 / 2;
    if (pairs == NULL || epx_comm_create_from_token(&run.token, run.rank_count, rank, &config, &comm) != EPX_OK) {
        (void)snprintf(report->text, sizeof report->text, "create: %s", epx_last_error());
        free(pairs);
        return;
    }
    bool good = pair_run_init(pairs, run.set, comm, rank, random_mix(run.seed, run.repeat)) && run_pairs(pairs, rank);
    report->hash = pairs->hash;
    (void)snprintf(report->text, sizeof report->text, "%s", pairs->text);
    pair_run_fini(pairs);
    free(pairs);
    if (epx_comm_destroy(comm) != EPX_OK && good) {
        (void)snprintf(report->text, sizeof report->text, "destroy: %s", epx_last_error());
        good = false;
    }
    report->well = good;
}

static void *thread_main(void *context)
{
    rank_main((uint32_t)((struct report *)context - reports));
    return NULL;
}

static void threads_main(void)
{
    pthread_t threads[RANK_MAX];
    for (uint32_t rank = 0; rank < run.rank_count; rank++) {
        if (pthread_create(&threads[rank], NULL, thread_main, &reports[rank]) != 0) {
            _exit(2);
        }
    }
    for (uint32_t rank = 0; rank < run.rank_count; rank++) {
        (void)pthread_join(threads[rank], NULL);
    }
}

static void process_main(uint32_t process)
{
    char host[16];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(LIMIT_S);
    if (run.form == SKEW_THREADS) {
        threads_main();
        exit(0);
    }
    if (run.form == SKEW_HOSTS) {
        (void)snprintf(host, sizeof host, "host%u", run.host_of[process]);
        (void)setenv("EPX_HOST_ID", host, 1);
        (void)setenv("EPX_ROOT", run.root, 1);
    }
    rank_main(process);
    exit(0);
}

/* ---- Runs ------------------------------------------------------------------------------------------------------ */

static void run_draw(uint64_t seed)
{
    struct random_source random;
    random_seed(&random, random_mix(seed, 7));
    run = (struct run){.seed = seed};
    run.rank_count = (uint32_t)random_between(&random, 2, RANK_MAX);
    do {
        run.server_rank_count = (uint32_t)random_between(&random, 1, run.rank_count);
    } while (run.rank_count % run.server_rank_count != 0);
    int64_t host_count = random_between(&random, 2, run.rank_count < HOST_MAX ? run.rank_count : HOST_MAX);
    for (uint32_t rank = 0; rank < run.rank_count; rank++) {
        run.host_of[rank] = (uint32_t)random_between(&random, 0, host_count - 1);
    }
    run.host_of[run.rank_count - 1] = run.host_of[0] == 0 ? 1 : 0; /* two at least */
}

static void run_prepare(enum skew_form form, uint32_t repeat, uint64_t delay_ms)
{
    static uint32_t turn;
    struct random_source random;
    uint32_t first = 20000u + ((uint32_t)getpid() * 37u + turn++ * PORT_COUNT) % 12000u;
    random_seed(&random, random_mix(run.seed, 100 + repeat));
    run.form = form;
    run.repeat = repeat;
    run.delay_us = repeat == 0 ? 0 : (uint64_t)random_between(&random, 1, (int64_t)delay_ms * 1000);
    (void)snprintf(run.root, sizeof run.root, "127.0.0.1:%u-%u", first, first + PORT_COUNT - 1);
    if (epx_token_create(&run.token) != EPX_OK) {
        (void)fprintf(stderr, "token: %s\n", epx_last_error());
        exit(2);
    }
    memset(reports, 0, RANK_MAX * sizeof *reports);
}

/* The hash of all ranks' outputs; false when something was wrong. */
static bool run_world(uint64_t *hash)
{
    pid_t processes[RANK_MAX];
    uint32_t count = run.form == SKEW_THREADS ? 1 : run.rank_count;
    bool good = true;
    (void)fflush(NULL);
    for (uint32_t i = 0; i < count; i++) {
        processes[i] = fork();
        if (processes[i] < 0) {
            perror("fork");
            exit(2);
        }
        if (processes[i] == 0) {
            process_main(i);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        int code = 0;
        if (waitpid(processes[i], &code, 0) != processes[i] || code != 0) {
            (void)printf("process %u ended with wait status %#x\n", i, (unsigned)code);
            good = false;
        }
    }
    *hash = 0;
    for (uint32_t rank = 0; rank < run.rank_count; rank++) {
        *hash = random_mix(*hash ^ reports[rank].hash, rank);
        if (!reports[rank].well) {
            (void)printf("rank %u: %s\n", rank, reports[rank].text);
            good = false;
        }
    }
    return good;
}

static void failure_print(const char *program)
{
    (void)printf("FAILED: EPX_TEST_SEED=%llu EPX_SKEW_SEEDS=1 %s: %s, repeat %u, delays to %llu us: ",
                 (unsigned long long)run.seed, program, form_names[run.form], run.repeat,
                 (unsigned long long)run.delay_us);
    world_print(&run.set->worlds[0], stdout);
}

/* All forms and repeats of a seed; the first run, in which nobody is late, is what the others are compared with. */
static bool seed_run(const char *program, const enum skew_form *forms, uint32_t form_count, uint64_t repeats,
                     uint64_t delay_ms)
{
    uint64_t first = 0;
    for (uint32_t repeat = 0; repeat < repeats; repeat++) {
        for (uint32_t i = 0; i < form_count; i++) {
            uint64_t hash = 0;
            run_prepare(forms[i], repeat, delay_ms);
            bool good = run_world(&hash);
            first = repeat == 0 && i == 0 ? hash : first;
            if (good && hash != first) {
                (void)printf("outputs %016llx, must be %016llx\n", (unsigned long long)hash, (unsigned long long)first);
            }
            if (!good || hash != first) {
                failure_print(program);
                return false;
            }
        }
    }
    return true;
}

static uint64_t read_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (text == NULL || *text == '\0') {
        return otherwise;
    }
    uint64_t value = strtoull(text, &end, 10);
    if (*end != '\0' || value == 0 || value > UINT32_MAX) {
        (void)fprintf(stderr, "%s is \"%s\", must be an integer in [1, %u]\n", name, text, UINT32_MAX);
        exit(2);
    }
    return value;
}

int skew_main(const char *program, const enum skew_form *forms, uint32_t form_count)
{
    static struct pair_set set;
    uint64_t first_seed = read_number("EPX_TEST_SEED", 1);
    uint64_t seeds = read_number("EPX_SKEW_SEEDS", 3);
    uint64_t repeats = read_number("EPX_SKEW_REPEATS", 3);
    uint64_t delay_ms = read_number("EPX_SKEW_DELAY_MS", 8);
    uint32_t failed = 0;
    reports = mmap(NULL, RANK_MAX * sizeof *reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reports == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    (void)printf("%s: seed %llu\n", program, (unsigned long long)first_seed);
    for (uint64_t seed = first_seed; seed < first_seed + seeds && failed < SHOWN_MAX; seed++) {
        run_draw(seed);
        const struct pair_limits limits = {run.rank_count, run.server_rank_count, HIDDEN_MAX, TOKEN_MAX, false};
        pair_set_init(&set, &limits, 2, seed);
        run.set = &set;
        failed += !seed_run(program, forms, form_count, repeats, delay_ms);
        pair_set_fini(&set);
    }
    (void)printf("%s: %llu seeds, %llu repeats in each of %u forms, delays to %llu ms: %u failed\n", program,
                 (unsigned long long)seeds, (unsigned long long)repeats, form_count, (unsigned long long)delay_ms,
                 failed);
    (void)munmap(reports, RANK_MAX * sizeof *reports);
    return failed == 0 ? 0 : 1;
}
