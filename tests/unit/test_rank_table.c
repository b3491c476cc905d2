#include "comm/rank_table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char plain[] =
    "{\"status\":\"completed\",\"version\":\"1.0\",\"server_count\":\"2\",\"server_list\":["
    "{\"server_id\":\"node-a\",\"device\":["
    "{\"device_id\":\"0\",\"device_ip\":\"192.0.2.1\",\"rank_id\":\"0\",\"device_port\":\"16666\",\"host_port\":"
    "\"100\"},"
    "{\"device_id\":\"1\",\"device_ip\":\"192.0.2.2\",\"rank_id\":\"1\",\"backup_device_ip\":\"192.0.2.9\"}]},"
    "{\"server_id\":\"node-b\",\"device\":["
    "{\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",\"rank_id\":\"2\"},"
    "{\"device_id\":\"1\",\"device_ip\":\"192.0.2.4,192.0.2.5\",\"rank_id\":\"3\"}]}]}";

static const char pods[] =
    "{\"status\":\"completed\",\"version\":\"1.2\",\"server_list\":["
    "{\"server_id\":\"a\",\"device\":["
    "{\"device_id\":\"0\",\"device_ip\":\"192.0.2.1\",\"rank_id\":\"0\",\"super_device_id\":\"0\"},"
    "{\"device_id\":\"1\",\"device_ip\":\"192.0.2.2\",\"rank_id\":\"1\",\"super_device_id\":\"1\"}]},"
    "{\"server_id\":\"b\",\"device\":[{\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",\"rank_id\":\"2\","
    "\"super_device_id\":\"7\"}]},"
    "{\"server_id\":\"c\",\"device\":[{\"device_id\":\"0\",\"device_ip\":\"192.0.2.4\",\"rank_id\":\"3\","
    "\"super_device_id\":\"0\"}]}],"
    "\"super_pod_list\":["
    "{\"super_pod_id\":\"p0\",\"server_list\":[{\"server_id\":\"a\"},{\"server_id\":\"b\"}]},"
    "{\"super_pod_id\":\"p1\",\"server_list\":[{\"server_id\":\"c\"}]}]}";

struct rule {
    const char *base;
    const char *find; /* its first occurrence is replaced */
    const char *replacement;
    enum epx_status status;
    const char *fragment; /* of the message */
};

#define SIXTY_FIVE "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct rule rules[] = {
    /* JSON */
    {plain, "{", "", EPX_ERR_SYNTAX, "line 1, column"},
    {plain, "{\"status\"", "[{\"status\"", EPX_ERR_SYNTAX, "line 1, column"},
    {plain, "\"server_count\":\"2\"", "\"status\":\"completed\"", EPX_ERR_SYNTAX, "duplicate"},
    {plain, "\"node-a\"", "\"node-a\" /* note */", EPX_ERR_SYNTAX, "line 1"},
    {plain, "\"rank_id\":\"3\"}]}]}", "\"rank_id\":\"3\"}]}]} x", EPX_ERR_SYNTAX, "end of file expected"},
    /* version */
    {plain, "\"1.0\"", "\"1.1\"", EPX_ERR_UNSUPPORTED, "version is \"1.1\", only \"1.0\" and \"1.2\""},
    {plain, "\"1.0\"", "\"2.0\"", EPX_ERR_UNSUPPORTED, "version is \"2.0\""},
    {plain, "\"1.0\"", "\"\"", EPX_ERR_UNSUPPORTED, "version is \"\""},
    {plain, "\"1.0\"", "1.0", EPX_ERR_SYNTAX, "version is a number, must be a string"},
    {plain, "\"version\"", "\"versio\"", EPX_ERR_SYNTAX, "required key missing: version"},
    {plain, "\"version\":\"1.0\"", "\"group_list\":[]", EPX_ERR_UNSUPPORTED, "legacy template"},
    /* status */
    {plain, "\"status\"", "\"state\"", EPX_ERR_SYNTAX, "required key missing: status"},
    {plain, "\"completed\"", "\"done\"", EPX_ERR_RANK_TABLE, "status is \"done\", must be \"completed\""},
    {plain, "\"completed\"", "true", EPX_ERR_SYNTAX, "status is a boolean, must be a string"},
    {plain, "\"completed\"", "\"initializing\"", EPX_ERR_JOIN_TIMEOUT, "initializing"},
    /* servers */
    {plain, "\"server_count\":\"2\"", "\"server_count\":\"3\"", EPX_ERR_RANK_TABLE,
     "server_count is \"3\", must be \"2\", the length of server_list"},
    {plain, "\"server_count\":\"2\"", "\"server_count\":\"two\"", EPX_ERR_RANK_TABLE, "server_count is \"two\""},
    {plain, "\"server_count\":\"2\"", "\"server_count\":2", EPX_ERR_SYNTAX, "server_count is a number"},
    {plain, "\"server_list\"", "\"servers\"", EPX_ERR_SYNTAX, "required key missing: server_list"},
    {plain, "\"server_list\":[", "\"server_list\":{}, \"x\":[", EPX_ERR_SYNTAX,
     "server_list is an object, must be a list"},
    {plain, "\"server_list\":[", "\"server_list\":[], \"x\":[", EPX_ERR_RANK_TABLE, "server_list is empty"},
    {plain, "\"server_list\":[", "\"server_list\":[null,", EPX_ERR_SYNTAX, "server_list[0] is null, must be an object"},
    {plain, "\"server_id\":\"node-b\"", "\"id\":\"node-b\"", EPX_ERR_SYNTAX,
     "required key missing: server_list[1].server_id"},
    {plain, "\"node-b\"", "7", EPX_ERR_SYNTAX, "server_list[1].server_id is a number, must be a string"},
    {plain, "\"node-b\"", "\"\"", EPX_ERR_RANK_TABLE, "server_list[1].server_id is \"\" with 0 characters"},
    {plain, "\"node-b\"", "\"" SIXTY_FIVE "\"", EPX_ERR_RANK_TABLE, "with 65 characters, must have 1 to 64"},
    {plain, "\"node-b\"", "\"node-a\"", EPX_ERR_RANK_TABLE,
     "server_list[1].server_id is \"node-a\", which server_list[0] has"},
    {plain, "\"node-b\"", "\"node-b\",\"host_ip\":\"300.0.0.1\"", EPX_ERR_RANK_TABLE,
     "server_list[1].host_ip is \"300.0.0.1\", must be an IPv4 address"},
    {plain, "\"node-b\"", "\"node-b\",\"host_ip\":\"::1\"", EPX_ERR_RANK_TABLE, "must be an IPv4 address"},
    {plain, "\"node-b\"", "\"node-b\",\"host_ip\":\"\"", EPX_ERR_RANK_TABLE, "server_list[1].host_ip is \"\""},
    /* devices */
    {plain, "\"device\":", "\"devices\":", EPX_ERR_SYNTAX, "required key missing: server_list[0].device"},
    {plain, "\"device\":[", "\"device\":[],\"x\":[", EPX_ERR_RANK_TABLE, "server_list[0].device is empty"},
    {plain, "\"device\":[", "\"device\":\"0\",\"x\":[", EPX_ERR_SYNTAX, "server_list[0].device is a string"},
    {plain, "\"device\":[", "\"device\":[\"0\",", EPX_ERR_SYNTAX,
     "server_list[0].device[0] is a string, must be an obj"},
    {plain, "\"device_id\":\"1\"", "\"dev\":\"1\"", EPX_ERR_SYNTAX,
     "required key missing: server_list[0].device[1].device_id"},
    {plain, "\"device_id\":\"1\"", "\"device_id\":1", EPX_ERR_SYNTAX, "server_list[0].device[1].device_id is a number"},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"1024\"", EPX_ERR_RANK_TABLE,
     "server_list[0].device[1].device_id is \"1024\", must be a decimal number in [0, 1023]"},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"-1\"", EPX_ERR_RANK_TABLE, "device_id is \"-1\""},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"0x1\"", EPX_ERR_RANK_TABLE, "device_id is \"0x1\""},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"\"", EPX_ERR_RANK_TABLE, "device_id is \"\""},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"99999999999999999999999\"", EPX_ERR_RANK_TABLE, "device_id is"},
    {plain, "\"device_id\":\"1\"", "\"device_id\":\"0\"", EPX_ERR_RANK_TABLE,
     "server_list[0].device[1].device_id is 0, which device[0] of this server has"},
    /* ranks */
    {plain, "\"rank_id\":\"3\"", "\"r\":\"3\"", EPX_ERR_SYNTAX,
     "required key missing: server_list[1].device[1].rank_id"},
    {plain, "\"rank_id\":\"3\"", "\"rank_id\":3", EPX_ERR_SYNTAX, "server_list[1].device[1].rank_id is a number"},
    {plain, "\"rank_id\":\"3\"", "\"rank_id\":\"4\"", EPX_ERR_RANK_TABLE,
     "server_list[1].device[1].rank_id is \"4\", must be a decimal number in [0, 3]"},
    {plain, "\"rank_id\":\"3\"", "\"rank_id\":\"three\"", EPX_ERR_RANK_TABLE, "rank_id is \"three\""},
    {plain, "\"rank_id\":\"3\"", "\"rank_id\":\"2\"", EPX_ERR_RANK_TABLE,
     "server_list[1].device[1].rank_id is 2, which server_list[1].device[0] has; the ranks must be 0 to 3"},
    {plain,
     "\"rank_id\":\"1\",\"backup_device_ip\":\"192.0.2.9\"}]},{\"server_id\":\"node-b\",\"device\":["
     "{\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",\"rank_id\":\"2\"",
     "\"rank_id\":\"2\"}]},{\"server_id\":\"node-b\",\"device\":["
     "{\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",\"rank_id\":\"1\"",
     EPX_ERR_RANK_TABLE, "server_list[0].device has 2 devices with rank_id from 0 to 2, the ranks of a server must be"},
    /* addresses and ports */
    {plain, "192.0.2.3", "192.0.2", EPX_ERR_RANK_TABLE,
     "server_list[1].device[0].device_ip is \"192.0.2\", must be IPv4"},
    {plain, "192.0.2.4,192.0.2.5", "192.0.2.4,", EPX_ERR_RANK_TABLE, "device_ip is \"192.0.2.4,\""},
    {plain, "192.0.2.4,192.0.2.5", "192.0.2.4, 192.0.2.5", EPX_ERR_RANK_TABLE, "server_list[1].device[1].device_ip is"},
    {plain, "192.0.2.3", "192.0.2.1", EPX_ERR_RANK_TABLE,
     "server_list[1].device[0].device_ip has 192.0.2.1, which server_list[0].device[0] has"},
    {plain, "192.0.2.5", "192.0.2.2", EPX_ERR_RANK_TABLE,
     "server_list[1].device[1].device_ip has 192.0.2.2, which server_list[0].device[1] has"},
    {plain, "192.0.2.3", "2001:db8::1", EPX_ERR_RANK_TABLE,
     "must be of the family of server_list[0].device[0].device_ip, IPv4"},
    {plain, "\"device_ip\":\"192.0.2.3\",", "", EPX_ERR_RANK_TABLE,
     "server_list[1].device[0].device_ip is missing, required with 2 servers unless server_list[1].host_ip is given"},
    {plain, "192.0.2.3", "", EPX_ERR_RANK_TABLE, "server_list[1].device[0].device_ip is missing"},
    {plain, "\"192.0.2.3\"", "[\"192.0.2.3\"]", EPX_ERR_SYNTAX, "server_list[1].device[0].device_ip is a list"},
    {plain, "192.0.2.9", "nowhere", EPX_ERR_RANK_TABLE, "server_list[0].device[1].backup_device_ip is \"nowhere\""},
    {plain, "\"backup_device_ip\":\"192.0.2.9\"", "\"backup_device_port\":\"0\"", EPX_ERR_RANK_TABLE,
     "backup_device_port is \"0\", must be a decimal number in [1, 65535]"},
    {plain, "\"16666\"", "\"0\"", EPX_ERR_RANK_TABLE,
     "server_list[0].device[0].device_port is \"0\", must be a decimal number in [1, 65535]"},
    {plain, "\"16666\"", "\"65536\"", EPX_ERR_RANK_TABLE, "device_port is \"65536\""},
    {plain, "\"16666\"", "16666", EPX_ERR_SYNTAX, "server_list[0].device[0].device_port is a number"},
    {plain, "\"100\"", "\"70000\"", EPX_ERR_RANK_TABLE, "server_list[0].device[0].host_port is \"70000\""},
    {plain, "\"backup_device_ip\":\"192.0.2.9\"", "\"host_port\":\"100\"", EPX_ERR_RANK_TABLE,
     "server_list[0].device[1].host_port is 100, which device[0] of this server has"},
    /* super pods */
    {pods, "\"super_device_id\":\"7\"", "\"super_device_id\":\"\"", EPX_ERR_RANK_TABLE,
     "server_list[1].device[0].super_device_id is \"\""},
    {pods, "\"super_device_id\":\"7\"", "\"super_device_id\":\"x7\"", EPX_ERR_RANK_TABLE, "super_device_id is \"x7\""},
    {pods, "\"super_device_id\":\"7\"", "\"super_device_id\":7", EPX_ERR_SYNTAX, "super_device_id is a number"},
    {pods, "\"super_device_id\":\"7\"", "\"super_device_id\":\"1\"", EPX_ERR_RANK_TABLE,
     "server_list[1].device[0].super_device_id is 1, which server_list[0].device[1] of super pod \"p0\" has"},
    {pods, "\"super_pod_list\":[", "\"super_pod_list\":\"p0\",\"x\":[", EPX_ERR_SYNTAX, "super_pod_list is a string"},
    {pods, "\"super_pod_list\":[", "\"super_pod_list\":[0,", EPX_ERR_SYNTAX, "super_pod_list[0] is a number"},
    {pods, "\"super_pod_id\":\"p1\",", "", EPX_ERR_SYNTAX, "required key missing: super_pod_list[1].super_pod_id"},
    {pods, "\"super_pod_id\":\"p1\"", "\"super_pod_id\":\"\"", EPX_ERR_RANK_TABLE,
     "super_pod_list[1].super_pod_id is \"\", must not be empty"},
    {pods, "\"super_pod_id\":\"p1\"", "\"super_pod_id\":\"p0\"", EPX_ERR_RANK_TABLE,
     "super_pod_list[1].super_pod_id is \"p0\", which super_pod_list[0] has"},
    {pods, "[{\"server_id\":\"c\"}]", "[]", EPX_ERR_RANK_TABLE, "super_pod_list[1].server_list holds 0 servers"},
    {pods, "\"server_list\":[{\"server_id\":\"c\"}]", "\"servers\":[]", EPX_ERR_SYNTAX,
     "required key missing: super_pod_list[1].server_list"},
    {pods, "[{\"server_id\":\"c\"}]", "[{}]", EPX_ERR_SYNTAX,
     "required key missing: super_pod_list[1].server_list[0].server_id"},
    {pods, "[{\"server_id\":\"c\"}]", "[{\"server_id\":\"d\"}]", EPX_ERR_RANK_TABLE,
     "super_pod_list[1].server_list[0].server_id is \"d\", must be a server_id of server_list"},
    {pods, "[{\"server_id\":\"c\"}]", "[{\"server_id\":\"b\"}]", EPX_ERR_RANK_TABLE,
     "super_pod_list[1].server_list[0].server_id is \"b\", which super_pod_list[0] has"},
    {pods, "{\"server_id\":\"b\"}]},{\"super_pod_id\":\"p1\",\"server_list\":[{\"server_id\":\"c\"}]",
     "{\"server_id\":\"c\"}]},{\"super_pod_id\":\"p1\",\"server_list\":[{\"server_id\":\"b\"}]", EPX_ERR_RANK_TABLE,
     "super pods must not interleave"},
    {pods, "{\"super_pod_id\":\"p1\"",
     "{\"super_pod_id\":\"p2\",\"server_list\":[]},{\"super_pod_id\":\"p3\",\"server_list\":[]},{\"super_pod_id\":"
     "\"p1\"",
     EPX_ERR_RANK_TABLE, "super_pod_list holds 4 super pods"},
};

/* `base` with the first `find` replaced; to be freed. */
static char *changed(const char *base, const char *find, const char *replacement)
{
    const char *place = strstr(base, find);
    assert_non_null(place);
    char *text = NULL;
    assert_true(asprintf(&text, "%.*s%s%s", (int)(place - base), base, replacement, place + strlen(find)) >= 0);
    return text;
}

static enum epx_status parse(const char *text, struct epx_rank_table *table)
{
    return epx_rank_table_parse("/t/table.json", text, strlen(text), table);
}

static void must_parse(const char *text, struct epx_rank_table *table)
{
    enum epx_status status = parse(text, table);
    if (status != EPX_OK) {
        fail_msg("%s", epx_error_text());
    }
}

static void parse__every_rule_has_its_status_and_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        char *text = changed(rules[i].base, rules[i].find, rules[i].replacement);
        struct epx_rank_table table;
        memset(&table, 0x5a, sizeof table);
        struct epx_rank_table before = table;
        enum epx_status status = parse(text, &table);
        if (status != rules[i].status || strstr(epx_error_text(), rules[i].fragment) == NULL ||
            strstr(epx_error_text(), "rank table /t/table.json: ") == NULL) {
            fail_msg("rule %zu (%s -> %s): status %d, text: %s", i, rules[i].find, rules[i].replacement, (int)status,
                     epx_error_text());
        }
        assert_memory_equal(&table, &before, sizeof table);
        free(text);
    }
}

static void parse__two_servers(void **state)
{
    (void)state;
    struct epx_rank_table table;
    must_parse(plain, &table);
    assert_string_equal(table.version, "1.0");
    assert_int_equal(table.rank_count, 4);
    assert_int_equal(table.server_count, 2);
    assert_string_equal(table.servers[0].id, "node-a");
    assert_string_equal(table.servers[1].id, "node-b");
    assert_int_equal(table.servers[1].first_rank, 2);
    assert_int_equal(table.servers[1].rank_count, 2);
    assert_string_equal(table.servers[0].host_ip, "");
    assert_int_equal(table.ranks[0].device_port, 16666);
    assert_int_equal(table.ranks[0].host_port, 100);
    assert_int_equal(table.ranks[1].device_port, 0);
    assert_int_equal(table.ranks[1].device_id, 1);
    assert_int_equal(table.ranks[1].server, 0);
    assert_int_equal(table.ranks[3].server, 1);
    assert_string_equal(table.ranks[3].device_ip, "192.0.2.4");
    epx_rank_table_fini(&table);
}

/* Sixteen ranks on two servers, addresses of no machine at hand, ranks and servers in descending order. */
static void parse__sixteen_ranks_in_any_order(void **state)
{
    (void)state;
    char text[8192];
    int used = snprintf(text, sizeof text, "{\"server_list\":[{\"device\":[");
    for (int r = 15; r >= 0; r--) {
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "%s{\"rank_id\":\"%d\",\"device_id\":\"%d\",\"device_ip\":\"198.51.100.%d\"}",
                         r == 15 || r == 7 ? "" : ",", r, r % 8, r + 1);
        if (r == 8) {
            used += snprintf(text + used, sizeof text - (size_t)used,
                             "],\"server_id\":\"10.0.0.2\"},{\"server_id\":\"10.0.0.1\",\"device\":[");
        }
    }
    (void)snprintf(text + used, sizeof text - (size_t)used,
                   "]}],\"server_count\":\"2\",\"version\":\"1.0\",\"status\":\"completed\"}");
    struct epx_rank_table table;
    must_parse(text, &table);
    assert_int_equal(table.rank_count, 16);
    assert_string_equal(table.servers[0].id, "10.0.0.1");
    assert_int_equal(table.servers[0].first_rank, 0);
    assert_string_equal(table.servers[1].id, "10.0.0.2");
    assert_int_equal(table.servers[1].first_rank, 8);
    for (uint32_t r = 0; r < 16; r++) {
        char address[32];
        (void)snprintf(address, sizeof address, "198.51.100.%u", r + 1);
        assert_string_equal(table.ranks[r].device_ip, address);
        assert_int_equal(table.ranks[r].device_id, r % 8);
        assert_int_equal(table.ranks[r].server, r / 8);
    }
    epx_rank_table_fini(&table);
}

static void accept(const char *base, const char *find, const char *replacement)
{
    char *text = changed(base, find, replacement);
    struct epx_rank_table table;
    must_parse(text, &table);
    epx_rank_table_fini(&table);
    free(text);
}

static void parse__valid_variants(void **state)
{
    (void)state;
    struct epx_rank_table table;
    must_parse("{\"status\":\"completed\",\"version\":\"1.0\",\"server_list\":[{\"server_id\":\"s\",\"device\":["
               "{\"device_id\":\"7\",\"rank_id\":\"0\"},{\"device_id\":\"5\",\"rank_id\":\"1\",\"device_ip\":\"\"}]}]}",
               &table);
    assert_string_equal(table.ranks[0].device_ip, "");
    assert_int_equal(table.ranks[0].device_id, 7);
    epx_rank_table_fini(&table);

    must_parse(pods, &table);
    assert_string_equal(table.version, "1.2");
    assert_int_equal(table.server_count, 3);
    epx_rank_table_fini(&table);

    accept(plain, "\"server_count\":\"2\",", "");
    accept(plain, "\"server_count\"", "\"group_count\":1,\"host_nic_ip\":[null],\"server_count\"");
    accept(plain, "\"node-b\"",
           "\""
           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
           "\"");
    accept(plain, "\"node-b\",\"device\":[{\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",",
           "\"node-b\",\"host_ip\":\"10.1.1.1\",\"device\":[{\"device_id\":\"0\",");
    accept(plain, "\"device_id\":\"1\"", "\"device_id\":\"1023\"");
    /* Super pod keys mean nothing in a 1.0 table. */
    accept(plain, "\"rank_id\":\"3\"", "\"rank_id\":\"3\",\"super_device_id\":5");
    accept(pods, "\"super_pod_list\"", "\"other\"");
    accept(pods, ",\"super_device_id\":\"7\"", "");
    /* All servers in one super pod: no address needed. */
    accept(
        "{\"status\":\"completed\",\"version\":\"1.2\",\"server_list\":["
        "{\"server_id\":\"a\",\"device\":[{\"device_id\":\"0\",\"rank_id\":\"0\",\"super_device_id\":\"0\"}]},"
        "{\"server_id\":\"b\",\"device\":[{\"device_id\":\"0\",\"rank_id\":\"1\",\"super_device_id\":\"1\"}]}],"
        "\"super_pod_list\":[{\"super_pod_id\":\"p\",\"server_list\":[{\"server_id\":\"a\"},{\"server_id\":\"b\"}]}]}",
        "\"p\"", "\"q\"");
}

static void parse__ipv6_is_kept_in_canonical_spelling(void **state)
{
    (void)state;
    struct epx_rank_table table;
    must_parse("{\"status\":\"completed\",\"version\":\"1.0\",\"server_list\":["
               "{\"server_id\":\"a\",\"device\":[{\"device_id\":\"0\",\"rank_id\":\"0\",\"device_ip\":"
               "\"2001:0DB8:0:0:0:0:0:1\"}]},"
               "{\"server_id\":\"b\",\"device\":[{\"device_id\":\"0\",\"rank_id\":\"1\",\"device_ip\":"
               "\"2001:db8::2\"}]}]}",
               &table);
    assert_string_equal(table.ranks[0].device_ip, "2001:db8::1");
    assert_string_equal(table.ranks[1].device_ip, "2001:db8::2");
    epx_rank_table_fini(&table);
}

static void digest_of(const char *text, uint8_t digest[32])
{
    struct epx_rank_table table;
    must_parse(text, &table);
    memcpy(digest, table.digest, 32);
    epx_rank_table_fini(&table);
}

static void digest__ignores_spelling(void **state)
{
    (void)state;
    uint8_t digest[32];
    uint8_t other[32];
    digest_of(plain, digest);
    char *text = changed(plain, "\"status\":\"completed\",\"version\":\"1.0\",",
                         " \n\t\"version\" : \"1.0\",\r\n \"note\": [1, {}], \"status\":\"completed\" , ");
    digest_of(text, other);
    assert_memory_equal(digest, other, 32);
    free(text);
    text = changed(plain, "\"device_id\":\"0\",\"device_ip\":\"192.0.2.3\",\"rank_id\":\"2\"",
                   "\"rank_id\":\"02\",\"device_ip\":\"192.0.2.3\",\"device_id\":\"0\"");
    digest_of(text, other);
    assert_memory_equal(digest, other, 32);
    free(text);
}

static void digest__sees_content(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"1.0\"", "\"1.2\""},
        {"node-a", "node-c"},
        {"192.0.2.3", "192.0.2.33"},
        {"\"16666\"", "\"16667\""},
        {"\"100\"", "\"101\""},
        {"\"device_id\":\"1\"", "\"device_id\":\"2\""},
        {"\"node-a\"", "\"node-a\",\"host_ip\":\"10.0.0.1\""},
    };
    uint8_t digest[32];
    uint8_t other[32];
    digest_of(plain, digest);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *text = changed(plain, changes[i][0], changes[i][1]);
        digest_of(text, other);
        assert_memory_not_equal(digest, other, 32);
        free(text);
    }
}

/* Each prefix lies at the end of a fresh allocation, so that a sanitizer sees a read past it. */
static void parse__every_truncation_is_a_syntax_error(void **state)
{
    (void)state;
    const char *const texts[] = {plain, pods};
    for (size_t t = 0; t < 2; t++) {
        size_t bytes = strlen(texts[t]);
        for (size_t keep = 0; keep < bytes; keep++) {
            char *copy = malloc(keep > 0 ? keep : 1);
            assert_non_null(copy);
            memcpy(copy, texts[t], keep);
            struct epx_rank_table table;
            assert_int_equal(epx_rank_table_parse("cut", copy, keep, &table), EPX_ERR_SYNTAX);
            free(copy);
        }
    }
}

static void parse__unprintable_bytes_do_not_reach_the_message(void **state)
{
    (void)state;
    char *text = changed(plain, "\"1.0\"", "\"1\\n\\u001b[31m\"");
    struct epx_rank_table table;
    assert_int_equal(parse(text, &table), EPX_ERR_UNSUPPORTED);
    assert_non_null(strstr(epx_error_text(), "version is \"1??[31m\""));
    free(text);
}

static void parse__too_many_devices(void **state)
{
    (void)state;
    size_t capacity = 200000;
    char *text = malloc(capacity);
    assert_non_null(text);
    int used = snprintf(text, capacity,
                        "{\"status\":\"completed\",\"version\":\"1.0\",\"server_list\":["
                        "{\"server_id\":\"a\",\"device\":[{}");
    for (int d = 1; d < 4097; d++) {
        used += snprintf(text + used, capacity - (size_t)used, ",{}");
    }
    (void)snprintf(text + used, capacity - (size_t)used, "]}]}");
    struct epx_rank_table table;
    assert_int_equal(parse(text, &table), EPX_ERR_RANK_TABLE);
    assert_non_null(strstr(epx_error_text(), "hold 4097 devices, at most 4096 are allowed"));
    free(text);
}

/* ---- Files ----------------------------------------------------------------------------------------------------- */

static char folder[64];

static void path_in(char path[128], const char *name)
{
    (void)snprintf(path, 128, "%s/%s", folder, name);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/epx_rank_table.XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? 0 : -1;
}

static void expect_load(const char *path, enum epx_status expected, const char *fragment)
{
    struct epx_rank_table table;
    enum epx_status status = epx_rank_table_load(path, 0, &table);
    if (status != expected || strstr(epx_error_text(), fragment) == NULL || strstr(epx_error_text(), path) == NULL) {
        fail_msg("%s: status %d, text: %s", path, (int)status, epx_error_text());
    }
}

static void load__path_rules(void **state)
{
    (void)state;
    char path[128];
    struct epx_rank_table table;
    assert_int_equal(epx_rank_table_load(NULL, 0, &table), EPX_ERR_NULL);
    path_in(path, "absent.json");
    expect_load(path, EPX_ERR_FILE, "errno 2");
    path_in(path, "table.txt");
    write_file(path, plain);
    expect_load(path, EPX_ERR_FILE, "must end in \".json\"");
    path_in(path, "folder.json");
    assert_int_equal(mkdir(path, 0700), 0);
    expect_load(path, EPX_ERR_FILE, "not a regular file");
    path_in(path, "fifo.json");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_load(path, EPX_ERR_FILE, "not a regular file");
    expect_load(".json", EPX_ERR_FILE, "must end in \".json\"");
    path_in(path, "large.json");
    write_file(path, plain);
    assert_int_equal(truncate(path, (off_t)EPX_RANK_TABLE_BYTES_MAX + 1), 0);
    expect_load(path, EPX_ERR_FILE, "has 67108865 bytes, at most 67108864 are allowed");
    path_in(path, "empty.json");
    write_file(path, "");
    expect_load(path, EPX_ERR_SYNTAX, "line 1");
}

static void load__through_a_link(void **state)
{
    (void)state;
    char path[128];
    char link_path[128];
    path_in(path, "good.json");
    write_file(path, plain);
    path_in(link_path, "link.json");
    assert_int_equal(symlink("good.json", link_path), 0);
    struct epx_rank_table table;
    assert_int_equal(epx_rank_table_load(link_path, 0, &table), EPX_OK);
    assert_int_equal(table.rank_count, 4);
    epx_rank_table_fini(&table);
}

static void *complete_later(void *path)
{
    (void)usleep(200000);
    write_file(path, "{\"status\":");
    (void)usleep(1000000);
    write_file(path, plain);
    return NULL;
}

static void load__waits_while_initializing(void **state)
{
    (void)state;
    char path[128];
    path_in(path, "filling.json");
    write_file(path, "{\"status\":\"initializing\"}");
    expect_load(path, EPX_ERR_JOIN_TIMEOUT, "still \"initializing\"");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, complete_later, path), 0);
    struct epx_rank_table table;
    enum epx_status status = epx_rank_table_load(path, 20000, &table);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, EPX_OK);
    assert_int_equal(table.rank_count, 4);
    epx_rank_table_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__every_rule_has_its_status_and_message),
        cmocka_unit_test(parse__two_servers),
        cmocka_unit_test(parse__sixteen_ranks_in_any_order),
        cmocka_unit_test(parse__valid_variants),
        cmocka_unit_test(parse__ipv6_is_kept_in_canonical_spelling),
        cmocka_unit_test(digest__ignores_spelling),
        cmocka_unit_test(digest__sees_content),
        cmocka_unit_test(parse__every_truncation_is_a_syntax_error),
        cmocka_unit_test(parse__unprintable_bytes_do_not_reach_the_message),
        cmocka_unit_test(parse__too_many_devices),
        cmocka_unit_test_setup_teardown(load__path_rules, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(load__through_a_link, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(load__waits_while_initializing, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
