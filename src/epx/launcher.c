#include "epx/launcher.h"

#include "base/config.h"
#include "base/digest.h"
#include "comm/comm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB_VARIABLE_MAX 4

struct launcher {
    const char *name;
    const char *rank;
    const char *rank_count;
    const char *job[JOB_VARIABLE_MAX]; /* together they name the job; those that are unset are left out */
    bool siblings;                     /* its processes on a host have one parent: the last resort */
    const char *here_count;            /* ranks of this host, or null */
    const char *host_count;            /* hosts, or null */
    const char *root[2];               /* rank 0's host: the first that is set; a list of hosts counts by its first */
};

static const struct launcher launchers[] = {
    {"EPX_RANK", "EPX_RANK", "EPX_WORLD_SIZE", {NULL}, false, NULL, NULL, {NULL}},
    {"mpirun (OpenMPI)",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"},
     true,
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     NULL,
     {NULL}},
    {"mpiexec (PMI)",
     "PMI_RANK",
     "PMI_SIZE",
     {"PMI_JOBID", "PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID"},
     true,
     "MPI_LOCALNRANKS",
     NULL,
     {NULL}},
    {"srun",
     "SLURM_PROCID",
     "SLURM_NTASKS",
     {"SLURM_JOB_ID", "SLURM_STEP_ID"},
     false,
     NULL,
     "SLURM_NNODES",
     {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}},
    {"torchrun",
     "RANK",
     "WORLD_SIZE",
     {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"},
     false,
     "LOCAL_WORLD_SIZE",
     NULL,
     {"MASTER_ADDR"}},
};

static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static enum epx_status read_number(const char *name, uint32_t minimum, uint32_t maximum, uint32_t *value)
{
    const char *text = variable(name);
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || number < minimum || number > maximum) {
        return epx_fail(EPX_ERR_CONFIG, "%s is \"%s\", must be in [%u, %u]", name, text, minimum, maximum);
    }
    *value = (uint32_t)number;
    return EPX_OK;
}

static const struct launcher *find(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        if (variable(launchers[i].rank) != NULL && variable(launchers[i].rank_count) != NULL) {
            return &launchers[i];
        }
    }
    return NULL;
}

/* Digest of what names the job; false when nothing does. */
static bool job_key(const struct launcher *launcher, uint8_t key[32])
{
    struct epx_digest_state state;
    bool named = false;
    epx_digest_init(&state);
    epx_digest_update(&state, "epx launch", sizeof "epx launch");
    epx_digest_update(&state, launcher->name, strlen(launcher->name) + 1);
    for (int i = 0; i < JOB_VARIABLE_MAX && launcher->job[i] != NULL; i++) {
        const char *text = variable(launcher->job[i]);
        if (text != NULL) {
            epx_digest_update(&state, launcher->job[i], strlen(launcher->job[i]) + 1);
            epx_digest_update(&state, text, strlen(text) + 1);
            named = true;
        }
    }
    if (epx_option_is_set(EPX_OPTION_JOB)) {
        const char *job = epx_option_text(EPX_OPTION_JOB);
        epx_digest_update(&state, job, strlen(job) + 1);
        named = true;
    }
    if (!named && launcher->siblings) {
        pid_t parent = getppid();
        epx_digest_update(&state, &parent, sizeof parent);
        named = true;
    }
    epx_digest_final(&state, key);
    return named;
}

/* The first host of "a", "a,b", "n[3-5,9],b", "n[3-5]-ib": up to the list's first name. False when it is too long. */
static bool first_host(const char *list, char *host, size_t host_bytes)
{
    size_t name = strcspn(list, "[,");
    size_t number = 0;
    const char *rest = "";
    if (list[name] == '[') {
        number = strcspn(list + name + 1, "-,]");
        rest = strchr(list + name, ']');
        rest = rest != NULL ? rest + 1 : "";
    }
    int bytes = snprintf(host, host_bytes, "%.*s%.*s%.*s", (int)name, list, (int)number,
                         number > 0 ? list + name + 1 : "", (int)strcspn(rest, ","), rest);
    return bytes >= 0 && (size_t)bytes < host_bytes;
}

static enum epx_status read_hosts(const struct launcher *launcher, struct epx_launch *launch)
{
    uint32_t number;
    if (launcher->here_count != NULL && variable(launcher->here_count) != NULL) {
        EPX_TRY(read_number(launcher->here_count, 1, launch->rank_count, &number));
        launch->has_hosts = number < launch->rank_count;
        launch->why = launcher->here_count;
    } else if (launcher->host_count != NULL && variable(launcher->host_count) != NULL) {
        EPX_TRY(read_number(launcher->host_count, 1, UINT32_MAX, &number));
        launch->has_hosts = number > 1;
        launch->why = launcher->host_count;
    }
    for (int i = 0; launch->has_hosts && launch->root[0] == '\0' && i < 2 && launcher->root[i] != NULL; i++) {
        const char *list = variable(launcher->root[i]);
        if (list != NULL && !first_host(list, launch->root, sizeof launch->root)) {
            return epx_fail(EPX_ERR_CONFIG, "%s is longer than %zu characters", launcher->root[i],
                            sizeof launch->root - 1);
        }
    }
    return EPX_OK;
}

enum epx_status epx_launch_read(struct epx_launch *launch)
{
    const struct launcher *launcher = find();
    if (launcher == NULL) {
        return epx_fail(EPX_ERR_CONFIG, "no launcher: none of EPX_RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID, "
                                        "RANK is set together with its world size");
    }
    memset(launch, 0, sizeof *launch);
    launch->launcher = launcher->name;
    EPX_TRY(read_number(launcher->rank_count, 1, EPX_COMM_RANK_MAX, &launch->rank_count));
    EPX_TRY(read_number(launcher->rank, 0, launch->rank_count - 1, &launch->rank));
    EPX_TRY(read_hosts(launcher, launch));
    launch->rank_table = epx_option_is_set(EPX_OPTION_RANK_TABLE) ? epx_option_text(EPX_OPTION_RANK_TABLE) : NULL;
    if (!job_key(launcher, launch->key) && launch->rank_table == NULL) {
        return epx_fail(EPX_ERR_CONFIG, "%s is set, and EPX_RANK_TABLE or EPX_JOB must say where the ranks meet",
                        launcher->rank);
    }
    return EPX_OK;
}
