/*
 * The inside of a communicator, for the files of this floor. All of it is private to the process; what is shared lies
 * behind `control`.
 */
#ifndef EPX_COMM_COMM_OBJECT_H
#define EPX_COMM_COMM_OBJECT_H

#include "comm/agreement.h"
#include "comm/bootstrap.h"
#include "comm/comm.h"
#include "comm/control_region.h"
#include "comm/hosts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/* How a rank waits for a step: it spins, then yields, then sleeps. Set when the communicator is opened. */
struct epx_wait_policy {
    uint64_t spin_ns; /* EPX_NEVER: spins for as long as it takes */
    uint32_t yield_count;
    uint64_t slice_ns; /* longest sleep, and time between two looks at the health of the others */
};

struct epx_comm {
    /* Constant while open. */
    char name[EPX_COMM_NAME_BYTES];
    uint8_t key[32]; /* of the world: those that go on after a loss meet by what is derived from it */
    uint32_t rank;
    uint32_t rank_count;
    uint32_t server_rank_count;
    pid_t process;                      /* a child of fork has no communicators */
    uint32_t here_count;                /* ranks on this host: rank_count in a world on one host */
    struct epx_bootstrap_result shared; /* of the ranks here */
    struct epx_arena **arenas;          /* by rank; a remote rank's is that of the rank here that stands for it */
    struct epx_hosts *hosts;            /* null in a world on one host */
    struct epx_control *control;
    struct epx_control_slot *slot; /* the own one */
    struct epx_wait_policy policy;
    char *order_tag; /* see step.c */

    _Atomic int64_t op_timeout_ms;

    /* See shrink.h: touched by its caller alone. */
    uint64_t shrink_generation; /* the latest in which this rank has taken part */
    bool shrunk;                /* a new communicator was made */

    /* Of the running round: touched by the thread that runs it. Rounds follow each other through queue_lock. */
    uint64_t step;                       /* steps this rank has passed */
    uint64_t parts;                      /* parts of rounds that this rank has begun */
    bool paces;                          /* false when others have not kept up in this round */
    struct epx_agreement_entry *entries; /* rank_count, scratch of epx_round_agree */

    /* The order of this rank's rounds. `ended` counts rounds that are over; until the communicator fails they end in
     * the order of their numbers. */
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_moved;
    _Atomic uint64_t reserved; /* without the lock */
    uint64_t begun;            /* the latest round whose turn has come: it runs while begun > ended */
    uint64_t ended;
    uint64_t idle_since_ns; /* since when a round waits for its turn while none runs; 0: not so */

    /* Held while the own failure record is written and offered: see failure.c. */
    pthread_mutex_t failure_lock;

    /* The wait in which the rank is, for epx_comm_blame: written by the round's thread, read by any. 0: none. */
    _Atomic uint64_t wait_step;
    _Atomic uint64_t wait_since_ns;
    uint64_t wait_deadline_ns; /* of the same wait; EPX_NEVER: none */
    uint64_t wait_check_ns;    /* when to look at the others' health */
    bool wait_world;           /* the step is one at which all hosts meet */
};

/* EPX_ERR_STATE in a child of fork, where the control region is not mapped. */
EPX_NODISCARD enum epx_status epx_comm_check_process(const struct epx_comm *comm);

static inline bool epx_comm_failed(const struct epx_comm *comm)
{
    return epx_word_failed(atomic_load_explicit(&comm->control->word.value, memory_order_acquire)) != 0;
}

#endif
