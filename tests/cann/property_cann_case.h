/*
 * The communicators of a random case behind the CANN door: how its ranks come together, and on which devices.
 */
#ifndef EPX_TESTS_PROPERTY_CANN_CASE_H
#define EPX_TESTS_PROPERTY_CANN_CASE_H

#include "cann/exports_acl.h"
#include "cann/exports_hccl.h"
#include "cann/product.h"
#include "ranks/property_world.h"

#include <stdbool.h>
#include <stdint.h>

#define PROPERTY_CANN_RANK_MAX  16
#define PROPERTY_CANN_GROUP_MAX (2 + PROPERTY_CANN_RANK_MAX / 2) /* EP groups, then TP pairs */

enum property_cann_way {
    PROPERTY_CANN_ALL,   /* HcclCommInitAll; ranks are threads */
    PROPERTY_CANN_ROOT,  /* root information; ranks may share devices */
    PROPERTY_CANN_TABLE, /* a rank table of one or more servers, each with devices from the same number on */
};

/* Root information on its way from each group's rank 0 to the others, in memory shared by processes. */
struct property_cann_roots {
    _Atomic int ready[PROPERTY_CANN_GROUP_MAX];
    HcclRootInfo infos[PROPERTY_CANN_GROUP_MAX];
};

struct property_cann_case {
    const struct property_case *test;
    enum property_cann_way way;
    enum epx_product product;
    struct property_cann_roots *roots;
    char tables[2][64];
};

/* One rank of a case. Its functions are called by one thread at a time, which they leave with the rank's context
 * current. */
struct property_cann_place {
    const struct property_cann_case *owner;
    int64_t index;
    int64_t group;
    int64_t group_rank;
    struct property_report *report;
    int32_t device;
    bool own_context; /* not the device's own */
    aclrtContext context;
    HcclComm comm;
    HcclComm tp_comm; /* null without TP */
    char name[COMM_NAME_MAX_LENGTH];
    char tp_name[COMM_NAME_MAX_LENGTH]; /* "" without TP */
};

/* False with the code and the thread's message in the report. */
bool property_cann_good(struct property_report *report, const char *call, int code);

/* `processes`: ranks will be processes. Nothing of the library is touched yet. */
void property_cann_case_init(struct property_cann_case *owner, const struct property_case *test,
                             struct property_cann_roots *roots, enum epx_product product, bool processes);
void property_cann_case_fini(struct property_cann_case *owner);

/* Sets the environment that chooses the world's algorithm: between operations, with no other thread at work. */
void property_cann_algorithm_set(const struct world *world);

void property_cann_place_init(struct property_cann_place *place, const struct property_cann_case *owner, int64_t index,
                              struct property_report *report);
bool property_cann_place_start(struct property_cann_place *place); /* device and context */
bool property_cann_place_enter(struct property_cann_place *place); /* makes the context current */
bool property_cann_place_join(struct property_cann_place *place);  /* not for PROPERTY_CANN_ALL */
void property_cann_place_leave(struct property_cann_place *place); /* out of its communicators */
void property_cann_place_fini(struct property_cann_place *place);

/* PROPERTY_CANN_ALL: every rank's communicators, by the calling thread. */
bool property_cann_join_all(const struct property_cann_case *owner, struct property_cann_place *places);

#endif
