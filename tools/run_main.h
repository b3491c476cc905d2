/* The subcommand `epx run`. */
#ifndef EPX_TOOLS_RUN_MAIN_H
#define EPX_TOOLS_RUN_MAIN_H

/* argv[0] is the name for messages. Exit status: as `epx run --help` says. Ends the program by the signal that ended
 * the ranks, when that signal was sent to this program. */
int run_main(int argc, char **argv);

#endif
