/* `epx status`: worlds of this host, looked at from outside. */
#ifndef EPX_TOOLS_STATUS_COMMAND_H
#define EPX_TOOLS_STATUS_COMMAND_H

/* argv[0] is the command's name. Exit status: 0 healthy, 1 failed, overdue or lost a rank, 2 wrong command line, 3
 * nothing found, 4 not permitted, 5 the output or the search failed. */
int status_command(int argc, char **argv);

#endif
