#include "comm/agreement.h"

#include "comm/control_region.h"
#include "comm/rank_set.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RANKS_TEXT_BYTES 160
#define VALUE_TEXT_BYTES 64

/* A text that grows and is cut at its end. */
struct line {
    char *text;
    size_t bytes;
    size_t used;
};

EPX_PRINTF(2, 3) static void line_add(struct line *line, const char *format, ...)
{
    if (line->used + 1 >= line->bytes) {
        return;
    }
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line->text + line->used, line->bytes - line->used, format, args);
    va_end(args);
    size_t room = line->bytes - line->used - 1;
    line->used += (size_t)length < room ? (size_t)length : room;
}

/* What is compared, one number a rank. */
struct subject {
    const struct epx_agreement_entry *entries;
    uint32_t rank_count;
    uint64_t (*value)(const struct subject *subject, uint32_t rank);
    void (*print)(const struct subject *subject, uint64_t value, bool plural, char *text);
    const struct epx_agreement_field *field;
    bool reference_alone; /* rank 0 stands for all that agree with it */
};

static uint64_t round_value(const struct subject *subject, uint32_t rank)
{
    return subject->entries[rank].round;
}

static void round_print(const struct subject *subject, uint64_t value, bool plural, char *text)
{
    (void)subject;
    const char *verb = plural ? "are" : "is";
    if (value == 0) {
        (void)snprintf(text, VALUE_TEXT_BYTES, "%s not at the start of a round", verb);
    } else {
        (void)snprintf(text, VALUE_TEXT_BYTES, "%s in round %llu", verb, (unsigned long long)value);
    }
}

static uint64_t operation_value(const struct subject *subject, uint32_t rank)
{
    return subject->entries[rank].operation;
}

static void operation_print(const struct subject *subject, uint64_t value, bool plural, char *text)
{
    (void)subject;
    (void)snprintf(text, VALUE_TEXT_BYTES, "%s %s", plural ? "run" : "runs", epx_operation_name((uint32_t)value));
}

static uint64_t field_value(const struct subject *subject, uint32_t rank)
{
    const struct epx_agreement_field *field = subject->field;
    const uint8_t *bytes = subject->entries[rank].agreement.bytes;
    uint64_t value = 0;
    for (size_t i = field->width; i > 0; i--) {
        size_t at = field->offset + i - 1;
        value = value << 8 | (at < sizeof subject->entries[rank].agreement.bytes ? bytes[at] : 0u);
    }
    return value;
}

static int64_t sign_extend(uint64_t value, uint32_t width)
{
    uint32_t shift = width < 8 ? 64 - 8 * width : 0;
    return (int64_t)(value << shift) >> shift;
}

static void field_print(const struct subject *subject, uint64_t value, bool plural, char *text)
{
    const struct epx_agreement_field *field = subject->field;
    const char *verb = plural ? "have" : "has";
    if (field->value_names != NULL && value < field->value_name_count) {
        (void)snprintf(text, VALUE_TEXT_BYTES, "%s %s", verb, field->value_names[value]);
    } else if (field->is_signed) {
        (void)snprintf(text, VALUE_TEXT_BYTES, "%s %lld", verb, (long long)sign_extend(value, field->width));
    } else {
        (void)snprintf(text, VALUE_TEXT_BYTES, "%s %llu", verb, (unsigned long long)value);
    }
}

static bool subject_equal(const struct subject *subject)
{
    uint64_t reference = subject->value(subject, 0);
    for (uint32_t rank = 1; rank < subject->rank_count; rank++) {
        if (subject->value(subject, rank) != reference) {
            return false;
        }
    }
    return true;
}

/* One group a distinct value, in the order of the groups' first ranks: "ranks 0-2 run dispatch, rank 3 runs combine" */
static void subject_print(const struct subject *subject, struct line *line)
{
    struct epx_rank_set told = {0};
    for (uint32_t first = 0; first < subject->rank_count; first++) {
        if (epx_rank_set_has(&told, first)) {
            continue;
        }
        uint64_t value = subject->value(subject, first);
        struct epx_rank_set group = {0};
        for (uint32_t rank = first; rank < subject->rank_count; rank++) {
            if (subject->value(subject, rank) == value) {
                epx_rank_set_add(&told, rank);
                if (rank == first || first != 0 || !subject->reference_alone) {
                    epx_rank_set_add(&group, rank);
                }
            }
        }
        char ranks[RANKS_TEXT_BYTES];
        char what[VALUE_TEXT_BYTES];
        epx_rank_set_print(&group, ranks, sizeof ranks);
        subject->print(subject, value, epx_rank_set_count(&group) > 1, what);
        line_add(line, "%s%s %s", first == 0 ? "" : ", ", ranks, what);
    }
}

static void bytes_print(struct subject *subject, struct line *line)
{
    struct epx_agreement_field field = {.name = "byte", .width = 1};
    subject->field = &field;
    subject->value = field_value;
    subject->print = field_print;
    subject->reference_alone = true;
    for (uint32_t i = 0; i < sizeof subject->entries[0].agreement.bytes; i++) {
        field.offset = (uint8_t)i;
        if (!subject_equal(subject)) {
            line_add(line, "byte %u of the arguments differs: ", i);
            subject_print(subject, line);
            return;
        }
    }
}

static void difference_print(struct subject *subject, const struct epx_agreement_field *fields, uint32_t field_count,
                             struct line *line)
{
    subject->value = round_value;
    subject->print = round_print;
    if (!subject_equal(subject)) {
        line_add(line, "rounds differ: ");
        subject_print(subject, line);
        return;
    }
    subject->value = operation_value;
    subject->print = operation_print;
    if (!subject_equal(subject)) {
        line_add(line, "operation differs in round %llu: ", (unsigned long long)subject->entries[0].round);
        subject_print(subject, line);
        return;
    }
    subject->value = field_value;
    subject->print = field_print;
    subject->reference_alone = true;
    for (uint32_t i = 0; i < field_count; i++) {
        subject->field = &fields[i];
        if (!subject_equal(subject)) {
            line_add(line, "%s differs: ", fields[i].name);
            subject_print(subject, line);
            return;
        }
    }
    bytes_print(subject, line);
}

static bool entry_equal(const struct epx_agreement_entry *a, const struct epx_agreement_entry *b)
{
    return a->round == b->round && a->operation == b->operation &&
           memcmp(&a->agreement, &b->agreement, sizeof a->agreement) == 0;
}

bool epx_agreement_equal(const struct epx_agreement_entry *entries, uint32_t rank_count,
                         const struct epx_agreement_field *fields, uint32_t field_count, char *text, size_t text_bytes)
{
    uint32_t rank = 0;
    while (rank < rank_count && entries[rank].round != 0 && entry_equal(&entries[rank], &entries[0])) {
        rank++;
    }
    if (rank == rank_count) {
        return true;
    }
    struct subject subject = {.entries = entries, .rank_count = rank_count};
    struct line line = {.text = text, .bytes = text_bytes};
    line_add(&line, "%s", "");
    difference_print(&subject, fields, field_count, &line);
    return false;
}
