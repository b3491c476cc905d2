#!/bin/sh
# Checks the models of the protocol: every search must be exhaustive and find nothing, every mutant must be caught.
# Exit status: 0 good, 1 not good, 77 no spin or no C compiler. Needs 1 GB of memory and up to a minute.
set -u

here=$(cd "$(dirname "$0")" && pwd)
compiler=${CC:-cc}
memory_mb=3500
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
    (
        cd "$work" || exit 1
        rm -f pan* ./*.trail log
        cp "$here/$model" model.pml &&
            spin "$@" -a model.pml >log 2>&1 &&
            "$compiler" -O2 -w -DSAFETY -DMEMLIM=$memory_mb -o pan pan.c >>log 2>&1 &&
            ./pan -m$depth >>log 2>&1
    )
}

report() {
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/log" | head -n 1)
    printf '%-8s %-9s %s (%s states)\n' "$1" "$2" "$3" "${states:-no}"
}

# good MODEL [-DOPTION]...: no error, and nothing left out for lack of depth or memory
good() {
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

[ "$failures" -eq 0 ]
