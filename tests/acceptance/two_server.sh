#!/usr/bin/env bash
# The vendor page's two-server program, unchanged, against an installed tree: two_server.sh PREFIX SOURCE_DIR [ROUNDS]
# Runs both invocations at once on this host and expects sixteen success lines. Environment variables pass through, so
# that the caller can choose product and algorithm.
set -eu
prefix=$(cd "$1" && pwd)
source_dir=$2
rounds=${3:-1}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bash "$here/build_two_server.sh" "$prefix" "$source_dir" "$work"
# shellcheck disable=SC1091
source "$prefix/latest/bin/setenv.bash"
bash "$here/rank_table.sh" 2 8 > "$work/rank_table_m2.json"
export RANK_TABLE_FILE="$work/rank_table_m2.json"
export EPX_JOB="two-server-$$"

for ((round = 1; round <= rounds; round++)); do
    (cd "$work" && FIRST_RANK_ID=0 timeout 120 ./combineDemo > first.log 2>&1) &
    first=$!
    (cd "$work" && FIRST_RANK_ID=8 timeout 120 ./combineDemo > second.log 2>&1) &
    second=$!
    wait "$first" "$second" || true
    lines=$(grep -h 'aclnnMoeDistributeCombine execute successfully' "$work/first.log" "$work/second.log" | wc -l)
    if [ "$lines" != 16 ]; then
        echo "two_server.sh: $lines of 16 success lines in round $round" >&2
        cat "$work/first.log" "$work/second.log" >&2
        exit 1
    fi
done
grep -h 'execute successfully' "$work/first.log" "$work/second.log"
echo "two_server.sh: 16/16 ranks succeeded in each of $rounds rounds"
