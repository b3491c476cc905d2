#include "cann/property_cann_threads.h"

#include "cann/property_cann_run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct rank_thread {
    pthread_t thread;
    struct property_cann_place *place;
    const struct world *world; /* null: it joins */
};

static void *thread_main(void *context)
{
    struct rank_thread *rank = context;
    if (rank->world != NULL) {
        (void)property_cann_run_alone(rank->place, rank->world);
    } else if (property_cann_place_enter(rank->place)) {
        (void)property_cann_place_join(rank->place);
    }
    return NULL;
}

static void run_threads(struct property_cann_place *places, int64_t count, const struct world *world)
{
    struct rank_thread ranks[PROPERTY_CANN_RANK_MAX];
    for (int64_t i = 0; i < count; i++) {
        ranks[i] = (struct rank_thread){.place = &places[i], .world = world};
        if (pthread_create(&ranks[i].thread, NULL, thread_main, &ranks[i]) != 0) {
            perror("pthread_create");
            abort();
        }
    }
    for (int64_t i = 0; i < count; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
}

/* Cases by way, and worlds that one thread drove: a kind that is never drawn shows. */
static struct {
    int64_t cases[PROPERTY_CANN_TABLE + 1];
    int64_t driven_worlds;
} tally;

void property_cann_threads_print(const char *program)
{
    printf("%s: %lld cases by HcclCommInitAll, %lld by root information, %lld by rank table; one thread drove %lld "
           "worlds\n",
           program, (long long)tally.cases[PROPERTY_CANN_ALL], (long long)tally.cases[PROPERTY_CANN_ROOT],
           (long long)tally.cases[PROPERTY_CANN_TABLE], (long long)tally.driven_worlds);
}

static bool all_good(const struct property_report *reports, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (reports[i].text[0] != '\0') {
            return false;
        }
    }
    return true;
}

static bool join(const struct property_cann_case *owner, struct property_cann_place *places,
                 const struct property_report *reports)
{
    const int64_t count = owner->test->rank_count;
    for (int64_t i = 0; i < count; i++) {
        if (!property_cann_place_start(&places[i])) {
            return false;
        }
    }
    if (owner->way == PROPERTY_CANN_ALL) {
        return property_cann_join_all(owner, places);
    }
    run_threads(places, count, NULL);
    return all_good(reports, count);
}

void property_cann_run_threads(const struct property_case *test, enum epx_product product,
                               struct property_report *reports)
{
    static struct property_cann_roots roots;
    struct property_cann_place places[PROPERTY_CANN_RANK_MAX];
    struct property_cann_case owner;
    property_cann_case_init(&owner, test, &roots, product, false);
    for (int64_t i = 0; i < test->rank_count; i++) {
        property_cann_place_init(&places[i], &owner, i, &reports[i]);
    }
    tally.cases[owner.way]++;
    bool going = join(&owner, places, reports);
    for (int64_t i = 0; i < test->world_count && going; i++) {
        const struct world *world = &test->worlds[i];
        property_cann_algorithm_set(world);
        if (random_mix(world->seed, 6000) % 5 == 0) {
            tally.driven_worlds++;
            property_cann_run_together(places, test->rank_count, world);
        } else {
            run_threads(places, test->rank_count, world);
        }
        going = all_good(reports, test->rank_count);
    }
    for (int64_t i = 0; i < test->rank_count; i++) {
        property_cann_place_fini(&places[i]);
    }
    property_cann_case_fini(&owner);
}

void property_cann_case_draw(struct property_case *test, const struct property_options *options, int64_t number)
{
    property_case_init(test, options, number);
    for (int64_t i = 0; i < test->world_count; i++) {
        property_cann_chain_rows(&test->worlds[i]);
    }
}

void property_cann_environment_set(void)
{
    char job[32];
    snprintf(job, sizeof job, "property %ld", (long)getpid());
    setenv("EPX_JOB", job, 1);
    setenv("EPX_JOIN_TIMEOUT", "30000", 1);
    setenv("EPX_OP_TIMEOUT", "30000", 1);
    setenv("EPX_LOG", "error", 1); /* a mask is warned of */
    unsetenv("EPX_PRODUCT");
}
