/* Random worlds through the CANN door, with ranks as threads of one process. */
#include "cann/property_cann_threads.h"

#define CASE_COUNT 300 /* about 750 worlds */

static void run_case(const struct property_case *test, struct property_report *reports)
{
    property_cann_run_threads(test, EPX_PRODUCT_HOST, reports);
}

int main(int argc, char **argv)
{
    static const struct property_program program = {
        .name = "test_property_cann",
        .case_count = CASE_COUNT,
        .rank_max = PROPERTY_CANN_RANK_MAX,
        .init = property_cann_case_draw,
        .run = run_case,
    };
    property_cann_environment_set();
    const int code = property_main(argc, argv, &program);
    property_cann_threads_print(program.name);
    return code;
}
