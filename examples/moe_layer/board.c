#include "board.h"

#include <sys/mman.h>

static size_t rounded(size_t bytes)
{
    return (bytes + 127) & ~(size_t)127;
}

int board_create(const struct demo_options *options, struct board *board)
{
    size_t ranks = (size_t)options->rank_count;
    board->local_experts = options->experts / (options->rank_count - options->shared_ranks);
    size_t locals = (size_t)board->local_experts;
    size_t rank_bytes = rounded(ranks * sizeof(struct board_rank));
    size_t expert_bytes = rounded(ranks * locals * sizeof(int64_t));
    size_t count_bytes = rounded(ranks * ranks * locals * sizeof(int32_t));
    size_t x_bytes = rounded(ranks * (size_t)options->tokens * (size_t)options->hidden * sizeof(uint16_t));
    size_t time_bytes =
        rounded(ranks * (size_t)options->rounds * BOARD_FORM_COUNT * BOARD_PHASE_COUNT * sizeof(uint64_t));
    board->memory_bytes = rank_bytes + expert_bytes + count_bytes + x_bytes + time_bytes;
    board->memory =
        mmap(NULL, board->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (board->memory == MAP_FAILED) {
        return -1;
    }
    char *next = board->memory;
    board->ranks = (struct board_rank *)next;
    next += rank_bytes;
    board->expert_rows = (int64_t *)next;
    next += expert_bytes;
    board->recv_counts = (int32_t *)next;
    next += count_bytes;
    board->x = (uint16_t *)next;
    next += x_bytes;
    board->phase_ns = (uint64_t *)next;
    return 0;
}

void board_destroy(struct board *board)
{
    (void)munmap(board->memory, board->memory_bytes);
}

int64_t *board_expert_rows(const struct board *board, int64_t rank)
{
    return board->expert_rows + rank * board->local_experts;
}

int32_t *board_recv_counts(const struct demo_options *options, const struct board *board, int64_t rank)
{
    return board->recv_counts + rank * options->rank_count * board->local_experts;
}

uint16_t *board_x(const struct demo_options *options, const struct board *board, int64_t rank)
{
    return board->x + rank * options->tokens * options->hidden;
}

uint64_t *board_phase_ns(const struct demo_options *options, const struct board *board, int64_t rank, int64_t round,
                         enum board_form form)
{
    return board->phase_ns + ((rank * options->rounds + round) * BOARD_FORM_COUNT + form) * BOARD_PHASE_COUNT;
}

uint64_t board_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *next = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ next[i]) * UINT64_C(0x100000001B3);
    }
    return hash;
}
