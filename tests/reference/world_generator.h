/*
 * Random worlds: shape, options, inputs and (by the reference) what must come out. A world is a function of its seed
 * and limits.
 */
#ifndef EPX_TESTS_WORLD_GENERATOR_H
#define EPX_TESTS_WORLD_GENERATOR_H

#include "reference/random_source.h"
#include "reference/reference.h"

#include <stdio.h>

/* What is wrong on purpose with one rank's input. */
enum world_fault {
    WORLD_FAULT_NONE,
    WORLD_FAULT_DISPATCH_ID,       /* an expert id outside [0, E) */
    WORLD_FAULT_DISPATCH_CAPACITY, /* one row more arrives than expand_x has */
    WORLD_FAULT_COMBINE_ID,
    WORLD_FAULT_COMBINE_SLOT,   /* expand_idx outside its block */
    WORLD_FAULT_COMBINE_ROWS,   /* the counts name more rows than expand_x has */
    WORLD_FAULT_COMBINE_COUNTS, /* a running total below the one before */
    WORLD_FAULT_COMBINE_SHARED, /* totals of a shared rank that rise, and give a source not its rows */
    WORLD_FAULT_COMBINE_TP,     /* tp_send_counts that are not the totals' */
    WORLD_FAULT_COUNT,
};

struct world_limits {
    /* Communicators: fixed by the caller, so that several worlds can share one. */
    int64_t rank_count;
    int64_t tp_count;
    int64_t server_rank_count;
    int64_t hidden_max;    /* bound on H */
    int64_t elem_max;      /* bound on the elements of all rows of all ranks, roughly */
    int64_t fault_percent; /* how many worlds are wrong on purpose */
};

struct world {
    uint64_t seed;
    struct ref_shape shape;
    int64_t world_size; /* W * tp_count */
    bool expand_scales_given;
    enum world_fault fault;

    struct ref_tokens *tokens;
    struct ref_received *received;
    struct ref_error dispatch_error;

    /* Arrays of `returns` are owned. With dispatch_error there are none. */
    struct ref_returns *returns;
    uint16_t **x;
    struct ref_error combine_error;
};

/* Draws the limits of a communicator that at most rank_max ranks join (TP counted). */
void world_limits_draw(struct world_limits *limits, struct random_source *random, int64_t rank_max);

/* Draws and solves. */
void world_init(struct world *world, const struct world_limits *limits, uint64_t seed);
/* The same with a shape and every rank's BS given, and nothing wrong. */
void world_init_shaped(struct world *world, const struct ref_shape *shape, const int64_t *token_counts, uint64_t seed);
void world_fini(struct world *world);

/* One line: every parameter. */
void world_print(const struct world *world, FILE *out);

const char *world_fault_name(enum world_fault fault);

#endif
