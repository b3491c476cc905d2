/*
 * The agents of a world on several hosts: two threads of each host's leader, connected in a star around host 0. They
 * carry what all hosts must agree on (steps of the world, the one cause of failure), and tell each other where their
 * ranks are, which is also the sign that they live. docs/protocol.md has the rules.
 */
#ifndef EPX_COMM_AGENT_H
#define EPX_COMM_AGENT_H

#include "comm/comm_object.h"

struct epx_agent;

/*
 * Starts the agent of this rank's host, whose leader the rank is. `links` as in struct epx_census: of host 0 one a
 * host, of another its own to host 0 alone. The agent owns the descriptors from here on, after a failure too.
 * EPX_ERR_NO_MEMORY, EPX_ERR_SYSTEM, EPX_ERR_CONFIG.
 */
EPX_NODISCARD enum epx_status epx_agent_start(struct epx_comm *comm, const int *links, uint32_t link_count,
                                              struct epx_agent **out);

/* Says at once what there is to say: for a rank that may exit as soon as it knows of a failure. Thread: any but the
 * agent's own. */
void epx_agent_settle(struct epx_agent *agent);

/* Returns when what was decided so far has been sent. Thread: any but the agent's own. */
void epx_agent_sync(struct epx_agent *agent);

/* Takes leave of the other hosts and ends the agent; waits for them half a second at most. */
void epx_agent_stop(struct epx_agent *agent);

#endif
