#!/usr/bin/env bash
# epx bench: its command line, what it makes of engines that are right, wrong, dead or hung, that it leaves nothing
# behind, and the real engines once on tiny sizes. No time is judged: engines with known times are scripts.
. "$(dirname "$0")/lib.sh"
epx=$EPX_BIN_DIR/epx
"$epx" --help | grep -q '^  bench' || skip_all "this epx was built without bench"
fake=$work/fake
mkdir "$fake"

# ---- Command line
run 10 "$epx" bench --help
expect_status 0 "epx bench --help"
for option in --ranks --bs --hidden --topk --experts --dtype --quant --zipf --cold --threads --engines --mpi --cann \
    --repeats --rounds --warmup --quick --processes --round-trip --private-memory --views --variants --json --csv --plot \
    --compare --from --limit --seed --skew-us; do
    expect_text out " $option" "epx bench --help"
done

# bad OPTION VALUE WHAT-IT-MUST-BE
bad()
{
    run 10 "$epx" bench "$1" "$2"
    expect_status 2 "epx bench $1 '$2'"
    expect_text err "$1 is '${2##*,}', must be $3" "epx bench $1 '$2'"
    [ ! -s "$work/out" ] || wrong "epx bench $1 '$2' writes to standard output"
}
bad --ranks 0 'in [1, 4096]'
bad --ranks 2,x 'in [1, 4096]'
bad --bs '' 'in [1, 1048576]'
bad --hidden 7168.5 'in [1, 1048576]'
bad --topk 99999999999999999999 'in [1, 4096]'
bad --experts -1 'in [0, 65536]'
bad --dtype bf16,fp32 'one of fp16, bf16'
bad --quant int4 'one of none, int8'
bad --zipf nan 'in [0, 8]'
bad --cold 2 'in [0, 1]'
bad --threads 1025 'in [0, 1024]'
bad --engines floor,gloo 'one of floor, epx, cann, mpi'
bad --repeats 0 'in [1, 1000]'
bad --rounds -1 'in [0, 1000000]'
bad --limit 0 'in [1, 86400]'
bad --processes 2 'in [0, 1]'
bad --mpi openmpi,nothing 'of openmpi'
run 10 "$epx" bench --nothing
expect_status 2 "epx bench --nothing"
expect_text err "'--nothing'" "epx bench --nothing"
run 10 "$epx" bench more
expect_status 2 "epx bench more"
expect_text err "'more'" "epx bench more"
run 10 "$epx" bench --ranks 2,3 --experts 16
expect_status 2 "experts that do not fit"
expect_text err "--experts is 16, must be a multiple of the 3 ranks" "experts that do not fit"
run 10 env EPX_BENCH_DIR="$fake" "$epx" bench --engines epx
expect_status 2 "an engine that is not there"
expect_text err "engine epx is not there" "an engine that is not there"
for option in --from --compare; do
    run 10 "$epx" bench $option "$work/nothing"
    expect_status 2 "epx bench $option of no file"
    expect_text err "$work/nothing" "epx bench $option of no file"
    echo '{"epx_bench_format": 99}' >"$work/odd"
    run 10 "$epx" bench $option "$work/odd"
    expect_status 2 "epx bench $option of an odd file"
    expect_text err "epx_bench_format must be 1" "epx bench $option of an odd file"
done

# ---- Engines with known results
# engine NAME VARIANT MICROSECONDS DIGEST WRONG [COMMAND]: the same time for every sample; the command is run first
engine()
{
    cat >"$fake/epx-bench-$1" <<SCRIPT
#!/usr/bin/env bash
us=$3
${6:-}
for round in 0 1 2; do
    for operation in dispatch combine; do
        echo "{\"record\":\"sample\",\"engine\":\"$1\",\"variant\":\"$2\",\"operation\":\"\$operation\",\"round\":\$round,\"makespan_ns\":\${us}000,\"max_ns\":\${us}000}"
    done
done
echo '{"record":"summary","engine":"$1","variant":"$2","version":"x","dispatch_digest":"$4","combine_digest":"abc","wrong":$5,"create_ns":1000,"plan_ns":1000,"first_dispatch_ns":1000,"first_combine_ns":1000}'
SCRIPT
    chmod +x "$fake/epx-bench-$1"
}

# bench SECONDS OPTION…: with the engines above
bench()
{
    local seconds=$1
    shift
    run "$seconds" env EPX_BENCH_DIR="$fake" "$epx" bench --engines floor,epx --ranks 2 --bs 4 --hidden 1000 --topk 2 \
        --repeats 3 --limit 20 "$@"
}

engine floor pull 100 d1 0
engine epx in-place 125 d1 0
bench 60 --json "$work/a.json" --csv "$work/a.csv"
expect_status 0 "engines that are right"
cp "$work/out" "$work/table"
grep -qE '^ +dispatch +2 +4 +1000 +2 +16 +bf16 +none +- +epx/in-place +125\.0 +125\.0 +125\.0 +0\.26 +80 \(80-80\) +-$' \
    "$work/out" || wrong "the table has no such line of epx"
grep -qE '^ +combine .* floor/pull +100\.0 .* 100 \(100-100\)' "$work/out" || wrong "the table has no line of the floor"
[ "$(grep -c '^combine,2,4,1000,2,16,bf16,none,0,0,0,1,0,epx,in-place,3,125000,125000,125000,0.256,80,80,80,,,$' "$work/a.csv")" = 1 ] ||
    wrong "the csv file has no such line: $(tail -n 1 "$work/a.csv")"
[ "$(wc -l <"$work/a.csv")" = 5 ] || wrong "the csv file has $(wc -l <"$work/a.csv") lines, not 5"
grep -q '"makespan_ns":\[125000,125000,125000\]' "$work/a.json" || wrong "the json file lacks samples"
grep -q '"processor":"..*"' "$work/a.json" || wrong "the json file lacks the processor"

# What was written says the same when it is read.
run 10 "$epx" bench --from "$work/a.json" --csv "$work/b.csv"
expect_status 0 "epx bench --from"
cmp -s "$work/out" "$work/table" || wrong "epx bench --from shows another table"
cmp -s "$work/a.csv" "$work/b.csv" || wrong "epx bench --from writes another csv file"

# Against itself nothing moves; 20 % more does.
bench 60 --compare "$work/a.json"
expect_text out "compared 4 series: 0 slower, 0 faster, 4 within noise" "the same again"
engine epx in-place 150 d1 0
bench 60 --compare "$work/a.json"
expect_status 0 "a comparison"
expect_text out "compared 4 series: 2 slower, 0 faster, 2 within noise" "a slower engine"
expect_text out "epx/in-place: 125.0 (125.0-125.0) us -> 150.0 (150.0-150.0) us, +20 % SLOWER" "a slower engine"

# A floor that jumps: repeats are done again, and no longer than a few times.
engine floor pull 100 d1 0 "[ -e $work/jump ] && us=150 && rm $work/jump || touch $work/jump"
engine epx in-place 125 d1 0
bench 60
expect_status 0 "a floor that jumps"
expect_text out "4 repeats done again, 3 kept all the same" "a floor that jumps"
rm -f "$work/jump"

# ---- Engines that are wrong
engine floor pull 100 d1 0
engine epx in-place 125 d2 0
bench 60
expect_status 1 "another digest"
expect_text err "dispatch of" "another digest"
expect_text err "d2" "another digest"
expect_text err "in-place" "another digest"
expect_text err "floor pull" "another digest"
engine epx in-place 125 d1 7
bench 60
expect_status 1 "wrong rows"
expect_text err "7 rows of epx in-place are not what they must be" "wrong rows"
engine epx in-place 125 d1 0 'echo "no record"'
bench 60
expect_status 1 "what is no record"
expect_text err "is no record: no record" "what is no record"

# ---- Engines that die, hang, leave something behind
# gone WHAT: the process in $work/pid does not run any more
gone()
{
    local pid
    pid=$(cat "$work/pid" 2>/dev/null)
    [ -n "$pid" ] || { wrong "$1: it did not start"; return; }
    for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid"
    wrong "$1: process $pid was left behind"
}
engine epx in-place 125 d1 0 'echo the reason >&2; kill -9 $$'
bench 60
expect_status 1 "an engine that dies"
expect_text err "epx in-place is not measured any more: ended by signal 9: the reason" "an engine that dies"
expect_text out "floor/pull" "an engine that dies"
engine epx in-place 125 d1 0 'exit 5'
bench 60
expect_status 1 "an engine that fails"
expect_text err "ended with status 5" "an engine that fails"
engine epx in-place 125 d1 0 "setsid sleep 300 >/dev/null & echo \$! >$work/pid; exec sleep 300"
bench 60 --limit 1
expect_status 1 "an engine that hangs"
expect_text err "killed: not done after 1 s" "an engine that hangs"
gone "an engine that hangs"
engine epx in-place 125 d1 0 "trap '' TERM; setsid sleep 300 >/dev/null 2>&1 & echo \$! >$work/pid"
bench 60
expect_status 0 "an engine that leaves a process"
gone "an engine that leaves a process"

# A signal to epx bench.
engine epx in-place 125 d1 0 "echo \$\$ >$work/pid; trap '' TERM; sleep 300"
for signal in INT TERM KILL; do
    rm -f "$work/pid"
    status=0
    # A background command of a script ignores SIGINT unless it says otherwise.
    EPX_BENCH_DIR=$fake setsid "$epx" bench --engines floor,epx --bs 4 --ranks 2 >"$work/out" 2>"$work/err" &
    pid=$!
    for _ in $(seq 100); do
        [ -s "$work/pid" ] && break
        sleep 0.1
    done
    kill -s "$signal" "$pid"
    wait "$pid" || status=$?
    case $signal in KILL) wanted=137 ;; TERM) wanted=143 ;; INT) wanted=130 ;; esac
    expect_status "$wanted" "epx bench at SIG$signal"
    gone "epx bench at SIG$signal"
done

# ---- A picture
engine epx in-place 125 d1 0
run 10 env PATH="$fake" "$epx" bench --from "$work/a.json" --plot "$work/none"
expect_status 1 "a plot without gnuplot"
expect_text err "gnuplot is not there" "a plot without gnuplot"
if command -v gnuplot >/dev/null; then
    run 60 "$epx" bench --from "$work/a.json" --plot "$work/with space"
    expect_status 0 "a plot"
    [ -s "$work/with space.png" ] && [ -s "$work/with space.svg" ] || wrong "a plot: no pictures"
fi

# ---- The real engines
run 200 "$epx" bench --engines floor,epx,cann --ranks 2,3 --bs 3 --hidden 96 --topk 3 --experts 12 --dtype bf16,fp16 \
    --quant none,int8 --zipf 1 --repeats 1 --rounds 2 --warmup 1 --round-trip --private-memory --views --json "$work/r.json"
expect_status 0 "the real engines"
[ "$(grep -cE '^ +(dispatch|combine) .* (floor|epx|cann)/' "$work/out")" = 80 ] || wrong "the table lacks lines"
run 100 "$epx" bench --engines floor,epx --ranks 2 --bs 3 --hidden 96 --topk 3 --experts 12 --processes 0 --cold 1 \
    --skew-us 100 --repeats 1 --rounds 2
expect_status 0 "ranks that are threads"
for engine in floor epx; do
    run 10 "$EPX_BIN_DIR/epx-bench-$engine" --bs 0
    expect_status 2 "epx-bench-$engine --bs 0"
    expect_text err "--bs is '0', must be in [1, 1048576]" "epx-bench-$engine --bs 0"
    run 10 "$EPX_BIN_DIR/epx-bench-$engine" --nothing 1
    expect_status 2 "epx-bench-$engine --nothing"
    expect_text err "'--nothing'" "epx-bench-$engine --nothing"
done
finish
