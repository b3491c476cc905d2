/*
 * Random worlds spread over hosts, as hosts_world.h makes them: each rank reads the ranks of other hosts through
 * mirrors. Only worlds that succeed: such hosts do not tell each other of failures.
 */
#include "ranks/hosts_world.h"
#include "ranks/property_world.h"
#include "reference/random_source.h"

#include <stdio.h>
#include <string.h>

#define CASE_COUNT 300
#define HOST_MAX   4u

enum epx_status __real_epx_comm_open(const struct epx_comm_spec *spec, struct epx_comm **out);
enum epx_status __wrap_epx_comm_open(const struct epx_comm_spec *spec, struct epx_comm **out);
enum epx_status __real_epx_comm_close(struct epx_comm *comm);
enum epx_status __wrap_epx_comm_close(struct epx_comm *comm);

static struct property_hosts hosts; /* of the case that runs */

/* Any split with at least two hosts, hosts numbered by their lowest ranks: of equal size or not, of neighbours or not.
 */
static void spread(const struct property_case *test)
{
    struct random_source random;
    uint32_t names[HOST_MAX];
    uint32_t named = 0;
    int64_t rank_count = test->limits.rank_count;
    random_seed(&random, test->seed + (uint64_t)test->number * 7919u);
    uint32_t host_count = (uint32_t)random_between(&random, 2, HOST_MAX);
    bool blocks = random_between(&random, 0, 1) == 0;
    for (int64_t rank = 0; rank < rank_count; rank++) {
        uint32_t name =
            blocks ? (uint32_t)(rank * host_count / rank_count) : (uint32_t)random_between(&random, 0, host_count - 1);
        name = rank == rank_count - 1 && named == 1 ? (names[0] + 1) % host_count : name;
        uint32_t host = 0;
        while (host < named && names[host] != name) {
            host++;
        }
        if (host == named) {
            names[named++] = name;
        }
        hosts.host_of[rank] = host;
    }
}

/* Pairs of tensor-parallel peers stay on one host: their groups count from 2. */
enum epx_status __wrap_epx_comm_open(const struct epx_comm_spec *spec, struct epx_comm **out)
{
    uint64_t words[4];
    memcpy(words, spec->key, sizeof words);
    if (spec->rank_count == 1 || words[2] >= 2) {
        return __real_epx_comm_open(spec, out);
    }
    struct hosts_spec rank = {
        .key = words[0] * 1000003u + words[1] * 4u + words[2],
        .rank = spec->rank,
        .rank_count = spec->rank_count,
        .server_rank_count = spec->server_rank_count,
        .op_timeout_ms = spec->op_timeout_ms,
    };
    memcpy(rank.host_of, hosts.host_of, sizeof rank.host_of);
    *out = hosts_open(&rank);
    return EPX_OK;
}

enum epx_status __wrap_epx_comm_close(struct epx_comm *comm)
{
    if (epx_comm_host_count(comm) == 1) {
        return __real_epx_comm_close(comm);
    }
    hosts_close(comm);
    return EPX_OK;
}

_Static_assert(HOSTS_RANK_MAX == PROPERTY_RANK_MAX, "every rank has a host");

static void init_case(struct property_case *test, const struct property_options *options, int64_t number)
{
    property_case_init(test, options, number);
    struct world *last = &test->worlds[test->world_count - 1];
    if (last->dispatch_error.status != REF_OK || last->combine_error.status != REF_OK) {
        world_fini(last);
        test->world_count--;
    }
}

static void run_case(const struct property_case *given, struct property_report *reports)
{
    struct property_case test = *given;
    spread(given);
    test.hosts = &hosts;
    property_case_run_threads(&test, reports);
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_mirrors",
        .case_count = CASE_COUNT,
        .rank_max = PROPERTY_RANK_MAX,
        .init = init_case,
        .run = run_case,
    };
    return property_main(argc, argv, &program);
}
