/*
 * The part of cmocka that the kernel tests use, for processors for which cmocka is not there: same names, same meaning.
 * A failed check ends its test; the program then goes on with the next one and fails at its end. One program, one
 * thread.
 */
#ifndef EPX_TESTS_STANDIN_CMOCKA_H
#define EPX_TESTS_STANDIN_CMOCKA_H

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

enum standin_outcome { STANDIN_PASSED, STANDIN_FAILED, STANDIN_SKIPPED };

static jmp_buf standin_end;

#define cmocka_unit_test(function)                                                                                     \
    {                                                                                                                  \
        .name = #function, .test_func = function                                                                       \
    }
#define skip() longjmp(standin_end, STANDIN_SKIPPED)
#define fail_msg(...)                                                                                                  \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        longjmp(standin_end, STANDIN_FAILED);                                                                          \
    } while (0)
#define standin_check(holds, text)                                                                                     \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            fail_msg("%s does not hold", text);                                                                        \
        }                                                                                                              \
    } while (0)
#define assert_true(condition)       standin_check(condition, #condition)
#define assert_null(pointer)         standin_check((pointer) == NULL, #pointer " == NULL")
#define assert_non_null(pointer)     standin_check((pointer) != NULL, #pointer " != NULL")
#define assert_string_equal(a, b)    standin_check(strcmp(a, b) == 0, #a " equals " #b)
#define assert_memory_equal(a, b, n) standin_check(memcmp(a, b, n) == 0, #a " equals " #b)
#define assert_int_equal(a, b)       standin_check((long long)(a) == (long long)(b), #a " == " #b)

static inline enum standin_outcome standin_run(const struct CMUnitTest *test)
{
    void *state = test->initial_state;
    int outcome = setjmp(standin_end);
    if (outcome == STANDIN_PASSED) {
        test->test_func(&state);
    }
    return (enum standin_outcome)outcome;
}

static inline int standin_run_group(const struct CMUnitTest *tests, size_t count, int (*setup)(void **state))
{
    static const char *const words[] = {"       OK", "  FAILED ", "  SKIPPED"};
    size_t counts[3] = {0};
    void *state = NULL;
    if (setup != NULL && setup(&state) != 0) {
        fprintf(stderr, "the setup of the group failed\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        enum standin_outcome outcome = standin_run(&tests[i]);
        counts[outcome]++;
        printf("[%s ] %s\n", words[outcome], tests[i].name);
        fflush(stdout);
    }
    printf("%zu passed, %zu failed, %zu skipped\n", counts[STANDIN_PASSED], counts[STANDIN_FAILED],
           counts[STANDIN_SKIPPED]);
    return counts[STANDIN_FAILED] == 0 && counts[STANDIN_PASSED] != 0 ? 0 : 1;
}

/* No test here has a setup or teardown of its own, no group a teardown. */
#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    ((void)sizeof(teardown), standin_run_group(tests, sizeof(tests) / sizeof(tests)[0], setup))

#endif
