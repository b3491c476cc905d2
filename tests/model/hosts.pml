/*
 * A world on several hosts (docs/protocol.md, "Several hosts"): three ranks, a control region and an agent a host, a
 * link from each other host to host 0. Round 1 is the creation of the world; each round after it has a wire part, ENTER,
 * with WITH_RELAY a second wire part, and DONE, at which all hosts meet. ENTER is a step of one host (odd numbers), DONE
 * one of the world (even).
 *
 * What may go wrong, each at any moment: a rank crashes, or is stopped for ever, and its agent with it if it leads its
 * host; a link ends, or carries nothing any more, which its two ends notice when they like, having read what was on its
 * way, or not; deadlines pass; a rank deserts after the creation; another thread of a rank aborts. A process or an agent
 * that is stopped and resumed needs no statement of its own: it rests for as long as the others like.
 *
 * One statement is one access to shared memory, or several that nobody else can tell apart; steps that tests/model/
 * round.pml looks at closely (arriving, completing a step of one host) are coarser here. What a process has handed to
 * its kernel arrives even if it ends, as long as the link stands. The MUTANT_ variants are broken on purpose.
 */
#ifndef LAYOUT
#define LAYOUT 21 /* ranks of each host: 21, 12 or 111 */
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define RANKS 3
#define LAST (2 * ROUNDS)

#if LAYOUT == 21
#define HOSTS 2
#define HOST(r) ((r) / 2)
#define LEADER(h) (2 * (h))
#define COUNT(h) (2 - (h))
#define STANDS(r, x) (((r) == 2 && (x) < 2) || ((r) == 0 && (x) == 2)) /* r stands for x */
#elif LAYOUT == 12
#define HOSTS 2
#define HOST(r) (((r) + 1) / 2)
#define LEADER(h) (h)
#define COUNT(h) (1 + (h))
#define STANDS(r, x) (((r) == 1 && (x) == 0) || ((r) == 0 && (x) > 0))
#else
#define HOSTS 3
#define HOST(r) (r)
#define LEADER(h) (h)
#define COUNT(h) 1
#define STANDS(r, x) ((r) != (x))
#endif

/* What may go wrong in this search, besides deadlines (WITH_DEADLINES) and an abort (ABORTER is the rank). */
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef CUTS
#define CUTS 0
#endif
#ifndef MAY_DESERT
#define MAY_DESERT false
#endif
#ifndef WITH_DEADLINES
#define MAY_EXPIRE(r) false
#elif defined(DEADLINE_OF)
#define MAY_EXPIRE(r) ((r) == DEADLINE_OF)
#else
#define MAY_EXPIRE(r) true
#endif

#define EXPIRES (MAY_EXPIRE(0) || MAY_EXPIRE(1) || MAY_EXPIRE(2))

#define NOBODY 255

/* Causes, as records have them. */
#define DEAD 2        /* a rank of this host is dead */
#define LEFT 3        /* a rank has left */
#define TIMEOUT 4
#define ABORTED 5
#define LOST 6        /* a host cannot be reached: an agent says so */
#define UNREACHABLE 7 /* a rank cannot be reached on the wire: a rank says so */

/* Messages of agents. */
#define ARRIVED 1
#define COMPLETE 2
#define PROPOSE 3
#define FAILED 4
#define STATUS 5 /* only what matters here: that the deserter has left */
#define BYE 6

#define HERE 0
#define AGENT 1

/* How far a rank's offer is. */
#define NOTHING 0
#define ASKING 1
#define DECIDING 2

/* ---- Shared memory, a control region a host ----------------------------------------------------------------------- */

byte word_step[HOSTS], word_failed[HOSTS]; /* the two halves of a word; failed: 0 or 1 + rank */
byte arrivals[HOSTS];
byte world_step[HOSTS];
byte proposal_step[HOSTS], proposal[HOSTS]; /* the two halves of a word; proposal: 0 or 1 + rank */
bit decider[HOSTS];
byte record[HOSTS * RANKS];
bool knows[HOSTS]; /* the deserter's slot here says that it has left */
bool left[RANKS];  /* as its own host sees it */
#define RECORD(h, r) record[(h) * RANKS + (r)]

/* What the kernel says. */
bool dead[RANKS];
bool halted[RANKS];

/* ---- Between hosts ------------------------------------------------------------------------------------------------ */

/* Links, by the host that is not 0: what is on its way, and whether the ends are open (near: that host's). */
chan up[HOSTS] = [3] of { byte, byte, byte, byte, bit }; /* kind, step, rank, cause, of_world */
chan down[HOSTS] = [4] of { byte, byte, byte, byte, bit };
bool near[HOSTS], far[HOSTS];
/* The link is cut, or a process at its ends has crashed or stopped: nothing more gets through, and what is on its way
 * may be lost. */
bool lost[HOSTS];

/* Messages of a rank to its stand-in on a host, and back: how many are on the wire, how many are taken in. Two a round:
 * the first leaves half a mirror, the second a whole one. */
byte rows_out[RANKS * HOSTS], rows_in[RANKS * HOSTS];
byte sums_out[RANKS * HOSTS], sums_in[RANKS * HOSTS];
#define PAIR(x, h) ((x) * HOSTS + (h))
#define GOAL(s) (2 * (((s) - 1) / 2)) /* messages up to the round of step s */

/* ---- Private to a host's leader, shared by its agent ---------------------------------------------------------------- */

bool begun[HOSTS];   /* the agent is there */
bool leaving[HOSTS]; /* the leader closes the communicator */
bool announced[HOSTS];
bool telling; /* host 0's agent has swapped the word and not told everybody: it holds its lock */
byte sent_arrival[HOSTS];
byte sent_proposal_step[HOSTS], sent_proposal[HOSTS];
byte from[HOSTS]; /* host 0: at which step of the world a host has arrived */

/* Private to a rank, shared by its threads. */
#ifdef ABORTER
bool locked;
#define UNLOCKED(r) ((r) != ABORTER || !locked)
#define LOCK(r) locked = ((r) == ABORTER)
#define UNLOCK(r) locked = (locked && (r) != ABORTER)
#else
#define UNLOCKED(r) true
#define LOCK(r) skip
#define UNLOCK(r) skip
#endif

/* ---- What has happened, and what ranks have reported ---------------------------------------------------------------- */

bool exits; /* who is through, or has failed, ends its process without a word; else it closes the communicator */
byte deserter = NOBODY;
bool crashed, aborted;
bool any_lost;
bool early[HOSTS]; /* failed by its own ranks before its agent was there */
byte counted[RANKS];
byte told[HOSTS];   /* the latest step of the world that the agent has completed here */
byte moment[HOSTS]; /* the step of the world at which the host had arrived, and had not heard of the others, when its
                       link was lost */
byte best[HOSTS];   /* the latest step that a rank has reported as complete */
byte worst[HOSTS];  /* the earliest that one has reported as failed */
#define NEVER (LAST + 2)

/* Steps that are complete at the beginning: with 2 the world has been created. Where the hosts meet at once there is no
 * step of one host at the creation. */
#ifdef MUTANT_MEET_AT_ONCE
#define FIRST 1
#endif
#ifndef FIRST
#define FIRST 0
#endif
#define IS_WORLD(s) (((s) & 1) == 0)
#define WORLD_OF(s) ((s) + ((s) & 1)) /* the step of the world that ends the round of step s */
#define PENDING(h, s) (word_step[h] == (s) - 1 && word_failed[h] == 0)
#define UNSETTLED(h, s) (word_step[h] == (s) && word_failed[h] == 0)
#ifdef MUTANT_EARLY
#define ALL_HERE(h, s) (arrivals[h] + 1 >= COUNT(h) * (s))
#else
#define ALL_HERE(h, s) (arrivals[h] >= COUNT(h) * (s))
#endif
#if HOSTS == 2
#define EACH_OTHER(what, s) (what(1, s))
#define EACH_HOST(what, s) (what(0, s) && what(1, s))
#define ANY_HOST(what) (what(0) || what(1))
#else
#define EACH_OTHER(what, s) (what(1, s) && what(2, s))
#define EACH_HOST(what, s) (what(0, s) && what(1, s) && what(2, s))
#define ANY_HOST(what) (what(0) || what(1) || what(2))
#endif
#define EACH_RANK(what, s) (what(0, s) && what(1, s) && what(2, s))
#define ANY_RANK(what) (what(0) || what(1) || what(2))

/* The only exception: host b was cut off from host 0 after it had said that it arrived at step w of the world, and
 * before it heard that w is complete. Then w may be complete elsewhere, and fail on b. */
#ifdef MUTANT_NO_EXCEPTION
#define CUT_OFF(b, w) false
#else
#define CUT_OFF(b, w) ((b) != 0 && moment[b] == (w) && told[b] < (w))
#endif
/* A host that need not have the cause that host 0 has: it does not reach it any more, or failed before it could ask. */
#define SPLIT(h) (lost[h] || early[h] || deserter == 0 || deserter == LEADER(h))

/* Whether a rank here may decide in the agent's place. A stopped agent is known by its silence, which host 0 has
 * noticed long before. */
#ifdef MUTANT_AGENT_FOR_EVER
#define AGENT_GONE(h) false
#else
#define AGENT_GONE(h) (left[LEADER(h)] || dead[LEADER(h)] || (lost[h] && (!far[h] || dead[0] || halted[0])))
#endif
/* Whether ranks here ask, in place of deciding. */
#ifdef MUTANT_NO_PROPOSAL
#define ASKS(h) false
#else
#define ASKS(h) (decider[h] == AGENT && !AGENT_GONE(h))
#endif
/* Else an offer changes nothing, and its rank looks again later. */
#define CAN_OFFER(h) (!ASKS(h) || proposal[h] == 0)

/* ---- Ranks ---------------------------------------------------------------------------------------------------------- */

#define H HOST(r)

#define IS_GONE(q) ((q) != r && HOST(q) == H && dead[q] && !left[q])
#define ANY_GONE ANY_RANK(IS_GONE)
/* The deserter arrives at no step after the creation. */
#define DESERTED(s) ((s) > 2 && deserter != NOBODY && ((HOST(deserter) == H && left[deserter]) || knows[H]))

#define ROWS_WHOLE(x, s) (!STANDS(r, x) || rows_in[PAIR(x, H)] >= GOAL(s))
#define SUMS_WHOLE(h, s) ((h) == H || sums_in[PAIR(r, h)] >= GOAL(s))
#define SUMS_HALF(h, s) ((h) == H || sums_in[PAIR(r, h)] + 1 >= GOAL(s))
#define MIRROR_IS(x, s) (HOST(x) == H || rows_in[PAIR(x, H)] == GOAL(s))
#define SUMS_ARE(h, s) ((h) == H || sums_in[PAIR(r, h)] == GOAL(s))
#define CLOSED(x) (dead[x] || left[x])
#define ROWS_HOPELESS(x) (STANDS(r, x) && CLOSED(x) && rows_in[PAIR(x, H)] < GOAL(step))
#define SUMS_HOPELESS(x) (STANDS(x, r) && CLOSED(x) && sums_in[PAIR(r, HOST(x))] < GOAL(step))

/* A failure has a reason. */
inline check_reason(cause)
{
    assert(cause != DEAD || crashed);
    assert(cause != LEFT || deserter != NOBODY);
    assert(cause != TIMEOUT || EXPIRES);
    assert(cause != ABORTED || aborted);
    assert(cause != UNREACHABLE || any_lost || crashed || deserter != NOBODY || EXPIRES || aborted)
}

/* The first part of epx_failure_offer, which fails the word from (at, 0) or asks for it, and the rest. Of a record that
 * nothing names, what it says is forgotten. */
inline begin_offer(cause)
{
    if
    :: H == 0 ->
        if
        :: UNSETTLED(0, at) ->
            assert(word_failed[0] != r + 1);
            RECORD(0, r) = cause;
            word_failed[0] = r + 1;
            check_reason(cause)
        :: else
        fi
    :: H != 0 && ASKS(H) ->
        if
        :: UNSETTLED(H, at) && proposal[H] == 0 ->
            LOCK(r);
            assert(word_failed[H] != r + 1);
            RECORD(H, r) = cause;
            offering = ASKING
        :: else
        fi
    :: H != 0 && !ASKS(H) ->
        decider[H] = HERE;
        why = cause;
        offering = DECIDING
    fi
}

inline finish_offer()
{
    if
    :: atomic {
           offering == ASKING ->
           if
           :: proposal[H] == 0 -> proposal_step[H] = at; proposal[H] = r + 1
           :: else -> RECORD(H, r) = 0
           fi;
           UNLOCK(r);
           offering = NOTHING;
           at = 0
       }
    :: atomic {
           offering == DECIDING && UNLOCKED(r) && UNSETTLED(H, at) ->
           LOCK(r)
       };
       atomic {
           if
#ifndef MUTANT_REWRITE_PROPOSED
           /* It is what was proposed, and may be decided yet. */
           :: proposal[H] == r + 1
#endif
           :: else -> assert(word_failed[H] != r + 1); RECORD(H, r) = why
           fi
       };
       atomic {
           if
           :: UNSETTLED(H, at) ->
               word_failed[H] = r + 1;
               early[H] = (early[H] || at < 2);
               check_reason(why)
           :: word_failed[H] == r + 1 || proposal[H] == r + 1
           :: else -> RECORD(H, r) = 0
           fi;
           UNLOCK(r);
           offering = NOTHING;
           at = 0;
           why = 0
       }
    :: atomic {
           (offering == DECIDING && UNLOCKED(r) && !UNSETTLED(H, at)) || offering == NOTHING ->
           offering = NOTHING;
           at = 0;
           why = 0
       }
    fi
}

#define OTHER_IN_ORDER(h, s) ((h) == H || worst[h] > LAST || (s) < WORLD_OF(worst[h]) || CUT_OFF(h, WORLD_OF(worst[h])))
#define COUNTED(q, s) (counted[q] >= (s))
#define COUNTED_HERE(q, s) (HOST(q) != H || counted[q] >= (s))

inline report_success(s)
{
    d_step {
        assert(EACH_RANK(COUNTED_HERE, s));
        assert(!IS_WORLD(s) || EACH_RANK(COUNTED, s));
        if
        :: s > best[H] -> best[H] = s
        :: else
        fi;
        assert(best[H] < worst[H]);
        assert(EACH_HOST(OTHER_IN_ORDER, s))
    }
}

#define SUCCESS_IN_ORDER(h, s) ((h) == H || best[h] < WORLD_OF(s) || (WORLD_OF(s) == (s) && CUT_OFF(H, s)))

inline report_failure(s)
{
    d_step {
        assert(word_failed[H] != 0 && RECORD(H, word_failed[H] - 1) >= DEAD);
        if
        :: s < worst[H] -> worst[H] = s
        :: else
        fi;
        assert(best[H] < worst[H]);
        assert(EACH_HOST(SUCCESS_IN_ORDER, s));
        assert(H == 0 || SPLIT(H) ||
               (word_failed[H] == word_failed[0] &&
                RECORD(H, word_failed[H] - 1) == RECORD(0, word_failed[H] - 1)))
    }
}

/* Whoever is through, or has failed. The agent takes its leave by itself. */
inline close()
{
    if
    :: exits -> dead[r] = true
    :: else -> left[r] = true; leaving[H] = (leaving[H] || r == LEADER(H))
    fi
}

/* epx_failure_force: until the word has failed. */
inline force(cause)
{
    do
    :: word_failed[H] != 0 -> break
    :: atomic { word_failed[H] == 0 && UNLOCKED(r) && CAN_OFFER(H) -> at = word_step[H]; begin_offer(cause) };
       finish_offer()
    od
}

/* The rows go to the stand-ins, and those of the ranks for which this one stands come in. */
inline wire_rows(s)
{
    atomic {
        if
        :: H != 0 -> rows_out[PAIR(r, 0)] = GOAL(s)
        :: else
        fi;
        if
        :: H != 1 -> rows_out[PAIR(r, 1)] = GOAL(s)
        :: else
        fi;
#if HOSTS == 3
        if
        :: H != 2 -> rows_out[PAIR(r, 2)] = GOAL(s)
        :: else
        fi
#endif
    };
    do
#ifdef MUTANT_ENTER_WITHOUT_ROWS
    :: true -> break
#endif
    :: EACH_RANK(ROWS_WHOLE, s) -> break
    :: atomic { STANDS(r, 0) && rows_in[PAIR(0, H)] < rows_out[PAIR(0, H)] -> rows_in[PAIR(0, H)]++ }
    :: atomic { STANDS(r, 1) && rows_in[PAIR(1, H)] < rows_out[PAIR(1, H)] -> rows_in[PAIR(1, H)]++ }
    :: atomic { STANDS(r, 2) && rows_in[PAIR(2, H)] < rows_out[PAIR(2, H)] -> rows_in[PAIR(2, H)]++ }
    :: word_failed[H] != 0 -> goto failed
    :: ANY_RANK(ROWS_HOPELESS) -> force(UNREACHABLE); goto failed
    :: ANY_GONE -> force(DEAD); goto failed
    :: DESERTED(s) -> force(LEFT); goto failed
    :: MAY_EXPIRE(r) && !EACH_RANK(ROWS_WHOLE, s) -> force(TIMEOUT); goto failed
    od
}

/* Sums of this host go back to the ranks for which this one stands, and the own ones come in. */
inline wire_sums(s)
{
    atomic {
        if
        :: STANDS(r, 0) -> sums_out[PAIR(0, H)] = GOAL(s)
        :: else
        fi;
        if
        :: STANDS(r, 1) -> sums_out[PAIR(1, H)] = GOAL(s)
        :: else
        fi;
        if
        :: STANDS(r, 2) -> sums_out[PAIR(2, H)] = GOAL(s)
        :: else
        fi
    };
    do
#ifdef MUTANT_SUMS_HALF
    :: EACH_HOST(SUMS_HALF, s) -> break
#endif
    :: EACH_HOST(SUMS_WHOLE, s) -> break
    :: atomic { H != 0 && sums_in[PAIR(r, 0)] < sums_out[PAIR(r, 0)] -> sums_in[PAIR(r, 0)]++ }
    :: atomic { H != 1 && sums_in[PAIR(r, 1)] < sums_out[PAIR(r, 1)] -> sums_in[PAIR(r, 1)]++ }
#if HOSTS == 3
    :: atomic { H != 2 && sums_in[PAIR(r, 2)] < sums_out[PAIR(r, 2)] -> sums_in[PAIR(r, 2)]++ }
#endif
    :: word_failed[H] != 0 -> goto failed
    :: ANY_RANK(SUMS_HOPELESS) -> force(UNREACHABLE); goto failed
    :: ANY_GONE -> force(DEAD); goto failed
    :: DESERTED(s) -> force(LEFT); goto failed
    :: MAY_EXPIRE(r) && !EACH_HOST(SUMS_WHOLE, s) -> force(TIMEOUT); goto failed
    od
}

#define LOOKS (PENDING(H, step) && UNLOCKED(r) && CAN_OFFER(H))
#ifdef NO_WIRE
#define NO_ROWS(s) true
#else
#define NO_ROWS(s) ((s) <= 2)
#endif
#ifdef MUTANT_RANKS_COMPLETE_WORLD
#define COMPLETES(s) true
#else
#define COMPLETES(s) (!IS_WORLD(s))
#endif
/* epx_agent_sync: the others are told before host 0's leader may end. */
#ifdef MUTANT_NO_SYNC
#define IS_TOLD(s) true
#else
#define IS_TOLD(s) (!(r == 0 && IS_WORLD(s) && telling))
#endif
/* epx_agent_settle */
#ifdef MUTANT_NO_SETTLE
#define IS_SETTLED true
#else
#define IS_SETTLED (announced[H] && !(r == 0 && telling))
#endif

proctype Rank(byte r)
{
    byte step = FIRST + 1, at = 0, why = 0, offering = NOTHING;

    {
        if
        :: r == LEADER(H) && !begun[H] ->
            atomic { decider[H] = (H == 0 -> HERE : AGENT); begun[H] = true }
        :: else
        fi;

next:
        if
        :: atomic {
               step == 3 && MAY_DESERT && deserter == NOBODY ->
               deserter = r;
               left[r] = true;
               leaving[H] = (leaving[H] || r == LEADER(H));
               goto over
           }
        :: true
        fi;
#ifndef NO_WIRE
        if
        :: step > 2 && !IS_WORLD(step) -> wire_rows(step)
        :: else
        fi;
#ifdef WITH_RELAY
        if
        :: step > 2 && IS_WORLD(step) ->
            wire_sums(step);
            /* The sums are read, each from its own host. */
            assert(EACH_HOST(SUMS_ARE, step))
        :: else
        fi;
#endif
#endif
        /* Arrives; the last one completes a step of one host. */
        atomic {
            if
            :: word_failed[H] != 0 -> goto failed
            :: else
            fi;
            if
            :: IS_WORLD(step) ->
                world_step[H] = step;
                /* All rows have been read. */
                assert(NO_ROWS(step) || EACH_RANK(MIRROR_IS, step))
            :: else
            fi;
            arrivals[H]++;
            counted[r] = step;
            if
            :: COMPLETES(step) && arrivals[H] == COUNT(H) * step && PENDING(H, step) -> word_step[H] = step
            :: else
            fi
        };
        do
        :: atomic {
               word_step[H] >= step && IS_TOLD(step) ->
               report_success(step);
               /* What was sent here is read now. */
               assert(NO_ROWS(step) || EACH_RANK(MIRROR_IS, step));
               if
               :: step == LAST -> close(); goto over
               :: else -> step++; goto next
               fi
           }
        :: word_step[H] < step && word_failed[H] != 0 -> goto failed
        :: atomic { LOOKS && ANY_GONE -> at = step - 1; begin_offer(DEAD) };
           finish_offer()
        :: atomic { LOOKS && DESERTED(step) -> at = step - 1; begin_offer(LEFT) };
           finish_offer()
        :: atomic { LOOKS && MAY_EXPIRE(r) -> at = step - 1; begin_offer(TIMEOUT) };
           finish_offer()
        od;

failed:
        atomic {
            report_failure(step);
            if
            :: r != LEADER(H) -> close(); goto over
            :: else
            fi
        };
        /* The others are told the cause before the leader may end. */
        atomic { IS_SETTLED -> close() };

over:
        skip
    } unless {
        if
        :: dead[r]
        :: halted[r] -> goto stuck
        fi
    };
    goto gone;

stuck:
end_stuck:
    false;

gone:
    skip
}

#ifdef ABORTER
/* Another thread of a rank. It dies and stops with its process, and has ended before the rank closes. */
proctype Aborter(byte r)
{
    byte at = 0, why = 0, offering = NOTHING;

    {
        aborted = true;
        force(ABORTED)
    } unless {
        dead[r] || halted[r] || left[r]
    }
}
#endif

/* ---- Agents --------------------------------------------------------------------------------------------------------- */

inline send_up(h, kind, step, rank, cause, of_world)
{
    if
    :: near[h] && far[h] && !dead[0] && !lost[h] -> up[h]!kind, step, rank, cause, of_world
    :: else
    fi
}

inline send_down(h, kind, step, rank, cause)
{
    if
    :: far[h] && near[h] && !dead[LEADER(h)] && !lost[h] -> down[h]!kind, step, rank, cause, 0
    :: else
    fi
}

inline send_down_all(kind, step, rank, cause)
{
    atomic { send_down(1, kind, step, rank, cause) };
#if HOSTS == 3
    atomic { send_down(2, kind, step, rank, cause) }
#endif
}

inline drain(queue)
{
    do
    :: nempty(queue) -> queue?_, _, _, _, _
    :: empty(queue) -> break
    od
}

inline clear_proposal(h)
{
    if
    :: decider[h] == AGENT -> RECORD(h, proposal[h] - 1) = 0 /* nothing names it any more */
    :: else
    fi;
    proposal[h] = 0;
    proposal_step[h] = 0;
    sent_proposal[h] = 0;
    sent_proposal_step[h] = 0
}

/* fail_here of src/comm/agent.c: whatever the step. */
inline fail_here(h, rank, cause)
{
    if
    :: word_failed[h] == 0 ->
        if
        :: HOST(rank) != h -> RECORD(h, rank) = cause
        :: else
        fi;
        word_failed[h] = rank + 1
    :: else
    fi
}

#define FAR_SIDE_GONE(h) (lost[h] || !far[h] || dead[0])
#define NEAR_SIDE_GONE(h) (lost[h] || !near[h] || dead[LEADER(h)])
#ifdef MUTANT_LOSS_FIRST
#define IS_LOST(h, side, queue) side(h)
#else
#define IS_LOST(h, side, queue) (side(h) && (empty(queue) || lost[h]))
#endif
#define KNOWS(h) (deserter != NOBODY && ((HOST(deserter) == h && left[deserter]) || knows[h]))

/* Of another host than 0. */
proctype Agent(byte h)
{
    byte kind, step, rank, cause;
    bool had;
    bit of_world;
    bool status_sent;

    {
        begun[h];
        do
        /* hear */
        :: atomic {
               near[h] && nempty(down[h]) ->
               down[h]?kind, step, rank, cause, _;
               if
               :: kind == COMPLETE ->
                   /* Else it would give the link up. */
                   assert(step == world_step[h] && step <= sent_arrival[h]);
                   had = (proposal[h] != 0)
               :: kind == FAILED -> announced[h] = true; fail_here(h, rank, cause)
               :: kind == STATUS -> knows[h] = true
               :: kind == BYE ->
                   near[h] = false;
                   decider[h] = HERE;
                   drain(down[h]);
#ifdef MUTANT_BYE_IS_LOSS
                   assert(any_lost || dead[0]);
                   fail_here(h, 0, LOST)
#endif
               fi;
               kind = 0;
               rank = 0;
               cause = 0
           };
           if
           :: atomic {
                  step != 0 ->
                  if
                  :: PENDING(h, step) -> word_step[h] = step; told[h] = step
                  :: else -> had = false
                  fi;
                  step = 0
              };
              if
#ifndef MUTANT_KEEP_PROPOSAL
              :: atomic { had -> clear_proposal(h); had = false }
              :: !had
#else
              :: had = false
#endif
              fi
           :: step == 0
           fi

        /* on_loss */
        :: atomic { near[h] && IS_LOST(h, FAR_SIDE_GONE, down[h]) -> near[h] = false; drain(down[h]) };
           decider[h] = HERE;
           atomic { fail_here(h, 0, LOST) }

        /* report */
        :: atomic {
               near[h] && word_failed[h] != 0 && !announced[h] ->
               announced[h] = true;
               send_up(h, PROPOSE, word_step[h], word_failed[h] - 1, RECORD(h, word_failed[h] - 1), 0)
           }
        :: atomic { !near[h] && word_failed[h] != 0 && !announced[h] -> announced[h] = true }
        :: atomic {
               near[h] && word_failed[h] == 0 && world_step[h] == word_step[h] + 1 && ALL_HERE(h, world_step[h]) &&
                   sent_arrival[h] < world_step[h] ->
               sent_arrival[h] = world_step[h];
               send_up(h, ARRIVED, world_step[h], 0, 0, 0)
           }
        :: atomic {
               near[h] && word_failed[h] == 0 && proposal[h] != 0 &&
                   (proposal[h] != sent_proposal[h] || proposal_step[h] != sent_proposal_step[h]) ->
               if
#ifndef MUTANT_STALE_PROPOSAL
               :: proposal_step[h] < word_step[h] ->
                   clear_proposal(h);
                   goto again
#endif
               /* The word was read before: then a step of this host may have been completed since. */
#ifndef MUTANT_STALE_PROPOSAL
               :: proposal_step[h] >= word_step[h] ||
                   (IS_WORLD(proposal_step[h]) && word_step[h] == proposal_step[h] + 1 &&
                    sent_arrival[h] <= proposal_step[h])
#else
               :: true
#endif
               fi;
               sent_proposal[h] = proposal[h];
               sent_proposal_step[h] = proposal_step[h]
           };
           atomic {
               of_world = (world_step[h] == sent_proposal_step[h] + 1);
               send_up(h, PROPOSE, sent_proposal_step[h], sent_proposal[h] - 1, RECORD(h, sent_proposal[h] - 1),
                       of_world);
               of_world = 0
           };
again:
           skip

        /* beat */
        :: atomic {
               near[h] && KNOWS(h) && !status_sent -> status_sent = true; send_up(h, STATUS, 0, 0, 0, 0)
           }

        /* take_leave */
        :: atomic {
               leaving[h] ->
#ifndef MUTANT_NO_LAST_STATUS
               if
               :: KNOWS(h) && !status_sent -> send_up(h, STATUS, 0, 0, 0, 0)
               :: else
               fi;
#endif
               send_up(h, BYE, 0, 0, 0, 0);
               near[h] = false;
               drain(down[h])
           };
           break
        od
    } unless {
        dead[LEADER(h)] || halted[LEADER(h)]
    }
}

#ifdef MUTANT_ARRIVALS_OF_OTHERS
#define HAS_ARRIVED(h, s) true
#else
#define HAS_ARRIVED(h, s) (from[h] >= (s))
#endif

inline announce()
{
    atomic { announced[0] = true; telling = true };
    send_down_all(FAILED, word_step[0], word_failed[0] - 1, RECORD(0, word_failed[0] - 1));
    telling = false
}

/* Host 0: one message of host h. */
inline hear_at_0(h)
{
    up[h]?kind, step, rank, cause, of_world;
    if
    :: kind == ARRIVED -> assert(step > from[h]); from[h] = step
    :: kind == PROPOSE ->
        if
#ifndef MUTANT_NO_VOID
        :: of_world == 1 && word_step[0] > step -> skip
        :: else ->
#else
        :: true ->
#endif
            /* What was proposed for a step of the world that is complete is never applied to a later one. */
            assert(word_failed[0] != 0 || early[h] || lost[h] || word_step[0] < WORLD_OF(step + 1));
            assert(HOST(rank) == h);
            check_reason(cause);
            fail_here(0, rank, cause)
        fi
    :: kind == STATUS -> knows[0] = true
    :: kind == BYE ->
        far[h] = false;
        drain(up[h]);
#ifdef MUTANT_BYE_IS_LOSS
        assert(any_lost || dead[LEADER(h)]);
        fail_here(0, LEADER(h), LOST)
#endif
    fi;
    kind = 0;
    step = 0;
    rank = 0;
    cause = 0;
    of_world = 0
}

/* Host 0: a link is gone without a farewell. A process that ends when it is through harms nobody. */
inline lose_at_0(h)
{
    far[h] = false;
    drain(up[h]);
    assert(lost[h] || dead[LEADER(h)]);
    fail_here(0, LEADER(h), LOST)
}

proctype Agent0()
{
    byte kind, step, rank, cause;
    bit of_world;
    bool status_sent;

    {
        begun[0];
        do
        :: atomic { far[1] && nempty(up[1]) -> hear_at_0(1) }
        :: atomic { far[1] && IS_LOST(1, NEAR_SIDE_GONE, up[1]) -> lose_at_0(1) }
#if HOSTS == 3
        :: atomic { far[2] && nempty(up[2]) -> hear_at_0(2) }
        :: atomic { far[2] && IS_LOST(2, NEAR_SIDE_GONE, up[2]) -> lose_at_0(2) }
#endif

        /* decide */
        :: word_failed[0] != 0 && !announced[0] -> announce()
#ifdef MUTANT_COMPLETE_BEFORE_SWAP
        :: atomic {
               PENDING(0, world_step[0]) && ALL_HERE(0, world_step[0]) && EACH_OTHER(HAS_ARRIVED, world_step[0]) ->
               telling = true;
               step = world_step[0]
           };
           send_down_all(COMPLETE, step, 0, 0);
           atomic {
               if
               :: PENDING(0, step) -> word_step[0] = step
               :: else
               fi
           };
#else
        :: atomic {
               PENDING(0, world_step[0]) && ALL_HERE(0, world_step[0]) && EACH_OTHER(HAS_ARRIVED, world_step[0]) ->
               word_step[0] = world_step[0];
               telling = true;
               step = world_step[0]
           };
           send_down_all(COMPLETE, step, 0, 0);
#endif
           atomic { telling = false; step = 0 }

        /* beat */
        :: atomic { KNOWS(0) && !status_sent -> status_sent = true }; send_down_all(STATUS, 0, 0, 0)

        /* take_leave */
        :: leaving[0] ->
            if
            :: word_failed[0] != 0 && !announced[0] -> announce()
            :: else
            fi;
            atomic {
#ifndef MUTANT_NO_LAST_STATUS
                if
                :: KNOWS(0) && !status_sent -> send_down_all(STATUS, 0, 0, 0)
                :: else
                fi;
#endif
                send_down_all(BYE, 0, 0, 0);
                far[1] = false;
                drain(up[1]);
#if HOSTS == 3
                far[2] = false;
                drain(up[2])
#endif
            };
            break
        od
    } unless {
        dead[0] || halted[0]
    }
}

/* ---- Misfortune ------------------------------------------------------------------------------------------------------- */

#if CRASHES > 0 || STOPS > 0 || CUTS > 0
inline lose(h)
{
    if
    :: !lost[h] ->
        lost[h] = true;
        any_lost = true;
        if
        :: sent_arrival[h] > told[h] -> moment[h] = sent_arrival[h]
        :: else
        fi
    :: else
    fi
}

inline lose_links_of(r)
{
    if
    :: r == 0 ->
        lose(1);
#if HOSTS == 3
        lose(2)
#endif
    :: r != 0 && r == LEADER(HOST(r)) -> lose(HOST(r))
    :: else
    fi
}

#define LIVES(r) (!dead[r] && !halted[r] && !left[r])

inline crash(r)
{
    crashes--;
    crashed = true;
    dead[r] = true;
    lose_links_of(r)
}

inline stop(r)
{
    stops--;
    halted[r] = true;
    lose_links_of(r)
}

/* What may happen need not happen: what then holds the ranks up is found by the search without it. */
proctype Misfortune()
{
    byte crashes = CRASHES, stops = STOPS, cuts = CUTS;

end:
    do
    :: atomic { crashes > 0 && LIVES(0) -> crash(0) }
    :: atomic { crashes > 0 && LIVES(1) -> crash(1) }
    :: atomic { crashes > 0 && LIVES(2) -> crash(2) }
    :: atomic { stops > 0 && LIVES(0) -> stop(0) }
    :: atomic { stops > 0 && LIVES(1) -> stop(1) }
    :: atomic { stops > 0 && LIVES(2) -> stop(2) }
    :: atomic { cuts > 0 && !lost[1] -> cuts--; lose(1) }
#if HOSTS == 3
    :: atomic { cuts > 0 && !lost[2] -> cuts--; lose(2) }
#endif
    od
}
#endif

init {
    atomic {
        byte i = 0;
        if
#ifndef ALL_LEAVE
        :: exits = true
#endif
        :: exits = false
        fi;
        do
        :: i < HOSTS ->
            near[i] = true;
            far[i] = true;
            word_step[i] = FIRST;
            arrivals[i] = FIRST * COUNT(i);
            world_step[i] = FIRST & ~1;
            sent_arrival[i] = FIRST & ~1;
            from[i] = FIRST & ~1;
            told[i] = FIRST & ~1;
            begun[i] = FIRST == 2;
            decider[i] = (FIRST == 2 && i != 0 -> AGENT : HERE);
            worst[i] = NEVER;
            i++
        :: else -> break
        od;
        i = 0;
        run Agent0();
        run Agent(1);
#if HOSTS == 3
        run Agent(2);
#endif
        run Rank(0);
        run Rank(1);
        run Rank(2);
#ifdef ABORTER
        run Aborter(ABORTER);
#endif
#if CRASHES > 0 || STOPS > 0 || CUTS > 0
        run Misfortune()
#endif
    }
}
