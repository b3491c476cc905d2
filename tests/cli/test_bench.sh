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
for option in --ranks --hosts --bs --hidden --topk --experts --dtype --quant --zipf --cold --threads --engines --mpi --cann \
    --repeats --rounds --warmup --quick --processes --round-trip --private-memory --views --product --parts --variants --json --csv --plot \
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
bad --hosts 0 'in [1, 64]'
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
bad --product -1 'in [0, 65536]'
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
run 10 "$epx" bench --ranks 2 --hosts 1,4
expect_status 2 "more hosts than ranks"
expect_text err "--hosts is 4, must be at most the 2 ranks" "more hosts than ranks"
run 10 "$epx" bench --ranks 2 --hosts 2 --processes 0
expect_status 2 "threads on several hosts"
expect_text err "--hosts is 2, must be 1 with --processes 0" "threads on several hosts"
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
# engine NAME VARIANT MICROSECONDS DIGEST WRONG [COMMAND]: the same time for every sample, processor time 500 ns more; the
# command is run first and may set us, variant, operations, and product (a field of the summary)
engine()
{
    cat >"$fake/epx-bench-$1" <<SCRIPT
#!/usr/bin/env bash
us=$3
variant=$2
operations="dispatch combine"
product=
${6:-}
for round in 0 1 2; do
    for operation in \$operations; do
        echo "{\"record\":\"sample\",\"engine\":\"$1\",\"variant\":\"\$variant\",\"operation\":\"\$operation\",\"round\":\$round,\"makespan_ns\":\${us}000,\"max_ns\":\${us}000,\"cpu_ns\":\${us}500}"
    done
done
echo '{"record":"summary","engine":"$1","variant":"'"\$variant"'","version":"x","dispatch_digest":"$4","combine_digest":"abc",'"\$product"'"wrong":$5,"create_ns":1000,"plan_ns":1000,"first_dispatch_ns":1000,"first_combine_ns":1000}'
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
grep -qE '^ +dispatch +1 +2 +4 +1000 +2 +16 +bf16 +none +- +epx/in-place +125\.0 +125\.0 +125\.0 +0\.26 +80 \(80-80\) +- +-$' \
    "$work/out" || wrong "the table has no such line of epx"
grep -qE '^ +combine .* floor/pull +100\.0 .* 100 \(100-100\)' "$work/out" || wrong "the table has no line of the floor"
[ "$(grep -c '^combine,2,4,1000,2,16,bf16,none,0,0,0,1,0,epx,in-place,3,125000,125000,125000,0.256,80,80,80,,,,0,,,,125500,1,,,$' "$work/a.csv")" = 1 ] ||
    wrong "the csv file has no such line: $(tail -n 1 "$work/a.csv")"
[ "$(wc -l <"$work/a.csv")" = 5 ] || wrong "the csv file has $(wc -l <"$work/a.csv") lines, not 5"
grep -q '"makespan_ns":\[125000,125000,125000\]' "$work/a.json" || wrong "the json file lacks samples"
grep -q '"cpu_ns":\[125500,125500,125500\]' "$work/a.json" || wrong "the json file lacks processor times"
grep -q '"processor":"..*"' "$work/a.json" || wrong "the json file lacks the processor"

# What was written says the same when it is read.
run 10 "$epx" bench --from "$work/a.json" --csv "$work/b.csv"
expect_status 0 "epx bench --from"
cmp -s "$work/out" "$work/table" || wrong "epx bench --from shows another table"
cmp -s "$work/a.csv" "$work/b.csv" || wrong "epx bench --from writes another csv file"

# Several hosts, as if these engines had been on them: 2 ranks of 4 tokens, H 1000 and K 2, 8 of whose 16 experts are on
# the other host.
sed 's/"hosts":1/"hosts":2/; s/"engine":"floor","variant":"pull"/"engine":"wire","variant":"streams"/g
    s/"wire_bytes":\[null,null,null\]/"wire_bytes":[20000,21000,22000]/g' "$work/a.json" >"$work/hosts.json"
run 10 "$epx" bench --from "$work/hosts.json" --csv "$work/hosts.csv"
expect_status 0 "epx bench --from of several hosts"
grep -qE '^ +combine +2 +2 +4 .* epx/in-place +125\.0 .* 80 \(80-80\)' "$work/out" || wrong "the wire is not the floor"
crossing=$(sed -n 's/^combine,.*,epx,in-place,.*,2,21000,\([0-9]*\),$/\1/p' "$work/hosts.csv")
[ "${crossing:-0}" -gt 0 ] && [ "$crossing" -le 32000 ] && [ $((crossing % 2000)) = 0 ] ||
    wrong "the csv file has no bytes that cross: $(tail -n 1 "$work/hosts.csv")"
grep -qE '^# combine +2 +2 +4 +1000 bf16 +none +epx/in-place +125\.0 +0\.0[0-9]+ +0\.021 +-?[0-9.]+ +[0-9.]+ +80 +- +-$' \
    "$work/out" || wrong "the table of what crossed has no such line"
grep -q 'between hosts' "$work/table" && wrong "a table of what crossed on one host"

# Network namespaces are root's.
nobody=()
[ "$(id -u)" != 0 ] || nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${nobody[@]}" "$epx" bench --help >/dev/null 2>&1; then
    run 10 "${nobody[@]}" "$epx" bench --ranks 2 --hosts 2
    expect_status 2 "several hosts without root"
    expect_text err "--hosts is 2, must be 1: making network namespaces needs root" "several hosts without root"
fi

# Against itself nothing moves; 20 % more does.
bench 60 --compare "$work/a.json"
expect_text out "compared 4 series: 0 slower, 0 faster, 4 within noise" "the same again"
engine epx in-place 150 d1 0
bench 60 --compare "$work/a.json"
expect_status 0 "a comparison"
expect_text out "compared 4 series: 2 slower, 0 faster, 2 within noise" "a slower engine"
expect_text out "epx/in-place: 125.0 (125.0-125.0) us -> 150.0 (150.0-150.0) us, +20 % SLOWER" "a slower engine"

# Row views against copies, in operations that read rows.
"$epx" bench --engines floor --product 1 --from "$work/a.json" >/dev/null 2>"$work/err"
if grep -q 'without OpenBLAS' "$work/err"; then
    product=false
    expect_text err "--product is '1', must be 0" "--product without OpenBLAS"
else
    product=true
fi
reads='operations="dispatch combine dispatch+product"; product="\"product_digest\":\"p1\","; case "$*" in *--product\ 8*) ;; *) exit 9 ;; esac; case "$*" in *--views*) variant=views us=100 ;; esac'
if $product; then
    engine epx in-place 125 d1 0 "$reads"
    bench 60 --views --product 8 --json "$work/v.json" --csv "$work/v.csv"
    expect_status 0 "views against copies"
    grep -qE '^ +dispatch\+product .* N8 +epx/views +100\.0 .* 0\.80 \(0\.80-0\.80\)$' "$work/out" ||
        wrong "the table has no ratio of views to copies"
    grep -qE '^ +dispatch\+product .* N8 +epx/in-place +125\.0 .* - +- +-$' "$work/out" ||
        wrong "the table has no line of the copies"
    grep -qE '^ +dispatch .* epx/views +100\.0 .* -$' "$work/out" || wrong "a dispatch alone is compared"
    [ "$(grep -cE '^dispatch\+product,.*,views,3,.*,8,0\.8,0\.8,0\.8,100500,1,,,$' "$work/v.csv")" = 1 ] ||
        wrong "the csv file has no such ratio: $(tail -n 1 "$work/v.csv")"
    grep -q '"ratio_to_copying":{"median":0.8' "$work/v.json" || wrong "the json file has no ratio"
    mv "$work/out" "$work/table"
    run 10 "$epx" bench --from "$work/v.json" --csv "$work/w.csv"
    cmp -s "$work/out" "$work/table" || wrong "epx bench --from shows another table of views"
    cmp -s "$work/v.csv" "$work/w.csv" || wrong "epx bench --from writes another csv file of views"
    engine epx in-place 125 d1 0 "$reads; case \"\$*\" in *--views*) product='\"product_digest\":\"p2\",' ;; esac"
    bench 60 --views --product 8
    expect_status 1 "another product"
    expect_text err "the product of epx views has digest p2, that of epx in-place has p1" "another product"
    engine epx in-place 125 d1 0
fi

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
# runs PID: not so of one that has ended and that nobody has asked about yet: of orphans that is up to process 1
runs()
{
    local state
    state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
    case $state in '' | Z* | X*) return 1 ;; esac
}

# gone WHAT: the process in $work/pid does not run any more
gone()
{
    local pid
    pid=$(cat "$work/pid" 2>/dev/null)
    [ -n "$pid" ] || { wrong "$1: it did not start"; return; }
    for _ in $(seq 100); do
        runs "$pid" || return 0
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
bench 60 --limit 2
expect_status 1 "an engine that hangs"
expect_text err "epx in-place is not measured any more: killed: not done after 2 s" "an engine that hangs"
gone "an engine that hangs"
engine epx in-place 125 d1 0 "trap '' TERM; setsid sleep 300 >/dev/null 2>&1 & echo \$! >$work/pid"
bench 60
expect_status 0 "an engine that leaves a process"
gone "an engine that leaves a process"

# A signal to epx bench.
engine epx in-place 125 d1 0 "echo \$\$ >$work/pid; trap '' TERM; exec sleep 300"
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
if $product; then
    run 100 "$epx" bench --engines epx --views --private-memory --product 5 --ranks 1,2 --bs 3 --hidden 700 --topk 3 \
        --experts 12 --dtype bf16,fp16 --quant none,int8 --repeats 1 --rounds 2 --warmup 1
    expect_status 0 "products"
    [ "$(grep -cE '^ +(dispatch\+)?product .* epx/' "$work/out")" = 48 ] || wrong "the table lacks lines of products"
    for views in 0 1; do
        run 60 "$EPX_BIN_DIR/epx-bench-epx" --ranks 3 --bs 2 --hidden 40 --experts 12 --product 2 --views $views \
            --warmup 0 --rounds 1
        expect_status 0 "products, --views $views"
        cp "$work/out" "$work/records$views"
    done
    [ -n "$(grep -o '"product_digest":"[0-9a-f]*"' "$work/records0")" ] &&
        [ "$(grep -o '"product_digest":"[0-9a-f]*"' "$work/records0")" = \
            "$(grep -o '"product_digest":"[0-9a-f]*"' "$work/records1")" ] ||
        wrong "products of copies and of views differ"
    run 10 "$epx" bench --engines epx --product 2 --processes 0 --ranks 2
    expect_status 2 "products of threads"
    expect_text err "--product is 2, must be 0 with --processes 0" "products of threads"
    run 10 "$EPX_BIN_DIR/epx-bench-epx" --product 2 --processes 0 --ranks 2
    expect_status 2 "products of threads, without epx bench"
fi

# ---- Parts of an operation, and memory
run 60 env EPX_BENCH_DIR="$EPX_BIN_DIR" "$epx" bench --parts
expect_status 0 "epx bench --parts"
for part in "agreement entry built" "entries of all ranks compared" "one look for dead ranks" "clock read" \
    "round of a single rank" "round of all" "sum of a dispatch"; do
    expect_text out "$part" "epx bench --parts"
done
grep -qE '^# +ranks +2 +16 +64 +288$' "$work/out" || wrong "epx bench --parts has no such head"
grep -qE '^  sum of a dispatch( +[1-9][0-9]* / +[1-9][0-9]*){4}$' "$work/out" || wrong "epx bench --parts has no such sum"
run 30 "$EPX_BIN_DIR/epx-bench-parts" 1 3
expect_status 0 "parts of 1 and 3 ranks"
run 10 "$EPX_BIN_DIR/epx-bench-parts" 3 4097
expect_status 2 "parts of 4097 ranks"
expect_text err "'4097', must be in [1, 4096]" "parts of 4097 ranks"
run 10 env EPX_BENCH_DIR="$fake" "$epx" bench --parts
expect_status 2 "parts that are not there"
expect_text err "epx-bench-parts is not there" "parts that are not there"
scale=$(dirname "$0")/../../bench/scale.sh
for way in processes threads; do
    run 60 env BS=2 HIDDEN=512 ROUNDS=2 "$scale" "$EPX_BIN_DIR" $way 2 3
    expect_status 1 "scale.sh with 3 ranks for 16 experts"
    expect_text err "scale.sh: 3 ranks: exit status 2" "scale.sh with 3 ranks for 16 experts"
    grep -qE '^\| 2 (\| [0-9.]+ ){2}\| [0-9.]+ / [0-9.]+ (\| [0-9.]+ ){7}\|$' "$work/out" || wrong "scale.sh: no such line"
    awk -F'|' '/^[|] 2 / { exit !($8 > $9 && $9 > 0 && $10 > 0 && $12 > 0) }' "$work/out" || wrong "scale.sh: odd memory"
done
run 10 "$scale" "$EPX_BIN_DIR" processes 2 3x
expect_status 2 "scale.sh with a number that is none"
expect_text err "'3x' is no number of ranks" "scale.sh with a number that is none"
for engine in floor epx; do
    for cpu_time in 0 1; do
        run 20 "$EPX_BIN_DIR/epx-bench-$engine" --ranks 2 --bs 1 --hidden 32 --warmup 0 --rounds 1 --cpu-time $cpu_time
        expect_status 0 "epx-bench-$engine --cpu-time $cpu_time"
        samples=$(grep -c '"record":"sample"' "$work/out")
        # Of one short call it may be 0: a kernel may take off what its host took, or count in ticks.
        [ "$(grep -cE '"cpu_ns":[0-9]' "$work/out")" = $((samples * cpu_time)) ] ||
            wrong "epx-bench-$engine --cpu-time $cpu_time: odd processor times"
    done
    run 20 "$EPX_BIN_DIR/epx-bench-$engine" --ranks 2 --bs 64 --hidden 1024 --warmup 0 --rounds 20 --cpu-time 1
    grep -q '"cpu_ns":[1-9]' "$work/out" || wrong "epx-bench-$engine: no processor time in 20 rounds"
    run 10 "$EPX_BIN_DIR/epx-bench-$engine" --ranks 2 --hosts 3
    expect_status 2 "epx-bench-$engine --hosts 3 --ranks 2"
    run 10 "$EPX_BIN_DIR/epx-bench-$engine" --bs 0
    expect_status 2 "epx-bench-$engine --bs 0"
    expect_text err "--bs is '0', must be in [1, 1048576]" "epx-bench-$engine --bs 0"
    run 10 "$EPX_BIN_DIR/epx-bench-$engine" --nothing 1
    expect_status 2 "epx-bench-$engine --nothing"
    expect_text err "'--nothing'" "epx-bench-$engine --nothing"
done
run 10 "$EPX_BIN_DIR/epx-bench-floor" --ranks 2 --hosts 2 --bs 1 --hidden 32
expect_status 1 "the floor on two hosts"
expect_text err "--hosts is 2, must be 1: this program knows one host" "the floor on two hosts"
run 10 "$EPX_BIN_DIR/epx-bench-wire" --ranks 2 --bs 1
expect_status 2 "the wire on one host"
expect_text err "--hosts is 1, must be 2 or more" "the wire on one host"
finish
