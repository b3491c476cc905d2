/* Where a world on several hosts meets: texts, and the rule for rank tables. Nothing is dialled. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "comm/meeting.h"

static void parse__right(void **state)
{
    struct epx_meeting meeting;
    (void)state;
    assert_int_equal(epx_meeting_parse("127.0.0.1:60000", &meeting), EPX_OK);
    assert_int_equal(meeting.root.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(meeting.root.v4.sin_port, htons(60000));
    assert_int_equal(meeting.port_count, 1);
    assert_int_equal(epx_meeting_parse("[::1]:1-3,65535", &meeting), EPX_OK);
    assert_int_equal(meeting.root.v6.sin6_family, AF_INET6);
    assert_int_equal(meeting.port_count, 4);
    assert_int_equal(meeting.ports[2], 3);
    assert_int_equal(meeting.ports[3], 65535);
    assert_int_equal(epx_meeting_parse("1.2.3.4:1-65535", &meeting), EPX_OK);
    assert_int_equal(meeting.port_count, EPX_CENSUS_PORT_MAX);
}

static void parse__wrong(void **state)
{
    static const char *const texts[] = {
        "",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:5-4",
        "1.2.3.4:5,",
        ":5",
        "host:5",
        "::1:5",
        "[1.2.3.4]:5",
        "[::1:5",
        "1.2.3.4:+5",
        "1.2.3.4: 5",
        "1.2.3:5",
        "1.2.3.4:5x",
        "1.2.3.4:5--6",
        "[]:5",
        "[::1]5",
        "1.2.3.4:5-6-7",
        "1.2.3.4:,5",
        "[::1]x:5",
        "1.2.3.4:99999999999999999999",
        "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111:5",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct epx_meeting meeting;
        if (epx_meeting_parse(texts[i], &meeting) != EPX_ERR_CONFIG) {
            fail_msg("\"%s\" was accepted", texts[i]);
        }
        assert_non_null(strstr(epx_error_text(), "EPX_ROOT is \""));
    }
}

static bool choose(const struct epx_rank_table *table, struct epx_meeting *meeting)
{
    bool meets = false;
    assert_int_equal(epx_meeting_choose(table, meeting, &meets), EPX_OK);
    return meets;
}

/* Addresses that are not this machine's, or only loopback: a world of this host. */
static void choose__tables_of_one_host(void **state)
{
    struct epx_server_entry servers[2] = {{.id = "240.0.0.1", .rank_count = 1}, {.id = "240.0.0.2", .first_rank = 1}};
    struct epx_rank_entry ranks[2] = {{.device_ip = "240.1.0.1"}, {.server = 1, .device_ip = "240.1.0.2"}};
    const struct epx_rank_table table = {.rank_count = 2, .server_count = 2, .ranks = ranks, .servers = servers};
    struct epx_meeting meeting;
    (void)state;
    assert_false(choose(NULL, &meeting));
    assert_false(choose(&table, &meeting));
    (void)strcpy(servers[0].host_ip, "127.0.0.1");
    (void)strcpy(servers[1].host_ip, "127.0.0.2");
    assert_false(choose(&table, &meeting));
}

static void choose__option(void **state)
{
    struct epx_meeting meeting;
    (void)state;
    (void)setenv("EPX_ROOT", "127.0.0.1:1234-1236", 1);
    assert_true(choose(NULL, &meeting));
    assert_int_equal(meeting.port_count, 3);
    assert_string_equal(meeting.own_ip, "127.0.0.1");
    (void)setenv("EPX_ROOT", "nowhere", 1);
    bool meets;
    assert_int_equal(epx_meeting_choose(NULL, &meeting, &meets), EPX_ERR_CONFIG);
    (void)unsetenv("EPX_ROOT");
}

/* Of what is chosen by address or name, only addresses count that others reach; those are in tests/net. */
static void choose_here__this_host_alone(void **state)
{
    static const struct {
        const char *name;
        const char *value;
    } cases[] = {
        {"HCCL_IF_IP", "240.0.0.1"},
        {"HCCL_IF_IP", "127.0.0.1"},
        {"HCCL_IF_IP", "::1"},
        {"HCCL_SOCKET_IFNAME", "=lo"},
        {"HCCL_SOCKET_IFNAME", "no-such-interface,,"},
        {"HCCL_IF_BASE_PORT", "50000"},
    };
    struct epx_meeting meeting;
    bool meets = true;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)setenv(cases[i].name, cases[i].value, 1);
        assert_int_equal(epx_meeting_choose_here(&meeting, &meets), EPX_OK);
        if (meets) {
            fail_msg("%s=%s chooses a place", cases[i].name, cases[i].value);
        }
        (void)unsetenv(cases[i].name);
    }
    (void)setenv("HCCL_IF_IP", "nowhere", 1);
    assert_int_equal(epx_meeting_choose_here(&meeting, &meets), EPX_ERR_CONFIG);
    (void)unsetenv("HCCL_IF_IP");
}

static void choose_here__option(void **state)
{
    struct epx_meeting meeting;
    bool meets = false;
    (void)state;
    (void)setenv("EPX_ROOT", "[::1]:1234-1236", 1);
    (void)setenv("HCCL_IF_IP", "240.0.0.1", 1);
    assert_int_equal(epx_meeting_choose_here(&meeting, &meets), EPX_OK);
    assert_true(meets);
    assert_int_equal(meeting.root.any.sa_family, AF_INET6);
    assert_int_equal(meeting.port_count, 3);
    (void)unsetenv("EPX_ROOT");
    (void)unsetenv("HCCL_IF_IP");
}

static void ports__lists(void **state)
{
    uint16_t ports[EPX_CENSUS_PORT_MAX];
    uint32_t count;
    (void)state;
    assert_int_equal(epx_ports_parse("X", "60000,60050-60052", ports, &count), EPX_OK);
    assert_int_equal(count, 4);
    assert_int_equal(ports[3], 60052);
    assert_int_equal(epx_ports_parse("X", "60000;60001", ports, &count), EPX_ERR_CONFIG);
    assert_non_null(strstr(epx_error_text(), "X is \"60000;60001\""));
}

static int clear_environment(void **state)
{
    (void)state;
    (void)unsetenv("EPX_ROOT");
    (void)unsetenv("HCCL_IF_IP");
    (void)unsetenv("HCCL_SOCKET_IFNAME");
    (void)unsetenv("HCCL_SOCKET_FAMILY");
    (void)unsetenv("HCCL_IF_BASE_PORT");
    (void)unsetenv("HCCL_HOST_SOCKET_PORT_RANGE");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__right),
        cmocka_unit_test(parse__wrong),
        cmocka_unit_test(choose__tables_of_one_host),
        cmocka_unit_test(choose__option),
        cmocka_unit_test(ports__lists),
        cmocka_unit_test(choose_here__this_host_alone),
        cmocka_unit_test(choose_here__option),
    };
    return cmocka_run_group_tests(tests, clear_environment, NULL);
}
