# How all code of epx is compiled. The compiler must not fuse a*b+c: results would differ between variants, compilers
# and processors.
add_compile_options(-ffp-contract=off -fvisibility=hidden -fno-strict-aliasing -g -Wall -Wextra -Wshadow)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wconversion> $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>)
add_compile_definitions(_GNU_SOURCE)
