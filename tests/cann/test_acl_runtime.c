/* The acl and aclrt functions: each function with each of its errors. */
#include "cann/acl_state.h"
#include "cann/exports_acl.h"
#include "cann/status_map.h"
#include "memory/arena.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void *const garbage[] = {(void *)1, (void *)0x7fff12345678, (void *)~(uintptr_t)0, (void *)garbage,
                                (void *)0x0010000000100000};
#define GARBAGE_COUNT (sizeof garbage / sizeof garbage[0])

/* The thread's last refusal must start with its code and hold `word`. */
static void expect_message(int code, const char *word)
{
    char start[16];
    const char *text = epx_cann_aclGetRecentErrMsg();
    assert_non_null(text);
    snprintf(start, sizeof start, "%d: ", code);
    assert_memory_equal(text, start, strlen(start));
    assert_non_null(strstr(text, word));
    assert_null(epx_cann_aclGetRecentErrMsg());
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void init__counts_references(void **state)
{
    (void)state;
    uint64_t left = 99;
    assert_int_equal(epx_cann_aclFinalize(), 100037);
    expect_message(100037, "not started");
    assert_int_equal(epx_cann_aclFinalizeReference(&left), 100037);
    assert_int_equal(left, 99);
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    assert_int_equal(epx_cann_aclInit(NULL), 100002);
    expect_message(100002, "2");
    assert_int_equal(epx_cann_aclFinalizeReference(&left), 0);
    assert_int_equal(left, 1);
    assert_int_equal(epx_cann_aclFinalizeReference(NULL), 0);
    assert_int_equal(epx_cann_aclFinalize(), 100037);
    assert_int_equal(epx_cann_aclInit(NULL), 0);
    assert_int_equal(epx_cann_aclInit(NULL), 100002);
    assert_int_equal(epx_cann_aclFinalize(), 0); /* whatever the count */
    assert_int_equal(epx_cann_aclFinalize(), 100037);
}

static void init__checks_its_file(void **state)
{
    (void)state;
    char path[] = "/tmp/epx-test-acl-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "{\"dump\": {\"dump_list\": []}}\n");
    assert_int_equal(epx_cann_aclInit(path), 0);
    assert_int_equal(epx_cann_aclFinalize(), 0);
    assert_int_equal(epx_cann_aclnnInit(path), 0);
    write_file(path, "{\"dump\": \n");
    assert_int_equal(epx_cann_aclInit(path), 100006);
    expect_message(100006, "line");
    assert_int_equal(epx_cann_aclnnInit(path), 161002);
    write_file(path, "");
    assert_int_equal(epx_cann_aclInit(path), 100006);
    unlink(path);
    assert_int_equal(epx_cann_aclInit(path), 100003);
    expect_message(100003, path);
    assert_int_equal(epx_cann_aclInit("/tmp"), 100003);
    assert_int_equal(epx_cann_aclFinalize(), 100037); /* none of these started it */
    assert_int_equal(epx_cann_aclnnInit(NULL), 0);
    assert_int_equal(epx_cann_aclnnFinalize(), 0);
}

static void version__is_that_of_the_headers(void **state)
{
    (void)state;
    int32_t version[3] = {0};
    assert_int_equal(epx_cann_aclrtGetVersion(&version[0], &version[1], &version[2]), 0);
    assert_int_equal(version[0], 1);
    assert_int_equal(version[1], 17);
    assert_int_equal(version[2], 0);
    assert_int_equal(epx_cann_aclrtGetVersion(NULL, &version[1], &version[2]), 100000);
    assert_int_equal(epx_cann_aclrtGetVersion(&version[0], NULL, &version[2]), 100000);
    assert_int_equal(epx_cann_aclrtGetVersion(&version[0], &version[1], NULL), 100000);
    expect_message(100000, "patchVersion");
}

static void device__count_and_range(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        uint32_t count;
    } lists[] = {{"0,1,2,3", 4},
                 {"3", 1},
                 {"2,1", 1},
                 {"0,0", 1},
                 {"0,16,1", 1},
                 {"x", 0},
                 {"1,,2", 1},
                 {"4, 5", 1},
                 {"0,1,", 2},
                 {"-1", 0},
                 {"0,1a,2", 1},
                 {"", 16},
                 {"1,99999999999999999999", 1}};
    uint32_t count = 0;
    assert_int_equal(epx_cann_aclrtGetDeviceCount(NULL), 100000);
    assert_int_equal(epx_cann_aclrtGetDeviceCount(&count), 0);
    assert_int_equal(count, 16);
    assert_int_equal(epx_cann_aclrtSetDevice(16), 107001);
    expect_message(107001, "16");
    assert_int_equal(epx_cann_aclrtSetDevice(-1), 107001);
    assert_int_equal(epx_cann_aclrtResetDevice(16), 107001);
    assert_int_equal(epx_cann_aclrtResetDevice(-1), 107001);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        setenv("ASCEND_RT_VISIBLE_DEVICES", lists[i].list, 1);
        assert_int_equal(epx_cann_aclrtGetDeviceCount(&count), 0);
        assert_int_equal(count, lists[i].count);
        assert_int_equal(epx_cann_aclrtSetDevice((int32_t)count), 107001);
    }
    unsetenv("ASCEND_RT_VISIBLE_DEVICES");
    setenv("EPX_DEVICE_COUNT", "288", 1);
    assert_int_equal(epx_cann_aclrtGetDeviceCount(&count), 0);
    assert_int_equal(count, 288);
    setenv("EPX_DEVICE_COUNT", "none", 1);
    assert_int_equal(epx_cann_aclrtGetDeviceCount(&count), 107000);
    expect_message(107000, "EPX_DEVICE_COUNT");
    assert_int_equal(epx_cann_aclrtSetDevice(0), 107000);
    unsetenv("EPX_DEVICE_COUNT");
}

static void device__product_name(void **state)
{
    (void)state;
    aclrtRunMode mode = ACL_DEVICE;
    assert_string_equal(epx_cann_aclrtGetSocName(), "epx-host");
    setenv("EPX_PRODUCT", "A2", 1);
    assert_string_equal(epx_cann_aclrtGetSocName(), "Ascend910B");
    setenv("EPX_PRODUCT", "A3", 1);
    assert_string_equal(epx_cann_aclrtGetSocName(), "Ascend910_93");
    setenv("EPX_PRODUCT", "A9", 1);
    assert_null(epx_cann_aclrtGetSocName());
    unsetenv("EPX_PRODUCT");
    assert_int_equal(epx_cann_aclrtGetRunMode(NULL), 100000);
    assert_int_equal(epx_cann_aclrtGetRunMode(&mode), 0);
    assert_int_equal(mode, ACL_HOST);
}

static void *thread_without_context(void *argument)
{
    int32_t device = 77;
    aclrtContext context = NULL;
    aclrtStream stream = NULL;
    aclrtEvent event = NULL;
    aclrtStreamStatus status;
    size_t bytes[2];
    uintptr_t wrong = 0;
    (void)argument;
    wrong += epx_cann_aclrtGetDevice(&device) != 107002;
    wrong += device != 77;
    wrong += epx_cann_aclrtGetCurrentContext(&context) != 107002;
    wrong += epx_cann_aclrtCreateStream(&stream) != 107002;
    wrong += epx_cann_aclrtCreateEvent(&event) != 107002;
    wrong += epx_cann_aclrtSynchronizeStream(NULL) != 107002;
    wrong += epx_cann_aclrtSynchronizeStreamWithTimeout(NULL, 5) != 107002;
    wrong += epx_cann_aclrtStreamQuery(NULL, &status) != 107002;
    wrong += epx_cann_aclrtSynchronizeDevice() != 107002;
    wrong += epx_cann_aclrtMemsetAsync(bytes, sizeof bytes, 0, 1, NULL) != 107002;
    wrong += epx_cann_aclrtGetMemInfo(ACL_HBM_MEM, &bytes[0], &bytes[1]) != 107002;
    wrong += epx_cann_current_device(&device) != EPX_ERR_STATE;
    return (void *)wrong;
}

static void context__is_the_thread_s(void **state)
{
    (void)state;
    int32_t device = -1;
    void *wrong = NULL;
    pthread_t thread;
    assert_int_equal(epx_cann_aclrtGetDevice(NULL), 100000);
    assert_int_equal(epx_cann_aclrtSetDevice(3), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_without_context, NULL), 0);
    pthread_join(thread, &wrong);
    assert_null(wrong);
    assert_int_equal(epx_cann_aclrtGetDevice(&device), 0);
    assert_int_equal(device, 3);
    assert_int_equal(epx_cann_aclrtSetDevice(5), 0);
    assert_int_equal(epx_cann_current_device(&device), EPX_OK);
    assert_int_equal(device, 5);
    assert_int_equal(epx_cann_aclrtResetDevice(5), 0);
    assert_int_equal(epx_cann_aclrtGetDevice(&device), 107002);
    expect_message(107002, "context");
    assert_int_equal(epx_cann_aclrtResetDevice(3), 0);
}

static void context__create_switch_destroy(void **state)
{
    (void)state;
    aclrtContext first = NULL;
    aclrtContext second = NULL;
    aclrtContext current = NULL;
    int32_t device = -1;
    assert_int_equal(epx_cann_aclrtCreateContext(NULL, 0), 100000);
    assert_int_equal(epx_cann_aclrtCreateContext(&first, 99), 107001);
    assert_null(first);
    assert_int_equal(epx_cann_aclrtCreateContext(&first, 1), 0);
    assert_int_equal(epx_cann_aclrtCreateContext(&second, 2), 0);
    assert_true(first != second);
    assert_int_equal(epx_cann_aclrtGetCurrentContext(NULL), 100000);
    assert_int_equal(epx_cann_aclrtGetCurrentContext(&current), 0);
    assert_ptr_equal(current, second);
    assert_int_equal(epx_cann_aclrtSetCurrentContext(first), 0);
    assert_int_equal(epx_cann_aclrtGetDevice(&device), 0);
    assert_int_equal(device, 1);
    assert_int_equal(epx_cann_aclrtSetCurrentContext(NULL), 100000);
    assert_int_equal(epx_cann_aclrtDestroyContext(NULL), 100000);
    for (size_t i = 0; i < GARBAGE_COUNT; i++) {
        assert_int_equal(epx_cann_aclrtSetCurrentContext(garbage[i]), 107002);
        assert_int_equal(epx_cann_aclrtDestroyContext(garbage[i]), 107002);
    }
    assert_int_equal(epx_cann_aclrtSetDevice(4), 0);
    assert_int_equal(epx_cann_aclrtGetCurrentContext(&current), 0);
    assert_int_equal(epx_cann_aclrtDestroyContext(current), 107002);
    expect_message(107002, "default");
    assert_int_equal(epx_cann_aclrtResetDevice(4), 0);
    assert_int_equal(epx_cann_aclrtSetCurrentContext(current), 107002);
    assert_int_equal(epx_cann_aclrtDestroyContext(first), 0);
    assert_int_equal(epx_cann_aclrtDestroyContext(first), 107002);
    assert_int_equal(epx_cann_aclrtSetCurrentContext(first), 107002);
    assert_int_equal(epx_cann_aclrtDestroyContext(second), 0);
}

static void stream__handles(void **state)
{
    (void)state;
    aclrtStream stream = NULL;
    aclrtStream configured = NULL;
    aclrtStreamStatus status = ACL_STREAM_STATUS_RESERVED;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(NULL), 100000);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    assert_int_equal(epx_cann_aclrtCreateStreamWithConfig(NULL, 0, 0), 100000);
    assert_int_equal(epx_cann_aclrtCreateStreamWithConfig(&configured, 7, ACL_STREAM_FAST_LAUNCH), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(configured), 0);
    assert_int_equal(epx_cann_aclrtStreamQuery(stream, NULL), 100000);
    assert_int_equal(epx_cann_aclrtStreamQuery(stream, &status), 0);
    assert_int_equal(status, ACL_STREAM_STATUS_COMPLETE);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, -2), 107000);
    expect_message(107000, "-2");
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, 0), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, -1), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(NULL), 0);
    assert_int_equal(epx_cann_aclrtStreamAbort(NULL), 100000);
    assert_int_equal(epx_cann_aclrtDestroyStream(NULL), 100000);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    void *handles[GARBAGE_COUNT + 1];
    memcpy(handles, garbage, sizeof garbage);
    handles[GARBAGE_COUNT] = stream;
    for (size_t i = 0; i <= GARBAGE_COUNT; i++) {
        assert_int_equal(epx_cann_aclrtDestroyStream(handles[i]), 107017);
        assert_int_equal(epx_cann_aclrtSynchronizeStream(handles[i]), 107017);
        assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(handles[i], 1), 107017);
        assert_int_equal(epx_cann_aclrtStreamQuery(handles[i], &status), 107017);
        assert_int_equal(epx_cann_aclrtStreamAbort(handles[i]), 107017);
        assert_int_equal(epx_cann_aclrtMemsetAsync(&status, 1, 0, 1, handles[i]), 107017);
    }
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

/* A new stream may take a dead one's place, but never its handle. */
static void stream__handles_are_not_used_again(void **state)
{
    (void)state;
    aclrtStream stale = NULL;
    aclrtStream stream = NULL;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stale), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stale), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
        assert_true(stream != stale);
        assert_int_equal(epx_cann_aclrtDestroyStream(stale), 107017);
        assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
        stale = stream;
    }
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void stream__number_is_limited(void **state)
{
    (void)state;
    static aclrtStream streams[1984];
    aclrtStream extra = NULL;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    for (size_t i = 0; i < 1984; i++) {
        assert_int_equal(epx_cann_aclrtCreateStream(&streams[i]), 0);
    }
    assert_int_equal(epx_cann_aclrtCreateStream(&extra), 207008);
    expect_message(207008, "1984");
    assert_null(extra);
    assert_int_equal(epx_cann_aclrtSetDevice(1), 0); /* another device has its own */
    assert_int_equal(epx_cann_aclrtCreateStream(&extra), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(extra), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(1), 0);
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(streams[1000]), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&streams[1000]), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(streams[0]), 0); /* one reference is left: it is alive */
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(streams[1]), 107017);
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&extra), 0); /* the reset gave all places back */
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

struct hold {
    atomic_bool entered;
    atomic_bool open;
    enum epx_status result;
};

static bool run_hold(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    struct hold *hold = context;
    atomic_store(&hold->entered, true);
    while (!atomic_load(&hold->open)) {
        usleep(200);
    }
    *status = hold->result == EPX_OK ? EPX_OK : epx_fail(hold->result, "rank 2 and rank 5 disagree");
    return true;
}

static void blame_hold(void *context, char *text, uint64_t text_bytes)
{
    (void)context;
    snprintf(text, text_bytes, "waiting for rank 5");
}

static void queue_hold(aclrtStream handle, struct hold *hold)
{
    struct epx_stream *stream = NULL;
    int32_t device = -1;
    const struct epx_task task = {.run = run_hold, .blame = blame_hold, .context = hold};
    assert_int_equal(epx_cann_stream_acquire(handle, &stream, &device), EPX_OK);
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
    epx_cann_stream_release(stream);
}

static void stream__time_out_and_failure(void **state)
{
    (void)state;
    struct hold hold = {.result = EPX_ERR_MISMATCH};
    aclrtStream stream = NULL;
    aclrtStreamStatus status = ACL_STREAM_STATUS_RESERVED;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    queue_hold(stream, &hold);
    while (!atomic_load(&hold.entered)) {
        usleep(200);
    }
    assert_int_equal(epx_cann_aclrtStreamQuery(stream, &status), 0);
    assert_int_equal(status, ACL_STREAM_STATUS_NOT_READY);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, 20), 507046);
    expect_message(507046, "waiting for rank 5");
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, 0), 507046);
    atomic_store(&hold.open, true);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), epx_cann_acl_error(EPX_ERR_MISMATCH));
    expect_message(epx_cann_acl_error(EPX_ERR_MISMATCH), "rank 2 and rank 5 disagree");
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 0);

    /* A round that timed out is not the wait's time-out. */
    struct hold late = {.result = EPX_ERR_TIMEOUT, .open = true};
    queue_hold(stream, &late);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(stream, 60000), epx_cann_acl_error(EPX_ERR_TIMEOUT));
    assert_int_not_equal(epx_cann_acl_error(EPX_ERR_TIMEOUT), 507046);

    struct hold other = {.result = EPX_ERR_CAPACITY, .open = true};
    queue_hold(NULL, &other); /* the default stream */
    assert_int_equal(epx_cann_aclrtSynchronizeDevice(), epx_cann_acl_error(EPX_ERR_CAPACITY));
    assert_int_equal(epx_cann_aclrtSynchronizeDevice(), 0);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void stream__abort(void **state)
{
    (void)state;
    struct hold hold = {0};
    aclrtStream stream = NULL;
    int32_t value = 5;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    queue_hold(stream, &hold);
    while (!atomic_load(&hold.entered)) {
        usleep(200);
    }
    assert_int_equal(epx_cann_aclrtMemsetAsync(&value, sizeof value, 0, sizeof value, stream), 0);
    assert_int_equal(epx_cann_aclrtStreamAbort(stream), 0);
    atomic_store(&hold.open, true);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), epx_cann_acl_error(EPX_ERR_ABORTED));
    assert_int_equal(value, 5);
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void event__order_and_time(void **state)
{
    (void)state;
    struct hold hold = {0};
    aclrtStream streams[2];
    aclrtEvent start = NULL;
    aclrtEvent end = NULL;
    aclrtEventRecordedStatus status = ACL_EVENT_RECORDED_STATUS_COMPLETE;
    float ms = -1;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateEvent(NULL), 100000);
    assert_int_equal(epx_cann_aclrtCreateEventWithFlag(NULL, ACL_EVENT_SYNC), 100000);
    assert_int_equal(epx_cann_aclrtCreateEventWithFlag(&start, 0), 107000);
    assert_int_equal(epx_cann_aclrtCreateEventWithFlag(&start, 0x40), 107000);
    assert_int_equal(epx_cann_aclrtCreateEvent(&start), 0);
    assert_int_equal(epx_cann_aclrtCreateEventWithFlag(&end, ACL_EVENT_TIME_LINE | ACL_EVENT_SYNC), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&streams[0]), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&streams[1]), 0);
    assert_int_equal(epx_cann_aclrtQueryEventStatus(start, &status), 0);
    assert_int_equal(status, ACL_EVENT_RECORDED_STATUS_NOT_READY);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, start, end), 107006);
    assert_int_equal(epx_cann_aclrtSynchronizeEvent(start), 0);

    assert_int_equal(epx_cann_aclrtRecordEvent(start, NULL), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeEvent(start), 0);
    queue_hold(streams[0], &hold);
    assert_int_equal(epx_cann_aclrtRecordEvent(end, streams[0]), 0);
    assert_int_equal(epx_cann_aclrtStreamWaitEvent(streams[1], end), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStreamWithTimeout(streams[1], 20), 507046);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, start, end), 107006);
    expect_message(107006, "endEvent");
    atomic_store(&hold.open, true);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(streams[1]), 0);
    assert_int_equal(epx_cann_aclrtQueryEventStatus(end, &status), 0);
    assert_int_equal(status, ACL_EVENT_RECORDED_STATUS_COMPLETE);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, start, end), 0);
    assert_true(ms >= 20.0f && ms < 60000.0f);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, end, start), 107007);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(NULL, start, end), 100000);
    assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, NULL, end), 100000);
    assert_int_equal(epx_cann_aclrtQueryEventStatus(end, NULL), 100000);
    assert_int_equal(epx_cann_aclrtRecordEvent(end, garbage[1]), 107017);
    assert_int_equal(epx_cann_aclrtDestroyEvent(start), 0);
    assert_int_equal(epx_cann_aclrtDestroyEvent(end), 0);
    void *bad[] = {start, end, garbage[0], garbage[1], garbage[2], streams[0]};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(epx_cann_aclrtDestroyEvent(bad[i]), 107017);
        assert_int_equal(epx_cann_aclrtRecordEvent(bad[i], NULL), 107017);
        assert_int_equal(epx_cann_aclrtStreamWaitEvent(NULL, bad[i]), 107017);
        assert_int_equal(epx_cann_aclrtSynchronizeEvent(bad[i]), 107017);
        assert_int_equal(epx_cann_aclrtQueryEventStatus(bad[i], &status), 107017);
        assert_int_equal(epx_cann_aclrtEventElapsedTime(&ms, bad[i], bad[i]), 107017);
    }
    assert_int_equal(epx_cann_aclrtDestroyEvent(NULL), 100000);
    assert_int_equal(epx_cann_aclrtRecordEvent(NULL, NULL), 100000);
    assert_int_equal(epx_cann_aclrtStreamWaitEvent(NULL, NULL), 100000);
    assert_int_equal(epx_cann_aclrtSynchronizeEvent(NULL), 100000);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void memory__allocate_and_free(void **state)
{
    (void)state;
    static const int policies[] = {0, 1, 2, 3, 4, 5, 6, 7, 0x0100, 0x1001, 0x100002};
    void *pointer = NULL;
    char local[64];
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        const int kind = policies[i] & 0xff;
        const uintptr_t align = kind == 1 || kind == 4 || kind == 6 || kind == 7 ? 2u << 20 : 64;
        assert_int_equal(epx_cann_aclrtMalloc(&pointer, 1000, (aclrtMemMallocPolicy)policies[i]), 0);
        assert_int_equal((uintptr_t)pointer % align, 0);
        for (size_t at = 0; at < 1000; at++) {
            assert_int_equal(((unsigned char *)pointer)[at], 0);
        }
        memset(pointer, 0xff, 1000);
        assert_int_equal(epx_cann_aclrtFree(pointer), 0);
    }
    assert_int_equal(epx_cann_aclrtFree(pointer), 107000);
    assert_int_equal(epx_cann_aclrtFree(NULL), 100000);
    assert_int_equal(epx_cann_aclrtFree(local), 107000);
    assert_int_equal(epx_cann_aclrtFree((void *)1), 107000);
    assert_int_equal(epx_cann_aclrtMalloc(NULL, 8, ACL_MEM_MALLOC_HUGE_FIRST), 100000);
    pointer = NULL;
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, 0, ACL_MEM_MALLOC_HUGE_FIRST), 100000);
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, 8, (aclrtMemMallocPolicy)8), 107018);
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, (size_t)1 << 60, ACL_MEM_MALLOC_HUGE_FIRST), 207001);
    assert_int_equal(epx_cann_aclrtMalloc(&pointer, SIZE_MAX, ACL_MEM_MALLOC_HUGE_ONLY), 207001);
    assert_null(pointer);
    assert_int_equal(epx_cann_aclrtMallocAlign32(&pointer, 33, ACL_MEM_MALLOC_NORMAL_ONLY), 0);
    assert_int_equal(epx_cann_aclrtFree(pointer), 0);
    assert_int_equal(epx_cann_aclrtMallocCached(&pointer, 33, ACL_MEM_MALLOC_NORMAL_ONLY), 0);
    assert_int_equal(epx_cann_aclrtFree((char *)pointer + 1), 107000);
    assert_int_equal(epx_cann_aclrtFree(pointer), 0);
    assert_int_equal(epx_cann_aclrtMallocHost(NULL, 8), 100000);
    assert_int_equal(epx_cann_aclrtMallocHost(&pointer, 0), 100000);
    assert_int_equal(epx_cann_aclrtMallocHost(&pointer, 8), 0);
    assert_int_equal(epx_cann_aclrtFreeHost(pointer), 0);
    assert_int_equal(epx_cann_aclrtFreeHost(pointer), 107000);
    assert_int_equal(epx_cann_aclrtFreeHost(NULL), 100000);
}

/* What the library has in the arena for itself is not the program's to free, whatever address it passes. */
static void memory__of_the_library_is_not_freed(void **state)
{
    (void)state;
    void *own = NULL;
    assert_int_equal(epx_arena_alloc(1000, 64, &own), EPX_OK);
    assert_int_equal(epx_cann_aclrtFree(own), 107000);
    expect_message(107000, "not the start of a live allocation");
    assert_int_equal(epx_cann_aclrtFreeHost(own), 107000);
    assert_int_equal(epx_arena_free(own), EPX_OK);
}

static void memory__copy_and_set(void **state)
{
    (void)state;
    char from[16] = "fifteen letters";
    char to[16] = "";
    assert_int_equal(epx_cann_aclrtMemcpy(NULL, 0, NULL, 0, (aclrtMemcpyKind)99), 0); /* count 0: before any check */
    assert_int_equal(epx_cann_aclrtMemcpy(NULL, 16, from, 16, ACL_MEMCPY_HOST_TO_DEVICE), 100000);
    assert_int_equal(epx_cann_aclrtMemcpy(to, 16, NULL, 16, ACL_MEMCPY_HOST_TO_DEVICE), 100000);
    assert_int_equal(epx_cann_aclrtMemcpy(to, 15, from, 16, ACL_MEMCPY_HOST_TO_DEVICE), 107000);
    assert_int_equal(epx_cann_aclrtMemcpy(to, 16, from, 16, (aclrtMemcpyKind)8), 107000);
    assert_int_equal(to[0], 0);
    for (int kind = 0; kind < 8; kind++) {
        memset(to, 0, sizeof to);
        assert_int_equal(epx_cann_aclrtMemcpy(to, 16, from, 16, (aclrtMemcpyKind)kind), 0);
        assert_string_equal(to, from);
    }
    assert_int_equal(epx_cann_aclrtMemset(NULL, 0, 1, 0), 0);
    assert_int_equal(epx_cann_aclrtMemset(NULL, 4, 1, 4), 100000);
    assert_int_equal(epx_cann_aclrtMemset(to, 3, 1, 4), 107000);
    assert_int_equal(epx_cann_aclrtMemset(to, 16, 0x141, 3), 0);
    assert_string_equal(to, "AAAteen letters");
}

static void memory__copy_and_set_on_a_stream(void **state)
{
    (void)state;
    char from[16] = "fifteen letters";
    char to[16] = "";
    struct hold hold = {0};
    aclrtStream stream = NULL;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtCreateStream(&stream), 0);
    queue_hold(stream, &hold);
    assert_int_equal(epx_cann_aclrtMemcpyAsync(to, 16, from, 16, ACL_MEMCPY_DEVICE_TO_HOST, stream), 0);
    assert_int_equal(epx_cann_aclrtMemsetAsync(to, 16, 'B', 2, stream), 0);
    assert_int_equal(to[0], 0);
    assert_int_equal(epx_cann_aclrtMemcpyAsync(to, 15, from, 16, ACL_MEMCPY_DEVICE_TO_HOST, stream), 107000);
    assert_int_equal(epx_cann_aclrtMemcpyAsync(NULL, 15, from, 1, ACL_MEMCPY_DEVICE_TO_HOST, stream), 100000);
    assert_int_equal(epx_cann_aclrtMemcpyAsync(NULL, 0, NULL, 0, ACL_MEMCPY_DEVICE_TO_HOST, garbage[0]), 0);
    assert_int_equal(epx_cann_aclrtMemsetAsync(NULL, 15, 0, 1, stream), 100000);
    assert_int_equal(epx_cann_aclrtMemsetAsync(to, 1, 0, 2, stream), 107000);
    assert_int_equal(epx_cann_aclrtMemsetAsync(NULL, 0, 0, 0, garbage[0]), 0);
    atomic_store(&hold.open, true);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(stream), 0);
    assert_string_equal(to, "BBfteen letters");
    assert_int_equal(epx_cann_aclrtMemsetAsync(to, 16, 'C', 1, NULL), 0);
    assert_int_equal(epx_cann_aclrtSynchronizeStream(NULL), 0);
    assert_string_equal(to, "CBfteen letters");
    assert_int_equal(epx_cann_aclrtDestroyStream(stream), 0);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void memory__information(void **state)
{
    (void)state;
    size_t available = 0;
    size_t total = 0;
    assert_int_equal(epx_cann_aclrtSetDevice(0), 0);
    assert_int_equal(epx_cann_aclrtGetMemInfo(ACL_HBM_MEM, &available, &total), 0);
    assert_true(available > 0 && available <= total);
    assert_int_equal(epx_cann_aclrtGetMemInfo(ACL_HBM_MEM, NULL, &total), 100000);
    assert_int_equal(epx_cann_aclrtGetMemInfo(ACL_HBM_MEM, &available, NULL), 100000);
    assert_int_equal(epx_cann_aclrtGetMemInfo((aclrtMemAttr)10, &available, &total), 107000);
    assert_int_equal(epx_cann_aclrtResetDevice(0), 0);
}

static void numbers__half_precision_and_sizes(void **state)
{
    (void)state;
    assert_int_equal(epx_cann_aclFloatToFloat16(1.0f), 0x3C00);
    assert_int_equal(epx_cann_aclFloatToFloat16(2049.0f), 0x6800); /* a tie, to even */
    assert_int_equal(epx_cann_aclFloatToFloat16(65520.0f), 0x7C00);
    assert_true(epx_cann_aclFloat16ToFloat(0xC400) == -4.0f);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_BF16), 2);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_INT64), 8);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_COMPLEX128), 16);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_BOOL), 1);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_INT4), 0);
    assert_int_equal(epx_cann_aclDataTypeSize(ACL_STRING), 0);
    assert_int_equal(epx_cann_aclDataTypeSize((aclDataType)12345), 0);
}

static void status_map__each_failed_round_has_its_code(void **state)
{
    (void)state;
    aclError seen[9];
    for (int i = 0; i < 9; i++) {
        seen[i] = epx_cann_acl_error((enum epx_status)(EPX_ERR_MISMATCH + i));
        assert_true(seen[i] > 507000 && seen[i] < 508000 && seen[i] != 507046);
        assert_int_equal(epx_cann_aclnn_status((enum epx_status)(EPX_ERR_MISMATCH + i)), 361001);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(seen[i], seen[j]);
        }
    }
    assert_int_equal(epx_cann_acl_error(EPX_OK), 0);
    assert_int_equal(epx_cann_acl_error(EPX_ERR_INTERNAL), 507000);
    assert_int_equal(epx_cann_acl_error((enum epx_status)999), 507000);
    assert_int_equal(epx_cann_acl_error(EPX_ERR_NO_MEMORY), 207001);
    assert_int_equal(epx_cann_aclnn_status(EPX_OK), 0);
    assert_int_equal(epx_cann_aclnn_status(EPX_ERR_NO_MEMORY), 207001);
    assert_int_equal(epx_cann_aclnn_status(EPX_ERR_NULL), 161001);
    assert_int_equal(epx_cann_aclnn_status(EPX_ERR_DTYPE), 161002);
    assert_int_equal(epx_cann_aclnn_status(EPX_ERR_SHAPE), 561002);
    assert_int_equal(epx_cann_aclnn_status(EPX_ERR_INVALID), 561002);
    assert_int_equal(epx_cann_hccl_result(EPX_OK), HCCL_SUCCESS);
    assert_int_equal(epx_cann_hccl_result(EPX_ERR_NULL), HCCL_E_PTR);
    assert_int_equal(epx_cann_hccl_result(EPX_ERR_CONFIG), HCCL_E_PARA);
    assert_int_equal(epx_cann_hccl_result(EPX_ERR_RANK_TABLE), HCCL_E_INTERNAL);
    assert_int_equal(epx_cann_hccl_result(EPX_ERR_JOIN_TIMEOUT), HCCL_E_TIMEOUT);
}

static void *message_thread(void *argument)
{
    (void)argument;
    return (void *)(uintptr_t)(epx_cann_aclGetRecentErrMsg() != NULL);
}

static void message__is_the_thread_s(void **state)
{
    (void)state;
    pthread_t thread;
    void *wrong = NULL;
    assert_int_equal(epx_cann_aclrtFree(NULL), 100000);
    assert_int_equal(pthread_create(&thread, NULL, message_thread, NULL), 0);
    pthread_join(thread, &wrong);
    assert_null(wrong);
    assert_int_equal(epx_cann_aclrtMemset(NULL, 0, 0, 0), 0); /* a success does not take it away */
    expect_message(100000, "devPtr");
}

static void first_time__is_once(void **state)
{
    (void)state;
    static _Atomic bool flag;
    assert_true(epx_cann_first_time(&flag));
    assert_false(epx_cann_first_time(&flag));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init__counts_references),
        cmocka_unit_test(init__checks_its_file),
        cmocka_unit_test(version__is_that_of_the_headers),
        cmocka_unit_test(device__count_and_range),
        cmocka_unit_test(device__product_name),
        cmocka_unit_test(context__is_the_thread_s),
        cmocka_unit_test(context__create_switch_destroy),
        cmocka_unit_test(stream__handles),
        cmocka_unit_test(stream__handles_are_not_used_again),
        cmocka_unit_test(stream__number_is_limited),
        cmocka_unit_test(stream__time_out_and_failure),
        cmocka_unit_test(stream__abort),
        cmocka_unit_test(event__order_and_time),
        cmocka_unit_test(memory__allocate_and_free),
        cmocka_unit_test(memory__of_the_library_is_not_freed),
        cmocka_unit_test(memory__copy_and_set),
        cmocka_unit_test(memory__copy_and_set_on_a_stream),
        cmocka_unit_test(memory__information),
        cmocka_unit_test(numbers__half_precision_and_sizes),
        cmocka_unit_test(status_map__each_failed_round_has_its_code),
        cmocka_unit_test(message__is_the_thread_s),
        cmocka_unit_test(first_time__is_once),
    };
    unsetenv("ASCEND_RT_VISIBLE_DEVICES");
    unsetenv("EPX_DEVICE_COUNT");
    unsetenv("EPX_PRODUCT");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
