#include "cann/object_set.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define CAPACITY_MIN 64u /* a power of two */

struct place {
    _Atomic uintptr_t address; /* 0: free */
    _Atomic uint32_t kind;
};

struct table {
    uint64_t capacity;
    struct table *smaller; /* the one before: kept, as readers may be in it */
    struct place places[];
};

/*
 * An open-addressing table, at most half full, without gaps between a place and where its address hashes to. Writers
 * have the lock, and make `writes` odd meanwhile. Readers have not: what they find counts when `writes` was even before
 * and is the same after.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t writes;
static _Atomic(struct table *) table_now;
static uint64_t used;

/* Allocations are 16 bytes apart or more: the low bits say nothing. */
static uint64_t home_of(const struct table *table, uintptr_t address)
{
    return ((uint64_t)address >> 4) * 0x9E3779B97F4A7C15u >> 20 & (table->capacity - 1);
}

/* Acquire: who reads what a writer has written sees its odd number, too. */
static uintptr_t address_at(const struct table *table, uint64_t at)
{
    return atomic_load_explicit(&table->places[at].address, memory_order_acquire);
}

static uint32_t kind_at(const struct table *table, uint64_t at)
{
    return atomic_load_explicit(&table->places[at].kind, memory_order_acquire);
}

static void set_place(struct table *table, uint64_t at, uintptr_t address, uint32_t kind)
{
    atomic_store_explicit(&table->places[at].kind, kind, memory_order_release);
    atomic_store_explicit(&table->places[at].address, address, memory_order_release);
}

/* The address's place, or a free one where it would go. A reader may meet a table that is being changed, and must come
 * to an end all the same. */
static uint64_t find(const struct table *table, uintptr_t address)
{
    uint64_t at = home_of(table, address);
    for (uint64_t steps = 0; steps < table->capacity; steps++) {
        const uintptr_t there = address_at(table, at);
        if (there == 0 || there == address) {
            break;
        }
        at = (at + 1) & (table->capacity - 1);
    }
    return at;
}

static bool is_at(const struct table *table, uint64_t at, const void *object, enum epx_object_kind kind)
{
    return address_at(table, at) == (uintptr_t)object && kind_at(table, at) == (uint32_t)kind;
}

/* ---- With the lock ----------------------------------------------------------------------------------------------- */

static void begin_write(void)
{
    pthread_mutex_lock(&lock);
    (void)atomic_fetch_add_explicit(&writes, 1, memory_order_relaxed);
}

static void end_write(void)
{
    (void)atomic_fetch_add_explicit(&writes, 1, memory_order_release);
    pthread_mutex_unlock(&lock);
}

static struct table *table_of_writer(void)
{
    return atomic_load_explicit(&table_now, memory_order_relaxed);
}

static bool grow(void)
{
    struct table *old = table_of_writer();
    uint64_t capacity = old ? old->capacity * 2 : CAPACITY_MIN;
    struct table *fresh = calloc(1, sizeof *fresh + capacity * sizeof fresh->places[0]);
    if (!fresh) {
        return false;
    }
    fresh->capacity = capacity;
    fresh->smaller = old;
    for (uint64_t i = 0; old && i < old->capacity; i++) {
        const uintptr_t address = address_at(old, i);
        if (address != 0) {
            set_place(fresh, find(fresh, address), address, kind_at(old, i));
        }
    }
    atomic_store_explicit(&table_now, fresh, memory_order_release);
    return true;
}

/* Frees a place and moves those up that would not be found any more. */
static void clear(struct table *table, uint64_t at)
{
    const uint64_t mask = table->capacity - 1;
    uint64_t next = at;
    uintptr_t address;
    set_place(table, at, 0, 0);
    used--;
    for (;;) {
        next = (next + 1) & mask;
        address = address_at(table, next);
        if (address == 0) {
            return;
        }
        if (((next - home_of(table, address)) & mask) >= ((next - at) & mask)) {
            set_place(table, at, address, kind_at(table, next));
            set_place(table, next, 0, 0);
            at = next;
        }
    }
}

bool epx_object_add(const void *object, enum epx_object_kind kind)
{
    begin_write();
    struct table *table = table_of_writer();
    bool has_room = (table && (used + 1) * 2 <= table->capacity) || grow();
    if (has_room) {
        table = table_of_writer();
        set_place(table, find(table, (uintptr_t)object), (uintptr_t)object, (uint32_t)kind);
        used++;
    }
    end_write();
    return has_room;
}

bool epx_object_remove(const void *object, enum epx_object_kind kind)
{
    bool found = false;
    begin_write();
    struct table *table = table_of_writer();
    if (object && table) {
        uint64_t at = find(table, (uintptr_t)object);
        found = is_at(table, at, object, kind);
        if (found) {
            clear(table, at);
        }
    }
    end_write();
    return found;
}

/* ---- Without ----------------------------------------------------------------------------------------------------- */

static bool is_alive(const void *object, enum epx_object_kind kind)
{
    const struct table *table = atomic_load_explicit(&table_now, memory_order_acquire);
    return object && table && is_at(table, find(table, (uintptr_t)object), object, kind);
}

bool epx_object_alive(const void *object, enum epx_object_kind kind)
{
    const uint64_t before = atomic_load_explicit(&writes, memory_order_acquire);
    bool alive = is_alive(object, kind);
    if (before % 2 != 0 || atomic_load_explicit(&writes, memory_order_relaxed) != before) {
        pthread_mutex_lock(&lock);
        alive = is_alive(object, kind);
        pthread_mutex_unlock(&lock);
    }
    return alive;
}

void epx_object_set_reset_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    atomic_store(&table_now, NULL);
    atomic_store(&writes, 0);
    used = 0;
}
