#!/usr/bin/env bash
# epx bench on hosts that are network namespaces: the real engines once on tiny sizes, and that nothing is left when it is
# killed.
. "$(dirname "$0")/../cli/lib.sh"
epx=$EPX_BIN_DIR/epx
"$epx" --help | grep -q '^  bench' || skip_all "this epx was built without bench"
run 20 "$EPX_BIN_DIR/epx-bench-wire" --ranks 2 --hosts 2 --bs 1 --hidden 32 --topk 1 --experts 2 --rounds 1
[ "$status" = 0 ] || skip_all "$(cat "$work/err")"
grep -q '"wrong":0' "$work/out" || wrong "the wire moves wrong bytes"
run 20 "$EPX_BIN_DIR/epx-bench-epx" --ranks 2 --hosts 2 --bs 1 --hidden 32 --topk 1 --experts 2 --rounds 1
grep -q 'has no wire' "$work/err" && skip_all "$(cat "$work/err")"
expect_status 0 "two ranks on two hosts"

# The real engines; hosts of 2 and 3 ranks, too.
run 120 "$epx" bench --engines epx,wire --hosts 1,2 --ranks 4,5 --bs 3 --hidden 96 --topk 3 --experts 20 --quant none,int8 \
    --repeats 1 --rounds 2 --warmup 1 --round-trip --private-memory --two-level --json "$work/r.json" --csv "$work/r.csv"
expect_status 0 "the real engines"
# Each of 4 points on two hosts: 3 operations of 2 variants of epx, 3 of the wire; with hosts of equally many ranks (2
# points) 3 of the two-level exchange.
[ "$(grep -cE '^# (dispatch|combine|round_trip|stream) +2 .* (epx|wire)/' "$work/out")" = 42 ] ||
    wrong "the table of what crossed lacks lines"
# More is sent than has to cross, by every engine.
awk -F, 'NR > 1 && $(NF-3) == 2 { lines++; if ($(NF-2) <= $(NF-1) || $(NF-1) <= 0) bad++ }
    END { exit !(lines == 42 && bad == 0) }' "$work/r.csv" || wrong "odd bytes on the wire: $(cat "$work/r.csv")"
if [ -x "$EPX_BIN_DIR/epx-bench-mpi-mpich" ] && command -v mpirun.mpich >/dev/null; then
    run 120 "$epx" bench --engines epx,mpi --mpi mpich --hosts 2 --ranks 4 --bs 3 --hidden 96 --topk 3 --experts 12 \
        --repeats 1 --rounds 2 --warmup 1
    expect_status 0 "MPI on two hosts"
    grep -qE '^ +combine +2 .* mpi/mpich ' "$work/out" || wrong "MPI was not measured"
fi

if [ -x "$EPX_BIN_DIR/epx-bench-ways" ]; then
    run 120 "$EPX_BIN_DIR/epx-bench-ways" 1 1000 60000
    expect_status 0 "the ways of UCX"
    [ "$(grep -cE '^\| (active|tagged|put).*\| +[0-9.]+ \| +[0-9.]+ \|$' "$work/out")" = 7 ] || wrong "ways are missing"
fi

# users NAMESPACE…: processes in one of them
users()
{
    local link
    for link in /proc/[0-9]*/ns/net; do
        link=$(readlink "$link" 2>/dev/null) || continue
        case " $* " in *" $link "*) echo "$link" ;; esac
    done
}
"$epx" bench --engines epx --hosts 3 --ranks 3 --bs 64 --experts 9 --rounds 1000000 >"$work/out" 2>"$work/err" &
pid=$!
for _ in $(seq 100); do
    own=$(readlink "/proc/$$/ns/net")
    spaces=$(readlink "/proc/$pid/fd/"* 2>/dev/null | grep '^net:' | grep -vF "$own")
    [ "$(users $spaces | wc -l)" = 3 ] && break
    sleep 0.1
done
[ "$(echo "$spaces" | wc -l)" = 4 ] || wrong "no namespaces of three hosts and their bridge: $spaces"
[ "$(users $spaces | wc -l)" = 3 ] || wrong "no ranks in the namespaces"
kill -KILL "$pid"
wait "$pid" 2>/dev/null
for _ in $(seq 100); do
    [ "$(users $spaces | wc -l)" = 0 ] && break
    sleep 0.1
done
[ "$(users $spaces | wc -l)" = 0 ] || wrong "ranks were left behind"
finish
