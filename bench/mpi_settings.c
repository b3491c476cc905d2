#include "mpi_settings.h"

#define OPENMPI                                                                                                        \
    "mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"

static const char *const openmpi[] = {OPENMPI, "-n", NULL};

/* The library's own choice between algorithms is off with dynamic rules: 1 is the linear one, 2 pairwise. */
static const char *const openmpi_linear[] = {
    OPENMPI, "--mca", "coll_tuned_use_dynamic_rules", "1", "--mca", "coll_tuned_alltoallv_algorithm", "1", "-n", NULL};
static const char *const openmpi_pairwise[] = {
    OPENMPI, "--mca", "coll_tuned_use_dynamic_rules", "1", "--mca", "coll_tuned_alltoallv_algorithm", "2", "-n", NULL};

/* UCX is otherwise taken with InfiniBand only. */
#define OPENMPI_UCX                                                                                                    \
    OPENMPI, "--mca", "pml", "ucx", "--mca", "opal_common_ucx_tls", "any", "--mca", "opal_common_ucx_devices", "any"

static const char *const openmpi_ucx[] = {OPENMPI_UCX, "-n", NULL};

/* UCX looks a hundred times before it lets the library yield; here once. */
static const char *const openmpi_ucx_yield[] = {OPENMPI_UCX, "--mca", "opal_common_ucx_progress_iterations",
                                                "1",         "-n",    NULL};

static const char *const mpich[] = {"mpirun.mpich", "-launcher", "fork", "-localhost", "127.0.0.1",
                                    "-bind-to",     "none",      "-n",   NULL};

static const struct bench_mpi_setting settings[] = {
    {"openmpi", "epx-bench-mpi-openmpi", openmpi, false, false},
    {"openmpi_linear", "epx-bench-mpi-openmpi", openmpi_linear, false, false},
    {"openmpi_pairwise", "epx-bench-mpi-openmpi", openmpi_pairwise, false, false},
    {"openmpi_ucx", "epx-bench-mpi-openmpi", openmpi_ucx, false, false},
    {"openmpi_ucx_yield", "epx-bench-mpi-openmpi", openmpi_ucx_yield, false, false},
    {"mpich", "epx-bench-mpi-mpich", mpich, true, true},
};

size_t bench_mpi_settings(const struct bench_mpi_setting **out)
{
    *out = settings;
    return sizeof settings / sizeof settings[0];
}
