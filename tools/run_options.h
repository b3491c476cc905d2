/* The command line of `epx run`. */
#ifndef EPX_TOOLS_RUN_OPTIONS_H
#define EPX_TOOLS_RUN_OPTIONS_H

#include "run_hosts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run_options {
    uint32_t rank_count; /* that this program is to see to, on whatever host */
    uint32_t first_rank; /* of a part; else 0 */
    uint32_t world_size; /* of a part more than rank_count */
    bool is_part;        /* of a job whose other ranks somebody else sees to: run_part.h */
    struct run_hosts hosts;
    char *remote_epx;     /* this program's file on other hosts */
    char *root;           /* EPX_ROOT for the ranks; null: the caller's */
    char *const *program; /* and its arguments; ends with null */
    char **variables;     /* NAME=VALUE, in the order of the command line */
    size_t variable_count;
    bool bind;
    bool tag;
    int64_t timeout_ns; /* 0: none */
    int64_t linger_ns;
    int64_t kill_after_ns;
};

/* `processors` is the default of rank_count. Ends the program with status 2 when the command line is wrong, with 0
 * after
 * --help. False: no memory. */
bool run_options_init(struct run_options *options, uint32_t processors, int argc, char **argv);
void run_options_fini(struct run_options *options);

#endif
