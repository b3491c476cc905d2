/*
 * Any bytes as the reports that other hosts' parts of a job send to `epx run`, lines of one byte, which chooses the
 * host, and a text: what they say counts for ranks of their own host alone, each of which ends once.
 */
#include "../../tools/run_state.h"
#include "fuzz/fake_environment.h"

#include <stdlib.h>
#include <string.h>

#define RANKS 6u
#define HERE  2u
#define HOSTS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static struct {
    struct run_host hosts[HOSTS];
    struct run_remote remotes[HOSTS - 1];
    struct run_rank ranks[RANKS];
    uint32_t ended[RANKS];
    struct run_options options;
    struct run_state job;
} scene;

/* Ranks 0 and 1 are here, 2 and 3 on host b, 4 and 5 on host c. */
static void scene_init(void)
{
    static char *program[] = {(char *)(size_t) "program", NULL};
    static char *words[] = {(char *)(size_t) "ssh", NULL};
    memset(&scene, 0, sizeof scene);
    for (uint32_t i = 0; i < HOSTS; i++) {
        scene.hosts[i] =
            (struct run_host){.name = (char *)(size_t)(&"a\0b\0c"[2 * i]), .first = 2 * i, .count = 2, .here = i == 0};
    }
    for (uint32_t i = 0; i < HOSTS - 1; i++) {
        scene.remotes[i] = (struct run_remote){.host = &scene.hosts[i + 1], .leash = -1};
    }
    for (uint32_t i = HERE; i < RANKS; i++) {
        scene.ranks[i].elsewhere = true;
    }
    scene.options.hosts = (struct run_hosts){.hosts = scene.hosts, .count = HOSTS, .rank_count = RANKS};
    scene.options.rank_count = scene.options.world_size = RANKS;
    scene.options.program = program;
    scene.options.linger_ns = scene.options.kill_after_ns = 1000000000;
    scene.job.options = &scene.options;
    scene.job.ranks.ranks = scene.ranks;
    scene.job.ranks.count = RANKS;
    scene.job.ranks.remotes.remotes = scene.remotes;
    scene.job.ranks.remotes.count = HOSTS - 1;
    scene.job.ranks.remotes.words = words;
    scene.job.ended = scene.ended;
    require(run_output_init(&scene.job.output, 0, RANKS, true));
}

static void check(void)
{
    bool seen[RANKS] = {false};
    require(scene.job.ended_count <= RANKS - HERE);
    for (uint32_t i = 0; i < scene.job.ended_count; i++) {
        uint32_t rank = scene.ended[i];
        require(rank >= HERE && rank < RANKS && !seen[rank] && scene.ranks[rank].ended && scene.ranks[rank].elsewhere);
        seen[rank] = true;
    }
    for (uint32_t rank = 0; rank < HERE; rank++) {
        require(!scene.ranks[rank].ended && scene.ranks[rank].pid == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    scene_init();
    while (bytes > 0) {
        char *line = fake_environment_line(&data, &bytes);
        uint32_t first = (line[0] & 1) != 0 ? 4 : 2;
        if (line[0] != '\0') {
            run_judge_hear(&scene.job, first, line + 1);
        }
        free(line);
        check();
    }
    /* One that has failed makes all of them wait a moment for a cause, which ends when there are no processes. */
    scene.job.alone = true;
    run_judge_ends(&scene.job);
    require(scene.job.ended_count == 0);
    run_output_fini(&scene.job.output);
    return 0;
}
