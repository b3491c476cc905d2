#include "ranks/property_world.h"

#include "comm/meeting.h"
#include "ranks/property_run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FAILURES_SHOWN_MAX 5
#define WAIT_MS_MAX        30000
#define THREAD_MAX         16

static bool read_number(const char *name, const char *text, uint64_t *value)
{
    char *end;
    *value = strtoull(text, &end, 0);
    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "%s: \"%s\" is not a number\n", name, text);
        return false;
    }
    return true;
}

static bool read_environment(struct property_options *options)
{
    const char *seed = getenv("EPX_TEST_SEED");
    const char *cases = getenv("EPX_TEST_CASES");
    uint64_t number;
    if (seed != NULL && !read_number("EPX_TEST_SEED", seed, &options->seed)) {
        return false;
    }
    if (cases != NULL) {
        if (!read_number("EPX_TEST_CASES", cases, &number)) {
            return false;
        }
        options->case_count = (int64_t)number;
    }
    return true;
}

static bool read_argument(struct property_options *options, const char *name, const char *value)
{
    uint64_t number;
    if (value == NULL || !read_number(name, value, &number)) {
        return false;
    }
    if (strcmp(name, "--seed") == 0) {
        options->seed = number;
    } else if (strcmp(name, "--case") == 0) {
        options->only_case = (int64_t)number;
    } else if (strcmp(name, "--cases") == 0) {
        options->case_count = (int64_t)number;
    } else {
        return false;
    }
    return true;
}

bool property_options_read(struct property_options *options, int argc, char **argv)
{
    if (!read_environment(options)) {
        return false;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            options->verbose = true;
        } else if (read_argument(options, argv[i], argv[i + 1])) {
            i++;
        } else {
            fprintf(stderr, "usage: %s [--seed N] [--case M] [--cases C] [--verbose]\n", argv[0]);
            return false;
        }
    }
    if (options->seed == 0) {
        options->seed = (uint64_t)time(NULL);
    }
    return true;
}

void property_case_init(struct property_case *test, const struct property_options *options, int64_t number)
{
    struct random_source random;
    memset(test, 0, sizeof *test);
    test->seed = options->seed;
    test->number = number;
    random_seed(&random, random_mix(options->seed, (uint64_t)number));
    world_limits_draw(&test->limits, &random, options->rank_max);
    test->rank_count = test->limits.rank_count * test->limits.tp_count;
    test->world_count = random_between(&random, 1, PROPERTY_WORLD_MAX);
    /* Worlds as small as these reach the ways of large ones only so. */
    const bool as_large = number % 2 != 0;
    (void)setenv("EPX_THREADS", number % 3 == 0 ? "3" : number % 3 == 1 ? "2" : "1", 1);
    (void)(as_large ? setenv("EPX_THREAD_KIB", "1", 1) : unsetenv("EPX_THREAD_KIB"));
    (void)(as_large ? setenv("EPX_PART_KIB", "1", 1) : unsetenv("EPX_PART_KIB"));
    (void)(as_large ? setenv("EPX_STREAM_KIB", "1", 1) : unsetenv("EPX_STREAM_KIB"));
    for (int64_t i = 0; i < test->world_count; i++) {
        /* A failure ends the communicator: only the last world may be wrong. */
        test->limits.fault_percent = i == test->world_count - 1 ? 60 : 0;
        world_init(&test->worlds[i], &test->limits, random_bits(&random));
    }
}

void property_case_fini(struct property_case *test)
{
    for (int64_t i = 0; i < test->world_count; i++) {
        world_fini(&test->worlds[i]);
    }
}

/* Joins a group of the case: `group` tells the case's groups apart. */
static enum epx_status open_comm(const struct property_case *test, int64_t group, uint32_t rank, uint32_t rank_count,
                                 uint32_t server_rank_count, struct epx_comm **out)
{
    struct epx_comm_spec spec = {
        .rank = rank,
        .rank_count = rank_count,
        .server_rank_count = server_rank_count,
        .join_timeout_ms = WAIT_MS_MAX,
        .op_timeout_ms = WAIT_MS_MAX,
        .what = "property test",
    };
    /* The session separates this run from others at the same time. */
    const uint64_t words[4] = {test->seed, (uint64_t)test->number, (uint64_t)group, (uint64_t)getpgrp()};
    memcpy(spec.key, words, sizeof spec.key);
    (void)snprintf(spec.name, sizeof spec.name, "case %lld group %lld", (long long)test->number, (long long)group);
    struct epx_meeting meeting;
    if (test->hosts != NULL && test->hosts->root[0] != '\0' && group < 2) {
        char host[16];
        (void)snprintf(host, sizeof host, "host%u", test->hosts->host_of[rank]);
        (void)setenv("EPX_HOST_ID", host, 1);
        EPX_TRY(epx_meeting_parse(test->hosts->root, &meeting));
        (void)snprintf(meeting.own_ip, sizeof meeting.own_ip, "127.0.0.1");
        spec.meeting = &meeting;
    }
    return epx_comm_open(&spec, out);
}

static bool run_worlds(const struct property_case *test, struct property_rank *rank)
{
    bool failed = false;
    for (int64_t i = 0; i < test->world_count && !failed; i++) {
        rank->world = &test->worlds[i];
        if (!property_run_dispatch(rank, &failed)) {
            return false;
        }
        if (!failed && !property_run_combine(rank, &failed)) {
            return false;
        }
    }
    return true;
}

static uint32_t host_count(const struct property_case *test)
{
    uint64_t seen = 0;
    for (int64_t rank = 0; test->hosts != NULL && rank < test->limits.rank_count; rank++) {
        seen |= UINT64_C(1) << test->hosts->host_of[rank];
    }
    return test->hosts != NULL ? (uint32_t)__builtin_popcountll(seen) : 1;
}

static bool open_comms(const struct property_case *test, struct property_rank *rank)
{
    int64_t group_size = test->limits.rank_count;
    int64_t group = rank->index / group_size;
    int64_t group_rank = rank->index % group_size;
    if (open_comm(test, group, (uint32_t)group_rank, (uint32_t)group_size, (uint32_t)test->limits.server_rank_count,
                  &rank->comm) != EPX_OK) {
        return property_report_set(rank->report, "open: %s", epx_error_text());
    }
    if (epx_comm_host_count(rank->comm) != host_count(test)) {
        return property_report_set(rank->report, "%u hosts, must be %u", epx_comm_host_count(rank->comm),
                                   host_count(test));
    }
    if (test->limits.tp_count == 2 &&
        open_comm(test, 2 + group_rank, (uint32_t)group, 2, 2, &rank->tp_comm) != EPX_OK) {
        return property_report_set(rank->report, "open for TP: %s", epx_error_text());
    }
    return true;
}

void property_case_run_rank(const struct property_case *test, int64_t index, struct property_report *report)
{
    struct property_rank rank = {.index = index, .report = report};
    report->text[0] = '\0';
    if (open_comms(test, &rank)) {
        (void)run_worlds(test, &rank);
    }
    if (rank.tp_comm != NULL && epx_comm_close(rank.tp_comm) != EPX_OK) {
        (void)property_report_set(report, "close for TP: %s", epx_error_text());
    }
    if (rank.comm != NULL && epx_comm_close(rank.comm) != EPX_OK) {
        (void)property_report_set(report, "close: %s", epx_error_text());
    }
}

struct rank_thread {
    pthread_t thread;
    const struct property_case *test;
    int64_t index;
    struct property_report *report;
};

static void *run_thread(void *context)
{
    struct rank_thread *rank = context;
    property_case_run_rank(rank->test, rank->index, rank->report);
    return NULL;
}

void property_case_run_threads(const struct property_case *test, struct property_report *reports)
{
    struct rank_thread ranks[THREAD_MAX];
    for (int64_t i = 0; i < test->rank_count; i++) {
        ranks[i] = (struct rank_thread){.test = test, .index = i, .report = &reports[i]};
        if (i >= THREAD_MAX || pthread_create(&ranks[i].thread, NULL, run_thread, &ranks[i]) != 0) {
            perror("pthread_create");
            abort();
        }
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
}

static void print_failure(const struct property_case *test, const char *program, const struct property_report *reports)
{
    printf("FAILED case %lld: %s --seed %llu --case %lld\n", (long long)test->number, program,
           (unsigned long long)test->seed, (long long)test->number);
    for (int64_t i = 0; i < test->world_count; i++) {
        printf("  world %lld: ", (long long)i);
        world_print(&test->worlds[i], stdout);
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        if (reports[i].text[0] != '\0') {
            printf("  rank %lld: %s\n", (long long)i, reports[i].text);
        }
    }
}

static bool any_report(const struct property_case *test, const struct property_report *reports)
{
    for (int64_t i = 0; i < test->rank_count; i++) {
        if (reports[i].text[0] != '\0') {
            return true;
        }
    }
    return false;
}

static void print_case(const struct property_case *test)
{
    for (int64_t i = 0; i < test->world_count; i++) {
        printf("case %lld world %lld: ", (long long)test->number, (long long)i);
        world_print(&test->worlds[i], stdout);
    }
    fflush(stdout);
}

/* Worlds of all cases, by what was asked of them: a test that draws nothing of a kind shows it. */
struct tally {
    int64_t worlds;
    int64_t faults;
    int64_t two_level;
    int64_t tensor_parallel;
    int64_t shared;
    int64_t quantized;
};

static void tally_add(struct tally *tally, const struct property_case *test)
{
    for (int64_t i = 0; i < test->world_count; i++) {
        const struct world *world = &test->worlds[i];
        tally->worlds++;
        tally->faults += world->dispatch_error.status != REF_OK || world->combine_error.status != REF_OK;
        tally->two_level += world->shape.two_level;
        tally->tensor_parallel += world->shape.tp_count == 2;
        tally->shared += world->shape.shared_rank_count > 0;
        tally->quantized += world->shape.quantize;
    }
}

int property_main(int argc, char **argv, const struct property_program *program)
{
    struct property_options options = {
        .seed = 1, .case_count = program->case_count, .only_case = -1, .rank_max = program->rank_max};
    struct tally tally = {0};
    int64_t failures = 0;
    if (!property_options_read(&options, argc, argv)) {
        return 2;
    }
    size_t bytes = (size_t)program->rank_max * sizeof(struct property_report);
    struct property_report *reports = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reports == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    printf("%s: seed %llu\n", program->name, (unsigned long long)options.seed);
    fflush(stdout);
    int64_t first = options.only_case >= 0 ? options.only_case : 0;
    int64_t end = options.only_case >= 0 ? first + 1 : options.case_count;
    for (int64_t number = first; number < end && failures < FAILURES_SHOWN_MAX; number++) {
        struct property_case test;
        program->init(&test, &options, number);
        if (options.verbose) {
            print_case(&test);
        }
        memset(reports, 0, bytes);
        program->run(&test, reports);
        if (any_report(&test, reports)) {
            print_failure(&test, program->name, reports);
            fflush(stdout);
            failures++;
        }
        tally_add(&tally, &test);
        property_case_fini(&test);
    }
    printf("%s: %lld worlds (%lld wrong on purpose, %lld two-level, %lld tensor parallel, %lld shared expert, %lld "
           "quantised), %lld failed cases\n",
           program->name, (long long)tally.worlds, (long long)tally.faults, (long long)tally.two_level,
           (long long)tally.tensor_parallel, (long long)tally.shared, (long long)tally.quantized, (long long)failures);
    munmap(reports, bytes);
    return failures == 0 ? 0 : 1;
}
