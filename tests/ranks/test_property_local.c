/* Random worlds with ranks as threads of one process. */
#include "ranks/property_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RANK_MAX   16
#define CASE_COUNT 600 /* about 1500 worlds */

struct rank_thread {
    pthread_t thread;
    const struct property_case *test;
    int64_t index;
    struct property_report *report;
};

static void *run_rank(void *context)
{
    struct rank_thread *rank = context;
    property_case_run_rank(rank->test, rank->index, rank->report);
    return NULL;
}

static void run_case(const struct property_case *test, struct property_report *reports)
{
    struct rank_thread ranks[RANK_MAX];
    for (int64_t i = 0; i < test->rank_count; i++) {
        ranks[i] = (struct rank_thread){.test = test, .index = i, .report = &reports[i]};
        if (pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]) != 0) {
            perror("pthread_create");
            abort();
        }
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_local",
        .case_count = CASE_COUNT,
        .rank_max = RANK_MAX,
        .init = property_case_init,
        .run = run_case,
    };
    return property_main(argc, argv, &program);
}
