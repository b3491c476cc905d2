#!/usr/bin/env bash
# epx run: what ranks are given, how a job ends whatever happens to it, and that nothing is left of it.
. "$(dirname "$0")/lib.sh"
epx=$EPX_BIN_DIR/epx
rank=$EPX_BIN_DIR/../tests/epx_env_rank
mark=7$$ # seconds that nobody else sleeps for: tells our processes from those of others

left() { pgrep -f "^sleep $mark\$" | tr '\n' ' '; }
expect_clean()
{
    for _ in $(seq 100); do
        [ -z "$(left)" ] && return
        sleep 0.1
    done
    wrong "$1: processes are left: $(left)"
    # shellcheck disable=SC2046
    kill -KILL $(left)
}
# wait_for SECONDS COMMAND…: until it is true
wait_for()
{
    local turns=$(($1 * 20))
    shift
    for _ in $(seq "$turns"); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}
lines_are() { [ "$(wc -l <"$1")" -ge "$2" ]; }
sleeping() { [ "$(left | wc -w)" -ge "$1" ]; }
# expect_out WHAT: what the program said, sorted, is standard input
expect_out() { sort "$work/out" | diff - /dev/stdin >"$work/diff" || wrong "$1: $(cat "$work/diff")"; }

# ---- The command line ----
refused()
{
    local words=$1 word
    shift
    run 10 "$epx" run "$@"
    expect_status 2 "epx run $*"
    [ ! -s "$work/out" ] || wrong "epx run $*: writes to standard output"
    while read -r word; do
        expect_text err "$word" "epx run $*"
    done < <(printf '%s\n' "$words" | tr '|' '\n')
}
refused "PROGRAM is missing"
refused "PROGRAM is missing" -n 2 --
refused "--ranks|'0'|[1, 4096]" -n 0 true
refused "--ranks|'4097'|[1, 4096]" --ranks=4097 true
refused "--ranks|'2x'|[1, 4096]" -n 2x true
refused "--env|'NAME'|NAME=VALUE" --env NAME true
refused "--env|'=x'|NAME=VALUE" --env =x true
refused "--env|'EPX_RANK=1'" --env EPX_RANK=1 true
refused "--bind|'socket'|none or core" --bind socket true
refused "--tag|'yes'|false or true" --tag=yes true
refused "--timeout|'-1'|[0, 1000000000]" --timeout=-1 true
refused "--linger|'nan'" --linger nan true
refused "--kill-after|''" --kill-after '' true
refused "nonsense" --nonsense true
run 10 "$epx" run --help
expect_status 0 "epx run --help"
for word in --ranks --env --bind --tag --timeout --linger --kill-after EPX_RANK EPX_JOB 'Exit status'; do
    expect_text out "$word" "epx run --help"
done

# ---- What a rank is given ----
run 20 "$epx" run -n 3 --env A=1 --env 'B=x y=z' --env A=2 sh -c 'echo "$EPX_RANK $EPX_WORLD_SIZE $A $B $*"' -n --tag 'c d'
expect_status 0 "environment and arguments"
expect_out "environment and arguments" <<'END'
0 3 2 x y=z --tag c d
1 3 2 x y=z --tag c d
2 3 2 x y=z --tag c d
END
run 20 "$epx" run -- sh -c 'echo "$EPX_WORLD_SIZE"'
[ "$(sort -u "$work/out")" = "$(nproc)" ] || wrong "ranks by default are not $(nproc)"
[ "$(wc -l <"$work/out")" = "$(nproc)" ] || wrong "not so many ranks as EPX_WORLD_SIZE says"
job='echo "$EPX_JOB"'
run 20 "$epx" run -n 3 sh -c "$job"
first=$(sort -u "$work/out")
run 20 "$epx" run -n 3 sh -c "$job"
second=$(sort -u "$work/out")
[ -n "$first" ] && [ -n "$second" ] && [ "$first" != "$second" ] && [ "$(printf '%s\n' "$first" | wc -l)" = 1 ] ||
    wrong "EPX_JOB is '$first', then '$second': not one new name a run"
EPX_JOB=mine run 20 "$epx" run -n 2 sh -c "$job"
[ "$(sort -u "$work/out")" = mine ] || wrong "the caller's EPX_JOB is not kept"
EPX_JOB=mine run 20 "$epx" run -n 2 --env EPX_JOB=other sh -c "$job"
[ "$(sort -u "$work/out")" = other ] || wrong "--env EPX_JOB is not kept"
run 20 "$epx" run -n 2 "$epx" run -n 1 sh -c "$job"
[ "$(sort -u "$work/out" | wc -l)" = 2 ] || wrong "jobs inside a job share a name"
echo input | timeout 20 "$epx" run -n 3 sh -c 'cat | sed "s/^/$EPX_RANK /"' >"$work/out" 2>"$work/err"
[ "$(cat "$work/out")" = "0 input" ] || wrong "standard input is not rank 0's alone"
run 20 "$epx" run -n 2 sh -c 'grep -E "^Sig(Blk|Ign)" /proc/self/status'
[ "$(sort -u "$work/out" | grep -c . )" = 2 ] || wrong "ranks have different signals"
[ "$(grep SigBlk "$work/out" | sort -u | tr -d '0 \t')" = SigBlk: ] || wrong "signals are blocked in ranks"
allowed='echo "$EPX_RANK $(grep Cpus_allowed_list /proc/self/status | cut -f2)"'
run 20 "$epx" run -n 1 --bind core sh -c "$allowed"
[ "$(cat "$work/out")" = "0 $(grep Cpus_allowed_list /proc/self/status | cut -f2)" ] || wrong "one rank is not bound to all"
run 20 "$epx" run --bind core sh -c "$allowed"
[ "$(cut -d' ' -f2 "$work/out" | sort -u | grep -cx '[0-9]*')" = "$(nproc)" ] || wrong "a rank a processor: not one for each"
run 20 "$epx" run -n $(($(nproc) * 2)) --bind core sh -c "$allowed"
[ "$(cut -d' ' -f2 "$work/out" | sort | uniq -c | grep -cE '^ *2 [0-9]+$')" = "$(nproc)" ] || wrong "two ranks a processor: not two"
run 20 "$epx" run -n 2 --bind none sh -c "$allowed"
[ "$(cut -d' ' -f2 "$work/out" | sort -u)" = "$(grep Cpus_allowed_list /proc/self/status | cut -f2)" ] || wrong "bound without --bind"

# ---- Lines ----
# Each rank writes lines of its own letter and of many lengths to both outputs, in pieces; the last has no end.
cat >"$work/lines.sh" <<'END'
letter=$(printf "\\$(printf %o $((97 + EPX_RANK)))")
for i in 1 2 3 4 5 6 7 8 9 10; do
    printf "%0$((i * i * 300 + EPX_RANK))d" 0 | tr 0 "$letter"
    echo "$letter" >&2
    printf '%s\n' "$letter$letter"
done
printf %s "$letter"
END
expect_lines()
{
    expect_status 0 "$1"
    for r in $(seq 0 15); do
        letter=$(printf "\\$(printf %o $((97 + r)))")
        for i in 1 2 3 4 5 6 7 8 9 10; do
            printf '[%d] %s%s%s\n' "$r" "$(printf "%0$((i * i * 300 + r))d" 0 | tr 0 "$letter")" "$letter" "$letter"
        done
        printf '[%d] %s\n' "$r" "$letter"
    done | sort >"$work/must"
    grep -v '^\[[0-9]*\] .$' "$work/out" | sort >"$work/long"
    grep -v '^\[[0-9]*\] .$' "$work/must" | cmp -s - "$work/long" || wrong "$1: long lines differ"
}
run 60 "$epx" run -n 16 --tag sh "$work/lines.sh"
expect_lines "--tag"
[ "$(grep -c '^\[[0-9]*\] .$' "$work/out")" = 16 ] || wrong "--tag: not one last line of each rank"
[ "$(grep -c '^\[[0-9]*\] .$' "$work/err")" = 160 ] && [ "$(wc -l <"$work/err")" = 160 ] || wrong "--tag: errors differ"
run 60 bash -c '"$0" run -n 16 --tag sh "$1" 2>&1 | { sleep 0.3; cat; }; exit "${PIPESTATUS[0]}"' "$epx" "$work/lines.sh"
expect_lines "--tag, both outputs into one pipe"
[ "$(grep -c '^\[[0-9]*\] .$' "$work/out")" = 176 ] || wrong "--tag, one pipe: short lines differ"
run 60 "$epx" run -n 2 --tag sh -c 'head -c 3000000 /dev/zero | tr "\0" z; echo; echo end'
[ "$(grep -E '^\[[01]\] z+$' "$work/out" | sed 's/^....//' | tr -d '\n' | wc -c)" = 6000000 ] || wrong "a very long line is not whole"
[ "$(grep -cE '^\[[01]\] end$' "$work/out")" = 2 ] || wrong "no line after a very long one"
run 20 "$epx" run -n 2 --tag=false echo plain
[ "$(sort -u "$work/out")" = plain ] || wrong "--tag=false: not as the rank wrote it"
run 20 bash -c '"$0" run -n 4 --tag sh -c "while :; do echo y; done" | head -n 3' "$epx"
expect_status 0 "--tag into a program that ends"
[ "$(wc -l <"$work/out")" = 3 ] || wrong "--tag into a program that ends: not 3 lines"
run 20 bash -c 'ulimit -n 100; exec "$0" run -n 100 --tag echo here' "$epx"
expect_status 1 "--tag without descriptors"
expect_text err "cannot start 100 ranks: Too many open files" "--tag without descriptors"
run 20 bash -c 'ulimit -Sn 100; exec "$0" run -n 100 --tag bash -c "ulimit -Sn"' "$epx"
expect_status 0 "--tag within the hard limit of descriptors"
[ "$(grep -c '^\[[0-9]*\] 100$' "$work/out")" = 100 ] || wrong "--tag: ranks do not have the caller's limit of descriptors"
if [ -w /dev/full ]; then
    status=0
    timeout 20 "$epx" run -n 1 --tag echo lost >/dev/full 2>"$work/err" </dev/null || status=$?
    expect_status 1 "--tag onto a full device"
fi

# ---- How it ends ----
run 20 "$epx" run -n 3 true
expect_status 0 "all ranks give 0"
[ ! -s "$work/err" ] || wrong "all ranks give 0: something is said"
# One that fails; the others would go on for ever, with a child each.
forever="sleep $mark & sleep $mark"
run 60 "$epx" run -n 4 --linger 0.2 sh -c "[ \$EPX_RANK = 2 ] && exit 7; $forever"
expect_status 7 "a rank ends with 7"
grep -qxE 'epx run: rank 2 \(pid [0-9]+\) ended with exit status 7' "$work/err" || wrong "a rank ends with 7: it is not named"
[ "$(wc -l <"$work/err")" = 1 ] || wrong "a rank ends with 7: more than one line"
expect_clean "a rank ends with 7"
run 60 "$epx" run -n 4 --linger 0.2 sh -c "[ \$EPX_RANK = 1 ] && kill -KILL \$\$; $forever"
expect_status 137 "a rank is killed"
grep -qxE 'epx run: rank 1 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" || wrong "a rank is killed: it is not named"
expect_clean "a rank is killed"
# The others ignore SIGTERM.
run 60 "$epx" run -n 3 --linger 0.1 --kill-after 0.3 sh -c "[ \$EPX_RANK = 0 ] && { sleep 0.5; exit 3; }; trap '' TERM; $forever"
expect_status 3 "ranks ignore SIGTERM"
expect_text err "SIGKILL to ranks 1-2" "ranks ignore SIGTERM"
expect_clean "ranks ignore SIGTERM"
# A rank that is stopped.
run 60 "$epx" run -n 2 --linger 0.1 --kill-after 100 sh -c "[ \$EPX_RANK = 0 ] && { sleep 0.5; exit 3; }; kill -STOP \$\$"
expect_status 3 "a rank is stopped"
# The first that fails decides, and what fails after it is said in one line.
run 60 "$epx" run -n 5 --linger 60 sh -c '[ $EPX_RANK = 3 ] && exit 4; sleep 0.5; exit 5'
expect_status 4 "all ranks fail"
expect_text err "after it failed: ranks 0-2,4" "all ranks fail"
[ "$(wc -l <"$work/err")" = 2 ] || wrong "all ranks fail: not two lines"
run 20 "$epx" run -n 20 "$work/nothing"
expect_status 127 "no such program"
[ "$(wc -l <"$work/err")" = 1 ] || wrong "no such program: not one line"
expect_text err "'$work/nothing'" "no such program"
: >"$work/plain"
run 20 "$epx" run -n 20 "$work/plain"
expect_status 126 "a file that is no program"
[ "$(wc -l <"$work/err")" = 1 ] || wrong "a file that is no program: not one line"
run 60 "$epx" run -n 3 --timeout 0.5 sh -c "$forever"
expect_status 124 "--timeout"
expect_text err "timeout: ranks 0-2" "--timeout"
expect_clean "--timeout"
# What ranks leave: it may end by itself, but not later than --linger, in whatever session it is.
run 60 "$epx" run -n 2 --linger 60 sh -c '{ sleep 0.5; echo "late $EPX_RANK"; } &'
expect_status 0 "children of ranks go on"
expect_out "children of ranks go on" <<'END'
late 0
late 1
END
run 60 "$epx" run -n 2 --linger 0.2 sh -c "setsid sleep $mark & setsid sh -c 'trap \"\" TERM; sleep $mark' &" --kill-after
expect_status 0 "children of ranks would stay"
expect_clean "children of ranks would stay"

# ---- Signals to it ----
# start RANKS COMMAND…: in the background, with ranks that have said that they are there
start()
{
    local ranks=$1
    shift
    : >"$work/out"
    "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    wait_for 20 lines_are "$work/out" "$ranks" || wrong "$*: ranks have not started"
}
gone() { ! kill -0 "$pid" 2>/dev/null; }
# collect WHAT: waits for it; its exit status in $status
collect()
{
    if ! wait_for 30 gone; then
        wrong "$1: epx run does not end"
        kill -KILL "$pid"
    fi
    status=0
    wait "$pid" 2>/dev/null || status=$?
    expect_clean "$1"
}
for pair in INT:130 TERM:143 HUP:129; do
    signal=${pair%:*}
    start 3 "$epx" run -n 3 bash -c "sleep $mark & echo here; sleep $mark; :"
    kill -s "$signal" "$pid"
    collect "SIG$signal"
    expect_status "${pair#*:}" "SIG$signal"
done
start 3 "$epx" run -n 3 bash -c 'trap "echo saved; exit 0" TERM; echo here; while :; do sleep 0.1; done'
kill -TERM "$pid"
collect "ranks that end well after SIGTERM"
expect_status 0 "ranks that end well after SIGTERM"
[ "$(grep -c saved "$work/out")" = 3 ] || wrong "ranks that end well after SIGTERM: not all have got it"
start 2 "$epx" run -n 2 --kill-after 1000 bash -c "trap '' INT; echo here; sleep $mark; :"
kill -INT "$pid"
sleep 0.3
kill -0 "$pid" 2>/dev/null || wrong "one SIGINT ends ranks that ignore it"
kill -INT "$pid"
collect "two SIGINT"
expect_status 137 "two SIGINT"
start 2 "$epx" run -n 2 bash -c 'trap "echo usr; exit 0" USR1; echo here; while :; do sleep 0.1; done'
kill -USR1 "$pid"
collect "SIGUSR1"
expect_status 0 "SIGUSR1"
[ "$(grep -c usr "$work/out")" = 2 ] || wrong "SIGUSR1 is not passed on"
# Stopped and continued as by a terminal.
state_is() { [ "$(sed 's/.*) //' "/proc/$2/stat" 2>/dev/null | cut -c1)" = "$1" ]; }
start 1 "$epx" run -n 1 bash -c 'trap "exit 0" USR1; echo $$; while :; do sleep 0.1; done'
inner=$(cat "$work/out")
kill -TSTP "$pid"
wait_for 20 state_is T "$pid" || wrong "SIGTSTP does not stop epx run"
wait_for 20 state_is T "$inner" || wrong "SIGTSTP does not stop a rank"
kill -CONT "$pid"
kill -USR1 "$pid"
collect "SIGTSTP and SIGCONT"
expect_status 0 "SIGTSTP and SIGCONT"
# Killed: its ranks and their children go too.
start 3 "$epx" run -n 3 bash -c "sleep $mark & echo here; sleep $mark; :"
wait_for 20 sleeping 6 || wrong "killed: not six processes"
kill -KILL "$pid"
collect "killed"
start 3 "$epx" run -n 3 --tag bash -c "sleep $mark & echo here; sleep $mark; :"
kill -KILL "$pid"
collect "killed, with --tag"
# In the middle of its start.
for delay in 0 0.005 0.02 0.05; do
    "$epx" run -n 64 sleep "$mark" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    sleep "$delay"
    kill -KILL "$pid"
    collect "killed $delay s after its start"
done

# ---- A terminal ----
if command -v script >/dev/null; then
    printf 'typed\n' | timeout 20 script -qec "$epx run -n 2 sh -c 'read line; echo \"<\$EPX_RANK \$line>\"'" /dev/null >"$work/out" 2>"$work/err"
    expect_text out "<0 typed>" "input from a terminal"
    expect_text out "<1 >" "input from a terminal"
else
    echo "SKIPPED input from a terminal: no script here"
fi

# ---- Ranks of epx ----
run 60 "$epx" run -n 4 "$EPX_BIN_DIR/epx-hello"
expect_status 0 "epx-hello"
"$EPX_BIN_DIR/epx-hello" | sort >"$work/threads"
[ "$(wc -l <"$work/threads")" = 8 ] || wrong "epx-hello alone: not 8 lines"
expect_out "epx-hello" <"$work/threads"
run 60 "$epx" run -n 3 --linger 20 "$EPX_BIN_DIR/epx-hello"
expect_status 1 "epx-hello with 3 ranks"
run 120 "$epx" run -n 64 "$rank"
expect_status 0 "64 ranks"
[ "$(grep -cE '^rank [0-9]+ of 64: 0 wrong elements$' "$work/out")" = 64 ] || wrong "64 ranks: not all are right"
run 60 "$epx" run -n 6 --tag --linger 30 "$rank" 4
expect_status 137 "a rank of epx is killed"
[ "$(grep -cE '^\[[01235]\] rank 4 \(pid [0-9]+\) died ' "$work/err")" = 5 ] || wrong "a rank of epx is killed: not all others say so"
grep -qE '^epx run: rank 4 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" || wrong "a rank of epx is killed: it is not named"

finish
