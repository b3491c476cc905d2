/* Ranks that are late in turn, on one host and on several: the same bytes come over shared memory and over the wire. */
#include "ranks/skew_world.h"
#include "transport/wire.h"

#include <stdio.h>

int main(void)
{
    static const enum skew_form forms[] = {SKEW_PROCESSES, SKEW_HOSTS};
    if (!epx_wire_available()) {
        printf("SKIPPED: no wire between hosts: %s\n", epx_wire_description());
        return 77;
    }
    return skew_main("test_skew_net", forms, 2);
}
