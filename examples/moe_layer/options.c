#include "options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_RANKS = 256,
    KEY_TABLE,
    KEY_SERVER,
    KEY_DTYPE,
    KEY_QUANT,
    KEY_SMOOTH,
    KEY_RETURN,
    KEY_EXCHANGE,
    KEY_VIEWS,
    KEY_SHARED,
    KEY_FFN,
    KEY_ROUNDS,
    KEY_SEED,
    KEY_TIMEOUT,
    KEY_PLAN
};

static const struct argp_option option_list[] = {
    {"servers", 's', "N", 0, "servers of the rank table (default 2)", 0},
    {"ranks", KEY_RANKS, "N", 0, "ranks of each server (default 8)", 0},
    {"rank-table", KEY_TABLE, "FILE", 0, "the rank table, of --servers with --ranks each (default: one is made up)", 0},
    {"server", KEY_SERVER, "N", 0, "run the ranks of this server of the table alone; others run on their hosts", 0},
    {"tokens", 't', "N", 0, "tokens of each rank, BS (default 8)", 0},
    {"hidden", 'H', "N", 0, "elements of a token, H (default 7168)", 0},
    {"topk", 'k', "N", 0, "experts of a token, K (default 8)", 0},
    {"experts", 'e', "N", 0, "experts, E; divisible by the ranks that hold them (default 16)", 0},
    {"shared-ranks", KEY_SHARED, "N", 0, "ranks that hold the shared expert (default 0)", 0},
    {"dtype", KEY_DTYPE, "bf16|fp16", 0, "dtype of tokens (default bf16)", 0},
    {"quant", KEY_QUANT, "none|int8", 0, "rows travel as they are, or as int8 with a scale each (default none)", 0},
    {"smooth", KEY_SMOOTH, NULL, 0, "with int8: one smooth scale per expert and element", 0},
    {"return-quant", KEY_RETURN, "none|int8", 0, "the same for the way back (default none)", 0},
    {"exchange", KEY_EXCHANGE, "full-mesh|two-level", 0, "algorithm (default full-mesh)", 0},
    {"views", KEY_VIEWS, NULL, 0, "each round a second time with row views: experts read the rows where they are", 0},
    {"ffn", KEY_FFN, "N", 0, "inner width of an expert's feed-forward (default 128)", 0},
    {"rounds", KEY_ROUNDS, "N", 0, "rounds of dispatch, experts, combine (default 20)", 0},
    {"seed", KEY_SEED, "N", 0, "seed of tokens, routing and weights (default 1)", 0},
    {"timeout", KEY_TIMEOUT, "S", 0, "seconds to wait for a rank (default 60)", 0},
    {"plan", KEY_PLAN, NULL, 0, "print the plan of rank 0", 0},
    {"quiet", 'q', NULL, 0, "no progress, no table: only the verdict", 0},
    {0}};

static int64_t read_number(struct argp_state *state, const char *name, const char *text, int64_t low, int64_t high)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        argp_error(state, "--%s is '%s', must be in [%lld, %lld]", name, text, (long long)low, (long long)high);
    }
    return value;
}

static bool read_choice(struct argp_state *state, const char *name, const char *text, const char *off, const char *on)
{
    if (strcmp(text, off) != 0 && strcmp(text, on) != 0) {
        argp_error(state, "--%s is '%s', must be %s or %s", name, text, off, on);
    }
    return strcmp(text, on) == 0;
}

static void check_combination(struct argp_state *state, struct demo_options *options)
{
    options->rank_count = options->servers * options->ranks_per_server;
    int64_t holders = options->rank_count - options->shared_ranks;
    if (holders < 1) {
        argp_error(state, "--shared-ranks is %lld, must be below the %lld ranks", (long long)options->shared_ranks,
                   (long long)options->rank_count);
    } else if (options->experts % holders != 0) {
        argp_error(state, "--experts is %lld, must be a multiple of the %lld ranks that hold experts",
                   (long long)options->experts, (long long)holders);
    }
    if (options->server >= options->servers) {
        argp_error(state, "--server is %lld, must be below the %lld servers", (long long)options->server,
                   (long long)options->servers);
    } else if (options->server >= 0 && options->rank_table == NULL) {
        argp_error(state, "--server needs --rank-table: other hosts must have the same");
    }
    options->rank_first = options->server < 0 ? 0 : options->server * options->ranks_per_server;
    options->rank_end = options->server < 0 ? options->rank_count : options->rank_first + options->ranks_per_server;
    if (options->topk > options->experts) {
        argp_error(state, "--topk is %lld, must be at most the %lld experts", (long long)options->topk,
                   (long long)options->experts);
    }
    if (options->smooth && !options->int8_rows) {
        argp_error(state, "--smooth needs --quant int8");
    }
}

static error_t read_option(int key, char *text, struct argp_state *state)
{
    struct demo_options *options = state->input;
    switch (key) {
    case 's': options->servers = read_number(state, "servers", text, 1, 64); break;
    case KEY_RANKS: options->ranks_per_server = read_number(state, "ranks", text, 1, 512); break;
    case KEY_TABLE: options->rank_table = text; break;
    case KEY_SERVER: options->server = read_number(state, "server", text, 0, 63); break;
    case 't': options->tokens = read_number(state, "tokens", text, 0, 1 << 20); break;
    case 'H': options->hidden = read_number(state, "hidden", text, 1, 1 << 20); break;
    case 'k': options->topk = read_number(state, "topk", text, 1, 4096); break;
    case 'e': options->experts = read_number(state, "experts", text, 1, 65536); break;
    case KEY_SHARED: options->shared_ranks = read_number(state, "shared-ranks", text, 0, 4096); break;
    case KEY_DTYPE: options->fp16 = read_choice(state, "dtype", text, "bf16", "fp16"); break;
    case KEY_QUANT: options->int8_rows = read_choice(state, "quant", text, "none", "int8"); break;
    case KEY_SMOOTH: options->smooth = true; break;
    case KEY_RETURN: options->int8_return = read_choice(state, "return-quant", text, "none", "int8"); break;
    case KEY_EXCHANGE: options->two_level = read_choice(state, "exchange", text, "full-mesh", "two-level"); break;
    case KEY_VIEWS: options->views = true; break;
    case KEY_FFN: options->ffn = read_number(state, "ffn", text, 1, 1 << 16); break;
    case KEY_ROUNDS: options->rounds = read_number(state, "rounds", text, 1, 1000000); break;
    case KEY_SEED: options->seed = (uint64_t)read_number(state, "seed", text, 0, INT64_MAX); break;
    case KEY_TIMEOUT: options->timeout_s = read_number(state, "timeout", text, 1, 86400); break;
    case KEY_PLAN: options->show_plan = true; break;
    case 'q': options->quiet = true; break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", text); break;
    case ARGP_KEY_END: check_combination(state, options); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void demo_options_read(struct demo_options *options, int argc, char **argv)
{
    static const struct argp parser = {
        option_list,
        read_option,
        NULL,
        "The tokens of one Mixture-of-Experts layer: dispatched to the ranks that own "
        "their experts, run through a feed-forward each, combined; every element checked "
        "against a single-process reference.",
        NULL,
        NULL,
        NULL};
    *options = (struct demo_options){.servers = 2,
                                     .server = -1,
                                     .ranks_per_server = 8,
                                     .tokens = 8,
                                     .hidden = 7168,
                                     .topk = 8,
                                     .experts = 16,
                                     .ffn = 128,
                                     .rounds = 20,
                                     .timeout_s = 60,
                                     .seed = 1};
    argp_err_exit_status = 2;
    (void)argp_parse(&parser, argc, argv, 0, NULL, options);
}
