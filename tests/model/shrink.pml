/*
 * Going on after a loss (docs/protocol.md): RANKS ranks of a failed communicator decide in generations who goes on, and
 * meet. What may go wrong, each at any moment: CRASHES ranks crash; a rank is waited for no longer, though it lives (its
 * deadline passes) and comes, or goes on, later: any rank may rest for as long as the others like; with MAY_MEET_IN_VAIN a
 * meeting's deadline passes, once. A rank whose meeting has failed for a cause takes part in the next generation.
 *
 * One statement is one access to shared memory, or several that other ranks cannot tell apart. The meeting itself is
 * the start of a world, whose verdict is one word: complete when all members have come, or given up.
 */
#define RANKS 3
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MAY_MEET_IN_VAIN
#define MAY_MEET_IN_VAIN false
#endif
#ifndef GENERATIONS
#define GENERATIONS 4
#endif

#define MEMBER 0
#define LOST 1
#define HALF 2 /* of a list that is being written */

#define PENDING 0
#define COMPLETED 1
#define GIVEN_UP 2

/* Shared memory: the word in its two halves, what ranks wish, and two lists a rank. */
byte word_generation, word_decider;
byte wish[RANKS];
#ifdef MUTANT_ONE_LIST
#define AT(rank, generation, other) ((rank) * RANKS + (other))
#else
#define AT(rank, generation, other) (((rank) * 2 + ((generation) & 1)) * RANKS + (other))
#endif
byte list[2 * RANKS * RANKS];

/* The meeting of each generation. */
bool come[(GENERATIONS + 1) * RANKS];
byte verdict[GENERATIONS + 1];
#define COME(generation, rank) come[(generation) * RANKS + (rank)]

bool dead[RANKS];
byte crashes = CRASHES;
bool may_expire = true; /* a wait for those that are silent */
bool may_meet_in_vain = MAY_MEET_IN_VAIN;

/* What ranks have reported: the generation in which all succeed, and its members. */
byte succeeded;
byte success_list[RANKS];

inline misfortune()
{
    if
    :: atomic { crashes > 0 -> crashes--; dead[r] = true; goto over }
    :: true
    fi
}

#define MET(rank) (own[rank] != MEMBER || COME(g, rank))
/* A member that will not come. */
#define GONE(rank) (own[rank] == MEMBER && rank != r && (dead[rank] || wish[rank] > g))
#define HOPELESS (GONE(0) || GONE(1) || GONE(2))

/* Fills own[] with how a rank stands. */
inline look_at(rank)
{
    atomic {
        if
        :: base[rank] != MEMBER -> own[rank] = LOST
        :: base[rank] == MEMBER && rank == r -> own[rank] = MEMBER
        :: base[rank] == MEMBER && rank != r && dead[rank] -> own[rank] = LOST
        :: base[rank] == MEMBER && rank != r && !dead[rank] && wish[rank] >= g -> own[rank] = MEMBER
        :: else -> own[rank] = LOST; silent = true
        fi
    }
}

/* While it is being written no part of a list is to be believed. */
inline write_list()
{
    d_step { list[AT(r, g, 0)] = HALF; list[AT(r, g, 1)] = HALF; list[AT(r, g, 2)] = HALF };
    misfortune();
    d_step { list[AT(r, g, 0)] = own[0]; list[AT(r, g, 1)] = own[1]; list[AT(r, g, 2)] = own[2] }
}

/* Takes over the list that the word names, into own[]. `out`: the word has moved on meanwhile. */
inline read_list()
{
    atomic { decider = word_decider; out = (word_generation != g) };
    d_step { own[0] = list[AT(decider, g, 0)]; own[1] = list[AT(decider, g, 1)]; own[2] = list[AT(decider, g, 2)] };
    d_step {
        decider = 0;
        out = out || word_generation != g;
        /* What is believed is whole. */
        assert(out || (own[0] != HALF && own[1] != HALF && own[2] != HALF))
    }
}

inline report_success()
{
    d_step {
        assert(succeeded == 0 || succeeded == g);
        assert(own[r] == MEMBER);
        assert(succeeded == 0 ||
               (success_list[0] == own[0] && success_list[1] == own[1] && success_list[2] == own[2]));
        success_list[0] = own[0];
        success_list[1] = own[1];
        success_list[2] = own[2];
        succeeded = g
    }
}

proctype Rank(byte r)
{
    byte g = 0; /* the generation in which this rank takes part */
    byte base[RANKS];
    byte own[RANKS];
    byte decider;
    bool silent, out, lost;

again:
    if
    :: atomic { word_generation != g -> goto over } /* the others go on without this rank */
    :: else
    fi;
    if
    :: g > 0 ->
        read_list();
        if
        :: out -> goto over
        :: else
        fi;
        d_step { base[0] = own[0]; base[1] = own[1]; base[2] = own[2] }
    :: else
    fi;
    g++;
    assert(g <= GENERATIONS);
    misfortune();
    wish[r] = g;
    misfortune();

    do
    :: word_generation != g - 1 -> break
    :: word_generation == g - 1 ->
        silent = false;
        look_at(0);
        look_at(1);
        look_at(2);
        if
        :: !silent -> skip
        :: atomic { silent && may_expire -> may_expire = false }
        :: silent ->
            /* Sleeps until there is something new. */
            (word_generation != g - 1 ||
                ((base[0] != MEMBER || r == 0 || dead[0] || wish[0] >= g) &&
                 (base[1] != MEMBER || r == 1 || dead[1] || wish[1] >= g) &&
                 (base[2] != MEMBER || r == 2 || dead[2] || wish[2] >= g)) || may_expire);
            goto next
        fi;
#ifndef MUTANT_LIST_AFTER_WORD
        write_list();
#endif
        misfortune();
        atomic {
            if
#ifdef MUTANT_NO_CAS
            :: true -> word_generation = g; word_decider = r
#else
            :: word_generation == g - 1 -> word_generation = g; word_decider = r
#endif
            :: else
            fi
        };
#ifdef MUTANT_LIST_AFTER_WORD
        write_list();
#endif
next:   skip
    od;

    read_list();
    if
    :: out || own[r] != MEMBER -> goto over
    :: else
    fi;
    misfortune();

    /* The meeting. */
    COME(g, r) = true;
    misfortune();
    lost = false;
    do
    :: verdict[g] == COMPLETED -> break
    :: atomic { verdict[g] == PENDING && MET(0) && MET(1) && MET(2) -> verdict[g] = COMPLETED }
    :: atomic { verdict[g] != COMPLETED && HOPELESS -> lost = true; break }
    :: atomic { verdict[g] != COMPLETED && may_meet_in_vain -> may_meet_in_vain = false; lost = true; break }
    od;
#ifdef MUTANT_NO_VERDICT
    if
    :: lost -> goto again
    :: else
    fi;
#else
    if
    :: lost ->
        atomic {
            if
            :: verdict[g] == PENDING -> verdict[g] = GIVEN_UP
            :: else
            fi
        };
        if
        :: verdict[g] == GIVEN_UP -> goto again
        :: else
        fi
    :: else
    fi;
#endif
    report_success();
over:
    skip
}

init {
    atomic {
        run Rank(0);
        run Rank(1);
        run Rank(2)
    }
}
