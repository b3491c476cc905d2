/*
 * What every measuring program of the bench shares: the case (sizes and options of one grid point), its inputs, the way
 * rounds are timed and the records they print. A measuring program ("engine") runs one case with all its ranks, and
 * `epx bench` runs engines one after the other, again and again, and compares.
 *
 * Engines: floor (the bytes alone), epx (door 1), cann (door 2), mpi (the pipeline that MPI users write), wire (with
 * several hosts: the bytes that cross, alone).
 *
 * Command line of an engine: --ranks R --hosts H --bs BS --hidden H --topk K --experts E --dtype bf16|fp16 --quant
 * none|int8
 * --zipf S --cold 0|1 --threads T --processes 0|1 --warmup N --rounds N --seed N --skew-us N --check 0|1 --cpu-time
 * 0|1, and its own options (floor, epx and mpi: --round-trip 0|1).
 *
 * A round, the same in every engine, so that all find the same lines in the same caches: touch x (bench_touch: its
 * owner has just written it); [sweep caches]; untimed barrier; [skew]; dispatch, timed; bench_expert_row on every row
 * that arrived, into rows that the combine reads, apart from expandX; [sweep]; untimed barrier; [skew]; combine, timed.
 * A rank waits in a barrier as soon as its own part is timed. round.h has the steps, expect.h the check of results.
 *
 * Records, one JSON object a line on standard output (rank 0's, or the parent's):
 *   {"record":"sample","engine":…,"variant":…,"operation":"dispatch"|"combine"|"round_trip"|…,"round":i,
 *    "makespan_ns":first in to last out,"max_ns":largest of the ranks' own times,
 *    "cpu_ns":processor time, user and system, of all threads of a rank; the mean of the ranks; with --cpu-time 1,
 *    "wire_bytes":what all hosts sent through their interfaces meanwhile, with several hosts}
 *   {"record":"summary","engine":…,"variant":…,"version":…,"isa":of the kernels,"dispatch_digest":"16 hex",
 *    "combine_digest":"16 hex","product_digest":"16 hex","wrong":n,"create_ns":…,"plan_ns":…,"first_dispatch_ns":…,
 *    "first_combine_ns":…,
 *    "dispatch_bytes_read":…,"dispatch_bytes_written":…,"combine_bytes_read":…,"combine_bytes_written":…}
 * Fields that an engine cannot know are absent.
 */
#ifndef EPX_BENCH_CASE_H
#define EPX_BENCH_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_dtype { BENCH_FP16 = 0, BENCH_BF16 = 1 };

#define BENCH_PRODUCT_COLUMNS_MAX 65536
#define BENCH_HOST_MAX            64

/* What a sample of the operation "stream" moves: one TCP stream from host 0 to host 1 (engine wire). */
#define BENCH_STREAM_BYTES ((int64_t)32 << 20)

struct bench_case {
    int64_t rank_count;
    int64_t host_count;  /* network namespaces that the ranks lie in; 1: this host */
    int64_t token_count; /* BS, of every rank */
    int64_t hidden_elems;
    int64_t topk;
    int64_t expert_count;
    enum bench_dtype dtype;
    bool quantize;   /* dynamic int8 in dispatch */
    double zipf;     /* exponent of the experts' popularity; 0: uniform */
    bool cold;       /* caches are swept before every round */
    int64_t threads; /* worker threads of a rank; 0: the library's default */
    bool processes;  /* ranks are processes (else threads of one) */
    int64_t warmup;
    int64_t rounds;
    uint64_t seed;
    int64_t skew_us;         /* each rank enters up to so much late, drawn from the seed; 0: together */
    bool check;              /* results are compared with what they must be (expect.h); digests are made in any case */
    bool cpu_time;           /* processor time is read, by a system call before and after each operation */
    int64_t product_columns; /* N of the experts' first product: engine epx, ranks that are processes; 0: none */
};

/* The variant whose combine sums on two levels, and rounds once more. */
#define BENCH_TWO_LEVEL "two-level"

#define BENCH_CASE_INIT                                                                                                \
    {                                                                                                                  \
        16, 1, 64, 7168, 8, 16, BENCH_BF16, false, 0.0, false, 0, true, 5, 30, 1, 0, true, false, 0                    \
    }

/* Takes argv[*at] (and its value) when it is an option of a case. Returns 1: taken, *at is at the next; 0: none of
 * these; -1: bad value, said on standard error. */
int bench_case_option(struct bench_case *bench, int argc, char **argv, int *at);

/* Where a rank is: hosts have equally many, or one more or less, in order. */
static inline int64_t bench_case_host(const struct bench_case *bench, int64_t rank)
{
    return rank * bench->host_count / bench->rank_count;
}

/* Whether the sizes fit together; says on standard error what does not. */
bool bench_case_check(const struct bench_case *bench);

/*
 * Inputs of one rank, a function of (seed, rank) and the sizes alone. Rows have different magnitudes, so that a
 * misplaced row or scale shows; experts of a token are distinct; weights are positive and sum to about 1.
 * x: (BS, H) 16-bit rows; expert_ids: (BS, K); weights: (BS, K).
 */
void bench_inputs_tokens(const struct bench_case *bench, int64_t rank, uint16_t *x);
void bench_inputs_routing(const struct bench_case *bench, int64_t rank, int32_t *expert_ids, float *weights);

/* Of all ranks' experts, one for all: (H, N), in [-1, 1). */
void bench_inputs_weights(const struct bench_case *bench, float *weights);

/* What the expert makes of a received row, for the combine: out[h] = row[h] with its sign flipped when (expert % 2), so
 * that the result depends on the expert and costs no arithmetic. With int8 rows, the row is dequantised first. */
void bench_expert_row(const struct bench_case *bench, int64_t expert, const void *row, float scale, uint16_t *out);

/* FNV-1a taken 8 bytes at a time, the last ones singly; start with BENCH_DIGEST_INIT. Digests of a case: over ranks in
 * order, dispatch: the valid rows of expandX (in one call), then their scales with quantisation (in one call), then the
 * row counts of local experts as int64; combine: x; product: the products of its rows. Each rank makes its own digest,
 * and the case's is the digest of these 8-byte values in rank order. */
#define BENCH_DIGEST_INIT UINT64_C(0xcbf29ce484222325)
uint64_t bench_digest(uint64_t digest, const void *data, size_t bytes);

#endif
