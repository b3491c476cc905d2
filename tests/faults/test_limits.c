/*
 * Programs under limits of the system, through both doors: address space, file size, data, threads, descriptors, locked
 * memory, a memory cgroup. Every call works or says what is missing; nothing ends by a signal and nothing hangs; and
 * where the limit can be lifted, everything works afterwards in the same process.
 */
#include "limits.h"

#include "cann/exports_acl.h"
#include "cann/exports_hccl.h"
#include "epx/epx.h"

#include <grp.h>

#include "cann/door_world.h"
#include "memory_cgroup.h"

#define HIDDEN      64
#define TOKEN_COUNT 6
#define TOPK        2
#define EXPERTS     4
#define LARGE_BYTES (70 * MIB)

/* Of the program's own, there before any limit is. */
static uint16_t x[TOKEN_COUNT * HIDDEN];
static uint16_t out[TOKEN_COUNT * HIDDEN];
static uint16_t rows[TOKEN_COUNT * TOPK * HIDDEN];
static int32_t ids[TOKEN_COUNT * TOPK];
static float weights[TOKEN_COUNT * TOPK];
static int32_t idx[TOKEN_COUNT * TOPK];
static int64_t nums[EXPERTS];
static int32_t counts[EXPERTS];

static void fill_inputs(void)
{
    for (int i = 0; i < TOKEN_COUNT * HIDDEN; i++) {
        x[i] = (uint16_t)(0x3F80 + i % 128);
        out[i] = 0;
    }
    for (int i = 0; i < TOKEN_COUNT * TOPK; i++) {
        ids[i] = (i * 3) % EXPERTS;
        weights[i] = 0.5f;
    }
}

/* Experts that return their rows: with two weights of a half the tokens come back as they were. */
static void exchange(struct limit_report *report, struct epx_plan *plan)
{
    struct epx_dispatch_args dispatch = EPX_DISPATCH_ARGS_INIT;
    struct epx_combine_args combine = EPX_COMBINE_ARGS_INIT;
    struct epx_request *request = NULL;
    fill_inputs();
    dispatch.token_count = combine.token_count = TOKEN_COUNT;
    dispatch.x = x;
    dispatch.expert_ids = combine.expert_ids = ids;
    dispatch.expand_x = rows;
    combine.expand_x = rows;
    dispatch.expand_idx = idx;
    combine.expand_idx = idx;
    dispatch.expert_token_nums = nums;
    dispatch.ep_recv_counts = counts;
    combine.ep_send_counts = counts;
    combine.expert_scales = weights;
    combine.x = out;
    if (limit_note_epx(report, "epx_dispatch", epx_dispatch(plan, &dispatch)) &&
        limit_note_epx(report, "epx_combine_start", epx_combine_start(plan, &combine, &request)) &&
        limit_note_epx(report, "epx_wait", epx_wait(&request, 10000)) && memcmp(x, out, sizeof x) != 0) {
        _exit(3);
    }
}

static void use_communicator(struct limit_report *report, struct epx_communicator *comm)
{
    struct epx_moe_config moe = EPX_MOE_CONFIG_INIT;
    struct epx_plan *plan = NULL;
    moe.expert_count = EXPERTS;
    moe.hidden_elems = HIDDEN;
    moe.topk = TOPK;
    moe.token_max = TOKEN_COUNT;
    if (limit_note_epx(report, "epx_plan_create", epx_plan_create(comm, &moe, &plan))) {
        exchange(report, plan);
    }
    epx_plan_destroy(plan);
    plan = NULL;
    moe.token_max = 4000; /* 40 MB of tokens to be copied, and 80 MB of rows */
    moe.hidden_elems = 5000;
    (void)limit_note_epx(report, "a large epx_plan_create", epx_plan_create(comm, &moe, &plan));
    epx_plan_destroy(plan);
}

static void use_own_door(struct limit_report *report)
{
    struct epx_comm_config config = EPX_COMM_CONFIG_INIT;
    struct epx_communicator *comms[3] = {0};
    void *small = NULL;
    void *large = NULL;
    void *reserved = NULL;
    config.join_timeout_ms = 20000;
    config.op_timeout_ms = 20000;
    if (limit_note_epx(report, "epx_memory_alloc of 1 MiB", epx_memory_alloc(MIB, &small))) {
        memset(small, 1, MIB);
    }
    if (limit_note_epx(report, "epx_memory_alloc of 70 MiB", epx_memory_alloc(LARGE_BYTES, &large))) {
        memset(large, 1, LARGE_BYTES);
    }
    if (limit_note_epx(report, "epx_memory_reserve of 70 MiB", epx_memory_reserve(LARGE_BYTES, &reserved)) &&
        limit_note_epx(report, "epx_memory_need", epx_memory_need(reserved, LARGE_BYTES))) {
        memset(reserved, 1, LARGE_BYTES);
    }
    if (limit_note_epx(report, "epx_comm_create_local of 3", epx_comm_create_local(3, &config, comms))) {
        for (int i = 0; i < 3; i++) {
            (void)limit_note_epx(report, "epx_comm_destroy", epx_comm_destroy(comms[i]));
        }
    }
    if (limit_note_epx(report, "epx_comm_create_local of 1", epx_comm_create_local(1, &config, comms))) {
        use_communicator(report, comms[0]);
        (void)limit_note_epx(report, "epx_comm_destroy", epx_comm_destroy(comms[0]));
    }
    (void)limit_note_epx(report, "epx_memory_free", epx_memory_free(small));
    (void)limit_note_epx(report, "epx_memory_free", epx_memory_free(large));
    (void)limit_note_epx(report, "epx_memory_free", epx_memory_free(reserved));
}

static bool note_cann(struct limit_report *report, const char *name, int code)
{
    return limit_note(report, name, code, code != 0 ? epx_cann_aclGetRecentErrMsg() : NULL);
}

static void queue_on(struct limit_report *report, struct door_rank *self)
{
    uint64_t workspace = 0;
    aclOpExecutor *executor = NULL;
    memcpy(self->data[DOOR_IDS], ids, sizeof ids);
    if (note_cann(report, "aclnnMoeDistributeDispatchGetWorkspaceSize",
                  door_dispatch_prepare(self, &workspace, &executor)) &&
        note_cann(report, "aclnnMoeDistributeDispatch",
                  epx_cann_aclnnMoeDistributeDispatch(NULL, workspace, executor, self->stream))) {
        (void)note_cann(report, "aclrtSynchronizeStream",
                        epx_cann_aclrtSynchronizeStreamWithTimeout(self->stream, 10000));
    }
}

static void use_cann_communicator(struct limit_report *report, HcclComm comm, aclrtStream stream)
{
    static const struct door_sizes sizes = {.rank_count = 1,
                                            .tokens = TOKEN_COUNT,
                                            .hidden = HIDDEN,
                                            .topk = TOPK,
                                            .experts = EXPERTS,
                                            .rows = TOKEN_COUNT * TOPK};
    struct door_rank self = {.sizes = &sizes, .comm = comm, .stream = stream};
    fill_inputs();
    (void)note_cann(report, "HcclGetCommName", (int)epx_cann_HcclGetCommName(comm, self.name));
    door_tensors_create(&self);
    if (self.failure[0] == '\0') {
        queue_on(report, &self);
    }
    door_tensors_destroy(&self);
}

static void use_cann_door(struct limit_report *report)
{
    HcclComm comm = NULL;
    aclrtStream stream = NULL;
    void *small = NULL;
    void *large = NULL;
    void *host = NULL;
    int32_t device = 0;
    if (!note_cann(report, "aclrtSetDevice", epx_cann_aclrtSetDevice(0))) {
        return;
    }
    if (note_cann(report, "aclrtMalloc of 1 MiB", epx_cann_aclrtMalloc(&small, MIB, ACL_MEM_MALLOC_HUGE_FIRST))) {
        (void)note_cann(report, "aclrtMemset of 1 MiB", epx_cann_aclrtMemset(small, MIB, 1, MIB));
    }
    /* Only the runtime writes to a device's memory: what it cannot have is an error of the copy. */
    if (note_cann(report, "aclrtMalloc of 70 MiB",
                  epx_cann_aclrtMalloc(&large, LARGE_BYTES, ACL_MEM_MALLOC_HUGE_ONLY))) {
        (void)note_cann(report, "aclrtMemset of 70 MiB", epx_cann_aclrtMemset(large, LARGE_BYTES, 1, LARGE_BYTES));
    }
    (void)note_cann(report, "aclrtMallocHost", epx_cann_aclrtMallocHost(&host, MIB));
    if (note_cann(report, "aclrtCreateStream", epx_cann_aclrtCreateStream(&stream))) {
        if (note_cann(report, "HcclCommInitAll", (int)epx_cann_HcclCommInitAll(1, &device, &comm))) {
            use_cann_communicator(report, comm, stream);
            (void)note_cann(report, "HcclCommDestroy", (int)epx_cann_HcclCommDestroy(comm));
        }
        (void)note_cann(report, "aclrtDestroyStream", epx_cann_aclrtDestroyStream(stream));
    }
    void *const given[] = {small, large, host};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        if (given[i] != NULL) {
            (void)note_cann(report, "aclrtFree", epx_cann_aclrtFree(given[i]));
        }
    }
    (void)note_cann(report, "aclrtResetDevice", epx_cann_aclrtResetDevice(0));
}

struct door {
    const char *name;
    void (*use)(struct limit_report *report);
    int memory_codes[4]; /* what "no memory" is there; ended by 0 */
    int system_codes[8]; /* these, and what "the system refuses" is */
};

static const struct door doors[] = {
    {"epx.h", use_own_door, {EPX_ERR_NO_MEMORY, 0}, {EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, 0}},
    {"CANN",
     use_cann_door,
     {ACL_ERROR_RT_MEMORY_ALLOCATION, HCCL_E_MEMORY, 0},
     {ACL_ERROR_RT_MEMORY_ALLOCATION, HCCL_E_MEMORY, ACL_ERROR_RT_RESOURCE_ALLOC_FAIL, HCCL_E_SYSCALL, 361001, 0}},
};

#define DOOR_COUNT (sizeof doors / sizeof doors[0])

struct trial {
    const char *what;
    int resource;
    rlim_t amount;
    const char *used_line; /* of /proc/self/status: `amount` comes on top of it; null: as it is */
    bool warm;             /* the arena is open when the limit comes */
    bool system_too;       /* the system may refuse for another reason than memory */
    uid_t user;            /* 0: as we are */
};

static bool apply(const struct trial *trial)
{
    rlim_t amount = trial->amount + (trial->used_line != NULL ? limit_own_bytes(trial->used_line) : 0);
    if (trial->user != 0 && (setgroups(0, NULL) != 0 || setresgid(trial->user, trial->user, trial->user) != 0 ||
                             setresuid(trial->user, trial->user, trial->user) != 0)) {
        return false;
    }
    return limit_set(trial->resource, amount);
}

static void trial_child(const struct trial *trial, const struct door *door, struct limit_report *report)
{
    void *memory = NULL;
    if (trial->warm && epx_memory_alloc(100, &memory) != EPX_OK) {
        _exit(4);
    }
    if (!apply(trial)) {
        report->unusable = true;
        _exit(0);
    }
    door->use(report);
    report->lifted_at = report->count;
    if (!limit_set(trial->resource, RLIM_INFINITY)) {
        _exit(5);
    }
    door->use(report);
    _exit(0);
}

/* Number of calls that the limit made fail, -1 when it could not be set. */
static int run_trial(const struct trial *trial, const struct door *door)
{
    struct limit_report *report = limit_reports_create(1);
    char what[128];
    pid_t parent = getpid();
    (void)snprintf(what, sizeof what, "%s, %s %llu%s%s", door->name, trial->what, (unsigned long long)trial->amount,
                   trial->used_line != NULL ? " more" : "", trial->warm ? ", arena open" : "");
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        limit_child_begin(parent);
        trial_child(trial, door, report);
    }
    limit_child_expect(pid, report, what);
    limit_report_judge(report, trial->system_too ? door->system_codes : door->memory_codes, what);
    int failures = report->unusable ? -1 : (int)limit_failures(report);
    limit_reports_destroy(report, 1);
    return failures;
}

/* Both doors under each amount. The first must be felt, but for soft limits on descriptors, which the library raises
 * once its arena is open; the last must not be felt where `last_is_enough`. */
static void run_amounts(struct trial trial, const rlim_t *amounts, size_t amount_count, bool last_is_enough)
{
    for (size_t d = 0; d < DOOR_COUNT; d++) {
        for (size_t i = 0; i < amount_count; i++) {
            trial.amount = amounts[i];
            int failures = run_trial(&trial, &doors[d]);
            if (failures < 0) {
                print_message("SKIPPED %s: not to be set here\n", trial.what);
                skip();
            }
            if (i == 0 && !(trial.warm && trial.resource == RLIMIT_NOFILE)) {
                assert_int_not_equal(failures, 0);
            }
            if (i + 1 == amount_count && last_is_enough) {
                assert_int_equal(failures, 0);
            }
        }
    }
}

static void limit__address_space(void **state)
{
    (void)state;
    static const rlim_t amounts[] = {0,        MIB,       4 * MIB,   15 * MIB,  17 * MIB, 19 * MIB,
                                     34 * MIB, 100 * MIB, 200 * MIB, 700 * MIB, GIB,      4 * GIB};
    if (limit_sanitized()) {
        print_message("SKIPPED RLIMIT_AS: the sanitizer needs the address space\n");
        skip();
    }
    struct trial trial = {.what = "RLIMIT_AS", .resource = RLIMIT_AS, .used_line = "VmSize:"};
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], false);
    trial.warm = true;
    run_amounts(trial, amounts, 6, false);
}

static void limit__data(void **state)
{
    (void)state;
    static const rlim_t amounts[] = {0, 65536, MIB, 9 * MIB, 40 * MIB, GIB};
    if (limit_sanitized()) {
        print_message("SKIPPED RLIMIT_DATA: the sanitizer needs the memory\n");
        skip();
    }
    struct trial trial = {.what = "RLIMIT_DATA", .resource = RLIMIT_DATA, .used_line = "VmData:"};
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
    trial.warm = true;
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
}

static void limit__file_size(void **state)
{
    (void)state;
    static const rlim_t amounts[] = {0, 4096, 65536, MIB, 100 * MIB, 2 * GIB};
    struct trial trial = {.what = "RLIMIT_FSIZE", .resource = RLIMIT_FSIZE};
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
    trial.warm = true;
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
}

static void limit__descriptors(void **state)
{
    (void)state;
    static const rlim_t amounts[] = {0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 64};
    struct trial trial = {.what = "RLIMIT_NOFILE", .resource = RLIMIT_NOFILE, .system_too = true};
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
    trial.warm = true;
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], true);
}

static void limit__threads(void **state)
{
    (void)state;
    static const rlim_t amounts[] = {0, 1, 2, 3, 64};
    struct trial trial = {.what = "RLIMIT_NPROC", .resource = RLIMIT_NPROC, .system_too = true};
    if (geteuid() == 0) {
        trial.user = 65534; /* root has as many as it likes */
    }
    run_amounts(trial, amounts, sizeof amounts / sizeof amounts[0], false);
}

static void limit__locked_memory_is_not_needed(void **state)
{
    (void)state;
    const struct trial trial = {.what = "RLIMIT_MEMLOCK", .resource = RLIMIT_MEMLOCK};
    for (size_t d = 0; d < DOOR_COUNT; d++) {
        assert_int_equal(run_trial(&trial, &doors[d]), 0);
    }
}

/* ---- A memory cgroup ------------------------------------------------------------------------------------------- */

struct group_child {
    const struct memory_cgroup *group;
    const struct door *door;
    pid_t parent;
};

static pid_t group_child_start(const struct group_child *child, struct limit_report *report)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        limit_child_begin(child->parent);
        report->unusable = !memory_cgroup_enter(child->group);
        if (!report->unusable) {
            child->door->use(report);
        }
        _exit(0);
    }
    return pid;
}

/* Several processes at once in a group that is too small for all of them. */
static uint32_t run_in_group(const struct memory_cgroup *group, const struct door *door, uint32_t process_count)
{
    struct limit_report *reports = limit_reports_create(process_count);
    const struct group_child child = {group, door, getpid()};
    pid_t pids[8];
    char what[128];
    uint32_t failures = 0;
    for (uint32_t i = 0; i < process_count; i++) {
        pids[i] = group_child_start(&child, &reports[i]);
    }
    for (uint32_t i = 0; i < process_count; i++) {
        (void)snprintf(what, sizeof what, "%s, process %u of %u in a cgroup of %zu MiB", door->name, i, process_count,
                       group->limit_bytes / MIB);
        limit_child_expect(pids[i], &reports[i], what);
        assert_false(reports[i].unusable);
        limit_report_judge(&reports[i], door->memory_codes, what);
        failures += limit_failures(&reports[i]);
    }
    limit_reports_destroy(reports, process_count);
    return failures;
}

static void limit__memory_cgroup(void **state)
{
    (void)state;
    static const size_t sizes[] = {40 * MIB, 64 * MIB, 100 * MIB, 160 * MIB, 2 * GIB};
    struct memory_cgroup group;
    if (limit_sanitized()) {
        print_message("SKIPPED memory cgroup: the sanitizer's memory counts too\n");
        skip();
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (!memory_cgroup_create(&group, sizes[i])) {
            print_message("SKIPPED memory cgroup: %s\n", group.reason);
            skip();
        }
        for (size_t d = 0; d < DOOR_COUNT; d++) {
            uint32_t alone = run_in_group(&group, &doors[d], 1);
            uint32_t together = run_in_group(&group, &doors[d], 4);
            assert_true(sizes[i] > 64 * MIB || alone > 0);
            assert_true(sizes[i] > 160 * MIB || together > 0);
            assert_true(sizes[i] < GIB || d == 0 || alone == 0);
        }
        memory_cgroup_destroy(&group);
    }
}

int main(void)
{
    (void)setenv("EPX_LOG", "error", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limit__address_space), cmocka_unit_test(limit__data),
        cmocka_unit_test(limit__file_size),     cmocka_unit_test(limit__descriptors),
        cmocka_unit_test(limit__threads),       cmocka_unit_test(limit__locked_memory_is_not_needed),
        cmocka_unit_test(limit__memory_cgroup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
