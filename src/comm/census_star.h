/*
 * The centre's state and the parts of its work: the guests (census_guests.c), taking in what they say
 * (census_gather.c), telling who is missing (census_report.c), the loop (census_centre.c). All of it belongs to the
 * centre's thread once that runs.
 */
#ifndef EPX_COMM_CENSUS_STAR_H
#define EPX_COMM_CENSUS_STAR_H

#include "comm/census_draft.h"
#include "comm/census_socket.h"

#include <poll.h>
#include <pthread.h>

#define EPX_CENSUS_NOBODY UINT32_MAX

/* Room for a report, a failure and a last word. */
#define EPX_CENSUS_OUT_BYTES 1200u

struct epx_census_guest { /* a connection */
    int fd;               /* -1: the place is free */
    bool joined;          /* has proved itself and holds its rank */
    bool confirmed;       /* has the whole census */
    bool report_due;
    uint32_t poll; /* its place in the centre's polls, 0: none */
    uint32_t rank;
    uint64_t instance;
    struct epx_census_visitor visitor;
    uint32_t out_bytes; /* waiting to go out */
    uint32_t out_sent;
    size_t frames_sent; /* of the census; none of `out` goes out between its first and last byte */
    uint8_t out[EPX_CENSUS_OUT_BYTES];
};

struct epx_census_centre {
    const struct epx_census_request *request;
    uint64_t own_instance;
    uint32_t link_port;
    pthread_t thread;
    int stop_fd; /* eventfd, written once by the stop */
    int listener;
    uint32_t capacity;
    struct epx_census_guest *guests;
    struct pollfd *polls;              /* stop_fd, listener, then the guests */
    uint32_t *holders;                 /* guest by rank, EPX_CENSUS_NOBODY when not joined */
    struct epx_census_record *records; /* by rank; of the last holder */
    struct epx_rank_set seen;          /* ranks that have joined, be it that they have left since */
    uint32_t joined_count;
    uint32_t confirmed_count;
    uint32_t refused_count;
    uint64_t report_ns; /* not before then goes the next report out */
    uint8_t *frames;    /* the census, once every rank has reported */
    size_t frames_bytes;
    bool complete;
    uint64_t complete_deadline_ns; /* until when that may take to go out */
    bool over;
};

/* ---- Guests */

/* Ends a connection. After all have reported, a lost rank ends this centre: the others report again. */
void epx_census_guest_drop(struct epx_census_centre *centre, struct epx_census_guest *guest);
/* The same with a line in the log. */
void epx_census_guest_refuse(struct epx_census_centre *centre, struct epx_census_guest *guest, const char *reason);
/* Tells a guest the status and the calling thread's error text, then drops it. */
void epx_census_guest_fail(struct epx_census_centre *centre, struct epx_census_guest *guest, enum epx_status status);
void epx_census_guests_fail(struct epx_census_centre *centre, enum epx_status status);
/* Whether a word can be put between what goes out. */
bool epx_census_guest_is_idle(const struct epx_census_centre *centre, const struct epx_census_guest *guest);
bool epx_census_guest_has_output(const struct epx_census_centre *centre, const struct epx_census_guest *guest);
/* Appends a frame whose body lies in `frame` behind room for the head; left out when there is no room. */
void epx_census_guest_put(struct epx_census_guest *guest, enum epx_census_kind kind, uint8_t *frame, uint32_t bytes);
/* Sends what can be sent; a guest that cannot be sent to is dropped. */
void epx_census_guest_flush(struct epx_census_centre *centre, struct epx_census_guest *guest);

/* ---- Gathering */

void epx_census_gather_accept(struct epx_census_centre *centre);
void epx_census_gather_read(struct epx_census_centre *centre, struct epx_census_guest *guest);

/* ---- Reporting: who is missing, to every guest that has not heard the latest; to all of them at the `last` time */
void epx_census_report(struct epx_census_centre *centre, bool last);

#endif
