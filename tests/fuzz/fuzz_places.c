/*
 * Any bytes as a text that says where ranks are or meet: EPX_ROOT, port lists, the choice of an interface, `--hosts` of
 * `epx run`, a rank table whose servers may be this machine. The first byte chooses. On a made-up machine; no name is
 * resolved and nobody is dialled.
 */
#include "../../tools/run_hosts.h"
#include "comm/comm.h"
#include "comm/meeting.h"
#include "comm/meeting_address.h"
#include "fuzz/fake_environment.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_status(enum epx_status status)
{
    require(status == EPX_OK || epx_error_text()[0] != '\0');
}

static void check_meeting(const struct epx_meeting *meeting)
{
    require(meeting->root.any.sa_family == AF_INET || meeting->root.any.sa_family == AF_INET6);
    require(meeting->port_count >= 1 && meeting->port_count <= EPX_CENSUS_PORT_MAX);
    for (uint32_t i = 0; i < meeting->port_count; i++) {
        require(meeting->ports[i] != 0);
    }
    require(meeting->root.v4.sin_port != 0);
}

static void try_root(const char *text)
{
    struct epx_meeting meeting;
    enum epx_status status = epx_meeting_parse(text, &meeting);
    check_status(status);
    if (status == EPX_OK) {
        check_meeting(&meeting);
    }
}

static void try_ports(const char *text)
{
    uint16_t ports[EPX_CENSUS_PORT_MAX];
    uint32_t count = 0;
    enum epx_status status = epx_ports_parse("fuzz", text, ports, &count);
    check_status(status);
    require(status != EPX_OK || (count >= 1 && count <= EPX_CENSUS_PORT_MAX));
}

/* The text is that of one variable; the others are not set. */
static void try_choice(const char *name, const char *text)
{
    static const char *const names[] = {"EPX_ROOT",           "HCCL_IF_IP",        "HCCL_SOCKET_IFNAME",
                                        "HCCL_SOCKET_FAMILY", "HCCL_IF_BASE_PORT", "HCCL_HOST_SOCKET_PORT_RANGE"};
    struct epx_meeting meeting;
    bool meets = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fake_environment_set(names[i], NULL);
    }
    if (strcmp(name, "HCCL_SOCKET_IFNAME") != 0) {
        fake_environment_set("HCCL_SOCKET_IFNAME", "eth");
    }
    fake_environment_set(name, text);
    enum epx_status status = epx_meeting_choose_here(&meeting, &meets);
    check_status(status);
    if (status == EPX_OK && meets) {
        check_meeting(&meeting);
        require(!epx_address_is_loopback(&meeting.root) || strcmp(name, "EPX_ROOT") == 0);
    }
    status = epx_meeting_choose(NULL, &meeting, &meets);
    check_status(status);
    fake_environment_forget();
}

static void try_hosts(const char *text, uint32_t rank_count)
{
    struct run_hosts hosts;
    struct run_refusal refusal = {.text = ""};
    uint32_t first = 0;
    if (run_hosts_init(&hosts, text, rank_count, &refusal)) {
        require(hosts.count > 0 && hosts.rank_count >= 1 && hosts.rank_count <= EPX_COMM_RANK_MAX);
        for (uint32_t i = 0; i < hosts.count; i++) {
            require(hosts.hosts[i].first == first && hosts.hosts[i].count > 0 && hosts.hosts[i].name[0] != '\0');
            require(hosts.hosts[i].name[0] != '-' && strchr(hosts.hosts[i].name, ',') == NULL);
            require(run_hosts_find(&hosts, first) == &hosts.hosts[i]);
            first += hosts.hosts[i].count;
        }
        require(first == hosts.rank_count && run_hosts_find(&hosts, first) == NULL);
    } else {
        require(refusal.text[0] != '\0');
    }
    run_hosts_fini(&hosts);
}

static void try_table(const char *text, size_t bytes)
{
    struct epx_rank_table table;
    struct epx_meeting meeting;
    bool meets = false;
    if (epx_rank_table_parse("fuzz", text, bytes, &table) != EPX_OK) {
        return;
    }
    enum epx_status status = epx_meeting_choose(&table, &meeting, &meets);
    check_status(status);
    if (status == EPX_OK && meets) {
        check_meeting(&meeting);
    }
    epx_rank_table_fini(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    char *text = malloc(bytes);
    require(text != NULL);
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = '\0';
    fake_environment_set("EPX_LOG", "none");
    epx_error_text_set("");
    switch (data[0] & 15) {
    case 0: try_root(text); break;
    case 1: try_ports(text); break;
    case 2: try_choice("EPX_ROOT", text); break;
    case 3: try_choice("HCCL_IF_IP", text); break;
    case 4: try_choice("HCCL_SOCKET_IFNAME", text); break;
    case 5: try_choice("HCCL_SOCKET_FAMILY", text); break;
    case 6: try_choice("HCCL_IF_BASE_PORT", text); break;
    case 7: try_choice("HCCL_HOST_SOCKET_PORT_RANGE", text); break;
    case 8: try_table(text, bytes - 1); break;
    default: try_hosts(text, (uint32_t)(data[0] >> 4)); break;
    }
    fake_environment_forget();
    free(text);
    return 0;
}
