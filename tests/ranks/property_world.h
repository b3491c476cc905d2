/*
 * Random worlds, run through the operators and compared bit for bit with the reference, untouched memory included.
 *
 * A case is the life of one communicator (two with tensor parallelism): a few worlds of the same number of ranks, one
 * after the other. It is a function of seed and number. Its ranks are run by whoever calls property_case_run_rank, one
 * thread or process each.
 */
#ifndef EPX_TESTS_PROPERTY_WORLD_H
#define EPX_TESTS_PROPERTY_WORLD_H

#include "reference/world_generator.h"

#include <stdbool.h>
#include <stdint.h>

#define PROPERTY_WORLD_MAX  4
#define PROPERTY_TEXT_BYTES 1024
#define PROPERTY_RANK_MAX   16

struct property_options {
    uint64_t seed;
    int64_t case_count;
    int64_t only_case; /* -1: all */
    int64_t rank_max;
    bool verbose;
};

/* Ranks that pretend to be on several hosts, each group of a case in the same way. */
struct property_hosts {
    uint32_t host_of[PROPERTY_RANK_MAX]; /* by rank of the group */
    char root[64];                       /* as EPX_ROOT has it, for ranks that are processes; "": they do not meet */
};

struct property_case {
    uint64_t seed;
    int64_t number;
    struct world_limits limits;
    int64_t rank_count; /* all groups together */
    int64_t world_count;
    struct world worlds[PROPERTY_WORLD_MAX];
    const struct property_hosts *hosts; /* null: one host */
};

/* What a rank has to say; text is "" when all was right. Shared between processes. */
struct property_report {
    char text[PROPERTY_TEXT_BYTES];
};

/*
 * --seed N --case M --cases C --verbose; EPX_TEST_SEED and EPX_TEST_CASES where they are not given. A seed of 0 stands
 * for the clock. False: bad arguments (said on stderr).
 */
bool property_options_read(struct property_options *options, int argc, char **argv);

void property_case_init(struct property_case *test, const struct property_options *options, int64_t number);
void property_case_fini(struct property_case *test);

/* Runs one rank to the end, or to the first thing that is wrong: then it leaves, which ends its peers. */
void property_case_run_rank(const struct property_case *test, int64_t index, struct property_report *report);

/* Runs all ranks, as threads of this process. */
void property_case_run_threads(const struct property_case *test, struct property_report *reports);

struct property_program {
    const char *name;
    int64_t case_count; /* where nothing else is asked for */
    int64_t rank_max;
    void (*init)(struct property_case *test, const struct property_options *options, int64_t number);
    void (*run)(const struct property_case *test, struct property_report *reports); /* all ranks of one case */
};

/* Runs all cases. Prints the first failures and how to replay them. The exit code. */
int property_main(int argc, char **argv, const struct property_program *program);

#endif
