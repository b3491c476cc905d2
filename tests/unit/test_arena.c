#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "child_process.h"

#include "base/clock.h"
#include "memory/arena.h"
#include "memory/arena_stray.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void *alloc(size_t bytes, size_t align)
{
    void *pointer = NULL;
    enum epx_status status = epx_arena_alloc(bytes, align, &pointer);
    if (status != EPX_OK) {
        fail_msg("alloc(%zu, %zu): %s", bytes, align, epx_error_text());
    }
    return pointer;
}

static void expect_bytes(const uint8_t *memory, size_t bytes, uint8_t value)
{
    for (size_t i = 0; i < bytes; i++) {
        if (memory[i] != value) {
            fail_msg("byte %zu of %zu is %u, expected %u", i, bytes, memory[i], value);
        }
    }
}

static void expect_usage(uint64_t bytes, uint64_t count)
{
    uint64_t live_bytes = 0;
    uint64_t live_count = 0;
    epx_arena_usage(&live_bytes, &live_count);
    assert_int_equal(live_bytes, bytes);
    assert_int_equal(live_count, count);
}

static void alloc__gives_distinct_places_even_for_no_bytes(void **state)
{
    (void)state;
    void *first = alloc(0, 64);
    void *second = alloc(0, 1);
    assert_ptr_not_equal(first, second);
    expect_usage(0, 2);
    uint64_t offset = 0;
    assert_true(epx_arena_offset_of(first, 0, &offset));
    assert_false(epx_arena_offset_of(first, 1, &offset));
    assert_int_equal(epx_arena_free(first), EPX_OK);
    assert_int_equal(epx_arena_free(second), EPX_OK);
    expect_usage(0, 0);
}

static void alloc__keeps_alignment(void **state)
{
    (void)state;
    void *pointers[22];
    for (size_t i = 0; i < 22; i++) {
        size_t align = (size_t)1 << i;
        pointers[i] = alloc(100 + i, align);
        assert_int_equal((uintptr_t)pointers[i] % (align < 64 ? 64 : align), 0);
    }
    for (size_t i = 0; i < 22; i++) {
        assert_int_equal(epx_arena_free(pointers[i]), EPX_OK);
    }
}

static void alloc__refuses_bad_alignment(void **state)
{
    (void)state;
    void *pointer = NULL;
    assert_int_equal(epx_arena_alloc(64, 0, &pointer), EPX_ERR_INVALID);
    assert_int_equal(epx_arena_alloc(64, 96, &pointer), EPX_ERR_INVALID);
    assert_non_null(strstr(epx_error_text(), "96"));
    assert_int_equal(epx_arena_alloc(64, 4 * MIB, &pointer), EPX_ERR_INVALID);
    assert_null(pointer);
}

static void alloc__refuses_what_cannot_be(void **state)
{
    (void)state;
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    void *pointer = NULL;
    static const size_t differences[] = {0, 1, 63, 64, 4095, 4096, 65536, 3 * MIB};
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        assert_int_equal(epx_arena_alloc(SIZE_MAX - differences[i], 64, &pointer), EPX_ERR_NO_MEMORY);
        assert_int_equal(epx_arena_alloc(SIZE_MAX - differences[i], 2 * MIB, &pointer), EPX_ERR_NO_MEMORY);
    }
    assert_int_equal(epx_arena_alloc(reserve_bytes, 64, &pointer), EPX_ERR_NO_MEMORY);
    assert_non_null(strstr(epx_error_text(), "EPX_ARENA_MIB"));
    assert_null(pointer);
    expect_usage(0, 0);
}

static void free__refuses_what_is_no_start(void **state)
{
    (void)state;
    uint8_t *pointer = alloc(1000, 64);
    uint8_t *large = alloc(3 * MIB, 64);
    int local = 0;
    assert_int_equal(epx_arena_free(NULL), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_arena_free(&local), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_arena_free(pointer + 1), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_arena_free(pointer + 64), EPX_ERR_NOT_FOUND);
    assert_non_null(strstr(epx_error_text(), "64 bytes inside"));
    assert_int_equal(epx_arena_free(large + MIB), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_arena_free(large + (1ull << 45)), EPX_ERR_NOT_FOUND);
    expect_usage(1000 + 3 * MIB, 2);
    assert_int_equal(epx_arena_free(pointer), EPX_OK);
    assert_int_equal(epx_arena_free(pointer), EPX_ERR_NOT_FOUND);
    assert_int_equal(epx_arena_free(large), EPX_OK);
    assert_int_equal(epx_arena_free(large), EPX_ERR_NOT_FOUND);
    expect_usage(0, 0);
}

static void offset_of__is_inside_one_allocation(void **state)
{
    (void)state;
    uint8_t *first = alloc(100, 64);
    uint8_t *second = alloc(100, 64);
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct epx_arena *arena = epx_arena_attach_by_id(&id);
    assert_non_null(arena);

    uint64_t offset = 0;
    assert_true(epx_arena_offset_of(first, 100, &offset));
    assert_ptr_equal(epx_arena_at(arena, offset, 100), first);
    assert_true(epx_arena_offset_of(first + 30, 70, &offset));
    assert_ptr_equal(epx_arena_at(arena, offset, 70), first + 30);
    offset = 77;
    assert_false(epx_arena_offset_of(first + 30, 71, &offset));
    assert_false(epx_arena_offset_of(first, 101, &offset));
    assert_false(epx_arena_offset_of(first, (size_t)(second - first) + 1, &offset));
    assert_false(epx_arena_offset_of(first, SIZE_MAX, &offset));
    assert_false(epx_arena_offset_of(&offset, 1, &offset));
    assert_false(epx_arena_offset_of(NULL, 0, &offset));
    assert_false(epx_arena_offset_of(epx_arena_at(arena, 0, 8), 8, &offset));
    assert_int_equal(offset, 77);
    assert_int_equal(epx_arena_free(first), EPX_OK);
    assert_false(epx_arena_offset_of(first, 1, &offset));
    assert_int_equal(epx_arena_free(second), EPX_OK);
    epx_arena_detach(arena);
}

/* Answers are kept by thread, and forgotten when any allocation ends. */
static void offset_of__forgets_what_is_freed(void **state)
{
    (void)state;
    uint64_t offset;
    uint8_t *first = alloc(256, 64);
    for (int i = 0; i < 2; i++) {
        assert_true(epx_arena_offset_of(first, 256, &offset));
        assert_int_equal(epx_arena_place_of(first), offset);
        assert_true(epx_arena_offset_of(first + 64, 192, &offset));
        assert_false(epx_arena_offset_of(first + 64, 193, &offset));
        assert_false(epx_arena_strays(first, 256));
        assert_true(epx_arena_strays(first, 257));
    }
    assert_int_equal(epx_arena_free(first), EPX_OK);
    assert_false(epx_arena_offset_of(first, 1, &offset));
    assert_true(epx_arena_strays(first, 1));
    uint8_t *second = alloc(64, 64);
    assert_ptr_equal(second, first);
    assert_true(epx_arena_offset_of(second, 64, &offset));
    assert_false(epx_arena_offset_of(second, 65, &offset));
    assert_int_equal(epx_arena_free(second), EPX_OK);
}

static void *free_main(void *memory)
{
    enum epx_status status = epx_arena_free(memory);
    return status == EPX_OK ? memory : NULL;
}

static void offset_of__learns_what_another_thread_frees(void **state)
{
    (void)state;
    uint64_t offset;
    pthread_t thread;
    void *freed = NULL;
    uint8_t *memory = alloc(256, 64);
    assert_true(epx_arena_offset_of(memory, 256, &offset));
    assert_int_equal(pthread_create(&thread, NULL, free_main, memory), 0);
    assert_int_equal(pthread_join(thread, &freed), 0);
    assert_ptr_equal(freed, memory);
    assert_false(epx_arena_offset_of(memory, 1, &offset));
}

/* More than a thread keeps. */
static void offset_of__many_allocations(void **state)
{
    (void)state;
    static uint8_t *memory[1000];
    uint64_t offset;
    for (size_t i = 0; i < 1000; i++) {
        memory[i] = alloc(64 + 64 * (i % 5), 64);
    }
    for (size_t n = 0; n < 3000; n++) {
        size_t i = n * 7 % 1000;
        assert_true(epx_arena_offset_of(memory[i], 64 + 64 * (i % 5), &offset));
        assert_int_equal(offset, epx_arena_place_of(memory[i]));
        assert_false(epx_arena_offset_of(memory[i], 65 + 64 * (i % 5), &offset));
    }
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(epx_arena_free(memory[i]), EPX_OK);
    }
}

static uint8_t *parents;

static void look_in_child(void)
{
    uint64_t offset;
    void *own = NULL;
    CHILD_EXPECT(!epx_arena_offset_of(parents, 1, &offset));
    CHILD_EXPECT(!epx_arena_strays(parents, 1));
    if (EPX_THREAD_SANITIZER) {
        return; /* it starts no thread, and so no arena, in the child of a process with threads */
    }
    CHILD_EXPECT(epx_arena_alloc(64, 64, &own) == EPX_OK);
    /* Its arena may be where the parent's is, and its allocation, too. */
    CHILD_EXPECT(!epx_arena_offset_of(parents, 256, &offset));
    CHILD_EXPECT(epx_arena_offset_of(own, 64, &offset) && !epx_arena_offset_of(own, 65, &offset));
}

static void offset_of__child_of_fork(void **state)
{
    (void)state;
    uint64_t offset;
    parents = alloc(256, 64);
    assert_true(epx_arena_offset_of(parents, 256, &offset));
    run_in_child(look_in_child);
    assert_true(epx_arena_offset_of(parents, 256, &offset));
    assert_int_equal(epx_arena_free(parents), EPX_OK);
}

static void at__stays_inside_the_committed_part(void **state)
{
    (void)state;
    uint8_t *pointer = alloc(MIB, 64);
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct epx_arena *arena = epx_arena_attach_by_id(&id);
    const struct epx_arena_header *header = epx_arena_at(arena, 0, sizeof *header);
    assert_non_null(header);
    assert_int_equal(header->magic, EPX_ARENA_MAGIC);
    assert_int_equal(header->reserve_bytes, reserve_bytes);
    uint64_t committed_bytes = header->committed_bytes;
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    assert_true(committed_bytes <= (uint64_t)file.st_size);
    assert_true(committed_bytes >= MIB);
    assert_non_null(epx_arena_at(arena, committed_bytes - 8, 8));
    assert_null(epx_arena_at(arena, committed_bytes - 8, 9));
    assert_null(epx_arena_at(arena, committed_bytes + 1, 0));
    assert_null(epx_arena_at(arena, 8, UINT64_MAX));
    assert_null(epx_arena_at(arena, UINT64_MAX, 8));
    assert_false(epx_arena_owner_dead(arena));
    assert_int_equal(epx_arena_owner_pid(arena), (uint32_t)getpid());
    epx_arena_detach(arena);
    assert_int_equal(epx_arena_free(pointer), EPX_OK);
}

static void alloc__zeroes_reused_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 64, 1000, 4096, 65535, 65536, 200000, 3 * MIB + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *first = alloc(sizes[i], 64);
        expect_bytes(first, sizes[i], 0);
        memset(first, 0xA5, sizes[i]);
        assert_int_equal(epx_arena_free(first), EPX_OK);
        uint8_t *again = alloc(sizes[i], 64);
        assert_ptr_equal(again, first);
        expect_bytes(again, sizes[i], 0);
        assert_int_equal(epx_arena_free(again), EPX_OK);
    }
}

static void alloc__reuses_freed_neighbours_as_one(void **state)
{
    (void)state;
    uint8_t *pieces[8];
    for (size_t i = 0; i < 8; i++) {
        pieces[i] = alloc(MIB, 64);
    }
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct stat before;
    struct stat after;
    assert_int_equal(fstat(fd, &before), 0);
    static const size_t order[] = {3, 5, 4, 0, 7, 1, 2, 6};
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(epx_arena_free(pieces[order[i]]), EPX_OK);
    }
    uint8_t *whole = alloc(8 * MIB, 64);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(epx_arena_free(whole), EPX_OK);
}

#define SLOTS 64

struct slot {
    uint8_t *memory;
    size_t bytes;
    uint8_t value;
};

static size_t random_size(unsigned *random)
{
    static const size_t limits[] = {8, 200, 5000, 70000, 1500000};
    return (size_t)rand_r(random) % limits[rand_r(random) % 5];
}

/* Every allocation keeps its bytes, is zero at first and overlaps no other; usage adds up. */
static void churn(unsigned seed, size_t steps, bool alone)
{
    unsigned random = seed;
    struct slot slots[SLOTS] = {0};
    uint64_t live_bytes = 0;
    uint64_t live_count = 0;
    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[rand_r(&random) % SLOTS];
        if (slot->memory != NULL) {
            expect_bytes(slot->memory, slot->bytes, slot->value);
            assert_int_equal(epx_arena_free(slot->memory), EPX_OK);
            live_bytes -= slot->bytes;
            live_count--;
            slot->memory = NULL;
        } else {
            size_t align = (size_t)1 << (rand_r(&random) % 14);
            slot->bytes = random_size(&random);
            slot->memory = alloc(slot->bytes, align);
            slot->value = (uint8_t)rand_r(&random);
            assert_int_equal((uintptr_t)slot->memory % align, 0);
            expect_bytes(slot->memory, slot->bytes, 0);
            if (slot->bytes > 0) {
                memset(slot->memory, slot->value, slot->bytes);
            }
            live_bytes += slot->bytes;
            live_count++;
        }
        if (alone) {
            expect_usage(live_bytes, live_count);
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].memory != NULL) {
            expect_bytes(slots[i].memory, slots[i].bytes, slots[i].value);
            assert_int_equal(epx_arena_free(slots[i].memory), EPX_OK);
        }
    }
}

static void alloc_and_free__random_sizes(void **state)
{
    (void)state;
    unsigned seed = (unsigned)epx_clock_ns();
    print_message("seed %u\n", seed);
    churn(seed, 3000, true);
    expect_usage(0, 0);
}

static void *churn_main(void *seed)
{
    churn(*(unsigned *)seed, 800, false);
    return NULL;
}

static void alloc_and_free__from_four_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned seeds[4];
    unsigned seed = (unsigned)epx_clock_ns();
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 4; i++) {
        seeds[i] = seed + i;
        assert_int_equal(pthread_create(&threads[i], NULL, churn_main, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    expect_usage(0, 0);
}

static void own__descriptor_is_sealed_and_closes_on_exec(void **state)
{
    (void)state;
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    assert_true(fd > STDERR_FILENO);
    assert_true((fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(ftruncate(fd, 0), -1);
}

/* The library's thread leaves every signal to the program's threads. */
static void own__watch_thread_takes_no_signal(void **state)
{
    (void)state;
    assert_int_equal(epx_arena_open_own(), EPX_OK);
    struct epx_arena_id id;
    int fd;
    uint64_t reserve_bytes;
    epx_arena_own_info(&id, &fd, &reserve_bytes);
    struct epx_arena *arena = epx_arena_attach_by_id(&id);
    const struct epx_arena_header *header = epx_arena_at(arena, 0, sizeof *header);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%u/status", header->life);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[256];
    unsigned long long blocked = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "SigBlk: %llx", &blocked);
    }
    fclose(file);
    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP) {
            assert_true((blocked >> (number - 1) & 1) == 1);
        }
    }
    epx_arena_detach(arena);
}

/* Allocations side by side, so that what is released meets free memory on both sides. */
static void free__after_a_failure_is_held_back(void **state)
{
    (void)state;
#if !EPX_THREAD_SANITIZER
    skip();
#endif
    void *pieces[5];
    void *other = NULL;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(epx_arena_alloc(((size_t)1 << 20), 64, &pieces[i]), EPX_OK);
    }
    epx_arena_readers_add();
    epx_arena_readers_add();
    assert_int_equal(epx_arena_free(pieces[0]), EPX_OK);
    assert_int_equal(epx_arena_free(pieces[4]), EPX_OK);
    epx_arena_readers_stray();
    for (int i = 1; i < 3; i++) {
        assert_int_equal(epx_arena_free(pieces[i]), EPX_OK);
        assert_int_equal(epx_arena_free(pieces[i]), EPX_ERR_NOT_FOUND);
    }
    epx_arena_readers_remove();
    assert_int_equal(epx_arena_alloc(2 * ((size_t)1 << 20), 64, &other), EPX_OK);
    assert_ptr_not_equal(other, pieces[0]);
    assert_ptr_not_equal(other, pieces[1]);
    assert_int_equal(epx_arena_free(other), EPX_OK);
    epx_arena_readers_remove();
    assert_int_equal(epx_arena_free(pieces[3]), EPX_OK);
    assert_int_equal(epx_arena_alloc(5 * ((size_t)1 << 20), 64, &other), EPX_OK);
    assert_ptr_equal(other, pieces[0]);
    assert_int_equal(epx_arena_free(other), EPX_OK);
}

int main(void)
{
    /* One process, one arena: the tests run in this order on the same one. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__gives_distinct_places_even_for_no_bytes),
        cmocka_unit_test(alloc__keeps_alignment),
        cmocka_unit_test(alloc__refuses_bad_alignment),
        cmocka_unit_test(alloc__refuses_what_cannot_be),
        cmocka_unit_test(free__refuses_what_is_no_start),
        cmocka_unit_test(offset_of__is_inside_one_allocation),
        cmocka_unit_test(offset_of__forgets_what_is_freed),
        cmocka_unit_test(offset_of__learns_what_another_thread_frees),
        cmocka_unit_test(offset_of__many_allocations),
        cmocka_unit_test(offset_of__child_of_fork),
        cmocka_unit_test(at__stays_inside_the_committed_part),
        cmocka_unit_test(alloc__zeroes_reused_memory),
        cmocka_unit_test(alloc__reuses_freed_neighbours_as_one),
        cmocka_unit_test(alloc_and_free__random_sizes),
        cmocka_unit_test(alloc_and_free__from_four_threads),
        cmocka_unit_test(own__descriptor_is_sealed_and_closes_on_exec),
        cmocka_unit_test(own__watch_thread_takes_no_signal),
        cmocka_unit_test(free__after_a_failure_is_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
