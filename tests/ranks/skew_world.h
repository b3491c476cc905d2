/*
 * Worlds whose ranks are late in turn: the same pairs of dispatch and combine, again and again with other delays, by
 * threads, by processes, and by processes on several made-up hosts. What comes out depends on nothing of that.
 */
#ifndef EPX_TESTS_SKEW_WORLD_H
#define EPX_TESTS_SKEW_WORLD_H

#include <stdint.h>

enum skew_form {
    SKEW_THREADS,
    SKEW_PROCESSES,
    SKEW_HOSTS, /* processes that meet over loopback */
};

/*
 * Runs every seed in every form, as often as asked, and compares the outputs with each other and with the reference.
 * EPX_TEST_SEED (default 1), EPX_SKEW_SEEDS, EPX_SKEW_REPEATS, EPX_SKEW_DELAY_MS (the longest delay before or after one
 * point of a round). The exit code.
 */
int skew_main(const char *program, const enum skew_form *forms, uint32_t form_count);

#endif
