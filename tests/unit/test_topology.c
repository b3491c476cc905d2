#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cgroup.h"
#include "base/text_file.h"
#include "base/topology.h"

#include "child_process.h"

#include <ftw.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* ---- The machine ---- */

static void cpu_count__follows_the_affinity_mask(void **state)
{
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(epx_topology_cpu_count(), CPU_COUNT(&before));
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(epx_topology_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void memory__headroom_is_part_of_the_total(void **state)
{
    (void)state;
    uint64_t total = epx_topology_memory_total_bytes();
    uint64_t headroom = epx_topology_memory_headroom_bytes();
    assert_true(total > 64 * MIB);
    assert_true(headroom > 0 && headroom <= total);
    FILE *file = fopen("/proc/meminfo", "r");
    assert_non_null(file);
    unsigned long long total_kib = 0;
    assert_int_equal(fscanf(file, "MemTotal: %llu kB", &total_kib), 1);
    fclose(file);
    assert_true(total / 1024 == total_kib);
}

static uint64_t read_available_bytes(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "MemAvailable: %llu kB", &kib) != 1) {
    }
    fclose(file);
    return kib * 1024;
}

static void memory__headroom_is_at_most_what_is_available(void **state)
{
    (void)state;
    uint64_t before = read_available_bytes();
    uint64_t headroom = epx_topology_memory_headroom_bytes();
    uint64_t after = read_available_bytes();
    /* Other processes take and give memory between the looks. */
    uint64_t most = (before > after ? before : after) + 512 * MIB;
    assert_true(before > 0);
    assert_in_range(headroom, 1, most);
}

static void host_id__is_stable_and_follows_the_variable(void **state)
{
    (void)state;
    struct epx_host_id first;
    struct epx_host_id second;
    unsetenv("EPX_HOST_ID");
    epx_topology_host_id(&first);
    epx_topology_host_id(&second);
    assert_memory_equal(&first, &second, sizeof first);
    setenv("EPX_HOST_ID", "left", 1);
    epx_topology_host_id(&second);
    assert_memory_not_equal(&first, &second, sizeof first);
    setenv("EPX_HOST_ID", "right", 1);
    epx_topology_host_id(&first);
    assert_memory_not_equal(&first, &second, sizeof first);
    setenv("EPX_HOST_ID", "left", 1);
    epx_topology_host_id(&first);
    assert_memory_equal(&first, &second, sizeof first);
    unsetenv("EPX_HOST_ID");
}

static struct epx_host_id id_before;

static void leave_network_namespace(void)
{
    struct epx_host_id id;
    if (unshare(CLONE_NEWNET) != 0) {
        _exit(77);
    }
    epx_topology_host_id(&id);
    CHILD_EXPECT(memcmp(&id, &id_before, sizeof id) != 0);
    CHILD_EXPECT(setenv("EPX_HOST_ID", "same", 1) == 0);
    epx_topology_host_id(&id_before);
    CHILD_EXPECT(unshare(CLONE_NEWNET) == 0);
    epx_topology_host_id(&id);
    CHILD_EXPECT(memcmp(&id, &id_before, sizeof id) == 0);
}

static void host_id__differs_between_network_namespaces(void **state)
{
    (void)state;
    epx_topology_host_id(&id_before);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        leave_network_namespace();
        _exit(0);
    }
    int result = 0;
    assert_int_equal(waitpid(pid, &result, 0), pid);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 77) {
        skip(); /* needs the right to make a namespace */
    }
    assert_int_equal(result, 0);
}

/* ---- A made-up file system: the group's files below a directory of the test's own ---- */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/epx-test-cgroup-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *entry, int kind, struct FTW *place)
{
    (void)entry;
    (void)kind;
    (void)place;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file below the root, with the directories on its way. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void put_number(const char *path, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)value);
    put(path, text);
}

static void expect_headroom(uint64_t expected)
{
    uint64_t headroom = epx_cgroup_memory_headroom_bytes(root);
    if (headroom != expected) {
        fail_msg("headroom is %llu, expected %llu", (unsigned long long)headroom, (unsigned long long)expected);
    }
}

static void put_version_2(void)
{
    put("/proc/self/cgroup", "0::/user.slice/job\n");
    put("/proc/self/mountinfo", "23 1 0:20 / /sys rw - sysfs sysfs rw\n"
                                "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static void cgroup__nothing_there(void **state)
{
    (void)state;
    expect_headroom(EPX_CGROUP_UNLIMITED);
}

static void cgroup__version_2_every_level_counts(void **state)
{
    (void)state;
    put_version_2();
    expect_headroom(EPX_CGROUP_UNLIMITED);
    put("/sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    put_number("/sys/fs/cgroup/user.slice/job/memory.current", 100 * MIB);
    expect_headroom(EPX_CGROUP_UNLIMITED);
    put_number("/sys/fs/cgroup/user.slice/job/memory.max", 500 * MIB);
    expect_headroom(400 * MIB);
    put_number("/sys/fs/cgroup/user.slice/memory.max", 900 * MIB);
    put_number("/sys/fs/cgroup/user.slice/memory.current", 800 * MIB);
    expect_headroom(100 * MIB);
    put_number("/sys/fs/cgroup/memory.max", 1000 * MIB);
    put_number("/sys/fs/cgroup/memory.current", 950 * MIB);
    expect_headroom(50 * MIB);
    put_number("/sys/fs/cgroup/memory.current", 1001 * MIB);
    expect_headroom(0);
}

static void cgroup__page_cache_that_can_go_is_free(void **state)
{
    (void)state;
    put_version_2();
    put_number("/sys/fs/cgroup/user.slice/job/memory.max", 500 * MIB);
    put_number("/sys/fs/cgroup/user.slice/job/memory.current", 400 * MIB);
    put("/sys/fs/cgroup/user.slice/job/memory.stat", "anon 1\nfile 209715200\nworkingset_inactive_file 5\n"
                                                     "inactive_file 104857600\nactive_file 104857600\n");
    expect_headroom(200 * MIB);
}

static void cgroup__version_1_with_mixed_mounts(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n");
    put("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
                                "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                                "35 31 0:32 / /sys/fs/cgroup/cpu,memory rw shared:9 - cgroup cgroup rw,cpu,memory\n");
    put("/sys/fs/cgroup/cpu,memory/memory.limit_in_bytes", "9223372036854771712\n");
    put_number("/sys/fs/cgroup/cpu,memory/memory.usage_in_bytes", 5000 * MIB);
    put_number("/sys/fs/cgroup/cpu,memory/docker/memory.limit_in_bytes", 800 * MIB);
    put_number("/sys/fs/cgroup/cpu,memory/docker/memory.usage_in_bytes", 500 * MIB);
    put_number("/sys/fs/cgroup/cpu,memory/docker/abc/memory.limit_in_bytes", 600 * MIB);
    put_number("/sys/fs/cgroup/cpu,memory/docker/abc/memory.usage_in_bytes", 400 * MIB);
    expect_headroom(200 * MIB);
    put("/sys/fs/cgroup/cpu,memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 157286400\n");
    expect_headroom(300 * MIB);
}

/* Inside a container the mount's root is the container's own group, with or without a cgroup namespace. */
static void cgroup__mount_shows_a_part_of_the_hierarchy(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
    put("/proc/self/mountinfo", "35 31 0:32 /docker/abc /sys/fs/cgroup/my\\040memory ro - cgroup cgroup rw,memory\n");
    put_number("/sys/fs/cgroup/my memory/memory.limit_in_bytes", 300 * MIB);
    put_number("/sys/fs/cgroup/my memory/memory.usage_in_bytes", 100 * MIB);
    expect_headroom(200 * MIB);
    put_number("/sys/fs/cgroup/my memory/inner/memory.limit_in_bytes", 90 * MIB);
    put_number("/sys/fs/cgroup/my memory/inner/memory.usage_in_bytes", 50 * MIB);
    expect_headroom(40 * MIB);
    put("/proc/self/cgroup", "4:memory:/../elsewhere\n");
    expect_headroom(200 * MIB);
    put("/proc/self/cgroup", "4:memory:/docker/abcdef\n");
    expect_headroom(200 * MIB);
    put("/proc/self/cgroup", "4:memory:/docker/abc\n");
    expect_headroom(200 * MIB);
}

static void cgroup__damaged_tables_limit_nothing(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "\n:\n4:memory\n0:\n");
    put("/proc/self/mountinfo", " - \n - cgroup2\n1 2 3 - cgroup2 cgroup2 rw\n");
    expect_headroom(EPX_CGROUP_UNLIMITED);
    put("/proc/self/cgroup", "0::/\n4:memory:/\n");
    expect_headroom(EPX_CGROUP_UNLIMITED);
}

/* ---- Small files ---- */

static void text_number__finds_whole_names(void **state)
{
    (void)state;
    static const char text[] = "MemTotal:       24684092 kB\nMemAvail: 1\nMemAvailable:\t77 kB\nBad: x\nEnd: 5";
    uint64_t value = 0;
    assert_true(epx_text_number_of(text, "MemTotal:", &value) && value == 24684092);
    assert_true(epx_text_number_of(text, "MemAvailable:", &value) && value == 77);
    assert_true(epx_text_number_of(text, "End:", &value) && value == 5);
    assert_false(epx_text_number_of(text, "Bad:", &value));
    assert_false(epx_text_number_of(text, "Mem", &value));
    assert_false(epx_text_number_of(text, "Total:", &value));
    assert_false(epx_text_number_of("", "x", &value));
    assert_true(value == 5);
}

static void text_file__cuts_and_ends(void **state)
{
    (void)state;
    char path[128];
    char text[5];
    put("/file", "abcdefgh");
    snprintf(path, sizeof path, "%s/file", root);
    assert_true(epx_text_file_read(path, text, sizeof text));
    assert_string_equal(text, "abcd");
    snprintf(path, sizeof path, "%s/none", root);
    assert_false(epx_text_file_read(path, text, sizeof text));
    assert_false(epx_text_file_read(root, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_count__follows_the_affinity_mask),
        cmocka_unit_test(memory__headroom_is_part_of_the_total),
        cmocka_unit_test(memory__headroom_is_at_most_what_is_available),
        cmocka_unit_test(host_id__is_stable_and_follows_the_variable),
        cmocka_unit_test(host_id__differs_between_network_namespaces),
        cmocka_unit_test_setup_teardown(cgroup__nothing_there, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cgroup__version_2_every_level_counts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cgroup__page_cache_that_can_go_is_free, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cgroup__version_1_with_mixed_mounts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cgroup__mount_shows_a_part_of_the_hierarchy, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cgroup__damaged_tables_limit_nothing, make_root, remove_root),
        cmocka_unit_test(text_number__finds_whole_names),
        cmocka_unit_test_setup_teardown(text_file__cuts_and_ends, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
