#include "comm/agent.h"

#include "base/clock.h"
#include "base/futex.h"
#include "base/log.h"
#include "base/thread.h"
#include "comm/agent_link.h"
#include "comm/failure.h"
#include "comm/rank_set.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Between two reports of where the ranks are, at most. */
#define BEAT_NS 200000000u
/* Reports within the time after which a silent host is lost. */
#define BEATS_PER_LIMIT 5u
/* How long a leader that leaves waits for the other hosts to take its last words. */
#define LINGER_NS 500000000u

struct epx_agent {
    struct epx_comm *comm;
    bool decides; /* host 0's */
    uint64_t limit_ns;
    uint64_t beat_ns;
    pthread_t listener;
    pthread_t speaker;
    int stop_fd;
    _Atomic bool stops;

    pthread_mutex_t lock; /* of all below */
    uint32_t link_count;
    struct epx_agent_link *links; /* of host 0: by host - 1; else one, to host 0 */
    uint64_t sent_arrival;        /* latest step of the world that was reported to host 0 */
    uint64_t sent_proposal;
    uint64_t proposed_ns; /* when it was sent; 0: none waits for its answer */
    bool announced;       /* host 0: the failure to the others; else: host 0 knows it */
    uint64_t next_beat_ns;
    struct epx_agent_message message; /* scratch */
};

static struct epx_control *control_of(const struct epx_agent *agent)
{
    return agent->comm->control;
}

static uint64_t word_load(const struct epx_agent *agent)
{
    return atomic_load_explicit(&control_of(agent)->word.value, memory_order_acquire);
}

/* ---- What is decided ------------------------------------------------------------------------------------------ */

/* Fails the world here, whatever the step, in the name of `rank`. The record of a remote rank is this thread's to
 * write; that of a rank here was written by the rank, which proposed it. */
static void fail_here(struct epx_agent *agent, uint32_t rank, uint32_t status, const char *text)
{
    struct epx_control *control = control_of(agent);
    struct epx_control_failure *record = &control->slots[rank].failure;
    uint64_t word = word_load(agent);
    while (epx_word_failed(word) == 0) {
        if (!epx_comm_is_here(agent->comm, rank)) {
            atomic_store_explicit(&record->status, status, memory_order_relaxed);
            (void)snprintf(record->text, sizeof record->text, "%s", text);
        }
        if (atomic_compare_exchange_strong(&control->word.value, &word, epx_word_make(epx_word_step(word), rank + 1))) {
            break;
        }
    }
    epx_word_wake(control);
}

static void send_all(struct epx_agent *agent)
{
    for (uint32_t i = 0; i < agent->link_count; i++) {
        epx_agent_link_send(&agent->links[i], &agent->message);
    }
}

/* Host 0: tells the others the cause. */
static void announce(struct epx_agent *agent, uint64_t word)
{
    if (agent->announced) {
        return;
    }
    agent->announced = true;
    struct epx_agent_cause *cause = &agent->message.body.cause;
    enum epx_status status = epx_failure_read(control_of(agent), agent->comm->rank_count, word);
    *cause = (struct epx_agent_cause){
        .steps = epx_word_step(word), .rank = epx_word_failed(word) - 1, .status = (uint32_t)status};
    if (cause->rank >= agent->comm->rank_count) {
        cause->rank = agent->comm->rank;
    }
    (void)snprintf(cause->text, sizeof cause->text, "%s", epx_error_text());
    epx_agent_message_seal(&agent->message, EPX_AGENT_FAILED);
    send_all(agent);
}

/* Whether all ranks here have arrived at the step of the world that is next; then which it is. */
static bool host_arrived(const struct epx_agent *agent, uint64_t word, uint64_t *step)
{
    struct epx_control *control = control_of(agent);
    *step = atomic_load_explicit(&control->world_step, memory_order_acquire);
    return *step == epx_word_step(word) + 1 &&
           atomic_load_explicit(&control->arrivals, memory_order_acquire) >= *step * agent->comm->here_count;
}

static void decide(struct epx_agent *agent)
{
    uint64_t word = word_load(agent);
    uint64_t step;
    if (epx_word_failed(word) != 0) {
        announce(agent, word);
        return;
    }
    if (!host_arrived(agent, word, &step)) {
        return;
    }
    for (uint32_t i = 0; i < agent->link_count; i++) {
        if (agent->links[i].arrived_step < step) {
            return;
        }
    }
    if (epx_word_complete(control_of(agent), step)) {
        agent->message.body.step.step = step;
        epx_agent_message_seal(&agent->message, EPX_AGENT_COMPLETE);
        send_all(agent);
    } else {
        announce(agent, word_load(agent));
    }
}

/* Asks for a decision on what the record of a rank here says. `proposal` is made like a failed word. */
static void propose(struct epx_agent *agent, uint64_t proposal, bool may_be_void)
{
    const struct epx_control *control = control_of(agent);
    struct epx_agent_cause *cause = &agent->message.body.cause;
    uint32_t rank = epx_word_failed(proposal) - 1;
    if (rank >= agent->comm->rank_count) {
        return;
    }
    enum epx_status status = epx_failure_read(control, agent->comm->rank_count, proposal);
    uint64_t world_step = atomic_load_explicit(&control->world_step, memory_order_acquire);
    *cause = (struct epx_agent_cause){
        .steps = epx_word_step(proposal),
        .rank = rank,
        .status = (uint32_t)status,
        .of_world = may_be_void && world_step == epx_word_step(proposal) + 1 ? 1 : 0,
    };
    (void)snprintf(cause->text, sizeof cause->text, "%s", epx_error_text());
    epx_agent_message_seal(&agent->message, EPX_AGENT_PROPOSE);
    send_all(agent);
}

/* Another host than 0: reports to it. */
static void report(struct epx_agent *agent)
{
    struct epx_control *control = control_of(agent);
    uint64_t word = word_load(agent);
    uint64_t step;
    if (epx_word_failed(word) != 0) {
        /* Nobody told it to fail: ranks here did before there was an agent. */
        if (!agent->announced) {
            agent->announced = true;
            propose(agent, word, false);
        }
        return;
    }
    if (host_arrived(agent, word, &step) && agent->sent_arrival < step) {
        agent->sent_arrival = step;
        agent->message.body.step.step = step;
        epx_agent_message_seal(&agent->message, EPX_AGENT_ARRIVED);
        send_all(agent);
    }
    uint64_t proposal = atomic_load_explicit(&control->proposal, memory_order_acquire);
    if (proposal != agent->sent_proposal) {
        /* Made while the step was being completed: void like those that on_complete finds. */
        if (proposal != 0 && epx_word_step(proposal) < epx_word_step(word)) {
            (void)atomic_compare_exchange_strong(&control->proposal, &proposal, 0);
            proposal = 0;
        }
        agent->sent_proposal = proposal;
        agent->proposed_ns = proposal != 0 ? epx_clock_ns() : 0;
        if (proposal != 0) {
            propose(agent, proposal, true);
        }
    }
}

static void look(struct epx_agent *agent)
{
    if (agent->decides) {
        decide(agent);
    } else {
        report(agent);
    }
}

/* ---- What comes ----------------------------------------------------------------------------------------------- */

static void on_arrived(struct epx_agent_link *link, uint64_t step)
{
    if (step <= link->arrived_step) {
        epx_agent_link_lose(link, "it arrived at a step again");
        return;
    }
    link->arrived_step = step;
}

static void on_complete(struct epx_agent *agent, struct epx_agent_link *link, uint64_t step)
{
    struct epx_control *control = control_of(agent);
    uint64_t world_step = atomic_load_explicit(&control->world_step, memory_order_acquire);
    if (step != world_step || step > agent->sent_arrival) {
        epx_agent_link_lose(link, "it completed a step at which this host has not arrived");
        return;
    }
    /* What was proposed for this step is void; whoever still finds a cause proposes again. */
    uint64_t proposal = atomic_load_explicit(&control->proposal, memory_order_acquire);
    if (epx_word_complete(control, step) && proposal != 0) {
        atomic_store_explicit(&control->proposal, 0, memory_order_release);
        agent->sent_proposal = 0;
        agent->proposed_ns = 0;
    }
}

static void on_propose(struct epx_agent *agent, struct epx_agent_link *link, const struct epx_agent_cause *cause)
{
    if (epx_comm_host_of(agent->comm, cause->rank) != link->host) {
        epx_agent_link_lose(link, "it spoke for a rank of another host");
        return;
    }
    if (cause->of_world == 1 && epx_word_step(word_load(agent)) > cause->steps) {
        return; /* the step is complete, on every host */
    }
    fail_here(agent, cause->rank, cause->status, cause->text);
}

static void on_status(struct epx_agent *agent, struct epx_agent_link *link, const struct epx_agent_status *status,
                      uint64_t now_ns)
{
    for (uint32_t i = 0; i < status->count; i++) {
        const struct epx_agent_place *place = &status->places[i];
        struct epx_control_slot *slot = &control_of(agent)->slots[place->rank];
        uint32_t host = epx_comm_host_of(agent->comm, place->rank);
        if (epx_comm_is_here(agent->comm, place->rank) || (agent->decides && host != link->host)) {
            epx_agent_link_lose(link, "it told where ranks of another host are");
            return;
        }
        atomic_store_explicit(&slot->since_ns, now_ns > place->age_ns ? now_ns - place->age_ns : 0,
                              memory_order_relaxed);
        atomic_store_explicit(&slot->activity, place->activity, memory_order_relaxed);
        atomic_store_explicit(&slot->heard_ns, now_ns > place->heard_ns ? now_ns - place->heard_ns : 0,
                              memory_order_relaxed);
        atomic_store_explicit(&slot->arrived_step, place->arrived_step, memory_order_release);
        atomic_store_explicit(&slot->life, place->life, memory_order_release);
    }
}

static void on_message(struct epx_agent *agent, struct epx_agent_link *link, uint64_t now_ns)
{
    const struct epx_agent_message *message = &agent->message;
    bool up = message->kind == EPX_AGENT_ARRIVED || message->kind == EPX_AGENT_PROPOSE;
    bool down = message->kind == EPX_AGENT_COMPLETE || message->kind == EPX_AGENT_FAILED;
    if ((up && !agent->decides) || (down && agent->decides)) {
        epx_agent_link_lose(link, "it sent a message that is not its own to send");
        return;
    }
    switch (message->kind) {
    case EPX_AGENT_ARRIVED: on_arrived(link, message->body.step.step); break;
    case EPX_AGENT_COMPLETE: on_complete(agent, link, message->body.step.step); break;
    case EPX_AGENT_PROPOSE: on_propose(agent, link, &message->body.cause); break;
    case EPX_AGENT_FAILED:
        agent->announced = true;
        fail_here(agent, message->body.cause.rank, message->body.cause.status, message->body.cause.text);
        break;
    case EPX_AGENT_STATUS: on_status(agent, link, &message->body.status, now_ns); break;
    default: link->said_bye = true; break;
    }
}

/* "rank 8 (host b, pid 4711), which speaks for ranks 8-15, cannot be reached: connection closed by it" */
static void loss_text(const struct epx_agent *agent, const struct epx_agent_link *link, char *text, size_t text_bytes)
{
    const struct epx_hosts *hosts = agent->comm->hosts;
    struct epx_rank_set ranks = {0};
    char ranks_text[160];
    uint32_t leader = epx_hosts_leader(hosts, link->host);
    for (uint32_t place = 0; place < epx_hosts_rank_count(hosts, link->host); place++) {
        epx_rank_set_add(&ranks, epx_hosts_rank_at(hosts, link->host, place));
    }
    epx_rank_set_print(&ranks, ranks_text, sizeof ranks_text);
    (void)snprintf(text, text_bytes, "rank %u (host %s, pid %u), which speaks for %s, cannot be reached: %s", leader,
                   hosts->host_names[link->host], hosts->pids[leader], ranks_text, link->reason);
}

/* A link is gone. After a farewell its ranks have left, and those here who need them find that by themselves. */
static void on_loss(struct epx_agent *agent, struct epx_agent_link *link)
{
    char text[EPX_ERROR_TEXT_BYTES];
    if (!agent->decides) {
        atomic_store_explicit(&control_of(agent)->decider, EPX_DECIDER_HERE, memory_order_release);
    }
    if (!link->said_bye) {
        loss_text(agent, link, text, sizeof text);
        epx_log(EPX_LOG_INFO, "%s", text);
        fail_here(agent, epx_hosts_leader(agent->comm->hosts, link->host), EPX_ERR_PEER_DEAD, text);
    }
    link->reason = NULL;
}

static void look_at_losses(struct epx_agent *agent)
{
    for (uint32_t i = 0; i < agent->link_count; i++) {
        if (agent->links[i].fd < 0 && agent->links[i].reason != NULL) {
            on_loss(agent, &agent->links[i]);
        }
    }
}

static void hear(struct epx_agent *agent, struct epx_agent_link *link)
{
    uint64_t now_ns = epx_clock_ns();
    if (link->fd < 0) {
        return;
    }
    epx_agent_link_read(link, now_ns);
    while (epx_agent_link_take(link, agent->comm->rank_count, &agent->message)) {
        on_message(agent, link, now_ns);
    }
    if (link->said_bye) {
        epx_agent_link_lose(link, "its leader has left");
    }
}

static void *listen_on(void *context)
{
    struct epx_agent *agent = context;
    struct pollfd polls[1 + EPX_COMM_RANK_MAX];
    while (!atomic_load(&agent->stops)) {
        polls[0] = (struct pollfd){.fd = agent->stop_fd, .events = POLLIN};
        (void)pthread_mutex_lock(&agent->lock);
        for (uint32_t i = 0; i < agent->link_count; i++) {
            const struct epx_agent_link *link = &agent->links[i];
            polls[1 + i] =
                (struct pollfd){.fd = link->fd, .events = (short)(POLLIN | (link->out_used > 0 ? POLLOUT : 0))};
        }
        (void)pthread_mutex_unlock(&agent->lock);
        (void)poll(polls, 1 + agent->link_count, (int)(agent->beat_ns / 1000000u));
        (void)pthread_mutex_lock(&agent->lock);
        for (uint32_t i = 0; i < agent->link_count; i++) {
            if (polls[1 + i].revents != 0) {
                epx_agent_link_flush(&agent->links[i]);
                hear(agent, &agent->links[i]);
            }
        }
        look_at_losses(agent);
        look(agent);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    return NULL;
}

/* ---- What is said --------------------------------------------------------------------------------------------- */

static void place_fill(const struct epx_agent *agent, uint32_t rank, uint64_t now_ns, struct epx_agent_place *place)
{
    const struct epx_control_slot *slot = &control_of(agent)->slots[rank];
    uint32_t life = atomic_load_explicit(&slot->life, memory_order_acquire);
    uint64_t since_ns = atomic_load_explicit(&slot->since_ns, memory_order_relaxed);
    uint64_t heard_ns =
        epx_comm_is_here(agent->comm, rank) ? now_ns : atomic_load_explicit(&slot->heard_ns, memory_order_relaxed);
    *place = (struct epx_agent_place){
        .rank = rank,
        .life = life <= EPX_LIFE_LEFT ? life : EPX_LIFE_NONE,
        .arrived_step = atomic_load_explicit(&slot->arrived_step, memory_order_acquire),
        .activity = atomic_load_explicit(&slot->activity, memory_order_relaxed),
        .age_ns = now_ns > since_ns ? now_ns - since_ns : 0,
        .heard_ns = now_ns > heard_ns ? now_ns - heard_ns : 0,
    };
}

/* Where ranks are: to host 0 those here, from host 0 all but the receiver's. */
static void tell_places(struct epx_agent *agent, struct epx_agent_link *link)
{
    struct epx_agent_status *status = &agent->message.body.status;
    uint64_t now_ns = epx_clock_ns();
    status->count = 0;
    status->zero = 0;
    for (uint32_t rank = 0; rank < agent->comm->rank_count; rank++) {
        uint32_t host = epx_comm_host_of(agent->comm, rank);
        if (agent->decides ? host == link->host : host != agent->comm->hosts->own_host) {
            continue;
        }
        place_fill(agent, rank, now_ns, &status->places[status->count++]);
        if (status->count == EPX_AGENT_STATUS_MAX) {
            epx_agent_message_seal(&agent->message, EPX_AGENT_STATUS);
            epx_agent_link_send(link, &agent->message);
            status->count = 0;
        }
    }
    epx_agent_message_seal(&agent->message, EPX_AGENT_STATUS);
    epx_agent_link_send(link, &agent->message);
}

static void beat(struct epx_agent *agent, uint64_t now_ns)
{
    /* While this process itself was stopped it heard nothing, and that is nobody's fault. */
    bool slept = now_ns > agent->next_beat_ns + agent->limit_ns / 2;
    agent->proposed_ns = slept && agent->proposed_ns != 0 ? now_ns : agent->proposed_ns;
    for (uint32_t i = 0; i < agent->link_count; i++) {
        struct epx_agent_link *link = &agent->links[i];
        if (slept) {
            link->heard_ns = now_ns;
        }
        /* An agent that has not begun may be late with reason, as long as nothing is asked of it. */
        bool is_asked = agent->proposed_ns != 0 && now_ns > agent->proposed_ns + agent->limit_ns;
        if (link->fd >= 0 && (link->heard || is_asked) && now_ns > link->heard_ns + agent->limit_ns) {
            (void)snprintf(link->reason_text, sizeof link->reason_text, "silent for %.1f s",
                           (double)(now_ns - link->heard_ns) / 1e9);
            epx_agent_link_lose(link, link->reason_text);
        }
        if (link->out_used == 0) { /* else it has not taken the last ones */
            tell_places(agent, link);
        }
    }
    agent->next_beat_ns = now_ns + agent->beat_ns;
    atomic_store_explicit(&control_of(agent)->agent_ns, now_ns, memory_order_relaxed);
}

static void *speak(void *context)
{
    struct epx_agent *agent = context;
    struct epx_control *control = control_of(agent);
    while (!atomic_load(&agent->stops)) {
        uint32_t bell = atomic_load(&control->bell);
        (void)pthread_mutex_lock(&agent->lock);
        uint64_t now_ns = epx_clock_ns();
        if (now_ns >= agent->next_beat_ns) {
            beat(agent, now_ns);
        }
        look_at_losses(agent);
        look(agent);
        uint64_t until_ns = agent->next_beat_ns;
        (void)pthread_mutex_unlock(&agent->lock);
        epx_futex_wait(&control->bell, bell, until_ns);
    }
    return NULL;
}

/* ---- Begin and end -------------------------------------------------------------------------------------------- */

static void agent_free(struct epx_agent *agent)
{
    for (uint32_t i = 0; i < agent->link_count; i++) {
        epx_agent_link_fini(&agent->links[i]);
    }
    if (agent->stop_fd >= 0) {
        (void)close(agent->stop_fd);
    }
    (void)pthread_mutex_destroy(&agent->lock);
    free(agent->links);
    free(agent);
}

static void close_from(const int *links, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < count; i++) {
        if (links[i] >= 0) {
            (void)close(links[i]);
        }
    }
}

/* Takes the census's links: host 0 has none to itself. */
static enum epx_status links_take(struct epx_agent *agent, const int *links, uint32_t link_count)
{
    uint32_t first = agent->decides ? 1 : 0;
    agent->links = calloc(link_count, sizeof *agent->links);
    if (agent->links == NULL) {
        close_from(links, 0, link_count);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory for %u connections to other hosts", link_count);
    }
    for (uint32_t i = first; i < link_count; i++) {
        uint32_t host = agent->decides ? i : 0;
        enum epx_status status = epx_agent_link_init(&agent->links[agent->link_count], links[i], host, epx_clock_ns());
        if (status != EPX_OK) {
            close_from(links, i + 1, link_count);
            return status;
        }
        agent->link_count++;
    }
    return EPX_OK;
}

static enum epx_status thread_start(pthread_t *thread, void *(*run)(void *), struct epx_agent *agent)
{
    int error = epx_thread_start(thread, 0, run, agent);
    return error == 0 ? EPX_OK
                      : epx_fail_errno(epx_status_of_thread_error(error), error,
                                       "cannot start a thread to speak with other hosts");
}

static void thread_end(struct epx_agent *agent, pthread_t thread)
{
    uint64_t one = 1;
    atomic_store(&agent->stops, true);
    (void)!write(agent->stop_fd, &one, sizeof one);
    epx_bell_ring(control_of(agent));
    (void)pthread_join(thread, NULL);
}

static enum epx_status threads_start(struct epx_agent *agent)
{
    EPX_TRY(thread_start(&agent->listener, listen_on, agent));
    enum epx_status status = thread_start(&agent->speaker, speak, agent);
    if (status != EPX_OK) {
        thread_end(agent, agent->listener);
    }
    return status;
}

static enum epx_status agent_prepare(struct epx_agent *agent, const int *links, uint32_t link_count)
{
    EPX_TRY(links_take(agent, links, link_count));
    agent->limit_ns = agent->comm->hosts->silence_ns;
    agent->beat_ns = agent->limit_ns / BEATS_PER_LIMIT < BEAT_NS ? agent->limit_ns / BEATS_PER_LIMIT : BEAT_NS;
    agent->next_beat_ns = epx_clock_ns();
    atomic_store_explicit(&control_of(agent)->agent_ns, agent->next_beat_ns, memory_order_relaxed);
    agent->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (agent->stop_fd < 0) {
        return epx_fail_errno(EPX_ERR_SYSTEM, errno, "eventfd");
    }
    if (!agent->decides) {
        atomic_store_explicit(&control_of(agent)->decider, EPX_DECIDER_AGENT, memory_order_release);
    }
    enum epx_status status = threads_start(agent);
    if (status != EPX_OK) {
        atomic_store_explicit(&control_of(agent)->decider, EPX_DECIDER_HERE, memory_order_release);
    }
    return status;
}

enum epx_status epx_agent_start(struct epx_comm *comm, const int *links, uint32_t link_count, struct epx_agent **out)
{
    struct epx_agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) {
        close_from(links, 0, link_count);
        return epx_fail(EPX_ERR_NO_MEMORY, "no memory to speak with other hosts");
    }
    agent->comm = comm;
    agent->decides = comm->hosts->own_host == 0;
    agent->stop_fd = -1;
    (void)pthread_mutex_init(&agent->lock, NULL);
    enum epx_status status = agent_prepare(agent, links, link_count);
    if (status != EPX_OK) {
        agent_free(agent);
        return status;
    }
    *out = agent;
    return EPX_OK;
}

/* The last words: what was decided, where the ranks are, farewell. */
static void take_leave(struct epx_agent *agent)
{
    uint64_t until_ns = epx_clock_ns() + LINGER_NS;
    look(agent);
    for (uint32_t i = 0; i < agent->link_count; i++) {
        tell_places(agent, &agent->links[i]);
    }
    epx_agent_message_seal(&agent->message, EPX_AGENT_BYE);
    send_all(agent);
    for (uint32_t i = 0; i < agent->link_count; i++) {
        epx_agent_link_linger(&agent->links[i], until_ns);
    }
}

void epx_agent_settle(struct epx_agent *agent)
{
    (void)pthread_mutex_lock(&agent->lock);
    for (uint32_t i = 0; i < agent->link_count; i++) {
        hear(agent, &agent->links[i]); /* what is left unread would cost the peer what was sent last */
    }
    look(agent);
    (void)pthread_mutex_unlock(&agent->lock);
}

void epx_agent_sync(struct epx_agent *agent)
{
    /* Who swaps the word holds the lock until the others are told. */
    (void)pthread_mutex_lock(&agent->lock);
    (void)pthread_mutex_unlock(&agent->lock);
}

void epx_agent_stop(struct epx_agent *agent)
{
    thread_end(agent, agent->speaker);
    (void)pthread_join(agent->listener, NULL);
    take_leave(agent);
    agent_free(agent);
}
