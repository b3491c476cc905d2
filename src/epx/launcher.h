/*
 * Rank, world size and meeting point as a launcher gives them to its processes in the environment.
 */
#ifndef EPX_EPX_LAUNCHER_H
#define EPX_EPX_LAUNCHER_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct epx_launch {
    const char *launcher; /* "mpirun", … */
    uint32_t rank;
    uint32_t rank_count;
    const char *rank_table; /* EPX_RANK_TABLE, null when unset; the environment's memory */
    bool has_hosts;         /* the launcher says that ranks are on several hosts */
    char root[256];         /* then the name or address of rank 0's host, "" when the launcher does not say it */
    const char *why;        /* what says so, for messages */
    uint8_t key[32];        /* of the job, without a rank table */
};

/*
 * The first launcher whose rank and world size are both set: EPX_RANK, OMPI_COMM_WORLD_RANK (OpenMPI), PMI_RANK (MPICH
 * and others), SLURM_PROCID, RANK (torchrun). EPX_ERR_CONFIG when there is none, when a number is not one or out of
 * range, or when nothing tells this job from others (no rank table, no EPX_JOB, no job variable of the launcher).
 */
EPX_NODISCARD enum epx_status epx_launch_read(struct epx_launch *launch);

#endif
