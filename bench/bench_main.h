/* The subcommand `epx bench`. */
#ifndef EPX_BENCH_BENCH_MAIN_H
#define EPX_BENCH_BENCH_MAIN_H

/* argv[0] is the name for messages. Exit status: 0 all measured and all results right; 1 not so; 2 wrong command line.
 * Ends the program by the signal that interrupted it. */
int bench_main(int argc, char **argv);

#endif
