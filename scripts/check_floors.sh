#!/usr/bin/env bash
# Checks every #include under src/, tools/, examples/, bench/ against src/floors.txt.
#   scripts/check_floors.sh            exit 1 and a line for each wrong include
#   scripts/check_floors.sh --graph    prints which floor includes which, with the number of includes
set -eu
cd "$(dirname "$0")/.."

mode=check
[ "${1:-}" = "--graph" ] && mode=graph

files=$(find src tools examples bench -name '*.[ch]' | sort)
# shellcheck disable=SC2086
awk -v mode="$mode" '
function glob_to_regex(glob,    regex) {
    regex = glob
    gsub(/\./, "\\.", regex)
    gsub(/\*/, "[^/]*", regex)
    return (glob ~ /^bench\// ? "^" : "^src/") regex "$"
}
FILENAME == "src/floors.txt" {
    line = $0
    sub(/#.*/, "", line)
    if (line !~ /:/) next
    name = line; sub(/:.*/, "", name); gsub(/ /, "", name)
    rest = line; sub(/^[^:]*:/, "", rest)
    if (name ~ /^</) { home[name] = rest; next }
    if (name ~ /^outside/) {
        sub(/^outside/, "", name)
        n = split(rest, parts, " ")
        for (i = 1; i <= n; i++) opened[name, parts[i]] = 1
        next
    }
    order[++floor_count] = name
    is_floor[name] = 1
    allowed[name, name] = 1
    n = split(rest, parts, " ")
    for (i = 1; i <= n; i++) {
        if (!(parts[i] in is_floor)) { printf "src/floors.txt: %s names %s, which is not a floor above this line\n", name, parts[i]; bad++ }
        allowed[name, parts[i]] = 1
    }
    next
}
/^[ \t]*#[ \t]*include/ {
    split(FILENAME, path, "/")
    floor = path[1] == "src" ? path[2] : path[1]
    target = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", target)
    sub(/[ \t]*(\/[*\/].*)?$/, "", target)
    if (target ~ /^</) {
        if (!(target in home)) next
        n = split(home[target], globs, " "); found = 0
        for (i = 1; i <= n; i++) if (FILENAME ~ glob_to_regex(globs[i])) found = 1
        if (!found) { printf "%s:%d: %s belongs to%s alone\n", FILENAME, FNR, target, home[target]; bad++ }
        next
    }
    gsub(/"/, "", target)
    split(target, piece, "/")
    if (piece[1] in is_floor && piece[1] != "epx") {
        below = piece[1]
    } else if (target == "epx/epx_status.h") {
        next
    } else if (target == "epx/epx.h") {
        if (floor == "epx" || !(floor in is_floor)) next
        printf "%s:%d: floor %s includes the public header %s\n", FILENAME, FNR, floor, target; bad++; next
    } else if (piece[1] ~ /^(acl|aclnn|aclnnop|hccl)$/) {
        if (floor == "cann" || floor == "shims" || !(floor in is_floor)) next
        printf "%s:%d: floor %s includes the public header %s\n", FILENAME, FNR, floor, target; bad++; next
    } else if (piece[1] == "epx") {
        below = "epx"
    } else next
    if ((floor, below) in opened) next
    if (!(floor in is_floor)) { printf "%s:%d: %s uses include/ alone, not %s\n", FILENAME, FNR, floor, target; bad++; next }
    if (!((floor, below) in allowed)) { printf "%s:%d: floor %s includes %s\n", FILENAME, FNR, floor, target; bad++ }
    count[floor, below]++
}
END {
    if (mode == "graph") {
        printf "%-10s", ""
        for (j = 1; j <= floor_count; j++) printf " %9s", order[j]
        printf "\n"
        for (i = 1; i <= floor_count; i++) {
            printf "%-10s", order[i]
            for (j = 1; j <= floor_count; j++) {
                cell = count[order[i], order[j]] + 0
                mark = ((order[i], order[j]) in allowed) ? (cell ? cell : ".") : (cell ? "!" cell : "")
                printf " %9s", mark
            }
            printf "\n"
        }
        print "(row includes column: number of includes; . allowed and unused; empty: forbidden)"
    }
    if (bad) exit 1
}' src/floors.txt $files
