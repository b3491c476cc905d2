#!/usr/bin/env bash
# epx run --hosts: ranks that remote shells start, what they are given, how such a job ends, and that nothing is left of it.
# The remote shells are made up: they run the command on this machine under the host's name.
. "$(dirname "$0")/lib.sh"
epx=$EPX_BIN_DIR/epx
rank=$EPX_BIN_DIR/../tests/epx_env_rank
mark=8$$ # seconds that nobody else sleeps for: tells our processes from those of others

left() { pgrep -f "^sleep $mark\$" | tr '\n' ' '; }
parts() { pgrep -f "^$epx run --part .*$mark" | tr '\n' ' '; }
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
nothing_left() { [ -z "$(left)$(parts)" ]; }
expect_clean()
{
    wait_for 20 nothing_left && return
    wrong "$1: processes are left: ranks $(left), parts $(parts)"
    # shellcheck disable=SC2046
    kill -KILL $(left) $(parts)
}
sleeping() { [ "$(left | wc -w)" -ge "$1" ]; }
# expect_out WHAT: what the program said, sorted, is standard input
expect_out() { sort "$work/out" | diff - /dev/stdin >"$work/diff" || wrong "$1: $(cat "$work/diff")"; }

# As ssh: another directory, a small environment, one command for a shell.
cat >"$work/rsh" <<'EOF'
#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
[ $# = 2 ] || { echo "$# words" >&2; exit 255; }
[ "$1" != unknown ] || { echo "rsh: no host $1" >&2; exit 255; }
cd / && exec env -i PATH="$PATH" HOME=/ EPX_HOST_ID="$1" sh -c "$2"
EOF
# The same, but the command is out of reach for signals, and learns by its input alone that nobody is there any more.
cat >"$work/far" <<'EOF'
#!/bin/bash
cd / && cat | env -i PATH="$PATH" HOME=/ EPX_HOST_ID="$1" setsid -w sh -c "$2"
exit "${PIPESTATUS[1]}"
EOF
chmod +x "$work/rsh" "$work/far"
export EPX_RSH=$work/rsh
port=$((20000 + $$ % 10000))
root=127.0.0.1:$port-$((port + 15))
# "${job[@]}" HOSTS WORD…: epx run with these hosts
job=("$epx" run --root "$root" --hosts)

# ---- The command line ----
refused()
{
    local words=$1 word
    shift
    run 10 "$epx" run "$@"
    expect_status 2 "epx run $*"
    while read -r word; do
        expect_text err "$word" "epx run $*"
    done < <(printf '%s\n' "$words" | tr '|' '\n')
}
refused "--hosts is 'a,b'|'b'|--ranks that 2 divides" --hosts a,b true
refused "--hosts is 'a,b'|--ranks that 2 divides" -n 3 --hosts a,b true
refused "HOST:RANKS for all hosts" -n 4 --hosts a:2,b true
refused "its ranks are 4, but --ranks is 5" -n 5 --hosts a:2,b:2 true
refused "its ranks are 5000|[1, 4096]" --hosts a:2500,b:2500 true
refused "'a:0'|HOST:RANKS" --hosts a:0 true
refused "'a:x'|HOST:RANKS" --hosts a:x true
refused "'::1:2'|in brackets" --hosts ::1:2 true
refused "'' in it is no host" --hosts a:1,,b:1 true
refused "'-oProxyCommand=x:1' in it is no host" --hosts=-oProxyCommand=x:1 true
refused "--root is 'here'|ADDRESS:PORT" --hosts localhost:2 --root here true
getent hosts localhost >/dev/null && refused "'user@localhost' in it has an address that only it reaches|--root" --hosts user@localhost:1,b:1 true
refused "--root needs --hosts" --root 127.0.0.1:1 true
refused "--remote-epx needs --hosts" --remote-epx /epx true
refused "--part is '2:3:4'|FIRST:COUNT:OF" --part 2:3:4 true
refused "--part is '1:2'" --part 1:2 true
run 10 "$epx" run --part 0:1:1 true
expect_status 1 "--part without a letter"
expect_text err "--part is for" "--part without a letter"
run 10 "$epx" run --help
for word in --hosts --root --remote-epx EPX_RSH; do
    expect_text out "$word" "epx run --help"
done

# ---- What ranks are given ----
say='echo "$EPX_RANK $EPX_WORLD_SIZE $EPX_HOST_ID $A $PWD $EPX_ROOT $HCCL_X $OTHER $EPX_JOB"'
cd "$work" || exit 1
OTHER=other HCCL_X=x EPX_HOST_ID=me EPX_JOB=mine run 20 "${job[@]}" localhost:1,hb:2,hc:1 -n 4 --env 'A=a b' sh -c "$say"
expect_status 0 "what ranks are given"
expect_out "what ranks are given" <<EOF
0 4 me a b $work $root x other mine
1 4 hb a b $work $root x  mine
2 4 hb a b $work $root x  mine
3 4 hc a b $work $root x  mine
EOF
run 20 "${job[@]}" ha,hb -n 4 sh -c 'echo "$EPX_JOB"'
[ "$(sort -u "$work/out" | grep -c '^run-')" = 1 ] || wrong "not one new EPX_JOB for all hosts"
EPX_ROOT=127.0.0.1:1 run 20 "$epx" run --hosts ha:1,hb:1 sh -c 'echo "$EPX_ROOT"'
[ "$(sort -u "$work/out")" = 127.0.0.1:1 ] || wrong "the caller's EPX_ROOT is not kept"
EPX_RANK=3 EPX_JOB=x EPX_ROOT=127.0.0.1:1 run 20 "$epx" run --hosts localhost:1,127.0.0.1:1 sh -c 'echo "$EPX_ROOT"'
sort -u "$work/out" | grep -qxE '127\.0\.0\.1:[0-9]+-[0-9]+' || wrong "a rank's EPX_ROOT is taken for its own job"
EPX_RSH=/nowhere run 20 "$epx" run --hosts "$(uname -n):1,localhost:1,127.0.0.1:1,[::1]:1" sh -c 'echo "$EPX_RANK $EPX_WORLD_SIZE"'
expect_status 0 "names of this machine"
expect_out "names of this machine" < <(printf '%s 4\n' 0 1 2 3)
run 20 "$epx" run --hosts 127.0.0.1:1,user@127.0.0.1:1 sh -c 'echo "$EPX_RANK ${EPX_HOST_ID:-here} $EPX_ROOT"'
expect_text out "1 user@127.0.0.1 127.0.0.1:" "another user of this machine"
# Words that a shell would take apart.
cat >"$work/words.sh" <<'EOF'
printf '<%s>' "$@" >"words.$EPX_RANK"
EOF
hostile=("two  words" "single ' quote" 'double " quote' '$HOME `id` $(id)' $'two\nlines' '*' '/b*n' '~' '#' '&; |<>' '\' '!!' ''
    $'tab\t' '--' '-n' "a'\\''b" $'\xff\xc3')
value=$(printf '%s\n' "${hostile[@]}")
run 20 "${job[@]}" localhost:1,hb:1 --env "A=$value" sh -c '. ./words.sh; printf %s "$A" >"value.$EPX_RANK"' sh "${hostile[@]}"
expect_status 0 "hostile words"
printf '<%s>' "${hostile[@]}" >"$work/words.must"
cmp -s words.1 words.must && cmp -s words.0 words.must || wrong "hostile words: they arrive differently"
printf '%s' "$value" | cmp -s - value.1 || wrong "a hostile value: it arrives differently"
mkdir "odd ' dir"
ln -s "$epx" "odd ' dir/e p'x"
run 20 "${job[@]}" hb:1 --remote-epx "$work/odd ' dir/e p'x" echo there
[ "$(cat "$work/out")" = there ] || wrong "--remote-epx is not what runs"
EPX_RSH="$work/rsh -4  -x" run 20 "${job[@]}" hb:1 echo there
[ "$(cat "$work/out")" = there ] || wrong "words of EPX_RSH are not handed on"
many=$(head -c 100000 /dev/zero | tr '\0' x)
run 20 "${job[@]}" hb:2 --env "A=$many" sh -c 'echo "${#A}"'
[ "$(sort -u "$work/out")" = 100000 ] || wrong "a long value is cut"
echo input | timeout 20 "${job[@]}" localhost:1,hb:1 cat >"$work/out" 2>"$work/err"
[ "$(cat "$work/out")" = input ] || wrong "a rank 0 of this machine does not read the input"
echo input | timeout 20 "${job[@]}" hb:1,localhost:1 cat >"$work/out" 2>"$work/err"
[ ! -s "$work/out" ] || wrong "a rank 0 elsewhere reads something"
run 20 "${job[@]}" "localhost:1,hb:$(nproc)" --bind core sh -c 'echo "$EPX_RANK $(grep Cpus_allowed_list /proc/self/status | cut -f2)"'
[ "$(grep -v '^0 ' "$work/out" | cut -d' ' -f2 | sort -u | grep -cx '[0-9]*')" = "$(nproc)" ] ||
    wrong "--bind: a rank a processor of another host: not one for each"
[ "$(sed -n 's/^0 //p' "$work/out")" = "$(grep Cpus_allowed_list /proc/self/status | cut -f2)" ] ||
    wrong "--bind: one rank here is not bound to all"

# ---- Lines ----
run 20 "${job[@]}" localhost:1,hb:2 --tag sh -c 'printf "a\nb"; echo c >&2'
printf '[%d] a\n[%d] b\n' 0 0 1 1 2 2 | sort >"$work/must"
expect_out "--tag" <"$work/must"
[ "$(sort "$work/err")" = "$(printf '[%d] c\n' 0 1 2)" ] || wrong "--tag: errors differ"
run 20 "${job[@]}" hb:2 sh -c 'echo out; printf err >&2'
[ "$(cat "$work/out")" = "$(printf 'out\nout')" ] || wrong "output differs"
[ "$(tr -d '\n' <"$work/err")" = errerr ] || wrong "errors differ, or reports are among them"
run 60 "${job[@]}" ha:2,hb:2 --tag sh -c 'head -c 3000000 /dev/zero | tr "\0" z; echo; echo end'
[ "$(grep -E '^\[[0-3]\] z+$' "$work/out" | sed 's/^....//' | tr -d '\n' | wc -c)" = 12000000 ] || wrong "very long lines are not whole"
[ "$(grep -cE '^\[[0-3]\] end$' "$work/out")" = 4 ] || wrong "no line after a very long one"
run 60 bash -c '"$@" 2>&1 >/dev/null | { sleep 0.5; cat; }; exit "${PIPESTATUS[0]}"' - "${job[@]}" hb:2 sh -c 'head -c 3000000 /dev/zero | tr "\0" z >&2; exit 5'
expect_status 5 "ends behind errors that nobody reads yet"
expect_text out "ended with exit status 5" "ends behind errors that nobody reads yet"

# ---- How it ends ----
forever="sleep $mark & sleep $mark; :"
for shell in rsh far; do
    export EPX_RSH=$work/$shell
    run 60 "${job[@]}" localhost:2,hb:2,hc:2 --linger 0.2 sh -c "[ \$EPX_RANK = 3 ] && { printf last >&2; exit 7; }; $forever"
    expect_status 7 "$shell: a rank elsewhere ends with 7"
    grep -qxE 'epx run: host hb: rank 3 \(pid [0-9]+\) ended with exit status 7' "$work/err" ||
        wrong "$shell: a rank elsewhere ends with 7: it is not named"
    [ "$(sed '/^last$/d' "$work/err" | wc -l)" = 1 ] || wrong "$shell: a rank elsewhere ends with 7: more than one line"
    expect_clean "$shell: a rank elsewhere ends with 7"
    run 60 "${job[@]}" hb:2,localhost:2 --linger 0.2 sh -c "[ \$EPX_RANK = 3 ] && kill -KILL \$\$; $forever"
    expect_status 137 "$shell: a rank here is killed"
    grep -qxE 'epx run: host localhost: rank 3 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" ||
        wrong "$shell: a rank here is killed: it is not named"
    expect_clean "$shell: a rank here is killed"
    run 60 "${job[@]}" localhost:2,hb:2 --linger 0.2 --tag sh -c "[ \$EPX_RANK = 2 ] && kill -KILL \$\$; $forever"
    expect_status 137 "$shell: a rank elsewhere is killed"
    grep -qxE 'epx run: host hb: rank 2 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" ||
        wrong "$shell: a rank elsewhere is killed: it is not named"
    expect_clean "$shell: a rank elsewhere is killed"
    run 60 "${job[@]}" localhost:1,hb:2 --timeout 0.7 --kill-after 0.3 sh -c "trap '' TERM; sleep $mark; :"
    expect_status 124 "$shell: --timeout"
    expect_text err "timeout: ranks 0-2 have not ended" "$shell: --timeout"
    expect_text err "SIGKILL to ranks 0-2" "$shell: --timeout"
    expect_clean "$shell: --timeout"
done
export EPX_RSH=$work/rsh
run 60 "${job[@]}" localhost:1,hb:2 --linger 20 sh -c '[ $EPX_RANK = 1 ] && exit 3; sleep 0.5; exit $((EPX_RANK + 4))'
expect_status 3 "several fail"
expect_text err "after it failed: ranks 0,2" "several fail"
run 20 "${job[@]}" localhost:1,hb:3 "$work/nothing"
expect_status 127 "no such program"
expect_text err "cannot execute '$work/nothing': No such file" "no such program"
run 20 "${job[@]}" hb:3 "$work/nothing"
expect_status 127 "no such program elsewhere"
grep -qx "epx run: host hb: cannot execute '$work/nothing': No such file or directory" "$work/err" ||
    wrong "no such program elsewhere: it is not said so"
run 20 "${job[@]}" localhost:1,unknown:3 --linger 0.2 sh -c "$forever"
expect_status 255 "a shell that finds no host"
expect_text err "rsh: no host unknown" "a shell that finds no host"
grep -qxE 'epx run: host unknown: the remote shell of ranks 1-3 \(pid [0-9]+\) ended with exit status 255' "$work/err" ||
    wrong "a shell that finds no host: it is not named"
expect_clean "a shell that finds no host"
run 20 "${job[@]}" localhost:1,hb:3 --linger 0.2 --remote-epx "$work/nothing" sh -c "$forever"
expect_status 127 "no epx there"
expect_text err "host hb: the remote shell" "no epx there"
expect_clean "no epx there"
EPX_RSH=/nowhere/rsh run 20 "${job[@]}" localhost:1,hb:3 sh -c "$forever"
expect_status 127 "no remote shell"
grep -qx "epx run: host hb: cannot execute '/nowhere/rsh': No such file or directory" "$work/err" || wrong "no remote shell: it is not said so"
expect_clean "no remote shell"
EPX_RSH=true run 20 "${job[@]}" localhost:1,hb:3 --linger 0.2 sh -c "$forever"
expect_status 1 "a remote shell that does nothing"
expect_text err "host hb: the remote shell" "a remote shell that does nothing"
expect_clean "a remote shell that does nothing"
# What ranks leave may end by itself, but not later than --linger.
run 60 "${job[@]}" hb:2 --linger 60 sh -c '{ sleep 0.5; echo "late $EPX_RANK"; } &'
expect_status 0 "children of ranks go on"
expect_out "children of ranks go on" < <(printf 'late %s\n' 0 1)
run 60 "${job[@]}" hb:2 --linger 0.2 --kill-after 0.3 sh -c "setsid sleep $mark & setsid sh -c 'trap \"\" TERM; sleep $mark' &"
expect_status 0 "children of ranks would stay"
expect_clean "children of ranks would stay"

# ---- Signals, and ends that nobody announces ----
# start SLEEPERS COMMAND…: in the background, with so many processes of ranks
start()
{
    local sleepers=$1
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    wait_for 20 sleeping "$sleepers" || wrong "$*: ranks have not started"
}
gone() { ! kill -0 "$pid" 2>/dev/null; }
collect()
{
    if ! wait_for 30 gone; then
        wrong "$1: it does not end"
        kill -KILL "$pid"
    fi
    status=0
    wait "$pid" 2>/dev/null || status=$?
    expect_clean "$1"
}
for shell in rsh far; do
    export EPX_RSH=$work/$shell
    for pair in INT:130 TERM:143 HUP:129; do
        signal=${pair%:*}
        start 8 "${job[@]}" localhost:2,hb:2 bash -c "$forever"
        kill -s "$signal" "$pid"
        collect "$shell: SIG$signal"
        expect_status "${pair#*:}" "$shell: SIG$signal"
        [ ! -s "$work/err" ] || wrong "$shell: SIG$signal: something is said"
    done
    start 4 "${job[@]}" localhost:1,hb:1 bash -c "trap 'exit 0' USR1; sleep $mark & sleep $mark & while :; do wait; done"
    kill -USR1 "$pid"
    collect "$shell: SIGUSR1"
    expect_status 0 "$shell: SIGUSR1"
    start 8 "${job[@]}" localhost:2,hb:2 bash -c "$forever"
    kill -KILL "$pid"
    collect "$shell: killed"
    start 8 "${job[@]}" ha:2,hb:2 --tag --kill-after 0.5 bash -c "trap '' TERM; $forever"
    kill -KILL "$pid"
    collect "$shell: killed, ranks that ignore SIGTERM"
    for delay in 0 0.01 0.03 0.1; do
        "${job[@]}" localhost:8,hb:8,hc:8 sleep "$mark" >"$work/out" 2>"$work/err" </dev/null &
        pid=$!
        sleep "$delay"
        kill -KILL "$pid"
        collect "$shell: killed $delay s after its start"
    done
    # The connection breaks: the shell itself is gone.
    start 8 "${job[@]}" localhost:2,hb:2 --linger 0.2 bash -c "$forever"
    shell_pid=$(pgrep -P "$pid" -f "$work/far hb|--part 2:2:4" | head -n 1)
    kill -KILL "${shell_pid:-$pid}"
    collect "$shell: the remote shell is killed"
    expect_status 137 "$shell: the remote shell is killed"
    grep -qE '^epx run: host hb: the remote shell of ranks 2-3 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" ||
        wrong "$shell: the remote shell is killed: it is not named"
done
# The leash by itself: a part ends when its input does.
mkfifo "$work/leash"
"$epx" run --part 2:2:4 sh -c "echo \$EPX_RANK \$EPX_WORLD_SIZE \$A; exec sleep $mark" <"$work/leash" >"$work/out" 2>"$work/err" &
pid=$!
exec 9>"$work/leash"
printf 'word\0\0A=1\0\0' >&9
wait_for 20 sleeping 2 || wrong "leash: ranks have not started"
expect_out "leash" < <(printf '%s 4 1\n' 2 3)
kill -0 "$pid" || wrong "leash: it does not wait for its end"
exec 9>&-
collect "leash"
[ "$(grep -cE '^word end [23] [0-9]+ 143 15 0$' "$work/err")" = 2 ] || wrong "leash: ranks are not ended by SIGTERM, or not reported"

# ---- Ranks of epx ----
export EPX_RSH=$work/rsh EPX_JOIN_TIMEOUT=30000
run 60 "$epx" run --hosts localhost:2,127.0.0.1:2 "$rank"
expect_status 0 "hosts that are all this machine"
[ "$(grep -cE '^rank [0-3] of 4: 0 wrong elements$' "$work/out")" = 4 ] || wrong "hosts that are all this machine: not all are right"
if "$epx" info | grep -q '^to other hosts *none'; then
    echo "SKIPPED ranks of several hosts: this epx was built without UCX"
    finish
fi
for hosts in ha:2,hb:2 localhost:2,hb:1,hc:3; do
    ranks=0
    for count in $(echo "$hosts" | tr ',' '\n' | cut -d: -f2); do
        ranks=$((ranks + count))
    done
    run 60 "${job[@]}" "$hosts" "$rank"
    expect_status 0 "$hosts"
    [ "$(grep -cE "^rank [0-9] of $ranks: 0 wrong elements\$" "$work/out")" = "$ranks" ] || wrong "$hosts: not all are right"
done
run 60 "${job[@]}" ha:2,hb:2,hc:2 --tag --linger 30 "$rank" 4
expect_status 137 "a rank of epx is killed"
grep -qE '^epx run: host hc: rank 4 \(pid [0-9]+\) was ended by SIGKILL' "$work/err" || wrong "a rank of epx is killed: it is not named"
[ "$(grep -cE '^\[[01235]\] rank 4 \(' "$work/err")" = 5 ] || wrong "a rank of epx is killed: not all others say so"

finish
