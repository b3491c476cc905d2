#include "reference/world_values.h"

#include <string.h>

struct bits_layout {
    int fraction_bits;
    int64_t bias;
};

static const struct bits_layout layouts[2] = {[REF_FP16] = {10, 15}, [REF_BF16] = {7, 127}};

/* A finite value of any sign with an exponent in [low, high]. */
static uint16_t draw_value(struct random_source *random, enum ref_format format, int64_t low, int64_t high)
{
    const struct bits_layout *layout = &layouts[format];
    uint64_t bits = random_bits(random);
    uint64_t biased = (uint64_t)(random_between(random, low, high) + layout->bias);
    uint64_t fraction = bits & ((1u << layout->fraction_bits) - 1u);
    return (uint16_t)((bits >> 63 << 15) | (biased << layout->fraction_bits) | fraction);
}

static uint16_t draw_subnormal(struct random_source *random, enum ref_format format)
{
    uint64_t bits = random_bits(random);
    return (uint16_t)((bits >> 63 << 15) | (bits & ((1u << layouts[format].fraction_bits) - 1u)));
}

static uint16_t draw_special(struct random_source *random, enum ref_format format, bool nan)
{
    const struct bits_layout *layout = &layouts[format];
    uint64_t bits = random_bits(random);
    uint64_t infinity = (uint64_t)(2 * layout->bias + 1) << layout->fraction_bits;
    uint64_t payload = nan ? 1u + bits % ((1u << layout->fraction_bits) - 1u) : 0;
    return (uint16_t)((bits >> 63 << 15) | infinity | payload);
}

enum row_kind {
    ROW_ORDINARY,
    ROW_WIDE,      /* exponents far apart */
    ROW_ZERO,      /* of both signs */
    ROW_SUBNORMAL, /* and zeros */
    ROW_LARGE,     /* the two largest exponents */
    ROW_NAN,       /* ordinary with a few NaN */
    ROW_INFINITY,  /* ordinary with a few infinities */
    ROW_ANY_BITS,
    ROW_EQUAL,  /* one value, either sign */
    ROW_SPARSE, /* zeros with a few ordinary values */
    ROW_KIND_COUNT,
};

static uint16_t draw_element(struct random_source *random, enum ref_format format, enum row_kind kind, uint16_t equal)
{
    int64_t bias = layouts[format].bias;
    bool rare = random_percent(random, 4);
    uint16_t sign = random_percent(random, 50) ? 0x8000u : 0;
    switch (kind) {
    case ROW_WIDE: return draw_value(random, format, 1 - bias, bias);
    case ROW_ZERO: return sign;
    case ROW_SUBNORMAL: return random_percent(random, 20) ? sign : draw_subnormal(random, format);
    case ROW_LARGE: return draw_value(random, format, bias - 1, bias);
    case ROW_NAN: return rare ? draw_special(random, format, true) : draw_value(random, format, -4, 2);
    case ROW_INFINITY: return rare ? draw_special(random, format, false) : draw_value(random, format, -4, 2);
    case ROW_ANY_BITS: return (uint16_t)random_bits(random);
    case ROW_EQUAL: return (uint16_t)((equal & 0x7FFFu) | sign);
    case ROW_SPARSE: return rare ? draw_value(random, format, -4, 2) : sign;
    default: return draw_value(random, format, -6, 2);
    }
}

void draw_row(struct random_source *random, enum ref_format format, uint16_t *row, int64_t elems)
{
    enum row_kind kind = ROW_ORDINARY;
    if (random_percent(random, 50)) {
        kind = (enum row_kind)random_between(random, 0, ROW_KIND_COUNT - 1);
    }
    uint16_t equal = draw_value(random, format, -6, 6);
    for (int64_t h = 0; h < elems; h++) {
        row[h] = draw_element(random, format, kind, equal);
    }
    if (elems > 0 && (kind == ROW_NAN || kind == ROW_INFINITY)) {
        int64_t place = random_between(random, 0, elems - 1);
        row[place] = draw_special(random, format, kind == ROW_NAN);
    }
}

static float draw_float(struct random_source *random)
{
    uint32_t bits = (uint32_t)random_bits(random);
    float value;
    switch (random_between(random, 0, 9)) {
    case 0: return 0.0f;
    case 1: return -(float)(bits >> 8) * 0x1p-23f;
    case 2: return (float)(bits >> 8) * 0x1p+90f;
    case 3:
        bits &= 0x807FFFFFu; /* subnormal */
        memcpy(&value, &bits, sizeof value);
        return value;
    case 4: memcpy(&value, &bits, sizeof value); return value;
    case 5:
        bits = (bits & 0x80000000u) | 0x7F800000u | ((bits & 1u) << 22);
        memcpy(&value, &bits, sizeof value);
        return value;
    default: return 1.0f;
    }
}

void draw_floats(struct random_source *random, float *values, int64_t count)
{
    bool nasty = random_percent(random, 25);
    for (int64_t i = 0; i < count; i++) {
        if (nasty && random_percent(random, 10)) {
            float value = draw_float(random);
            memcpy(&values[i], &value, sizeof value);
        } else {
            values[i] = (float)(random_bits(random) >> 40) * 0x1p-23f;
        }
    }
}

static int32_t draw_expert(struct random_source *random, enum routing routing, int64_t favourite, int64_t expert_count)
{
    int64_t few = 1 + expert_count / 4;
    switch (routing) {
    case ROUTING_ONE: return (int32_t)favourite;
    case ROUTING_SKEWED:
        if (random_percent(random, 50)) {
            return (int32_t)((favourite + random_between(random, 0, few - 1)) % expert_count);
        }
        break;
    case ROUTING_CHUNK: return (int32_t)((favourite + random_between(random, 0, few - 1)) % expert_count);
    default: break;
    }
    return (int32_t)random_between(random, 0, expert_count - 1);
}

static bool contains(const int32_t *ids, int64_t count, int32_t id)
{
    for (int64_t k = 0; k < count; k++) {
        if (ids[k] == id) {
            return true;
        }
    }
    return false;
}

void draw_expert_ids(struct random_source *random, enum routing routing, int64_t favourite, int32_t *ids,
                     int64_t token_count, int64_t topk, int64_t expert_count)
{
    for (int64_t token = 0; token < token_count; token++) {
        int32_t *row = ids + token * topk;
        for (int64_t k = 0; k < topk; k++) {
            row[k] = draw_expert(random, routing, favourite, expert_count);
            while (routing == ROUTING_DISTINCT && contains(row, k, row[k])) {
                row[k] = (int32_t)((row[k] + 1) % expert_count);
            }
        }
    }
}
