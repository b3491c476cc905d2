#include "bench_contenders.h"

#include "mpi_settings.h"
#include "round.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Programs ------------------------------------------------------------------------------------------------ */

static bool join_path(char *out, const char *directory, const char *name)
{
    int used = snprintf(out, PATH_MAX, "%s/%s", directory, name);
    return used > 0 && used < PATH_MAX && access(out, X_OK) == 0;
}

/* Of a build, engines lie beside the epx command; installed, in libexec/epx. EPX_BENCH_DIR comes before both. */
bool bench_engine_find(const char *name, char *out)
{
    char here[PATH_MAX];
    char installed[PATH_MAX];
    const char *chosen = getenv("EPX_BENCH_DIR");
    if (chosen != NULL && *chosen != '\0') {
        return join_path(out, chosen, name);
    }
    ssize_t used = readlink("/proc/self/exe", here, sizeof here - 1);
    if (used <= 0) {
        return false;
    }
    here[used] = '\0';
    *strrchr(here, '/') = '\0';
    used = snprintf(installed, sizeof installed, "%s/../libexec/epx", here);
    return join_path(out, here, name) || (used < (ssize_t)sizeof installed && join_path(out, installed, name));
}

bool bench_in_path(const char *name)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : "/usr/bin:/bin");
    char *rest = copy;
    char full[PATH_MAX];
    bool found = false;
    for (char *directory = NULL; !found && (directory = strsep(&rest, ":")) != NULL;) {
        found = join_path(full, directory, name);
    }
    free(copy);
    return found;
}

/* ---- List ---------------------------------------------------------------------------------------------------- */

static bool is_in_list(const char *list, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += bytes) {
        if ((at == list || at[-1] == ',') && (at[bytes] == ',' || at[bytes] == '\0')) {
            return true;
        }
    }
    return false;
}

static struct bench_contender *add(struct bench_contenders *contenders, enum bench_engine_kind kind,
                                   const char *variant, const char *program)
{
    if (contenders->count == BENCH_CONTENDER_MAX) {
        (void)fprintf(stderr, "epx bench: more than %d engines and variants\n", BENCH_CONTENDER_MAX);
        exit(2);
    }
    struct bench_contender *added = &contenders->list[contenders->count++];
    *added = (struct bench_contender){.kind = kind};
    (void)snprintf(added->variant, sizeof added->variant, "%s", variant);
    (void)snprintf(added->program, sizeof added->program, "%s", program);
    return added;
}

static void add_cann(struct bench_contenders *contenders, const char *variants, const char *program)
{
    char *copy = strdup(variants);
    char *rest = copy;
    for (char *variant = NULL; (variant = strsep(&rest, ",")) != NULL;) {
        struct bench_contender *added = add(contenders, BENCH_CANN, variant, program);
        added->extra[0] = "--variant";
        added->extra[1] = added->variant;
    }
    free(copy);
}

/* False: a setting was asked for by name and is none. */
static bool check_mpi_names(const char *names)
{
    const struct bench_mpi_setting *settings = NULL;
    size_t count = bench_mpi_settings(&settings);
    char *copy = strdup(names);
    char *rest = copy;
    bool known = true;
    for (char *name = NULL; known && (name = strsep(&rest, ",")) != NULL;) {
        known = false;
        for (size_t i = 0; i < count; i++) {
            known = known || strcmp(settings[i].name, name) == 0;
        }
        if (!known) {
            (void)fprintf(stderr, "epx bench: --mpi is '%s', must be of", name);
            for (size_t i = 0; i < count; i++) {
                (void)fprintf(stderr, "%s %s", i == 0 ? "" : ",", settings[i].name);
            }
            (void)fprintf(stderr, "\n");
        }
    }
    free(copy);
    return known;
}

/* Settings whose library and launcher are there. */
static size_t add_mpi(struct bench_contenders *contenders, const struct bench_options *options)
{
    const struct bench_mpi_setting *settings = NULL;
    size_t count = bench_mpi_settings(&settings);
    size_t added_count = 0;
    char program[PATH_MAX];
    for (size_t i = 0; i < count; i++) {
        bool wanted = options->mpi == NULL || is_in_list(options->mpi, settings[i].name);
        bool crosses = settings[i].several_hosts && bench_options_host_max(options) > 1;
        wanted = wanted && (options->mpi != NULL || !options->quick || added_count == 0 || crosses);
        if (!wanted || !bench_in_path(settings[i].prefix[0]) || !bench_engine_find(settings[i].program, program)) {
            continue;
        }
        struct bench_contender *added = add(contenders, BENCH_MPI, settings[i].name, program);
        added->prefix = settings[i].prefix;
        added->within_cores = settings[i].within_cores;
        added->several_hosts = settings[i].several_hosts;
        added->even_hosts = true;
        added->extra[0] = "--variant";
        added->extra[1] = settings[i].name;
        added_count++;
    }
    return added_count;
}

static bool add_engine(struct bench_contenders *contenders, enum bench_engine_kind kind,
                       const struct bench_options *options)
{
    char name[64];
    char program[PATH_MAX];
    if (kind == BENCH_MPI) {
        return add_mpi(contenders, options) > 0;
    }
    (void)snprintf(name, sizeof name, "epx-bench-%s", bench_engine_names[kind]);
    if (!bench_engine_find(name, program)) {
        return false;
    }
    if (kind == BENCH_CANN) {
        add_cann(contenders, options->cann, program);
        return true;
    }
    struct bench_contender *plain = add(contenders, kind, kind == BENCH_EPX ? "in-place" : "", program);
    plain->several_hosts = kind == BENCH_EPX || kind == BENCH_WIRE;
    plain->only_several_hosts = kind == BENCH_WIRE;
    if (kind == BENCH_EPX && options->views) {
        struct bench_contender *added = add(contenders, kind, "views", program);
        added->several_hosts = true;
        added->extra[0] = "--views";
        added->extra[1] = "1";
    }
    if (kind == BENCH_EPX && options->two_level) {
        struct bench_contender *added = add(contenders, kind, BENCH_TWO_LEVEL, program);
        added->several_hosts = true;
        added->only_several_hosts = true;
        added->even_hosts = true;
        added->extra[0] = "--two-level";
        added->extra[1] = "1";
    }
    if (kind == BENCH_EPX && options->private_memory) {
        struct bench_contender *added = add(contenders, kind, "staged", program);
        added->several_hosts = true;
        added->extra[0] = "--private-memory";
        added->extra[1] = "1";
    }
    return true;
}

bool bench_contenders_find(struct bench_contenders *contenders, const struct bench_options *options)
{
    contenders->count = 0;
    if (options->mpi != NULL && !check_mpi_names(options->mpi)) {
        return false;
    }
    for (size_t i = 0; i < options->engines.count; i++) {
        enum bench_engine_kind kind = (enum bench_engine_kind)options->engines.values[i];
        bool idle = kind == BENCH_WIRE && bench_options_host_max(options) == 1;
        if (idle || add_engine(contenders, kind, options)) {
            continue;
        }
        (void)fprintf(stderr, "epx bench: engine %s is not there%s\n", bench_engine_names[kind],
                      options->engines_given ? "" : ", going on without it");
        if (options->engines_given) {
            return false;
        }
    }
    return contenders->count > 0;
}

bool bench_contender_fits(const struct bench_contender *contender, const struct bench_case *sizes)
{
    if (sizes->host_count > 1) {
        return contender->several_hosts && (!contender->even_hosts || sizes->rank_count % sizes->host_count == 0);
    }
    return !contender->only_several_hosts && (!contender->within_cores || sizes->rank_count <= bench_core_count());
}

/* ---- Command line -------------------------------------------------------------------------------------------- */

struct command_builder {
    struct bench_command *command;
    size_t count;
};

static void push(struct command_builder *builder, const char *word)
{
    if (builder->count + 1 < BENCH_WORD_MAX) {
        builder->command->argv[builder->count++] = (char *)(uintptr_t)word; /* execvp changes none */
        builder->command->argv[builder->count] = NULL;
    }
}

static void push_number(struct command_builder *builder, const char *name, int64_t value)
{
    if (name != NULL) {
        push(builder, name);
    }
    char *word = builder->command->words[builder->count];
    (void)snprintf(word, sizeof builder->command->words[0], "%" PRId64, value);
    push(builder, word);
}

static void push_case(struct command_builder *builder, const struct bench_case *sizes)
{
    push_number(builder, "--ranks", sizes->rank_count);
    push_number(builder, "--hosts", sizes->host_count);
    push_number(builder, "--bs", sizes->token_count);
    push_number(builder, "--hidden", sizes->hidden_elems);
    push_number(builder, "--topk", sizes->topk);
    push_number(builder, "--experts", sizes->expert_count);
    push(builder, "--dtype");
    push(builder, sizes->dtype == BENCH_BF16 ? "bf16" : "fp16");
    push(builder, "--quant");
    push(builder, sizes->quantize ? "int8" : "none");
    push(builder, "--zipf");
    char *zipf = builder->command->words[builder->count];
    (void)snprintf(zipf, sizeof builder->command->words[0], "%.6g", sizes->zipf);
    push(builder, zipf);
    push_number(builder, "--cold", sizes->cold);
    push_number(builder, "--threads", sizes->threads);
    push_number(builder, "--processes", sizes->processes);
    push_number(builder, "--warmup", sizes->warmup);
    push_number(builder, "--rounds", sizes->rounds);
    push_number(builder, "--seed", (int64_t)sizes->seed);
    push_number(builder, "--skew-us", sizes->skew_us);
    push_number(builder, "--check", sizes->check);
    push_number(builder, "--cpu-time", 1);
}

void bench_contender_command(const struct bench_contender *contender, const struct bench_case *sizes, bool round_trip,
                             struct bench_command *command)
{
    struct command_builder builder = {.command = command};
    if (contender->prefix != NULL) {
        for (const char *const *word = contender->prefix; *word != NULL; word++) {
            push(&builder, *word);
        }
        push_number(&builder, NULL, sizes->rank_count);
    }
    push(&builder, contender->program);
    push_case(&builder, sizes);
    if (round_trip && contender->kind != BENCH_CANN && contender->kind != BENCH_WIRE) {
        push(&builder, "--round-trip");
        push(&builder, "1");
    }
    if (sizes->product_columns != 0 && contender->kind == BENCH_EPX) {
        push_number(&builder, "--product", sizes->product_columns);
    }
    for (size_t i = 0; i < 2 && contender->extra[i] != NULL; i++) {
        push(&builder, contender->extra[i]);
    }
}
