/*
 * Ways to run the MPI engine that are worth comparing with: libraries and their settings. More ranks than cores is the
 * rule here, so that ranks are bound nowhere and yield while they wait, wherever the library can.
 */
#ifndef EPX_BENCH_MPI_SETTINGS_H
#define EPX_BENCH_MPI_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct bench_mpi_setting {
    const char *name;          /* also the engine's --variant */
    const char *program;       /* name of the engine built with this library */
    const char *const *prefix; /* argv before the number of ranks, which the program and its options follow; ends with
                                  null */
    bool within_cores;         /* on one host only for as many ranks as cores: ranks that wait keep the core */
    bool several_hosts;        /* runs on several hosts, too */
};

/* Returns how many there are; *out is static. */
size_t bench_mpi_settings(const struct bench_mpi_setting **out);

#endif
