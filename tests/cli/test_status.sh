#!/usr/bin/env bash
# epx status: what it says of a running job, of one with a stopped rank, with a killed one; what it may not read.
. "$(dirname "$0")/lib.sh"
epx=$EPX_BIN_DIR/epx
demo=$EPX_BIN_DIR/epx-demo
job=cli-status-$$
demo_pid=

# The ranks, whatever has become of them; then the demo ends by itself and takes its file with it.
end_job()
{
    [ -n "$demo_pid" ] || return 0
    pkill -KILL -P "$demo_pid"
    wait "$demo_pid" 2>/dev/null
    demo_pid=
}
trap end_job EXIT

# until_text TEXT COMMAND…: runs the command until it prints the text, for a minute at most
until_text()
{
    local text=$1
    shift
    for _ in $(seq 300); do
        run 20 "$@"
        grep -qF -- "$text" "$work/out" && return 0
        kill -0 "$demo_pid" 2>/dev/null || break
        sleep 0.2
    done
    wrong "$*: never says '$text'"
    return 1
}

# The command line.
run 10 "$epx" status --help
expect_status 0 "epx status --help"
expect_text out usage: "epx status --help"
for arguments in '--nothing' '1 2' '--pid x' '--pid 0' '--pid' '--job' '1 --job x' '99999999999999999999'; do
    # shellcheck disable=SC2086
    run 10 "$epx" status $arguments
    expect_status 2 "epx status $arguments"
    expect_text err usage: "epx status $arguments"
    [ ! -s "$work/out" ] || wrong "epx status $arguments: writes to standard output"
done
run 10 "$epx" status ''
expect_status 2 "epx status with an empty name"

# Nothing there.
run 10 "$epx" status $$
expect_status 3 "epx status of a shell"
expect_text err "$$" "epx status of a shell"
run 10 "$epx" status "$job"
expect_status 3 "epx status of no job"
run 10 "$epx" status --json --job "$job"
expect_status 3 "epx status --json of no job"
[ "$(cat "$work/out")" = '{"worlds":[],"unread":[]}' ] || wrong "epx status --json of no job: not empty"
if [ -w /dev/full ]; then
    status=0
    "$epx" status --json "$job" >/dev/full 2>"$work/err" || status=$?
    expect_status 5 "epx status onto a full device"
fi

if [ ! -x "$demo" ]; then
    echo "no epx-demo is built here: left out what needs a job"
    finish
fi
EPX_JOB=$job EPX_OP_TIMEOUT=0 "$demo" --servers 1 --ranks 4 --tokens 5 --hidden 96 --topk 3 --experts 8 --ffn 8 \
    --rounds 1000000 --quiet >"$work/demo" 2>&1 </dev/null &
demo_pid=$!

# A running job.
for _ in $(seq 300); do
    run 20 "$epx" status "$job"
    [ "$status" = 4 ] && grep -q 'may not be read' "$work/out" && { end_job; skip_all "this machine forbids reading"; }
    [ "$status" = 0 ] && grep -qE '^ +3 .* dispatch|^ +3 .* combine' "$work/out" && break
    kill -0 "$demo_pid" 2>/dev/null || break
    sleep 0.2
done
expect_status 0 "epx status of a running job"
[ "$(grep -c '^communicator ' "$work/out")" = 1 ] || wrong "epx status of a running job: not one communicator"
expect_text out " of job $job " "epx status of a running job"
expect_text out ": 4 ranks, " "epx status of a running job"
ranks=$(awk '$1 ~ /^[0-3]$/ {print $2}' "$work/out" | tr '\n' ' ')
read -r rank0 rank1 rank2 rank3 <<<"$ranks"
if [ -z "${rank3:-}" ]; then
    cp "$work/demo" "$work/err"
    wrong "epx status of a running job: no four ranks"
    end_job
    finish
fi
for pid in "$rank0" "$rank1" "$rank2" "$rank3"; do
    [ -d "/proc/$pid" ] || wrong "epx status of a running job: no process '$pid'"
done
run 20 "$epx" status "$rank1"
expect_status 0 "epx status of a rank"
expect_text out " $rank3 " "epx status of a rank"
run 20 "$epx" status
grep -qE "^$job +.* 4 +[0-9]+  healthy +$rank0,$rank1,$rank2,$rank3$" "$work/out" || wrong "epx status: no line of the job"
run 20 "$epx" status --json "$job"
expect_status 0 "epx status --json"
expect_text out "{\"rank\":2,\"pid\":$rank2,\"pid_is_of_this_namespace\":true,\"process\":\"alive\",\"round\":" "epx status --json"
if command -v jq >/dev/null 2>&1; then
    [ "$(jq -r '.worlds[0].ranks | length' "$work/out")" = 4 ] || wrong "epx status --json: jq finds no 4 ranks"
fi

# A rank that is stopped, anywhere: all others come to wait for it, and it is the one that is named.
kill -STOP "$rank2"
until_text "waiting: rank 2 (pid $rank2) has not " "$epx" status "$job"
expect_status 0 "epx status with a stopped rank"
grep -qE "^ +2 +$rank2 +stopped " "$work/out" || wrong "epx status with a stopped rank: it is not said to be stopped"
expect_text out ', waits for rank 2' "epx status with a stopped rank"
grep -qE "; ranks 0-1,3 have waited [0-9.]+ s$" "$work/out" || until_text '; ranks 0-1,3 have waited ' "$epx" status "$job"

# Another user may not.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null 2>&1; then
    chmod 755 "$work" && mkdir -m 755 "$work/bin" && cp "$epx" "$EPX_BIN_DIR"/../libepx.so.0 "$work/bin/"
    as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups env LD_LIBRARY_PATH=$work/bin $work/bin/epx"
    # shellcheck disable=SC2086
    if $as_nobody version >/dev/null 2>&1; then
        run 20 $as_nobody status "$rank0"
        if [ "$status" = 3 ] && grep -qE ' /proc .*hidepid' /proc/self/mounts; then
            echo "/proc hides other users' processes here"
        else
            expect_status 4 "epx status as another user"
            expect_text out "process $rank0: may not be read" "epx status as another user"
        fi
        run 20 $as_nobody status "$job"
        expect_status 3 "epx status of another user's job"
    fi
fi

# A rank that is killed while nobody can notice.
kill -STOP "$rank0" "$rank3"
kill -KILL "$rank1"
until_text ' died ' "$epx" status "$rank3"
expect_status 1 "epx status with a killed rank"
grep -qE "^ +1 +$rank1 +died " "$work/out" || wrong "epx status with a killed rank: it is not said to have died"
grep -qE "^overdue: rank 1 \(pid $rank1\) died |: lost a rank$|^failed by rank" "$work/out" || wrong "epx status with a killed rank: not told"
end_job
run 20 "$epx" status "$job"
expect_status 3 "epx status of a job that is gone"
finish
