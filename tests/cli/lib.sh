# Shared by the tests of programs: source it. A check that fails says what it saw; the script's end tells the result.
# EPX_BIN_DIR is the folder of the programs.
set -u
: "${EPX_BIN_DIR:?must name the folder of the programs}"
work=$(mktemp -d)
failed=0
# No memory of earlier runs, of a launcher or of the caller's choice.
for name in $(compgen -e); do
    case $name in EPX_BIN_DIR) ;; EPX_* | HCCL_* | ASCEND_*) unset "$name" ;; esac
done

finish()
{
    rm -rf "$work"
    if [ "$failed" != 0 ]; then
        echo "$failed checks failed"
        exit 1
    fi
    echo "all checks passed"
    exit 0
}

skip_all()
{
    rm -rf "$work"
    echo "SKIPPED: $1"
    exit 77
}

wrong()
{
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$1"
    [ -s "$work/out" ] && sed 's/^/    out | /' "$work/out"
    [ -s "$work/err" ] && sed 's/^/    err | /' "$work/err"
    return 0
}

# run SECONDS COMMAND…: exit status in $status, output in $work/out and $work/err; 124 is a program that did not end.
run()
{
    local seconds=$1
    shift
    status=0
    timeout -k 5 "$seconds" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}

# expect_status WANTED WHAT
expect_status() { [ "$status" = "$1" ] || wrong "$2: exit status $status, must be $1"; }

# expect_text FILE TEXT WHAT: out or err has the text, word for word
expect_text() { grep -qF -- "$2" "$work/$1" || wrong "$3: '$2' is not in what it says"; }
