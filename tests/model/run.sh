#!/bin/sh
# Checks the models of the protocol: every search must be exhaustive and find nothing, every mutant must be caught.
# EPX_MODEL=long searches more of the model of several hosts, with up to 14 GB. EPX_MODEL=NAME: NAME.pml alone.
# Exit status: 0 good, 1 not good, 77 no spin or no C compiler. Needs 1.5 GB of memory and up to two minutes.
set -u

here=$(cd "$(dirname "$0")" && pwd)
compiler=${CC:-cc}
wanted=${EPX_MODEL:-}
memory_mb=3500
[ "$wanted" = long ] && memory_mb=14000
depth=100000

for tool in spin "$compiler"; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "SKIPPED: $tool is not installed"
        exit 77
    fi
done

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0

# search MODEL [-DOPTION]...: leaves the checker's words in $work/log
search() {
    model=$1
    shift
    # Many states of many bytes: half as fast, but a fifth of the memory.
    store=
    [ "$model" = hosts.pml ] && store=-DCOLLAPSE
    (
        cd "$work" || exit 1
        rm -f pan* ./*.trail log
        cp "$here/$model" model.pml &&
            spin "$@" -a model.pml >log 2>&1 &&
            "$compiler" $optimise -w -DSAFETY $store -DMEMLIM=$memory_mb -o pan pan.c >>log 2>&1 &&
            ./pan -m$depth >>log 2>&1
    )
}

report() {
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/log" | head -n 1)
    printf '%-8s %-9s %s (%s states)\n' "$1" "$2" "$3" "${states:-no}"
}

# skipped MODEL: whether another model is wanted
skipped() {
    case $wanted in
    "" | long | "${1%.pml}") return 1 ;;
    *) return 0 ;;
    esac
}

# good MODEL [-DOPTION]...: no error, and nothing left out for lack of depth or memory
good() {
    skipped "$1" && return
    optimise=-O2
    search "$@"
    if grep -q 'errors: 0' "$work/log" && ! grep -qi 'search not completed\|too small\|out of memory\|reached -DMEMLIM' "$work/log"; then
        report good "$1" "$(shift && echo "$*")"
    else
        report WRONG "$1" "$(shift && echo "$*")"
        sed 's/^/    /' "$work/log"
        failures=$((failures + 1))
    fi
}

# mutant MODEL [-DOPTION]...: an assertion or a deadlock is found
mutant() {
    skipped "$1" && return
    optimise=-O1 # found before more would pay
    search "$@"
    if grep -q '^pan:1: \(assertion violated\|invalid end state\)' "$work/log" && grep -q 'errors: 1' "$work/log"; then
        report caught "$1" "$(shift && echo "$*")"
    else
        report MISSED "$1" "$(shift && echo "$*")"
        sed 's/^/    /' "$work/log"
        failures=$((failures + 1))
    fi
}

good round.pml
good round.pml -DWITH_DEADLINES
good round.pml -DMAY_CRASH=true -DMAY_DESERT=true
good round.pml -DMAY_CRASH=true -DWITH_DEADLINES
good round.pml -DMAY_STICK=true -DWITH_DEADLINES
good round.pml -DMAY_DESERT=true -DWITH_DEADLINES
good round.pml -DWITH_ABORT
good round.pml -DWITH_ABORT -DMAY_CRASH=true -DRANKS=2 -DWITH_DEADLINES
good round.pml -DMAY_CRASH=true -DMAY_STICK=true -DMAY_DESERT=true -DRANKS=2 -DWITH_DEADLINES
good round.pml -DMAY_CRASH=true -DSTEPS=1 -DROUNDS=4

mutant round.pml -DMUTANT_NO_HELP -DMAY_STICK=true -DWITH_DEADLINES
mutant round.pml -DMUTANT_EARLY
mutant round.pml -DMUTANT_NO_DEATH -DMAY_CRASH=true
mutant round.pml -DMUTANT_LIFE_FIRST -DMAY_DESERT=true
mutant round.pml -DMUTANT_ARRIVED_FIRST -DMAY_STICK=true -DWITH_DEADLINES
mutant round.pml -DMUTANT_NO_LOCK -DWITH_ABORT -DWITH_DEADLINES
mutant round.pml -DMUTANT_FAIL_WITHOUT_CAS -DWITH_DEADLINES
mutant round.pml -DMUTANT_FAILURE_FIRST -DWITH_ABORT
mutant round.pml -DMUTANT_RECORD_AFTER_WORD -DMAY_CRASH=true
mutant round.pml -DMUTANT_FAIL_AT_ANY_STEP
mutant round.pml -DMUTANT_ONE_ENTRY -DSTEPS=1 -DROUNDS=4

good wake.pml
mutant wake.pml -DMUTANT_COUNT_FIRST

good shrink.pml
good shrink.pml -DCRASHES=0 -DMAY_MEET_IN_VAIN=true
mutant shrink.pml -DMUTANT_LIST_AFTER_WORD
mutant shrink.pml -DMUTANT_ONE_LIST -DMAY_MEET_IN_VAIN=true
mutant shrink.pml -DMUTANT_NO_CAS
mutant shrink.pml -DMUTANT_NO_VERDICT

# Several hosts. With FIRST=2 the world has been created; with NO_WIRE agents are alone with the steps.
good hosts.pml -DWITH_RELAY
good hosts.pml -DWITH_RELAY -DLAYOUT=12
good hosts.pml -DWITH_RELAY -DLAYOUT=111 -DFIRST=2 -DALL_LEAVE
good hosts.pml -DCUTS=1 -DNO_WIRE -DFIRST=2 -DALL_LEAVE
good hosts.pml -DCRASHES=1 -DNO_WIRE -DFIRST=2 -DLAYOUT=12 -DALL_LEAVE
good hosts.pml -DMAY_DESERT=true -DNO_WIRE -DFIRST=2 -DLAYOUT=12 -DALL_LEAVE
good hosts.pml -DABORTER=2 -DNO_WIRE -DFIRST=2 -DLAYOUT=12 -DALL_LEAVE
good hosts.pml -DWITH_DEADLINES -DNO_WIRE -DROUNDS=1 -DLAYOUT=12 -DALL_LEAVE

mutant hosts.pml -DMUTANT_NO_EXCEPTION -DCUTS=1 -DNO_WIRE -DFIRST=2 -DALL_LEAVE
mutant hosts.pml -DMUTANT_EARLY -DNO_WIRE
mutant hosts.pml -DMUTANT_RANKS_COMPLETE_WORLD -DNO_WIRE
mutant hosts.pml -DMUTANT_ARRIVALS_OF_OTHERS -DNO_WIRE
mutant hosts.pml -DMUTANT_COMPLETE_BEFORE_SWAP -DNO_WIRE -DFIRST=2 -DWITH_DEADLINES -DDEADLINE_OF=0 -DALL_LEAVE
mutant hosts.pml -DMUTANT_NO_PROPOSAL -DNO_WIRE -DFIRST=2 -DWITH_DEADLINES -DLAYOUT=12 -DALL_LEAVE
mutant hosts.pml -DMUTANT_NO_VOID -DNO_WIRE -DWITH_DEADLINES -DDEADLINE_OF=2 -DALL_LEAVE
mutant hosts.pml -DMUTANT_MEET_AT_ONCE -DNO_WIRE -DROUNDS=1 -DWITH_DEADLINES -DLAYOUT=12 -DALL_LEAVE
mutant hosts.pml -DMUTANT_KEEP_PROPOSAL -DNO_WIRE -DWITH_DEADLINES -DDEADLINE_OF=1 -DCRASHES=1 -DLAYOUT=12 -DALL_LEAVE
mutant hosts.pml -DMUTANT_REWRITE_PROPOSED -DNO_WIRE -DFIRST=2 -DWITH_DEADLINES -DCUTS=1 -DDEADLINE_OF=2 -DALL_LEAVE
mutant hosts.pml -DMUTANT_NO_SYNC -DNO_WIRE -DFIRST=2
mutant hosts.pml -DMUTANT_NO_SETTLE -DNO_WIRE -DFIRST=2 -DWITH_DEADLINES -DDEADLINE_OF=0
mutant hosts.pml -DMUTANT_LOSS_FIRST -DNO_WIRE -DFIRST=2
mutant hosts.pml -DMUTANT_BYE_IS_LOSS -DNO_WIRE -DFIRST=2 -DALL_LEAVE
mutant hosts.pml -DMUTANT_NO_LAST_STATUS -DNO_WIRE -DFIRST=2 -DMAY_DESERT=true -DALL_LEAVE
mutant hosts.pml -DMUTANT_AGENT_FOR_EVER -DNO_WIRE -DFIRST=2 -DCRASHES=1 -DLAYOUT=12 -DALL_LEAVE
mutant hosts.pml -DMUTANT_ENTER_WITHOUT_ROWS -DFIRST=2
mutant hosts.pml -DMUTANT_SUMS_HALF -DFIRST=2 -DWITH_RELAY

if [ "$wanted" = long ]; then
    for layout in 21 12 111; do
        good hosts.pml -DLAYOUT=$layout -DWITH_RELAY -DCRASHES=1 -DFIRST=2
        good hosts.pml -DLAYOUT=$layout -DCRASHES=1 -DNO_WIRE
        good hosts.pml -DLAYOUT=$layout -DCUTS=1 -DNO_WIRE
        good hosts.pml -DLAYOUT=$layout -DMAY_DESERT=true -DNO_WIRE -DFIRST=2 -DALL_LEAVE
        good hosts.pml -DLAYOUT=$layout -DABORTER=2 -DNO_WIRE
        good hosts.pml -DLAYOUT=$layout -DWITH_DEADLINES -DNO_WIRE -DALL_LEAVE
        good hosts.pml -DLAYOUT=$layout -DSTOPS=1 -DWITH_DEADLINES -DNO_WIRE -DFIRST=2 -DALL_LEAVE
        good hosts.pml -DLAYOUT=$layout -DCUTS=1 -DWITH_DEADLINES -DDEADLINE_OF=2 -DNO_WIRE -DFIRST=2 -DALL_LEAVE
    done
    mutant hosts.pml -DMUTANT_STALE_PROPOSAL -DNO_WIRE -DWITH_DEADLINES -DLAYOUT=12 -DALL_LEAVE
fi

[ "$failures" -eq 0 ]
