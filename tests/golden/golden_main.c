/*
 * Golden vectors: what the reference computes for a fixed set of worlds, kept in files so that neither it nor the
 * library drifts unseen.
 *
 *   golden write DIR    writes DIR/index.txt (checksums) and DIR/tiny.txt (all elements)
 *   golden check DIR    computes them again and compares; 1 when a line differs
 *
 * A line is "in" or "out", the tensor, then for each rank its bytes and their FNV-1a-64 sum ("-": not there), or in
 * tiny.txt its bytes in hexadecimal. When an "in" line differs, the generator draws something else than before; when
 * only "out" lines differ, a result has changed.
 */
#include "reference/world_generator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_WORLDS    60
#define LINE_SHOWN      300
#define TINY_HIDDEN_MAX 17

struct column { /* one tensor of one rank */
    const void *data;
    int64_t bytes;
};

static uint64_t fnv1a64(const void *data, int64_t bytes)
{
    const uint8_t *byte = data;
    uint64_t hash = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < bytes; i++) {
        hash = (hash ^ byte[i]) * 0x100000001B3u;
    }
    return hash;
}

static void write_column(FILE *out, const struct column *column, bool full)
{
    if (column->data == NULL) {
        fprintf(out, " -");
        return;
    }
    if (!full) {
        fprintf(out, " %" PRId64 ":%016" PRIx64, column->bytes, fnv1a64(column->data, column->bytes));
        return;
    }
    fprintf(out, " ");
    for (int64_t i = 0; i < column->bytes; i++) {
        fprintf(out, "%02x", ((const uint8_t *)column->data)[i]);
    }
    fprintf(out, ".");
}

static int64_t copies_of(const struct world *world, int64_t index)
{
    return world->tokens[index].token_count * world->shape.topk;
}

static struct column in_x(const struct world *world, int64_t index)
{
    return (struct column){world->tokens[index].x, world->tokens[index].token_count * world->shape.hidden * 2};
}

static struct column in_expert_ids(const struct world *world, int64_t index)
{
    return (struct column){world->tokens[index].expert_ids, copies_of(world, index) * 4};
}

static struct column in_expert_scales(const struct world *world, int64_t index)
{
    return (struct column){world->tokens[index].expert_scales, copies_of(world, index) * 4};
}

static struct column in_smooth_scales(const struct world *world, int64_t index)
{
    int64_t rows = world->shape.expert_count + (world->shape.shared_rank_count > 0 ? 1 : 0);
    return (struct column){world->tokens[index].smooth_scales, rows * world->shape.hidden * 4};
}

static struct column out_expand_x(const struct world *world, int64_t index)
{
    const struct ref_received *received = &world->received[index];
    int64_t elems = received->row_count * world->shape.hidden;
    return (struct column){received->expand_x, elems * (world->shape.quantize ? 1 : 2)};
}

static struct column out_dynamic_scales(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].dynamic_scales, world->received[index].row_count * 4};
}

static struct column out_expand_idx(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].expand_idx, copies_of(world, index) * 4};
}

static struct column out_expert_token_nums(const struct world *world, int64_t index)
{
    const struct ref_received *received = &world->received[index];
    return (struct column){received->expert_token_nums, received->local_expert_count * 8};
}

static struct column out_ep_recv_counts(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].ep_recv_counts, world->received[index].count_elems * 4};
}

static struct column out_tp_recv_counts(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].tp_recv_counts, 8};
}

static struct column out_expand_scales(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].expand_scales, world->received[index].row_count * 4};
}

static struct column out_tail(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].tail, world->received[index].tail_bytes};
}

static struct column out_tail_written(const struct world *world, int64_t index)
{
    return (struct column){world->received[index].tail_written, world->received[index].tail_bytes};
}

static struct column in_rows(const struct world *world, int64_t index)
{
    const struct ref_returns *returns = &world->returns[index];
    return (struct column){returns->expand_x, returns->row_capacity * world->shape.hidden * 2};
}

static struct column in_slots(const struct world *world, int64_t index)
{
    return (struct column){world->returns[index].expand_idx, copies_of(world, index) * 4};
}

static struct column in_weights(const struct world *world, int64_t index)
{
    return (struct column){world->returns[index].expert_scales, copies_of(world, index) * 4};
}

static struct column out_x(const struct world *world, int64_t index)
{
    return (struct column){world->x[index], world->tokens[index].token_count * world->shape.hidden * 2};
}

static const struct {
    const char *name;
    struct column (*column)(const struct world *world, int64_t index);
} tensors[] = {
    {"in dispatch.x", in_x},
    {"in dispatch.expert_ids", in_expert_ids},
    {"in dispatch.expert_scales", in_expert_scales},
    {"in dispatch.smooth_scales", in_smooth_scales},
    {"out dispatch.expand_x", out_expand_x},
    {"out dispatch.dynamic_scales", out_dynamic_scales},
    {"out dispatch.expand_idx", out_expand_idx},
    {"out dispatch.expert_token_nums", out_expert_token_nums},
    {"out dispatch.ep_recv_counts", out_ep_recv_counts},
    {"out dispatch.tp_recv_counts", out_tp_recv_counts},
    {"out dispatch.expand_scales", out_expand_scales},
    {"out dispatch.tail", out_tail},
    {"out dispatch.tail_written", out_tail_written},
    {"in combine.expand_x", in_rows},
    {"in combine.expand_idx", in_slots},
    {"in combine.expert_scales", in_weights},
    {"out combine.x", out_x},
};

static void write_world(FILE *out, const struct world *world, bool full)
{
    fprintf(out, "world ");
    world_print(world, out);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        fprintf(out, "%s", tensors[i].name);
        for (int64_t index = 0; index < world->world_size; index++) {
            struct column column = tensors[i].column(world, index);
            write_column(out, &column, full);
        }
        fprintf(out, "\n");
    }
}

static void draw_world(struct world *world, uint64_t seed, int64_t rank_max, int64_t hidden_max, int64_t elem_max)
{
    struct world_limits limits;
    struct random_source random;
    random_seed(&random, random_mix(seed, 0));
    world_limits_draw(&limits, &random, rank_max);
    limits.hidden_max = hidden_max;
    limits.elem_max = elem_max;
    world_init(world, &limits, seed);
}

static void write_index(FILE *out)
{
    for (uint64_t i = 0; i < INDEX_WORLDS; i++) {
        struct world world;
        draw_world(&world, random_mix(2025, i), 8, 600, 20000);
        write_world(out, &world, false);
        world_fini(&world);
    }
}

/* The kinds of which tiny.txt has one world each. */
static bool is_plain(const struct ref_shape *s)
{
    return !s->quantize && !s->two_level && !s->comm_quantize && s->tp_count == 1 && s->shared_rank_count == 0;
}

static bool is_smooth(const struct ref_shape *s)
{
    return s->smooth && !s->two_level && !s->comm_quantize && s->tp_count == 1 && s->shared_rank_count == 0;
}

static bool is_shared(const struct ref_shape *s)
{
    return !s->two_level && s->tp_count == 1 && s->shared_rank_count > 1;
}

static bool is_tensor_parallel(const struct ref_shape *s)
{
    return s->quantize && !s->two_level && s->tp_count == 2 && s->shared_rank_count == 0;
}

static bool is_transported(const struct ref_shape *s)
{
    return s->comm_quantize && !s->two_level && s->hidden > 8;
}

static bool is_two_level(const struct ref_shape *s)
{
    return s->two_level && s->rank_count > s->server_rank_count && s->server_rank_count > 1;
}

static bool is_two_level_transported(const struct ref_shape *s)
{
    return is_two_level(s) && s->comm_quantize;
}

static bool is_tiny(const struct world *world)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < world->world_size; i++) {
        tokens += world->tokens[i].token_count;
    }
    return world->shape.hidden >= 2 && world->shape.topk >= 2 && world->shape.topk <= 3 &&
           world->shape.expert_count <= 8 && world->shape.rank_count > 1 && tokens >= 4 && tokens <= 10;
}

static void write_tiny(FILE *out)
{
    static bool (*const kinds[])(const struct ref_shape *) = {
        is_plain, is_smooth, is_shared, is_tensor_parallel, is_transported, is_two_level, is_two_level_transported,
    };
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        bool found = false;
        for (uint64_t i = 0; !found; i++) {
            struct world world;
            draw_world(&world, random_mix(2026 + kind, i), 4, TINY_HIDDEN_MAX, 400);
            found = kinds[kind](&world.shape) && is_tiny(&world);
            if (found) {
                write_world(out, &world, true);
            }
            world_fini(&world);
        }
    }
}

static const struct {
    const char *name;
    void (*write)(FILE *out);
} files[] = {{"index.txt", write_index}, {"tiny.txt", write_tiny}};

static FILE *open_file(const char *directory, const char *name, const char *mode)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        perror(path);
    }
    return file;
}

static bool write_file(const char *directory, size_t i)
{
    FILE *file = open_file(directory, files[i].name, "w");
    if (file == NULL) {
        return false;
    }
    files[i].write(file);
    return fclose(file) == 0;
}

/* Says where two texts differ first: the world's line, and both lines. */
static bool compare(const char *name, FILE *stored, FILE *computed)
{
    char *line[2] = {NULL, NULL};
    size_t room[2] = {0, 0};
    char world[LINE_SHOWN + 1] = "";
    bool equal = true;
    for (int64_t number = 1; equal; number++) {
        ssize_t stored_bytes = getline(&line[0], &room[0], stored);
        ssize_t computed_bytes = getline(&line[1], &room[1], computed);
        if (stored_bytes < 0 && computed_bytes < 0) {
            break;
        }
        if (computed_bytes > 0 && strncmp(line[1], "world", 5) == 0) {
            (void)snprintf(world, sizeof world, "%s", line[1]);
        }
        if (stored_bytes != computed_bytes || memcmp(line[0], line[1], (size_t)stored_bytes) != 0) {
            fprintf(stderr, "%s:%" PRId64 " differs, in %s  stored:   %.*s\n  computed: %.*s\n", name, number, world,
                    LINE_SHOWN, stored_bytes < 0 ? "(end of file)" : line[0], LINE_SHOWN,
                    computed_bytes < 0 ? "(end)" : line[1]);
            equal = false;
        }
    }
    free(line[0]);
    free(line[1]);
    return equal;
}

static bool check_file(const char *directory, size_t i)
{
    FILE *stored = open_file(directory, files[i].name, "r");
    FILE *computed = tmpfile();
    bool equal = false;
    if (stored != NULL && computed != NULL) {
        files[i].write(computed);
        rewind(computed);
        equal = compare(files[i].name, stored, computed);
    }
    if (stored != NULL) {
        (void)fclose(stored);
    }
    if (computed != NULL) {
        (void)fclose(computed);
    }
    return equal;
}

int main(int argc, char **argv)
{
    bool write = argc == 3 && strcmp(argv[1], "write") == 0;
    bool check = argc == 3 && strcmp(argv[1], "check") == 0;
    bool good = true;
    if (!write && !check) {
        fprintf(stderr, "usage: %s write|check DIR\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        good = (write ? write_file(argv[2], i) : check_file(argv[2], i)) && good;
    }
    return good ? 0 : 1;
}
