/*
 * What world_generator.c does to worlds that are to be wrong.
 */
#ifndef EPX_TESTS_WORLD_FAULTS_H
#define EPX_TESTS_WORLD_FAULTS_H

#include "reference/world_generator.h"

/* A fault that the shape can have; those of rare shapes get a larger share. */
enum world_fault world_fault_draw(const struct ref_shape *shape, struct random_source *random);

/* Apply world->fault to a world whose dispatch has been solved without it: to tokens (true when they have changed), or
 * to returns. A fault that the world's data cannot have changes nothing. */
bool world_spoil_tokens(struct world *world, struct random_source *random);
void world_spoil_returns(struct world *world, struct random_source *random);

#endif
