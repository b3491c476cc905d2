/* Any bytes as the file of a whitelist: a list, or a refusal with a text. The first bytes are the addresses of the two
 * ends of a connection, which the list admits or not. */
#include "comm/meeting_address.h"
#include "comm/whitelist.h"
#include "fuzz/fake_environment.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ENDS_BYTES 33 /* a byte for the families of both, and sixteen for each address */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
json_t *__wrap_json_loadfd(int input, size_t flags, json_error_t *error);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *bytes);
int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *bytes);

static struct {
    const char *text;
    size_t bytes;
} file;
static union epx_address ends[2];

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* In place of the file that was opened. */
json_t *__wrap_json_loadfd(int input, size_t flags, json_error_t *error)
{
    (void)input;
    return json_loadb(file.text, file.bytes, flags, error);
}

static int end_copy(const union epx_address *end, struct sockaddr *address, socklen_t *bytes)
{
    memcpy(address, end, *bytes < sizeof *end ? *bytes : sizeof *end);
    *bytes = sizeof *end;
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *bytes)
{
    (void)fd;
    return end_copy(&ends[0], address, bytes);
}

int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *bytes)
{
    (void)fd;
    return end_copy(&ends[1], address, bytes);
}

static void ends_read(const uint8_t *data)
{
    memset(ends, 0, sizeof ends);
    for (int i = 0; i < 2; i++) {
        unsigned kind = (unsigned)data[0] >> (2 * i) & 3u;
        ends[i].any.sa_family = kind == 0 ? AF_INET : kind == 1 ? AF_INET6 : kind == 2 ? AF_UNIX : AF_UNSPEC;
        if (kind == 0) {
            memcpy(&ends[i].v4.sin_addr, data + 1 + i * 16, 4);
        } else {
            memcpy(&ends[i].v6.sin6_addr, data + 1 + i * 16, 16);
        }
    }
}

/* The same said once more, and plainly. */
static bool is_listed(const struct epx_whitelist *list)
{
    bool is_v4 = ends[1].any.sa_family == AF_INET;
    bool listed = false;
    for (uint32_t i = 0; i < list->count; i++) {
        const union epx_address *one = &list->addresses[i];
        listed = listed || (one->any.sa_family == ends[1].any.sa_family &&
                            (is_v4 ? memcmp(&one->v4.sin_addr, &ends[1].v4.sin_addr, 4) == 0
                                   : memcmp(&one->v6.sin6_addr, &ends[1].v6.sin6_addr, 16) == 0));
    }
    return listed;
}

static void check_admission(const struct epx_whitelist *list)
{
    bool is_ip = ends[1].any.sa_family == AF_INET || ends[1].any.sa_family == AF_INET6;
    bool admitted = epx_whitelist_admits(list, -1);
    if (!is_ip) {
        require(!admitted);
    } else if (is_listed(list)) {
        require(admitted);
    } else if (admitted) {
        require(epx_address_is_loopback(&ends[1]) || epx_address_same_ip(&ends[0], &ends[1]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_whitelist list;
    if (bytes < ENDS_BYTES) {
        return 0;
    }
    ends_read(data);
    file.text = (const char *)data + ENDS_BYTES;
    file.bytes = bytes - ENDS_BYTES;
    fake_environment_set("HCCL_WHITELIST_DISABLE", "0");
    fake_environment_set("HCCL_WHITELIST_FILE", "/proc/self/exe"); /* any file that can be opened */
    epx_error_text_set("");
    enum epx_status status = epx_whitelist_load(&list);
    require(status == EPX_OK || epx_error_text()[0] != '\0');
    if (status == EPX_OK) {
        require(list.enabled);
        check_admission(&list);
    } else {
        require(list.count == 0);
    }
    epx_whitelist_fini(&list);
    fake_environment_forget();
    return 0;
}
