/*
 * The soak: very many pairs of dispatch and combine, in one life of the ranks, and what that life costs at its end and
 * at its beginning. What is shared by its files:
 *   soak_rank    what a rank does
 *   soak_sample  what a process holds at a moment
 *   soak_judge   whether it is flat, and the table
 */
#ifndef EPX_TESTS_SOAK_SOAK_H
#define EPX_TESTS_SOAK_SOAK_H

#include "epx/epx.h"
#include "ranks/pair_run.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define SOAK_RANK_MAX   PAIR_RANK_MAX
#define SOAK_SAMPLE_MAX 1024u
/* Fewer show no trend. */
#define SOAK_SAMPLE_MIN 9u

struct soak_options {
    uint64_t pairs;
    uint64_t seconds; /* no period begins later */
    uint64_t seed;
    uint32_t rank_count;
    uint32_t period;     /* pairs with one plan, about */
    bool threads;        /* ranks are threads of one process, else processes */
    bool judges_memory;  /* false where a sanitizer keeps what was freed */
    bool judges_entries; /* the folders belong to this program alone */
    const char *output;
};

enum soak_quantity {
    SOAK_MEMORY,      /* KiB: anonymous and shared pages, each divided by the processes that map it */
    SOAK_HEAP,        /* bytes that malloc has given and not got back */
    SOAK_ARENA,       /* the same of the arena */
    SOAK_DESCRIPTORS, /* open */
    SOAK_THREADS,
    SOAK_MAPPINGS,
    SOAK_ENTRIES, /* of /dev/shm and /tmp */
    SOAK_QUANTITY_COUNT,
};

struct soak_sample { /* of one process */
    uint64_t pair;
    int64_t values[SOAK_QUANTITY_COUNT]; /* -1: cannot be known */
};

struct soak_report { /* of a rank; written by it */
    _Atomic uint64_t pairs;
    _Atomic uint64_t failed_ns; /* 0: nothing is wrong; text is whole before */
    char text[PAIR_TEXT_BYTES + 256];
    uint64_t plans;
    uint64_t communicators;
    uint64_t steps;
    uint64_t low_wraps;  /* of the futex word: 2^16 steps */
    uint64_t half_wraps; /* of the low half of the count of steps: 2^32 */
    uint64_t hash;
};

struct soak_board { /* shared by all processes */
    struct soak_options options;
    struct epx_token token;
    pid_t parent;
    uint64_t start_ns;
    uint32_t sample_interval; /* periods */
    _Atomic uint32_t arrived; /* at the meeting after a period */
    _Atomic uint32_t meeting;
    _Atomic uint32_t stops; /* 1: time is up */
    struct soak_report reports[SOAK_RANK_MAX];
    uint32_t sample_count;                                      /* written by rank 0 */
    struct soak_sample samples[SOAK_RANK_MAX][SOAK_SAMPLE_MAX]; /* by process */
};

uint64_t soak_now_ns(void);

/* Own rank or, as a thread, one of the own process. False: its report says what is wrong. */
bool soak_rank_main(struct soak_board *board, uint32_t rank);

void soak_sample_take(struct soak_sample *sample, uint64_t pair);
/* Puts empty folders in the place of /dev/shm and /tmp, for this process and its children. */
bool soak_folders_own(void);

/* What grew, a line each; "" when nothing did. */
bool soak_judge(const struct soak_board *board, uint32_t process_count, char *text, size_t text_bytes);
void soak_table_print(const struct soak_board *board, uint32_t process_count, double seconds, FILE *out);

#endif
