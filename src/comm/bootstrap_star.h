/*
 * The centre's state and the parts of its work: the guests (bootstrap_guests.c), gathering the ranks
 * (bootstrap_gather.c), handing region and arenas around (bootstrap_hand.c), the loop (bootstrap_centre.c). All of it
 * belongs to the centre's thread once that runs.
 */
#ifndef EPX_COMM_BOOTSTRAP_STAR_H
#define EPX_COMM_BOOTSTRAP_STAR_H

#include "comm/bootstrap.h"
#include "comm/bootstrap_shared.h"
#include "comm/bootstrap_socket.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#define EPX_BOOT_NOBODY UINT32_MAX

struct epx_boot_guest { /* a connection */
    int fd;             /* -1: the place is free */
    bool joined;        /* has said hello and holds its rank */
    bool mapped;        /* has everything */
    bool wants;         /* `want` is to be answered */
    uint32_t poll;      /* its place in the centre's polls, 0: none */
    uint32_t rank;
    pid_t pid;
    uint32_t in_flight; /* descriptors sent to it since its last message */
    int arena_fd;       /* -1: another guest of the same process holds the descriptor */
    struct epx_arena_id arena;
    uint64_t hello_deadline_ns;
    struct epx_boot_items want;
};

struct epx_boot_centre {
    const struct epx_bootstrap_request *request;
    pthread_t thread;
    int stop_fd;  /* eventfd, written once by the stop */
    int listener; /* -1 once the roll is closed */
    uint32_t capacity;
    struct epx_boot_guest *guests;
    struct pollfd *polls;              /* stop_fd, listener, then the guests */
    uint32_t *holders;                 /* guest by rank, EPX_BOOT_NOBODY when not joined */
    uint64_t seen[EPX_BOOT_SET_WORDS]; /* ranks that have joined, be it that they have left since */
    uint32_t joined_count;
    uint32_t mapped_count;
    uint32_t in_flight;
    bool kernel_refuses; /* the last descriptors were refused: too many in flight */
    bool assembled;      /* every rank has joined: the roll is closed */
    bool over;
    int shared_fd;
    struct epx_boot_verdict_page *verdict;
};

/* ---- Guests */

/* A joined guest with this arena other than `except`, and with its descriptor when `with_fd`; or null. */
struct epx_boot_guest *epx_boot_guest_find_arena(const struct epx_boot_centre *centre, const struct epx_arena_id *id,
                                                 bool with_fd, const struct epx_boot_guest *except);

/* Ends a connection. Once the roll is closed, a lost rank ends this start: the others meet again and wait for its
 * successor. */
void epx_boot_guest_drop(struct epx_boot_centre *centre, struct epx_boot_guest *guest);

/* A guest that cannot be sent to is dropped. */
void epx_boot_guest_send(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                         const struct epx_boot_message *message);
void epx_boot_guests_send(struct epx_boot_centre *centre, const struct epx_boot_message *message);

/* Tells one guest, or everyone, the status and the calling thread's error text. The start of all is over then. */
void epx_boot_guest_refuse(struct epx_boot_centre *centre, struct epx_boot_guest *guest, enum epx_status status);
void epx_boot_guests_fail(struct epx_boot_centre *centre, enum epx_status status);

/* Drops a guest that breaks the protocol, with a line in the log. */
void epx_boot_guest_violate(struct epx_boot_centre *centre, struct epx_boot_guest *guest, const char *reason);

/* ---- Gathering */

struct epx_boot_guest *epx_boot_gather_free_place(struct epx_boot_centre *centre);
void epx_boot_gather_welcome(struct epx_boot_centre *centre, struct epx_boot_guest *place, int fd);
void epx_boot_gather_accept(struct epx_boot_centre *centre);
/* Fails the start on every rank: the centre's process can open no more. */
void epx_boot_gather_exhausted(struct epx_boot_centre *centre, int error);
void epx_boot_gather_hello(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                           struct epx_boot_packet *packet);

/* ---- Handing around */

void epx_boot_hand_roster(struct epx_boot_centre *centre, struct epx_boot_guest *guest, uint32_t first);
void epx_boot_hand_want(struct epx_boot_centre *centre, struct epx_boot_guest *guest,
                        const struct epx_boot_items *items);
void epx_boot_hand_mapped(struct epx_boot_centre *centre, struct epx_boot_guest *guest);

/* The kernel limits the descriptors in flight of a user, so they are handed out to a few guests at a time. */
void epx_boot_hand_answer(struct epx_boot_centre *centre);

#endif
