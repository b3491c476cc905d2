/* Ranks that are late in turn, on one host. */
#include "ranks/skew_world.h"

int main(void)
{
    static const enum skew_form forms[] = {SKEW_THREADS, SKEW_PROCESSES};
    return skew_main("test_skew", forms, 2);
}
