#!/bin/sh
# Compiles the kernels and their C tests with $CC and $CFLAGS, and runs them, by $RUN where that is set: those named,
# or all.
set -eu
here=$(dirname "$0")
kernels=$here/../../src/packseq/_core/kernels
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

for source in "$kernels"/*.c "$here"/*.c; do
    # -Wno-psabi: no vector is passed between files. The rest is as in setup.py.
    ${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -Wno-psabi ${CFLAGS:--O2} -ffp-contract=fast -fno-math-errno \
        -fno-trapping-math -I"$kernels" -c "$source" -o "$built/$(basename "$source").o" &
done
wait # what did not compile is missing below
for source in "$kernels"/*.c "$here"/*.c; do
    test -e "$built/$(basename "$source").o"
done
all=
for source in "$here"/test_*.c; do
    test=$(basename "$source" .c)
    mv "$built/$test.c.o" "$built/$test.main"
    all="$all $test"
done
for test in ${*:-$all}; do
    ${CC:-cc} ${CFLAGS:--O2} "$built/$test.main" "$built"/*.o -o "$built/test" -lm -lpthread
    ${RUN:-} "$built/test"
done
