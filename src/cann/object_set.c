#include "cann/object_set.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define CAPACITY_MIN 64u /* a power of two */

struct place {
    uintptr_t address; /* 0: free */
    enum epx_object_kind kind;
};

/* An open-addressing table, at most half full, without gaps between a place and where its address hashes to. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct place *places;
static uint64_t capacity;
static uint64_t used;

/* Allocations are 16 bytes apart or more: the low bits say nothing. */
static uint64_t home_of(uintptr_t address)
{
    return ((uint64_t)address >> 4) * 0x9E3779B97F4A7C15u >> 20 & (capacity - 1);
}

/* The address's place, or the free one where it would go; the table must not be full. */
static uint64_t find(uintptr_t address)
{
    uint64_t at = home_of(address);
    while (places[at].address != 0 && places[at].address != address) {
        at = (at + 1) & (capacity - 1);
    }
    return at;
}

static bool grow(void)
{
    struct place *old = places;
    uint64_t old_capacity = capacity;
    uint64_t new_capacity = capacity ? capacity * 2 : CAPACITY_MIN;
    struct place *fresh = calloc(new_capacity, sizeof *fresh);
    if (!fresh) {
        return false;
    }
    places = fresh;
    capacity = new_capacity;
    for (uint64_t i = 0; i < old_capacity; i++) {
        if (old[i].address != 0) {
            places[find(old[i].address)] = old[i];
        }
    }
    free(old);
    return true;
}

/* Frees a place and moves those up that would not be found any more. */
static void clear(uint64_t at)
{
    uint64_t next = at;
    places[at].address = 0;
    used--;
    for (;;) {
        next = (next + 1) & (capacity - 1);
        if (places[next].address == 0) {
            return;
        }
        uint64_t home = home_of(places[next].address);
        if (((next - home) & (capacity - 1)) >= ((next - at) & (capacity - 1))) {
            places[at] = places[next];
            places[next].address = 0;
            at = next;
        }
    }
}

bool epx_object_add(const void *object, enum epx_object_kind kind)
{
    pthread_mutex_lock(&lock);
    bool has_room = (used + 1) * 2 <= capacity || grow();
    if (has_room) {
        places[find((uintptr_t)object)] = (struct place){.address = (uintptr_t)object, .kind = kind};
        used++;
    }
    pthread_mutex_unlock(&lock);
    return has_room;
}

static bool look_up(const void *object, enum epx_object_kind kind, bool forget)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    if (object && capacity > 0) {
        uint64_t at = find((uintptr_t)object);
        found = places[at].address != 0 && places[at].kind == kind;
        if (found && forget) {
            clear(at);
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

bool epx_object_remove(const void *object, enum epx_object_kind kind)
{
    return look_up(object, kind, true);
}

bool epx_object_alive(const void *object, enum epx_object_kind kind)
{
    return look_up(object, kind, false);
}

void epx_object_set_reset_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    places = NULL;
    capacity = 0;
    used = 0;
}
