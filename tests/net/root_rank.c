/*
 * A rank of the CANN door in a process of its own, as a user's program would be: the root information comes in a file.
 *   epx_root_rank RANK COUNT FILE
 * Rank 0 makes the file. The world meets, then a communicator of all ranks but 0 does (its root is rank 1), then those
 * of the even and of the odd ranks; a barrier on each. Exit status: 0 all right; 1 with what failed.
 */
#include <acl/acl.h>
#include <hccl/hccl.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEVICES      8
#define FILE_TRIES   600
#define RANKS_MAX    64
#define PATH_BYTES   512
#define SUB_OF_NONE  0xFFFFFFFFu
#define TRY_PAUSE_US 50000

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        int must_result_ = (int)(call);                                                                                \
        if (must_result_ != 0) {                                                                                       \
            fprintf(stderr, "%s: %d (%s)\n", #call, must_result_, aclGetRecentErrMsg());                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Whole at once: the others look for it meanwhile. */
static int root_write(const char *path, const HcclRootInfo *root)
{
    char draft[PATH_BYTES];
    snprintf(draft, sizeof draft, "%s.draft", path);
    FILE *file = fopen(draft, "w");
    if (file == NULL) {
        return -1;
    }
    size_t written = fwrite(root, sizeof *root, 1, file);
    return fclose(file) == 0 && written == 1 ? rename(draft, path) : -1;
}

static int root_read(const char *path, HcclRootInfo *root)
{
    for (int i = 0; i < FILE_TRIES; i++) {
        FILE *file = fopen(path, "r");
        if (file != NULL) {
            size_t read = fread(root, sizeof *root, 1, file);
            fclose(file);
            return read == 1 ? 0 : -1;
        }
        usleep(TRY_PAUSE_US);
    }
    return -1;
}

static void meet(HcclComm comm, aclrtStream stream)
{
    MUST(HcclBarrier(comm, stream));
    MUST(aclrtSynchronizeStream(stream));
}

/* The ranks from `first` on, every `step`-th. */
static void sub_meet(HcclComm world, uint32_t rank, uint32_t count, uint32_t first, uint32_t step, aclrtStream stream)
{
    HcclCommConfig config;
    HcclComm sub = NULL;
    uint32_t ranks[RANKS_MAX];
    uint32_t own = SUB_OF_NONE;
    uint32_t sub_count = 0;
    HcclCommConfigInit(&config);
    for (uint32_t other = first; other < count; other += step) {
        own = other == rank ? sub_count : own;
        ranks[sub_count++] = other;
    }
    if (own == SUB_OF_NONE) {
        return;
    }
    MUST(HcclCreateSubCommConfig(&world, sub_count, ranks, first * 10 + step, own, &config, &sub));
    meet(sub, stream);
    MUST(HcclCommDestroy(sub));
}

int main(int argc, char **argv)
{
    HcclRootInfo root;
    HcclComm world = NULL;
    aclrtStream stream = NULL;
    char name[COMM_NAME_MAX_LENGTH];
    if (argc != 4 || atoi(argv[2]) > RANKS_MAX) {
        fprintf(stderr, "root_rank RANK COUNT FILE\n");
        return 1;
    }
    uint32_t rank = (uint32_t)atoi(argv[1]);
    uint32_t count = (uint32_t)atoi(argv[2]);
    MUST(aclInit(NULL));
    MUST(aclrtSetDevice((int32_t)(rank % DEVICES)));
    MUST(aclrtCreateStream(&stream));
    if (rank == 0) {
        MUST(HcclGetRootInfo(&root));
        MUST(root_write(argv[3], &root));
    } else {
        MUST(root_read(argv[3], &root));
    }
    MUST(HcclCommInitRootInfo(count, &root, rank, &world));
    MUST(HcclGetCommName(world, name));
    meet(world, stream);
    sub_meet(world, rank, count, 1, 1, stream);
    sub_meet(world, rank, count, rank % 2, 2, stream);
    meet(world, stream);
    MUST(HcclCommDestroy(world));
    MUST(aclrtDestroyStream(stream));
    MUST(aclrtResetDevice((int32_t)(rank % DEVICES)));
    MUST(aclFinalize());
    printf("rank %u of %u: all met in %s\n", rank, count, name);
    return 0;
}
