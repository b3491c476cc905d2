#include "cann/property_cann_case.h"

#include "ranks/property_run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SERVER_RANKS     8 /* of a world that no rank table describes and that is a multiple of it */
#define SECOND_GROUP     8 /* first device of the second EP group */
#define TABLE_BYTES      8192
#define ROOT_WAIT_MS_MAX 30000

bool property_cann_good(struct property_report *report, const char *call, int code)
{
    if (code == 0) {
        return true;
    }
    const char *message = epx_cann_aclGetRecentErrMsg();
    return property_report_set(report, "%s gave %d: %s", call, code, message != NULL ? message : "no message");
}

/* ---- Case -------------------------------------------------------------------------------------------------------- */

static enum property_cann_way draw_way(const struct property_case *test, bool processes)
{
    struct random_source random;
    int64_t ranks = test->limits.rank_count;
    int64_t server_ranks = ranks % SERVER_RANKS == 0 ? SERVER_RANKS : ranks;
    random_seed(&random, random_mix(random_mix(test->seed, (uint64_t)test->number), 7000));
    if (test->limits.server_rank_count != server_ranks) {
        return PROPERTY_CANN_TABLE;
    }
    if (processes) {
        return random_percent(&random, 25) ? PROPERTY_CANN_ROOT : PROPERTY_CANN_TABLE;
    }
    return (enum property_cann_way)random_between(&random, PROPERTY_CANN_ALL, PROPERTY_CANN_TABLE);
}

static int32_t table_device(const struct property_case *test, int64_t group, int64_t rank)
{
    return (int32_t)(rank % test->limits.server_rank_count + group * SECOND_GROUP);
}

static void print_table(const struct property_case *test, int64_t group, FILE *file)
{
    int64_t ranks = test->limits.rank_count;
    int64_t server_ranks = test->limits.server_rank_count;
    fprintf(file, "{\"status\":\"completed\",\"version\":\"1.0\",\"server_count\":\"%lld\",\"server_list\":[",
            (long long)(ranks / server_ranks));
    for (int64_t rank = 0; rank < ranks; rank++) {
        if (rank % server_ranks == 0) {
            fprintf(file, "%s{\"server_id\":\"group %lld server %lld\",\"device\":[", rank == 0 ? "" : "]},",
                    (long long)group, (long long)(rank / server_ranks));
        }
        fprintf(file, "%s{\"device_id\":\"%d\",\"rank_id\":\"%lld\",\"device_ip\":\"240.0.0.%lld\"}",
                rank % server_ranks == 0 ? "" : ",", (int)table_device(test, group, rank), (long long)rank,
                (long long)(1 + group * ranks + rank));
    }
    fprintf(file, "]}]}\n");
}

static void write_table(struct property_cann_case *owner, int64_t group)
{
    char *path = owner->tables[group];
    snprintf(path, sizeof owner->tables[group], "/tmp/epx-property-cann-XXXXXX.json");
    int descriptor = mkstemps(path, 5);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    if (file == NULL) {
        perror(path);
        abort();
    }
    print_table(owner->test, group, file);
    if (fclose(file) != 0) {
        perror(path);
        abort();
    }
}

void property_cann_case_init(struct property_cann_case *owner, const struct property_case *test,
                             struct property_cann_roots *roots, enum epx_product product, bool processes)
{
    memset(owner, 0, sizeof *owner);
    memset(roots, 0, sizeof *roots);
    owner->test = test;
    owner->roots = roots;
    owner->product = product;
    owner->way = draw_way(test, processes);
    for (int64_t group = 0; owner->way == PROPERTY_CANN_TABLE && group < test->limits.tp_count; group++) {
        write_table(owner, group);
    }
}

void property_cann_case_fini(struct property_cann_case *owner)
{
    for (int64_t group = 0; owner->way == PROPERTY_CANN_TABLE && group < owner->test->limits.tp_count; group++) {
        unlink(owner->tables[group]);
    }
}

void property_cann_algorithm_set(const struct world *world)
{
    static const char *const full_mesh[][2] = {{NULL, NULL}, {"1", "1"}, {"0", "0"}, {"1", NULL}, {NULL, "0"}};
    static const char *const two_level[2] = {"1", "0"};
    static const char *const names[2] = {"HCCL_INTRA_PCIE_ENABLE", "HCCL_INTRA_ROCE_ENABLE"};
    const char *const *values = world->shape.two_level ? two_level : full_mesh[world->seed % 5];
    for (int i = 0; i < 2; i++) {
        if (values[i] != NULL) {
            setenv(names[i], values[i], 1);
        } else {
            unsetenv(names[i]);
        }
    }
}

/* ---- One rank ---------------------------------------------------------------------------------------------------- */

void property_cann_place_init(struct property_cann_place *place, const struct property_cann_case *owner, int64_t index,
                              struct property_report *report)
{
    const struct property_case *test = owner->test;
    struct random_source random;
    memset(place, 0, sizeof *place);
    random_seed(&random, random_mix(random_mix(test->seed, (uint64_t)test->number), 7100));
    const int64_t first_device = random_between(&random, 0, PROPERTY_CANN_RANK_MAX - 1);
    const int64_t device_count = random_between(&random, 1, test->rank_count);
    place->owner = owner;
    place->index = index;
    place->group = index / test->limits.rank_count;
    place->group_rank = index % test->limits.rank_count;
    place->report = report;
    switch (owner->way) {
    case PROPERTY_CANN_ALL: place->device = (int32_t)((first_device + index) % PROPERTY_CANN_RANK_MAX); break;
    case PROPERTY_CANN_ROOT: place->device = (int32_t)(index % device_count); break;
    default: place->device = table_device(test, place->group, place->group_rank); break;
    }
    random_seed(&random, random_mix(random_mix(test->seed, (uint64_t)test->number), 7200 + (uint64_t)index));
    place->own_context = random_percent(&random, 60);
}

bool property_cann_place_start(struct property_cann_place *place)
{
    if (place->own_context) {
        return property_cann_good(place->report, "aclrtCreateContext",
                                  epx_cann_aclrtCreateContext(&place->context, place->device));
    }
    return property_cann_good(place->report, "aclrtSetDevice", epx_cann_aclrtSetDevice(place->device)) &&
           property_cann_good(place->report, "aclrtGetCurrentContext",
                              epx_cann_aclrtGetCurrentContext(&place->context));
}

bool property_cann_place_enter(struct property_cann_place *place)
{
    return property_cann_good(place->report, "aclrtSetCurrentContext", epx_cann_aclrtSetCurrentContext(place->context));
}

static void sleep_ms(int64_t ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Rank 0 makes the root information of a group, the others take it. */
static bool root_exchange(struct property_cann_place *place, int64_t group, int64_t rank, HcclRootInfo *info)
{
    struct property_cann_roots *roots = place->owner->roots;
    if (rank == 0) {
        if (!property_cann_good(place->report, "HcclGetRootInfo", (int)epx_cann_HcclGetRootInfo(info))) {
            return false;
        }
        roots->infos[group] = *info;
        atomic_store(&roots->ready[group], 1);
        return true;
    }
    for (int64_t waited = 0; atomic_load(&roots->ready[group]) == 0; waited++) {
        if (waited == ROOT_WAIT_MS_MAX) {
            return property_report_set(place->report, "no root information came");
        }
        sleep_ms(1);
    }
    *info = roots->infos[group];
    return true;
}

static bool join_root(struct property_cann_place *place, int64_t group, int64_t rank, int64_t rank_count,
                      HcclComm *comm)
{
    HcclRootInfo info;
    return root_exchange(place, group, rank, &info) &&
           property_cann_good(place->report, "HcclCommInitRootInfo",
                              (int)epx_cann_HcclCommInitRootInfo((uint32_t)rank_count, &info, (uint32_t)rank, comm));
}

static bool read_names(struct property_cann_place *place)
{
    return property_cann_good(place->report, "HcclGetCommName",
                              (int)epx_cann_HcclGetCommName(place->comm, place->name)) &&
           (place->tp_comm == NULL ||
            property_cann_good(place->report, "HcclGetCommName",
                               (int)epx_cann_HcclGetCommName(place->tp_comm, place->tp_name)));
}

bool property_cann_place_join(struct property_cann_place *place)
{
    const struct property_cann_case *owner = place->owner;
    const struct world_limits *limits = &owner->test->limits;
    bool good;
    if (owner->way == PROPERTY_CANN_TABLE) {
        good = property_cann_good(place->report, "HcclCommInitClusterInfo",
                                  (int)epx_cann_HcclCommInitClusterInfo(owner->tables[place->group],
                                                                        (uint32_t)place->group_rank, &place->comm));
    } else {
        good = join_root(place, place->group, place->group_rank, limits->rank_count, &place->comm);
    }
    if (good && limits->tp_count == 2) {
        good = join_root(place, 2 + place->group_rank, place->group, 2, &place->tp_comm);
    }
    return good && read_names(place);
}

static void destroy_comm(struct property_cann_place *place, HcclComm *comm)
{
    if (*comm != NULL) {
        (void)property_cann_good(place->report, "HcclCommDestroy", (int)epx_cann_HcclCommDestroy(*comm));
        *comm = NULL;
    }
}

void property_cann_place_leave(struct property_cann_place *place)
{
    destroy_comm(place, &place->tp_comm);
    destroy_comm(place, &place->comm);
}

void property_cann_place_fini(struct property_cann_place *place)
{
    if (place->context == NULL) {
        return;
    }
    (void)property_cann_place_enter(place);
    property_cann_place_leave(place);
    if (place->own_context) {
        (void)property_cann_good(place->report, "aclrtDestroyContext", epx_cann_aclrtDestroyContext(place->context));
    } else {
        (void)property_cann_good(place->report, "aclrtResetDevice", epx_cann_aclrtResetDevice(place->device));
    }
    place->context = NULL;
}

/* ---- All ranks by one thread ------------------------------------------------------------------------------------- */

static bool init_all(struct property_cann_place **members, int64_t count, bool tensor_parallel)
{
    int32_t devices[PROPERTY_CANN_RANK_MAX];
    HcclComm comms[PROPERTY_CANN_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        devices[i] = members[i]->device;
    }
    if (!property_cann_good(members[0]->report, "HcclCommInitAll",
                            (int)epx_cann_HcclCommInitAll((uint32_t)count, devices, comms))) {
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        *(tensor_parallel ? &members[i]->tp_comm : &members[i]->comm) = comms[i];
    }
    return true;
}

bool property_cann_join_all(const struct property_cann_case *owner, struct property_cann_place *places)
{
    const struct world_limits *limits = &owner->test->limits;
    struct property_cann_place *members[PROPERTY_CANN_RANK_MAX];
    for (int64_t group = 0; group < limits->tp_count; group++) {
        for (int64_t rank = 0; rank < limits->rank_count; rank++) {
            members[rank] = &places[group * limits->rank_count + rank];
        }
        if (!init_all(members, limits->rank_count, false)) {
            return false;
        }
    }
    for (int64_t rank = 0; limits->tp_count == 2 && rank < limits->rank_count; rank++) {
        members[0] = &places[rank];
        members[1] = &places[limits->rank_count + rank];
        if (!init_all(members, 2, true)) {
            return false;
        }
    }
    for (int64_t i = 0; i < owner->test->rank_count; i++) {
        if (!read_names(&places[i])) {
            return false;
        }
    }
    return true;
}
