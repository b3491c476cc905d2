/* Random worlds with ranks as processes. */
#include "ranks/property_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANK_MAX   16
#define CASE_COUNT 150

static void run_case(const struct property_case *test, struct property_report *reports)
{
    pid_t processes[RANK_MAX];
    fflush(stdout);
    for (int64_t i = 0; i < test->rank_count; i++) {
        processes[i] = fork();
        if (processes[i] < 0) {
            perror("fork");
            abort();
        }
        if (processes[i] == 0) {
            property_case_run_rank(test, i, &reports[i]);
            _exit(0);
        }
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        int status;
        if (waitpid(processes[i], &status, 0) != processes[i] || status != 0) {
            snprintf(reports[i].text, sizeof reports[i].text, "process ended with wait status %#x", (unsigned)status);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_processes",
        .case_count = CASE_COUNT,
        .rank_max = RANK_MAX,
        .init = property_case_init,
        .run = run_case,
    };
    return property_main(argc, argv, &program);
}
