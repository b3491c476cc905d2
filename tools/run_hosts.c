#include "run_hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* As many as a communicator may have. */
#define RANK_MAX 4096

/* Below what kernels give out by themselves, above what services are known by. */
#define PORT_FIRST 10000
#define PORT_RANGE 20000
#define PORT_COUNT 16

static void refuse(struct run_refusal *refusal, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void refuse(struct run_refusal *refusal, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(refusal->text, sizeof refusal->text, format, arguments);
    va_end(arguments);
}

/* ---- This machine --------------------------------------------------------------------------------------------- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool read_address(const char *text, union address *address)
{
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->any.sa_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->any.sa_family = AF_INET6;
        return true;
    }
    return false;
}

static bool is_loopback(const union address *address)
{
    return address->any.sa_family == AF_INET ? ntohl(address->v4.sin_addr.s_addr) >> 24 == 127
                                             : IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

static bool is_same(const union address *address, const struct sockaddr *other)
{
    union address found;
    memset(&found, 0, sizeof found);
    if (other == NULL || other->sa_family != address->any.sa_family) {
        return false;
    }
    if (other->sa_family == AF_INET) {
        memcpy(&found.v4, other, sizeof found.v4);
        return found.v4.sin_addr.s_addr == address->v4.sin_addr.s_addr;
    }
    memcpy(&found.v6, other, sizeof found.v6);
    return memcmp(&found.v6.sin6_addr, &address->v6.sin6_addr, sizeof found.v6.sin6_addr) == 0;
}

static bool is_own_address(const union address *address)
{
    struct ifaddrs *interfaces = NULL;
    bool found = is_loopback(address);
    if (found || getifaddrs(&interfaces) != 0) {
        return found;
    }
    for (const struct ifaddrs *one = interfaces; one != NULL && !found; one = one->ifa_next) {
        found = is_same(address, one->ifa_addr);
    }
    freeifaddrs(interfaces);
    return found;
}

static bool is_here(const char *name)
{
    char own[256] = "";
    union address address;
    if (read_address(name, &address)) {
        return is_own_address(&address);
    }
    (void)gethostname(own, sizeof own - 1);
    size_t short_length = strcspn(own, ".");
    return strcmp(name, "localhost") == 0 || (own[0] != '\0' && strcmp(name, own) == 0) ||
           (short_length > 0 && strlen(name) == short_length && strncmp(name, own, short_length) == 0);
}

/* ---- The list ------------------------------------------------------------------------------------------------- */

/* One of "a", "a:8", "[::1]", "[::1]:8"; count 0: not given. */
static bool read_host(const char *item, size_t length, struct run_host *host, struct run_refusal *refusal)
{
    bool in_brackets = length > 0 && item[0] == '[';
    const char *name = item + in_brackets;
    const char *closing = in_brackets ? memchr(item, ']', length) : NULL;
    const char *colon = in_brackets ? (closing != NULL ? closing + 1 : NULL) : memchr(item, ':', length);
    colon = colon != NULL && colon < item + length ? colon : NULL;
    size_t name_length = (size_t)((closing != NULL ? closing : colon != NULL ? colon : item + length) - name);
    char *end = NULL;
    unsigned long count = 0;
    if (colon != NULL) {
        count = colon[0] == ':' && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
        if (count < 1 || count > RANK_MAX || end != item + length) {
            refuse(refusal, "'%.*s' in it must be HOST:RANKS with RANKS in [1, %d], an IPv6 address in brackets",
                   (int)(length < 100 ? length : 100), item, RANK_MAX);
            return false;
        }
    }
    if (name_length == 0 || name[0] == '-' || (in_brackets && closing == NULL)) {
        refuse(refusal, "'%.*s' in it is no host", (int)(length < 100 ? length : 100), item);
        return false;
    }
    host->name = strndup(name, name_length);
    host->count = (uint32_t)count;
    if (host->name == NULL) {
        refuse(refusal, "there is no memory for it");
        return false;
    }
    host->here = is_here(host->name);
    return true;
}

static bool read_list(struct run_hosts *hosts, const char *list, struct run_refusal *refusal)
{
    uint32_t room = 1;
    for (const char *c = list; *c != '\0'; c++) {
        room += *c == ',';
    }
    hosts->hosts = calloc(room, sizeof *hosts->hosts);
    if (hosts->hosts == NULL) {
        refuse(refusal, "there is no memory for it");
        return false;
    }
    for (const char *item = list; hosts->count < room;) {
        size_t length = strcspn(item, ",");
        if (!read_host(item, length, &hosts->hosts[hosts->count], refusal)) {
            return false;
        }
        hosts->count++;
        item += length + 1;
    }
    return true;
}

static bool give_counts(struct run_hosts *hosts, uint32_t rank_count, struct run_refusal *refusal)
{
    const struct run_host *silent = NULL;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < hosts->count; i++) {
        silent = hosts->hosts[i].count == 0 ? &hosts->hosts[i] : silent;
        sum += hosts->hosts[i].count;
    }
    if (silent != NULL && (sum > 0 || rank_count == 0 || rank_count % hosts->count != 0)) {
        refuse(refusal,
               "how many ranks '%.100s' has is not said: give HOST:RANKS for all hosts, or for none of them and a "
               "--ranks that %u divides",
               silent->name, hosts->count);
        return false;
    }
    if (silent == NULL && rank_count != 0 && rank_count != sum) {
        refuse(refusal, "its ranks are %llu, but --ranks is %u", (unsigned long long)sum, rank_count);
        return false;
    }
    if (sum > RANK_MAX) {
        refuse(refusal, "its ranks are %llu, must be in [1, %d]", (unsigned long long)sum, RANK_MAX);
        return false;
    }
    for (uint32_t i = 0; i < hosts->count; i++) {
        struct run_host *host = &hosts->hosts[i];
        host->count = silent != NULL ? rank_count / hosts->count : host->count;
        host->first = hosts->rank_count;
        hosts->rank_count += host->count;
    }
    return true;
}

bool run_hosts_init(struct run_hosts *hosts, const char *list, uint32_t rank_count, struct run_refusal *refusal)
{
    *hosts = (struct run_hosts){.count = 0};
    return read_list(hosts, list, refusal) && give_counts(hosts, rank_count, refusal);
}

void run_hosts_fini(struct run_hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        free(hosts->hosts[i].name);
    }
    free(hosts->hosts);
    *hosts = (struct run_hosts){.count = 0};
}

const struct run_host *run_hosts_find(const struct run_hosts *hosts, uint32_t rank)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        if (rank - hosts->hosts[i].first < hosts->hosts[i].count) {
            return &hosts->hosts[i];
        }
    }
    return NULL;
}

void run_hosts_share(const struct run_hosts *hosts, uint32_t rank, uint32_t *index, uint32_t *count)
{
    *index = *count = 0;
    for (uint32_t i = 0; i < hosts->count; i++) {
        const struct run_host *host = &hosts->hosts[i];
        if (host->here) {
            *index += rank < host->first ? 0 : rank - host->first < host->count ? rank - host->first : host->count;
            *count += host->count;
        }
    }
}

/* ---- Where the ranks meet ------------------------------------------------------------------------------------- */

static bool resolve(const char *name, union address *address, socklen_t *length, struct run_refusal *refusal)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const char *at = strrchr(name, '@');
    const char *host = at != NULL ? at + 1 : name;
    int error = getaddrinfo(host, "9", &hints, &found);
    if (error != 0) {
        refuse(refusal, "'%.100s' in it has no address: %s; --root says where the ranks meet", name,
               gai_strerror(error));
        return false;
    }
    memset(address, 0, sizeof *address);
    *length = found->ai_addrlen < sizeof *address ? found->ai_addrlen : (socklen_t)sizeof *address;
    memcpy(address, found->ai_addr, *length);
    freeaddrinfo(found);
    union address given;
    if (is_loopback(address) && !read_address(host, &given)) {
        refuse(refusal, "'%.100s' in it has an address that only it reaches; --root says where the ranks meet", name);
        return false;
    }
    return true;
}

/* The own address from which a host is reached: routing says it, nothing is sent. */
static bool own_address_towards(const char *name, union address *own, struct run_refusal *refusal)
{
    union address other;
    socklen_t length = 0;
    if (!resolve(name, &other, &length, refusal)) {
        return false;
    }
    int fd = socket(other.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && connect(fd, &other.any, length) == 0;
    length = sizeof *own;
    found = found && getsockname(fd, &own->any, &length) == 0;
    int error = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (!found) {
        refuse(refusal, "'%.100s' in it is not reached: %s; --root says where the ranks meet", name, strerror(error));
    }
    return found;
}

static const struct run_host *first_elsewhere(const struct run_hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        if (!hosts->hosts[i].here) {
            return &hosts->hosts[i];
        }
    }
    return NULL;
}

static bool choose_address(const struct run_hosts *hosts, union address *address, struct run_refusal *refusal)
{
    const struct run_host *elsewhere = first_elsewhere(hosts);
    socklen_t length = 0;
    if (elsewhere == NULL) {
        return read_address("127.0.0.1", address);
    }
    if (!hosts->hosts[0].here) {
        return resolve(hosts->hosts[0].name, address, &length, refusal);
    }
    return (read_address(hosts->hosts[0].name, address) && !is_loopback(address)) ||
           own_address_towards(elsewhere->name, address, refusal);
}

bool run_hosts_root(const struct run_hosts *hosts, char *root, size_t bytes, struct run_refusal *refusal)
{
    union address address;
    char text[INET6_ADDRSTRLEN] = "";
    uint32_t number = (uint32_t)getpid();
    if (!choose_address(hosts, &address, refusal)) {
        return false;
    }
    bool is_v4 = address.any.sa_family == AF_INET;
    const void *ip = is_v4 ? (const void *)&address.v4.sin_addr : (const void *)&address.v6.sin6_addr;
    (void)inet_ntop(address.any.sa_family, ip, text, sizeof text);
    (void)getrandom(&number, sizeof number, 0);
    uint32_t port = PORT_FIRST + number % PORT_RANGE;
    (void)snprintf(root, bytes, is_v4 ? "%s:%u-%u" : "[%s]:%u-%u", text, port, port + PORT_COUNT - 1);
    return true;
}
