#include "hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* "PID FD FD …": the process that has the namespaces open. */
#define SHOWN_NAME "EPX_BENCH_HOSTS"

#define SCRIPT_BYTES (256 * (BENCH_HOST_MAX + 1))

/* ---- Making -------------------------------------------------------------------------------------------------- */

static int open_own_network(void)
{
    return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void close_all(struct bench_hosts *hosts)
{
    for (int64_t i = 0; i <= hosts->count; i++) {
        if (hosts->namespaces[i] >= 0) {
            (void)close(hosts->namespaces[i]);
        }
    }
}

static bool make_namespaces(struct bench_hosts *hosts)
{
    int own = open_own_network();
    bool made = own >= 0;
    for (int64_t i = 0; i <= hosts->count; i++) {
        made = made && unshare(CLONE_NEWNET) == 0;
        hosts->namespaces[i] = made ? open_own_network() : -1;
        made = made && hosts->namespaces[i] >= 0;
    }
    int error = errno;
    if (own >= 0) {
        made = setns(own, CLONE_NEWNET) == 0 && made;
        (void)close(own);
    }
    errno = error;
    return made;
}

static void become_ip(int network, int input)
{
    if (setns(network, CLONE_NEWNET) == 0 && dup2(input, STDIN_FILENO) >= 0) {
        (void)execlp("ip", "ip", "-batch", "-", (char *)NULL);
    }
    _exit(127);
}

/* Runs lines of `ip` in a namespace. */
static bool run_ip(int network, const char *script)
{
    int status = -1;
    int file = memfd_create("epx-bench-ip", MFD_CLOEXEC);
    ssize_t bytes = (ssize_t)strlen(script);
    if (file >= 0 && write(file, script, (size_t)bytes) == bytes && lseek(file, 0, SEEK_SET) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            become_ip(network, file);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            status = -1;
        }
    }
    if (file >= 0) {
        (void)close(file);
    }
    return status == 0;
}

/* The bridge and a pair of interfaces to each host. No address makes itself: nothing is sent that nobody asked for. */
static bool connect_hosts(const struct bench_hosts *hosts)
{
    static char script[SCRIPT_BYTES];
    size_t used = (size_t)snprintf(script, sizeof script, "link add bridge type bridge\nlink set bridge up\n");
    for (int64_t host = 0; host < hosts->count; host++) {
        used += (size_t)snprintf(script + used, sizeof script - used,
                                 "link add h%lld type veth peer name " BENCH_HOST_INTERFACE " netns /proc/%d/fd/%d\n"
                                 "link set h%lld master bridge addrgenmode none up\n",
                                 (long long)host, (int)getpid(), hosts->namespaces[host], (long long)host);
    }
    bool connected = run_ip(hosts->namespaces[hosts->count], script);
    for (int64_t host = 0; connected && host < hosts->count; host++) {
        char address[BENCH_ADDRESS_BYTES];
        bench_hosts_address(host, address);
        (void)snprintf(script, sizeof script,
                       "link set lo up\naddr add %s/24 dev " BENCH_HOST_INTERFACE "\nlink set " BENCH_HOST_INTERFACE
                       " addrgenmode none up\n",
                       address);
        connected = run_ip(hosts->namespaces[host], script);
    }
    return connected;
}

bool bench_hosts_make(struct bench_hosts *hosts, int64_t count, const char *who)
{
    *hosts = (struct bench_hosts){.count = count};
    if (geteuid() != 0) {
        (void)fprintf(stderr, "%s: --hosts is %lld, must be 1: making network namespaces needs root\n", who,
                      (long long)count);
        return false;
    }
    (void)signal(SIGCHLD, SIG_DFL); /* ignored by the caller, it would hide how `ip` ends */
    if (!make_namespaces(hosts)) {
        (void)fprintf(stderr, "%s: --hosts is %lld, must be 1: no network namespaces can be made here: %s\n", who,
                      (long long)count, strerror(errno));
    } else if (!connect_hosts(hosts)) {
        (void)fprintf(stderr,
                      "%s: --hosts is %lld, must be 1: the program `ip` (Debian: iproute2) is not there, or could not "
                      "connect network namespaces\n",
                      who, (long long)count);
    } else {
        return true;
    }
    close_all(hosts);
    return false;
}

/* ---- Between programs ---------------------------------------------------------------------------------------- */

bool bench_hosts_show(const struct bench_hosts *hosts)
{
    char text[16 * (BENCH_HOST_MAX + 2)];
    size_t used = (size_t)snprintf(text, sizeof text, "%d", (int)getpid());
    for (int64_t i = 0; i <= hosts->count; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, " %d", hosts->namespaces[i]);
    }
    return setenv(SHOWN_NAME, text, 1) == 0;
}

/* The first `count` hosts that are shown. False: so many are not. */
static bool take_shown(struct bench_hosts *hosts, int64_t count)
{
    const char *text = getenv(SHOWN_NAME);
    char *rest = NULL;
    long pid = text != NULL ? strtol(text, &rest, 10) : 0;
    for (int64_t i = 0; pid > 0 && i <= count; i++) {
        char path[64];
        char *end = rest;
        long number = strtol(rest, &end, 10);
        (void)snprintf(path, sizeof path, "/proc/%ld/fd/%ld", pid, number);
        hosts->namespaces[i] = end != rest ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (hosts->namespaces[i] < 0) {
            hosts->count = i - 1;
            close_all(hosts);
            return false;
        }
        rest = end;
    }
    hosts->count = count;
    return pid > 0;
}

bool bench_hosts_get(struct bench_hosts *hosts, int64_t count, const char *who)
{
    return take_shown(hosts, count) || bench_hosts_make(hosts, count, who);
}

/* ---- In a host ----------------------------------------------------------------------------------------------- */

/* /sys/class/net shows the network of the process that mounts it. The control groups stay where they are. */
static bool mount_sys(void)
{
    char groups_path[64];
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return false;
    }
    int groups = open("/sys/fs/cgroup", O_PATH | O_CLOEXEC);
    bool mounted = mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
    if (groups >= 0) {
        (void)snprintf(groups_path, sizeof groups_path, "/proc/self/fd/%d", groups);
        mounted = mounted && mount(groups_path, "/sys/fs/cgroup", NULL, MS_BIND | MS_REC, NULL) == 0;
        (void)close(groups);
    }
    return mounted;
}

/* The `place`th of the cores, and those up to `end`. */
static void take_cores(const cpu_set_t *all, int64_t place, int64_t end, cpu_set_t *taken)
{
    int64_t seen = 0;
    CPU_ZERO(taken);
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, all)) {
            continue;
        }
        if (seen >= place && seen < end) {
            CPU_SET(core, taken);
        }
        seen++;
    }
}

/* A host has cores of its own, as long as there are enough; else the hosts take turns on them, one each. */
static bool bind_to_cores(int64_t host, int64_t host_count)
{
    cpu_set_t all;
    cpu_set_t own;
    if (sched_getaffinity(0, sizeof all, &all) != 0) {
        return false;
    }
    int64_t count = CPU_COUNT(&all);
    if (count >= host_count) {
        take_cores(&all, host * count / host_count, (host + 1) * count / host_count, &own);
    } else {
        take_cores(&all, host % count, host % count + 1, &own);
    }
    return sched_setaffinity(0, sizeof own, &own) == 0;
}

bool bench_hosts_enter(const struct bench_hosts *hosts, int64_t host)
{
    if (setns(hosts->namespaces[host], CLONE_NEWNET) != 0 || !mount_sys() || !bind_to_cores(host, hosts->count)) {
        (void)fprintf(stderr, "cannot enter the network of host %lld: %s\n", (long long)host, strerror(errno));
        return false;
    }
    return true;
}

void bench_hosts_address(int64_t host, char address[BENCH_ADDRESS_BYTES])
{
    (void)snprintf(address, BENCH_ADDRESS_BYTES, "10.78.0.%d", (int)host % BENCH_HOST_MAX + 1);
}

int64_t bench_hosts_sent_bytes(int *counter)
{
    char text[32];
    if (*counter == 0) {
        *counter = open("/sys/class/net/" BENCH_HOST_INTERFACE "/statistics/tx_bytes", O_RDONLY | O_CLOEXEC);
    }
    ssize_t got = *counter > 0 ? pread(*counter, text, sizeof text - 1, 0) : -1;
    text[got > 0 ? got : 0] = '\0';
    return strtoll(text, NULL, 10);
}
