/* Random worlds through the CANN door, with a process for each rank. */
#include "cann/property_cann_run.h"
#include "cann/property_cann_threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANK_MAX   8
#define CASE_COUNT 80

static struct property_cann_roots *roots; /* shared by the ranks */

static void run_rank(const struct property_cann_case *owner, int64_t index, struct property_report *report)
{
    struct property_cann_place place;
    property_cann_place_init(&place, owner, index, report);
    bool going = property_cann_place_start(&place) && property_cann_place_join(&place);
    for (int64_t i = 0; i < owner->test->world_count && going; i++) {
        property_cann_algorithm_set(&owner->test->worlds[i]);
        going = property_cann_run_alone(&place, &owner->test->worlds[i]);
    }
    property_cann_place_fini(&place);
}

static void run_case(const struct property_case *test, struct property_report *reports)
{
    pid_t processes[RANK_MAX];
    struct property_cann_case owner;
    property_cann_case_init(&owner, test, roots, EPX_PRODUCT_HOST, true);
    fflush(stdout);
    for (int64_t i = 0; i < test->rank_count; i++) {
        processes[i] = fork();
        if (processes[i] < 0) {
            perror("fork");
            abort();
        }
        if (processes[i] == 0) {
            run_rank(&owner, i, &reports[i]);
            _exit(0);
        }
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        int status;
        if (waitpid(processes[i], &status, 0) != processes[i] || status != 0) {
            snprintf(reports[i].text, sizeof reports[i].text, "process ended with wait status %#x", (unsigned)status);
        }
    }
    property_cann_case_fini(&owner);
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_cann_processes",
        .case_count = CASE_COUNT,
        .rank_max = RANK_MAX,
        .init = property_cann_case_draw,
        .run = run_case,
    };
    property_cann_environment_set();
    roots = mmap(NULL, sizeof *roots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (roots == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    return property_main(argc, argv, &program);
}
