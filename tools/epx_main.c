/*
 * The `epx` command.
 *   epx info      version, processors and cores, options with value, source and meaning
 *   epx version
 *   epx status    state of running or hung jobs of this host, from outside
 *   epx run       starts the ranks of a job, on this host or on several
 *   epx bench     timings against the floor and MPI, where it was built
 */
#include "epx/epx.h"
#include "run_main.h"
#include "status_command.h"

#ifdef EPX_BENCH
#include "bench_main.h"
#endif

#include <stdio.h>
#include <string.h>

static int print_usage(FILE *out, int exit_code)
{
    (void)fprintf(out, "usage: epx COMMAND\n"
                       "  info       version, processors and cores, and every option: value, source, allowed values, "
                       "meaning\n"
                       "  version    version alone\n"
                       "  status     state of running or hung jobs of this host, seen from outside; `epx status "
                       "--help`\n"
                       "  run        starts the ranks of a job, on this host or on several; `epx run --help`\n"
#ifdef EPX_BENCH
                       "  bench      timings against the floor and MPI; `epx bench --help` lists its options\n"
#endif
    );
    return exit_code;
}

static int finish(void)
{
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        (void)print_usage(stdout, 0);
        return finish();
    }
    if (argc >= 2 && strcmp(argv[1], "status") == 0) {
        return status_command(argc - 1, argv + 1);
    }
    if (argc >= 2 && strcmp(argv[1], "run") == 0) {
        static char name[] = "epx run";
        argv[1] = name;
        return run_main(argc - 1, argv + 1);
    }
#ifdef EPX_BENCH
    if (argc >= 2 && strcmp(argv[1], "bench") == 0) {
        static char name[] = "epx bench";
        argv[1] = name;
        return bench_main(argc - 1, argv + 1);
    }
#endif
    if (argc != 2) {
        return print_usage(stderr, 2);
    }
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        (void)printf("epx %s\n", epx_version());
        return finish();
    }
    if (strcmp(argv[1], "info") == 0) {
        (void)printf("epx %s\n\n", epx_version());
        epx_host_print(stdout);
        (void)printf("\n");
        epx_options_print(stdout);
        return finish();
    }
    (void)fprintf(stderr, "epx: unknown command '%s'\n", argv[1]);
    return print_usage(stderr, 2);
}
