/*
 * Random worlds on two to four hosts: processes with made-up host identities, which meet and exchange rows over
 * loopback. Hosts differ in size, and ranks lie on them in any order.
 */
#include "ranks/property_world.h"
#include "reference/random_source.h"
#include "transport/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_COUNT 40
#define HOST_MAX   4

static void draw_hosts(const struct property_case *test, struct property_hosts *hosts)
{
    struct random_source random;
    uint32_t ranks = (uint32_t)test->limits.rank_count;
    random_seed(&random, test->seed + (uint64_t)test->number * 7919u);
    int64_t host_count = ranks < 2 ? 1 : random_between(&random, 2, ranks < HOST_MAX ? ranks : HOST_MAX);
    for (uint32_t rank = 0; rank < ranks; rank++) {
        hosts->host_of[rank] = (uint32_t)random_between(&random, 0, host_count - 1);
    }
    /* Ports that other tests of this machine hardly use; a port that is taken is passed over. */
    unsigned first = 20000u + (unsigned)getpid() % 20000u;
    (void)snprintf(hosts->root, sizeof hosts->root, "127.0.0.1:%u-%u", first, first + 15u);
}

static void run_case(const struct property_case *given, struct property_report *reports)
{
    pid_t processes[PROPERTY_RANK_MAX];
    struct property_hosts hosts = {0};
    struct property_case test = *given;
    draw_hosts(given, &hosts);
    test.hosts = &hosts;
    fflush(stdout);
    for (int64_t i = 0; i < test.rank_count; i++) {
        processes[i] = fork();
        if (processes[i] < 0) {
            perror("fork");
            abort();
        }
        if (processes[i] == 0) {
            property_case_run_rank(&test, i, &reports[i]);
            _exit(0);
        }
    }
    for (int64_t i = 0; i < test.rank_count; i++) {
        int status;
        if (waitpid(processes[i], &status, 0) != processes[i] || status != 0) {
            snprintf(reports[i].text, sizeof reports[i].text, "process ended with wait status %#x", (unsigned)status);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_net",
        .case_count = CASE_COUNT,
        .rank_max = PROPERTY_RANK_MAX,
        .init = property_case_init,
        .run = run_case,
    };
    if (!epx_wire_available()) {
        printf("SKIPPED: no wire between hosts: %s\n", epx_wire_description());
        return 77;
    }
    return property_main(argc, argv, &program);
}
