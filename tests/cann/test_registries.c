/* What threads find in the door's registries while others add and remove: an object that is there, whole, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cann/handle_registry.h"
#include "cann/hold.h"
#include "cann/object_set.h"
#include "cann/spare_list.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define THREADS 4
#define SLOTS   8
#define STEPS   1000000u

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static pthread_barrier_t start; /* so that they run at once */

static void run_threads(void *(*body)(void *seed))
{
    pthread_t threads[THREADS];
    uint32_t seeds[THREADS];
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        seeds[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, body, &seeds[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        void *good = NULL;
        assert_int_equal(pthread_join(threads[i], &good), 0);
        assert_non_null(good);
    }
    (void)pthread_barrier_destroy(&start);
}

/* ---- Handles ----------------------------------------------------------------------------------------------------- */

struct object {
    void *handle;
    uint32_t check;
};

static struct epx_handle_registry registry = EPX_HANDLE_REGISTRY_INIT(9);
static _Atomic(void *) handles[SLOTS];
static _Atomic uint32_t live;

static bool add_one(_Atomic(void *) *slot)
{
    struct object *object = malloc(sizeof *object);
    if (object == NULL || !epx_handle_add(&registry, object, &object->handle)) {
        return false;
    }
    /* Only its maker knows the handle yet; the walk of others does not look at `check`. */
    object->check = (uint32_t)((uintptr_t)object->handle >> 20);
    (void)atomic_fetch_add(&live, 1);
    void *old = atomic_exchange(slot, object->handle);
    struct object *removed = epx_handle_remove(&registry, old);
    if (removed != NULL) {
        (void)atomic_fetch_sub(&live, 1);
        free(removed);
    }
    return true;
}

static bool use_one(void *handle)
{
    struct object *object = epx_handle_acquire(&registry, handle);
    if (object == NULL) {
        return true;
    }
    bool good = object->handle == handle && object->check == (uint32_t)((uintptr_t)handle >> 20);
    epx_handle_release(&registry, handle);
    return good;
}

static bool walk(void)
{
    uint32_t place = 0;
    void *object;
    void *handle;
    bool good = true;
    while ((handle = epx_handle_next(&registry, &place, &object)) != NULL) {
        good = good && ((struct object *)object)->handle == handle;
        epx_handle_release(&registry, handle);
    }
    return good;
}

static void *churn_handles(void *seed)
{
    (void)pthread_barrier_wait(&start);
    bool good = true;
    for (uint32_t i = 0; i < STEPS && good; i++) {
        _Atomic(void *) *slot = &handles[next_random(seed) % SLOTS];
        switch (next_random(seed) % 8) {
        case 0: good = add_one(slot); break;
        case 1: good = walk(); break;
        default: good = use_one(atomic_load(slot)); break;
        }
    }
    return good ? seed : NULL;
}

static void handles__from_threads(void **state)
{
    (void)state;
    run_threads(churn_handles);
    uint32_t left = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        void *object = epx_handle_remove(&registry, atomic_load(&handles[i]));
        left += object != NULL ? 1 : 0;
        free(object);
    }
    assert_int_equal(left, atomic_load(&live));
}

/* More than fit into the first segments; each place is given once, and no handle twice. */
static void handles__many(void **state)
{
    (void)state;
    static void *many[5000];
    static int objects[5000];
    for (size_t i = 0; i < 5000; i++) {
        assert_true(epx_handle_add(&registry, &objects[i], &many[i]));
    }
    for (size_t i = 0; i < 5000; i++) {
        assert_ptr_equal(epx_handle_acquire(&registry, many[i]), &objects[i]);
        epx_handle_release(&registry, many[i]);
        assert_ptr_equal(epx_handle_remove(&registry, many[i]), &objects[i]);
        assert_null(epx_handle_acquire(&registry, many[i]));
        assert_null(epx_handle_remove(&registry, many[i]));
    }
    assert_null(epx_handle_acquire(&registry, NULL));
    assert_null(epx_handle_acquire(&registry, (void *)UINTPTR_MAX));
    assert_null(epx_handle_acquire(&registry, (void *)((uintptr_t)many[0] ^ (uintptr_t)1 << 52)));
}

/* ---- Holds ------------------------------------------------------------------------------------------------------- */

static void hold__ends_once(void **state)
{
    (void)state;
    struct epx_hold hold = {0};
    uint32_t holders = 77;
    assert_false(epx_hold_take(&hold, 0));
    epx_hold_begin(&hold, 5, 0);
    assert_false(epx_hold_take(&hold, 4));
    assert_true(epx_hold_take(&hold, 5));
    assert_true(epx_hold_take(&hold, 5));
    assert_false(epx_hold_close_idle(&hold, 5));
    assert_int_equal(epx_hold_drop(&hold), EPX_HOLD_OTHERS);
    assert_false(epx_hold_close(&hold, 4, &holders));
    assert_true(epx_hold_close(&hold, 5, &holders));
    assert_int_equal(holders, 1);
    assert_false(epx_hold_take(&hold, 5));
    assert_false(epx_hold_close(&hold, 5, &holders));
    assert_int_equal(epx_hold_drop(&hold), EPX_HOLD_ENDED);
    epx_hold_begin(&hold, 6, 1);
    assert_int_equal(epx_hold_drop(&hold), EPX_HOLD_IDLE);
    assert_true(epx_hold_close_idle(&hold, 6));
    assert_false(epx_hold_take(&hold, 6));
}

/* ---- Spare objects ----------------------------------------------------------------------------------------------- */

static struct epx_spare_list spares = {.object_bytes = sizeof(struct object), .limit = 3};

static struct object *take_marked(void *owner, uint32_t mark)
{
    struct object *object = epx_spare_take(&spares);
    object = object != NULL ? object : malloc(sizeof *object);
    if (object != NULL) {
        *object = (struct object){.handle = owner, .check = mark};
    }
    return object;
}

static bool give_marked(struct object *object, const void *owner, uint32_t mark)
{
    bool good = object != NULL && object->handle == owner && object->check == mark;
    if (object != NULL && !epx_spare_give(&spares, object)) {
        free(object);
    }
    return good;
}

/* An object is one thread's at a time. Two are taken, and given back in either order, so that the top of the list comes
 * back with something else below it. */
static void *churn_spares(void *seed)
{
    bool good = true;
    (void)pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < STEPS && good; i++) {
        struct object *pair[2] = {take_marked(seed, i), take_marked(seed, ~i)};
        uint32_t chance = next_random(seed);
        uint32_t first = chance % 2;
        if (chance % 64 < 2) {
            (void)sched_yield();
        }
        good = give_marked(pair[first], seed, first == 0 ? i : ~i);
        good = give_marked(pair[1 - first], seed, first == 0 ? ~i : i) && good;
    }
    return good ? seed : NULL;
}

static void spares__from_threads(void **state)
{
    (void)state;
    run_threads(churn_spares);
    uint32_t count = 0;
    for (void *object = epx_spare_take(&spares); object != NULL; object = epx_spare_take(&spares)) {
        free(object);
        count++;
    }
    assert_in_range(count, 1, 3);
}

/* ---- Objects by address ------------------------------------------------------------------------------------------ */

static char addresses[THREADS][512][16];
static char lasting[64][16];

/* Each adds and removes addresses of its own, so that the table grows and others' places move. */
static void *churn_addresses(void *seed)
{
    (void)pthread_barrier_wait(&start);
    char(*mine)[16] = addresses[(*(uint32_t *)seed - 1) % THREADS];
    bool there[512] = {false};
    bool good = true;
    for (uint32_t i = 0; i < STEPS && good; i++) {
        uint32_t n = next_random(seed) % 512;
        good = epx_object_alive(mine[n], EPX_OBJECT_SCALAR) == there[n] &&
               !epx_object_alive(mine[n], EPX_OBJECT_TENSOR) && epx_object_alive(lasting[n % 64], EPX_OBJECT_TENSOR) &&
               !epx_object_alive(mine[n] + 1, EPX_OBJECT_SCALAR);
        if (good && n % 2 == 0) {
            good =
                there[n] ? epx_object_remove(mine[n], EPX_OBJECT_SCALAR) : epx_object_add(mine[n], EPX_OBJECT_SCALAR);
            there[n] = !there[n];
        }
    }
    for (uint32_t n = 0; n < 512; n++) {
        good = good && (!there[n] || epx_object_remove(mine[n], EPX_OBJECT_SCALAR));
    }
    return good ? seed : NULL;
}

static void objects__from_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < 64; i++) {
        assert_true(epx_object_add(lasting[i], EPX_OBJECT_TENSOR));
    }
    run_threads(churn_addresses);
    for (size_t i = 0; i < 64; i++) {
        assert_true(epx_object_remove(lasting[i], EPX_OBJECT_TENSOR));
        assert_false(epx_object_alive(lasting[i], EPX_OBJECT_TENSOR));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles__from_threads), cmocka_unit_test(handles__many),
        cmocka_unit_test(hold__ends_once),       cmocka_unit_test(spares__from_threads),
        cmocka_unit_test(objects__from_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
