/* Events: records, waits of streams and threads, destruction while others wait. */
#include "base/clock.h"
#include "runtime/stream.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static struct epx_stream *new_stream(void)
{
    struct epx_stream *stream = NULL;
    assert_int_equal(epx_stream_create(&stream), EPX_OK);
    return stream;
}

static struct epx_event *new_event(void)
{
    struct epx_event *event = NULL;
    assert_int_equal(epx_event_create(&event), EPX_OK);
    return event;
}

static bool run_until_set(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    while (!atomic_load((atomic_bool *)context)) {
        usleep(200);
    }
    *status = EPX_OK;
    return true;
}

static bool run_set(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    atomic_store((atomic_bool *)context, true);
    *status = EPX_OK;
    return true;
}

static void submit(struct epx_stream *stream, epx_task_run run, atomic_bool *flag)
{
    const struct epx_task task = {.run = run, .context = flag};
    assert_int_equal(epx_stream_submit(stream, &task), EPX_OK);
}

static void record__happens_in_order(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct epx_event *event = new_event();
    atomic_bool open = false;
    assert_false(epx_event_happened(event));
    assert_int_equal(epx_event_time_ns(event), 0);
    assert_int_equal(epx_event_synchronize(event, -1), EPX_OK); /* never recorded: does not hold */

    submit(stream, run_until_set, &open);
    assert_int_equal(epx_event_record(event, stream), EPX_OK);
    assert_false(epx_event_happened(event));
    uint64_t before_ns = epx_clock_ns();
    assert_int_equal(epx_event_synchronize(event, 20), EPX_ERR_TIMEOUT);
    assert_true(epx_clock_ns() - before_ns >= 20000000u);
    atomic_store(&open, true);
    assert_int_equal(epx_event_synchronize(event, -1), EPX_OK);
    assert_true(epx_event_happened(event));
    assert_true(epx_event_time_ns(event) >= before_ns && epx_event_time_ns(event) <= epx_clock_ns());
    epx_event_destroy(event);
    epx_stream_destroy(stream);
}

static void wait_event__holds_the_other_stream(void **state)
{
    (void)state;
    struct epx_stream *first = new_stream();
    struct epx_stream *second = new_stream();
    struct epx_event *event = new_event();
    atomic_bool open = false;
    atomic_bool reached = false;
    assert_int_equal(epx_stream_wait_event(second, event), EPX_OK); /* no record: no wait */
    assert_int_equal(epx_stream_synchronize(second, 5000), EPX_OK);

    submit(first, run_until_set, &open);
    assert_int_equal(epx_event_record(event, first), EPX_OK);
    assert_int_equal(epx_stream_wait_event(second, event), EPX_OK);
    submit(second, run_set, &reached);
    assert_int_equal(epx_stream_synchronize(second, 20), EPX_ERR_TIMEOUT);
    assert_false(atomic_load(&reached));
    atomic_store(&open, true);
    assert_int_equal(epx_stream_synchronize(second, -1), EPX_OK);
    assert_true(atomic_load(&reached));
    epx_event_destroy(event);
    epx_stream_destroy(second);
    epx_stream_destroy(first);
}

/* The wait means the record before it, neither an earlier nor a later one. */
static void wait_event__means_the_record_before_it(void **state)
{
    (void)state;
    struct epx_stream *slow = new_stream();
    struct epx_stream *fast = new_stream();
    struct epx_stream *waiting = new_stream();
    struct epx_event *event = new_event();
    atomic_bool open = false;
    submit(slow, run_until_set, &open);
    assert_int_equal(epx_event_record(event, slow), EPX_OK);
    assert_int_equal(epx_stream_wait_event(waiting, event), EPX_OK);
    assert_int_equal(epx_event_record(event, fast), EPX_OK);
    assert_int_equal(epx_event_synchronize(event, 5000), EPX_OK); /* the latest is the fast one's */
    assert_true(epx_event_happened(event));
    assert_int_equal(epx_stream_synchronize(waiting, 20), EPX_ERR_TIMEOUT);
    atomic_store(&open, true);
    assert_int_equal(epx_stream_synchronize(waiting, -1), EPX_OK);
    epx_event_destroy(event);
    epx_stream_destroy(waiting);
    epx_stream_destroy(fast);
    epx_stream_destroy(slow);
}

static void *synchronize_thread(void *argument)
{
    return epx_event_synchronize(argument, 20000) == EPX_OK ? NULL : argument;
}

static void destroy__releases_a_waiting_stream(void **state)
{
    (void)state;
    struct epx_stream *held = new_stream();
    struct epx_stream *waiting = new_stream();
    struct epx_event *event = new_event();
    atomic_bool open = false;
    submit(held, run_until_set, &open);
    assert_int_equal(epx_event_record(event, held), EPX_OK);
    assert_int_equal(epx_stream_wait_event(waiting, event), EPX_OK);
    assert_int_equal(epx_stream_synchronize(waiting, 5), EPX_ERR_TIMEOUT);
    epx_event_destroy(event);
    assert_int_equal(epx_stream_synchronize(waiting, 20000), EPX_OK);
    atomic_store(&open, true);
    epx_stream_destroy(waiting);
    epx_stream_destroy(held);
    epx_event_destroy(NULL);
}

static void abort__of_a_record_holds_nobody(void **state)
{
    (void)state;
    struct epx_stream *stream = new_stream();
    struct epx_event *event = new_event();
    atomic_bool open = false;
    submit(stream, run_until_set, &open);
    assert_int_equal(epx_event_record(event, stream), EPX_OK);
    epx_stream_abort(stream);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, synchronize_thread, event), 0);
    atomic_store(&open, true);
    void *failed = event;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(epx_event_time_ns(event), 0);
    assert_int_equal(epx_stream_synchronize(stream, -1), EPX_ERR_ABORTED);
    epx_event_destroy(event);
    epx_stream_destroy(stream);
}

static bool run_count(void *context, uint64_t until_ns, enum epx_status *status)
{
    (void)until_ns;
    ++*(int *)context;
    *status = EPX_OK;
    return true;
}

static void events__order_plain_memory_between_streams(void **state)
{
    (void)state;
    struct epx_stream *streams[2] = {new_stream(), new_stream()};
    struct epx_event *event = new_event();
    int counter = 0;
    for (int i = 0; i < 500; i++) {
        const struct epx_task task = {.run = run_count, .context = &counter};
        assert_int_equal(epx_stream_submit(streams[i % 2], &task), EPX_OK);
        assert_int_equal(epx_event_record(event, streams[i % 2]), EPX_OK);
        assert_int_equal(epx_stream_wait_event(streams[(i + 1) % 2], event), EPX_OK);
    }
    assert_int_equal(epx_event_synchronize(event, -1), EPX_OK);
    assert_int_equal(counter, 500);
    epx_event_destroy(event);
    epx_stream_destroy(streams[0]);
    epx_stream_destroy(streams[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record__happens_in_order),
        cmocka_unit_test(wait_event__holds_the_other_stream),
        cmocka_unit_test(wait_event__means_the_record_before_it),
        cmocka_unit_test(destroy__releases_a_waiting_stream),
        cmocka_unit_test(abort__of_a_record_holds_nobody),
        cmocka_unit_test(events__order_plain_memory_between_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
