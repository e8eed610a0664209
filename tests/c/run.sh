#!/bin/sh
# Compiles the kernels and their C test with $CC and $CFLAGS, and runs it, by $RUN where that is set.
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
${CC:-cc} ${CFLAGS:--O2} "$built"/*.o -o "$built/test_kernels" -lm -lpthread
${RUN:-} "$built/test_kernels"
