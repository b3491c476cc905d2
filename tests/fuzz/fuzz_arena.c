/*
 * Any bytes as the first of a peer's arena: refused with a text, or mapped, and then no place outside its file is given
 * out, whatever its header says meanwhile. The file is one for all tries.
 */
#include "memory/arena.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_BYTES (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct input { /* what the bytes begin with */
    struct epx_arena_header header;
    struct epx_arena_header later; /* of it, committed bytes and reserve, once it is mapped */
    uint64_t offset;
    uint64_t bytes;
    uint8_t is_good; /* magic, version, id, life and size are right */
};

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static int file_fd = -1;
static uint8_t *file;

static void file_make(void)
{
    file_fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    require(file_fd >= 0 && ftruncate(file_fd, FILE_BYTES) == 0);
    require(fcntl(file_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file_fd, 0);
    require(file != MAP_FAILED);
}

static void try_places(const struct epx_arena *arena, const struct input *input)
{
    const uint8_t *place = epx_arena_at(arena, input->offset, input->bytes);
    if (place != NULL) {
        require(input->bytes <= FILE_BYTES && input->offset <= FILE_BYTES - input->bytes);
        volatile uint8_t sum = 0;
        for (uint64_t i = 0; i < input->bytes; i += 512) {
            sum ^= place[i];
        }
        if (input->bytes > 0) {
            sum ^= place[input->bytes - 1];
        }
        (void)sum;
    }
    (void)epx_arena_owner_dead(arena);
    (void)epx_arena_owner_pid(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct epx_arena_id id = {{1, 2}};
    struct input input;
    struct epx_arena *arena;
    memset(&input, 0, sizeof input);
    memcpy(&input, data, bytes < sizeof input ? bytes : sizeof input);
    if (file == NULL) {
        file_make();
    }
    if ((input.is_good & 1) != 0) {
        input.header.magic = EPX_ARENA_MAGIC;
        input.header.version = EPX_ARENA_VERSION;
        input.header.id = id;
        atomic_store(&input.header.life, 1);
        input.header.reserve_bytes = (input.is_good & 2) != 0 ? 1u << 20 : input.header.reserve_bytes;
    }
    memcpy(file, &input.header, sizeof input.header);
    epx_error_text_set("");
    if (epx_arena_attach(file_fd, &id, &arena) != EPX_OK) {
        require(epx_error_text()[0] != '\0');
        return 0;
    }
    try_places(arena, &input);
    memcpy(file, &input.later, sizeof input.later);
    try_places(arena, &input);
    epx_arena_detach(arena);
    return 0;
}
