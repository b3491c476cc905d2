#!/usr/bin/env bash
# Compiles every public header alone, as C11 and as C++17, with every C and C++ compiler that is there.
set -eu
cd "$(dirname "$0")/.."
bad=0
for header in $(cd include && find . -name '*.h' | sed 's|^\./||' | sort); do
    for pair in "gcc c11" "g++ c++17" "clang c11" "clang++ c++17"; do
        read -r compiler standard <<<"$pair"
        command -v "$compiler" >/dev/null 2>&1 || continue
        language=c
        [ "$standard" = "c++17" ] && language=c++
        # fp16_t.h is a C++ class in the interface that it follows.
        if [ "$header" = aclnn/opdev/fp16_t.h ] && [ "$language" = c ]; then continue; fi
        if ! echo "#include <$header>" | "$compiler" -std="$standard" -x "$language" -Iinclude -Iinclude/aclnnop \
            -Wall -Wextra -Wshadow -pedantic -Werror -fsyntax-only -; then
            echo "check_headers.sh: $header fails as $standard with $compiler" >&2
            bad=1
        fi
    done
done
exit $bad
