/*
 * What is spoilt: the bytes are changes of eight bytes each, made one after the other to what is replayed. A change
 * says what it does (kind), to which message or region, where, and with which value.
 */
#include "fuzz/hostile_guard.h"
#include "fuzz/hostile_wire.h"
#include "fuzz/hostile_world.h"

#include <stdlib.h>
#include <string.h>

/* More of them spoil so much that the first refusal hides the rest. */
#define CHANGE_MAX 24u

struct change {
    uint8_t kind;
    uint8_t target;
    uint16_t at;
    int32_t value;
};
_Static_assert(sizeof(struct change) == 8, "a change has eight bytes");

/* A value that is likely to matter, or the change's own. */
static int64_t value_of(const struct change *change)
{
    static const int64_t special[] = {0,  -1,  1,   INT32_MAX,  INT32_MIN,  INT64_MAX, INT64_MIN, 63,
                                      64, 192, 193, UINT32_MAX, 1 << 20,    1LL << 32, 1LL << 47, 3,
                                      4,  5,   8,   16,         4294967300, 0x7FC00000};
    bool is_special = (change->kind & 0x80) != 0;
    return is_special ? special[(uint32_t)change->value % (sizeof special / sizeof special[0])] : change->value;
}

/* Overwrites, or adds to, up to eight bytes of [bytes]. */
static void spoil(uint8_t *memory, uint64_t bytes, const struct change *change)
{
    uint64_t value = (uint64_t)value_of(change);
    uint64_t width = (change->kind & 0x40) != 0 ? 8 : (change->target & 0x80) != 0 ? 1 : 4;
    uint64_t old = 0;
    if (bytes == 0) {
        return;
    }
    uint64_t at = change->at % bytes;
    width = width < bytes - at ? width : bytes - at;
    memcpy(&old, memory + at, width);
    value += (change->target & 0x40) != 0 ? old : 0;
    memcpy(memory + at, &value, width);
}

static void resize(struct hostile_message *message, uint64_t bytes)
{
    bytes = bytes < 8192 ? bytes : 8192;
    uint8_t *data = calloc(1, bytes > 0 ? bytes : 1);
    hostile_require(data != NULL);
    memcpy(data, message->data, bytes < message->bytes ? bytes : message->bytes);
    free(message->data);
    message->data = data;
    message->bytes = bytes;
}

/* The message at place `from` of the order once more, at place `to`. */
static void repeat(struct hostile_world *world, uint32_t from, uint32_t to)
{
    if (world->order_count == HOSTILE_MESSAGE_MAX) {
        return;
    }
    uint32_t message = world->order[from];
    memmove(&world->order[to + 1], &world->order[to], (world->order_count - to) * sizeof world->order[0]);
    world->order[to] = message;
    world->order_count++;
}

/* The second part of an entry goes on where the first one ends. */
static void split(struct hostile_world *world, uint32_t place, uint64_t at)
{
    struct epx_remote_header header;
    struct hostile_message *first = &world->messages[world->order[place]];
    if (world->message_count == HOSTILE_MESSAGE_MAX || world->order_count == HOSTILE_MESSAGE_MAX ||
        at >= first->bytes) {
        return;
    }
    struct hostile_message *second = &world->messages[world->message_count];
    *second = *first;
    second->bytes = first->bytes - at;
    second->data = malloc(second->bytes);
    hostile_require(second->data != NULL);
    memcpy(second->data, first->data + at, second->bytes);
    memcpy(&header, second->header, sizeof header);
    header.offset += at - (header.offset == 0 ? sizeof(struct epx_agreement) : 0);
    memcpy(second->header, &header, sizeof header);
    resize(first, at);
    repeat(world, place, place + 1);
    world->order[place + 1] = world->message_count++;
}

static void drop(struct hostile_world *world, uint32_t place)
{
    world->order_count--;
    memmove(&world->order[place], &world->order[place + 1], (world->order_count - place) * sizeof world->order[0]);
}

/* The word says that a rank has failed, with whatever its record holds. */
static void fail_word(struct hostile_world *world, const struct change *change)
{
    struct epx_control_failure *record = &world->comm->control->slots[change->target % HOSTILE_RANKS].failure;
    uint64_t step = epx_word_step(atomic_load(&world->comm->control->word.value));
    atomic_store(&record->status, change->at);
    memset(record->text, change->target, sizeof record->text);
    atomic_store(&world->comm->control->word.value, epx_word_make(step, (uint32_t)value_of(change) & 0xFFFFu));
}

enum kind {
    KIND_HEADER,
    KIND_DATA,
    KIND_FIELD, /* of the header: eight bytes at a multiple of eight */
    KIND_RESIZE,
    KIND_DROP,
    KIND_REPEAT,
    KIND_SENDER,
    KIND_LOSE,
    KIND_REGION,
    KIND_REGION_WORD, /* four bytes at a multiple of four */
    KIND_ENTRY,
    KIND_FAIL,
    KIND_SPLIT, /* one message becomes two, as a long exchange region has */
    KIND_COUNT,
};

static void change_message(struct hostile_world *world, const struct change *change, enum kind kind)
{
    uint32_t place = (change->target & 0x3Fu) % world->order_count;
    struct hostile_message *message = &world->messages[world->order[place]];
    switch (kind) {
    case KIND_HEADER: spoil(message->header, sizeof message->header, change); break;
    case KIND_DATA: spoil(message->data, message->bytes, change); break;
    case KIND_FIELD: {
        struct change field = *change;
        field.at = (uint16_t)(change->at % 8 * 8);
        field.kind |= 0x40;
        spoil(message->header, sizeof message->header, &field);
        break;
    }
    case KIND_RESIZE: resize(message, (uint64_t)change->at); break;
    case KIND_DROP: drop(world, place); break;
    case KIND_REPEAT: repeat(world, place, change->at % (world->order_count + 1)); break;
    case KIND_SPLIT: split(world, place, change->at); break;
    case KIND_SENDER: message->from = change->at % (HOSTILE_RANKS + 1); break;
    default: message->ends_link = true; break;
    }
}

static void change_apply(struct hostile_world *world, const struct change *change)
{
    enum kind kind = (enum kind)((change->kind & 0x3Fu) % KIND_COUNT);
    struct hostile_region *region = &world->regions[change->target % world->region_count];
    struct change word = *change;
    if (kind <= KIND_LOSE || kind == KIND_SPLIT) {
        if (world->order_count > 0) {
            change_message(world, change, kind);
        }
        return;
    }
    switch (kind) {
    case KIND_REGION: spoil(region->memory, region->bytes, change); break;
    case KIND_REGION_WORD:
        word.at = (uint16_t)(change->at * 4 % region->bytes);
        spoil(region->memory, region->bytes, &word);
        break;
    case KIND_ENTRY: spoil((uint8_t *)region->entry, sizeof *region->entry, change); break;
    default: fail_word(world, change); break;
    }
}

void hostile_try(struct hostile_world *world, const uint8_t *data, size_t bytes)
{
    hostile_reset(world);
    for (uint32_t i = 0; i < CHANGE_MAX && bytes >= sizeof(struct change); i++) {
        struct change change;
        memcpy(&change, data, sizeof change);
        change_apply(world, &change);
        data += sizeof change;
        bytes -= sizeof change;
    }
    epx_error_text_set("");
    if (hostile_run(world) != EPX_OK) {
        hostile_require(epx_error_text()[0] != '\0');
    }
}
