#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "memory/arena_lack.h"

#define CHUNK  4096u
#define CHUNKS 500u

/* Random changes and questions, against a line of chunks. */
static void lack__like_a_painted_line(void **state)
{
    (void)state;
    const unsigned seed = (unsigned)epx_clock_ns();
    print_message("seed %u\n", seed);
    srandom(seed);
    struct epx_arena_lack lack;
    bool line[CHUNKS] = {false};
    assert_true(epx_arena_lack_init(&lack, (uint64_t)CHUNKS * CHUNK, CHUNK));
    for (int step = 0; step < 20000; step++) {
        uint64_t first = (uint64_t)random() % CHUNKS;
        uint64_t count = (uint64_t)random() % (random() % 2 == 0 ? CHUNKS - first + 1 : 3);
        count = first + count > CHUNKS ? CHUNKS - first : count;
        bool lacks = random() % 3 == 0;
        epx_arena_lack_set(&lack, first * CHUNK, count * CHUNK, lacks);
        for (uint64_t i = first; i < first + count; i++) {
            line[i] = lacks;
        }
        uint64_t offset = (uint64_t)random() % ((uint64_t)CHUNKS * CHUNK);
        uint64_t bytes = (uint64_t)random() % (8 * CHUNK);
        uint64_t last = bytes == 0 ? 0 : (offset + bytes - 1) / CHUNK;
        bool any = false;
        for (uint64_t i = offset / CHUNK; bytes > 0 && i <= last && i < CHUNKS; i++) {
            any = any || line[i];
        }
        assert_int_equal(epx_arena_lack_any(&lack, offset, offset + bytes), any);
        for (int want = 0; want < 2; want++) {
            uint64_t next = offset / CHUNK;
            while (next < CHUNKS && line[next] != (want == 1)) {
                next++;
            }
            assert_int_equal(epx_arena_lack_next(&lack, offset, (uint64_t)CHUNKS * CHUNK, want == 1), next * CHUNK);
        }
    }
    assert_false(epx_arena_lack_any(&lack, (uint64_t)CHUNKS * CHUNK, UINT64_MAX));
    epx_arena_lack_fini(&lack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lack__like_a_painted_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
