/*
 * Sleeping on the word without slices: no sleeper is left behind (docs/protocol.md). SLEEPERS ranks wait for a word that
 * two others try to change, once to complete the step and once to fail it. The checker's memory is sequentially
 * consistent, as the four accesses are that matter here: raise the count, read the word; change the word, read the count.
 */
#define SLEEPERS 3

#define INCOMPLETE 0
#define COMPLETE 1
#define FAILED 2

byte word = INCOMPLETE;
byte sleepers;
bool asleep[SLEEPERS];

proctype Sleeper(byte i)
{
    do
    :: word != INCOMPLETE -> break
    :: word == INCOMPLETE ->
        sleepers++;
        if
        :: word == INCOMPLETE ->
            /* The kernel compares the word and queues the sleeper in one piece. */
            atomic {
                if
                :: word == INCOMPLETE -> asleep[i] = true
                :: else
                fi
            };
            !asleep[i]
        :: else
        fi;
        sleepers--
    od
}

proctype Changer(byte value)
{
    byte count = 0;
    bool changed = false;

#ifdef MUTANT_COUNT_FIRST
    count = sleepers;
#endif
    atomic {
        if
        :: word == INCOMPLETE -> word = value; changed = true
        :: else
        fi
    };
#ifndef MUTANT_COUNT_FIRST
    count = sleepers;
#endif
    if
    :: changed && count > 0 ->
        d_step { asleep[0] = false; asleep[1] = false; asleep[2] = false }
    :: else
    fi
}

init {
    atomic {
        byte i = 0;
        do
        :: i < SLEEPERS -> run Sleeper(i); i++
        :: else -> break
        od;
        run Changer(COMPLETE);
        run Changer(FAILED)
    }
}
