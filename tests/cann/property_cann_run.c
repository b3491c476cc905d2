#include "cann/property_cann_run.h"

#include "ranks/property_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS_MAX 60000

enum {
    DISPATCH,
    COMBINE,
};

/* ---- Making ------------------------------------------------------------------------------------------------------ */

/* Both EP groups of a rank table have one name: only the device tells them apart. */
static bool name_is_enough(const struct property_cann_place *place)
{
    return place->owner->way != PROPERTY_CANN_TABLE || place->tp_comm == NULL;
}

static void draw_plan(struct property_cann_run *run)
{
    struct property_cann_plan *plan = &run->plan;
    struct random_source *random = &run->random;
    const struct world *world = run->world;
    const bool once = world->fault != WORLD_FAULT_NONE || random_mix(world->seed, 1) % 2 == 0;
    plan->repeats = once ? 1 : (int)(2 + random_mix(world->seed, 2) % 2);
    plan->alternate = random_mix(world->seed, 3) % 2 == 0;
    plan->repeatable = random_percent(random, once ? 10 : 70);
    plan->moves = random_percent(random, 60);
    plan->ahead = random_percent(random, 60);
    plan->combine_first = random_percent(random, 40);
    plan->drops_handles = plan->ahead && !plan->repeatable && random_percent(random, 30);
    plan->synchronizes_often = !run->one_driver && random_percent(random, 20);
    plan->two_streams = plan->repeats == 1 && random_percent(random, 40);
    plan->event = plan->two_streams && random_percent(random, 50);
    plan->combine_waited_first = random_percent(random, 50);
    plan->default_stream = run->place->own_context && !plan->two_streams && random_percent(random, 20);
    plan->with_timeout = random_percent(random, 50);
    plan->keeps_executors = random_percent(random, 50);
    plan->elsewhere = name_is_enough(run->place) && !plan->default_stream && random_percent(random, 15);
}

static bool create_tensors(struct property_cann_run *run, struct property_cann_operation *operation)
{
    for (int i = 0; i < operation->param_count; i++) {
        const bool two = property_cann_storage_count(run) == 2 && random_percent(&run->random, 60);
        if (!property_cann_tensor_create(&operation->own[i], &run->random, two)) {
            return property_cann_good(run->place->report, operation->own[i].storages[0].tensor.name, -1);
        }
    }
    return true;
}

bool property_cann_run_init(struct property_cann_run *run, struct property_cann_place *place, const struct world *world,
                            bool one_driver)
{
    memset(run, 0, sizeof *run);
    run->place = place;
    run->world = world;
    run->one_driver = one_driver;
    run->dispatch.param_count = DISPATCH_PARAM_COUNT;
    run->dispatch.input_count = DISPATCH_INPUT_COUNT;
    run->combine.param_count = COMBINE_PARAM_COUNT;
    run->combine.input_count = COMBINE_INPUT_COUNT;
    random_seed(&run->random, random_mix(world->seed, 3000 + (uint64_t)place->index));
    draw_plan(run);
    property_cann_dispatch_layout(run);
    property_cann_combine_layout(run);
    run->plan.event = run->plan.two_streams && (run->plan.event || run->combine_reads_dispatch);
    if (!property_cann_place_enter(place) || !create_tensors(run, &run->dispatch) ||
        !create_tensors(run, &run->combine)) {
        return false;
    }
    property_cann_dispatch_fill(run);
    property_cann_combine_fill(run);
    for (int i = 0; !run->plan.default_stream && i < (run->plan.two_streams ? 2 : 1); i++) {
        if (!property_cann_good(place->report, "aclrtCreateStream", epx_cann_aclrtCreateStream(&run->streams[i]))) {
            return false;
        }
    }
    run->streams[1] = run->plan.two_streams ? run->streams[1] : run->streams[0];
    return true;
}

void property_cann_run_fini(struct property_cann_run *run)
{
    struct property_report *report = run->place->report;
    (void)property_cann_place_enter(run->place);
    for (int i = 0; i < 2 && run->plan.repeatable; i++) {
        if (run->executors[i] != NULL) {
            (void)property_cann_good(report, "aclDestroyAclOpExecutor",
                                     epx_cann_aclDestroyAclOpExecutor(run->executors[i]));
        }
    }
    for (int i = 0; i < (run->plan.two_streams ? 2 : 1); i++) {
        if (run->streams[i] != NULL) {
            (void)property_cann_good(report, "aclrtDestroyStream", epx_cann_aclrtDestroyStream(run->streams[i]));
        }
    }
    if (run->event != NULL) {
        (void)property_cann_good(report, "aclrtDestroyEvent", epx_cann_aclrtDestroyEvent(run->event));
    }
    for (int i = 0; i < PROPERTY_CANN_PARAM_MAX; i++) {
        property_cann_tensor_destroy(&run->dispatch.own[i]);
        property_cann_tensor_destroy(&run->combine.own[i]);
    }
}

/* ---- Queueing ---------------------------------------------------------------------------------------------------- */

/* Which operation step `step` of all runs is, and which run of it. */
static int operation_of(const struct property_cann_plan *plan, int step, int *repeat)
{
    *repeat = plan->alternate ? step / 2 : step % plan->repeats;
    return plan->alternate ? step % 2 : step / plan->repeats;
}

static aclOpExecutor **executor_of(struct property_cann_run *run, int step)
{
    int repeat;
    const int operation = operation_of(&run->plan, step, &repeat);
    return &run->executors[run->plan.repeatable ? operation : step];
}

static bool prepare(struct property_cann_run *run, int step)
{
    struct property_report *report = run->place->report;
    aclOpExecutor **executor = executor_of(run, step);
    int repeat;
    if (*executor != NULL) {
        return true;
    }
    const bool good = operation_of(&run->plan, step, &repeat) == DISPATCH
                          ? property_cann_good(report, "aclnnMoeDistributeDispatchGetWorkspaceSize",
                                               property_cann_dispatch_prepare(run, executor))
                          : property_cann_good(report, "aclnnMoeDistributeCombineGetWorkspaceSize",
                                               property_cann_combine_prepare(run, executor));
    return good && (!run->plan.repeatable || property_cann_good(report, "aclSetAclOpExecutorRepeatable",
                                                                epx_cann_aclSetAclOpExecutorRepeatable(*executor)));
}

static bool prepare_all(struct property_cann_run *run)
{
    const int steps = 2 * run->plan.repeats;
    for (int i = 0; i < steps; i++) {
        if (!prepare(run, run->plan.combine_first ? steps - 1 - i : i)) {
            return false;
        }
    }
    for (int i = 0; i < PROPERTY_CANN_PARAM_MAX && run->plan.drops_handles; i++) {
        property_cann_handle_destroy(&run->dispatch.own[i]);
        property_cann_handle_destroy(&run->combine.own[i]);
    }
    return true;
}

static aclnnStatus set_address(struct property_cann_run *run, const struct property_cann_operation *operation,
                               aclOpExecutor *executor, int param, int which)
{
    struct property_cann_tensor *tensor = operation->params[param];
    void *base = property_cann_tensor_base(tensor, which);
    const size_t index = (size_t)param;
    const size_t inputs = (size_t)operation->input_count;
    if (random_percent(&run->random, 30)) {
        return epx_cann_aclSetTensorAddr(executor, index, tensor->handle, base);
    }
    return index < inputs ? epx_cann_aclSetInputTensorAddr(executor, index, tensor->handle, base)
                          : epx_cann_aclSetOutputTensorAddr(executor, index - inputs, tensor->handle, base);
}

/* Tensors with two storages: even runs in the one, odd ones in the other. */
static bool move(struct property_cann_run *run, int step)
{
    int repeat;
    const struct property_cann_operation *operation =
        operation_of(&run->plan, step, &repeat) == DISPATCH ? &run->dispatch : &run->combine;
    for (int i = 0; i < operation->param_count && property_cann_storage_count(run) == 2; i++) {
        const struct property_cann_tensor *tensor = operation->params[i];
        if (tensor->storages[1].tensor.storage != NULL &&
            !property_cann_good(run->place->report, "aclSetTensorAddr",
                                set_address(run, operation, *executor_of(run, step), i, repeat % 2))) {
            return false;
        }
    }
    return true;
}

static bool order_streams(struct property_cann_run *run)
{
    struct property_report *report = run->place->report;
    return property_cann_good(report, "aclrtCreateEvent", epx_cann_aclrtCreateEvent(&run->event)) &&
           property_cann_good(report, "aclrtRecordEvent", epx_cann_aclrtRecordEvent(run->event, run->streams[0])) &&
           property_cann_good(report, "aclrtStreamWaitEvent",
                              epx_cann_aclrtStreamWaitEvent(run->streams[1], run->event));
}

static bool launch(struct property_cann_run *run, int step)
{
    struct property_report *report = run->place->report;
    aclOpExecutor *executor = *executor_of(run, step);
    int repeat;
    if (operation_of(&run->plan, step, &repeat) == DISPATCH) {
        return property_cann_good(report, "aclnnMoeDistributeDispatch",
                                  epx_cann_aclnnMoeDistributeDispatch(NULL, 0, executor, run->streams[0])) &&
               (!run->plan.event || order_streams(run));
    }
    return property_cann_good(report, "aclnnMoeDistributeCombine",
                              epx_cann_aclnnMoeDistributeCombine(NULL, 0, executor, run->streams[1]));
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

static aclError code_of(const struct ref_error *error)
{
    switch (error->status) {
    case REF_BAD_EXPERT_ID: return ACL_ERROR_RT_AICORE_EXCEPTION;
    case REF_CAPACITY: return ACL_ERROR_RT_AICORE_TRAP_WRITE_OVERFLOW;
    case REF_BAD_COUNTS: return ACL_ERROR_RT_AICORE_TRAP_READ_OVERFLOW;
    default: return ACL_SUCCESS;
    }
}

static bool names_id(const char *message, const struct ref_error *error)
{
    char place[96];
    snprintf(place, sizeof place, "expertIds[%lld][%lld] is %lld,", (long long)error->token, (long long)error->slot,
             (long long)error->value);
    return message != NULL && strstr(message, place) != NULL;
}

/* Waits so short that operations which have begun go from this thread to the stream's worker and back. */
static aclError synchronize_in_pieces(aclrtStream stream)
{
    aclError code = ACL_ERROR_RT_STREAM_SYNC_TIMEOUT;
    for (int32_t ms = 0; ms < WAIT_MS_MAX && code == ACL_ERROR_RT_STREAM_SYNC_TIMEOUT; ms++) {
        code = epx_cann_aclrtSynchronizeStreamWithTimeout(stream, 1);
    }
    return code;
}

static bool synchronize(struct property_cann_run *run, aclrtStream stream, const struct ref_error *error)
{
    const aclError code =
        run->plan.with_timeout ? synchronize_in_pieces(stream) : epx_cann_aclrtSynchronizeStream(stream);
    const char *message = code == ACL_SUCCESS ? NULL : epx_cann_aclGetRecentErrMsg();
    if (code != code_of(error)) {
        return property_report_set(run->place->report, "synchronisation gave %d, must be %d: %s", (int)code,
                                   (int)code_of(error), message != NULL ? message : "no message");
    }
    if (error->status == REF_BAD_EXPERT_ID && !names_id(message, error)) {
        return property_report_set(run->place->report, "message \"%s\" does not name expertIds[%lld][%lld] is %lld",
                                   message != NULL ? message : "", (long long)error->token, (long long)error->slot,
                                   (long long)error->value);
    }
    return true;
}

/* A combine behind a failed dispatch fails with it. */
static const struct ref_error *error_of(const struct property_cann_run *run, int operation)
{
    const struct world *world = run->world;
    const bool dispatch_failed = world->dispatch_error.status != REF_OK;
    return operation == DISPATCH || dispatch_failed ? &world->dispatch_error : &world->combine_error;
}

static bool enter_to_queue(struct property_cann_run *run)
{
    const int32_t other = (run->place->device + 1) % PROPERTY_CANN_RANK_MAX;
    if (run->plan.elsewhere) {
        return property_cann_good(run->place->report, "aclrtSetDevice", epx_cann_aclrtSetDevice(other));
    }
    return property_cann_place_enter(run->place);
}

bool property_cann_run_queue(struct property_cann_run *run)
{
    if (!enter_to_queue(run) || (run->plan.ahead && !prepare_all(run))) {
        return false;
    }
    for (int step = 0; step < 2 * run->plan.repeats; step++) {
        int repeat;
        const int operation = operation_of(&run->plan, step, &repeat);
        if (!prepare(run, step) || !move(run, step) || !launch(run, step)) {
            return false;
        }
        if (run->plan.synchronizes_often && !synchronize(run, run->streams[operation], error_of(run, operation))) {
            return false;
        }
    }
    for (int i = 0; i < 2 && run->plan.repeatable && !run->plan.keeps_executors; i++) {
        if (!property_cann_good(run->place->report, "aclDestroyAclOpExecutor",
                                epx_cann_aclDestroyAclOpExecutor(run->executors[i]))) {
            return false;
        }
        run->executors[i] = NULL;
    }
    return true;
}

bool property_cann_run_wait(struct property_cann_run *run)
{
    static const struct ref_error none = {.status = REF_OK};
    if (!property_cann_place_enter(run->place)) {
        return false;
    }
    if (run->plan.synchronizes_often) {
        return synchronize(run, run->streams[0], &none) && synchronize(run, run->streams[1], &none);
    }
    if (!run->plan.two_streams) {
        return synchronize(run, run->streams[0], error_of(run, COMBINE));
    }
    const int first = run->plan.combine_waited_first ? COMBINE : DISPATCH;
    const int second = run->plan.combine_waited_first ? DISPATCH : COMBINE;
    return synchronize(run, run->streams[first], error_of(run, first)) &&
           synchronize(run, run->streams[second], error_of(run, second));
}

/* ---- Checking ---------------------------------------------------------------------------------------------------- */

static bool check_tensors(struct property_cann_run *run, const char *what, const struct property_cann_operation *op,
                          bool failed)
{
    char text[PROPERTY_TEXT_BYTES / 2];
    for (int i = 0; i < op->param_count; i++) {
        if (!property_cann_tensor_check(&op->own[i], !failed, text, sizeof text)) {
            return property_report_set(run->place->report, "%s: %s", what, text);
        }
    }
    return true;
}

bool property_cann_run_check(struct property_cann_run *run)
{
    const bool dispatch_failed = error_of(run, DISPATCH)->status != REF_OK;
    const bool combine_failed = error_of(run, COMBINE)->status != REF_OK;
    if (!dispatch_failed) {
        property_cann_dispatch_expect(run);
    }
    if (!combine_failed) {
        property_cann_combine_expect(run);
    }
    return check_tensors(run, "dispatch", &run->dispatch, dispatch_failed) &&
           check_tensors(run, "combine", &run->combine, combine_failed);
}

/* ---- A world ----------------------------------------------------------------------------------------------------- */

bool property_cann_run_alone(struct property_cann_place *place, const struct world *world)
{
    struct property_cann_run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        abort();
    }
    bool good = property_cann_run_init(run, place, world, false) && property_cann_run_queue(run);
    if (!good) {
        property_cann_place_leave(place);
    }
    good = good && property_cann_run_wait(run) && property_cann_run_check(run);
    property_cann_run_fini(run);
    free(run);
    return good;
}

void property_cann_run_together(struct property_cann_place *places, int64_t count, const struct world *world)
{
    struct property_cann_run *runs = calloc((size_t)count, sizeof *runs);
    if (runs == NULL) {
        abort();
    }
    for (int64_t i = 0; i < count; i++) {
        if (!property_cann_run_init(&runs[i], &places[i], world, true) || !property_cann_run_queue(&runs[i])) {
            property_cann_place_leave(&places[i]);
        }
    }
    for (int64_t i = count - 1; i >= 0; i--) {
        (void)(property_cann_run_wait(&runs[i]) && property_cann_run_check(&runs[i]));
    }
    for (int64_t i = 0; i < count; i++) {
        property_cann_run_fini(&runs[i]);
    }
    free(runs);
}
