/*
 * Rounds of a communicator: arrivals, the word, failures (docs/protocol.md). RANKS ranks run ROUNDS rounds of STEPS
 * steps. What may go wrong, each at any moment: one rank crashes; one is stopped for ever; one deserts after its first
 * round; deadlines pass; another thread of rank 0 aborts; ranks that are through leave, or end without a word. A rank
 * that is stopped and resumed needs no statement of its own: any process may rest for as long as the others like.
 *
 * One statement of the model is one access to shared memory, or several that other ranks cannot tell apart.
 * The MUTANT_ variants are broken on purpose: each must be caught, or the properties say nothing.
 */
#ifndef RANKS
#define RANKS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef STEPS
#define STEPS 2
#endif
#define LAST (ROUNDS * STEPS)

/* What may go wrong in this search, besides deadlines. */
#ifndef MAY_CRASH
#define MAY_CRASH false
#endif
#ifndef MAY_STICK
#define MAY_STICK false
#endif
#ifndef MAY_DESERT
#define MAY_DESERT false
#endif

#define NONE 0
#define HALF 1 /* of a record or an entry that is being written */
#define DEAD 2
#define LEFT 3
#define TIMEOUT 4
#define ABORTED 5

/* Shared memory. word_step and word_failed are the two halves of one word. */
byte word_step, word_failed;
byte arrivals;
byte arrived[RANKS];
bool left[RANKS];
byte record[RANKS];
#define ENTRIES 2
byte entry[RANKS * ENTRIES];
#ifdef MUTANT_ONE_ENTRY
#define ENTRY(rank, round) entry[(rank) * ENTRIES]
#else
#define ENTRY(rank, round) entry[(rank) * ENTRIES + ((round) & 1)]
#endif

/* What the kernel says of a rank's process. */
bool dead[RANKS];
bool halted[RANKS];

/* Private to a rank, shared by its threads: only rank 0 has two, in the searches with an abort. */
#if defined(WITH_ABORT) && !defined(MUTANT_NO_LOCK)
bool locked[RANKS];
#define UNLOCKED(rank) !locked[rank]
#define LOCK(rank) locked[rank] = true
#define UNLOCK(rank) locked[rank] = false
#else
#define UNLOCKED(rank) true
#define LOCK(rank) skip
#define UNLOCK(rank) skip
#endif

/* What may happen in this run. */
bool may_crash, may_stick, may_desert, may_expire;

/* What did happen, and what ranks have reported. */
bool crashed, deserted;
byte counted[RANKS]; /* arrivals of each */
byte best_success;      /* the latest step that any rank has reported as complete */
byte worst_failure = LAST + 1; /* the earliest step that any rank has reported as failed */

#define PENDING(s) (word_step == (s) - 1 && word_failed == 0)
#ifdef MUTANT_EARLY
#define ALL_ARRIVED(s) (arrivals >= RANKS * (s) - 1)
#else
#define ALL_ARRIVED(s) (arrivals >= RANKS * (s))
#endif
/* When a failure at step s + 1 may be swapped in. */
#ifdef MUTANT_FAIL_AT_ANY_STEP
#define UNSETTLED(s) (word_failed == 0)
#else
#define UNSETTLED(s) (word_step == (s) && word_failed == 0)
#endif
/* Two reads, of death first and then of the announcement: since both stay, it is as if they were one. */
#ifdef MUTANT_NO_DEATH
#define GONE(q) false
#else
#define GONE(q) (dead[q] && !left[q])
#endif
#define DESERTED(q, s) (left[q] && arrived[q] < (s))
#define LATE(q, s) (arrived[q] < (s))
#if RANKS == 2
#define ANY(what) (what(0) || what(1))
#define ANY2(what, s) (what(0, s) || what(1, s))
#define EACH_COUNTED(s) (counted[0] >= (s) && counted[1] >= (s))
#define EACH_ENTRY(n) (ENTRY(0, n) == HALF + (n) && ENTRY(1, n) == HALF + (n))
#else
#define ANY(what) (what(0) || what(1) || what(2))
#define ANY2(what, s) (what(0, s) || what(1, s) || what(2, s))
#define EACH_COUNTED(s) (counted[0] >= (s) && counted[1] >= (s) && counted[2] >= (s))
#define EACH_ENTRY(n) (ENTRY(0, n) == HALF + (n) && ENTRY(1, n) == HALF + (n) && ENTRY(2, n) == HALF + (n))
#endif

/* A rank may die here, or be stopped for ever. */
inline misfortune()
{
    if
    :: atomic { may_crash -> may_crash = false; crashed = true; dead[r] = true; goto over }
    :: atomic { may_stick -> may_stick = false; halted[r] = true; goto stuck }
    :: true
    fi
}

/* Compare-and-swap from (s-1, 0) to (s, 0). */
inline complete(s)
{
    atomic {
        if
        :: PENDING(s) -> word_step = s
        :: else
        fi
    }
}

/* Compare-and-swap from (s, 0) to (s, r + 1), after the record; under the rank's lock. */
inline offer(s, cause)
{
    if
    :: atomic {
           UNLOCKED(r) && UNSETTLED(s) ->
           LOCK(r);
           record[r] = HALF
       };
#ifndef MUTANT_RECORD_AFTER_WORD
       atomic { assert(word_failed != r + 1); record[r] = cause };
       misfortune();
#endif
       atomic {
           if
#ifdef MUTANT_FAIL_WITHOUT_CAS
           :: true ->
               word_step = s;
               word_failed = r + 1
#else
           :: UNSETTLED(s) ->
               word_failed = r + 1;
               /* A failure has a reason. Ranks that are through are none. */
               assert(cause != DEAD || crashed);
               assert(cause != LEFT || deserted)
#endif
           :: else
           fi;
           UNLOCK(r)
       };
#ifdef MUTANT_RECORD_AFTER_WORD
       record[r] = cause
#endif
    :: atomic { UNLOCKED(r) && !UNSETTLED(s) -> skip }
    fi
}

inline report_success(s)
{
    d_step {
        assert(EACH_COUNTED(s));
        if
        :: s > best_success -> best_success = s
        :: else
        fi;
        assert(best_success < worst_failure)
    }
}

inline report_failure(s)
{
    d_step {
        assert(word_failed != 0 && record[word_failed - 1] >= DEAD);
        if
        :: s < worst_failure -> worst_failure = s
        :: else
        fi;
        assert(best_success < worst_failure)
    }
}

/* Looks until the step is complete or the communicator has failed. Nothing in it waits for a single rank: it ends when
 * one of its reasons holds, and a run in which none ever does is a deadlock to the checker. */
inline wait(s)
{
    do
    :: !PENDING(s) -> break
#ifndef MUTANT_NO_HELP
    :: PENDING(s) && ALL_ARRIVED(s) -> complete(s)
    :: PENDING(s) && !ALL_ARRIVED(s) ->
#else
    :: PENDING(s) ->
#endif
        if
#ifdef MUTANT_NO_HELP
        :: !PENDING(s)
#else
        :: !PENDING(s) || ALL_ARRIVED(s)
#endif
        :: ANY(GONE) -> offer(s - 1, DEAD)
#ifdef MUTANT_LIFE_FIRST
        :: !left[0] ->
            if
            :: dead[0] -> offer(s - 1, DEAD)
            :: !dead[0]
            fi
#endif
        :: ANY2(DESERTED, s) -> offer(s - 1, LEFT)
        :: may_expire ->
            if
            /* While the count is short somebody is seen as late; else the next look completes the step. */
#ifdef MUTANT_NO_HELP
            :: true -> atomic { assert(ANY2(LATE, s)) }; offer(s - 1, TIMEOUT)
#else
            :: ANY2(LATE, s) -> offer(s - 1, TIMEOUT)
            :: else -> assert(ALL_ARRIVED(s))
#endif
            fi
        fi
    od
}

proctype Rank(byte r)
{
    byte step = 0, round = 0, count = 0;

    do
    :: round == ROUNDS -> break
    :: round == 1 && may_desert -> atomic { may_desert = false; deserted = true }; break
    :: round < ROUNDS ->
        round++;
        do
        :: step == round * STEPS -> break
        :: step < round * STEPS ->
            step++;
            misfortune();
            if
            :: word_failed != 0 -> goto failed
            :: else
            fi;
#if STEPS == 1
            ENTRY(r, round) = HALF;
            ENTRY(r, round) = HALF + round;
#endif
#ifdef MUTANT_ARRIVED_FIRST
            arrived[r] = step;
            misfortune();
#endif
            atomic { arrivals++; count = arrivals; counted[r] = step };
            misfortune();
            arrived[r] = step;
            misfortune();
            if
            :: count == RANKS * step -> complete(step)
            :: else
            fi;
            count = 0;
            wait(step);
            if
#ifdef MUTANT_FAILURE_FIRST
            :: word_failed != 0 -> goto failed
            :: else
#else
            :: word_step < step -> goto failed
            :: else
#endif
            fi;
            report_success(step);
#if STEPS == 1
            assert(EACH_ENTRY(round))
#endif
        od
    od;
    goto closing;

failed:
    report_failure(step);

closing:
    if
    :: left[r] = true;
        if
        :: true
        :: dead[r] = true
        fi
    :: !deserted || word_failed != 0 -> dead[r] = true /* ends its process without a word */
    fi;
    goto over;

stuck:
end_stuck:
    false;

over:
    skip
}

#ifdef WITH_ABORT
/* Another thread of rank 0. It dies and stops with its process. */
#define ALIVE(rank) (!dead[rank] && !halted[rank])
proctype Aborter(byte r)
{
    byte step;

    do
    :: !ALIVE(r) || word_failed != 0 -> break
    :: ALIVE(r) && word_failed == 0 ->
        atomic { step = word_step };
        if
        :: !ALIVE(r) -> break
        :: atomic {
               ALIVE(r) && UNLOCKED(r) && word_step == step && word_failed == 0 ->
               LOCK(r);
               record[r] = HALF
           };
           if
           :: !ALIVE(r) -> break
           :: else -> atomic { assert(word_failed != r + 1); record[r] = ABORTED }
           fi;
           atomic {
               if
               :: ALIVE(r) && word_step == step && word_failed == 0 -> word_failed = r + 1
               :: else
               fi;
               UNLOCK(r)
           }
        :: ALIVE(r) && UNLOCKED(r) && (word_step != step || word_failed != 0)
        fi
    od
}
#endif

init {
    /* What may happen need not happen. A rank that is stopped for ever needs deadlines, or it stops the others too. */
    may_crash = MAY_CRASH;
    may_stick = MAY_STICK;
    may_desert = MAY_DESERT;
#ifdef WITH_DEADLINES
    may_expire = true;
#endif
    atomic {
        byte i = 0;
        do
        :: i < RANKS -> run Rank(i); i++
        :: else -> break
        od;
#ifdef WITH_ABORT
        run Aborter(0)
#endif
    }
}
