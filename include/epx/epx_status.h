/*
 * Status codes of epx. Every function that can fail returns one; the text of the last failure of the calling thread
 * is epx_last_error() (epx/epx.h).
 */
#ifndef EPX_EPX_STATUS_H
#define EPX_EPX_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum epx_status {
    EPX_OK = 0,

    /* The caller's arguments: nothing was started. */
    EPX_ERR_NULL = 1,        /* a required pointer is null */
    EPX_ERR_INVALID = 2,     /* a value is outside its range */
    EPX_ERR_DTYPE = 3,       /* a tensor has a dtype that the operation does not take */
    EPX_ERR_SHAPE = 4,       /* a tensor has the wrong rank, size or stride */
    EPX_ERR_UNSUPPORTED = 5, /* valid, but not offered here */
    EPX_ERR_STATE = 6,       /* the call does not fit the object's state */
    EPX_ERR_NOT_FOUND = 7,   /* no such object */
    EPX_ERR_CONFIG = 8,      /* an environment variable or option has a bad value */

    /* The machine. */
    EPX_ERR_NO_MEMORY = 20, /* memory, address space or a memory limit is exhausted */
    EPX_ERR_SYSTEM = 21,    /* a system call failed */
    EPX_ERR_FILE = 22,      /* a file cannot be read */
    EPX_ERR_SYNTAX = 23,    /* a file is not what its format asks for */

    /* Starting a communicator. */
    EPX_ERR_RANK_TABLE = 30,   /* a rank table breaks a rule */
    EPX_ERR_RENDEZVOUS = 31,   /* refused: duplicate rank, wrong world size, foreign process */
    EPX_ERR_JOIN_TIMEOUT = 32, /* not all ranks came in time */

    /* A round failed: the same status on every rank of the communicator, which stays failed until destroyed. */
    EPX_ERR_MISMATCH = 40,    /* ranks disagree on an argument or on the order of calls */
    EPX_ERR_EXPERT_ID = 41,   /* an expert id is out of range */
    EPX_ERR_CAPACITY = 42,    /* more rows arrive than the output tensor holds */
    EPX_ERR_COUNTS = 43,      /* counts given to combine contradict each other or the tensor */
    EPX_ERR_PEER_DEAD = 44,   /* a rank's process ended while others waited for it */
    EPX_ERR_PEER_LEFT = 45,   /* a rank destroyed its communicator while others waited for it */
    EPX_ERR_TIMEOUT = 46,     /* a rank did not come before the deadline */
    EPX_ERR_PROTOCOL = 47,    /* a peer published a value that cannot be right */
    EPX_ERR_ABORTED = 48,     /* the application aborted the communicator */
    EPX_ERR_RANK_MEMORY = 49, /* a rank had no memory for what it was to write */

    EPX_ERR_INTERNAL = 60, /* a defect in epx */
};

#ifdef __cplusplus
}
#endif

#endif
