/* Random worlds with ranks as threads of one process. */
#include "ranks/property_world.h"

#define RANK_MAX   16
#define CASE_COUNT 600 /* about 1500 worlds */

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_local",
        .case_count = CASE_COUNT,
        .rank_max = RANK_MAX,
        .init = property_case_init,
        .run = property_case_run_threads,
    };
    return property_main(argc, argv, &program);
}
