#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/topology.h"
#include "memory/arena.h"

#include "child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static uint64_t own_reserve_bytes(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    return reserve_bytes;
}

/* Bytes of memory behind the own arena's file. */
static uint64_t own_resident_bytes(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    struct stat file;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(fstat(fd, &file) == 0);
    return (uint64_t)file.st_blocks * 512;
}

static uint64_t live_count(void)
{
    uint64_t bytes;
    uint64_t count;
    epx_arena_usage(&bytes, &count);
    return count;
}

static void limit_address_space(size_t extra_bytes)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    CHILD_EXPECT(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    struct rlimit limit;
    CHILD_EXPECT(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + extra_bytes;
    CHILD_EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* Address space that is left once everything but the arena is paid for, from nothing to plenty. */
static size_t spare_bytes;

static void open_and_use(void)
{
    limit_address_space(spare_bytes);
    enum epx_status status = epx_arena_open_own();
    CHILD_EXPECT(status == EPX_OK || status == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(status == EPX_OK || spare_bytes < 20 * MIB);
    CHILD_EXPECT(status != EPX_OK || spare_bytes > 16 * MIB);
    void *pointer = NULL;
    status = epx_arena_alloc(100000, 64, &pointer);
    CHILD_EXPECT(status == EPX_OK || spare_bytes < 20 * MIB);
    CHILD_EXPECT(status == EPX_OK || status == EPX_ERR_NO_MEMORY);
    if (status == EPX_OK) {
        memset(pointer, 1, 100000);
        CHILD_EXPECT(epx_arena_alloc((size_t)own_reserve_bytes(), 64, &pointer) == EPX_ERR_NO_MEMORY);
    }
}

static void open__address_space_limit(void **state)
{
    (void)state;
    if (!address_space_can_be_limited()) {
        skip();
    }
    static const size_t spares[] = {0, 1, 8, 15, 17, 18, 19, 21, 30, 64, 200, 1000};
    for (size_t i = 0; i < sizeof spares / sizeof spares[0]; i++) {
        spare_bytes = spares[i] * MIB;
        run_in_child(open_and_use);
    }
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    CHILD_EXPECT(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void grow_past_file_limit(void)
{
    sigset_t mask;
    sigset_t pending;
    limit_file_size(MIB);
    void *small = NULL;
    void *large = NULL;
    CHILD_EXPECT(epx_arena_alloc(MIB / 2, 64, &small) == EPX_OK);
    CHILD_EXPECT(epx_arena_alloc(2 * MIB, 64, &large) == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(strstr(epx_error_text(), "RLIMIT_FSIZE") != NULL);
    CHILD_EXPECT(large == NULL && live_count() == 1);
    CHILD_EXPECT(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 0);
    CHILD_EXPECT(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && sigismember(&mask, SIGXFSZ) == 0);
    CHILD_EXPECT(epx_arena_alloc(1000, 64, &small) == EPX_OK);
    limit_file_size(RLIM_INFINITY);
    CHILD_EXPECT(epx_arena_alloc(2 * MIB, 64, &large) == EPX_OK);
}

static void open_under_file_limit_of_nothing(void)
{
    void *pointer = NULL;
    limit_file_size(0);
    CHILD_EXPECT(epx_arena_open_own() == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(epx_arena_alloc(1, 64, &pointer) == EPX_ERR_NO_MEMORY);
    limit_file_size(RLIM_INFINITY);
    CHILD_EXPECT(epx_arena_alloc(1, 64, &pointer) == EPX_OK);
}

static void alloc__file_size_limit(void **state)
{
    (void)state;
    run_in_child(grow_past_file_limit);
    run_in_child(open_under_file_limit_of_nothing);
}

static void fill_small_arena(void)
{
    uint8_t *pieces[8];
    size_t count = 0;
    CHILD_EXPECT(setenv("EPX_ARENA_MIB", "4", 1) == 0);
    while (count < 8) {
        void *piece;
        if (epx_arena_alloc(MIB, 64, &piece) != EPX_OK) {
            break;
        }
        pieces[count++] = piece;
    }
    CHILD_EXPECT(own_reserve_bytes() == 4 * MIB);
    CHILD_EXPECT(count == 3); /* a page of the fourth is the header's */
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_alloc(MIB, 64, &pointer) == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(strstr(epx_error_text(), "EPX_ARENA_MIB") != NULL && live_count() == 3);
    CHILD_EXPECT(epx_arena_alloc(1000, 64, &pointer) == EPX_OK);
    CHILD_EXPECT(epx_arena_free(pointer) == EPX_OK);
    /* The second's room alone is too small; with the first's it is not; the rest of the arena joins in at need. */
    memset(pieces[0], 1, MIB);
    memset(pieces[1], 1, MIB);
    CHILD_EXPECT(epx_arena_free(pieces[1]) == EPX_OK);
    CHILD_EXPECT(epx_arena_alloc(2 * MIB, 64, &pointer) == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(epx_arena_free(pieces[0]) == EPX_OK);
    CHILD_EXPECT(epx_arena_alloc(2 * MIB, 64, &pointer) == EPX_OK);
    for (size_t i = 0; i < 2 * MIB; i++) {
        CHILD_EXPECT(((uint8_t *)pointer)[i] == 0);
    }
    CHILD_EXPECT(epx_arena_free(pointer) == EPX_OK && epx_arena_free(pieces[2]) == EPX_OK);
    CHILD_EXPECT(epx_arena_alloc(4 * MIB - 65536, 64, &pointer) == EPX_OK);
    CHILD_EXPECT(live_count() == 1);
}

/* Small allocations that were freed in any order leave no slivers: all of the arena can be one allocation again. */
static void scatter_then_fill(void)
{
    void *pieces[3000];
    CHILD_EXPECT(setenv("EPX_ARENA_MIB", "2", 1) == 0);
    for (size_t i = 0; i < 3000; i++) {
        CHILD_EXPECT(epx_arena_alloc(1 + i % 600, 64, &pieces[i]) == EPX_OK);
        memset(pieces[i], 0xFF, 1 + i % 600);
    }
    for (size_t i = 0; i < 3000; i++) {
        CHILD_EXPECT(epx_arena_free(pieces[i * 1009 % 3000]) == EPX_OK);
    }
    void *pointer = NULL;
    size_t bytes = 2 * MIB - (size_t)sysconf(_SC_PAGESIZE);
    CHILD_EXPECT(epx_arena_alloc(bytes, 64, &pointer) == EPX_OK);
    for (size_t i = 0; i < bytes; i++) {
        CHILD_EXPECT(((uint8_t *)pointer)[i] == 0);
    }
}

static void alloc__arena_is_full(void **state)
{
    (void)state;
    run_in_child(fill_small_arena);
    run_in_child(scatter_then_fill);
}

static void open_with_bad_size(void)
{
    static const char *const texts[] = {"-1", "4k", "16777217", " 4"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CHILD_EXPECT(setenv("EPX_ARENA_MIB", texts[i], 1) == 0);
        CHILD_EXPECT(epx_arena_open_own() == EPX_ERR_CONFIG);
        CHILD_EXPECT(strstr(epx_error_text(), "EPX_ARENA_MIB") != NULL);
    }
    CHILD_EXPECT(setenv("EPX_ARENA_MIB", "2", 1) == 0);
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
}

static void open__bad_size(void **state)
{
    (void)state;
    run_in_child(open_with_bad_size);
}

/* More than the machine has left is refused before it is taken. */
static void ask_for_more_than_there_is(void)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)(epx_topology_memory_total_bytes() / MIB * 4));
    CHILD_EXPECT(setenv("EPX_ARENA_MIB", text, 1) == 0);
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_alloc(1000, 64, &pointer) == EPX_OK);
    uint64_t resident_bytes = own_resident_bytes();
    uint64_t bytes = epx_topology_memory_headroom_bytes() + 1024 * MIB;
    CHILD_EXPECT(epx_arena_alloc((size_t)bytes, 64, &pointer) == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(strstr(epx_error_text(), "bytes of memory are needed") != NULL);
    CHILD_EXPECT(own_resident_bytes() <= resident_bytes);
    CHILD_EXPECT(live_count() == 1);
    CHILD_EXPECT(epx_arena_alloc(MIB, 64, &pointer) == EPX_OK);
}

static void alloc__machine_is_full(void **state)
{
    (void)state;
    run_in_child(ask_for_more_than_there_is);
}

/* A program that closes descriptors it did not open gets an error, and its own file stays whole. */
static void lose_descriptor(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(close(fd) == 0);
    int other = memfd_create("other", MFD_CLOEXEC);
    CHILD_EXPECT(other == fd);
    CHILD_EXPECT(epx_arena_alloc(MIB, 64, &pointer) == EPX_ERR_SYSTEM);
    struct stat file;
    CHILD_EXPECT(fstat(other, &file) == 0 && file.st_size == 0);
    CHILD_EXPECT(live_count() == 0);
}

static void open_without_standard_descriptors(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    CHILD_EXPECT(close(STDIN_FILENO) == 0 && close(STDOUT_FILENO) == 0);
    CHILD_EXPECT(epx_arena_open_own() == EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(fd > STDERR_FILENO);
    CHILD_EXPECT(fcntl(STDIN_FILENO, F_GETFD) == -1 && fcntl(STDOUT_FILENO, F_GETFD) == -1);
}

static void open__odd_descriptors(void **state)
{
    (void)state;
    run_in_child(lose_descriptor);
    run_in_child(open_without_standard_descriptors);
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

static uint64_t own_file_bytes(void)
{
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    struct stat file;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    CHILD_EXPECT(fstat(fd, &file) == 0);
    return (uint64_t)file.st_size;
}

/* Pages of reserved memory come as they are needed. */
static void need_pages_by_and_by(void)
{
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_alloc(3 * MIB, 64, &pointer) == EPX_OK);
    uint64_t before = own_resident_bytes();
    CHILD_EXPECT(before >= 3 * MIB);
    uint8_t *large;
    CHILD_EXPECT(epx_arena_reserve(64 * MIB, 64, &pointer) == EPX_OK);
    large = pointer;
    CHILD_EXPECT(own_resident_bytes() == before && epx_arena_promised_bytes() == 64 * MIB);
    CHILD_EXPECT(epx_arena_need(large, 8 * MIB) == EPX_OK);
    uint64_t now = own_resident_bytes();
    CHILD_EXPECT(now == before + 8 * MIB && epx_arena_promised_bytes() == 56 * MIB);
    CHILD_EXPECT(epx_arena_need(large + MIB, 1) == EPX_OK && epx_arena_need(large, 0) == EPX_OK);
    CHILD_EXPECT(own_resident_bytes() == now);
    CHILD_EXPECT(epx_arena_need(large + 8 * MIB - 1, 2) == EPX_OK && epx_arena_need(large + 40 * MIB, 1) == EPX_OK);
    CHILD_EXPECT(own_resident_bytes() == now + MIB / 2);               /* a chunk each */
    CHILD_EXPECT(epx_arena_need(large + 7 * MIB, 34 * MIB) == EPX_OK); /* the gaps between them */
    CHILD_EXPECT(own_resident_bytes() == now + 33 * MIB);
    CHILD_EXPECT(all_zero(large, 64 * MIB));                              /* reading brings pages in too */
    CHILD_EXPECT(epx_arena_need(large + 60 * MIB, UINT64_MAX) == EPX_OK); /* no such range: left alone */
    CHILD_EXPECT(epx_arena_need(large + 41 * MIB, 100 * MIB) == EPX_OK && epx_arena_promised_bytes() == 0);
    CHILD_EXPECT(epx_arena_need(&now, sizeof now) == EPX_OK && epx_arena_need(NULL, 1) == EPX_OK);
}

/* Given back and taken again, over and over: zero each time, in the same place, and no page left over. */
static void reuse_large_places(void)
{
    void *pointer = NULL;
    CHILD_EXPECT(epx_arena_alloc(MIB, 64, &pointer) == EPX_OK);
    uint64_t before = own_resident_bytes();
    uint64_t file_bytes = 0;
    srand48(7);
    for (int round = 0; round < 60; round++) {
        uint8_t *large[3];
        for (int i = 0; i < 3; i++) {
            size_t bytes = (i == 0 ? 8 + (size_t)round % 9 : 16) * MIB;
            CHILD_EXPECT(epx_arena_reserve(bytes, 64, &pointer) == EPX_OK);
            large[i] = pointer;
            uint64_t needed = (uint64_t)lrand48() % (bytes / 2) + 1;
            CHILD_EXPECT(epx_arena_need(large[i], needed) == EPX_OK);
            CHILD_EXPECT(all_zero(large[i], needed) && all_zero(large[i] + bytes - 100000, 100000));
            memset(large[i], 1, needed);
            memset(large[i] + bytes - 100000, 2, 100000); /* pages that nobody asked for */
        }
        for (int i = 0; i < 3; i++) {
            CHILD_EXPECT(epx_arena_free(large[(i + round) % 3]) == EPX_OK);
        }
        file_bytes = round == 20 ? own_file_bytes() : file_bytes;
        CHILD_EXPECT(live_count() == 1 && epx_arena_promised_bytes() == 0);
        CHILD_EXPECT(own_resident_bytes() < before + 48 * MIB);
    }
    CHILD_EXPECT(own_file_bytes() <= file_bytes);
}

/* Memory that the program has locked cannot be given back by every way. */
static void lock_pages(void)
{
    void *pointer = NULL;
    uint8_t *part;
    CHILD_EXPECT(epx_arena_reserve(6 * MIB, 64, &pointer) == EPX_OK && epx_arena_need(pointer, MIB) == EPX_OK);
    part = pointer;
    memset(part, 7, MIB);
    if (mlock(part, 4 * MIB) != 0) {
        return; /* RLIMIT_MEMLOCK */
    }
    memset(part + 2 * MIB, 8, MIB);
    CHILD_EXPECT(epx_arena_free(pointer) == EPX_OK);
    uint64_t bytes = epx_topology_memory_headroom_bytes() * 2;
    CHILD_EXPECT(epx_arena_reserve((size_t)bytes, 64, &pointer) == EPX_ERR_NO_MEMORY);
    for (int i = 0; i < 2; i++) {
        CHILD_EXPECT(epx_arena_reserve(3 * MIB, 64, &pointer) == EPX_OK);
        CHILD_EXPECT(all_zero(pointer, 3 * MIB));
    }
}

static void promise_no_more_than_there_is(void)
{
    void *pointer = NULL;
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)(epx_topology_memory_total_bytes() / MIB * 4));
    CHILD_EXPECT(setenv("EPX_ARENA_MIB", text, 1) == 0);
    uint64_t part = epx_topology_memory_headroom_bytes() / 8 * 5;
    CHILD_EXPECT(epx_arena_reserve(part, 64, &pointer) == EPX_OK);
    void *second = NULL;
    CHILD_EXPECT(epx_arena_reserve(part, 64, &second) == EPX_ERR_NO_MEMORY);
    CHILD_EXPECT(strstr(epx_error_text(), "that earlier reservations have not taken yet") != NULL);
    CHILD_EXPECT(live_count() == 1 && own_resident_bytes() < MIB);
    CHILD_EXPECT(epx_arena_free(pointer) == EPX_OK && epx_arena_promised_bytes() == 0);
    CHILD_EXPECT(epx_arena_reserve(part, 64, &second) == EPX_OK);
}

static void reserve__pages(void **state)
{
    (void)state;
    run_in_child(need_pages_by_and_by);
    run_in_child(reuse_large_places);
    run_in_child(lock_pages);
    run_in_child(promise_no_more_than_there_is);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__address_space_limit),
        cmocka_unit_test(alloc__file_size_limit),
        cmocka_unit_test(alloc__arena_is_full),
        cmocka_unit_test(open__bad_size),
        cmocka_unit_test(alloc__machine_is_full),
        cmocka_unit_test(open__odd_descriptors),
        cmocka_unit_test(reserve__pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
