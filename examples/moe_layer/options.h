/* Command line of the demo. */
#ifndef EPX_DEMO_OPTIONS_H
#define EPX_DEMO_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct demo_options {
    int64_t servers;
    int64_t ranks_per_server;
    int64_t rank_count;     /* product of the two */
    const char *rank_table; /* null: one is written, and all its ranks run here */
    int64_t server;         /* the one whose ranks run here; -1: all */
    int64_t rank_first;     /* ranks that run here: [rank_first, rank_end) */
    int64_t rank_end;
    int64_t tokens;
    int64_t hidden;
    int64_t topk;
    int64_t experts;
    int64_t shared_ranks;
    int64_t ffn; /* inner width of an expert */
    int64_t rounds;
    int64_t timeout_s;
    uint64_t seed;
    bool fp16;
    bool int8_rows;
    bool smooth;
    bool int8_return;
    bool two_level;
    bool views; /* each round a second time, with row views */
    bool quiet;
    bool show_plan;
};

/* Reads the command line; prints and exits by itself on --help and on a wrong one (status 2). */
void demo_options_read(struct demo_options *options, int argc, char **argv);

#endif
