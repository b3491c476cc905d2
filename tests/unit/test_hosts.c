/* Hosts of a world and stand-ins, on made-up censuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "comm/hosts.h"

#define RANKS 11u

static const uint32_t host_of[RANKS] = {0, 1, 0, 2, 1, 1, 0, 1, 2, 1, 0}; /* 4, 5 and 2 ranks */

static struct epx_hosts *make(uint32_t rank)
{
    static struct epx_census_member members[RANKS];
    static char names[3][EPX_CENSUS_NAME_BYTES] = {"a", "b", "c"};
    const struct epx_census census = {.rank_count = RANKS, .host_count = 3, .members = members, .host_names = names};
    for (uint32_t i = 0; i < RANKS; i++) {
        members[i] = (struct epx_census_member){.host = host_of[i], .pid = 1000 + i};
    }
    struct epx_hosts *hosts = NULL;
    assert_int_equal(epx_hosts_create(&census, rank, &hosts), EPX_OK);
    return hosts;
}

static void create__tables(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        struct epx_hosts *hosts = make(rank);
        assert_int_equal(hosts->own_host, host_of[rank]);
        assert_int_equal(hosts->here_count, host_of[rank] == 0 ? 4 : host_of[rank] == 1 ? 5 : 2);
        assert_int_equal(epx_hosts_leader(hosts, 0), 0);
        assert_int_equal(epx_hosts_leader(hosts, 1), 1);
        assert_int_equal(epx_hosts_leader(hosts, 2), 3);
        assert_string_equal(hosts->host_names[2], "c");
        for (uint32_t other = 0; other < RANKS; other++) {
            assert_int_equal(epx_hosts_rank_at(hosts, host_of[other], hosts->place_of[other]), other);
            assert_int_equal(hosts->pids[other], 1000 + other);
        }
        epx_hosts_destroy(hosts);
    }
    epx_hosts_destroy(NULL);
}

/* Whoever sends to a rank is one it stands for, and each remote rank has one stand-in a host, spread over its ranks. */
static void stand_in__every_pair(void **state)
{
    (void)state;
    struct epx_hosts *hosts = make(0);
    for (uint32_t host = 0; host < 3; host++) {
        uint32_t used[RANKS] = {0};
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            if (host_of[rank] != host) {
                uint32_t stand_in = epx_hosts_stand_in(hosts, rank, host);
                assert_int_equal(host_of[stand_in], host);
                used[stand_in]++;
            }
        }
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            assert_true(used[rank] == 0 || host_of[rank] == host);
            assert_true(used[rank] <= 5);
        }
    }
    assert_int_equal(epx_hosts_stand_in(hosts, 9, 0), 0); /* fifth of its host, on a host of four */
    assert_int_equal(epx_hosts_stand_in(hosts, 7, 2), 8);
    epx_hosts_destroy(hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(create__tables), cmocka_unit_test(stand_in__every_pair)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
