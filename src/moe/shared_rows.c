#include "moe/shared_rows.h"

/* floor(place * token_count / shared_count), without the full product. */
static int64_t share(int64_t place, int64_t token_count, int64_t shared_count)
{
    return place * (token_count / shared_count) + place * (token_count % shared_count) / shared_count;
}

struct epx_token_interval epx_shared_rows_interval(int64_t shared_rank, int64_t source, int64_t token_count,
                                                   int64_t shared_count)
{
    int64_t base = share(source, token_count, shared_count);
    struct epx_token_interval interval = {
        .first = share(shared_rank + source, token_count, shared_count) - base,
        .end = share(shared_rank + source + 1, token_count, shared_count) - base,
    };
    return interval;
}

int64_t epx_shared_rows_pseudo_count(int64_t i, int64_t shared_rank, int64_t token_count, int64_t shared_count)
{
    return share(i + 1 + shared_rank, token_count, shared_count) - share(i + shared_rank, token_count, shared_count);
}
