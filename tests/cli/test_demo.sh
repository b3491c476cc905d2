#!/usr/bin/env bash
# The demo: every element right under its options, wrong options named, a killed rank named, and nothing left behind.
. "$(dirname "$0")/lib.sh"
demo=$EPX_BIN_DIR/epx-demo
[ -x "$demo" ] || skip_all "no epx-demo is built here"
export TMPDIR=$work # of the tools used here; the demo's own file goes to /tmp

files() { ls -A /tmp /dev/shm 2>/dev/null | grep -E 'epx-demo|epx-arena|epx-control' | sort; }
processes() { pgrep -x epx-demo | sort; }
before=$(files)

new_files() { comm -13 <(printf '%s\n' "$before") <(files); }

# Ours must be gone; what others run at the same time comes and goes.
expect_clean()
{
    local pid
    for _ in $(seq 100); do
        [ -z "$(new_files)" ] && break
        sleep 0.1
    done
    [ -z "$(new_files)" ] || wrong "$1: files are left: $(new_files)"
    for pid in $(processes); do
        [ "$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -c "^EPX_JOB=cli-$$\$")" = 0 ] ||
            wrong "$1: process $pid is left"
    done
}
export EPX_JOB=cli-$$

small="--servers 2 --ranks 2 --tokens 5 --hidden 96 --topk 3 --experts 8 --ffn 8 --rounds 3"
# right RANKS OPTIONS…
right()
{
    local ranks=$1
    shift
    run 60 "$demo" "$@"
    expect_status 0 "epx-demo $*"
    grep -qE "^verified: $ranks/$ranks ranks, 0 wrong elements \(of [1-9][0-9]*\)\$" "$work/out" ||
        wrong "epx-demo $*: no verdict"
    expect_clean "epx-demo $*"
}
# shellcheck disable=SC2086
{
    right 4 $small
    right 4 $small --dtype fp16 --quiet
    right 4 $small --quant int8
    right 4 $small --quant int8 --smooth --dtype fp16
    right 4 $small --return-quant int8
    right 4 $small --exchange two-level
    right 4 $small --views
    right 4 $small --views --quant int8 --smooth --shared-ranks 1 --experts 9
    right 4 $small --views --quant int8 --exchange two-level --dtype fp16
    right 4 $small --exchange two-level --quant int8 --return-quant int8
    right 4 $small --shared-ranks 2 --experts 6
    right 4 $small --shared-ranks 1 --experts 9 --quant int8 --smooth --seed 7 --plan
    right 1 --servers 1 --ranks 1 --tokens 3 --hidden 1 --topk 1 --experts 1 --ffn 1 --rounds 1
    right 9 --servers 3 --ranks 3 --tokens 2 --hidden 33 --topk 9 --experts 9 --ffn 3 --rounds 2 --exchange two-level
}
run 60 "$demo" --servers 1 --ranks 2 --experts 4 --hidden 16 --ffn 4 --topk 2 --rounds 1 --plan
expect_text out "dispatch plan of rank 0" "epx-demo --plan"
# shellcheck disable=SC2086
run 60 "$demo" $small --views
expect_text out "as views " "epx-demo --views"
expect_text out "with row views:" "epx-demo --views"
run 60 "$demo" --tokens 0 --servers 1 --ranks 2 --experts 2 --topk 1 --hidden 8 --ffn 2 --rounds 2
expect_status 0 "epx-demo --tokens 0"
# A rank table of the caller's, which stays; several servers of it are on this host.
bash "$(dirname "$0")/../acceptance/rank_table.sh" 2 2 >"$work/table.json"
table_flags="--rank-table $work/table.json --ranks 2 --experts 4 --hidden 16 --ffn 4 --topk 2 --rounds 2 --tokens 3"
# shellcheck disable=SC2086
run 60 "$demo" $table_flags
expect_text out "verified: 4/4 ranks, 0 wrong elements" "epx-demo --rank-table"
[ -s "$work/table.json" ] || wrong "epx-demo --rank-table: the table is gone"
# shellcheck disable=SC2086
timeout 60 "$demo" $table_flags --server 1 --quiet >"$work/other" 2>&1 &
# shellcheck disable=SC2086
run 60 "$demo" $table_flags --server 0
wait $!
expect_text out "verified: 2/2 ranks, 0 wrong elements" "epx-demo --server 0"
grep -q "verified: 2/2 ranks, 0 wrong elements" "$work/other" || wrong "epx-demo --server 1: $(cat "$work/other")"
# shellcheck disable=SC2086
run 60 "$demo" $table_flags --servers 4 --experts 8 --quiet
expect_status 1 "epx-demo with a table of fewer servers"
expect_text err "the rank table has another number of ranks" "epx-demo with a table of fewer servers"
run 10 "$demo" --help
expect_status 0 "epx-demo --help"
expect_text out --exchange "epx-demo --help"

# refused WORDS OPTIONS…: words separated by |, each to be named
refused()
{
    local words=$1 word
    shift
    run 20 "$demo" "$@"
    expect_status 2 "epx-demo $*"
    [ ! -s "$work/out" ] || wrong "epx-demo $*: writes to standard output"
    while read -r word; do
        expect_text err "$word" "epx-demo $*"
    done < <(printf '%s\n' "$words" | tr '|' '\n')
}
refused "--servers|'0'|[1, 64]" --servers 0
refused "--servers|'65'|[1, 64]" --servers 65
refused "--ranks|'-1'|[1, 512]" --ranks=-1
refused "--tokens|'many'|[0, 1048576]" --tokens many
refused "--hidden|'8x'|[1, 1048576]" --hidden 8x
refused "--topk|'99999999999999999999'|[1, 4096]" --topk 99999999999999999999
refused "--topk|17|16" --topk 17
refused "--server|2|2 servers" --server 2 --rank-table x.json
refused "--server|--rank-table" --server 0
refused "--experts|10|16" --experts 10
refused "--shared-ranks|16|16 ranks" --shared-ranks 16
refused "--dtype|'fp32'|bf16|fp16" --dtype fp32
refused "--quant|'int4'|none|int8" --quant int4
refused "--return-quant|''|none|int8" --return-quant ''
refused "--exchange|'ring'|full-mesh|two-level" --exchange ring
refused "--smooth|--quant int8" --smooth
refused "--seed|'-5'" --seed=-5
refused "--rounds|''|[1, 1000000]" --rounds ''
refused "'extra'" extra
refused "nonsense" --nonsense

# Output that is lost is no success.
# shellcheck disable=SC2086
if [ -w /dev/full ]; then
    status=0
    timeout 60 "$demo" $small --quiet >/dev/full 2>"$work/err" || status=$?
    [ "$status" = 1 ] || wrong "epx-demo onto a full device: exit status $status, must be 1"
    expect_clean "epx-demo onto a full device"
fi

# A rank that is killed in the middle; needs the fault points.
# shellcheck disable=SC2086
for exchange in full-mesh two-level; do
    for point in dispatch.rows:3 combine.rows:2; do
        export EPX_FAULT=$point:kill EPX_FAULT_RANK=1
        run 60 "$demo" $small --rounds 50 --exchange $exchange
        unset EPX_FAULT EPX_FAULT_RANK
        if [ "$status" = 0 ]; then
            echo "SKIPPED a killed rank: built without fault points"
            break 2
        fi
        what="epx-demo with rank 1 killed at $point, $exchange"
        expect_status 1 "$what"
        expect_text err "rank 1 failed" "$what"
        # The others name it, too, instead of waiting.
        [ "$(grep -cE '^epx-demo: rank [023] failed: .*rank 1' "$work/err")" = 3 ] || wrong "$what: not all name rank 1"
        grep -q verified "$work/out" && wrong "$what: a verdict"
        expect_clean "$what"
    done
done

# No room for its file: a message, and no half of it.
run 20 bash -c '(ulimit -f 0; trap "" XFSZ; exec "$0" --servers 1 --ranks 2) 2>&1 | cat; exit "${PIPESTATUS[0]}"' "$demo"
expect_status 1 "epx-demo without room for a file"
expect_text out "cannot write a rank table" "epx-demo without room for a file"
expect_clean "epx-demo without room for a file"

# Ended by its user, at any time.
# shellcheck disable=SC2086
for signal in INT TERM; do
    for delay in 0.02 0.1 0.4 1; do
        "$demo" $small --rounds 1000000 --quiet >"$work/out" 2>"$work/err" </dev/null &
        pid=$!
        sleep "$delay"
        # A shell starts background jobs with SIGINT ignored; the demo installs its own handler.
        kill -s "$signal" "$pid"
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 "$pid" 2>/dev/null; then
            wrong "epx-demo does not end after SIG$signal"
            kill -KILL "$pid"
        fi
        status=0
        wait "$pid" 2>/dev/null || status=$?
        [ "$status" != 0 ] || wrong "epx-demo after SIG$signal: exit status 0"
        expect_clean "epx-demo after SIG$signal at $delay s"
    done
done

# The same while it checks: the ranks are done then.
# shellcheck disable=SC2086
"$demo" --servers 1 --ranks 2 --tokens 1000 --hidden 7168 --topk 8 --experts 16 --ffn 64 --rounds 1 >"$work/out" 2>"$work/err" </dev/null &
pid=$!
for _ in $(seq 600); do
    grep -qs 'round 1/1' "$work/err" && ! pgrep -P "$pid" >/dev/null && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.02
done
if kill -s INT "$pid" 2>/dev/null; then
    for _ in $(seq 20); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    if kill -0 "$pid" 2>/dev/null; then
        wrong "epx-demo does not end within 2 s of SIGINT while it checks"
        kill -KILL "$pid"
    fi
fi
status=0
wait "$pid" 2>/dev/null || status=$?
[ "$status" != 0 ] || wrong "epx-demo after SIGINT while it checks: exit status 0"
expect_clean "epx-demo after SIGINT while it checks"

finish
