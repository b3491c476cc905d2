/* The list of hosts that rank 0 takes. Who is refused for his address is seen in tests/net/test_namespaces.sh. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/whitelist.h"

static char path[] = "/tmp/epx-whitelist-XXXXXX";

static enum epx_status load(const char *text, struct epx_whitelist *list)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return epx_whitelist_load(list);
}

static void load__lists(void **state)
{
    struct epx_whitelist list;
    (void)state;
    assert_int_equal(load("{\"host_ip\": [\"10.1.2.3\", \"fd00::7\"], \"device_ip\": []}", &list), EPX_OK);
    assert_true(list.enabled);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.addresses[0].v4.sin_addr.s_addr, htonl(0x0a010203));
    assert_int_equal(list.addresses[1].any.sa_family, AF_INET6);
    epx_whitelist_fini(&list);
    assert_int_equal(load("{}", &list), EPX_OK);
    assert_true(list.enabled);
    assert_int_equal(list.count, 0);
    epx_whitelist_fini(&list);
}

static void load__wrong(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } cases[] = {
        {"{\"host_ip\": [\"10.1.2.3\", \"10.1.2\"]}", "host_ip[1] is \"10.1.2\", must be an IPv4 or IPv6 address"},
        {"{\"host_ip\": [7]}", "host_ip[0] must be a text"},
        {"{\"host_ip\": \"10.1.2.3\"}", "host_ip in it a list"},
        {"[]", "must be an object"},
        {"7", "must be an object"},
        {"{", "is not JSON"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct epx_whitelist list;
        if (load(cases[i].text, &list) != EPX_ERR_CONFIG || strstr(epx_error_text(), cases[i].reason) == NULL ||
            strstr(epx_error_text(), "HCCL_WHITELIST_FILE") == NULL) {
            fail_msg("%s: \"%s\" without \"%s\"", cases[i].text, epx_error_text(), cases[i].reason);
        }
        assert_false(list.enabled);
        assert_null(list.addresses);
    }
}

static void load__switched_off(void **state)
{
    struct epx_whitelist list;
    (void)state;
    (void)setenv("HCCL_WHITELIST_DISABLE", "1", 1);
    assert_int_equal(load("{", &list), EPX_OK);
    assert_false(list.enabled);
    (void)unsetenv("HCCL_WHITELIST_DISABLE");
    assert_int_equal(load("{", &list), EPX_OK);
    assert_false(list.enabled);
    (void)setenv("HCCL_WHITELIST_DISABLE", "2", 1);
    assert_int_equal(epx_whitelist_load(&list), EPX_ERR_CONFIG);
    (void)setenv("HCCL_WHITELIST_DISABLE", "0", 1);
}

/* Its own host is admitted by every list, what has no address by none. */
static void admits__own_host(void **state)
{
    struct epx_whitelist list;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    int pair[2];
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int guest = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    assert_int_equal(connect(guest, (struct sockaddr *)&address, sizeof address), 0);
    int fd = accept(listener, NULL, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(load("{}", &list), EPX_OK);
    assert_true(epx_whitelist_admits(&list, fd));
    assert_false(epx_whitelist_admits(&list, pair[0]));
    assert_false(epx_whitelist_admits(&list, -1));
    epx_whitelist_fini(&list);
    assert_true(epx_whitelist_admits(&list, pair[0]));
    assert_true(epx_whitelist_admits(NULL, pair[0]));
    const int all[] = {listener, guest, fd, pair[0], pair[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)close(all[i]);
    }
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    (void)setenv("HCCL_WHITELIST_DISABLE", "0", 1);
    (void)setenv("HCCL_WHITELIST_FILE", path, 1);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load__lists),
        cmocka_unit_test(load__wrong),
        cmocka_unit_test(load__switched_off),
        cmocka_unit_test(admits__own_host),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
