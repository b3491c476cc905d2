/*
 * The fault campaign. Each trial follows from the seed, its class and its number:
 *   epx_campaign [--trials N] [--seconds S] [--class NAME] [--seed N] [--trial N] [--output FILE.json|FILE.md]
 * --trials: of each class (default 3). --seconds: no trial begins later. --trial: that one alone, of --class. Exit 1 if
 * a trial was not perfect, 77 where no class can be run.
 */
#include "faults/campaign.h"

#include "base/sanitizer.h"
#include "transport/wire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

struct options {
    uint32_t trials;
    uint64_t seconds;
    uint64_t seed;
    int64_t trial; /* -1: all */
    int64_t class; /* -1: all */
    const char *output;
};

const char *campaign_class_lacks(enum campaign_class class)
{
    bool is_net = class == CAMPAIGN_NET_KILL || class == CAMPAIGN_NET_STOP || class == CAMPAIGN_NET_LINK ||
                  class == CAMPAIGN_NET_CALM;
#ifndef EPX_FAULTS
    if (class <= CAMPAIGN_NET_STOP) {
        return "built without fault points";
    }
#endif
    if (class == CAMPAIGN_LACK && (EPX_ADDRESS_SANITIZER || EPX_THREAD_SANITIZER)) {
        return "a sanitizer needs what would be taken away";
    }
    return is_net && !epx_wire_available() ? epx_wire_description() : NULL;
}

static int64_t find_class(const char *name)
{
    for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
        if (strcmp(campaign_class_name((enum campaign_class) class), name) == 0) {
            return class;
        }
    }
    (void)fprintf(stderr, "campaign: no class %s\n", name);
    exit(2);
}

static struct options read_options(int argc, char **argv)
{
    struct options options = {.trials = 3, .seconds = UINT64_MAX, .trial = -1, .class = -1};
    options.seed = campaign_now_ns() / 1000u % 1000000000u;
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(name, "--trials") == 0) {
            options.trials = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--seconds") == 0) {
            options.seconds = strtoull(value, NULL, 10);
        } else if (strcmp(name, "--seed") == 0) {
            options.seed = strtoull(value, NULL, 10);
        } else if (strcmp(name, "--trial") == 0) {
            options.trial = strtoll(value, NULL, 10);
        } else if (strcmp(name, "--class") == 0) {
            options.class = find_class(value);
        } else if (strcmp(name, "--output") == 0) {
            options.output = value;
        } else {
            (void)fprintf(stderr, "campaign: no option %s\n", name);
            exit(2);
        }
    }
    return options;
}

static void run_trial(const struct options *options, enum campaign_class class, uint32_t number,
                      struct campaign_figures *figures)
{
    struct campaign_outcome outcome;
    struct campaign_verdict verdict;
    char text[512];
    struct campaign_board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED || epx_token_create(&board->token) != EPX_OK) {
        perror("campaign");
        exit(2);
    }
    campaign_draw(class, number, options->seed, &board->trial);
    campaign_world_run(board, &outcome);
    campaign_judge(board, &outcome, &verdict);
    campaign_figures_add(&figures[class], &verdict);
    if (verdict.why[0] != '\0' || options->trial >= 0) {
        campaign_trial_print(&board->trial, text, sizeof text);
        (void)printf("%s (--seed %llu --class %s --trial %u)\n%s", text, (unsigned long long)options->seed,
                     campaign_class_name(class), number, verdict.why);
    }
    (void)fflush(stdout);
    (void)munmap(board, sizeof *board);
}

/* The classes in turn, so that each has had its share when time is up. */
static void run_all(const struct options *options, struct campaign_figures *figures)
{
    uint64_t start_ns = campaign_now_ns();
    uint32_t first = options->trial >= 0 ? (uint32_t)options->trial : 0;
    uint32_t end = options->trial >= 0 ? first + 1 : options->trials;
    for (uint32_t number = first; number < end; number++) {
        for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
            bool wanted = options->class < 0 || options->class == class;
            if (wanted && campaign_class_lacks((enum campaign_class) class) == NULL &&
                (campaign_now_ns() - start_ns) / 1000000000u < options->seconds) {
                run_trial(options, (enum campaign_class) class, number, figures);
            }
        }
    }
}

int main(int argc, char **argv)
{
    static struct campaign_figures figures[CAMPAIGN_CLASS_COUNT];
    const struct options options = read_options(argc, argv);
    uint32_t failed = 0;
    uint32_t run = 0;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)printf("seed %llu\n", (unsigned long long)options.seed);
    for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
        const char *lacks = campaign_class_lacks((enum campaign_class) class);
        if (lacks != NULL) {
            (void)printf("SKIPPED %s: %s\n", campaign_class_name((enum campaign_class) class), lacks);
        }
    }
    run_all(&options, figures);
    campaign_figures_print(figures, stdout);
    if (options.output != NULL && !campaign_figures_write(figures, options.seed, options.output)) {
        return 2;
    }
    for (uint32_t class = 0; class < CAMPAIGN_CLASS_COUNT; class ++) {
        failed += figures[class].failed;
        run += figures[class].trials;
    }
    (void)printf("%u of %u trials were not perfect\n", failed, run);
    return failed != 0 ? 1 : run == 0 ? 77 : 0;
}
