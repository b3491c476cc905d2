#!/usr/bin/env bash
# Installs the Debian packages that epx needs and that are missing; says first what it will do. Nothing is fetched when
# all is there.
#   scripts/deps.sh build|demo|test|bench|ci|all …      install
#   scripts/deps.sh --check build …               only say what is missing; exit 1 if anything is
set -eu

build_packages="gcc g++ make cmake ninja-build pkg-config libc6-dev libjansson-dev libhwloc-dev libucx-dev"
demo_packages="libopenblas-serial-dev"
test_packages="libcmocka-dev spin strace iproute2"
# To compare with, and for pictures; epx bench goes on without them.
bench_packages="openmpi-bin libopenmpi-dev gnuplot-nox"
ci_packages="clang clang-format clang-tidy libclang-rt-14-dev valgrind binutils gawk"
# The kernels of 64-bit Arm are built and run elsewhere too.
if [ "$(uname -m)" != aarch64 ]; then
    ci_packages="$ci_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
fi

check_only=no
wanted=""
for group in "$@"; do
    case "$group" in
    --check) check_only=yes ;;
    build) wanted="$wanted $build_packages" ;;
    demo) wanted="$wanted $demo_packages" ;;
    test) wanted="$wanted $test_packages" ;;
    bench) wanted="$wanted $bench_packages" ;;
    ci) wanted="$wanted $ci_packages" ;;
    all) wanted="$wanted $build_packages $demo_packages $test_packages $bench_packages $ci_packages" ;;
    *)
        echo "deps.sh: unknown group '$group' (build, demo, test, bench, ci, all)" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps.sh: this is not a Debian system; please install the equivalents of:$wanted" >&2
    exit 0
fi

missing=""
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    if [ "$state" != installed ]; then
        missing="$missing $package"
    fi
done
if [ -z "$missing" ]; then
    echo "deps.sh: all packages are there, nothing to fetch"
    exit 0
fi
if [ "$check_only" = yes ]; then
    echo "deps.sh: missing packages:$missing (run 'make deps')" >&2
    exit 1
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps.sh: need root (or sudo) to install:$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi
echo "deps.sh: will run 'apt-get update' and install:$missing"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "deps.sh: done"
