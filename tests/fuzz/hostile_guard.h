/* Marks behind all memory of the arena: what is written beyond an allocation is found. */
#ifndef EPX_TESTS_FUZZ_HOSTILE_GUARD_H
#define EPX_TESTS_FUZZ_HOSTILE_GUARD_H

#include <stdbool.h>

/* Aborts when a mark has changed. */
void hostile_guard_check(void);

void hostile_require(bool condition);

#endif
