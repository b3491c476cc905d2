/*
 * Bare TCP streams between the hosts of a case. A stream lies between ranks at the same place in their hosts, as many
 * as the smaller host has ranks; what a rank without a stream of its own would send goes through another's of its host.
 * What each carries is known beforehand. Thread: each rank its own.
 */
#ifndef EPX_BENCH_WIRE_STREAMS_H
#define EPX_BENCH_WIRE_STREAMS_H

#include "world.h"

enum wire_operation { WIRE_DISPATCH, WIRE_COMBINE, WIRE_STREAM, WIRE_OPERATION_COUNT };

struct wire_stream {
    int64_t host; /* at its other end */
    int socket;
    int64_t out_bytes[WIRE_OPERATION_COUNT];
    int64_t in_bytes[WIRE_OPERATION_COUNT];
    unsigned char *in; /* of the longest operation */
    int64_t out_left;
    int64_t in_left;
};

struct wire_rank {
    struct bench_member *member;
    unsigned char mark; /* what this rank sends: all bytes alike */
    unsigned char *out; /* of the longest operation of a stream */
    int64_t stream_count;
    struct wire_stream streams[BENCH_HOST_MAX];
};

/* Connects; all ranks at once. False after an error, said on standard error. */
bool wire_rank_open(struct wire_rank *rank, struct bench_member *member);
void wire_rank_close(struct wire_rank *rank);

/* Sends and receives all that is this rank's in the operation. */
bool wire_rank_run(struct wire_rank *rank, enum wire_operation operation);

/* Received bytes that are not what the peers sent, of the latest operation. */
int64_t wire_rank_wrong(const struct wire_rank *rank, enum wire_operation operation);

#endif
