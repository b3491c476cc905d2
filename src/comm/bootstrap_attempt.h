/*
 * One rank's attempt to join over one connection to a centre, in the order of the messages.
 */
#ifndef EPX_COMM_BOOTSTRAP_ATTEMPT_H
#define EPX_COMM_BOOTSTRAP_ATTEMPT_H

#include "comm/bootstrap.h"
#include "comm/bootstrap_shared.h"
#include "comm/bootstrap_socket.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_boot_attempt {
    EPX_BOOT_ATTEMPT_DONE,
    EPX_BOOT_ATTEMPT_AGAIN,  /* the centre is gone: meet again */
    EPX_BOOT_ATTEMPT_LATE,   /* the deadline has passed */
    EPX_BOOT_ATTEMPT_FAILED, /* `failure` and the thread's error text say why */
};

struct epx_boot_joining { /* one rank on its way into its world */
    const struct epx_bootstrap_request *request;
    struct epx_boot_name name;
    struct epx_arena_id own_id;
    int own_fd;
    uint64_t deadline_ns;
    enum epx_status failure;
    bool knows_missing;
    uint64_t missing[EPX_BOOT_SET_WORDS]; /* ranks missing in every report so far */
    bool all_joined;                      /* says the last report; then those that have not mapped everything: */
    uint64_t unmapped[EPX_BOOT_SET_WORDS];
    pid_t silent_pid; /* who holds the meeting point and did not answer the last question; 0: none */

    /* Of the present attempt. */
    int fd;
    struct epx_arena_id *ids;  /* by rank */
    struct epx_arena **arenas; /* by rank, null when not mapped yet */
    void *shared;
    struct epx_boot_verdict_page *verdict;
    bool told_mapped; /* the centre may complete the start from here on */
};

/* Runs an attempt to its end; `fd` stays the caller's. Only DONE leaves anything mapped. */
enum epx_boot_attempt epx_boot_attempt_run(struct epx_boot_joining *join, int fd);

/* Notes the status, whose text has been set, and returns FAILED. */
enum epx_boot_attempt epx_boot_attempt_fail(struct epx_boot_joining *join, enum epx_status status);

/* FAILED when the caller knows that a rank will never come, else DONE. */
enum epx_boot_attempt epx_boot_attempt_hope(struct epx_boot_joining *join);

/* Sleeps for less than a second. */
void epx_boot_pause_ns(uint64_t span_ns);

#endif
