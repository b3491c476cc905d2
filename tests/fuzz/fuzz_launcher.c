/* Any bytes as the variables of a launcher, lines of one letter, which chooses the variable, and its text: a place in a
 * world, or a refusal with a text. */
#include "base/config.h"
#include "comm/comm.h"
#include "epx/launcher.h"
#include "fuzz/fake_environment.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const names[] = {"EPX_RANK",
                                    "EPX_WORLD_SIZE",
                                    "EPX_JOB",
                                    "EPX_RANK_TABLE",
                                    "OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_SIZE",
                                    "OMPI_COMM_WORLD_LOCAL_SIZE",
                                    "OMPI_MCA_ess_base_jobid",
                                    "PMIX_NAMESPACE",
                                    "PMI_RANK",
                                    "PMI_SIZE",
                                    "PMI_JOBID",
                                    "MPI_LOCALNRANKS",
                                    "SLURM_PROCID",
                                    "SLURM_NTASKS",
                                    "SLURM_JOB_ID",
                                    "SLURM_STEP_ID",
                                    "SLURM_NNODES",
                                    "SLURM_STEP_NODELIST",
                                    "SLURM_JOB_NODELIST",
                                    "RANK",
                                    "WORLD_SIZE",
                                    "MASTER_ADDR",
                                    "MASTER_PORT",
                                    "TORCHELASTIC_RUN_ID",
                                    "LOCAL_WORLD_SIZE"};

#define NAMES    (sizeof names / sizeof names[0])
#define LINE_MAX 16

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *lines[LINE_MAX];
    size_t line_count = 0;
    struct epx_launch launch;
    for (size_t i = 0; i < NAMES; i++) {
        fake_environment_set(names[i], NULL);
    }
    while (bytes > 0 && line_count < LINE_MAX) {
        char *line = fake_environment_line(&data, &bytes);
        lines[line_count++] = line;
        if (line[0] != '\0') {
            fake_environment_set(names[(uint8_t)(line[0] - 'a') % NAMES], line + 1);
        }
    }
    epx_error_text_set("");
    if (epx_launch_read(&launch) == EPX_OK) {
        require(launch.rank < launch.rank_count && launch.rank_count <= EPX_COMM_RANK_MAX);
        require(memchr(launch.root, '\0', sizeof launch.root) != NULL);
        require(!launch.has_hosts || launch.why != NULL);
    } else {
        require(epx_error_text()[0] != '\0');
    }
    fake_environment_forget();
    while (line_count > 0) {
        free(lines[--line_count]);
    }
    return 0;
}
