/* The wire of the tested rank: recorded while all ranks are honest, and then played back from a hostile_world. */
#ifndef EPX_TESTS_FUZZ_HOSTILE_WIRE_H
#define EPX_TESTS_FUZZ_HOSTILE_WIRE_H

#include "fuzz/hostile_world.h"

/* From here on, the messages that the tested rank takes are kept; null: no more. */
void hostile_wire_record(struct hostile_world *world);

/* From here on, the tested rank gets the world's messages; null: no more. */
void hostile_wire_play(struct hostile_world *world);

/* Fresh copies of the messages, in their order. */
void hostile_messages_copy(struct hostile_world *world);

#endif
